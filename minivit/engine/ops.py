"""Every primitive operation, each with its vjp beside it: the value forward, the gradient back.

Read one pair and you have read them all: `g` is the gradient of the output, and the vjp says what each operand receives.
Operands may broadcast; then `unbroadcast` sums the gradient back.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minivit.engine import backend as backends
from minivit.engine.errors import DeviceError, DTypeError, ShapeError
from minivit.engine.tensor import Tensor, as_array, host_numbers, op, raw, shape_of, unbroadcast

Axis = int | tuple[int, ...] | None

# --- arithmetic -------------------------------------------------------------------------------------------------------


@op
def add(xp, a, b):
    a_shape, b_shape = shape_of(a), shape_of(b)
    return xp.add(a, b), lambda g: (unbroadcast(g, a_shape), unbroadcast(g, b_shape))


@op
def subtract(xp, a, b):
    a_shape, b_shape = shape_of(a), shape_of(b)
    return xp.subtract(a, b), lambda g: (unbroadcast(g, a_shape), unbroadcast(-g, b_shape))


@op
def multiply(xp, a, b, *, needs):
    def vjp(g):
        return (
            unbroadcast(g * b, shape_of(a)) if needs[0] else None,
            unbroadcast(g * a, shape_of(b)) if needs[1] else None,
        )

    return xp.multiply(a, b), vjp


@op
def divide(xp, a, b, *, needs):
    def vjp(g):
        return (
            unbroadcast(g / b, shape_of(a)) if needs[0] else None,
            unbroadcast(-g * a / (b * b), shape_of(b)) if needs[1] else None,
        )

    return xp.divide(a, b), vjp


@op
def negative(xp, x):
    return -x, lambda g: (-g,)


@op
def power(xp, x, *, exponent):
    if exponent == 0:  # its slope, 0·x⁻¹, would be NaN at 0
        return xp.ones_like(x), lambda g: (xp.zeros_like(g),)
    if exponent == 2:  # NumPy's general power costs hundreds of times a multiplication
        return x * x, lambda g: (2 * g * x,)
    if exponent == 3:
        return x * x * x, lambda g: (3 * g * x * x,)
    return xp.power(x, exponent), lambda g: (g * exponent * xp.power(x, exponent - 1),)


@op
def maximum(xp, a, b):
    def vjp(g):
        won, tied = xp.greater(a, b), xp.equal(a, b)  # a tie is shared
        part = won.astype(g.dtype) + 0.5 * tied.astype(g.dtype)
        return unbroadcast(g * part, shape_of(a)), unbroadcast(g * (1 - part), shape_of(b))

    return xp.maximum(a, b), vjp


@op
def minimum(xp, a, b):
    def vjp(g):
        won, tied = xp.less(a, b), xp.equal(a, b)
        part = won.astype(g.dtype) + 0.5 * tied.astype(g.dtype)
        return unbroadcast(g * part, shape_of(a)), unbroadcast(g * (1 - part), shape_of(b))

    return xp.minimum(a, b), vjp


@op
def _where(xp, a, b, *, condition):
    def vjp(g):
        zero = xp.zeros_like(g)
        return (
            unbroadcast(xp.where(condition, g, zero), shape_of(a)),
            unbroadcast(xp.where(condition, zero, g), shape_of(b)),
        )

    return xp.where(condition, a, b), vjp


def where(condition: Any, a: Any, b: Any) -> Tensor:
    """`a` where `condition` (booleans) holds, `b` elsewhere; the three broadcast."""
    return _where(a, b, condition=raw(condition))


# --- elementwise ------------------------------------------------------------------------------------------------------


@op
def exp(xp, x):
    y = xp.exp(x)
    return y, lambda g: (g * y,)


@op
def log(xp, x):
    return xp.log(x), lambda g: (g / x,)


@op
def sqrt(xp, x):
    y = xp.sqrt(x)
    return y, lambda g: (0.5 * g / y,)


@op
def sin(xp, x):
    return xp.sin(x), lambda g: (g * xp.cos(x),)


@op
def cos(xp, x):
    return xp.cos(x), lambda g: (-g * xp.sin(x),)


@op
def tanh(xp, x):
    y = xp.tanh(x)
    return y, lambda g: (g * (1 - y * y),)


@op
def erf(xp, x):
    return xp.erf(x), lambda g: (g * xp.exp(-x * x) * (2 / math.sqrt(math.pi)),)


@op
def sigmoid(xp, x):
    y = 0.5 * xp.tanh(0.5 * x) + 0.5  # exp(-x) would overflow for large negative x
    return y, lambda g: (g * y * (1 - y),)


@op
def relu(xp, x):
    return xp.maximum(x, 0), lambda g: (g * (x > 0),)


@op
def abs(xp, x):
    return xp.abs(x), lambda g: (g * xp.sign(x),)


@op
def clip(xp, x, *, low, high):
    inside = (x >= low) & (x <= high)
    return xp.clip(x, low, high), lambda g: (g * inside,)


@op
def astype(xp, x, *, dtype):
    """The same values as another number type; the gradient is converted back."""
    original = x.dtype
    return x.astype(dtype), lambda g: (g.astype(original),)


# --- reductions -------------------------------------------------------------------------------------------------------


def _axes(axis: Axis, ndim: int) -> tuple[int, ...]:
    """The reduced axes as positive numbers."""
    if axis is None:
        return tuple(range(ndim))
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    for a in axes:
        if not -ndim <= a < ndim:
            raise ShapeError(f"axis {a} does not exist in a tensor of {ndim} axes")
    return tuple(a % ndim for a in axes)


def _kept(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a reduction with keepdims=True."""
    return tuple(1 if i in axes else n for i, n in enumerate(shape))


