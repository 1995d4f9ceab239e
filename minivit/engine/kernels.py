"""CUDA twins of the fused operations, compiled by CuPy when first used: one launch where the portable form needs many.

`@op` looks here first for arrays of CuPy (`backend.kernels`); a twin that is not made for its operands (float16, another
shape) returns `NotImplemented` and the portable form of `fused` runs, as it does everywhere else.

One idea serves all kernels: **a warp is the worker**. Its 32 threads read 32 neighbouring numbers at a time, and add up
what they found by five exchanges of registers (`warp_sum`). So there is no shared memory, no barrier and no atomic
addition; sums are taken in the same order in every run, and equal inputs give equal bits. A row of a few hundred numbers
(tokens × width, scores of one query) is about what a warp can hold busy.
"""

import functools
import inspect
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minivit.engine import fused
from minivit.engine.backend import Array, Backend
from minivit.engine.cublas import product

BLOCK = 128  # threads in a block: four warps
SLAB = 16  # rows that one thread adds up before a second launch adds the slabs
CHUNK = 1024  # numbers of a parameter that one warp updates

TWINS: dict[Callable, Callable] = {}  # the function of `fused` that an operation was made from: its twin here
KERNELS: dict[str, "Kernel"] = {}  # every kernel by name; the tests compile and emulate each

PRELUDE = r"""
typedef long long Index;

__device__ Index thread_number() { return blockIdx.x * (Index)blockDim.x + threadIdx.x; }

// A butterfly: after five exchanges every thread of the warp holds the sum of all 32 values, added in one fixed order.
template <class T> __device__ T warp_sum(T value) {
    for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffff, value, step);
    return value;
}

template <class T> __device__ T larger(T a, T b) { return b > a ? b : a; }

template <class T> __device__ T warp_max(T value) {
    for (int step = 16; step > 0; step /= 2) value = larger(value, __shfl_xor_sync(0xffffffff, value, step));
    return value;
}
"""


