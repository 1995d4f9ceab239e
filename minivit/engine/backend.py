"""NumPy and CuPy: everything that differs between them, and nothing else.

An operation receives its backend as `xp` and writes `xp.exp(x)` as it would with either library; the few functions that
the two do not share (`erf`, `scatter_add`, `row_sum`, …) are methods here.
"""

import functools
import importlib
import math
import os
import sys
from types import ModuleType
from typing import Any

import numpy as np

from minivit.engine.erf import erf, normal_cdf
from minivit.engine.errors import ConfigError, DeviceError, did_you_mean

Array = Any  # numpy.ndarray or cupy.ndarray


class Backend:
    """An array library: its own functions, plus those that NumPy and CuPy do not share."""

    name: str
    kernels: ModuleType | None = None  # operations written once more for this backend alone, which `@op` prefers

    def __init__(self, module: ModuleType):
        self.module = module
        self.array_type = module.ndarray

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.module, name)
        self.__dict__[name] = value  # found once, then as fast as the module itself
        return value

    def __repr__(self) -> str:
        return f"<backend {self.name}>"

    def __reduce__(self):
        return get_backend, (self.name,)


class NumpyBackend(Backend):
    """Arrays in ordinary memory."""

    name = "numpy"
    erf = staticmethod(erf)
    normal_cdf = staticmethod(normal_cdf)

    def to_numpy(self, x: Array) -> np.ndarray:
        """The array itself: it is already where NumPy can read it."""
        return x

    def from_host(self, x: Any, dtype: Any = None) -> Array:
        """A NumPy array (or anything NumPy understands) as an array of this backend."""
        return np.asarray(x, dtype)

    def scatter_add(self, target: Array, index: Any, values: Array) -> None:
        """`target[index] += values`, counting repeated indices as often as they appear."""
        np.add.at(target, index, values)

    def row_sum(self, x: Array) -> Array:
        """Sums along the last axis, kept: (..., n) -> (..., 1)."""
        n = x.shape[-1]  # a product adds several times faster than sum(axis=-1): 5 % of a step on W1 and W2
        return (x.reshape(-1, n) @ np.ones(n, x.dtype)).reshape(*x.shape[:-1], 1)

    def column_sum(self, x: Array) -> Array:
        """Sums over the rows: (n, m) -> (m,)."""
        return np.ones(len(x), x.dtype) @ x

    def row_dot(self, x: Array, y: Array) -> Array:
        """Dot products of rows: (..., n), (..., n) -> (..., 1); of float16 in float32, where a square may be too large."""
        return np.vecdot(_widened(x), y)[..., None]

    def shift_for_exp(self, x: Array) -> Array | None:
        """What to take off rows before exp: their largest value (..., 1), or None where exp of all of them is an ordinary number.

        Two looks at the whole array are many times faster than finding the largest of each short row: 3 to 6 % of a step.
        """
        low, high = _EXP_RANGE.get(x.dtype.char, (0, 0))
        if x.size and x.min() > low and x.max() < high - math.log(x.shape[-1]):
            return None
        return x.max(axis=-1, keepdims=True)

    def synchronize(self) -> None:
        """Nothing to wait for: NumPy returns when it is done."""

    def memory(self) -> int | None:
        """Bytes held by this process at its peak, or None where the system does not tell."""
        try:
            import resource
        except ImportError:  # Windows
            return None
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


