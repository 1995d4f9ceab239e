"""FNet: its transform against NumPy's and against cosines, its gradient, its scale, and its feed-forward-only control."""

import numpy as np
import pytest

import minivit as mv
from minivit.models.fnet import FNet, FourierMix

SIZES = {"image_size": (8, 12), "patch_size": 4, "in_channels": 2, "num_classes": 5, "dim": 8, "depth": 2}


@pytest.fixture
def images(rng):
    return rng.random((3, 8, 12, 2), np.float32)


def cosines(n):
    return np.exp(-2j * np.pi * np.outer(np.arange(n), np.arange(n)) / n)


def test_the_mixing_is_the_real_part_of_two_matrices_of_waves(rng):
    x = rng.standard_normal((2, 6, 8))
    expected = (cosines(6) @ x @ cosines(8)).real / np.sqrt(48)
    np.testing.assert_allclose(FourierMix()(mv.Tensor(x)).numpy(), expected, rtol=0, atol=1e-12)


def test_on_a_grid_a_third_matrix_joins(rng):
    x = rng.standard_normal((2, 6, 8))
    waves = np.einsum("ir,jc,brcd,de->bije", cosines(2), cosines(3), x.reshape(2, 2, 3, 8), cosines(8))
    expected = waves.real.reshape(2, 6, 8) / np.sqrt(48)
    np.testing.assert_allclose(FourierMix((2, 3))(mv.Tensor(x)).numpy(), expected, rtol=0, atol=1e-12)


def test_its_vjp_is_the_real_part_of_the_transform_of_the_gradient(rng):
    """REFERENCE: the Jacobian is symmetric. Checked against numbers too, by the engine's own table."""
    x, g = mv.Tensor(rng.standard_normal((2, 6, 8)), requires_grad=True), rng.standard_normal((2, 6, 8))
    mv.fft2_real(x).backward(g)
    np.testing.assert_allclose(x.grad, np.fft.fft2(g).real, rtol=0, atol=1e-12)
    x.zero_grad()
    FourierMix()(x).backward(g)
    np.testing.assert_allclose(x.grad, np.fft.fft2(g).real / np.sqrt(48), rtol=0, atol=1e-12)


@pytest.mark.parametrize("grid", [None, (2, 3)])
def test_scaled_by_the_root_of_t_d_it_neither_grows_nor_shrinks(rng, grid):
    """Twice the mixing is the even part: x(t, d) and x(−t, −d), averaged; unscaled, T·D times that."""
    x = rng.standard_normal((2, 6, 8))
    mix = FourierMix(grid)
    plane = x.reshape(2, *(grid or (6,)), 8)
    axes = tuple(range(1, plane.ndim))
    mirrored = np.roll(np.flip(plane, axes), 1, axes).reshape(x.shape)
    twice = mix(mix(mv.Tensor(x))).numpy()
    np.testing.assert_allclose(twice, (x + mirrored) / 2, rtol=0, atol=1e-12)
    if grid is None:
        raw = mv.fft2_real(mv.fft2_real(mv.Tensor(x))).numpy()
        np.testing.assert_allclose(raw, 48 * (x + mirrored) / 2, rtol=0, atol=1e-9)
    matrix = np.stack([mix(mv.Tensor(e.reshape(1, 6, 8))).numpy().ravel() for e in np.eye(48)])
    assert np.allclose(matrix, matrix.T) and np.abs(np.linalg.eigvalsh(matrix)).max() <= 1 + 1e-12


def test_parameters_are_counted_exactly():
    d, n, r, depth = 96, 64, 2, 6
    block = 2 * r * d * d + (r + 1) * d + 4 * d
    patches = 48 * d + d
    expected = patches + n * d + depth * block + 2 * d + 10 * d + 10
    assert mv.create("fnet_32").num_parameters() == expected == 237_226
    only = mv.create("fnet_32", mixing="none")
    assert only.num_parameters() == expected - depth * 2 * d  # the norm before the mixing goes with it


def test_feed_forward_only_lets_no_patch_see_another(images):
    """Without mixing, a changed patch changes its own token alone; with it, all of them."""
    changed = images.copy()
    changed[:, :4, :4] += 1
    for mixing, others in (("none", False), ("tokens", True), ("grid", True)):
        model = FNet(**SIZES, mixing=mixing).eval()
        before, after = (mv.trace(model, x, keep="tokens").tokens[-1] for x in (images, changed))
        moved = np.abs(after - before).max(axis=(0, 2))
        assert moved[0] > 1e-3 and (moved[1:] > 1e-6).all() == others and (moved[1:] > 0).any() == others


@pytest.mark.parametrize("mixing", ["tokens", "grid", "none"])
def test_every_parameter_learns(rng, images, mixing):
    model = FNet(**SIZES, mixing=mixing)
    model.head.weight.data += rng.standard_normal((8, 5), np.float32)
    mv.cross_entropy(model(images), [1, 4, 0]).backward()
    assert min(np.abs(p.grad).max() for p in model.parameters()) > 1e-6


def test_it_is_saved_traced_and_takes_other_sizes(tmp_path, rng, images):
    model = FNet(**SIZES, drop_path=0.1).eval()
    mv.save(model, tmp_path / "x")
    again = mv.load(tmp_path / "x")
    assert type(again) is FNet and again.config == model.config
    assert np.array_equal(again(images).numpy(), model(images).numpy())
    trace = mv.trace(model, rng.random((3, 16, 12, 2), np.float32))
    assert [t.shape for t in trace.tokens] == [(3, 12, 8)] * 3 and trace.attention == []
    assert trace.features["blocks.1.mix"].shape == (3, 12, 8) and trace.final.shape == (3, 12, 8)
    assert "num_heads" not in model.config


def test_the_rest_is_the_vit_s(images):
    """Embedding, positions, last norm and head are those of a ViT with mean pooling, from the same seed."""
    model, vit = FNet(**SIZES, seed=3), mv.ViT(**SIZES, num_heads=1, pool="mean", seed=3)
    own, theirs = model.state_dict(), vit.state_dict()
    shared = [name for name in own if not name.startswith("blocks.")]
    assert shared == [name for name in theirs if not name.startswith("blocks.")]
    assert all(np.array_equal(own[name], theirs[name]) for name in shared)
    other = FNet(**SIZES, seed=4).blocks[0].mlp.fc1.weight.numpy()
    assert not np.array_equal(model.blocks[0].mlp.fc1.weight.numpy(), other)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mixing": "token"}, "mixing: unknown choice 'token'.*did you mean 'tokens'"),
        ({"depth": -1}, "depth must be a whole number, at least 0"),
        ({"patch_size": 5}, "not a whole number of 5×5 patches"),
        ({"drop_path": 1.0}, "drop_path"),
    ],
)
def test_sizes_that_cannot_be(options, message):
    with pytest.raises(mv.ConfigError, match=message):
        FNet(**SIZES | options)


def test_a_grid_is_fixed(rng):
    with pytest.raises(mv.ShapeError, match="12 tokens are no grid of 2×3 patches"):
        FNet(**SIZES, mixing="grid")(rng.random((1, 16, 12, 2), np.float32))
