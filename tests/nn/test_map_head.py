"""Multihead attention pooling, against the same sums written out in float64."""

import math

import numpy as np
import pytest

import minivit as mv
from minivit.engine import random
from minivit.nn.map_head import MAPHead


def head(dim=8, num_heads=2, **options):
    """A head whose every parameter is random, so that none can be left out unseen."""
    with random.drawing_from(random.stream(0, "init")):
        made = MAPHead(dim, num_heads, **options)
    rng = np.random.default_rng(1)
    for p in made.parameters():
        p.data[...] = rng.normal(0, 0.5, p.shape)
    return made


def written_out(made, x, eps=1e-6):
    """The formula, one image and one head at a time."""
    w = {name: p.numpy().astype(np.float64) for name, p in made.named_parameters()}
    dim, d = x.shape[-1], x.shape[-1] // made.num_heads
    results, maps = [], []
    for tokens in x.astype(np.float64):
        q = w["latent"][0, 0] @ w["q.weight"] + w["q.bias"]
        kv = tokens @ w["kv.weight"] + w["kv.bias"]
        merged, rows = [], []
        for h in range(made.num_heads):
            at = slice(h * d, (h + 1) * d)
            scores = np.exp(kv[:, :dim][:, at] @ q[at] / math.sqrt(d))
            rows.append(scores / scores.sum())
            merged.append(rows[-1] @ kv[:, dim:][:, at])
        z = np.concatenate(merged) @ w["proj.weight"] + w["proj.bias"]
        y = (z - z.mean()) / np.sqrt(z.var() + eps) * w["norm.weight"] + w["norm.bias"]
        y = y @ w["mlp.fc1.weight"] + w["mlp.fc1.bias"]
        y = y * 0.5 * (1 + np.vectorize(math.erf)(y / math.sqrt(2)))
        results.append(z + y @ w["mlp.fc2.weight"] + w["mlp.fc2.bias"])
        maps.append(rows)
    return np.array(results), np.array(maps)[:, :, None]


def test_it_computes_the_formula_and_shows_its_weights():
    made = head(num_heads=4, mlp_ratio=3.0)
    x = np.random.default_rng(2).normal(size=(3, 5, 8)).astype(np.float32)
    shown = {}
    with mv.nn.tapped(lambda name, make: shown.update({name: make().numpy()})):
        found = made(mv.Tensor(x)).numpy()
    expected, weights = written_out(made, x)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    np.testing.assert_allclose(shown["pooling"], weights, atol=1e-6)
    np.testing.assert_allclose(shown["pooling"].sum(axis=-1), 1, atol=1e-6)


def test_the_order_of_tokens_does_not_matter_and_their_number_may_change():
    made = head()
    x = np.random.default_rng(3).normal(size=(2, 6, 8)).astype(np.float32)
    np.testing.assert_allclose(made(mv.Tensor(x[:, ::-1].copy())).numpy(), made(mv.Tensor(x)).numpy(), atol=1e-5)
    assert made(mv.Tensor(x[:, :1])).shape == made(mv.Tensor(x)).shape == (2, 8)


def test_its_names_are_timms():
    shapes = {name: p.shape for name, p in MAPHead(8, 2, mlp_ratio=2.0).named_parameters()}
    assert shapes == {
        "latent": (1, 1, 8), "q.weight": (8, 8), "q.bias": (8,), "kv.weight": (8, 16), "kv.bias": (16,),
        "proj.weight": (8, 8), "proj.bias": (8,), "norm.weight": (8,), "norm.bias": (8,), "mlp.fc1.weight": (8, 16),
        "mlp.fc1.bias": (16,), "mlp.fc2.weight": (16, 8), "mlp.fc2.bias": (8,),
    }  # fmt: skip


def test_gradients():
    made = head(eps=1e-3, mlp="gelu_tanh", mlp_ratio=2.0)
    modules = dict(made.named_modules())
    names, values = zip(*((n, p.numpy().astype(np.float64)) for n, p in made.named_parameters()), strict=True)

    def run(x, *weights):
        for name, weight in zip(names, weights, strict=True):
            owner, _, attribute = name.rpartition(".")
            setattr(modules[owner], attribute, weight)
        return made(x)

    mv.gradcheck(run, np.random.default_rng(4).normal(size=(2, 3, 8)), *values)


def test_each_argument_reaches_its_place():
    x = mv.Tensor(np.random.default_rng(5).normal(size=(2, 4, 8)).astype(np.float32))
    plain = head()(x).numpy()
    assert not np.array_equal(plain, head(eps=0.5)(x).numpy())
    assert 0 < np.abs(plain - head(mlp="gelu_tanh")(x).numpy()).max() < 1e-2
    assert not np.allclose(plain, head(num_heads=4)(x).numpy())


@pytest.mark.parametrize(
    ("options", "message"), [({"num_heads": 3}, "does not divide into 3 heads"), ({"mlp": "swiglu"}, "gelu_tanh")]
)
def test_what_cannot_be_raises(options, message):
    with pytest.raises(mv.ConfigError, match=message):
        MAPHead(**{"dim": 8, "num_heads": 2} | options)
