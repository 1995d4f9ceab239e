"""Matrix products on the GPU, straight to cuBLAS: heads, transposes and slices of packed arrays without a copy.

`cupy.matmul` copies every operand that is not contiguous, which is each of q, k and v. cuBLAS itself wants no more than
unit steps along one of a matrix's two axes and equal steps from matrix to matrix; that is all that is arranged here.

`CUPY_TF32=1` in the environment, before the first product, lets every float32 product of minivit round its factors to
TF32 (10 bits of mantissa, errors of about 1e-3; sums stay float32), on GPUs since Ampere; float64 is not affected. CuPy
reads the same variable for its own 2-D products alone.
"""

import contextlib
import functools
import itertools
import os
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple

import numpy as np

from minivit.engine.backend import Array, Backend

TF32_TENSOR_OP_MATH = 3  # CUBLAS_TF32_TENSOR_OP_MATH of cublas_api.h, which CuPy does not name
_replacement: ContextVar[tuple[Any, int] | None] = ContextVar("cublas", default=None)


def product(xp: Backend, a: Array, b: Array, out: Array | None = None, scale: float = 1.0) -> Array:
    """scale · a @ b of float32 or float64: (…, n, k), (…, k, m) -> (…, n, m), the leading axes equal.

    `out`, of any layout whose rows have unit steps, is filled where it is given. Its NumPy twin is `np.matmul`.
    """
    (n, k), m = a.shape[-2:], b.shape[-1]
    if out is None:
        out = xp.empty((*a.shape[:-1], m), a.dtype)
    if k == 0:
        out[...] = 0
    if not out.size or k == 0:
        return out
    a, b, c = _readable(xp, a), _readable(xp, b), out
    # cuBLAS reads columns first, so it sees the transpose of each array: ask it for (a b)ᵀ = bᵀ aᵀ.
    left, right, target = _matrix(b), _matrix(a), _matrix(c)
    library, handle = _cublas(xp)
    name = {"f": "sgemm", "d": "dgemm"}[a.dtype.char]
    operations = [library.CUBLAS_OP_T if x.transposed else library.CUBLAS_OP_N for x in (left, right)]
    factors, one = _factors(scale, a.dtype.char)
    zero = one + factors.itemsize
    count, strides, starts = _stacks(b, a, c)
    for start in starts:
        pointers = [x.data.ptr + offset * x.itemsize for x, offset in zip((b, a, c), start, strict=True)]
        if count == 1:
            getattr(library, name)(
                handle, *operations, m, n, k,
                one, pointers[0], left.step, pointers[1], right.step, zero, pointers[2], target.step,
            )  # fmt: skip
        else:
            getattr(library, name + "StridedBatched")(
                handle, *operations, m, n, k,
                one, pointers[0], left.step, strides[0], pointers[1], right.step, strides[1],
                zero, pointers[2], target.step, strides[2], count,
            )  # fmt: skip
    return out


class _Matrix(NamedTuple):
    """The last two axes of an array as cuBLAS is told of them."""

    transposed: bool  # its columns have unit steps, not its rows
    step: int  # elements from one row (or column) to the next: the "leading dimension"


def _matrix(x: Array) -> _Matrix | None:
    """How cuBLAS can read the last two axes, or None where neither of them has unit steps."""
    rows, columns = x.shape[-2:]
    down, along = (stride // x.itemsize for stride in x.strides[-2:])
    if (columns == 1 or along == 1) and (rows == 1 or down >= columns):
        return _Matrix(False, down if rows > 1 else columns)  # the step of an axis of length 1 means nothing
    if (rows == 1 or down == 1) and (columns == 1 or along >= rows):
        return _Matrix(True, along if columns > 1 else rows)
    return None


def _readable(xp: Backend, x: Array) -> Array:
    """The array itself, or a contiguous copy where cuBLAS could not read it (a broadcast gradient, a reversed axis)."""
    if _matrix(x) is None or any(stride < 0 for stride in x.strides):
        return xp.ascontiguousarray(x)
    return x


def _stacks(*arrays: Array) -> tuple[int, list[int], Iterator[tuple[int, ...]]]:
    """How to walk the leading axes: matrices in one call, elements between them in each array, where each call starts.

    Axes that lie evenly one inside the other in every array are one axis; of those left, the longest goes into a call.
    """
    axes: list[tuple[int, ...]] = []  # (length, step in the first array, in the second, …)
    for axis, length in enumerate(arrays[0].shape[:-2]):
        steps = [x.strides[axis] // x.itemsize for x in arrays]
        if length == 1:
            continue
        if axes and all(outer == length * step for outer, step in zip(axes[-1][1:], steps, strict=True)):
            axes[-1] = (axes[-1][0] * length, *steps)
        else:
            axes.append((length, *steps))
    if not axes:
        return 1, [0] * len(arrays), iter([(0,) * len(arrays)])
    longest = max(range(len(axes)), key=lambda i: axes[i][0])
    count, *strides = axes.pop(longest)
    places = itertools.product(*(range(length) for length, *_ in axes))
    starts = (
        tuple(sum(i * axis[1 + x] for i, axis in zip(place, axes, strict=True)) for x in range(len(arrays)))
        for place in places
    )
    return count, strides, starts


@functools.lru_cache(maxsize=64)
def _factors(scale: float, char: str) -> tuple[np.ndarray, int]:
    """`scale` and 0 where cuBLAS can read them: the array that keeps them alive, and the address of the first."""
    kept = np.array([scale, 0.0], char)
    return kept, kept.ctypes.data


def _cublas(xp: Backend) -> tuple[Any, int]:
    """CuPy's cuBLAS functions and its handle, which is bound to the current stream at each call."""
    replacement = _replacement.get()
    if replacement is not None:
        return replacement
    library, handle = xp.module.cuda.cublas, xp.module.cuda.device.get_cublas_handle()
    _choose_precision(library, handle)
    return library, handle


@functools.lru_cache(maxsize=64)
def _choose_precision(library: Any, handle: int) -> None:
    if int(os.environ.get("CUPY_TF32", "0")) > 0:
        library.setMathMode(handle, TF32_TENSOR_OP_MATH)


@contextlib.contextmanager
def through(library: Any, handle: int) -> Iterator[None]:
    """Inside, products call `library.sgemm(handle, …)` and its kin in place of CuPy's, which refuse stream capture."""
    token = _replacement.set((library, handle))
    try:
        yield
    finally:
        _replacement.reset(token)