@op
def sum(xp, x, *, axis=None, keepdims=False):
    axes, shape = _axes(axis, x.ndim), x.shape
    kept = _kept(shape, axes)
    return xp.asarray(x.sum(axis=axes, keepdims=keepdims)), lambda g: (xp.broadcast_to(g.reshape(kept), shape),)


@op
def mean(xp, x, *, axis=None, keepdims=False):
    axes, shape = _axes(axis, x.ndim), x.shape
    kept, n = _kept(shape, axes), math.prod(shape[a] for a in axes)
    return xp.asarray(x.mean(axis=axes, keepdims=keepdims)), lambda g: (xp.broadcast_to(g.reshape(kept) / n, shape),)


@op
def var(xp, x, *, axis=None, keepdims=False):
    """The biased variance (divided by n), as LayerNorm uses it."""
    axes, shape = _axes(axis, x.ndim), x.shape
    kept, n = _kept(shape, axes), math.prod(shape[a] for a in axes)
    centred = x - x.mean(axis=axes, keepdims=True)
    y = (centred * centred).mean(axis=axes, keepdims=keepdims)
    return xp.asarray(y), lambda g: (g.reshape(kept) * centred * (2 / n),)


def _extreme(xp, x, y, axes, keepdims):
    """The shared end of max and min: `y` is the reduction with its axes kept; ties share the gradient."""
    hit = x == y

    def vjp(g):
        share = hit / hit.sum(axis=axes, keepdims=True)
        return ((g.reshape(y.shape) * share).astype(x.dtype, copy=False),)

    shape = y.shape if keepdims else tuple(n for i, n in enumerate(x.shape) if i not in axes)
    return y.reshape(shape), vjp


@op
def max(xp, x, *, axis=None, keepdims=False):
    axes = _axes(axis, x.ndim)
    return _extreme(xp, x, x.max(axis=axes, keepdims=True), axes, keepdims)


@op
def min(xp, x, *, axis=None, keepdims=False):
    axes = _axes(axis, x.ndim)
    return _extreme(xp, x, x.min(axis=axes, keepdims=True), axes, keepdims)


# --- shape ------------------------------------------------------------------------------------------------------------


