"""The engine itself: accumulation, graphs of any form and depth, memory, no_grad, threads."""

import contextlib
import gc
import os
import subprocess
import sys
import threading
import tracemalloc
import weakref

import numpy as np
import pytest
from gradient_cases import CASES, host

import minivit as mv
from minivit.engine import ops
from minivit.engine.errors import GraphError, ShapeError
from minivit.engine.tensor import Tensor, gradients, no_grad, op, registry


def leaf(values, xp=None, dtype=np.float32):
    array = np.array(values, dtype)
    return Tensor(array if xp is None else xp.from_host(array), requires_grad=True)


@contextlib.contextmanager
def no_collector():
    """Nothing is freed by the cycle collector inside: only what is freed at once is freed."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


# --- accumulation and the form of the graph ---------------------------------------------------------------------------


def test_two_backward_passes_add_up(backend):
    x = leaf([1.0, 2.0], backend)
    (x * 3).sum().backward()
    first = x.grad
    (x * 4).sum().backward()
    np.testing.assert_array_equal(host(x.grad), [7, 7])
    np.testing.assert_array_equal(host(first), [3, 3])  # who kept the first gradient still has it
    x.zero_grad()
    assert x.grad is None


def test_a_value_used_twice(backend):
    x = leaf([1.0, 2.0, 3.0], backend)
    (x * x).sum().backward()
    np.testing.assert_array_equal(host(x.grad), [2, 4, 6])


def test_diamonds(backend):
    x = leaf(0.7, backend, np.float64)
    a = x.exp()
    b, c = a * 2, a.sqrt()
    d = b * c  # 2 e^{1.5 x}
    (d + a).backward()
    np.testing.assert_allclose(host(x.grad), 3 * np.exp(1.5 * 0.7) + np.exp(0.7), rtol=1e-14)


def test_a_ladder_of_diamonds_is_walked_once():
    x = leaf(1.0, dtype=np.float64)
    y = x
    for _ in range(60):  # 2^60 paths from the end to the beginning
        y = y * 0.5 + y * 0.5
    y.backward()
    np.testing.assert_allclose(x.grad, 1.0)


def test_interior_tensors_and_constants_get_no_gradient(backend):
    x, constant = leaf([1.0], backend), Tensor(backend.from_host(np.ones(1, np.float32)))
    y = x * constant
    y.sum().backward()
    assert y.grad is None
    assert constant.grad is None
    assert not (constant * 2).requires_grad


def test_a_leaf_is_its_own_result(backend):
    x = leaf(3.0, backend)
    x.backward()
    np.testing.assert_array_equal(host(x.grad), 1)


def test_gradient_of_the_result_may_be_given(backend):
    x = leaf([1.0, 2.0], backend)
    given = np.array([10.0, 100.0], np.float32)
    (x * 2).backward(backend.from_host(given))
    np.testing.assert_array_equal(host(x.grad), [20, 200])
    (x * 2).backward([1.0, 1.0])
    (x * 2).backward(Tensor(backend.from_host(given)))
    np.testing.assert_array_equal(host(x.grad), [42, 402])


def test_gradients_touches_no_grad(backend):
    x, y = leaf([1.0], backend), leaf([2.0], backend)
    found = gradients((x * y).sum())
    assert {id(x), id(y)} == set(found)
    np.testing.assert_array_equal(host(found[id(x)][1]), [2])
    assert x.grad is None


def test_gradients_of_0d_tensors_are_arrays(backend):
    x, y = leaf(2.0, backend), leaf(3.0, backend)
    for _ in range(2):
        (x * y + x * y + x).backward()
        assert type(x.grad) is backend.array_type
    assert x.grad.dtype == np.float32
    np.testing.assert_array_equal(host(x.grad), 14)


def test_an_operation_on_whole_numbers_needs_no_gradient():
    x = leaf([1.7, -1.7])
    whole = x.astype("int64")
    assert not whole.requires_grad
    assert whole.numpy().tolist() == [1, -1]


# --- once, twice, never -----------------------------------------------------------------------------------------------


def test_a_second_backward_raises_and_changes_nothing():
    x = leaf([1.0, 2.0])
    y = x.exp().sum()
    y.backward()
    once = x.grad.copy()
    with pytest.raises(GraphError, match=r"already used \(at sum\)"):
        y.backward()
    np.testing.assert_array_equal(x.grad, once)


def test_retain_graph_allows_a_second():
    x = leaf([1.0, 2.0])
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    np.testing.assert_array_equal(x.grad, [4, 8])
    with pytest.raises(GraphError, match="already used"):
        y.backward()


def test_two_results_on_one_trunk():
    x = leaf([1.0, 2.0])
    trunk = x * 2
    a, b = trunk.sum(), (trunk * 3).sum()
    a.backward()
    with pytest.raises(GraphError, match=r"already used \(at multiply\)"):
        b.backward()
    np.testing.assert_array_equal(x.grad, [2, 2])


@pytest.mark.parametrize("make", [lambda x: x.detach(), lambda x: Tensor(x.data), lambda x: x > 0])
def test_nothing_to_do_is_an_error(make):
    with pytest.raises(GraphError, match="nothing here requires a gradient"):
        make(leaf(1.0)).backward()


def test_there_are_no_second_derivatives():
    x = leaf(2.0)
    y = x * x * x
    with pytest.raises(GraphError, match="first derivatives only"):
        y.backward(create_graph=True)
    y.backward()
    assert not isinstance(x.grad, Tensor)  # a plain array: nothing to differentiate again


# --- depth and memory -------------------------------------------------------------------------------------------------


def chain(x, length):
    y = x
    for _ in range(length):
        y = y + 1
    return y


def test_a_chain_of_100_000_operations():
    x = leaf(1.0)
    chain(x, 100_000).backward()
    assert x.grad == 1


def test_a_long_chain_is_dropped_without_recursion():
    chain(leaf(1.0), 30_000)


@pytest.mark.parametrize("case", {c.op: c for c in CASES}.values(), ids=lambda c: c.op)
def test_a_dropped_graph_is_freed_at_once(case, backend):
    leaves = [leaf(a, backend) for a in case.arrays]
    with no_collector():
        y = case.call(*leaves)
        node, data = weakref.ref(y.node), weakref.ref(y.data)
        del y
        assert node() is None, f"{case.op} keeps its node alive: does its vjp hold a Tensor?"
        assert data() is None, f"{case.op} keeps its result alive"


@pytest.mark.parametrize("case", {c.op: c for c in CASES}.values(), ids=lambda c: c.op)
def test_backward_frees_what_the_graph_held(case):
    leaves = [leaf(a) for a in case.arrays]
    with no_collector():
        y = case.call(*leaves)
        vjp = weakref.ref(y.node.vjp)
        total = y.sum()
        total.backward()
        assert vjp() is None
        for x in leaves:
            assert x.grad is not None


def test_backward_frees_values_as_it_goes():
    x = leaf(np.ones(250_000))  # 1 MB
    y = x
    for _ in range(30):
        y = y * y
    tracemalloc.start()
    try:
        y.backward(np.ones(250_000, np.float32))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8e6, f"backward needed {peak / 1e6:.0f} MB for arrays of 1 MB"


def test_no_grad_keeps_no_values():
    x = leaf(np.ones(10))
    with no_grad():
        h = x.exp()
        values = weakref.ref(h.data)
        y = h * 2
        del h
    assert values() is None
    assert y.node is None


# --- no_grad ----------------------------------------------------------------------------------------------------------


def test_no_grad_nests_and_survives_exceptions():
    x = leaf(1.0)
    with no_grad():
        with no_grad():
            assert not (x * 2).requires_grad
        assert not (x * 2).requires_grad
        with contextlib.suppress(ShapeError), no_grad():
            x.reshape(7)
        assert not (x * 2).requires_grad
    assert (x * 2).requires_grad
    with pytest.raises(KeyError), no_grad():
        raise KeyError
    assert (x * 2).requires_grad


def test_no_grad_as_a_decorator():
    @no_grad()
    def twice(x):
        return x * 2

    assert not twice(leaf(1.0)).requires_grad
    assert not twice(leaf(1.0)).requires_grad


def test_threads_do_not_share_no_grad():
    x, seen = leaf(1.0), {}
    inside, done = threading.Event(), threading.Event()

    def other():
        inside.wait(10)
        seen["other"] = (x * 2).requires_grad
        with no_grad():
            seen["other inside"] = (x * 2).requires_grad
        done.set()

    thread = threading.Thread(target=other)
    thread.start()
    with no_grad():
        inside.set()
        assert done.wait(10)
        seen["here"] = (x * 2).requires_grad
    thread.join()
    seen["here after"] = (x * 2).requires_grad
    assert seen == {"other": True, "other inside": False, "here": False, "here after": True}


def test_threads_build_and_run_graphs_side_by_side():
    weights = leaf(np.ones((20, 20)), dtype=np.float64)
    results = [None] * 8

    def work(i):
        x = Tensor(np.full((3, 20), float(i)))
        y = x
        for _ in range(20):
            y = (y @ weights * 0.05).tanh()
        results[i] = gradients(y.sum())[id(weights)][1]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    alone = list(results)
    for i in range(8):
        work(i)
        np.testing.assert_array_equal(results[i], alone[i])
    assert weights.grad is None


# --- order ------------------------------------------------------------------------------------------------------------


def test_the_hash_seed_changes_no_order():
    program = """
