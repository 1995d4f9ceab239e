"""The stand-in for CuPy keeps CuPy's rules: each rule has a test here that fails when the rule is dropped.

What the stand-in cannot see, and therefore no test on it can show (only a run on a GPU does):
- ufunc keywords: compiled ufuncs have no signature, so `out`, `dtype` and `casting` are taken from CuPy's source;
- the dtypes that CuPy's functions accept, and where its promotion (float64, bool) differs from NumPy's;
- a wrong CUDA kernel, a missing synchronisation, a race;
- the order of atomic additions and of reductions: the last digits of a sum, and that they change from run to run;
- what CuPy leaves unchecked because it does not wait for results: singular matrices, negative integer powers;
- speed, memory, and which operations copy.
"""

import copy
import inspect
import math
import operator
import pickle
import sys

import numpy as np
import pytest
from fake_cupy import API, NOT_PORTABLE, DiffersOnGPU, cupy, cupyx, installed, ndarray


def device(*shape, dtype=np.float32):
    """0, 1, 2, … in an array of the device."""
    return cupy.asarray(np.arange(math.prod(shape), dtype=dtype).reshape(shape))


def index(*places):
    return cupy.asarray(np.array(places))


def same(x, expected):
    """An array of the device with these values, shape and dtype."""
    expected = np.asarray(expected)
    return type(x) is ndarray and x.dtype == expected.dtype and np.array_equal(x.get(), expected, equal_nan=True)


# --- the host and the device -----------------------------------------------------------------------------------------


def test_the_array_is_no_numpy_array():
    assert not isinstance(device(3), np.ndarray)
    assert type(device(3)) is cupy.ndarray and cupy.ndarray.__module__ == "cupy"
    assert cupy.ndarray((2, 3), np.float32).shape == (2, 3)


@pytest.mark.parametrize(
    "convert",
    [np.asarray, np.array, np.float32, np.exp, np.sum, np.shape, lambda x: np.add(x, x), lambda x: np.array(list(x))],
)
def test_numpy_does_not_take_it(convert):
    with pytest.raises(TypeError, match="Implicit conversion to a NumPy array is not allowed"):
        convert(device(3))


def test_it_does_not_slip_into_a_numpy_array():
    host = np.zeros(3, np.float32)
    with pytest.raises(TypeError, match="Implicit conversion"):
        host[:] = device(3)
    with pytest.raises(TypeError, match="Unsupported type"):
        host += device(3)


@pytest.mark.parametrize(
    "mix",
    [
        lambda x, host: x + host,
        lambda x, host: host + x,
        lambda x, host: host @ x,
        lambda x, host: x == host,
        lambda x, host: cupy.exp(host),
        lambda x, host: cupy.maximum(x, host),
        lambda x, host: cupy.sum(host),
        lambda x, host: cupy.concatenate([x, host]),
        lambda x, host: cupy.where(x > 1, x, host),
        lambda x, host: cupy.add(x, x, out=host),
        lambda x, host: x.sum(out=host),
        lambda x, host: x.__setitem__(slice(None), host),
        lambda x, host: x.__iadd__(host),
        lambda x, host: x[host.astype(int)],
        lambda x, host: x.__setitem__(host.astype(int), 0.0),
        lambda x, host: cupyx.scatter_add(x, index(0, 1, 2), host),
    ],
)
def test_host_arrays_do_not_mix(mix):
    with pytest.raises(TypeError, match="Unsupported type <class 'numpy.ndarray'>|cupy.ndarray"):
        mix(device(3), np.zeros(3, np.float32))


def test_scalars_of_python_and_numpy_mix():
    x = device(3)
    assert same(2 * x + 1, np.float32([1, 3, 5]))
    assert same(np.float32(2) * x, np.float32([0, 2, 4]))
    assert same(x - np.float64(1), np.arange(3) - 1.0)  # as in NumPy 2, a NumPy scalar counts with its dtype
    assert same(np.float32(1) < x, [False, False, True])


