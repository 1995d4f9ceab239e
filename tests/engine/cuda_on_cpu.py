"""The CUDA kernels, run on a processor: their source compiled as C++ behind cuda_on_cpu.h, launched as CuPy would.

`RawKernel` and `Cublas` stand in for CuPy's in the stand-in of fake_cupy.py, so that minivit's own code launches them:
the arrays, the numbers of blocks, the types and the order of the arguments are all tested with the arithmetic.

Every array is handed over in a copy with a margin on either side, of NaN where the kernel only reads and of an unlikely
number where it writes: reading beyond an array's end gives nonsense, writing there, or into an array that the kernel calls
const, is caught.

What it cannot see: the number of registers or blocks that a GPU has, memory that two warps write at once, the accuracy of
CUDA's own exp, erf and tanh, and speed.
"""

import contextlib
import ctypes
import functools
import re
import shutil
import subprocess
import tempfile
import types
from pathlib import Path

import numpy as np
from fake_cupy import cupy as stand_in
from fake_cupy import ndarray

from minivit.engine import backend as backends
from minivit.engine import kernels

COMPILER = shutil.which("g++") or shutil.which("clang++")
MARGIN = 4096  # more than any slip of a row or a block
SIGNATURE = re.compile(r'extern "C" __global__ void (\w+)\((.*?)\) \{', re.DOTALL)
NUMBERS = {"float": np.float32, "double": np.float64}


class DiffersOnGPU(AssertionError):
    """Something that a GPU would not forgive."""


def parameters(code, name):
    """The C types of a kernel's parameters."""
    found = {found[1]: found[2] for found in SIGNATURE.finditer(code)}[name]
    return [" ".join(p.split()[:-1]) for p in found.split(",")]


def build(*codes):
    """The launchers of kernels by their code: one compilation for all."""
    texts, names = ['#include "cuda_on_cpu.h"\n'], {}
    for i, code in enumerate(codes):
        (name, _), *_ = SIGNATURE.findall(code)
        values = ", ".join(f"*({kind}*)a[{j}]" for j, kind in enumerate(parameters(code, name)))
        launcher = f'extern "C" unsigned launch{i}(unsigned grid, unsigned block, int order, void** a)'
        thread = f"static void thread(void** a) {{ {name}({values}); }}"
        text = code.replace('extern "C" __global__', "static")
        texts.append(
            f"namespace kernel{i} {{\n{text}\n{thread}\n{launcher} {{ return run(grid, block, order, thread, a); }}\n}}\n"
        )
        names[code] = f"launch{i}"
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "kernels.cpp"), Path(folder, "kernels.so")
        source.write_text("".join(texts))
        flags = ["-std=c++17", "-O1", "-shared", "-fPIC", "-ffp-contract=off", f"-I{Path(__file__).parent}"]
        done = subprocess.run([COMPILER, *flags, source, "-o", library], capture_output=True, text=True)
        if done.returncode:
            raise DiffersOnGPU(f"the kernels do not compile as C++:\n{done.stderr[:4000]}")
        loaded = ctypes.CDLL(str(library))
    return {code: getattr(loaded, name) for code, name in names.items()}


@functools.cache
def all_kernels():
    """Every kernel in both number types."""
    return build(*(k.code(dtype) for k in kernels.KERNELS.values() for dtype in (np.float32, np.float64)))


class RawKernel:
    """cupy.RawKernel, on the processor."""

    order = 0  # in which the threads of a warp, and the blocks, take their turns
    launches: list[str] = []
    built: dict = {}  # kernels to use in place of minivit's own

    def __init__(self, code, name):
        self.name = name
        self._parameters = parameters(code, name)
        self._real = NUMBERS[re.match(r"typedef (\w+) REAL;", code)[1]]
        self._launch = (RawKernel.built or all_kernels())[code]

    def __call__(self, grid, block, args, *, shared_mem=0):
        (blocks,), (threads,) = grid, block
        if not 1 <= blocks < 2**31 or not 1 <= threads <= 1024 or shared_mem:
            raise DiffersOnGPU(f"{self.name}: grid {grid}, block {block}, {shared_mem} bytes shared")
        if len(args) != len(self._parameters):
            raise DiffersOnGPU(f"{self.name}: {len(args)} arguments for {len(self._parameters)} parameters")
        RawKernel.launches.append(self.name)
        guarded, values = {}, []
        for kind, value in zip(self._parameters, args, strict=True):
            values.append(self._value(kind, value, guarded))
        for guard in guarded.values():
            guard.fill()
        addresses = (ctypes.c_void_p * len(values))(*(v.ctypes.data for v in values))
        wrong = self._launch(blocks, threads, RawKernel.order, addresses)
        if wrong:
            raise DiffersOnGPU(f"{self.name}: the threads of a warp did not meet at an exchange")
        for guard in guarded.values():
            guard.take_back(self.name)

    def _value(self, kind, value, guarded):
        """One argument as the bytes that the kernel reads."""
        if not kind.endswith("*"):
            wanted = {"Index": np.int64, "REAL": self._real}[kind]
            if type(value) is not wanted:
                raise DiffersOnGPU(f"{self.name}: {type(value).__name__} for a parameter {kind} = {wanted.__name__}")
            return np.array(value)
        if isinstance(value, np.uint64) and value == 0:
            return np.array(value)
        pointed = kind.removeprefix("const ").removesuffix("*")
        wanted = {"REAL": self._real, "double": np.float64}.get(pointed, np.int64)
        if not isinstance(value, ndarray) or value.dtype != wanted:
            raise DiffersOnGPU(f"{self.name}: {type(value).__name__} for a parameter {kind} = {wanted.__name__}*")
        if not value.flags.c_contiguous:
            raise DiffersOnGPU(f"{self.name}: the array {value.shape} has gaps, which the kernel does not know of")
        key = value.data.ptr, value.size
        guard = guarded.setdefault(key, _Guarded(value._host))
        guard.constant = guard.constant and kind.startswith("const ")
        return np.array(guard.address, np.uint64)