import numpy as np, minivit as mv
from minivit.engine.tensor import gradients
model = mv.ViT(image_size=8, patch_size=4, in_channels=1, num_classes=3, dim=8, depth=2, num_heads=2)
loss = mv.cross_entropy(model(np.ones((2, 8, 8, 1), np.float32)), np.array([0, 1]))
print([name for name, _ in model.named_parameters()], list(model.state_dict()))
print([leaf.name for leaf, _ in gradients(loss).values()], loss.item().hex())
"""
    runs = []
    for seed in ("0", "1"):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        runs.append(subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True))
    assert runs[0].returncode == 0, runs[0].stderr
    assert len(runs[0].stdout) > 500
    assert runs[0].stdout == runs[1].stdout


# --- writing an operation ---------------------------------------------------------------------------------------------


@pytest.fixture
def scratch_registry():
    before = dict(registry)
    yield registry
    registry.clear()
    registry.update(before)


def test_a_new_operation_is_one_function(scratch_registry, backend):
    @op
    def _cube(xp, x):
        """x³."""
        return x * x * x, lambda g: (3 * g * x * x,)

    assert scratch_registry["cube"] is _cube
    assert _cube.__doc__ == "x³."
    x = leaf([2.0], backend)
    y = _cube(x)
    assert y.node.name == "cube"
    y.sum().backward()
    np.testing.assert_array_equal(host(x.grad), [12])
    mv.gradcheck(_cube, np.ones(2))


@pytest.mark.parametrize(
    ("vjp", "error", "text"),
    [
        (lambda g: g * 2, GraphError, "the vjp of double must return a tuple of 1, one gradient for each operand; got"),
        (lambda g: (g, g), GraphError, "must return a tuple of 1, one gradient for each operand; got a tuple of 2"),
        (lambda g: (g.sum(),), ShapeError, r"of shape \(\) for an operand of shape \(2,\); was a broadcast axis"),
    ],
)
def test_a_faulty_vjp_is_named(scratch_registry, vjp, error, text):
    @op
    def double(xp, x):
        return 2 * x, vjp

    with pytest.raises(error, match=text):
        double(leaf([1.0, 2.0])).sum().backward()


def test_a_vjp_may_skip_an_operand(scratch_registry):
    @op
    def first(xp, a, b):
        return a + 0 * b, lambda g: (g, None)

    a, b = leaf([1.0]), leaf([1.0])
    first(a, b).sum().backward()
    assert b.grad is None
    assert a.grad == 1


def test_needs_tells_which_operands_require_a_gradient(scratch_registry):
    seen = []

    @op
    def watch(xp, a, b, c, *, needs):
        seen.append(needs)
        return a + b + c, lambda g: (g, g, None)

    a, constant = leaf([1.0]), Tensor(np.ones(1, np.float32))
    watch(a, constant, 2.0)
    with no_grad():
        watch(a, a, 2.0)
    assert seen == [(True, False, False), (False, False, False)]


def test_settings_from_numpy_do_not_change_the_dtype():
    x = leaf([0.25, 4.0])
    assert (x ** np.float64(0.5)).dtype == np.float32
    assert x.clip(np.float64(0), np.float64(1)).dtype == np.float32
    assert x.sum(axis=np.int64(0)).shape == ()
    rows = leaf(np.ones((2, 3)))
    assert mv.attention(rows, rows, rows, scale=np.float64(0.5)).dtype == np.float32
    assert ops.sum(rows, axis=-1).shape == (2,)
