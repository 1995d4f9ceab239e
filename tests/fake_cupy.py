"""A stand-in for CuPy: NumPy underneath, CuPy 14's rules on top, so that the GPU path is tested where there is no GPU.

`cupy` and `cupyx` below behave like the packages of those names: `CupyBackend(cupy, cupyx)`, or `with installed():` for
code that imports them. Their arrays are not NumPy arrays and never turn into one, and only the names and keywords in
cupy_api.json exist (a snapshot of the real package, made by scripts/make_cupy_api.py).

Where CuPy silently does something else than NumPy, the stand-in raises `DiffersOnGPU`: assignment through an index array
that repeats a place (undefined), and an index array out of bounds (wrapped around). Where CuPy is more lenient than
portable code needs, the stand-in is stricter: NumPy arrays are refused as indices and as values to assign, `np.exp(x)`
and its like are refused (CuPy would dispatch them), and names that NumPy 2 does not share are absent.

What it cannot see:
- the keywords of compiled ufuncs, which have no signature (`out`, `dtype` and `casting` are from CuPy's source);
- which dtypes a CuPy function accepts, and details of promotion (float64, bool) that differ from NumPy's;
- a wrong CUDA kernel, a missing synchronisation, a race; the order of atomic additions, so the last digits of a sum;
- errors that CuPy does not raise because it does not wait for the result: a singular matrix, an integer to a
  negative power;
- speed and memory: `used_bytes()` is 0, and every call costs some microseconds more than NumPy's.
"""

import contextlib
import functools
import inspect
import json
import math
import sys
import types
from pathlib import Path

import numpy as np

API = json.loads(Path(__file__).with_name("cupy_api.json").read_text(encoding="utf-8"))
IMPLICIT = (
    "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy array explicitly."
)
SCALARS = (bool, int, float, complex, np.generic)

# Functions that may be given an array of the host: they are how data reach the device.
UPLOADS = {"array", "asarray", "asanyarray", "ascontiguousarray", "asfortranarray"}
# A first argument of one of these names must be an array of the device, where NumPy would take a list or a number.
ARRAYS_ONLY = {"a", "a1", "x", "m", "arr", "array", "ary", "condition", "tup"}
LENIENT = UPLOADS | {"shape", "ndim", "isclose", "nan_to_num", "iscomplexobj", "isrealobj"}
# An argument of one of these names must be made of Python integers: CuPy's arrays have no __index__.
INTEGERS_ONLY = {"shape", "newshape", "axis", "axes", "axis1", "axis2", "source", "destination", "indices_or_sections"}
INTEGERS_ONLY |= {"size", "num", "N", "n", "k", "repeats", "reps", "pad_width", "decimals", "ndmin", "kth", "ddof"}
INTEGERS_ONLY |= {"window_shape", "strides", "offset"}
# These return a Python number in NumPy and an array of the device in CuPy.
BOXED = {"allclose", "array_equal", "array_equiv", "count_nonzero"}
# Documented keywords behind a `**kwargs`.
KEYWORDS = {"einsum": {"dtype", "optimize"}}
# In both libraries, with behaviour that differs more than is worth imitating.
NOT_PORTABLE = {"put", "putmask", "place", "apply_along_axis", "apply_over_axes", "fromfunction", "piecewise", "flat"}
# Python's operators, and the elementwise functions that CuPy's arrays call for them.
OPERATORS = {"add": "add", "sub": "subtract", "mul": "multiply", "truediv": "true_divide", "floordiv": "floor_divide"}
OPERATORS |= {"mod": "remainder", "divmod": "divmod", "pow": "power", "matmul": "matmul", "and": "bitwise_and"}
OPERATORS |= {"or": "bitwise_or", "xor": "bitwise_xor", "lshift": "left_shift", "rshift": "right_shift"}
COMPARISONS = {"lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal"}
COMPARISONS |= {"eq": "equal", "ne": "not_equal"}
UNARY = {"neg": "negative", "pos": "positive", "abs": "absolute", "invert": "invert"}