@op
def reshape(xp, x, *, shape):
    original = x.shape
    return x.reshape(shape), lambda g: (g.reshape(original),)


@op
def transpose(xp, x, *, axes=None):
    axes = tuple(reversed(range(x.ndim))) if axes is None else _axes(tuple(axes), x.ndim)
    back = tuple(axes.index(i) for i in range(len(axes))) if sorted(axes) == list(range(x.ndim)) else None
    if back is None:
        raise ShapeError(f"transpose: axes {axes} must name each of the {x.ndim} axes of {x.shape} once")
    return x.transpose(axes), lambda g: (g.transpose(back),)


@op
def broadcast_to(xp, x, *, shape):
    original = x.shape
    return xp.broadcast_to(x, shape), lambda g: (unbroadcast(g, original),)


@op
def concatenate(xp, *arrays, axis=0):
    ends = np.cumsum([a.shape[axis] for a in arrays])[:-1].tolist()
    return xp.concatenate(arrays, axis=axis), lambda g: tuple(xp.split(g, ends, axis=axis))


@op
def stack(xp, *arrays, axis=0):
    n = len(arrays)

    def vjp(g):
        return tuple(part.squeeze(axis) for part in xp.split(g, n, axis=axis))

    return xp.stack(arrays, axis=axis), vjp


def split(x: Tensor, sections: int | Sequence[int], axis: int = 0) -> list[Tensor]:
    """Cut along an axis into `sections` equal parts, or into parts of the given lengths."""
    (axis,) = _axes(axis, x.ndim)
    n = x.shape[axis]
    sizes = [n // sections] * sections if isinstance(sections, int) and sections > 0 else sections
    if isinstance(sizes, int) or math.fsum(sizes) != n:
        raise ShapeError(f"split: axis {axis} of {x.shape} has length {n}, which is not cut evenly into {sections}")
    parts, start = [], 0
    for size in sizes:
        index = [slice(None)] * x.ndim
        index[axis] = slice(start, start + size)
        parts.append(getitem(x, index=tuple(index)))
        start += size
    return parts


@op
def pad(xp, x, *, widths):
    """Zeros around: `widths` has a pair (before, after) for each axis."""
    widths = [tuple(w) for w in widths]
    if len(widths) != x.ndim:
        raise ShapeError(f"pad: widths must be {x.ndim} pairs, one for each axis of {x.shape}; got {len(widths)}")
    inside = tuple(slice(before, before + n) for (before, _), n in zip(widths, x.shape, strict=True))
    return xp.pad(x, widths), lambda g: (g[inside],)


@op
def roll(xp, x, *, shift, axis):
    back = -shift if isinstance(shift, int) else tuple(-s for s in shift)
    return xp.roll(x, shift, axis=axis), lambda g: (xp.roll(g, back, axis=axis),)


@op
def flip(xp, x, *, axis):
    return xp.flip(x, axis=axis), lambda g: (xp.flip(g, axis=axis),)


@op
def getitem(xp, x, *, index):
    """Slices, integers, integer arrays and boolean masks; an element taken twice receives two gradients."""
    shape, dtype = x.shape, x.dtype
    parts = index if isinstance(index, tuple) else (index,)
    basic = all(isinstance(i, (int, slice, type(None), type(Ellipsis))) for i in parts)

    def vjp(g):
        dx = xp.zeros(shape, dtype)
        if basic:
            dx[index] = g
        else:
            xp.scatter_add(dx, index, g)
        return (dx,)

    return xp.asarray(x[index]), vjp


def _index(x: Tensor, index: Any) -> Any:
    """An index with its Tensors unwrapped and its lists made into arrays of the tensor's backend."""
    if isinstance(index, tuple):
        return tuple(_index(x, i) for i in index)
    index = raw(index)
    xp = backends.backend_of(x.data)
    if isinstance(index, list):
        index = xp.from_host(host_numbers(index)) if index else xp.zeros(0, np.int64)
    if isinstance(index, np.integer):
        return int(index)
    if backends.is_array(index) and backends.backend_of(index) is not xp:
        raise DeviceError(f"getitem: the tensor is on {xp.name}, the index on {backends.backend_of(index).name}")
    dtype = getattr(index, "dtype", None)
    if isinstance(index, (float, str)) or (dtype is not None and dtype.kind not in "iub"):
        raise DTypeError(
            f"getitem: the index holds {dtype or type(index).__name__}; an index holds integers (.astype('int64')) or booleans"
        )
    return index


# --- products ---------------------------------------------------------------------------------------------------------


@op
def matmul(xp, a, b, *, needs):
    """(…, n, k) @ (…, k, m) -> (…, n, m); leading axes broadcast; a vector is a row on the left, a column on the right."""
    y = xp.matmul(a, b)
    lead = y.shape[: y.ndim - (a.ndim > 1) - (b.ndim > 1)]

    def vjp(g):
        rows = a.reshape(1, -1) if a.ndim == 1 else a  # (…, n, k)
        columns = b.reshape(-1, 1) if b.ndim == 1 else b  # (…, k, m)
        g = g.reshape(*lead, rows.shape[-2], columns.shape[-1])
        if (
            columns.ndim == 2 and rows.ndim > 2
        ):  # one weight for every matrix: one large product beats a sum of small ones
            flat = g.reshape(-1, g.shape[-1])
            da = (flat @ columns.T).reshape(a.shape) if needs[0] else None
            db = (rows.reshape(-1, rows.shape[-1]).T @ flat).reshape(b.shape) if needs[1] else None
            return da, db
        da = unbroadcast(g @ columns.swapaxes(-1, -2), rows.shape).reshape(a.shape) if needs[0] else None
        db = unbroadcast(rows.swapaxes(-1, -2) @ g, columns.shape).reshape(b.shape) if needs[1] else None
        return da, db

    return xp.asarray(y), vjp


@op
def fft2_real(xp, x, *, axes=(-2, -1)):
    """FNet's mixing (Lee-Thorp et al. 2021): the real part of the FFT over the last two axes, or over `axes`; unnormalised.

    The map is linear and symmetric, so its vjp is the map itself.
    """
    y = xp.ascontiguousarray(xp.fft.fftn(x, axes=axes).real).astype(x.dtype, copy=False)
    return y, lambda g: (xp.ascontiguousarray(xp.fft.fftn(g, axes=axes).real).astype(g.dtype, copy=False),)


# --- images: windows, convolution, pooling ----------------------------------------------------------------------------


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, (int, np.integer)) else tuple(value)


