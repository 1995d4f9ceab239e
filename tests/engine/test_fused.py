"""The fused operations: equal to their composed twins, accurate, and unshaken by extreme inputs."""

import inspect
import math

import numpy as np
import pytest
from gradient_cases import operations, there, value_and_gradients
from twins import TWINS, check_twins

from minivit.engine import backend as backends
from minivit.engine import composed, fused, ops
from minivit.engine.tensor import Tensor


def test_every_fused_operation_has_a_twin():
    names = {name for name, call in operations().items() if call.__module__ == fused.__name__}
    assert names == {pair.op for pair in TWINS}


@pytest.mark.parametrize("op", sorted({pair.op for pair in TWINS}))
def test_twins_take_the_same_arguments(op):
    def arguments(function):
        return [p.name for p in inspect.signature(function).parameters.values()]

    assert arguments(getattr(fused, op)) == arguments(getattr(composed, op))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("pair", TWINS, ids=str)
def test_twins_agree(pair, backend, dtype):
    check_twins(pair, backend, dtype)


# --- erf and GELU -----------------------------------------------------------------------------------------------------

GRID = np.concatenate([np.linspace(-7, 7, 20_001), np.geomspace(1e-30, 1, 500), -np.geomspace(1e-30, 1, 500)])


@pytest.mark.parametrize(("dtype", "error"), [(np.float64, 1e-15), (np.float32, 2e-7), (np.float16, 1e-3)])
def test_erf_is_accurate(dtype, error):
    x = GRID.astype(dtype)
    exact = np.array([math.erf(v) for v in x.tolist()])
    y = ops.erf(Tensor(x)).numpy()
    assert y.dtype == dtype
    assert np.abs(y.astype(np.float64) - exact).max() <= error


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_erf_at_the_ends(dtype):
    y = ops.erf(Tensor(np.array([np.inf, -np.inf, np.nan, 0.0, -0.0, 1e4, -1e4], dtype))).numpy()
    np.testing.assert_array_equal(y, np.array([1, -1, np.nan, 0, 0, 1, -1], dtype))
    assert np.signbit(y[4])
    assert not np.signbit(y[3])


def test_erf_does_not_leave_its_range():
    assert np.abs(ops.erf(Tensor(GRID.astype(np.float32))).numpy()).max() <= 1


@pytest.mark.parametrize(("dtype", "error"), [(np.float64, 4e-15), (np.float32, 1e-6)])
def test_gelu_against_math(dtype, error):
    x = GRID.astype(dtype)
    exact = np.array([v * 0.5 * math.erfc(-v / math.sqrt(2)) for v in x.tolist()])
    slope = np.array(
        [0.5 * math.erfc(-v / math.sqrt(2)) + v * math.exp(-v * v / 2) / math.sqrt(2 * math.pi) for v in x.tolist()]
    )
    leaf = Tensor(x, requires_grad=True)
    y = fused.gelu(leaf)
    y.backward(np.ones_like(x))
    np.testing.assert_allclose(y.numpy(), exact, rtol=0, atol=error)
    np.testing.assert_allclose(leaf.grad, slope, rtol=0, atol=error)


def test_the_two_gelus_differ_by_what_is_known():
    x = Tensor(GRID)
    gap = np.abs(fused.gelu(x).numpy() - fused.gelu(x, approximate=True).numpy()).max()
    assert 4e-4 < gap < 5e-4  # the largest difference between the exact and the tanh form


# --- extreme inputs ---------------------------------------------------------------------------------------------------

FAR = np.array([-1e4, -300.0, -60.0, 0.0, 60.0, 300.0, 1e4], np.float32)
ONE_STEP = [
    fused.gelu,
    lambda x: fused.gelu(x, approximate=True),
    fused.silu,
    fused.softmax,
    fused.log_softmax,
    ops.sigmoid,
    ops.tanh,
    ops.erf,
    lambda x: fused.layer_norm(x, Tensor(np.ones(7, np.float32)), Tensor(np.zeros(7, np.float32))),
]


@pytest.mark.parametrize("call", ONE_STEP)
def test_large_inputs_stay_finite(call):
    y, (g,) = value_and_gradients(call, [FAR], backends.get_backend("numpy"))
    assert np.isfinite(y).all()
    assert np.isfinite(g).all()