class DiffersOnGPU(AssertionError):
    """The real CuPy would neither raise nor do what NumPy does."""


def _no_cuda(*args, **kwargs):
    raise NotImplementedError("the stand-in cannot run CUDA")


@functools.cache
def _signature(text):
    return inspect.signature(eval(f"lambda {text[1:-1]}: None"))  # the snapshot writes parameters as Python does


def _unwrap(value, seen, upload=False):
    """The NumPy arrays inside; `seen` remembers whose they are, so that a result can be recognised as an argument."""
    if isinstance(value, ndarray):
        seen[id(value._host)] = value
        return value._host
    if isinstance(value, np.ndarray):
        if upload:
            return value.copy()
        raise TypeError(f"Unsupported type {type(value)}")
    if isinstance(value, list | tuple):
        return type(value)([_unwrap(v, seen, upload) for v in value])
    return value


def _wrap(value, seen=None):
    """Every NumPy array or scalar in a result as an array of the device."""
    if isinstance(value, np.ndarray | np.generic):
        if seen and id(value) in seen:
            return seen[id(value)]
        value = np.asarray(value)
        if value.dtype.char not in "?bhilqBHILQefdFD":
            raise ValueError(f"Unsupported dtype {value.dtype}")
        array = object.__new__(ndarray)
        object.__setattr__(array, "_host", value)
        return array
    if isinstance(value, tuple):
        return tuple(_wrap(v, seen) for v in value)
    return [_wrap(v, seen) for v in value] if isinstance(value, list) else value


@contextlib.contextmanager
def _gpu_manners(indexed=True):
    """No floating-point warnings, and no IndexError where CuPy would wrap an index around."""
    try:
        with np.errstate(all="ignore"):
            yield
    except IndexError as error:
        if not indexed or isinstance(error, np.exceptions.AxisError) or "out of bounds" not in str(error):
            raise
        raise DiffersOnGPU(f"{error}: CuPy would wrap the index around and go on") from None


def _run(function, args, kwargs, upload=False):
    seen = {}
    args = [_unwrap(a, seen, upload) for a in args]
    kwargs = {k: _unwrap(v, seen, upload) for k, v in kwargs.items()}
    with _gpu_manners():
        return _wrap(function(*args, **kwargs), seen)


def _check(name, text, args, kwargs):
    """Bind the arguments as CuPy's function would, and refuse kinds of argument that only NumPy's takes."""
    arguments = _signature(text).bind(*args, **kwargs).arguments
    unknown = set(arguments.get("kwargs", ())) - KEYWORDS.get(name, set(kwargs))
    if unknown:
        raise TypeError(f"cupy.{name} did not understand {sorted(unknown)}")
    for i, (parameter, value) in enumerate(arguments.items()):
        parts = value if isinstance(value, list | tuple) else [value]
        if parameter in ARRAYS_ONLY and name not in LENIENT:
            for part in parts if parameter == "tup" else [value]:
                if not isinstance(part, ndarray) and (i == 0 or not isinstance(part, SCALARS)):
                    raise TypeError(f"cupy.{name}: {parameter!r} must be a cupy.ndarray, not {type(part).__name__}")
        if parameter in INTEGERS_ONLY and any(isinstance(p, ndarray) for p in parts):
            raise TypeError(f"cupy.{name}: in {parameter!r}, a cupy.ndarray cannot be interpreted as an integer")
    return arguments


def _index(key):
    """An index as NumPy takes it, and the index arrays in it; an Ellipsis makes x[0] a 0-d view instead of a scalar."""
    parts, arrays = [], []
    for part in key if isinstance(key, tuple) else (key,):
        if isinstance(part, np.ndarray):
            raise TypeError(f"Unsupported type {type(part)} as an index: move it to the device first")
        if isinstance(part, ndarray | list | tuple):
            part = part._host if isinstance(part, ndarray) else np.array(part, None if part else int)
            arrays.append(part)
        parts.append(part)
    if not any(p is Ellipsis for p in parts):
        parts.append(Ellipsis)
    return tuple(parts), arrays