def _margins(padding: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    """Padding as ((top, bottom), (left, right)) from a number, a pair (rows, columns) or two pairs."""
    rows, columns = _pair(padding)
    return _pair(rows), _pair(columns)


def _windows(xp, x, size, stride):
    """Every window, its pixels side by side (im2col): (B, H, W, C) -> (B, h, w, kh·kw, C)."""
    (kh, kw), (sh, sw) = size, stride
    if not (kh > 0 and kw > 0 and sh > 0 and sw > 0):  # `min` is an operation here
        raise ShapeError(f"a window of {kh}×{kw} with stride {sh}×{sw}: all four must be at least 1")
    h, w = (x.shape[1] - kh) // sh + 1, (x.shape[2] - kw) // sw + 1
    if h < 1 or w < 1:
        raise ShapeError(f"a window of {kh}×{kw} does not fit into the (padded) image of {x.shape[1]}×{x.shape[2]}")
    shifted = [x[:, i : i + sh * h : sh, j : j + sw * w : sw] for i in range(kh) for j in range(kw)]
    return xp.stack(shifted, axis=3)


def _unwindows(xp, g, shape, size, stride):
    """The transpose of `_windows`: each pixel receives the sum over the windows that saw it."""
    (kh, kw), (sh, sw) = size, stride
    h, w = g.shape[1:3]
    dx = xp.zeros(shape, g.dtype)
    for i in range(kh):
        for j in range(kw):
            dx[:, i : i + sh * h : sh, j : j + sw * w : sw] += g[:, :, :, i * kw + j]
    return dx


def _padded(xp, x, margins, value=0):
    (top, bottom), (left, right) = margins
    if x.ndim != 4:
        raise ShapeError(f"images must be (B, H, W, C), got {x.shape}")
    if not any((top, bottom, left, right)):
        return x
    return xp.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), mode="constant", constant_values=value)


