"""The operations of `composed` as one step each, with gradients derived by hand: what runs.

Each is held equal to its twin in `composed`, value and gradient, by the tests. They are fast because they make fewer passes over
memory, and work in place. Without them a training step takes longer, on W1 and W2 (benchmarks/ablation.py): attention
1.18 and 1.26 times as long, GELU 1.16 and 1.17, LayerNorm 1.18 and 1.08, Linear 1.03 and 1.04.
On a GPU `@op` prefers their CUDA twins in `kernels`.
"""

import math
from typing import Any

from minivit.engine.composed import check_labels
from minivit.engine.errors import ShapeError
from minivit.engine.tensor import Tensor, op


@op
def _linear(xp, x, weight, *bias, needs):
    if x.ndim < 1 or weight.ndim != 2 or x.shape[-1] != weight.shape[0]:
        raise ValueError("the last axis of x must equal the rows of the weight")
    if bias and bias[0].shape != weight.shape[1:]:
        raise ValueError("the bias must be as long as the weight has columns")
    rows = x.reshape(-1, x.shape[-1])  # one large product: (…, in) -> (n, in)
    y = rows @ weight
    if bias:
        y += bias[0]

    def vjp(g):
        g = g.reshape(-1, weight.shape[1])
        dx = (g @ weight.T).reshape(x.shape) if needs[0] else None
        dw = rows.T @ g if needs[1] else None
        return (dx, dw, *(xp.column_sum(g) for _ in bias))

    return y.reshape(*x.shape[:-1], weight.shape[1]), vjp


def linear(x: Any, weight: Any, bias: Any = None) -> Tensor:
    """y = xW + b: (…, in), (in, out), (out,) -> (…, out). Raises `ShapeError`."""
    return _linear(x, weight) if bias is None else _linear(x, weight, bias)


def _softmax_rows(xp, x, out=None):
    """softmax along the last axis, written into `out`."""
    shift = xp.shift_for_exp(x)
    y = xp.exp(x if shift is None else xp.subtract(x, shift, out=out), out=out)
    y /= xp.row_sum(y)
    return y


@op
def softmax(xp, x):
    """exp(xᵢ) / Σⱼ exp(xⱼ) along the last axis. Its vjp is y (g − Σ g y)."""
    y = _softmax_rows(xp, x)
    return y, lambda g: ((y * (g - xp.row_dot(g, y))).astype(y.dtype, copy=False),)


@op
def log_softmax(xp, x):
    """x − log Σⱼ exp(xⱼ) along the last axis. Its vjp is g − softmax(x) Σ g."""
    y = x - x.max(axis=-1, keepdims=True)
    y -= xp.log(xp.row_sum(xp.exp(y)))
    return y, lambda g: (g - xp.exp(y) * xp.row_sum(g),)


@op
def gelu(xp, x, *, approximate=False, needs):
    """x Φ(x), exact, or Flax's tanh form. The slope Φ(x) + x φ(x) is found on the way and kept for the vjp."""
    if x.dtype.kind != "f":
        raise TypeError("gelu of whole numbers is not whole")
    y, slope = xp.empty_like(x), xp.empty_like(x)
    (_gelu_tanh if approximate else _gelu_erf)(xp, x, y, slope, needs[0])
    return y, lambda g: (g * slope,)


def _gelu_erf(xp, x, y, slope, want_slope):
    """Into `y` and `slope`, which serve as scratch paper until then."""
    squared, phi = xp.multiply(x, x, out=slope), y
    xp.normal_cdf(x, squared, out=phi)
    if want_slope:
        density = squared
        density *= -0.5
        xp.exp(density, out=density)
        density *= 1 / math.sqrt(2 * math.pi)
        density *= x
        density += phi  # Φ(x) + x φ(x)
    phi *= x  # x Φ(x)


def _gelu_tanh(xp, x, y, slope, want_slope):
    c, a = math.sqrt(2 / math.pi), 0.044715
    squared = x * x
    t = xp.tanh(x * (squared * (c * a) + c))
    half = 0.5 * t + 0.5
    xp.multiply(x, half, out=y)
    if want_slope:
        xp.add(half, 0.5 * x * (1 - t * t) * (squared * (3 * c * a) + c), out=slope)


@op
def silu(xp, x):
    """x σ(x), elementwise."""
    s = 0.5 * xp.tanh(0.5 * x) + 0.5
    y = x * s
    return y, lambda g: (g * (s + y * (1 - s)),)