def test_moving_always_copies():
    host = np.zeros(3, np.float32)
    x = cupy.asarray(host)
    x += 1
    there = x.get()
    there += 1
    assert host.tolist() == [0, 0, 0] and there.tolist() == [2, 2, 2]
    assert x.tolist() == cupy.asnumpy(x).tolist() == [1, 1, 1]
    assert isinstance(cupy.asnumpy(x), np.ndarray)
    x.set(host)
    host += 5
    assert x.tolist() == [0, 0, 0]
    with pytest.raises(TypeError):
        x.set(host.astype(np.float64))
    assert cupy.asarray(x) is x and cupy.array(x) is not x
    assert x.get(out=there) is there and there.tolist() == [0, 0, 0]
    with pytest.raises(TypeError):
        x.get(out=np.zeros(3))


def test_arrays_without_a_number_type_do_not_exist():
    for host in (np.array(["a"]), np.array([None]), np.zeros(2, np.longdouble)):
        with pytest.raises(ValueError, match="Unsupported dtype"):
            cupy.asarray(host)


def test_an_operand_that_asks_for_it_answers_itself():
    class Tensor:
        __array_ufunc__ = None

        def __radd__(self, other):
            return "reflected"

        def __rmatmul__(self, other):
            return "reflected"

        def __gt__(self, other):
            return "reflected"

    assert device(3) + Tensor() == device(3) @ Tensor() == (device(3) < Tensor()) == "reflected"
    with pytest.raises(TypeError, match="Unsupported type"):
        x = device(3)
        x += Tensor()
    with pytest.raises(TypeError, match="Unsupported type"):
        device(3) + object()
    with pytest.raises(TypeError, match="Unsupported type"):
        _ = device(3) == None  # noqa: E711


# --- results ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reduce",
    [
        lambda x: x.sum(),
        lambda x: cupy.mean(x),
        lambda x: x.argmax(),
        lambda x: x[1, 2],
        lambda x: x[1, 2, ...],
        lambda x: cupy.linalg.norm(x),
        lambda x: cupy.allclose(x, x),
        lambda x: cupy.count_nonzero(x),
        lambda x: cupy.exp(1.0),
        lambda x: cupy.random.default_rng(0).random(),
        lambda x: next(iter(x[0])),
    ],
)
def test_a_single_number_is_an_array_without_axes(reduce):
    result = reduce(device(2, 3))
    assert type(result) is ndarray and result.shape == () and result.ndim == 0
    assert float(result) == result.item()


def test_single_numbers_convert_where_python_asks():
    assert (
        float(device(3)[1]) == 1.0 and int(device(3)[2]) == 2 and bool(device(3)[1]) and f"{device(3)[1]:.2f}" == "1.00"
    )
    with pytest.raises(ValueError, match="ambiguous"):
        bool(device(3) > 1)
    with pytest.raises(TypeError):
        float(device(3))
    with pytest.raises(TypeError):
        hash(device(3))


@pytest.mark.parametrize(
    "use",
    [
        lambda n: range(n),
        lambda n: [1, 2, 3][n],
        lambda n: np.zeros(3)[n],
        lambda n: device(3)[:n],
        lambda n: cupy.zeros((n, 2)),
        lambda n: device(4).reshape(n, -1),
        lambda n: cupy.sum(device(3, 3), axis=n),
        lambda n: device(3, 3).sum(axis=n),
    ],
)
def test_an_array_is_not_an_index_of_python(use):
    with pytest.raises((TypeError, IndexError)):
        use(index(1)[0])


def test_plain_answers_stay_plain():
    x = device(2, 3)
    assert (x.shape, x.ndim, x.size, x.nbytes, x.itemsize, x.strides) == ((2, 3), 2, 6, 24, 4, (12, 4))
    assert x.dtype is np.dtype(np.float32) is cupy.result_type(x, 1.0) and cupy.float32 is np.float32
    assert cupy.broadcast_shapes((2, 1), (3,)) == (2, 3) and cupy.finfo(x.dtype).bits == 32 and cupy.newaxis is None
    assert x.flags.c_contiguous and not x.T.flags.c_contiguous and isinstance(x.data.ptr, int) and x.device.id == 0


def test_views_share_memory():
    x = device(2, 3)
    x.T[0] = 7
    x[1][...] = 5
    x.reshape(-1)[1] = 9
    x[0, 2].fill(4)
    cupy.lib.stride_tricks.as_strided(x, (3,), (4,))[0] += 1
    assert x.tolist() == [[8, 9, 4], [5, 5, 5]]
    assert x.T.base is not None and x[:, 1:].data.ptr == x.data.ptr + 4
    taken = x[index(0)[0]]  # an index array copies, even one without axes
    taken += 1
    x.real = 0
    assert x.tolist() == [[0] * 3] * 2 and taken.tolist() == [9, 10, 5]
    with pytest.raises(AttributeError):
        x.shape = (3, 2)