def _refuse_repeats(places):
    if np.unique(places).size < np.size(places):
        raise DiffersOnGPU("an integer index repeats a place: which value stays is undefined in CuPy (use scatter_add)")


def _value(value):
    """What may be assigned or scattered: an array of the device or a number."""
    if isinstance(value, ndarray):
        return value._host
    if isinstance(value, SCALARS):
        return value
    raise TypeError(f"Unsupported type {type(value)}")


class ndarray:
    """An array that lives "on the device": the NumPy array in `_host`, out of NumPy's reach."""

    __slots__ = ("_host", "__weakref__")
    __module__ = "cupy"
    __hash__ = None
    __array_priority__ = 100

    def __new__(cls, shape, dtype=float, order="C"):
        return cupy.empty(shape, dtype, order)

    def __setattr__(self, name, value):
        if name not in ("real", "imag"):
            raise AttributeError(f"attribute {name!r} of 'cupy.ndarray' cannot be set")
        setattr(self._host, name, _value(value))

    def __array__(self, dtype=None, copy=None):
        raise TypeError(IMPLICIT)

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        # np.float32(2) * x arrives here and is allowed; np.exp(x) and host * x are not. NumPy's scalars turn themselves
        # into 0-d arrays before they compare, and CuPy lets those pass.
        if ufunc.__name__ in COMPARISONS.values():
            inputs = [v[()] if isinstance(v, np.ndarray) and v.ndim == 0 else v for v in inputs]
        for value in (*inputs, *kwargs.get("out", ())):
            _unwrap(value, {})
        if method == "__call__" and any(isinstance(v, np.generic) for v in inputs):
            return getattr(cupy, ufunc.__name__)(*inputs, **kwargs)
        raise TypeError(f"{IMPLICIT} (np.{ufunc.__name__} of an array of the device: write xp.{ufunc.__name__})")

    def __array_function__(self, function, kinds, args, kwargs):
        raise TypeError(f"{IMPLICIT} (np.{function.__name__} of an array of the device: write xp.…)")

    def __getitem__(self, key):
        key, arrays = _index(key)
        with _gpu_manners(indexed=bool(arrays)):
            part = self._host[key]
        return _wrap(part)

    def __setitem__(self, key, value):
        key, arrays = _index(key)
        value = _value(value)
        with _gpu_manners(indexed=bool(arrays)):
            if np.size(value) > 1 and any(a.dtype.kind in "iu" for a in arrays):
                _refuse_repeats(np.arange(self.size).reshape(self.shape)[key])
            self._host[key] = value

    def _scatter(self, host_ufunc, key, value, dtypes):
        key, arrays = _index(key)
        if any(a.dtype.kind in "iu" for a in arrays) and self.dtype.char not in dtypes:
            raise TypeError(f"cupy.{host_ufunc.__name__}.at has no atomic operation for {self.dtype}")
        with _gpu_manners(indexed=bool(arrays)):
            host_ufunc.at(self._host, key, _value(value))

    def scatter_add(self, slices, value):
        cupy.add.at(self, slices, value)

    def scatter_max(self, slices, value):
        cupy.maximum.at(self, slices, value)

    def scatter_min(self, slices, value):
        cupy.minimum.at(self, slices, value)

    def get(self, stream=None, order="C", out=None, blocking=True):
        if out is None:
            return self._host.copy(order)
        if (out.dtype, out.shape) != (self.dtype, self.shape):
            raise TypeError(f"{out.dtype} {out.shape} cannot be obtained from {self.dtype} {self.shape}")
        out[...] = self._host
        return out

    def set(self, arr, stream=None):
        if not isinstance(arr, np.ndarray) or arr.dtype != self.dtype:
            raise TypeError(f"only a numpy.ndarray of {self.dtype} can be set")
        if arr.shape != self.shape:
            raise ValueError(f"Shape mismatch. Old shape: {self.shape}, new shape: {arr.shape}")
        self._host[...] = arr

    @property
    def data(self):
        return types.SimpleNamespace(ptr=self._host.ctypes.data, device=_Device(), device_id=0)

    @property
    def device(self):
        return _Device()

    @property
    def flags(self):
        f = self._host.flags
        return types.SimpleNamespace(c_contiguous=f.c_contiguous, f_contiguous=f.f_contiguous, owndata=f.owndata)

    def __iter__(self):
        if not self.ndim:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self)))

    def __copy__(self):
        return self.copy()

    def __deepcopy__(self, memo):
        return self.copy()

    def __reduce__(self):
        return _wrap, (self._host,)