@op
def layer_norm(xp, x, weight, bias, *, eps=1e-6, needs):
    """γ x̂ + β with x̂ = (x − mean) / √(var + ε) over the last axis: (…, D), (D,), (D,).

    With h = γ g, the vjp is dx = (h − mean(h) − x̂ mean(h x̂)) / √(var + ε): the part of h that a shift or a stretch of
    the row would undo is taken away.
    """
    width = x.shape[-1]
    if weight.shape != (width,) or bias.shape != (width,):
        raise ValueError("weight and bias must be as long as the last axis of x")
    rows = x.reshape(-1, width)
    unit = rows - xp.row_sum(rows) / width  # x̂
    inverse = 1 / xp.sqrt(xp.row_dot(unit, unit) / width + eps)
    unit *= inverse
    y = xp.multiply(unit, weight, out=None if any(needs) else unit)
    y += bias

    def vjp(g):
        g = g.reshape(-1, width)
        h = g * unit
        dweight, dbias = xp.column_sum(h), xp.column_sum(g)
        xp.multiply(g, weight, out=h)
        along, mean = xp.row_dot(h, unit) / width, xp.row_sum(h) / width
        h -= mean
        h -= unit * along
        h *= inverse
        return h.reshape(x.shape), dweight, dbias

    return y.reshape(x.shape), vjp