def test_in_place_operators_keep_the_array():
    x = before = device(3)
    x += 1
    x *= 2
    x -= device(3)
    x **= 2
    assert x is before and x.tolist() == [4, 9, 16]
    assert cupy.sqrt(x, out=x) is x and x.tolist() == [2, 3, 4]
    with pytest.raises(TypeError):
        x += np.float64(1) * device(3, dtype=complex)


def test_values_are_numpys():
    host, x = np.linspace(-1, 1, 12).reshape(3, 4), cupy.linspace(-1, 1, 12).reshape(3, 4)
    assert same(x, host) and same(-x, -host) and same(abs(x), abs(host)) and same(x @ x.T, host @ host.T)
    assert same(cupy.einsum("ij,kj->ik", x, x), np.einsum("ij,kj->ik", host, host))
    assert same(x[:, None, 1:][..., ::2], host[:, None, 1:][..., ::2]) and same(x[x > 0], host[host > 0])
    assert same(cupy.pad(x, 1), np.pad(host, 1)) and same(cupy.fft.fft(x), np.fft.fft(host))
    assert [part.shape for part in cupy.split(x, 2, axis=1)] == [(3, 2), (3, 2)]
    assert same(cupy.concatenate([x, x]), np.concatenate([host, host])) and same(cupy.stack((x, x)), [host, host])
    assert same(cupy.where(x > 0, x, 0), np.where(host > 0, host, 0)) and same(divmod(x, 2)[1], host % 2)
    assert same(
        cupyx.scipy.special.erf(x.astype(np.float32)),
        np.float32([[math.erf(np.float32(v)) for v in row] for row in host]),
    )
    assert repr(x) == repr(host) and len(x) == 3 and [same(a, b) for a, b in zip(x, host, strict=True)] == [True] * 3


def test_copies_and_pickles():
    x = device(3)
    for other in (copy.copy(x), copy.deepcopy(x), pickle.loads(pickle.dumps(x)), x.copy()):
        other += 1
        assert type(other) is ndarray and x.tolist() == [0, 1, 2] and other.tolist() == [1, 2, 3]


def test_the_device_does_not_warn():
    x = device(2)
    assert same(1 / x, np.float32([np.inf, 1])) and same(cupy.log(x - 1)[:1], np.float32([np.nan]))
    assert np.isnan(cupy.asnumpy(x / 0)[0])


# --- only what CuPy has ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "module, name",
    [
        *((cupy, name) for name in ("errstate", "vecdot", "unstack", "scatter_add", "erf", "block", "insert", "ma")),
        *((cupy.linalg, name) for name in ("vector_norm", "matrix_norm", "vecdot", "multi_dot", "outer")),
        *((cupy.random.default_rng(0), name) for name in ("normal", "permutation", "shuffle", "choice", "permuted")),
        *((device(3), name) for name in ("resize", "ctypes", "setflags", "__index__", "__imatmul__", "__contains__")),
        *((cupy.add, name) for name in ("resolve_dtypes", "signature", "identity")),
        (cupyx, "erf"),
        (cupy, "trapz"),  # in CuPy, no longer in NumPy
    ],
)
def test_absent_names(module, name):
    assert not hasattr(module, name)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: cupy.sum(x, where=x > 0),
        lambda x: cupy.sum(x, initial=0),
        lambda x: x.max(initial=0),
        lambda x: cupy.var(x, correction=1),
        lambda x: x.std(correction=1),
        lambda x: x.mean(where=x > 0),
        lambda x: cupy.exp(x, where=x > 0),
        lambda x: cupy.exp(x, order="C"),
        lambda x: cupy.add.reduce(x, where=x > 0),
        lambda x: cupy.einsum("ij->i", x, out=x[0]),
        lambda x: cupy.clip(x, min=0, max=1),
        lambda x: cupy.take(x, index(0), mode="clip"),
        lambda x: cupy.asarray(x, device="cpu"),
        lambda x: cupy.fft.fft(x, out=x),
        lambda x: cupy.linalg.svd(x, hermitian=True),
        lambda x: cupy.take_along_axis(x, index(0)),
    ],
)
def test_absent_keywords(call):
    with pytest.raises(TypeError):
        call(device(2, 2))


