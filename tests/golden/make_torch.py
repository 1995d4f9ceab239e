"""Make torch_primitives.npz: what torch computes for the operations and optimisers that this library has too, in float64.

Run from the repository's root with a Python that has torch (it is not needed by the tests):

    python tests/golden/make_torch.py

Every case stores its inputs, its output `y`, the cotangent `g`, and the gradient of Σ y g in each input as `d<input>`.
Images are stored channels last and kernels as (kh, kw, in, out), as this library has them.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

HERE = Path(__file__).parent
rng = np.random.default_rng(0)
stored: dict[str, np.ndarray] = {"versions": np.array([f"torch {torch.__version__}", f"numpy {np.__version__}"])}


def to_torch(array: np.ndarray, layout: str) -> torch.Tensor:
    axes = {"image": (0, 3, 1, 2), "kernel": (3, 2, 0, 1)}.get(layout)
    return torch.from_numpy(array if axes is None else array.transpose(axes).copy())


def from_torch(tensor: torch.Tensor, layout: str) -> np.ndarray:
    axes = {"image": (0, 2, 3, 1), "kernel": (2, 3, 1, 0)}.get(layout)
    array = tensor.detach().numpy()
    return array if axes is None else array.transpose(axes)


def case(name, function, out="", **inputs):
    """Store one operation; each input is an array, or an array and its layout."""
    leaves, layouts = {}, {}
    for key, value in inputs.items():
        array, layouts[key] = value if isinstance(value, tuple) else (value, "")
        stored[f"{name}.{key}"] = array
        leaves[key] = to_torch(array, layouts[key]).requires_grad_()
    y = function(**leaves)
    g = torch.from_numpy(rng.standard_normal(tuple(y.shape)))
    y.backward(g)
    stored[f"{name}.y"], stored[f"{name}.g"] = from_torch(y, out), from_torch(g, out)
    for key, leaf in leaves.items():
        stored[f"{name}.d{key}"] = from_torch(leaf.grad, layouts[key])


def normal(*shape):
    return rng.standard_normal(shape)


def distinct(*shape):
    """Normal numbers of which no two are close, so that a maximum has no ties."""
    n = int(np.prod(shape))
    return (rng.permutation(n).reshape(shape) - n / 2) * (4 / n)


def optimiser(name, make, limit):
    """Five steps with given gradients: parameters of 1 to 4 axes, of which 2 and 4 decay; clipped to a common norm."""
    shapes = [(5,), (3, 4), (1, 2, 4), (2, 2, 3, 2)]
    parameters = [torch.nn.Parameter(torch.from_numpy(normal(*s))) for s in shapes]
    for i, p in enumerate(parameters):
        stored[f"{name}.p{i}"] = p.detach().numpy().copy()
    opt = make([p for p in parameters if p.ndim in (2, 4)], [p for p in parameters if p.ndim not in (2, 4)])
    for step in range(5):
        size = 10.0 ** (step - 3)  # the first are not clipped, the last are
        for i, p in enumerate(parameters):
            stored[f"{name}.step{step}.g{i}"] = size * normal(*p.shape)
            p.grad = torch.from_numpy(stored[f"{name}.step{step}.g{i}"].copy())
        stored[f"{name}.step{step}.norm"] = torch.nn.utils.clip_grad_norm_(parameters, limit).numpy()
        opt.step()
        for i, p in enumerate(parameters):
            stored[f"{name}.step{step}.p{i}"] = p.detach().numpy().copy()


def main() -> None:
    for eps in (1e-6, 1e-2):
        norm = lambda x, w, b, eps=eps: F.layer_norm(x, (6,), w, b, eps)  # noqa: E731
        case(f"layer_norm_{eps:g}", norm, x=normal(2, 3, 6), w=normal(6), b=normal(6))
    x = np.linspace(-6, 6, 49)
    case("gelu", lambda x: F.gelu(x), x=x)
    case("gelu_tanh", lambda x: F.gelu(x, approximate="tanh"), x=x)
    case("silu", lambda x: F.silu(x), x=x * 5)
    case("softmax", lambda x: F.softmax(x, -1), x=normal(3, 2, 5) * 10)
    case("log_softmax", lambda x: F.log_softmax(x, -1), x=normal(3, 2, 5) * 10)
    case("linear", lambda x, w, b: F.linear(x, w.T, b), x=normal(2, 3, 4), w=normal(4, 5), b=normal(5))
    case(
        "attention",
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v),
        q=normal(2, 3, 4, 5),
        k=normal(2, 3, 6, 5),
        v=normal(2, 3, 6, 5),
    )
    case(
        "group_norm",
        lambda x, w, b: F.group_norm(x, 3, w, b, 1e-5),
        out="image",
        x=(normal(2, 4, 5, 6), "image"),
        w=normal(6),
        b=normal(6),
    )
    labels, rows = np.array([2, 0, 4, 4]), rng.dirichlet(np.ones(5), 4)
    stored["labels"], stored["rows"] = labels, rows
    for smoothing in (0.0, 0.1):
        for kind, target in (("labels", labels), ("rows", rows)):
            loss = lambda x, t=target, s=smoothing: F.cross_entropy(x, torch.from_numpy(t), label_smoothing=s)  # noqa: E731
            case(f"cross_entropy_{kind}_{smoothing:g}", loss, x=normal(4, 5) * 3)
    for stride, padding in ((1, 0), (2, 1), ((2, 3), (0, 2))):
        conv = lambda x, w, s=stride, p=padding: F.conv2d(x, w, stride=s, padding=p)  # noqa: E731
        name = f"conv2d_{stride}_{padding}".replace(" ", "")
        case(name, conv, out="image", x=(normal(2, 7, 8, 3), "image"), w=(normal(3, 2, 3, 4), "kernel"))
    for size, stride, padding in ((2, 2, 0), (3, 2, 1), ((2, 3), (1, 2), (1, 0))):
        for kind, pool in (("max", F.max_pool2d), ("avg", F.avg_pool2d)):
            name = f"{kind}_pool2d_{size}_{stride}_{padding}".replace(" ", "")
            apply = lambda x, f=pool, a=size, s=stride, p=padding: f(x, a, s, p)  # noqa: E731
            case(name, apply, out="image", x=(distinct(2, 6, 7, 3), "image"))
    optimiser(
        "adamw",
        lambda decayed, others: torch.optim.AdamW(
            [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
            lr=0.05,
            betas=(0.8, 0.95),
            eps=1e-6,
        ),
        limit=1.0,
    )
    optimiser(
        "sgd",
        lambda decayed, others: torch.optim.SGD(
            [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}], lr=0.05, momentum=0.9
        ),
        limit=1.0,
    )
    np.savez_compressed(HERE / "torch_primitives.npz", **stored)
    print(f"{len(stored)} arrays")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