@pytest.mark.parametrize("approximate", [False, True])
def test_gelu_far_out_is_relu(approximate):
    y, (g,) = value_and_gradients(
        lambda x: fused.gelu(x, approximate=approximate), [FAR], backends.get_backend("numpy")
    )
    np.testing.assert_array_equal(y, FAR * (FAR > 0))
    weights = np.random.default_rng(5).standard_normal(7).astype(np.float32)
    np.testing.assert_array_equal(g[FAR != 0], (weights * (FAR > 0))[FAR != 0])


@pytest.mark.parametrize("approximate", [False, True])
def test_gelu_is_relu_all_the_way_out(approximate):
    x = np.concatenate([np.linspace(-1000, -7, 50_000), np.linspace(7, 1000, 50_000)]).astype(np.float32)
    np.testing.assert_array_equal(fused.gelu(Tensor(x), approximate=approximate).numpy(), x * (x > 0))


def test_softmax_leaves_out_minus_infinity():
    x = np.array([[0.0, -np.inf, 0.0], [-np.inf, 5.0, -np.inf]], np.float32)
    y, (g,) = value_and_gradients(fused.softmax, [x], backends.get_backend("numpy"))
    np.testing.assert_array_equal(y, [[0.5, 0, 0.5], [0, 1, 0]])
    assert np.isfinite(g).all()
    assert (g[x == -np.inf] == 0).all()


@pytest.mark.parametrize("labels", [np.array([1, 0]), np.eye(3)[[1, 0]]])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("form", [fused.cross_entropy, composed.cross_entropy])
def test_cross_entropy_with_a_gap_of_1000(backend, labels, smoothing, form):
    logits = backend.from_host(np.array([[1000.0, 0, 0], [1000.0, 0, 0]], np.float32))
    loss, (g,) = value_and_gradients(lambda x: form(x, there(x, labels), smoothing=smoothing), [logits], backend)
    # Image 0 is certain and wrong: loss 1000; image 1 certain and right. Smoothing moves a part of each to all classes.
    wrong, right, everywhere = 1000.0, 0.0, 2000 / 3
    expected = (1 - smoothing) * (wrong + right) / 2 + smoothing * everywhere
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    believed = np.array([[1.0, 0, 0], [1, 0, 0]])
    true = (1 - smoothing) * np.eye(3)[[1, 0]] + smoothing / 3
    np.testing.assert_allclose(g, np.random.default_rng(5).standard_normal() * (believed - true) / 2, atol=1e-6)


def test_layer_norm_of_a_constant_row_is_its_bias():
    x, bias = Tensor(np.full((2, 5), 3.3, np.float32)), Tensor(np.arange(5, dtype=np.float32))
    y = fused.layer_norm(x, Tensor(np.ones(5, np.float32)), bias)
    np.testing.assert_allclose(y.numpy(), np.tile(np.arange(5.0), (2, 1)), atol=1e-3)


def test_layer_norm_uses_the_biased_variance_and_eps_inside_the_root():
    x = np.array([[1.0, 3.0]])
    one, none = Tensor(np.ones(2)), Tensor(np.zeros(2))
    for form in (fused, composed):
        y = form.layer_norm(Tensor(x), one, none, eps=3.0).numpy()
        np.testing.assert_allclose(y, [[-0.5, 0.5]])  # variance 1, √(1 + 3) = 2


def test_layer_norm_in_float16_survives_large_sums():
    x = (np.random.default_rng(0).standard_normal((4, 768)) * 30).astype(
        np.float16
    )  # Σx² is ten times float16's maximum
    one, none = np.ones(768, np.float16), np.zeros(768, np.float16)
    call = fused.layer_norm
    y, _ = value_and_gradients(call, [x, one, none], backends.get_backend("numpy"))
    exact, _ = value_and_gradients(call, [a.astype(np.float64) for a in (x, one, none)], backends.get_backend("numpy"))
    np.testing.assert_allclose(y, exact, atol=5e-3)


def test_attention_scales_by_the_root_of_the_head_width():
    q, k = np.full((1, 4), 2.0), np.array([[1.0, 1, 1, 1], [0, 0, 0, 0]])
    v = np.array([[1.0], [0.0]])
    expected = 1 / (1 + math.exp(-8 / math.sqrt(4)))  # scores 8/√4 and 0
    for form in (fused, composed):
        y = form.attention(Tensor(q), Tensor(k), Tensor(v))
        np.testing.assert_allclose(y.numpy(), [[expected]])
    packed = np.zeros((1, 2, 12))
    packed[0, :, :4], packed[0, :, 4:8], packed[0, :, 8] = 2.0, k, v[:, 0]
    y = fused.self_attention(Tensor(packed), num_heads=1)
    np.testing.assert_allclose(y.numpy()[0, 0, 0], expected)
