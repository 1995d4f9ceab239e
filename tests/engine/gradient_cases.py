"""One or more calls for every operation in the registry, and the checks that each of them must pass.

The planted faults of test_planted_faults.py are held against the same table and the same checks.
"""

import contextlib
import importlib
import math
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import minivit
from minivit.engine import backend as backends
from minivit.engine import fused, ops
from minivit.engine.gradcheck import gradcheck
from minivit.engine.tensor import Tensor, registry, watchers


@dataclass(frozen=True)
class Case:
    """A call of an operation on float64 arrays, and what NumPy makes of the same arrays."""

    op: str
    label: str
    call: Callable
    arrays: tuple
    expected: Callable

    def __str__(self):
        return f"{self.op}-{self.label}"


CASES: list[Case] = []
_rng = np.random.default_rng(20)


def case(op, label, call, *arrays, expected):
    CASES.append(Case(op, label, call, arrays, expected))


def normal(*shape):
    return _rng.standard_normal(shape)


def positive(*shape):
    return 0.5 + np.abs(normal(*shape))


def spread(*shape):
    """Values far from each other and from 0, in random order: no small step changes which is larger."""
    n = math.prod(shape)
    return (_rng.permutation(n).reshape(shape) - n // 2 + 0.5) * 0.3


def operations() -> dict[str, Callable]:
    """Every operation that minivit's own modules registered."""
    for module in pkgutil.walk_packages(minivit.__path__, "minivit."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    return {name: call for name, call in registry.items() if call.__module__.startswith("minivit.")}


def there(like, array):
    """A NumPy array on the backend of a tensor."""
    return backends.backend_of(like.data).from_host(array)


# fmt: off
# --- arithmetic -------------------------------------------------------------------------------------------------------

SHAPES = [
    ((3, 4), (3, 4)),
    ((3, 4), (4,)),
    ((3, 1), (1, 4)),
    ((2, 1, 3), (4, 1)),
    ((), (2, 3)),
    ((2, 3), ()),
    ((1,), (1, 1)),
    ((0, 3), (1, 3)),
    ((), ()),
]
for a, b in SHAPES:
    label = f"{a}{b}".replace(" ", "")
    case("add", label, lambda x, y: x + y, normal(*a), normal(*b), expected=np.add)
    case("subtract", label, lambda x, y: x - y, normal(*a), normal(*b), expected=np.subtract)
    case("multiply", label, lambda x, y: x * y, normal(*a), normal(*b), expected=np.multiply)
    case("divide", label, lambda x, y: x / y, normal(*a), positive(*b), expected=np.divide)
    case("maximum", label, ops.maximum, spread(*a), spread(*b) + 0.07, expected=np.maximum)
    case("minimum", label, ops.minimum, spread(*a), spread(*b) + 0.07, expected=np.minimum)
case("add", "number", lambda x: 2 + x + np.float64(0.5), normal(2, 3), expected=lambda x: x + 2.5)
case("add", "itself", lambda x: x + x, normal(2, 3), expected=lambda x: 2 * x)
case("subtract", "number", lambda x: 2 - (x - 1), normal(2, 3), expected=lambda x: 3 - x)
case("multiply", "number", lambda x: 3 * x * 0.5, normal(2, 3), expected=lambda x: 1.5 * x)
case("multiply", "itself", lambda x: x * x, normal(2, 3), expected=np.square)
case("divide", "number", lambda x: 3 / (x / 2), positive(2, 3), expected=lambda x: 6 / x)
case("divide", "itself", lambda x: (x + 1) / x, positive(2, 3), expected=lambda x: 1 + 1 / x)
case(
    "maximum", "number", lambda x: ops.maximum(0.1, ops.maximum(x, -0.1)), spread(3, 4), expected=lambda x: x.clip(0.1)
)
case("maximum", "tie", ops.maximum, np.ones((2, 3)), np.ones(3), expected=np.maximum)
case("minimum", "number", lambda x: ops.minimum(x, 0.1), spread(3, 4), expected=lambda x: np.minimum(x, 0.1))
case("minimum", "tie", ops.minimum, np.ones((2, 3)), np.ones(3), expected=np.minimum)
case("negative", "matrix", lambda x: -x, normal(2, 3), expected=np.negative)
case("negative", "0-d", lambda x: -x, normal(), expected=np.negative)
for exponent in (0, 1, 2, 3, -1, 0.5, 2.5):
    case("power", str(exponent), lambda x, e=exponent: x**e, positive(2, 3), expected=lambda x, e=exponent: x**e)
case("power", "odd-of-negative", lambda x: x**5, normal(2, 3), expected=lambda x: x**5)
case("power", "0-at-0", lambda x: x**0, np.zeros(2), expected=lambda x: x**0)

PICK = np.array([[True, False, True], [False, False, True]])
case(
    "where", "same", lambda x, y: ops.where(there(x, PICK), x, y), normal(2, 3), normal(2, 3),
    expected=lambda x, y: np.where(PICK, x, y),
)
case(
    "where", "broadcast", lambda x, y: ops.where(there(x, PICK), x, y), normal(3), normal(4, 2, 1),
    expected=lambda x, y: np.where(PICK, x, y),
)
case(
    "where", "condition-broadcast", lambda x, y: ops.where(there(x, PICK[0]), x, y), normal(2, 3), normal(),
    expected=lambda x, y: np.where(PICK[0], x, y),
)
case("where", "number", lambda x: ops.where(x > 0, x, 0.0), spread(3, 3), expected=lambda x: np.maximum(x, 0))

# --- elementwise ------------------------------------------------------------------------------------------------------

ERF = np.vectorize(math.erf, otypes=[float])
for name, values, reference in [
    ("exp", normal, np.exp),
    ("log", positive, np.log),
    ("sqrt", positive, np.sqrt),
    ("sin", normal, np.sin),
    ("cos", normal, np.cos),
    ("tanh", normal, np.tanh),
    ("erf", normal, ERF),
    ("sigmoid", normal, lambda x: 1 / (1 + np.exp(-x))),
    ("relu", spread, lambda x: np.where(x > 0, x, 0)),
    ("abs", spread, np.abs),
]:
    for shape in [(3, 4), (1,), (), (0, 2)]:
        case(name, str(shape).replace(" ", ""), getattr(ops, name), values(*shape), expected=reference)
case("erf", "wide", ops.erf, np.linspace(-5, 5, 41), expected=ERF)
case("abs", "zero", abs, np.zeros(2), expected=np.abs)
case("clip", "matrix", lambda x: x.clip(-0.4, 0.5), spread(3, 4), expected=lambda x: x.clip(-0.4, 0.5))
case("clip", "0-d", lambda x: x.clip(-0.4, 0.5), spread(), expected=lambda x: x.clip(-0.4, 0.5))
case("astype", "same", lambda x: x.astype(x.dtype), normal(2, 3), expected=np.copy)

# --- reductions -------------------------------------------------------------------------------------------------------

for name, values in [("sum", normal), ("mean", normal), ("var", normal), ("max", spread), ("min", spread)]:
    reduce = getattr(np, name)
    for axis in [None, 0, -1, 1, (0, 2), (-1, 0), (0, 1, 2), ()]:
        for keepdims in [False, True]:
            case(
                name, f"{axis}{'-kept' if keepdims else ''}".replace(" ", ""),
                lambda x, n=name, a=axis, k=keepdims: getattr(x, n)(axis=a, keepdims=k), values(2, 3, 2),
                expected=lambda x, r=reduce, a=axis, k=keepdims: r(x, axis=a, keepdims=k),
            )
    case(name, "0-d", lambda x, n=name: getattr(x, n)(), values(), expected=reduce)
    case(
        name,
        "length-1",
        lambda x, n=name: getattr(x, n)(axis=1),
        values(3, 1),
        expected=lambda x, r=reduce: r(x, axis=1),
    )
    case(
        name,
        "axis-last",
        lambda x, n=name: getattr(x, n)(axis=-1),
        values(3, 2),
        expected=lambda x, r=reduce: r(x, axis=1),
    )
case("sum", "empty", lambda x: x.sum(axis=0), normal(0, 3), expected=lambda x: x.sum(axis=0))
case("mean", "empty", lambda x: x.mean(axis=1), normal(0, 3), expected=lambda x: x.mean(axis=1))
TIES = np.array([[1.0, 2, 2], [0, 0, -1]])
case("max", "tie", lambda x: x.max(axis=1), TIES, expected=lambda x: x.max(axis=1))
case("min", "tie", lambda x: x.min(axis=1), -TIES, expected=lambda x: x.min(axis=1))

# --- shape ------------------------------------------------------------------------------------------------------------

case("reshape", "flat", lambda x: x.reshape(-1), normal(2, 3, 2), expected=np.ravel)
case("reshape", "split", lambda x: x.reshape(2, -1, 3), normal(4, 6), expected=lambda x: x.reshape(2, -1, 3))
case("reshape", "0-d", lambda x: x.reshape(()), normal(1, 1), expected=lambda x: x.reshape(()))
case("reshape", "from-0-d", lambda x: x.reshape((1, 1)), normal(), expected=lambda x: x.reshape(1, 1))
case("reshape", "empty", lambda x: x.reshape(3, 0), normal(0, 2), expected=lambda x: x.reshape(3, 0))
case("reshape", "of-a-view", lambda x: x.T.reshape(6), normal(2, 3), expected=lambda x: x.T.reshape(6))
case("transpose", "reversed", lambda x: x.T, normal(2, 3, 4), expected=np.transpose)
case("transpose", "cycle", lambda x: x.transpose(2, 0, 1), normal(2, 3, 4), expected=lambda x: x.transpose(2, 0, 1))
case("transpose", "negative", lambda x: x.transpose(0, -1, 1), normal(2, 3, 4), expected=lambda x: x.transpose(0, 2, 1))
case(
    "transpose", "five", lambda x: x.transpose((3, 0, 4, 1, 2)), normal(1, 2, 3, 1, 2),
    expected=lambda x: x.transpose(3, 0, 4, 1, 2),
)
case("transpose", "swapaxes", lambda x: x.swapaxes(-1, 0), normal(2, 3, 4), expected=lambda x: x.swapaxes(-1, 0))
case("transpose", "0-d", lambda x: x.T, normal(), expected=np.transpose)
for before, after in [
    ((3,), (2, 3)),
    ((2, 1), (2, 4)),
    ((1, 1), (3, 2, 2)),
    ((), (2, 2)),
    ((2, 3), (2, 3)),
    ((1,), (0,)),
]:
    case(
        "broadcast_to", f"{before}{after}".replace(" ", ""), lambda x, s=after: ops.broadcast_to(x, shape=s), normal(*before),
        expected=lambda x, s=after: np.broadcast_to(x, s),
    )
for axis in (0, 1, -1):
    shapes = [[2, 3, 2] for _ in range(3)]
    for shape, n in zip(shapes, (1, 4, 2), strict=True):
        shape[axis] = n
    case(
        "concatenate", f"axis{axis}", lambda *xs, a=axis: ops.concatenate(xs, axis=a), *(normal(*s) for s in shapes),
        expected=lambda *xs, a=axis: np.concatenate(xs, axis=a),
    )
case("concatenate", "one", lambda x: ops.concatenate([x]), normal(2, 3), expected=np.copy)
case(
    "concatenate", "itself", lambda x: ops.concatenate([x, x]), normal(2, 3), expected=lambda x: np.concatenate([x, x])
)
case("concatenate", "empty", lambda x, y: ops.concatenate([x, y]), normal(0, 3), normal(2, 3), expected=lambda x, y: y)
for axis in (0, 1, -1):
    case(
        "stack", f"axis{axis}", lambda *xs, a=axis: ops.stack(xs, axis=a), normal(2, 3), normal(2, 3), normal(2, 3),
        expected=lambda *xs, a=axis: np.stack(xs, axis=a),
    )
case("stack", "0-d", lambda x, y: ops.stack([x, y]), normal(), normal(), expected=lambda x, y: np.stack([x, y]))
case(
    "pad", "matrix", lambda x: ops.pad(x, widths=((1, 2), (0, 3))), normal(2, 3),
    expected=lambda x: np.pad(x, ((1, 2), (0, 3))),
)
case("pad", "nothing", lambda x: ops.pad(x, widths=[(0, 0)]), normal(3), expected=np.copy)
case("roll", "one", lambda x: ops.roll(x, shift=2, axis=1), normal(2, 5), expected=lambda x: np.roll(x, 2, 1))
case(
    "roll", "two", lambda x: ops.roll(x, shift=(1, -2), axis=(0, 1)), normal(3, 5),
    expected=lambda x: np.roll(x, (1, -2), (0, 1)),
)
case("roll", "flat", lambda x: ops.roll(x, shift=4, axis=None), normal(2, 3), expected=lambda x: np.roll(x, 4))
case("flip", "one", lambda x: ops.flip(x, axis=-1), normal(2, 3), expected=np.fliplr)
case("flip", "two", lambda x: ops.flip(x, axis=(0, 2)), normal(2, 3, 2), expected=lambda x: x[::-1, :, ::-1])

for label, index in {
    "integer": 1,
    "negative": -1,
    "slice": slice(1, None),
    "step": (slice(None, None, 2), slice(None, None, -1)),
    "ellipsis": (..., 0),
    "new-axis": (slice(None), None, 1),
    "everything": (),
    "nothing": slice(0, 0),
    "list": [2, 0],
    "repeated": [1, 1, 2, 1],
    "pairs": ([0, 2, 0], [1, 1, 1]),
    "mixed": (slice(None), [0, 0, 1], slice(0, 2)),
    "grid": ([[0], [2]], [[0, 1, 1]]),
    "apart": ([0, 0], slice(None), [1, 1]),
    "empty-list": [],
}.items():
    case("getitem", label, lambda x, i=index: x[i], normal(3, 2, 4), expected=lambda x, i=index: x[_with_integers(i)])
MASK = np.array([[True, False], [True, True], [False, False]])
INDEX = np.array([[0, 2], [2, 2]])
case("getitem", "mask", lambda x: x[there(x, MASK)], normal(3, 2, 4), expected=lambda x: x[MASK])
case("getitem", "mask-own", lambda x: x[x > 0], spread(3, 4), expected=lambda x: x[x > 0])
case("getitem", "array", lambda x: x[there(x, INDEX)], normal(3, 2), expected=lambda x: x[INDEX])
case("getitem", "tensor", lambda x: x[Tensor(there(x, INDEX)), 1], normal(3, 2), expected=lambda x: x[INDEX, 1])
case("getitem", "split", lambda x: ops.split(x, [1, 3], axis=-1)[1], normal(2, 4), expected=lambda x: x[:, 1:])


def _with_integers(index):
    return np.array(index, int) if isinstance(index, list) and not index else index


# --- products ---------------------------------------------------------------------------------------------------------

for a, b in [
    ((2, 3), (3, 4)),
    ((3,), (3,)),
    ((3,), (3, 2)),
    ((2, 3), (3,)),
    ((5, 2, 3), (3, 4)),
    ((2, 5, 2, 3), (3, 4)),
    ((5, 2, 3), (5, 3, 2)),
    ((5, 2, 3), (1, 3, 2)),
    ((1, 2, 3), (5, 3, 2)),
    ((4, 1, 2, 3), (5, 3, 2)),
    ((2, 3), (5, 3, 2)),
    ((3,), (5, 3, 2)),
    ((5, 2, 3), (3,)),
    ((1, 1), (1, 1)),
    ((0, 2, 3), (3, 2)),
]:
    case("matmul", f"{a}{b}".replace(" ", ""), lambda x, y: x @ y, normal(*a), normal(*b), expected=np.matmul)
case("matmul", "itself", lambda x: x @ x.T, normal(2, 3), expected=lambda x: x @ x.T)
case("fft2_real", "matrix", ops.fft2_real, normal(3, 4), expected=lambda x: np.fft.fft2(x).real)
case("fft2_real", "batch", ops.fft2_real, normal(2, 4, 3), expected=lambda x: np.fft.fft2(x, axes=(1, 2)).real)
case("fft2_real", "three axes", lambda x: ops.fft2_real(x, axes=(1, 2, 3)), normal(2, 3, 2, 4),
     expected=lambda x: np.fft.fftn(x, axes=(1, 2, 3)).real)  # fmt: skip

# --- images -----------------------------------------------------------------------------------------------------------


def windows(x, size, stride, margins, reduce, outside=0.0):
    """Every window of images, reduced, in plain loops: the reference for convolution and pooling."""
    x = np.pad(x, ((0, 0), *margins, (0, 0)), constant_values=outside)
    (kh, kw), (sh, sw) = size, stride
    rows, columns = range(0, x.shape[1] - kh + 1, sh), range(0, x.shape[2] - kw + 1, sw)
    return np.stack([np.stack([reduce(x[:, i : i + kh, j : j + kw]) for j in columns], axis=1) for i in rows], axis=1)


def convolved(x, w, stride=(1, 1), margins=((0, 0), (0, 0))):
    return windows(x, w.shape[:2], stride, margins, lambda part: np.einsum("bijc,ijck->bk", part, w))


for label, image, kernel, stride, padding, margins in [
    ("plain", (2, 4, 5, 2), (3, 2, 2, 3), 1, 0, ((0, 0), (0, 0))),
    ("padded", (1, 3, 4, 1), (3, 3, 1, 2), 1, 1, ((1, 1), (1, 1))),
    ("stride", (1, 5, 6, 1), (2, 2, 1, 2), 2, 0, ((0, 0), (0, 0))),
    ("strides", (1, 5, 6, 2), (2, 3, 2, 1), (2, 1), 0, ((0, 0), (0, 0))),
    ("padding-by-axis", (1, 3, 4, 1), (3, 2, 1, 2), 2, (2, 0), ((2, 2), (0, 0))),
    ("one-sided", (1, 3, 4, 1), (2, 2, 1, 2), 1, ((0, 2), (1, 0)), ((0, 2), (1, 0))),
    ("1x1", (2, 2, 3, 2), (1, 1, 2, 3), 1, 0, ((0, 0), (0, 0))),
    ("whole-image", (2, 3, 3, 2), (3, 3, 2, 2), 3, 0, ((0, 0), (0, 0))),
]:
    pair = stride if isinstance(stride, tuple) else (stride, stride)
    case(
        "conv2d", label, lambda x, w, s=stride, p=padding: ops.conv2d(x, w, s, p), normal(*image), normal(*kernel),
        expected=lambda x, w, s=pair, m=margins: convolved(x, w, s, m),
    )
for name, reduce, outside, values in [
    ("max_pool2d", lambda part: part.max(axis=(1, 2)), -np.inf, spread),
    ("avg_pool2d", lambda part: part.mean(axis=(1, 2)), 0.0, normal),
]:
    for label, size, stride, padding in [
        ("plain", (2, 2), None, 0),
        ("overlapping", (3, 2), 1, 0),
        ("padded", (3, 3), 2, 1),
        ("gaps", (1, 2), (2, 3), (0, 1)),
    ]:
        strides = size if stride is None else stride if isinstance(stride, tuple) else (stride, stride)
        rows, columns = padding if isinstance(padding, tuple) else (padding, padding)
        case(
            name, label, lambda x, n=name, k=size, s=stride, p=padding: getattr(ops, n)(x, k, s, p), values(2, 5, 6, 2),
            expected=lambda x, k=size, s=strides, m=((rows, rows), (columns, columns)), r=reduce, o=outside: windows(
                x, k, s, m, r, o
            ),
        )
case(
    "max_pool2d", "tie", lambda x: ops.max_pool2d(x, (1, 2)), np.ones((1, 2, 2, 1)),
    expected=lambda x: np.ones((1, 2, 1, 1)),
)

# --- fused ------------------------------------------------------------------------------------------------------------


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def standardised(x, eps):
    return (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + eps)


def attended(q, k, v, scale=None):
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return softmax(np.einsum("...td,...sd->...ts", q, k) * scale) @ v


def self_attended(qkv, heads):
    b, t, width = qkv.shape
    q, k, v = qkv.reshape(b, t, 3, heads, width // (3 * heads)).transpose(2, 0, 3, 1, 4)
    return attended(q, k, v).transpose(0, 2, 1, 3).reshape(b, t, width // 3)


def surprise(logits, rows):
    return -(rows * np.log(softmax(logits))).sum() / len(logits)


case("linear", "matrix", fused.linear, normal(2, 3), normal(3, 4), normal(4), expected=lambda x, w, b: x @ w + b)
case("linear", "batch", fused.linear, normal(2, 5, 3), normal(3, 2), normal(2), expected=lambda x, w, b: x @ w + b)
case("linear", "no-bias", fused.linear, normal(2, 2, 3), normal(3, 2), expected=np.matmul)
case("linear", "vector", fused.linear, normal(3), normal(3, 2), normal(2), expected=lambda x, w, b: x @ w + b)
case("linear", "width-1", fused.linear, normal(4, 1), normal(1, 1), normal(1), expected=lambda x, w, b: x @ w + b)
case("linear", "empty", fused.linear, normal(0, 3), normal(3, 2), normal(2), expected=lambda x, w, b: x @ w + b)
for shape in [(3, 5), (5,), (2, 3, 1), (2, 2, 4), (0, 3)]:
    label = str(shape).replace(" ", "")
    case("softmax", label, fused.softmax, normal(*shape), expected=softmax)
    case("log_softmax", label, fused.log_softmax, normal(*shape), expected=lambda x: np.log(softmax(x)))
for shape in [(3, 5), (), (0, 2), (2, 1, 3)]:
    label = str(shape).replace(" ", "")
    case("gelu", label, fused.gelu, normal(*shape), expected=lambda x: x * 0.5 * (1 + ERF(x / 2**0.5)))
    case(
        "gelu", f"tanh{label}", lambda x: fused.gelu(x, approximate=True), normal(*shape),
        expected=lambda x: x * 0.5 * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3))),
    )
    case("silu", label, fused.silu, normal(*shape), expected=lambda x: x / (1 + np.exp(-x)))
for shape in [(3, 5), (5,), (2, 3, 4), (0, 3)]:
    case(
        "layer_norm", str(shape).replace(" ", ""), fused.layer_norm, normal(*shape), normal(shape[-1]), normal(shape[-1]),
        expected=lambda x, w, b: w * standardised(x, 1e-6) + b,
    )
case(
    "layer_norm", "eps", lambda x, w, b: fused.layer_norm(x, w, b, eps=0.5), normal(3, 4), normal(4), normal(4),
    expected=lambda x, w, b: w * standardised(x, 0.5) + b,
)
case(
    "layer_norm", "constant-row", lambda x, w, b: fused.layer_norm(x, w, b, eps=0.5), np.ones((2, 3)), normal(3), normal(3),
    expected=lambda x, w, b: np.broadcast_to(b, (2, 3)),
)
case(
    "group_norm", "empty", lambda x, w, b: fused.group_norm(x, w, b, groups=2), normal(0, 3, 4), normal(4), normal(4),
    expected=lambda x, w, b: x,
)
for groups in (1, 3):
    case(
        "group_norm", f"{groups}", lambda x, w, b, n=groups: fused.group_norm(x, w, b, groups=n, eps=0.1),
        normal(2, 3, 4, 6), normal(6), normal(6),
        expected=lambda x, w, b, n=groups: w * standardised(
            x.reshape(2, 12, n, 6 // n).transpose(0, 2, 1, 3).reshape(2, n, -1), 0.1
        ).reshape(2, n, 12, 6 // n).transpose(0, 2, 1, 3).reshape(2, 3, 4, 6) + b,
    )
case(
    "attention", "heads", fused.attention, normal(2, 2, 3, 4), normal(2, 2, 3, 4), normal(2, 2, 3, 4), expected=attended
)
case("attention", "cross", fused.attention, normal(2, 3, 4), normal(2, 5, 4), normal(2, 5, 2), expected=attended)
case("attention", "matrix", fused.attention, normal(3, 4), normal(2, 4), normal(2, 1), expected=attended)
case(
    "attention", "scale", lambda q, k, v: fused.attention(q, k, v, scale=0.3), normal(3, 4), normal(2, 4), normal(2, 2),
    expected=lambda q, k, v: attended(q, k, v, 0.3),
)
case(
    "self_attention", "heads", lambda x: fused.self_attention(x, num_heads=2), normal(2, 3, 12),
    expected=lambda x: self_attended(x, 2),
)
case(
    "self_attention", "one-head", lambda x: fused.self_attention(x, num_heads=1), normal(2, 4, 6),
    expected=lambda x: self_attended(x, 1),
)
case(
    "self_attention", "width-1", lambda x: fused.self_attention(x, num_heads=3), normal(1, 3, 9),
    expected=lambda x: self_attended(x, 3),
)
LABELS = np.array([1, 0, 3, 1])
ROWS = softmax(np.arange(16.0).reshape(4, 4) % 5)
EYE = np.eye(4)
case(
    "cross_entropy", "indices", lambda x: fused.cross_entropy(x, there(x, LABELS)), normal(4, 4),
    expected=lambda x: surprise(x, EYE[LABELS]),
)
case(
    "cross_entropy", "rows", lambda x: fused.cross_entropy(x, there(x, ROWS)), normal(4, 4),
    expected=lambda x: surprise(x, ROWS),
)
case(
    "cross_entropy", "smoothed", lambda x: fused.cross_entropy(x, there(x, LABELS), smoothing=0.2), normal(4, 4),
    expected=lambda x: surprise(x, 0.8 * EYE[LABELS] + 0.05),
)
case(
    "cross_entropy", "rows-smoothed", lambda x: fused.cross_entropy(x, there(x, ROWS), smoothing=0.2), normal(4, 4),
    expected=lambda x: surprise(x, 0.8 * ROWS + 0.05),
)
case(
    "cross_entropy", "rows-of-any-sum", lambda x: fused.cross_entropy(x, there(x, 2 * ROWS), smoothing=0.2), normal(4, 4),
    expected=lambda x: surprise(x, 1.6 * ROWS + 0.05),
)
case(
    "cross_entropy", "one-image", lambda x: fused.cross_entropy(x, there(x, LABELS[:1])), normal(1, 4),
    expected=lambda x: surprise(x, EYE[LABELS[:1]]),
)


# fmt: on
# --- the checks -------------------------------------------------------------------------------------------------------


class _Names:
    """A watcher that notes which operations run."""

    def __init__(self):
        self.seen = set()

    def forward(self, name, operands, static, compute):
        self.seen.add(name)
        return compute()

    def recorded(self, node):
        pass


@contextlib.contextmanager
def operations_run():
    """The names of the operations that run inside."""
    names = _Names()
    token = watchers.set((*watchers.get(), names))
    try:
        yield names.seen
    finally:
        watchers.reset(token)


def check_gradient(case, xp):
    """The case runs its operation, gives NumPy's value, and small steps confirm its gradient, all in float64."""
    arrays = [xp.from_host(a.copy()) for a in case.arrays]
    with operations_run() as names:
        y = case.call(*(Tensor(a) for a in arrays))
    assert case.op in names, f"{case} does not run {case.op}, but {sorted(names)}"
    value, expected = y.numpy(), np.asarray(case.expected(*case.arrays))
    assert type(y.data) is xp.array_type and value.dtype == np.float64
    assert value.shape == expected.shape, f"{case}: shape {value.shape}, NumPy says {expected.shape}"
    np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-13, err_msg=str(case))
    gradcheck(case.call, *arrays, rtol=1e-5)


def check_manners(case, xp, dtype):
    """In `dtype`, values and gradients stay in it, come close to those in float64, and touch nobody else's memory."""
    exact_value, exact = value_and_gradients(case.call, [xp.from_host(a) for a in case.arrays], xp)
    arrays = [xp.from_host(a.astype(dtype)) for a in case.arrays]
    leaves = [Tensor(a, requires_grad=True) for a in arrays]
    y = case.call(*leaves)
    weights = xp.from_host(cotangent(y.shape).astype(dtype))
    y.backward(weights)
    assert y.dtype == dtype, f"{case}: {y.dtype} from {dtype}"
    for x in leaves:
        assert type(x.grad) is xp.array_type, f"{case}: the gradient is a {type(x.grad).__name__}"
        assert x.grad.dtype == dtype, f"{case}: gradient {x.grad.dtype} from {dtype}"
        assert x.grad.shape == x.shape
    close = {np.float32: 2e-5, np.float16: 2e-2}[dtype]
    for got, wanted in zip([y.numpy(), *(host(x.grad) for x in leaves)], [exact_value, *exact], strict=True):
        np.testing.assert_allclose(got, wanted, rtol=close, atol=close * max(1, np.abs(wanted).max(initial=0)))
    kept = [host(x.grad).copy() for x in leaves]
    for i, x in enumerate(leaves):
        x.grad[...] = 7  # an optimiser may well write into a gradient
        assert all((host(z.grad) == k).all() for z, k in list(zip(leaves, kept, strict=True))[i + 1 :]), case
    for a, original in zip(arrays, case.arrays, strict=True):
        assert np.array_equal(host(a), original.astype(dtype)), f"{case} changed its operand"
    assert np.array_equal(host(weights), cotangent(y.shape).astype(dtype)), f"{case} changed the gradient it was given"


def value_and_gradients(call, arrays, xp):
    """The value of a call and the gradient of each array for a random cotangent, as NumPy arrays."""
    leaves = [Tensor(a, requires_grad=True) for a in arrays]
    y = call(*leaves)
    y.backward(xp.from_host(cotangent(y.shape).astype(y.dtype)))
    return y.numpy(), [host(x.grad) for x in leaves]


def cotangent(shape):
    return np.random.default_rng(5).standard_normal(shape)


def host(array):
    return backends.to_numpy(array)
