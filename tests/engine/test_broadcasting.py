"""Properties that hold for every shape: broadcasting as NumPy does it, and gradients that are the transpose of the step."""

import hypothesis.extra.numpy as shapes
import numpy as np
import pytest
from gradient_cases import host, windows
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minivit.engine import ops
from minivit.engine.tensor import Tensor, unbroadcast

over_backends = settings(
    settings.get_profile("repeatable"), suppress_health_check=[HealthCheck.function_scoped_fixture]
)

SEEDS = st.integers(0, 2**32 - 1)
SHAPES = shapes.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3)
PAIRS = shapes.mutually_broadcastable_shapes(num_shapes=2, min_dims=0, max_dims=4, min_side=0, max_side=3)


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def leaf(xp, array):
    return Tensor(xp.from_host(array), requires_grad=True)


def gathered(contributions, shape):
    """Each place of `shape` receives what all places made from it received: `unbroadcast`, one element after another."""
    origin = np.broadcast_to(np.arange(np.prod(shape, dtype=int)).reshape(shape), contributions.shape)
    total = np.zeros(int(np.prod(shape, dtype=int)))
    np.add.at(total, origin.ravel(), contributions.ravel())
    return total.reshape(shape)


@pytest.mark.parametrize(
    ("name", "to_a", "to_b"),
    [
        ("add", lambda g, a, b: g + 0 * a * b, lambda g, a, b: g + 0 * a * b),
        ("subtract", lambda g, a, b: g + 0 * a * b, lambda g, a, b: 0 * a * b - g),
        ("multiply", lambda g, a, b: g * b + 0 * a, lambda g, a, b: g * a + 0 * b),
        ("divide", lambda g, a, b: g / b + 0 * a, lambda g, a, b: -g * a / b**2),
        ("maximum", lambda g, a, b: g * (a > b), lambda g, a, b: g * (b > a)),
        ("minimum", lambda g, a, b: g * (a < b), lambda g, a, b: g * (b < a)),
    ],
)
@over_backends
@given(pair=PAIRS, seed=SEEDS)
def test_two_operands_broadcast(backend, name, to_a, to_b, pair, seed):
    (a_shape, b_shape), result = pair
    a, b, g = normal([seed, 1], *a_shape), normal([seed, 2], *b_shape), normal([seed, 3], *result)
    b = np.where(np.abs(b) < 0.1, 1.0, b)
    x, y = leaf(backend, a), leaf(backend, b)
    z = getattr(ops, name)(x, y)
    np.testing.assert_array_equal(z.numpy(), getattr(np, name)(a, b))
    z.backward(backend.from_host(g))
    np.testing.assert_allclose(host(x.grad), gathered(to_a(g, a, b), a_shape), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(host(y.grad), gathered(to_b(g, a, b), b_shape), rtol=1e-12, atol=1e-12)


@over_backends
@given(pair=PAIRS, seed=SEEDS)
def test_where_broadcasts_three_ways(backend, pair, seed):
    (a_shape, b_shape), result = pair
    a, b, g = normal([seed, 1], *a_shape), normal([seed, 2], *b_shape), normal([seed, 3], *result)
    condition = normal([seed, 4], *result) > 0
    x, y = leaf(backend, a), leaf(backend, b)
    z = ops.where(backend.from_host(condition), x, y)
    np.testing.assert_array_equal(z.numpy(), np.where(condition, a, b))
    z.backward(backend.from_host(g))
    np.testing.assert_allclose(host(x.grad), gathered(g * condition, a_shape), atol=1e-12)
    np.testing.assert_allclose(host(y.grad), gathered(g * ~condition, b_shape), atol=1e-12)


@over_backends
@given(pair=PAIRS, seed=SEEDS)
def test_unbroadcast_sums_over_what_was_repeated(backend, pair, seed):
    (shape, _), result = pair
    g = normal(seed, *result)
    small = unbroadcast(backend.from_host(g), shape)
    assert small.shape == shape
    np.testing.assert_allclose(host(backend.asarray(small)), gathered(g, shape), rtol=1e-12, atol=1e-12)
    assert unbroadcast(backend.from_host(g), None) is None


# --- linear steps: ⟨f(x), g⟩ = ⟨x, vjp(g)⟩ ------------------------------------------------------------------------------


def check_transpose(xp, step, reference, array, seed):
    """The value is NumPy's, and the vjp is the step's transpose, which is all there is to know of a linear step."""
    x = leaf(xp, array)
    y = step(x)
    expected = reference(array)
    assert y.shape == expected.shape
    np.testing.assert_array_equal(y.numpy(), expected)
    g = normal([seed, 9], *expected.shape)
    y.backward(xp.from_host(g))
    assert x.grad.shape == array.shape
    np.testing.assert_allclose((expected * g).sum(), (array * host(x.grad)).sum(), rtol=1e-9, atol=1e-9)


@over_backends
@given(data=st.data(), shape=SHAPES, seed=SEEDS)
def test_basic_index(backend, data, shape, seed):
    index = data.draw(shapes.basic_indices(shape, allow_newaxis=True))
    check_transpose(backend, lambda x: x[index], lambda a: np.asarray(a[index]), normal(seed, *shape), seed)


@over_backends
@given(data=st.data(), shape=shapes.array_shapes(max_dims=3, max_side=3), seed=SEEDS)
def test_index_arrays(backend, data, shape, seed):
    index = data.draw(shapes.integer_array_indices(shape))
    there = tuple(backend.from_host(i) for i in index)
    check_transpose(backend, lambda x: x[there], lambda a: a[index], normal(seed, *shape), seed)


@over_backends
@given(shape=SHAPES, seed=SEEDS)
def test_mask(backend, shape, seed):
    mask = normal([seed, 1], *shape) > 0
    check_transpose(
        backend, lambda x: x[backend.from_host(mask)], lambda a: np.asarray(a[mask]), normal(seed, *shape), seed
    )


@over_backends
@given(data=st.data(), shape=SHAPES, seed=SEEDS)
def test_transpose_and_back(backend, data, shape, seed):
    axes = tuple(data.draw(st.permutations(range(len(shape)))))
    array = normal(seed, *shape)
    check_transpose(backend, lambda x: ops.transpose(x, axes=axes), lambda a: a.transpose(axes), array, seed)
    back = tuple(np.argsort(axes, kind="stable").tolist())
    there_and_back = ops.transpose(ops.transpose(leaf(backend, array), axes=axes), axes=back)
    np.testing.assert_array_equal(there_and_back.numpy(), array)


@over_backends
@given(data=st.data(), shape=shapes.array_shapes(min_dims=1, max_dims=4, max_side=4), seed=SEEDS)
def test_reshape_and_back(backend, data, shape, seed):
    array = normal(seed, *shape)
    factors = [n for n in shape for n in ((2, n // 2) if n % 2 == 0 else (n,))]
    target = tuple(data.draw(st.permutations(factors)))
    check_transpose(backend, lambda x: x.reshape(target), lambda a: a.reshape(target), array, seed)
    np.testing.assert_array_equal(leaf(backend, array).reshape(*target).reshape(shape).numpy(), array)


@over_backends
@given(pair=PAIRS, seed=SEEDS)
def test_broadcast_to(backend, pair, seed):
    (shape, _), result = pair
    check_transpose(
        backend,
        lambda x: ops.broadcast_to(x, shape=result),
        lambda a: np.broadcast_to(a, result),
        normal(seed, *shape),
        seed,
    )


@over_backends
@given(data=st.data(), shape=shapes.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4), seed=SEEDS)
def test_pad_roll_flip(backend, data, shape, seed):
    array, rank = normal(seed, *shape), len(shape)
    widths = tuple(data.draw(st.tuples(st.integers(0, 2), st.integers(0, 2))) for _ in shape)
    axis, shift = data.draw(st.integers(-rank, rank - 1)), data.draw(st.integers(-6, 6))
    check_transpose(backend, lambda x: ops.pad(x, widths=widths), lambda a: np.pad(a, widths), array, seed)
    check_transpose(
        backend, lambda x: ops.roll(x, shift=shift, axis=axis), lambda a: np.roll(a, shift, axis), array, seed
    )
    check_transpose(backend, lambda x: ops.flip(x, axis=axis), lambda a: np.flip(a, axis), array, seed)


@over_backends
@given(data=st.data(), shape=shapes.array_shapes(min_dims=1, max_dims=3, max_side=6), seed=SEEDS)
def test_split_and_concatenate(backend, data, shape, seed):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    cuts = sorted(data.draw(st.lists(st.integers(0, shape[axis]), max_size=3)))
    sizes = [b - a for a, b in zip([0, *cuts], [*cuts, shape[axis]], strict=True)]

    def apart_and_together(x):
        parts = ops.split(x, sizes, axis=axis)
        assert [p.shape[axis] for p in parts] == sizes
        return ops.concatenate(parts, axis=axis)

    check_transpose(backend, apart_and_together, lambda a: a, normal(seed, *shape), seed)


@over_backends
@given(data=st.data(), shape=SHAPES, seed=SEEDS)
def test_sum_and_mean(backend, data, shape, seed):
    rank = len(shape)
    axis = data.draw(st.none() | shapes.valid_tuple_axes(rank, min_size=0))
    keepdims, array = data.draw(st.booleans()), normal(seed, *shape)
    x = leaf(backend, array)
    y = x.sum(axis=axis, keepdims=keepdims)
    expected = array.sum(axis=axis, keepdims=keepdims)
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-12, atol=1e-12)
    g = normal([seed, 1], *np.shape(expected))
    y.backward(backend.from_host(g))
    kept = array.sum(axis=axis, keepdims=True).shape
    np.testing.assert_array_equal(host(x.grad), np.broadcast_to(g.reshape(kept), shape))
    if array.size:
        mean = leaf(backend, array).mean(axis=axis, keepdims=keepdims)
        np.testing.assert_allclose(mean.numpy(), array.mean(axis=axis, keepdims=keepdims), rtol=1e-12, atol=1e-12)


# --- products: ⟨E @ b, g⟩ = ⟨E, ∂a⟩ for every E, since a @ b is linear in each of the two -------------------------------


@over_backends
@given(
    shapes_of=shapes.mutually_broadcastable_shapes(signature="(n?,k),(k,m?)->(n?,m?)", max_dims=2, max_side=3),
    seed=SEEDS,
)
def test_matmul_broadcasts(backend, shapes_of, seed):
    (a_shape, b_shape), result = shapes_of
    a, b, g = normal([seed, 1], *a_shape), normal([seed, 2], *b_shape), normal([seed, 3], *result)
    x, y = leaf(backend, a), leaf(backend, b)
    z = x @ y
    np.testing.assert_allclose(z.numpy(), a @ b, rtol=1e-12, atol=1e-12)
    z.backward(backend.from_host(g))
    for other, (grad, left) in enumerate([(x.grad, True), (y.grad, False)]):
        nudge = normal([seed, 4, other], *grad.shape)
        moved = nudge @ b if left else a @ nudge
        np.testing.assert_allclose((host(grad) * nudge).sum(), (moved * g).sum(), rtol=1e-9, atol=1e-9)


@settings(over_backends, max_examples=30)
@given(
    size=st.tuples(st.integers(3, 6), st.integers(3, 6)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    margins=st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * 2),
    seed=SEEDS,
)
def test_convolution_of_any_stride_and_padding(backend, size, kernel, stride, margins, seed):
    images, weight = normal([seed, 1], 2, *size, 2), normal([seed, 2], *kernel, 2, 3)
    x, w = leaf(backend, images), leaf(backend, weight)
    y = ops.conv2d(x, w, stride, margins)

    def convolved(a, k):
        return windows(a, kernel, stride, margins, lambda part: np.einsum("bijc,ijck->bk", part, k))

    np.testing.assert_allclose(y.numpy(), convolved(images, weight), rtol=1e-12, atol=1e-12)
    g = normal([seed, 3], *y.shape)
    y.backward(backend.from_host(g))
    nudge, push = normal([seed, 4], *x.shape), normal([seed, 5], *w.shape)
    np.testing.assert_allclose((host(x.grad) * nudge).sum(), (convolved(nudge, weight) * g).sum(), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose((host(w.grad) * push).sum(), (convolved(images, push) * g).sum(), rtol=1e-9, atol=1e-9)
