"""Which library computes: choosing it, telling arrays apart, and what the two do not share."""

import os
import pickle
import subprocess
import sys

import fake_cupy
import numpy as np
import pytest
from gradient_cases import host

import minivit as mv
from minivit.engine import backend as backends
from minivit.engine.errors import ConfigError, DeviceError
from minivit.engine.tensor import Tensor


def test_use_decides_where_new_arrays_are_made():
    mv.use("fake_cupy")
    assert Tensor([1.0]).backend == "fake_cupy"
    mv.use("numpy")
    assert Tensor([1.0]).backend == "numpy"


@pytest.mark.parametrize("value", ["numpy", "", "mumpy"])
def test_the_environment_decides_first(value):
    program = "import minivit as mv; print(mv.Tensor([1.0]).backend)"
    environment = {k: v for k, v in os.environ.items() if k != "MINIVIT_BACKEND"}
    environment |= {"MINIVIT_BACKEND": value} if value else {}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    if value == "mumpy":
        assert "unknown backend 'mumpy': choose 'numpy' or 'cupy'; did you mean 'numpy'?" in done.stderr
    else:
        assert done.stdout == "numpy\n", done.stderr


@pytest.mark.parametrize("name", ["Numpy", "torch", "gpu"])
def test_unknown_names(name):
    with pytest.raises(ConfigError, match=f"unknown backend '{name}': choose 'numpy' or 'cupy'"):
        mv.use(name)
    assert Tensor([1.0]).backend == "numpy"


@pytest.fixture
def nothing_registered(monkeypatch):
    """As in a program that has not used CuPy yet."""
    monkeypatch.setattr(backends, "_by_name", {"numpy": backends.get_backend("numpy")})
    monkeypatch.setattr(backends, "_by_type", {np.ndarray: backends.get_backend("numpy")})


def test_cupy_that_is_not_installed(nothing_registered, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # as if it were not there
    with pytest.raises(DeviceError, match=r"CuPy is not installed; `pip install -r requirements-gpu\.txt`"):
        mv.use("cupy")


def test_cupy_without_a_gpu(nothing_registered, monkeypatch):
    with fake_cupy.installed() as (cupy, _):
        monkeypatch.setattr(cupy.cuda, "is_available", lambda: False)
        with pytest.raises(DeviceError, match="finds no CUDA GPU on this machine; use 'numpy'"):
            mv.use("cupy")


def test_cupy_is_found_by_name(nothing_registered):
    with fake_cupy.installed() as (cupy, _):
        mv.use("cupy")
        t = Tensor([1.0, 2.0])
        assert t.backend == "cupy"
        assert type(t.data) is cupy.ndarray
        assert t.to("numpy").backend == "numpy"
        mv.use("numpy")


def test_an_array_of_cupy_is_known_before_use(nothing_registered, monkeypatch):
    with fake_cupy.installed() as (cupy, _):
        monkeypatch.setattr(cupy.ndarray, "__module__", "cupy")
        array = cupy.ones(3, np.float32)
        assert backends.is_array(array)
        assert Tensor(array).data is array
        assert (Tensor(array) + 1).backend == "cupy"
        np.testing.assert_array_equal(mv.to_numpy(array), np.ones(3))


def test_what_is_no_array():
    for thing in (1.0, [1.0], "a", None, np.float64(1)):
        assert not backends.is_array(thing)
        with pytest.raises(DeviceError, match=f"expected a NumPy or CuPy array, got {type(thing).__name__}"):
            backends.backend_of(thing)


def test_backends_travel_by_name(backend):
    assert pickle.loads(pickle.dumps(backend)) is backend
    assert repr(backend) == f"<backend {backend.name}>"


def test_to_numpy_and_back(backend):
    there = backend.from_host([[1, 2], [3, 4]], np.float32)
    assert type(there) is backend.array_type
    back = mv.to_numpy(there)
    assert type(back) is np.ndarray
    np.testing.assert_array_equal(back, [[1, 2], [3, 4]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sums(backend, dtype):
    x, y = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(dtype)
    a, b = backend.from_host(x), backend.from_host(y)
    tolerance = {"rtol": 1e-5, "atol": 1e-6}
    assert backend.row_sum(a).dtype == backend.row_dot(a, b).dtype == dtype
    np.testing.assert_allclose(host(backend.row_sum(a)), x.sum(axis=-1, keepdims=True), **tolerance)
    np.testing.assert_allclose(host(backend.row_dot(a, b)), (x * y).sum(axis=-1, keepdims=True), **tolerance)
    np.testing.assert_allclose(host(backend.column_sum(a[0])), x[0].sum(axis=0), **tolerance)


def test_scatter_add_counts_repetitions(backend):
    target = backend.from_host(np.zeros(3, np.float32))
    index = backend.from_host(np.array([0, 2, 2]))
    backend.scatter_add(target, index, backend.from_host(np.array([1, 10, 100], np.float32)))
    np.testing.assert_array_equal(host(target), [1, 0, 110])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(
    ("low", "high", "shifted"), [(-0.9, 0.9, False), (-1.1, 0, True), (0, 1.1, True), (0, np.nan, True)]
)
def test_rows_are_shifted_where_exp_needs_it(dtype, low, high, shifted):
    """In units of the largest and smallest exponent whose exp is an ordinary number."""
    numpy, info = backends.get_backend("numpy"), np.finfo(dtype)
    x = np.zeros((3, 2, 5), dtype)
    x[1, 0, 2], x[2, 1, 4] = -low * np.log(float(info.tiny)), high * np.log(float(info.max) / 5)
    shift = numpy.shift_for_exp(x)
    if not shifted:
        assert shift is None
        return
    np.testing.assert_array_equal(shift, x.max(axis=-1, keepdims=True))


def test_memory_and_synchronize(backend):
    backend.synchronize()
    assert backend.memory() >= 0


def test_numpy_reports_its_peak():
    before = backends.get_backend("numpy").memory()
    assert before > 1e6


@pytest.mark.parametrize("call", [
    lambda a, b: a + b,
    lambda a, b: b @ a,
    lambda a, b: mv.where(a > 0, a, b),
    lambda a, b: mv.concatenate([a, a, b]),
    lambda a, b: mv.linear(a, b),
    lambda a, b: a < b,
    lambda a, b: a == b.data,
    lambda a, b: a[b > 0],
    lambda a, b: a[(b > 0).data],
    lambda a, b: (a * 2).backward(b.data),
    lambda a, b: mv.cross_entropy(a, b),
])  # fmt: skip
@pytest.mark.parametrize("swap", [False, True])
def test_operands_in_two_places_are_refused(call, swap):
    a = Tensor(np.ones((2, 2), np.float32), requires_grad=True)
    b = Tensor(backends.get_backend("fake_cupy").from_host(np.ones((2, 2), np.float32)), requires_grad=True)
    with pytest.raises(DeviceError, match="(?s)numpy.*fake_cupy|fake_cupy.*numpy"):
        call(b, a) if swap else call(a, b)