@pytest.mark.parametrize(
    "call",
    [
        lambda: cupy.sum([1.0, 2.0]),
        lambda: cupy.mean([device(3)[0], device(3)[1]]),
        lambda: cupy.max(3.0),
        lambda: cupy.exp([1.0]),
        lambda: device(3) + [1, 2, 3],
        lambda: cupy.stack([1.0, 2.0]),
        lambda: cupy.where([True], device(1), 0),
        lambda: cupy.where(device(1) > 0, [1], 0),
        lambda: device(3).__setitem__(slice(None), [1, 2, 3]),
    ],
)
def test_lists_are_not_arrays(call):
    with pytest.raises(TypeError):
        call()


def test_ufunc_methods():
    x = device(2, 3)
    assert same(cupy.add.reduce(x), np.float32([3, 5, 7])) and same(cupy.add.accumulate(x[0]), np.float32([0, 1, 3]))
    assert same(cupy.add.reduceat(x[0], index(0, 2)), np.float32([1, 2])) and (cupy.add.nin, cupy.add.nout) == (2, 1)
    for call in (
        lambda: cupy.maximum.reduce(x),
        lambda: cupy.maximum.accumulate(x),
        lambda: cupy.multiply.reduceat(x[0], index(0, 2)),
        lambda: cupy.multiply.at(x, index(0), 2.0),
    ):
        with pytest.raises(NotImplementedError):
            call()


def test_kernels_do_not_run():
    for make in (cupy.ElementwiseKernel, cupy.ReductionKernel, cupy.RawKernel, cupy.RawModule, cupy.fuse):
        with pytest.raises(NotImplementedError, match="the stand-in cannot run CUDA"):
            make("float32 x", "float32 y", "y = x", "copy")
    for module, name in ((cupyx.scipy.special, "gamma"), (cupy.cuda, "alloc"), (cupy, "put"), (cupy, "mgrid")):
        with pytest.raises(NotImplementedError, match=f"the stand-in has no .*{name}"):
            getattr(module, name)


def test_every_name_of_the_stand_in_is_in_the_snapshot():
    invented = {"is_stand_in"}
    for module in (cupy, cupy.cuda, cupy.cuda.runtime, cupyx, cupyx.scipy.special):
        names = {n for n in vars(module) if n[0] != "_"} - invented
        assert names <= set(API[module.__name__]), module.__name__
    for path, thing in {
        "cupy.ndarray": ndarray,
        "cupy.ufunc": cupy.ufunc,
        "cupy.cuda.MemoryPool": cupy.cuda.MemoryPool,
        "cupy.cuda.Device": cupy.cuda.Device,
    }.items():
        names = {n for n in vars(thing) if n[0] != "_"}
        assert names <= set(API[path]), path
    for name, member in inspect.getmembers(ndarray, inspect.isfunction):
        assert name in API["cupy.ndarray"] or hasattr(object, name) or name == "_scatter", (name, member)


def test_every_portable_function_can_be_looked_up():
    hosts = {"cupy": np, "cupy.linalg": np.linalg, "cupy.fft": np.fft, "cupy.lib.stride_tricks": np.lib.stride_tricks}
    for path, host in hosts.items():
        module = operator.attrgetter(path.partition(".")[2])(cupy) if "." in path else cupy
        for name, text in API[path].items():
            if text[0] == "(" and hasattr(host, name) and name not in NOT_PORTABLE:
                assert callable(getattr(module, name))


# --- where CuPy silently does something else -------------------------------------------------------------------------