def _unpadded(g, margins, shape):
    (top, _), (left, _) = margins
    return g[:, top : top + shape[1], left : left + shape[2]]


@op
def _conv2d(xp, x, w, *, stride, padding, needs):
    if x.ndim != 4 or w.ndim != 4 or x.shape[-1] != w.shape[2]:
        raise ShapeError(
            f"conv2d: images {x.shape} and kernel {w.shape} must be (B, H, W, C) and (kh, kw, C, K), of one C"
        )
    kh, kw, c_in, c_out = w.shape
    size, margins = (kh, kw), padding
    padded = _padded(xp, x, margins)
    columns = _windows(xp, padded, size, stride)
    b, h, wd = columns.shape[:3]
    columns = columns.reshape(b * h * wd, kh * kw * c_in)
    kernel = w.reshape(kh * kw * c_in, c_out)

    def vjp(g):
        g = g.reshape(-1, c_out)
        dw = (columns.T @ g).reshape(w.shape) if needs[1] else None
        if not needs[0]:
            return None, dw
        dcolumns = (g @ kernel.T).reshape(b, h, wd, kh * kw, c_in)
        return _unpadded(_unwindows(xp, dcolumns, padded.shape, size, stride), margins, x.shape), dw

    return (columns @ kernel).reshape(b, h, wd, c_out), vjp


def conv2d(x: Any, weight: Any, stride: int | tuple = 1, padding: int | tuple = 0) -> Tensor:
    """Sliding dot products: images (B, H, W, C), kernel (kh, kw, C, K) -> (B, h, w, K), zeros outside the image.

    `stride` is a number or (rows, columns); `padding` also ((top, bottom), (left, right)). Raises `ShapeError`.
    """
    return _conv2d(x, weight, stride=_pair(stride), padding=_margins(padding))


@op
def _max_pool2d(xp, x, *, size, stride, padding):
    if any(edge >= n for margin, n in zip(padding, size, strict=True) for edge in margin):
        raise ShapeError(
            f"max_pool2d: padding {padding} must be smaller than the window {size}, which would see nothing"
        )
    padded = _padded(xp, x, padding, -math.inf)
    windows = _windows(xp, padded, size, stride)
    y, grow = _extreme(xp, windows, windows.max(axis=3, keepdims=True), (3,), False)
    return y, lambda g: (_unpadded(_unwindows(xp, *grow(g), padded.shape, size, stride), padding, x.shape),)


@op
def _avg_pool2d(xp, x, *, size, stride, padding):
    padded = _padded(xp, x, padding)
    windows = _windows(xp, padded, size, stride)
    n = windows.shape[3]

    def vjp(g):
        spread = xp.broadcast_to((g / n)[:, :, :, None], windows.shape)
        return (_unpadded(_unwindows(xp, spread, padded.shape, size, stride), padding, x.shape),)

    return windows.mean(axis=3), vjp


def max_pool2d(x: Any, size: int | tuple, stride: int | tuple | None = None, padding: int | tuple = 0) -> Tensor:
    """The largest value of each window: (B, H, W, C) -> (B, h, w, C); ties share the gradient."""
    return _max_pool2d(x, size=_pair(size), stride=_pair(stride or size), padding=_margins(padding))


def avg_pool2d(x: Any, size: int | tuple, stride: int | tuple | None = None, padding: int | tuple = 0) -> Tensor:
    """The mean of each window, padding counted as zeros: (B, H, W, C) -> (B, h, w, C)."""
    return _avg_pool2d(x, size=_pair(size), stride=_pair(stride or size), padding=_margins(padding))


