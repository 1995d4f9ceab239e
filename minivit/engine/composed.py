"""The formulas of the book, written out of `ops` and differentiated by the engine: no gradient is derived here.

These are what the chapters derive, what the exercises ask for, and what the tests compare `fused` with. `fused` is what runs.
"""

import math
from typing import Any

from minivit.engine import backend as backends
from minivit.engine import ops
from minivit.engine.errors import DeviceError, DTypeError, ShapeError
from minivit.engine.tensor import Tensor, host_numbers, raw


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y = xW + b: (…, in), (in, out), (out,) -> (…, out)."""
    y = x @ weight
    return y if bias is None else y + bias


def softmax(x: Tensor) -> Tensor:
    """exp(xᵢ) / Σⱼ exp(xⱼ) along the last axis; subtracting the row's maximum changes nothing and avoids overflow."""
    e = (x - x.detach().max(axis=-1, keepdims=True)).exp()
    return e / e.sum(axis=-1, keepdims=True)


def log_softmax(x: Tensor) -> Tensor:
    """log softmax(x) = x − log Σⱼ exp(xⱼ) along the last axis, without the detour through tiny numbers."""
    shifted = x - x.detach().max(axis=-1, keepdims=True)
    return shifted - shifted.exp().sum(axis=-1, keepdims=True).log()


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-6) -> Tensor:
    """γ (x − mean) / √(var + ε) + β over the last axis, with the biased variance (Ba et al. 2016): (…, D), (D,), (D,)."""
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / (x.var(axis=-1, keepdims=True) + eps).sqrt() * weight + bias


def group_norm(x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float = 1e-5) -> Tensor:
    """γ (x − mean) / √(var + ε) + β, statistics over each image and group of channels (Wu & He 2018): (B, …, C), (C,), (C,)."""
    b, c = x.shape[0], x.shape[-1]
    grouped = x.reshape(b, math.prod(x.shape[1:-1]), groups, c // groups)
    centred = grouped - grouped.mean(axis=(1, 3), keepdims=True)
    unit = centred / (grouped.var(axis=(1, 3), keepdims=True) + eps).sqrt()
    return unit.reshape(*x.shape) * weight + bias


def gelu(x: Tensor, approximate: bool = False) -> Tensor:
    """x Φ(x), Φ the normal distribution function (Hendrycks & Gimpel 2016); `approximate` is the tanh form of Flax."""
    if approximate:
        return 0.5 * x * (1 + (math.sqrt(2 / math.pi) * (x + 0.044715 * (x * x * x))).tanh())
    return 0.5 * x * (1 + ops.erf(x / math.sqrt(2)))


def silu(x: Tensor) -> Tensor:
    """x σ(x), elementwise."""
    return x * ops.sigmoid(x)


def attention_weights(q: Tensor, k: Tensor, scale: float | None = None) -> Tensor:
    """softmax(qkᵀ/√d), each row a distribution over the keys: (…, T, d), (…, S, d) -> (…, T, S)."""
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    return softmax((q @ k.swapaxes(-1, -2)) * scale)


def attention(q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> Tensor:
    """softmax(qkᵀ/√d) v (Vaswani et al. 2017, eq. 1): (…, T, d), (…, S, d), (…, S, d) -> (…, T, d)."""
    return attention_weights(q, k, scale) @ v


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """Give each head its own slice of the features: (B, T, D) -> (B, heads, T, d), d = D / heads."""
    b, t, width = x.shape
    return x.reshape(b, t, num_heads, width // num_heads).transpose(0, 2, 1, 3)


def merge_heads(x: Tensor) -> Tensor:
    """The inverse of `split_heads`: (B, heads, T, d) -> (B, T, D)."""
    b, heads, t, d = x.shape
    return x.transpose(0, 2, 1, 3).reshape(b, t, heads * d)


def self_attention(qkv: Tensor, num_heads: int) -> Tensor:
    """All heads at once from packed columns q | k | v, each head after head: (B, T, 3D) -> (B, T, D)."""
    q, k, v = (split_heads(part, num_heads) for part in ops.split(qkv, 3, axis=-1))
    return merge_heads(attention(q, k, v))


def targets(labels: Any, shape: tuple[int, ...], like: Tensor, smoothing: float = 0.0) -> Tensor:
    """Labels as rows of probabilities (B, K): one-hot for class indices (B,), given rows as they are, then smoothed.

    Raises `ShapeError` for a wrong shape or a class outside 0…K−1, `DTypeError` for classes that are not integers.
    """
    labels = check_labels(labels, shape, like)
    xp = backends.backend_of(like.data)
    if labels.ndim == 1:
        rows = xp.zeros(shape, like.dtype)
        rows[xp.arange(shape[0]), labels] = 1
    else:
        rows = labels.astype(like.dtype, copy=False)
    if smoothing:
        rows = (1 - smoothing) * rows + smoothing / shape[1]
    return Tensor(rows)


def check_labels(labels: Any, shape: tuple[int, ...], like: Tensor) -> Any:
    """Labels as an array where the logits are, or an error that says what is wrong with them."""
    xp = backends.backend_of(like.data)
    if isinstance(labels, Tensor) and backends.backend_of(labels.data) is not xp:
        raise DeviceError(
            f"cross_entropy: the logits are on {xp.name}, the labels on {labels.backend}; move one with .to(...)"
        )
    labels = raw(labels)
    if len(shape) != 2:
        raise ShapeError(f"cross_entropy: logits must be (B, K), got {shape}")
    if not backends.is_array(labels):
        labels = xp.from_host(host_numbers(labels))
    if labels.shape not in ((shape[0],), tuple(shape)):
        raise ShapeError(
            f"cross_entropy: logits {shape} need labels ({shape[0]},) of class indices or {shape} of probabilities, "
            f"got {labels.shape}"
        )
    if labels.ndim == 1:
        if labels.dtype.kind not in "iu":
            raise DTypeError(
                f"cross_entropy: class indices must be integers: labels.astype('int64'); got {labels.dtype}"
            )
        # On the GPU the check would stop the queue at every step; there the labels are checked before they travel.
        if (
            backends.backend_of(labels).name == "numpy"
            and labels.size
            and not 0 <= labels.min() <= labels.max() < shape[1]
        ):
            bad = int(labels.min() if labels.min() < 0 else labels.max())
            raise ShapeError(f"cross_entropy: label {bad} is outside the {shape[1]} classes 0…{shape[1] - 1}")
    return labels if backends.backend_of(labels) is xp else xp.from_host(labels)


def cross_entropy(logits: Tensor, labels: Any, smoothing: float = 0.0) -> Tensor:
    """Mean over the batch of −Σₖ yₖ log softmax(logits)ₖ: (B, K) and class indices (B,) or probabilities (B, K)."""
    rows = targets(labels, logits.shape, logits, smoothing)
    return -(rows * log_softmax(logits)).sum(axis=-1).mean()
