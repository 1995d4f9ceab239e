"""The same numbers as torch: fused and composed operations, convolution, pooling, optimisers (see make_torch.py)."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

import minivit as mv
from minivit.nn import GroupNorm

with np.load(Path(__file__).with_name("torch_primitives.npz")) as file:
    GOLDEN = dict(file)


def group_norm(x, w, b):
    norm = GroupNorm(3, 6)
    norm.weight, norm.bias = w, b
    return norm(x)


def both(name, **options):
    """The fused operation and the composed one of the same name."""
    return [(kind.__name__, partial(getattr(kind, name), **options)) for kind in (mv.fused, mv.composed)]


CASES = {
    "layer_norm_1e-06": both("layer_norm", eps=1e-6),
    "layer_norm_0.01": both("layer_norm", eps=1e-2),
    "gelu": both("gelu"),
    "gelu_tanh": both("gelu", approximate=True),
    "silu": both("silu"),
    "softmax": both("softmax"),
    "log_softmax": both("log_softmax"),
    "linear": both("linear"),
    "attention": both("attention"),
    "group_norm": [("nn", group_norm)],
}
for smoothing in (0.0, 0.1):
    for kind in ("labels", "rows"):
        CASES[f"cross_entropy_{kind}_{smoothing:g}"] = both("cross_entropy", labels=GOLDEN[kind], smoothing=smoothing)
for stride, padding in ((1, 0), (2, 1), ((2, 3), (0, 2))):
    name = f"conv2d_{stride}_{padding}".replace(" ", "")
    CASES[name] = [("ops", partial(mv.conv2d, stride=stride, padding=padding))]
for size, stride, padding in ((2, 2, 0), (3, 2, 1), ((2, 3), (1, 2), (1, 0))):
    for kind, pool in (("max", mv.max_pool2d), ("avg", mv.avg_pool2d)):
        name = f"{kind}_pool2d_{size}_{stride}_{padding}".replace(" ", "")
        CASES[name] = [("ops", partial(pool, size=size, stride=stride, padding=padding))]

FLAT = [pytest.param(name, f, id=f"{name}-{kind}") for name, forms in CASES.items() for kind, f in forms]


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 2e-5)])
@pytest.mark.parametrize(("name", "function"), FLAT)
def test_operation(name, function, dtype, tolerance):
    keys = [k.removeprefix(f"{name}.d") for k in GOLDEN if k.startswith(f"{name}.d")]
    inputs = [mv.Tensor(GOLDEN[f"{name}.{k}"].astype(dtype), requires_grad=True) for k in keys]
    y = function(*inputs)
    assert y.dtype == dtype
    y.backward(GOLDEN[f"{name}.g"].astype(dtype))
    scale = max(1, np.abs(GOLDEN[f"{name}.y"]).max())
    np.testing.assert_allclose(y.numpy(), GOLDEN[f"{name}.y"], rtol=0, atol=tolerance * scale)
    for key, x in zip(keys, inputs, strict=True):
        expected = GOLDEN[f"{name}.d{key}"]
        assert x.grad.shape == expected.shape
        scale = max(1, np.abs(expected).max())
        np.testing.assert_allclose(x.grad, expected, rtol=0, atol=tolerance * scale, err_msg=f"gradient of {key}")


def test_every_recorded_operation_is_compared():
    recorded = {k.removesuffix(".y") for k in GOLDEN if k.endswith(".y")}
    assert recorded == CASES.keys()


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("adamw", lambda p: mv.optim.AdamW(p, lr=0.05, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1)),
        ("sgd", lambda p: mv.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.1)),
    ],
)
def test_five_steps_of_an_optimiser_with_clipping(name, make):
    parameters = [mv.Parameter(GOLDEN[f"{name}.p{i}"].copy()) for i in range(4)]
    optimizer = make(parameters)
    clipped = 0
    for step in range(5):
        given = [GOLDEN[f"{name}.step{step}.g{i}"] for i in range(4)]
        used, norm = mv.optim.clip_global_norm(given, 1.0)
        clipped += used[0] is not given[0]
        np.testing.assert_allclose(norm, GOLDEN[f"{name}.step{step}.norm"], rtol=1e-12)
        for p, g in zip(parameters, used, strict=True):
            p.grad = g
        optimizer.step()
        for i, p in enumerate(parameters):
            np.testing.assert_allclose(p.data, GOLDEN[f"{name}.step{step}.p{i}"], rtol=0, atol=1e-12)
    assert 0 < clipped < 5