def _method(name, text):
    def method(self, *args, **kwargs):
        _check(name, text, args, kwargs)
        return _run(getattr(np.ndarray, name), (self, *args), kwargs)

    return method


def _attribute(name):
    return lambda self: _wrap(getattr(self._host, name), {id(self._host): self})


def _from_host(function):
    return lambda self, *args: function(self._host, *args)


def _may_handle(other):
    """False where CuPy's operators step back and let the other operand's reflected operator answer."""
    return getattr(other, "__array_ufunc__", NotImplemented) is not None


def _operator(name, order, inplace=False):
    def method(self, other, modulo=None):
        if inplace:
            return getattr(cupy, name)(self, other, out=self)
        return getattr(cupy, name)(*(self, other)[::order]) if _may_handle(other) else NotImplemented

    return method


def _build_ndarray():
    """Give ndarray the methods and operators of the snapshot that are not written out in the class."""
    api = API["cupy.ndarray"]
    own = set(vars(ndarray)) | NOT_PORTABLE
    for name, text in api.items():
        if text != "special" and name not in own and hasattr(np.ndarray, name):
            setattr(ndarray, name, property(_attribute(name)) if text == "attribute" else _method(name, text))
    for short, name in OPERATORS.items():
        setattr(ndarray, f"__{short}__", _operator(name, 1))
        setattr(ndarray, f"__r{short}__", _operator(name, -1))
        if f"__i{short}__" in api:  # there is no __imatmul__
            setattr(ndarray, f"__i{short}__", _operator(name, 1, inplace=True))
    for short, name in COMPARISONS.items():
        setattr(ndarray, f"__{short}__", _operator(name, 1))
    for short, name in UNARY.items():
        setattr(ndarray, f"__{short}__", lambda self, name=name: getattr(cupy, name)(self))
    for function in (bool, int, float, complex, bytes, repr, str, format, len):
        setattr(ndarray, f"__{function.__name__}__", _from_host(function))


class ufunc:
    """One of CuPy's elementwise functions."""

    def __init__(self, name, text, host=None):
        _, nin, nout, *at = text.split()
        self.name, self.nin, self.nout, self.nargs = f"cupy_{name}", int(nin), int(nout), int(nin) + int(nout)
        self.__name__, self._host, self._atomic = name, host or getattr(np, name), bool(at)

    def __call__(self, *args, **kwargs):
        unknown = {k: v for k, v in kwargs.items() if k not in ("out", "dtype", "casting")}
        if unknown:
            raise TypeError(f"Wrong arguments {unknown}")
        for value in args[: self.nin]:
            _value(value)
        return _run(self._host, args, kwargs)

    def _only_for(self, *names):
        if self.__name__ not in names:
            raise NotImplementedError(f"cupy.{self.__name__} has no such method; only {names} have")

    def reduce(self, array, axis=0, dtype=None, out=None, keepdims=False):
        self._only_for("add", "multiply")
        return _run(self._host.reduce, (array, axis, dtype, out, keepdims), {})

    def accumulate(self, array, axis=0, dtype=None, out=None):
        self._only_for("add", "multiply")
        return _run(self._host.accumulate, (array, axis, dtype, out), {})

    def reduceat(self, array, indices, axis=0, dtype=None, out=None):
        self._only_for("add")
        return _run(self._host.reduceat, (array, indices, axis, dtype, out), {})

    def outer(self, A, B, **kwargs):
        return _run(self._host.outer, (A, B), kwargs)

    def at(self, a, indices, b=None):
        if not self._atomic:
            raise NotImplementedError(f"`{self.name}.at` is not supported yet")
        # Atomic instructions exist for these types; int64 is not among them.
        a._scatter(self._host, indices, b, "iILQfd" if self.__name__ in ("maximum", "minimum") else "iILQefdFD")