class _Guarded:
    """A copy of an array between two margins."""

    def __init__(self, host):
        self.host, self.constant = host, True
        self.copy = np.empty(host.size + 2 * MARGIN, host.dtype)
        self.address = self.copy[MARGIN:].ctypes.data

    def fill(self):
        self.margin = np.nan if self.constant and self.host.dtype.kind == "f" else -987654321
        self.copy[:] = self.margin
        self.copy[MARGIN : MARGIN + self.host.size] = self.host.reshape(-1)

    def take_back(self, name):
        before, values, after = np.split(self.copy, [MARGIN, MARGIN + self.host.size])
        for part in (before, after):
            if not np.array_equal(part, np.full_like(part, self.margin), equal_nan=self.constant):
                raise DiffersOnGPU(f"{name} writes beyond an array of shape {self.host.shape}")
        if self.constant:
            if not np.array_equal(values, self.host.reshape(-1), equal_nan=values.dtype.kind == "f"):
                raise DiffersOnGPU(f"{name} writes into an array {self.host.shape} that it calls const")
        else:
            self.host[...] = values.reshape(self.host.shape)


class Cublas:
    """The functions of cupy.cuda.cublas that minivit calls, with the parameters that CuPy 14.2 gives them."""

    CUBLAS_OP_N, CUBLAS_OP_T = 0, 1

    def __init__(self):
        self.calls, self.mode = [], 0

    def setMathMode(self, handle, mode):
        self.mode = mode

    def sgemm(self, handle, transa, transb, m, n, k, alpha, A, lda, B, ldb, beta, C, ldc):
        self._gemm("f", transa, transb, m, n, k, alpha, A, lda, 0, B, ldb, 0, beta, C, ldc, 0, 1)

    def dgemm(self, handle, transa, transb, m, n, k, alpha, A, lda, B, ldb, beta, C, ldc):
        self._gemm("d", transa, transb, m, n, k, alpha, A, lda, 0, B, ldb, 0, beta, C, ldc, 0, 1)

    def sgemmStridedBatched(
        self,
        handle,
        transa,
        transb,
        m,
        n,
        k,
        alpha,
        A,
        lda,
        strideA,
        B,
        ldb,
        strideB,
        beta,
        C,
        ldc,
        strideC,
        batchCount,
    ):
        self._gemm(
            "f", transa, transb, m, n, k, alpha, A, lda, strideA, B, ldb, strideB, beta, C, ldc, strideC, batchCount
        )

    def dgemmStridedBatched(
        self,
        handle,
        transa,
        transb,
        m,
        n,
        k,
        alpha,
        A,
        lda,
        strideA,
        B,
        ldb,
        strideB,
        beta,
        C,
        ldc,
        strideC,
        batchCount,
    ):
        self._gemm(
            "d", transa, transb, m, n, k, alpha, A, lda, strideA, B, ldb, strideB, beta, C, ldc, strideC, batchCount
        )

    def _gemm(self, char, transa, transb, m, n, k, alpha, a, lda, step_a, b, ldb, step_b, beta, c, ldc, step_c, count):
        """C = α op(A) op(B) + β C for every matrix of the stack; all are stored column by column, as cuBLAS has them."""
        shape_a, shape_b = (k, m) if transa else (m, k), (n, k) if transb else (k, n)
        for what, least, step in (("lda", shape_a[0], lda), ("ldb", shape_b[0], ldb), ("ldc", m, ldc)):
            if step < max(1, least):
                raise DiffersOnGPU(f"{char}gemm: {what} = {step} is less than {least}: CUBLAS_STATUS_INVALID_VALUE")
        if min(m, n, k) < 1 or count < 1:
            raise DiffersOnGPU(f"{char}gemm: an empty product {m, n, k} of {count}")
        scale, kept = (_memory(char, address, 1)[0] for address in (alpha, beta))
        for i in range(count):
            left, right = _columns(char, a, i * step_a, shape_a, lda), _columns(char, b, i * step_b, shape_b, ldb)
            out = _columns(char, c, i * step_c, (m, n), ldc)
            found = scale * ((left.T if transa else left) @ (right.T if transb else right))
            out[...] = found + kept * out if kept else found
        self.calls.append((char, transa, transb, m, n, k, count))


def _memory(char, address, n):
    kind = {"f": ctypes.c_float, "d": ctypes.c_double}[char]
    return np.ctypeslib.as_array((kind * n).from_address(address))


def _columns(char, address, offset, shape, step):
    size = np.dtype(char).itemsize
    flat = _memory(char, address + offset * size, (shape[1] - 1) * step + shape[0])
    return np.lib.stride_tricks.as_strided(flat, shape, (size, step * size))


@contextlib.contextmanager
def cuda_on_cpu(monkeypatch):
    """Inside, the stand-in for CuPy has a GPU: yields its backend, with `launches` and `cublas` to look at."""
    xp = backends.get_backend("fake_cupy")
    cublas = Cublas()
    monkeypatch.setattr(stand_in, "RawKernel", RawKernel)
    monkeypatch.setitem(vars(stand_in.cuda), "cublas", cublas)
    monkeypatch.setitem(vars(stand_in.cuda), "device", types.SimpleNamespace(get_cublas_handle=lambda: 1))
    monkeypatch.setattr(xp, "kernels", kernels)
    RawKernel.launches, RawKernel.order, RawKernel.built = [], 0, {}
    yield types.SimpleNamespace(xp=xp, cublas=cublas, launches=RawKernel.launches)
