"""What a Tensor looks like from outside: making, printing, operators, comparisons, conversions, whole numbers."""

import copy
import operator

import numpy as np
import pytest
from gradient_cases import host

import minivit as mv
from minivit.engine import backend as backends
from minivit.engine.errors import DeviceError, DTypeError, GraphError, ShapeError
from minivit.engine.tensor import Tensor


def leaf(values, dtype=np.float32):
    return Tensor(backends.default_backend().from_host(np.array(values, dtype)), requires_grad=True)


# --- making one -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [3, 3.5, True, [1, 2], [[1.0], [2.0]], (1, 2.5), [], [np.float64(1.5)], range(3)])
def test_numbers_and_lists_become_float32_on_the_default_backend(backend, data):
    t = Tensor(data)
    assert t.dtype == np.float32
    assert t.backend == backend.name
    assert type(t.data) is backend.array_type
    np.testing.assert_array_equal(t.numpy(), np.array(data, np.float32))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64", "uint8", "bool"])
def test_arrays_keep_their_dtype_and_memory(backend, dtype):
    array = backend.from_host(np.array([0, 1], dtype))
    t = Tensor(array)
    assert t.data is array
    assert t.dtype == dtype
    assert (t.shape, t.ndim, t.size, len(t)) == ((2,), 1, 2, 2)


def test_numpy_scalars_are_arrays_that_keep_their_dtype():
    assert Tensor(np.float64(2)).dtype == np.float64
    assert type(Tensor(np.float32(2)).data) is np.ndarray


def test_a_dtype_may_be_asked_for(backend):
    assert Tensor([1, 2], dtype="float64").dtype == np.float64
    assert Tensor([1, 2], dtype=np.int64).dtype == np.int64
    assert Tensor(backend.from_host(np.ones(2)), dtype="float32").dtype == np.float32


def test_a_tensor_of_a_tensor_shares_its_values_not_its_history():
    x = leaf([1.0, 2.0])
    y = x * 2
    for z in (Tensor(y), y.detach()):
        assert z.data is y.data
        assert z.node is None
        assert not z.requires_grad


def test_detach_stops_the_gradient(backend):
    x = leaf([1.0, 2.0])
    (x * x.detach()).sum().backward()
    np.testing.assert_array_equal(host(x.grad), [1, 2])


def test_memory_mapped_arrays_are_numpy_arrays(tmp_path):
    np.save(tmp_path / "a.npy", np.ones(3, np.float32))
    t = Tensor(np.load(tmp_path / "a.npy", mmap_mode="r"))
    assert t.backend == "numpy"
    np.testing.assert_array_equal((t + 1).numpy(), [2, 2, 2])


# --- printing ---------------------------------------------------------------------------------------------------------


def test_repr_shows_shape_dtype_backend_and_origin(backend):
    x = leaf([[1.0, 2.0], [3.0, 4.0]])
    assert repr(x).startswith(f"Tensor((2, 2) float32 on {backend.name}, requires_grad\n  [[1. 2.]")
    assert repr(x @ x).startswith(f"Tensor((2, 2) float32 on {backend.name}, from matmul\n")
    assert repr(mv.softmax(x)).startswith(f"Tensor((2, 2) float32 on {backend.name}, from softmax\n")
    assert repr(mv.linear(x, x)).startswith(f"Tensor((2, 2) float32 on {backend.name}, from linear\n")
    assert repr(x.detach()).startswith(f"Tensor((2, 2) float32 on {backend.name}\n")


def test_repr_names_a_parameter_and_stays_short():
    model = mv.nn.layers.Linear(300, 200)
    text = repr(model.weight)
    assert text.startswith("Tensor(weight: (300, 200) float32 on numpy, requires_grad\n")
    assert len(text) < 1000
    assert repr(Tensor(2.5)) == "Tensor(() float32 on numpy\n  2.5)"


# --- operators --------------------------------------------------------------------------------------------------------

OPERATORS = [operator.add, operator.sub, operator.mul, operator.truediv]