def _function(name, text, host, random=False):
    def function(*args, **kwargs):
        arguments = _check(name, text, args, kwargs) if not random else _signature(text).bind(*args, **kwargs)
        if name == "put_along_axis":
            arr, places = arguments["arr"]._host, arguments["indices"]._host
            _refuse_repeats(np.take_along_axis(np.arange(arr.size).reshape(arr.shape), places, arguments["axis"]))
        result = _run(host, args, kwargs, upload=name in UPLOADS)
        if name in ("empty", "empty_like") and result.dtype.kind in "fc":
            result.fill(np.nan)  # real memory holds what was left there: reading it must show
        boxed = isinstance(result, SCALARS) and (random or name in BOXED)
        return _wrap(np.asarray(result)) if boxed else result

    function.__name__ = name
    return function


class _Module(types.ModuleType):
    """A module with the names of the snapshot: `own` ones, and for the rest the namesake in NumPy, wrapped."""

    def __init__(self, path, host=None, **own):
        super().__init__(path)
        vars(self).update(own, __path__=[], _numpy=host)

    def __getattr__(self, name):
        path, text = self.__name__, API.get(self.__name__, {}).get(name)
        if text is None:
            raise AttributeError(f"module {path!r} has no attribute {name!r}")
        if self._numpy is not None and not hasattr(self._numpy, name):
            raise AttributeError(f"{path}.{name} exists, but NumPy has nothing of that name: it is not portable")
        host = getattr(self._numpy, name, None)
        if self._numpy is None or name in NOT_PORTABLE:
            raise NotImplementedError(f"the stand-in has no {path}.{name}")
        if text.startswith("ufunc"):
            value = ufunc(name, text, host)
        elif text.startswith("("):
            value = _function(name, text, host, random=path == "cupy.random")
        elif _is_plain(host):
            value = host
        else:
            raise NotImplementedError(f"the stand-in has no {path}.{name}")
        vars(self)[name] = value
        return value


def _is_plain(value):
    """Names that CuPy takes from NumPy as they are: number types, constants, errors."""
    if isinstance(value, type):
        return issubclass(value, np.generic | Exception | np.dtype | np.finfo | np.iinfo)
    return value is None or isinstance(value, float | type(np.s_))


class _Idle:
    """What devices, streams and events share: there is nothing to wait for."""

    done = True

    def __init__(self, *args, **kwargs):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def use(self):
        return self

    def synchronize(self):
        pass

    def record(self, *args):
        return _Idle()

    def wait_event(self, event):
        pass


class _Device(_Idle):
    id, compute_capability, mem_info = 0, "00", (0, 0)


class _MemoryPool:
    used_bytes = total_bytes = free_bytes = n_free_blocks = staticmethod(lambda: 0)
    free_all_blocks = staticmethod(lambda stream=None: None)


class _Generator:
    """CuPy's random generator: fewer methods than NumPy's, and other numbers from the same seed."""

    def __init__(self, seed=None):
        self._rng = np.random.default_rng(None if seed is None else [*np.atleast_1d(seed), 0xC0])

    def __getattr__(self, name):
        if name not in API["cupy.random.Generator"]:
            raise AttributeError(f"'cupy.random.Generator' object has no attribute {name!r}")
        return _function(name, API["cupy.random.Generator"][name], getattr(self._rng, name), random=True)