class Kernel:
    """One CUDA function over `REAL`, which is float or double: compiled for either when it is first launched."""

    def __init__(self, source: str):
        self.source = source
        self.name = source.partition("__global__ void ")[2].partition("(")[0]
        self._compiled: dict[tuple[Any, str], Any] = {}
        KERNELS[self.name] = self

    def code(self, dtype: Any) -> str:
        """The whole source for one number type."""
        real = {"f": "float", "d": "double"}[np.dtype(dtype).char]
        return f"typedef {real} REAL;\n{PRELUDE}\n{self.source}"

    def __call__(self, xp: Backend, dtype: Any, threads: int, *arguments: Any) -> None:
        """Launch at least `threads` threads. Python numbers become `Index` and `REAL`, None a null pointer."""
        if threads == 0:
            return
        key = (xp.module, dtype.char)
        if key not in self._compiled:
            self._compiled[key] = xp.module.RawKernel(self.code(dtype), self.name)
        blocks = -(-threads // BLOCK)
        self._compiled[key]((blocks,), (BLOCK,), tuple(_argument(a, dtype) for a in arguments))


def _argument(value: Any, dtype: Any) -> Any:
    """CuPy passes a number with the bytes that it has, so its type must be the parameter's; None would crash it."""
    if value is None:
        return np.uint64(0)
    if isinstance(value, int):
        return np.int64(value)
    return dtype.type(value) if isinstance(value, float) else value


def twin(operation: Callable) -> Callable:
    """Make the function below the CUDA twin of an operation of `fused`."""

    def register(function: Callable) -> Callable:
        TWINS[inspect.unwrap(operation)] = function
        return function

    return register


def _real(x: Array) -> bool:
    """Whether kernels exist for this array: float32 or float64."""
    return x.dtype.char in "fd"


def _packed(xp: Backend, x: Array) -> Array:
    """The array itself, or a copy without gaps: a kernel is given an address and knows of no strides."""
    return x if x.flags.c_contiguous else xp.ascontiguousarray(x)


# --- GELU -------------------------------------------------------------------------------------------------------------

gelu_erf = Kernel(r"""
// y = x Φ(x) and the slope Φ(x) + x φ(x), which backward multiplies by; slope may be null.
extern "C" __global__ void gelu_erf(const REAL* x, REAL* y, REAL* slope, Index n) {
    Index i = thread_number();
    if (i >= n) return;
    REAL v = x[i];
    REAL phi = (REAL)0.5 * (1 + erf(v * (REAL)0.70710678118654752440));  // 1/√2
    y[i] = v * phi;
    if (slope) slope[i] = phi + v * (REAL)0.39894228040143267794 * exp((REAL)-0.5 * v * v);  // 1/√(2π)
}
""")

gelu_tanh = Kernel(r"""
// y = x h with h = ½ + ½ tanh(√(2/π) (x + a x³)), and its slope; slope may be null.
extern "C" __global__ void gelu_tanh(const REAL* x, REAL* y, REAL* slope, Index n) {
    Index i = thread_number();
    if (i >= n) return;
    const REAL c = (REAL)0.79788456080286535588, a = (REAL)0.044715;
    REAL v = x[i], squared = v * v;
    REAL t = tanh(v * (squared * (c * a) + c));
    REAL half = (REAL)0.5 * t + (REAL)0.5;
    y[i] = v * half;
    if (slope) slope[i] = half + (REAL)0.5 * v * (1 - t * t) * (squared * (3 * c * a) + c);
}
""")


@twin(fused.gelu)
def gelu(xp, x, *, approximate=False, needs):
    """Twin of `fused.gelu`: value and slope in one pass over memory instead of about ten."""
    if not _real(x):
        return NotImplemented
    x = _packed(xp, x)
    y, slope = xp.empty_like(x), xp.empty_like(x) if needs[0] else None
    (gelu_tanh if approximate else gelu_erf)(xp, x.dtype, x.size, x, y, slope, x.size)
    return y, lambda g: (g * slope,)


# --- softmax ----------------------------------------------------------------------------------------------------------

softmax_rows = Kernel(r"""
// exp(x − max) / Σ exp(x − max) of each row, one warp a row; y may be x, for each thread reads only what it writes.
extern "C" __global__ void softmax_rows(const REAL* x, REAL* y, Index rows, Index width) {
    Index row = thread_number() / 32, lane = threadIdx.x % 32;
    if (row >= rows) return;
    x += row * width;
    y += row * width;
    REAL peak = x[lane < width ? lane : 0];
    for (Index j = lane; j < width; j += 32) peak = larger(peak, x[j]);
    peak = warp_max(peak);
    REAL total = 0;
    for (Index j = lane; j < width; j += 32) total += y[j] = exp(x[j] - peak);
    total = warp_sum(total);
    for (Index j = lane; j < width; j += 32) y[j] /= total;
}
""")

softmax_rows_vjp = Kernel(r"""
// d = scale · y (g − Σ g y) of each row, one warp a row; d may be g. The scale is attention's 1/√d.
extern "C" __global__ void softmax_rows_vjp(const REAL* y, const REAL* g, REAL* d, Index rows, Index width, REAL scale) {
    Index row = thread_number() / 32, lane = threadIdx.x % 32;
    if (row >= rows) return;
    y += row * width;
    g += row * width;
    d += row * width;
    REAL along = 0;
    for (Index j = lane; j < width; j += 32) along += g[j] * y[j];
    along = warp_sum(along);
    for (Index j = lane; j < width; j += 32) d[j] = scale * y[j] * (g[j] - along);
}
""")


def _softmax(xp: Backend, x: Array, y: Array) -> Array:
    width = x.shape[-1]
    rows = x.size // width if width else 0
    softmax_rows(xp, x.dtype, 32 * rows, x, y, rows, width)
    return y


def _softmax_vjp(xp: Backend, y: Array, g: Array, d: Array, scale: float) -> Array:
    width = y.shape[-1]
    rows = y.size // width if width else 0
    softmax_rows_vjp(xp, y.dtype, 32 * rows, y, g, d, rows, width, float(scale))
    return d


@twin(fused.softmax)
def softmax(xp, x):
    """Twin of `fused.softmax`."""
    if not _real(x) or x.ndim == 0:
        return NotImplemented
    x = _packed(xp, x)
    y = _softmax(xp, x, xp.empty_like(x))
    return y, lambda g: (_softmax_vjp(xp, y, _packed(xp, g), xp.empty_like(y), 1.0),)


# --- layer norm -------------------------------------------------------------------------------------------------------

layer_norm_rows = Kernel(r"""
// γ (x − mean) / √(var + ε) + β of each row, one warp a row; mean and 1/√(var + ε) are kept for backward.
extern "C" __global__ void layer_norm_rows(const REAL* x, const REAL* weight, const REAL* bias, REAL* y, REAL* mean,
                                           REAL* inverse, Index rows, Index width, REAL eps) {
    Index row = thread_number() / 32, lane = threadIdx.x % 32;
    if (row >= rows) return;
    x += row * width;
    y += row * width;
    REAL sum = 0, squares = 0;
    for (Index j = lane; j < width; j += 32) sum += x[j];
    REAL centre = warp_sum(sum) / width;
    for (Index j = lane; j < width; j += 32) squares += (x[j] - centre) * (x[j] - centre);  // never Σx² − (Σx)²/n
    REAL r = 1 / sqrt(warp_sum(squares) / width + eps);
    for (Index j = lane; j < width; j += 32) y[j] = (x[j] - centre) * r * weight[j] + bias[j];
    if (lane == 0) {
        mean[row] = centre;
        inverse[row] = r;
    }
}
""")

layer_norm_dx = Kernel(r"""
// dx = (h − mean(h) − x̂ mean(h x̂)) / √(var + ε) with h = γ g, of each row, one warp a row.
extern "C" __global__ void layer_norm_dx(const REAL* x, const REAL* weight, const REAL* mean, const REAL* inverse,
                                         const REAL* g, REAL* dx, Index rows, Index width) {
    Index row = thread_number() / 32, lane = threadIdx.x % 32;
    if (row >= rows) return;
    x += row * width;
    g += row * width;
    dx += row * width;
    REAL centre = mean[row], r = inverse[row], sum = 0, along = 0;
    for (Index j = lane; j < width; j += 32) {
        REAL h = g[j] * weight[j];
        sum += h;
        along += h * (x[j] - centre) * r;
    }
    sum = warp_sum(sum) / width;
    along = warp_sum(along) / width;
    for (Index j = lane; j < width; j += 32) dx[j] = (g[j] * weight[j] - sum - (x[j] - centre) * r * along) * r;
}
""")

layer_norm_slabs = Kernel(r"""
// For the gradients of γ and β: Σ g x̂ and Σ g over a slab of rows, one thread for each column of each slab.
// Into partial (slabs, 2, width), which sum_columns adds up: two launches in a fixed order, where one with atomic
// additions would give other last digits in every run.
extern "C" __global__ void layer_norm_slabs(const REAL* x, const REAL* mean, const REAL* inverse, const REAL* g,
                                            REAL* partial, Index rows, Index width, Index slab_rows) {
    Index slab = thread_number() / width, column = thread_number() % width;
    if (slab * slab_rows >= rows) return;
    Index end = (slab + 1) * slab_rows < rows ? (slab + 1) * slab_rows : rows;
    REAL stretch = 0, shift = 0;
    for (Index row = slab * slab_rows; row < end; row++) {
        REAL v = g[row * width + column];
        stretch += v * (x[row * width + column] - mean[row]) * inverse[row];
        shift += v;
    }
    partial[2 * slab * width + column] = stretch;
    partial[(2 * slab + 1) * width + column] = shift;
}
""")

column_slabs = Kernel(r"""
// Column sums over a slab of rows, one thread for each column of each slab: into partial (slabs, width).
extern "C" __global__ void column_slabs(const REAL* x, REAL* partial, Index rows, Index width, Index slab_rows) {
    Index slab = thread_number() / width, column = thread_number() % width;
    if (slab * slab_rows >= rows) return;
    Index end = (slab + 1) * slab_rows < rows ? (slab + 1) * slab_rows : rows;
    REAL sum = 0;
    for (Index row = slab * slab_rows; row < end; row++) sum += x[row * width + column];
    partial[slab * width + column] = sum;
}
""")

sum_columns = Kernel(r"""
// factor · column sums of (rows, width), one warp a column: the second stage of every sum over rows.
extern "C" __global__ void sum_columns(const REAL* x, REAL* out, Index rows, Index width, REAL factor) {
    Index column = thread_number() / 32, lane = threadIdx.x % 32;
    if (column >= width) return;
    REAL sum = 0;
    for (Index row = lane; row < rows; row += 32) sum += x[row * width + column];
    sum = warp_sum(sum);
    if (lane == 0) out[column] = factor * sum;
}
""")


def _sum_columns(xp: Backend, partial: Array, factor: float = 1.0) -> Array:
    """factor · Σ over the first axis: (n, …) -> (…)."""
    out = xp.empty(partial.shape[1:], partial.dtype)
    sum_columns(xp, partial.dtype, 32 * out.size, partial, out, partial.shape[0], out.size, factor)
    return out


def _column_sums(xp: Backend, x: Array) -> Array:
    """Σ over rows: (n, width) -> (width,). Twin of `x.sum(axis=0)`, in two launches and one fixed order."""
    rows, width = x.shape
    partial = xp.empty((-(-rows // SLAB), width), x.dtype)
    column_slabs(xp, x.dtype, partial.size, x, partial, rows, width, SLAB)
    return _sum_columns(xp, partial)


@twin(fused.layer_norm)
def layer_norm(xp, x, weight, bias, *, eps=1e-6, needs):
    """Twin of `fused.layer_norm`: one launch forward, three backward."""
    if not _real(x) or x.ndim == 0 or x.shape[-1] == 0 or not weight.shape == bias.shape == x.shape[-1:]:
        return NotImplemented
    x, weight, bias = (_packed(xp, a) for a in (x, weight, bias))
    width = x.shape[-1]
    rows = x.size // width
    y, mean, inverse = xp.empty_like(x), xp.empty(rows, x.dtype), xp.empty(rows, x.dtype)
    layer_norm_rows(xp, x.dtype, 32 * rows, x, weight, bias, y, mean, inverse, rows, width, float(eps))

    def vjp(g):
        g = _packed(xp, g)
        dx = xp.empty_like(x)
        layer_norm_dx(xp, x.dtype, 32 * rows, x, weight, mean, inverse, g, dx, rows, width)
        partial = xp.empty((-(-rows // SLAB), 2, width), x.dtype)
        layer_norm_slabs(xp, x.dtype, partial.size // 2, x, mean, inverse, g, partial, rows, width, SLAB)
        dweight, dbias = _sum_columns(xp, partial)
        return dx, dweight, dbias

    return y, vjp


# --- products: linear and attention -----------------------------------------------------------------------------------


@twin(fused._linear)
def linear(xp, x, weight, *bias, needs):
    """Twin of `fused.linear`: products straight to cuBLAS, the bias's gradient in two launches."""
    if not _real(x) or x.ndim < 1 or weight.ndim != 2 or x.shape[-1] != weight.shape[0]:
        return NotImplemented
    if bias and bias[0].shape != weight.shape[1:]:
        return NotImplemented
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    y = product(xp, rows, weight)
    if bias:
        y += bias[0]

    def vjp(g):
        g = _packed(xp, g).reshape(rows.shape[0], weight.shape[1])
        dx = product(xp, g, weight.T).reshape(x.shape) if needs[0] else None
        dw = product(xp, rows.T, g) if needs[1] else None
        return (dx, dw, *(_column_sums(xp, g) for _ in bias))

    return y.reshape(*x.shape[:-1], weight.shape[1]), vjp


def _attend(xp, q, k, v, scale, out=None):
    """Twin of `fused._attend`: two products and one launch; the scale rides along with the first product."""
    weights = product(xp, q, k.swapaxes(-1, -2), scale=scale)  # (…, T, S), contiguous
    _softmax(xp, weights, weights)
    return weights, product(xp, weights, v, out=out)


def _attend_vjp(xp, g, q, k, v, weights, scale, out=(None, None, None)):
    """Twin of `fused._attend_vjp`: four products and one launch."""
    dv = product(xp, weights.swapaxes(-1, -2), g, out=out[2])
    scores = product(xp, g, v.swapaxes(-1, -2))
    _softmax_vjp(xp, weights, scores, scores, scale)
    return product(xp, scores, k, out=out[0]), product(xp, scores.swapaxes(-1, -2), q, out=out[1]), dv


@twin(fused._attention)
def attention(xp, q, k, v, *, scale):
    """Twin of `fused.attention`."""
    fit = q.ndim == k.ndim == v.ndim and q.ndim >= 2 and q.shape[:-2] == k.shape[:-2]
    if not _real(q) or not fit or q.shape[-1] != k.shape[-1] or k.shape[:-1] != v.shape[:-1]:
        return NotImplemented
    weights, y = _attend(xp, q, k, v, scale)
    return y, lambda g: _attend_vjp(xp, g, q, k, v, weights, scale)


@twin(fused.self_attention)
def self_attention(xp, qkv, *, num_heads):
    """Twin of `fused.self_attention`: heads are read from and written into the packed arrays, never copied."""
    if not _real(qkv) or qkv.ndim != 3 or num_heads < 1 or qkv.shape[-1] % (3 * num_heads):
        return NotImplemented
    b, t, packed = qkv.shape
    width = packed // 3
    scale = 1 / math.sqrt(width // num_heads)

    def split(x, parts):  # (B, T, parts · D) -> (parts, B, heads, T, d), a view
        return x.reshape(b, t, parts, num_heads, width // num_heads).transpose(2, 0, 3, 1, 4)

    q, k, v = split(_packed(xp, qkv), 3)
    y = xp.empty((b, t, width), qkv.dtype)
    weights, _ = _attend(xp, q, k, v, scale, out=split(y, 1)[0])

    def vjp(g):
        d = xp.empty((b, t, packed), qkv.dtype)
        _attend_vjp(xp, split(_packed(xp, g), 1)[0], q, k, v, weights, scale, out=tuple(split(d, 3)))
        return (d,)

    return y, vjp


# --- cross-entropy ----------------------------------------------------------------------------------------------------

LABEL = r"""
// How much of one class is in a row's label: 1 or 0 by its class index, or a given probability; then smoothed.
__device__ REAL label(const Index* classes, const REAL* given, Index row, Index k, Index width, REAL smoothing) {
    REAL y = classes ? (REAL)(classes[row] == k) : given[row * width + k];
    return (1 - smoothing) * y + smoothing / width;
}
"""

cross_entropy_rows = Kernel(
    LABEL
    + r"""
// −Σₖ yₖ log softmax(x)ₖ of each row, one warp a row. Keeps max x and Σ exp(x − max) for backward, in kept (2, rows).
// A class outside 0 … width − 1 gives NaN: a kernel cannot raise, but no step is taken with a loss that is not finite.
extern "C" __global__ void cross_entropy_rows(const REAL* x, const Index* classes, const REAL* given, REAL* losses,
                                              REAL* kept, Index rows, Index width, REAL smoothing) {
    Index row = thread_number() / 32, lane = threadIdx.x % 32;
    if (row >= rows) return;
    x += row * width;
    REAL peak = x[lane < width ? lane : 0];
    for (Index j = lane; j < width; j += 32) peak = larger(peak, x[j]);
    peak = warp_max(peak);
    REAL total = 0, mass = 0, along = 0;
    for (Index j = lane; j < width; j += 32) {
        REAL y = label(classes, given, row, j, width, smoothing);
        total += exp(x[j] - peak);
        mass += y;
        if (y != 0) along += y * (x[j] - peak);  // 0 · −∞ counts as 0
    }
    total = warp_sum(total);
    mass = warp_sum(mass);
    along = warp_sum(along);
    if (lane == 0) {
        bool known = !classes || (0 <= classes[row] && classes[row] < width);
        losses[row] = known ? mass * log(total) - along : (REAL)nan("");
        kept[row] = peak;
        kept[rows + row] = total;
    }
}
"""
)

cross_entropy_vjp = Kernel(
    LABEL
    + r"""
// d = (softmax(x) Σy − y) g / rows, one warp a row; g is one number on the device, so that nobody waits for it.
extern "C" __global__ void cross_entropy_vjp(const REAL* x, const Index* classes, const REAL* given, const REAL* kept,
                                             const REAL* g, REAL* d, Index rows, Index width, REAL smoothing) {
    Index row = thread_number() / 32, lane = threadIdx.x % 32;
    if (row >= rows) return;
    x += row * width;
    d += row * width;
    REAL peak = kept[row], total = kept[rows + row], mass = 0;
    for (Index j = lane; j < width; j += 32) mass += label(classes, given, row, j, width, smoothing);
    mass = warp_sum(mass);
    for (Index j = lane; j < width; j += 32) {
        REAL y = label(classes, given, row, j, width, smoothing);
        d[j] = (exp(x[j] - peak) / total * mass - y) * g[0] / rows;
    }
}
"""
)


@twin(fused._cross_entropy)
def cross_entropy(xp, logits, *, labels, smoothing, needs):
    """Twin of `fused.cross_entropy`: two launches forward, one backward."""
    if not _real(logits) or logits.size == 0:
        return NotImplemented
    x, (rows, width) = _packed(xp, logits), logits.shape
    classes = _packed(xp, labels.astype(np.int64, copy=False)) if labels.ndim == 1 else None
    given = _packed(xp, labels.astype(x.dtype, copy=False)) if labels.ndim == 2 else None
    losses, kept = xp.empty((rows, 1), x.dtype), xp.empty((2, rows), x.dtype)
    smoothing = float(smoothing)
    cross_entropy_rows(xp, x.dtype, 32 * rows, x, classes, given, losses, kept, rows, width, smoothing)

    def vjp(g):
        d = xp.empty_like(x)
        g = _packed(xp, g)
        cross_entropy_vjp(xp, x.dtype, 32 * rows, x, classes, given, kept, g, d, rows, width, smoothing)
        return (d,)

    return _sum_columns(xp, losses, 1 / rows).reshape(()), vjp


# --- all parameters at once -------------------------------------------------------------------------------------------

TABLE = r"""
// All tensors in one launch: a warp looks up in `chunks` which stretch of which tensor is its own.
struct Tensor { REAL* arrays[4]; Index size; Index flag; };
struct Chunk { Index tensor; Index start; };
static_assert(sizeof(Tensor) == 48 && sizeof(Chunk) == 16, "the tables are made of 8-byte words");
"""

adamw_all = Kernel(
    TABLE
    + r"""
// arrays: parameter, gradient, m, v; flag: whether it decays. keep = β, fresh = 1 − β; root = √(1 − β₂ᵗ).
extern "C" __global__ void adamw_all(const Tensor* tensors, const Chunk* chunks, Index count, Index length, REAL keep1,
                                     REAL fresh1, REAL keep2, REAL fresh2, REAL shrink, REAL rate, REAL root, REAL eps) {
    Index chunk = thread_number() / 32, lane = threadIdx.x % 32;
    if (chunk >= count) return;
    Tensor t = tensors[chunks[chunk].tensor];
    Index end = chunks[chunk].start + length < t.size ? chunks[chunk].start + length : t.size;
    for (Index i = chunks[chunk].start + lane; i < end; i += 32) {
        REAL g = t.arrays[1][i];
        REAL m = t.arrays[2][i] = keep1 * t.arrays[2][i] + fresh1 * g;
        REAL v = t.arrays[3][i] = keep2 * t.arrays[3][i] + fresh2 * g * g;
        REAL p = t.flag ? t.arrays[0][i] * shrink : t.arrays[0][i];
        t.arrays[0][i] = p - rate * m / (sqrt(v) / root + eps);
    }
}
"""
)

squares_all = Kernel(
    TABLE
    + r"""
// Σ g² of each chunk, added in double precision: into partial (count,), which sum_columns adds up.
extern "C" __global__ void squares_all(const Tensor* tensors, const Chunk* chunks, Index count, Index length,
                                       double* partial) {
    Index chunk = thread_number() / 32, lane = threadIdx.x % 32;
    if (chunk >= count) return;
    Tensor t = tensors[chunks[chunk].tensor];
    Index end = chunks[chunk].start + length < t.size ? chunks[chunk].start + length : t.size;
    double sum = 0;
    for (Index i = chunks[chunk].start + lane; i < end; i += 32) sum += (double)t.arrays[0][i] * t.arrays[0][i];
    sum = warp_sum(sum);
    if (lane == 0) partial[chunk] = sum;
}
"""
)

scale_all = Kernel(
    TABLE
    + r"""
// arrays: result, source. The result is factor · source.
extern "C" __global__ void scale_all(const Tensor* tensors, const Chunk* chunks, Index count, Index length, REAL factor) {
    Index chunk = thread_number() / 32, lane = threadIdx.x % 32;
    if (chunk >= count) return;
    Tensor t = tensors[chunks[chunk].tensor];
    Index end = chunks[chunk].start + length < t.size ? chunks[chunk].start + length : t.size;
    for (Index i = chunks[chunk].start + lane; i < end; i += 32) t.arrays[0][i] = factor * t.arrays[1][i];
}
"""
)


def _alike(*lists: Sequence[Array]) -> bool:
    """Whether one launch can take all: some arrays, one number type that has kernels, nothing strided."""
    arrays = list(itertools.chain(*lists))
    char = arrays[0].dtype.char if arrays else ""
    return char in ("f", "d") and all(a.dtype.char == char and a.flags.c_contiguous for a in arrays)


def _over_all(kernel: Kernel, xp: Backend, lists: Sequence[Sequence[Array]], flags: Sequence[bool], *rest: Any) -> None:
    """Launch a kernel over lists of arrays, side by side. Their addresses travel as one small table."""
    sizes = tuple(a.size for a in lists[0])
    chunks, length = _chunks(xp, sizes)
    table = np.zeros((len(sizes), 6), np.int64)  # rows of struct Tensor
    for column, arrays in enumerate(lists):
        table[:, column] = [a.data.ptr for a in arrays]
    table[:, 4], table[:, 5] = sizes, flags
    count = chunks.shape[0]
    kernel(xp, lists[0][0].dtype, 32 * count, xp.asarray(table), chunks, count, length, *rest)


@functools.lru_cache(maxsize=16)
def _chunks(xp: Backend, sizes: tuple[int, ...]) -> tuple[Array, int]:
    """(tensor, first number) of every chunk, on the device, and the length of a chunk: at most some 4,000 chunks."""
    length = max(CHUNK, -(-sum(sizes) // 4096 // 32) * 32)
    starts = [(i, start) for i, size in enumerate(sizes) for start in range(0, size, length)]
    return xp.asarray(np.array(starts, np.int64).reshape(-1, 2)), length


def adamw(
    xp: Backend,
    parameters: Sequence[Array],
    gradients: Sequence[Array | None],
    m: Sequence[Array],
    v: Sequence[Array],
    decays: Sequence[bool],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    steps: int,
) -> bool:
    """Twin of `AdamW.update` for all parameters in one launch, in place; False where it does not fit and nothing was done."""
    there = [i for i, g in enumerate(gradients) if g is not None]
    p, g, m, v = ([xs[i] for i in there] for xs in (parameters, gradients, m, v))
    fit = all((a.shape, a.dtype) == (b.shape, b.dtype) for a, b in zip(p, g, strict=True))
    if not fit or not _alike(p, m, v):
        return False
    g = [_packed(xp, a) for a in g]
    b1, b2 = betas
    shrink, rate, root = 1 - lr * weight_decay, lr / (1 - b1**steps), math.sqrt(1 - b2**steps)
    numbers = (b1, 1 - b1, b2, 1 - b2, shrink, rate, root, eps)
    _over_all(adamw_all, xp, (p, g, m, v), [decays[i] for i in there], *map(float, numbers))
    return True


def global_norm(xp: Backend, gradients: Sequence[Array]) -> float | None:
    """Twin of `optim.global_norm`: √(Σ g²) in two launches and one wait; None where it does not fit."""
    gradients = [_packed(xp, g) for g in gradients]
    if not _alike(gradients):
        return None
    chunks, _ = _chunks(xp, tuple(g.size for g in gradients))
    partial = xp.empty((chunks.shape[0], 1), np.float64)
    _over_all(squares_all, xp, (gradients,), [False] * len(gradients), partial)
    return math.sqrt(_sum_columns(xp, partial).item())


def scaled(xp: Backend, gradients: Sequence[Array], factor: float) -> list[Array] | None:
    """Twin of `[factor * g for g in gradients]` in one launch; None where it does not fit."""
    gradients = [_packed(xp, g) for g in gradients]
    if not _alike(gradients):
        return None
    results = [xp.empty_like(g) for g in gradients]
    _over_all(scale_all, xp, (results, gradients), [False] * len(gradients), float(factor))
    return results