@pytest.mark.parametrize("operate", OPERATORS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(
    "scalar", [2, 2.5, True, np.float64(2.5), np.float32(2.5), np.int64(2), np.float16(0.5)], ids=repr
)
def test_scalars_adopt_the_dtype(backend, operate, dtype, scalar):
    x = leaf([1.0, 4.0], dtype)
    for y, expected in [(operate(x, scalar), operate(host(x.data), dtype(scalar))),
                        (operate(scalar, x), operate(dtype(scalar), host(x.data)))]:  # fmt: skip
        assert y.dtype == dtype
        np.testing.assert_allclose(y.numpy(), expected, rtol=2e-3 if dtype == np.float16 else 1e-6)
        y.sum().backward()
        assert x.grad.dtype == dtype
        assert type(x.grad) is backend.array_type


@pytest.mark.parametrize("operate", [*OPERATORS, operator.matmul])
def test_an_array_on_the_left_is_ours(backend, operate):
    a, b = np.array([[1.0, 2], [3, 4]]), np.array([[5.0, 6], [7, 8]])
    x = leaf(b, np.float64)
    y = operate(backend.from_host(a), x)
    assert isinstance(y, Tensor)
    np.testing.assert_allclose(y.numpy(), operate(a, b))
    y.sum().backward()
    assert x.grad is not None
    np.testing.assert_allclose(operate(x, backend.from_host(a)).numpy(), operate(b, a))


def test_lists_are_operands(backend):
    np.testing.assert_array_equal((leaf([1.0, 2.0]) + [10, 20]).numpy(), [11, 22])


def test_updates_make_a_new_tensor():
    x = leaf([1.0])
    y = x
    y += 1
    assert y is not x
    assert x.numpy() == 1


def test_power_and_negation(backend):
    x = leaf([2.0, 3.0])
    np.testing.assert_array_equal((-(x**2) + abs(-x)).numpy(), [-2, -6])


@pytest.mark.parametrize(
    ("compare", "expected"),
    [
        (operator.lt, [True, False, False]),
        (operator.le, [True, True, False]),
        (operator.gt, [False, False, True]),
        (operator.ge, [False, True, True]),
        (operator.eq, [False, True, False]),
        (operator.ne, [True, False, True]),
    ],
)
def test_comparisons_give_booleans_without_a_gradient(backend, compare, expected):
    x = leaf([1.0, 2.0, 3.0])
    for other in (2, 2.0, np.float64(2), leaf(2.0), leaf([2.0, 2.0, 2.0]), [2, 2, 2]):
        y = compare(x, other)
        assert y.dtype == bool
        assert not y.requires_grad
        assert type(y.data) is backend.array_type
        np.testing.assert_array_equal(y.numpy(), expected)
    flipped = compare(backend.from_host(np.full(3, 2.0, np.float32)), x)
    assert isinstance(flipped, Tensor)


def test_a_tensor_is_not_none():
    x = leaf([1.0, 2.0])
    assert (x == None) is False  # noqa: E711
    assert (x != None) is True  # noqa: E711
    assert x not in ["a", None]
    with pytest.raises(TypeError, match="'<' not supported between"):
        x < None  # noqa: B015


def test_tensors_are_keys_by_identity():
    x, y = leaf([1.0]), leaf([1.0])
    assert len({x, y, x}) == 2


# --- conversions ------------------------------------------------------------------------------------------------------


def test_one_value_is_a_number(backend):
    x = leaf([[2.5]])
    assert x.item() == 2.5
    assert isinstance(x.item(), float)
    assert (float(x), int(x), bool(x), bool(x - 2.5)) == (2.5, 2, True, False)
    assert isinstance(Tensor([3], dtype="int64").item(), int)


def test_iteration_length_and_containment(backend):
    x = leaf([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    assert len(x) == 3
    a, b, c = x
    (b * 2).sum().backward()
    np.testing.assert_array_equal(host(x.grad), [[0, 0], [2, 2], [0, 0]])
    assert [row.sum().item() for row in x] == [3, 7, 11]


def test_t_reverses_the_axes(backend):
    x = leaf(np.zeros((2, 3, 4)))
    assert x.T.shape == (4, 3, 2)
    assert x.transpose().shape == (4, 3, 2)
    assert x.transpose(1, 0, 2).shape == x.transpose((1, 0, 2)).shape == x.swapaxes(0, 1).shape == (3, 2, 4)
    assert x.reshape(6, -1).shape == x.reshape((6, 4)).shape == x.reshape([6, 4]).shape == (6, 4)


def test_argmax(backend):
    x = leaf([[1.0, 9.0, 3.0], [7.0, 5.0, 6.0]])
    assert x.argmax(axis=1).numpy().tolist() == [1, 0]
    assert x.argmax().item() == 1
    assert x.argmax(axis=1).dtype.kind == "i"


def test_copies():
    x = leaf([1.0, 2.0])
    deep = copy.deepcopy(x)
    deep.data[0] = 7
    assert x.numpy()[0] == 1
    assert deep.requires_grad


def test_moving_between_backends(backend):
    x = leaf([1.0, 2.0])
    assert x.to(backend.name) is x
    there = x.to("numpy")
    assert there.backend == "numpy"
    assert there.requires_grad
    np.testing.assert_array_equal(there.numpy(), [1, 2])
    np.testing.assert_array_equal(there.to("fake_cupy").numpy(), [1, 2])


def test_moving_never_cuts_a_graph_silently():
    x = Tensor(np.ones(2, np.float32), requires_grad=True)
    with pytest.raises(GraphError, match="would cut the graph"):
        (x * 2).to("fake_cupy")
    assert (x * 2).detach().to("fake_cupy").backend == "fake_cupy"


def test_nothing_is_converted_to_numpy_silently(backend):
    x = leaf([1.0, 2.0])
    for convert in (np.asarray, np.array, lambda t: np.stack([t, t]), np.sum, np.ones_like):
        with pytest.raises(DeviceError, match=r"tensor\.numpy\(\)|mv\.stack"):
            convert(x)
    with pytest.raises(TypeError):
        np.exp(x)


def test_signatures_show_what_a_caller_gives():
    import inspect

    assert str(inspect.signature(mv.softmax)) == "(x)"
    assert str(inspect.signature(mv.concatenate)) == "(*arrays, axis=0)"
    assert str(inspect.signature(mv.matmul)) == "(a, b)"


# --- whole numbers ----------------------------------------------------------------------------------------------------


def test_whole_numbers_compute_where_it_makes_sense(backend):
    x = Tensor(backend.from_host(np.array([[1, 2], [3, 4]])))
    assert (x + 1).numpy().tolist() == [[2, 3], [4, 5]]
    assert (x * x - 2 * x).numpy().tolist() == [[-1, 0], [3, 8]]
    assert (x @ x).numpy().tolist() == [[7, 10], [15, 22]]
    assert x.sum(axis=0).numpy().tolist() == [4, 6]
    assert x.max().item() == 4
    assert x[:, ::-1].T.reshape(4).numpy().tolist() == [2, 4, 1, 3]
    assert mv.concatenate([x, x]).dtype == x.dtype
    assert mv.where(x > 2, x, 0).numpy().tolist() == [[0, 0], [3, 4]]
    assert x.astype("float32").mean().item() == 2.5


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x / 2,
        lambda x: x * 0.5,
        lambda x: x.mean(),
        lambda x: x.exp(),
        lambda x: x**0.5,
        mv.softmax,
        mv.log_softmax,
        mv.gelu,
        mv.silu,
        mv.sigmoid,
        mv.erf,
        lambda x: mv.layer_norm(x, x[0], x[0]),
        lambda x: mv.attention(x, x, x),
    ],
)
def test_whole_numbers_do_not_become_others_silently(backend, call):
    x = Tensor(backend.from_host(np.array([[1, 2], [3, 4]])))
    with pytest.raises(DTypeError, match=r"\.astype\('float32'\)"):
        call(x)


def test_masks_of_bytes_and_booleans(backend):
    x = leaf([1.0, 2.0, 3.0])
    mask = Tensor(backend.from_host(np.array([True, False, True])))
    assert x[mask].numpy().tolist() == [1, 3]
    assert x[Tensor(backend.from_host(np.array([2, 0], np.uint8)))].numpy().tolist() == [3, 1]


def test_shape_errors_leave_no_trace():
    x = leaf([1.0, 2.0])
    with pytest.raises(ShapeError):
        x + leaf([1.0, 2.0, 3.0])
    (x * 2).sum().backward()
    np.testing.assert_array_equal(x.grad, [2, 2])