def _asnumpy(a, stream=None, order="C", out=None, *, blocking=True):
    return a.get(stream, order, out, blocking) if isinstance(a, ndarray) else np.asarray(a, order=order)


def _erf(x, out=None):
    x = np.asarray(x)
    values = np.asarray(np.frompyfunc(math.erf, 1, 1)(x)).astype(x.dtype if x.dtype.kind == "f" else float)
    return values if out is None else np.copyto(out, values) or out


_pool, _Idle.null = _MemoryPool(), _Idle()
_runtime = _Module(
    "cupy.cuda.runtime",
    getDeviceCount=lambda: 1,
    getDevice=lambda: 0,
    getDeviceProperties=lambda device: {"name": b"stand-in (NumPy)", "totalGlobalMem": 0, "major": 0, "minor": 0},
    memGetInfo=lambda: (0, 0),
    deviceSynchronize=lambda: None,
    runtimeGetVersion=lambda: 0,
    driverGetVersion=lambda: 0,
)
_cuda = _Module(
    "cupy.cuda",
    is_available=lambda: True,
    Device=_Device,
    Stream=_Idle,
    Event=_Idle,
    MemoryPool=_MemoryPool,
    get_current_stream=lambda device_id=-1: _Idle.null,
    get_device_id=lambda: 0,
    get_elapsed_time=lambda start_event, end_event: 0.0,
    runtime=_runtime,
)
_stride_tricks = _Module("cupy.lib.stride_tricks", np.lib.stride_tricks)
_random = _Module("cupy.random", np.random.RandomState(0), default_rng=_Generator, Generator=_Generator)
cupy = _Module(
    "cupy",
    np,
    __version__=API["versions"]["cupy"],
    is_stand_in=True,
    ndarray=ndarray,
    ufunc=ufunc,
    asnumpy=_asnumpy,
    get_array_module=lambda *args: cupy if any(isinstance(a, ndarray) for a in args) else np,
    get_default_memory_pool=lambda: _pool,
    get_default_pinned_memory_pool=lambda: _pool,
    is_available=lambda: True,
    **dict.fromkeys(("ElementwiseKernel", "ReductionKernel", "RawKernel", "RawModule", "fuse", "memoize"), _no_cuda),
    cuda=_cuda,
    fft=_Module("cupy.fft", np.fft),
    lib=_Module("cupy.lib", stride_tricks=_stride_tricks),
    linalg=_Module("cupy.linalg", np.linalg),
    random=_random,
)
_special = _Module("cupyx.scipy.special", erf=ufunc("erf", API["cupyx.scipy.special"]["erf"], _erf))
cupyx = _Module(
    "cupyx",
    is_stand_in=True,
    scatter_add=lambda a, slices, value: a.scatter_add(slices, value),
    scatter_max=lambda a, slices, value: a.scatter_max(slices, value),
    scatter_min=lambda a, slices, value: a.scatter_min(slices, value),
    scipy=_Module("cupyx.scipy", special=_special),
)
_build_ndarray()


def _with_submodules(module):
    submodules = [m for m in vars(module).values() if isinstance(m, _Module)]
    return {module.__name__: module} | {name: m for sub in submodules for name, m in _with_submodules(sub).items()}


@contextlib.contextmanager
def installed():
    """Let `import cupy` and `import cupyx` find the stand-in, and put back what was there."""
    before = {name: m for name, m in sys.modules.items() if name.split(".")[0] in ("cupy", "cupyx")}
    ours = _with_submodules(cupy) | _with_submodules(cupyx)
    for name in before:
        del sys.modules[name]
    sys.modules.update(ours)
    try:
        yield cupy, cupyx
    finally:
        for name in ours:
            sys.modules.pop(name, None)
        sys.modules.update(before)