class CupyBackend(Backend):
    """Arrays on the GPU. `extensions` is the cupyx package."""

    name = "cupy"

    def __init__(self, module: ModuleType, extensions: ModuleType):
        super().__init__(module)
        self.extensions = extensions

    @functools.cached_property
    def kernels(self) -> ModuleType:
        """The CUDA twins; setting it to None on a backend computes without them."""
        return importlib.import_module("minivit.engine.kernels")

    def erf(self, x: Array) -> Array:
        return self.extensions.scipy.special.erf(x)

    def normal_cdf(self, x: Array, squared: Array, out: Array) -> None:
        out[...] = 0.5 * (1 + self.erf(x * 0.5**0.5))

    def to_numpy(self, x: Array) -> np.ndarray:
        return x.get()

    def from_host(self, x: Any, dtype: Any = None) -> Array:
        return self.module.asarray(np.asarray(x, dtype))

    def scatter_add(self, target: Array, index: Any, values: Array) -> None:
        self.extensions.scatter_add(target, index, values)

    def row_sum(self, x: Array) -> Array:
        return x.sum(axis=-1, keepdims=True)

    def column_sum(self, x: Array) -> Array:
        return x.sum(axis=0)

    def row_dot(self, x: Array, y: Array) -> Array:
        return (_widened(x) * y).sum(axis=-1, keepdims=True)

    def shift_for_exp(self, x: Array) -> Array | None:
        return x.max(axis=-1, keepdims=True)  # a look would have to wait for the GPU

    def synchronize(self) -> None:
        self.module.cuda.get_current_stream().synchronize()

    def memory(self) -> int | None:
        return self.module.get_default_memory_pool().total_bytes()


def _widened(x: Array) -> Array:
    return x.astype(np.float32) if x.dtype == np.float16 else x


_EXP_RANGE = {t: tuple(math.log(end) for end in (np.finfo(t).tiny, np.finfo(t).max)) for t in "efd"}

_numpy = NumpyBackend(np)
_by_type: dict[type, Backend] = {np.ndarray: _numpy}
_by_name: dict[str, Backend] = {"numpy": _numpy}
_default: Backend | None = None


def register(backend: Backend) -> Backend:
    """Make a backend known by its name and its array type."""
    _by_type[backend.array_type] = backend
    _by_name[backend.name] = backend
    return backend


def get_backend(name: str) -> Backend:
    """The backend `"numpy"` or `"cupy"`. Raises `ConfigError` for another name, `DeviceError` where there is no GPU."""
    if name in _by_name:
        return _by_name[name]
    if name != "cupy":
        raise ConfigError(f"unknown backend {name!r}: choose 'numpy' or 'cupy'{did_you_mean(name, ['numpy', 'cupy'])}")
    try:
        cupy = importlib.import_module("cupy")
        extensions = importlib.import_module("cupyx")
        importlib.import_module("cupyx.scipy.special")
    except ImportError as error:
        raise DeviceError(
            "backend 'cupy': CuPy is not installed; `pip install -r requirements-gpu.txt`, or use 'numpy'"
        ) from error
    if not cupy.cuda.is_available():
        raise DeviceError("backend 'cupy': CuPy finds no CUDA GPU on this machine; use 'numpy'")
    return register(CupyBackend(cupy, extensions))


def use(name: str) -> None:
    """Make new arrays on `"numpy"` or `"cupy"` from now on; existing arrays stay where they are."""
    global _default
    _default = get_backend(name)


def default_backend() -> Backend:
    """Where new arrays are made: the last `use(...)`, else the environment's MINIVIT_BACKEND, else NumPy."""
    if _default is None:
        use(os.environ.get("MINIVIT_BACKEND", "numpy"))
    return _default


def is_array(x: Any) -> bool:
    """Whether `x` is an array of a known backend."""
    return type(x) in _by_type or isinstance(x, np.ndarray) or _is_cupy(x)


def _is_cupy(x: Any) -> bool:
    """Whether `x` is an array of CuPy, which may not be registered yet."""
    return type(x).__name__ == "ndarray" and type(x).__module__.partition(".")[0] == "cupy"


def backend_of(x: Array) -> Backend:
    """The backend that an array belongs to. Raises `DeviceError` for anything that is not an array."""
    backend = _by_type.get(type(x))
    if backend is not None:
        return backend
    if isinstance(x, np.ndarray):  # a subclass such as np.memmap
        return _numpy
    if _is_cupy(x):
        return get_backend("cupy")
    raise DeviceError(f"expected a NumPy or CuPy array, got {type(x).__name__}")


def to_numpy(x: Array) -> np.ndarray:
    """A host copy of an array of any backend (NumPy arrays are returned as they are)."""
    return backend_of(x).to_numpy(x)