# --- how a Tensor spells them -----------------------------------------------------------------------------------------


def _reduction(operation):
    def method(self: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return operation(self, axis=axis, keepdims=keepdims)

    return method


def _comparison(name):
    def method(self: Tensor, other: Any) -> Tensor:
        if other is None or isinstance(other, str):
            return NotImplemented  # so that `tensor == None` is False, as for other objects
        xp, other = backends.backend_of(self.data), as_array(other) if isinstance(other, (list, tuple)) else raw(other)
        if backends.is_array(other) and backends.backend_of(other) is not xp:
            raise DeviceError(f"{name}: operand 0 is on {xp.name}, operand 1 on {backends.backend_of(other).name}")
        try:
            return Tensor(xp.asarray(getattr(xp, name)(self.data, other)))
        except ValueError as error:
            raise ShapeError(f"{name}: cannot compare {self.shape} with {other.shape}") from error

    return method


def _flattened(values: tuple) -> tuple:
    return tuple(values[0]) if len(values) == 1 and isinstance(values[0], (tuple, list)) else values


def _power(x: Tensor, exponent: float) -> Tensor:
    if not isinstance(exponent, (int, float)):
        raise DTypeError(f"power: the exponent must be a Python number, got {type(exponent).__name__}")
    return power(x, exponent=exponent)


def _swapaxes(x: Tensor, a: int, b: int) -> Tensor:
    axes = list(range(x.ndim))
    (a,), (b,) = _axes(a, x.ndim), _axes(b, x.ndim)
    axes[a], axes[b] = b, a
    return transpose(x, axes=tuple(axes))


def _argmax(x: Tensor, axis: int | None = None) -> Tensor:
    return Tensor(backends.backend_of(x.data).asarray(x.data.argmax(axis=axis)))


Tensor.__add__ = Tensor.__radd__ = lambda a, b: add(a, b)
Tensor.__sub__, Tensor.__rsub__ = lambda a, b: subtract(a, b), lambda a, b: subtract(b, a)
Tensor.__mul__ = Tensor.__rmul__ = lambda a, b: multiply(a, b)
Tensor.__truediv__, Tensor.__rtruediv__ = lambda a, b: divide(a, b), lambda a, b: divide(b, a)
Tensor.__matmul__, Tensor.__rmatmul__ = lambda a, b: matmul(a, b), lambda a, b: matmul(b, a)
Tensor.__neg__, Tensor.__abs__, Tensor.__pow__ = lambda x: negative(x), lambda x: abs(x), _power
Tensor.__getitem__ = lambda x, index: getitem(x, index=_index(x, index))
Tensor.__lt__, Tensor.__le__ = _comparison("less"), _comparison("less_equal")
Tensor.__gt__, Tensor.__ge__ = _comparison("greater"), _comparison("greater_equal")
Tensor.__eq__, Tensor.__ne__, Tensor.__hash__ = _comparison("equal"), _comparison("not_equal"), object.__hash__
Tensor.sum, Tensor.mean, Tensor.var = _reduction(sum), _reduction(mean), _reduction(var)
Tensor.max, Tensor.min, Tensor.argmax = _reduction(max), _reduction(min), _argmax
Tensor.exp, Tensor.log, Tensor.sqrt, Tensor.tanh, Tensor.abs = exp, log, sqrt, tanh, abs
Tensor.clip = lambda x, low, high: clip(x, low=low, high=high)
Tensor.astype = lambda x, dtype: astype(x, dtype=np.dtype(dtype))
Tensor.reshape = lambda x, *shape: reshape(x, shape=_flattened(shape))
Tensor.transpose = lambda x, *axes: transpose(x, axes=_flattened(axes) or None)
Tensor.swapaxes, Tensor.T = _swapaxes, property(lambda x: transpose(x))