def test_assignment_through_a_repeated_index_is_refused():
    x, twice = device(3), index(0, 2, 0)
    with pytest.raises(DiffersOnGPU, match="repeats a place"):
        x[twice] = device(3)
    with pytest.raises(DiffersOnGPU, match="repeats a place"):
        x[[0, -3]] = device(2)
    with pytest.raises(DiffersOnGPU, match="repeats a place"):
        x[twice] += 1
    with pytest.raises(DiffersOnGPU, match="repeats a place"):
        device(2, 3)[:, twice] = device(2, 3)
    with pytest.raises(DiffersOnGPU, match="repeats a place"):
        cupy.put_along_axis(device(1, 3), twice[None], device(1, 3), axis=1)
    assert x.tolist() == [0, 1, 2]
    x[twice] = 7.0  # one value for all: whichever is last, it is the same
    x[index(1, 2)] = device(2)
    x[x == 7] = device(1)
    assert x.tolist() == [0, 0, 1]


def test_an_index_array_out_of_bounds_is_refused():
    x = device(3)
    for use in (
        lambda: x[index(0, 3)],
        lambda: x[[3]],
        lambda: cupy.take(x, index(3)),
        lambda: cupy.take_along_axis(x, index(3), axis=0),
        lambda: x.__setitem__(index(3), 1.0),
        lambda: cupyx.scatter_add(x, index(3), 1.0),
    ):
        with pytest.raises(DiffersOnGPU, match="wrap the index around"):
            use()
    with pytest.raises(IndexError):  # a Python integer is checked by CuPy too
        x[3]
    with pytest.raises(np.exceptions.AxisError):
        x.sum(axis=1)


def test_scatter_add_counts_repeated_places():
    x = cupy.zeros((2, 3), np.float32)
    cupyx.scatter_add(x, (slice(None), index(0, 2, 0)), cupy.ones((2, 3), np.float32))
    cupy.add.at(x, 0, 1.0)
    cupyx.scatter_max(x, (index(1), index(1)), 8.0)
    cupyx.scatter_min(x, (index(1), index(0)), -8.0)
    assert x.tolist() == [[3, 1, 2], [-8, 8, 1]]
    with pytest.raises(TypeError, match="atomic"):
        cupyx.scatter_add(device(3, dtype=np.int64), index(0), 1)


def test_uninitialised_memory_shows():
    assert np.isnan(cupy.empty(3).get()).all() and np.isnan(cupy.empty_like(device(3)).get()).all()


def test_random_numbers_are_not_numpys():
    ours = cupy.random.default_rng(0).standard_normal(4)
    assert type(ours) is ndarray and not np.allclose(ours.get(), np.random.default_rng(0).standard_normal(4))
    assert same(cupy.random.default_rng(0).standard_normal(4), ours.get())
    with pytest.raises(TypeError):
        cupy.random.default_rng(0).integers(0, 3, axis=0)
    before = np.random.get_state()[1].tolist()
    assert cupy.random.permutation(5).shape == (5,) and cupy.random.choice(5).shape == ()
    assert np.random.get_state()[1].tolist() == before


# --- modules ---------------------------------------------------------------------------------------------------------


def test_the_device_is_there_and_idle():
    assert cupy.is_stand_in and cupy.cuda.is_available() and cupy.cuda.runtime.getDeviceCount() == 1
    with cupy.cuda.Device(0) as gpu, cupy.cuda.Stream(non_blocking=True):
        gpu.synchronize()
        cupy.cuda.get_current_stream().synchronize()
        start = cupy.cuda.Event()
        start.record()
        start.synchronize()
    pool = cupy.get_default_memory_pool()
    assert pool.used_bytes() == pool.total_bytes() == 0
    pool.free_all_blocks()
    assert cupy.get_array_module(device(3), 1.0) is cupy and cupy.get_array_module(np.zeros(3)) is np


def test_installed_stands_in_for_the_imports_and_leaves_no_trace(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupyx.linalg", sys)  # as if the real package were loaded
    before = {name: sys.modules.get(name) for name in ("cupy", "cupyx", "cupyx.linalg", "cupyx.scipy.special")}
    with pytest.raises(RuntimeError, match="inside"), installed():
        import cupyx.scipy.special as special
        from cupy import exp
        from cupy.lib.stride_tricks import sliding_window_view

        assert "cupyx.linalg" not in sys.modules and exp is cupy.exp and special.erf(device(1)).tolist() == [0]
        assert sliding_window_view(device(4), 2).shape == (3, 2)
        with pytest.raises(ImportError):
            import cupy.nothing as _  # noqa: F401
        raise RuntimeError("inside")
    assert before == {name: sys.modules.get(name) for name in before}