@op
def group_norm(xp, x, weight, bias, *, groups, eps=1e-5):
    """γ x̂ + β with x̂ = (x − mean) / √(var + ε) over each image and group of channels: (B, …, C), (C,), (C,).

    As in `layer_norm`, dx = (h − mean(h) − x̂ mean(h x̂)) / √(var + ε) with h = γ g.
    """
    b, c = x.shape[0], x.shape[-1]
    if x.ndim < 2 or groups < 1 or c % groups or weight.shape != (c,) or bias.shape != (c,):
        raise ValueError(f"x must be (B, …, C) with C a multiple of {groups} groups, weight and bias as long as C")
    n = math.prod(x.shape[1:-1])
    pixels = x.reshape(b, n, c)
    ones = xp.ones((1, n), x.dtype)

    def group_mean(values):
        """Over the pixels (as a product, which adds fastest) and each group's channels: (B, n, C) -> (B, 1, C)."""
        channels = (ones @ values / n).reshape(b, groups, c // groups).mean(axis=2, keepdims=True)
        return xp.broadcast_to(channels, (b, groups, c // groups)).reshape(b, 1, c)

    unit = pixels - group_mean(pixels)
    inverse = 1 / xp.sqrt(group_mean(unit * unit) + eps)
    unit *= inverse
    y = unit * weight
    y += bias

    def vjp(g):
        g = g.reshape(b, n, c)
        along = g * unit
        dweight, dbias = (ones @ along).sum(axis=(0, 1)), (ones @ g).sum(axis=(0, 1))
        along *= weight
        h = g * weight
        h -= group_mean(h)
        h -= unit * group_mean(along)
        h *= inverse
        return h.reshape(x.shape), dweight, dbias

    return y.reshape(x.shape), vjp


def _attend(xp, q, k, v, scale, out=None):
    """The core shared by both forms of attention: returns (weights, output)."""
    weights = xp.matmul(q * scale, k.swapaxes(-1, -2))  # (…, T, S); the scale on q costs d per row instead of S
    _softmax_rows(xp, weights, out=weights)
    return weights, xp.matmul(weights, v, out=out) if out is not None else xp.matmul(weights, v)


def _attend_vjp(xp, g, q, k, v, weights, y, scale, out=(None, None, None)):
    """Gradients of q, k, v. The row sums Σⱼ aᵢⱼ daᵢⱼ equal g·y, which is shorter, as g is a shorter place for the scale."""
    dv = _into(xp, weights.swapaxes(-1, -2), g, out[2])
    g = g * scale
    scores = xp.matmul(g, v.swapaxes(-1, -2))
    scores -= xp.row_dot(g, y)
    scores *= weights
    return _into(xp, scores, k, out[0]), _into(xp, scores.swapaxes(-1, -2), q, out[1]), dv


def _into(xp, a, b, out):
    """a @ b, written into `out` where there is one (CuPy's matmul wants no `out=None`)."""
    return xp.matmul(a, b) if out is None else xp.matmul(a, b, out=out)


@op
def _attention(xp, q, k, v, *, scale):
    if q.shape[-1] != k.shape[-1] or k.shape[:-1] != v.shape[:-1] or q.shape[:-2] != k.shape[:-2]:
        raise ShapeError(
            f"attention: queries {q.shape}, keys {k.shape} and values {v.shape} do not fit: (…, T, d), (…, S, d), (…, S, e)"
        )
    weights, y = _attend(xp, q, k, v, scale)
    return y, lambda g: _attend_vjp(xp, g, q, k, v, weights, y, scale)


def attention(q: Any, k: Any, v: Any, scale: float | None = None) -> Tensor:
    """softmax(qkᵀ/√d) v (Vaswani et al. 2017, eq. 1): (…, T, d), (…, S, d), (…, S, d) -> (…, T, d). Raises `ShapeError`."""
    return _attention(q, k, v, scale=1 / math.sqrt(q.shape[-1]) if scale is None else scale)


def _heads(x, num_heads):
    """A view, no copy: (B, T, D) -> (B, heads, T, d)."""
    b, t, width = x.shape
    return x.reshape(b, t, num_heads, width // num_heads).transpose(0, 2, 1, 3)


@op
def self_attention(xp, qkv, *, num_heads):
    """Every head at once from packed columns q | k | v, each head after head: (B, T, 3D) -> (B, T, D).

    Heads are views into the packed array and into the result, so that nothing is copied to split or merge them.
    """
    if qkv.ndim != 3:
        raise ShapeError(f"self_attention: q | k | v must be (B, T, 3D), got {qkv.shape}")
    b, t, packed = qkv.shape
    width = packed // 3
    if num_heads < 1 or packed % 3 or width % num_heads:
        raise ShapeError(f"self_attention: {packed} columns are not q | k | v of {num_heads} equal heads")
    scale = 1 / math.sqrt(width // num_heads)
    parts = qkv.reshape(b, t, 3, num_heads, width // num_heads).transpose(2, 0, 3, 1, 4)  # (3, B, heads, T, d)
    y = xp.empty((b, t, width), qkv.dtype)
    weights, merged = _attend(xp, *parts, scale, out=_heads(y, num_heads))

    def vjp(g):
        d = xp.empty((b, t, packed), qkv.dtype)
        out = d.reshape(b, t, 3, num_heads, width // num_heads).transpose(2, 0, 3, 1, 4)
        _attend_vjp(xp, _heads(g, num_heads), *parts, weights, merged, scale, out=out)
        return (d,)

    return y, vjp


@op
def _cross_entropy(xp, logits, *, labels, smoothing, needs):
    n, classes = logits.shape
    shifted = logits - logits.max(axis=-1, keepdims=True)
    p = xp.exp(shifted)
    total = xp.row_sum(p)
    shifted -= xp.log(total)  # log softmax
    if labels.ndim == 2:
        rows = labels.astype(logits.dtype, copy=False)
        loss = -(shifted * rows).sum() / n
        mass = rows.sum(axis=-1, keepdims=True)
    else:
        rows, mass = (xp.arange(n), labels), 1.0
        loss = -shifted[rows].sum() / n
    if smoothing:
        loss = (1 - smoothing) * loss - (smoothing / classes) * shifted.sum() / n
        mass = (1 - smoothing) * mass + smoothing

    def vjp(g):
        d = p * (mass / total)  # softmax − labels: what is believed less what is true
        if labels.ndim == 2:
            d -= (1 - smoothing) * rows
        else:
            d[rows] -= 1 - smoothing
        d -= smoothing / classes
        d *= g / n
        return (d,)

    return xp.asarray(loss, logits.dtype), vjp


def cross_entropy(logits: Any, labels: Any, smoothing: float = 0.0) -> Tensor:
    """Mean over the batch of −Σₖ yₖ log softmax(logits)ₖ, in one stable step.

    `logits` (B, K); `labels` class indices (B,) or probabilities (B, K); `smoothing` moves that share of each label to
    the uniform distribution. Raises `ShapeError` for labels of another shape or outside the classes. Its gradient is (p − y)/B.
    """
    logits = logits if isinstance(logits, Tensor) else Tensor(logits)
    return _cross_entropy(logits, labels=check_labels(labels, logits.shape, logits), smoothing=smoothing)
