"""The hybrid: its stem is the convolutions it claims to be, and behind it everything is the ViT's."""

import inspect

import numpy as np
import pytest

import minivit as mv
from minivit.models.hybrid import ConvStem, Hybrid

SIZES = {"image_size": 16, "patch_size": 4, "in_channels": 3, "num_classes": 5, "dim": 16, "depth": 2, "num_heads": 2}


@pytest.fixture
def images(rng):
    return rng.random((2, 16, 16, 3), np.float32)


def test_parameters_are_counted_exactly():
    """Of hybrid_32: D = 96, L = 6, MLP ratio 2, 64 patches and a class token, 10 classes."""
    d, n, k = 96, 65, 10
    stem = 9 * 3 * 48 + 2 * 48 + 9 * 48 * 96 + 2 * 96 + 96 * 96 + 96
    block = 8 * d * d + 11 * d  # qkv 3D² + 3D, proj D² + D, two norms 4D, MLP 4D² + 3D
    assert mv.create("hybrid_32").num_parameters() == stem + d + n * d + 6 * block + 2 * d + d * k + k == 508_570


@pytest.mark.parametrize(("patch_size", "widths"), [(2, [16]), (4, [8, 16]), (8, [4, 8, 16])])
def test_the_stem_halves_until_a_pixel_is_a_patch(rng, patch_size, widths):
    stem = ConvStem(patch_size, 3, 16)
    assert [conv.weight.shape[-1] for conv in stem.convs] == widths
    assert stem(mv.Tensor(rng.random((2, 16, 8, 3), np.float32))).shape == (2, 16 * 8 // patch_size**2, 16)


def test_the_stem_by_hand(rng):
    """Windows of 3×3 at every second pixel, normed over the groups of each image, cut at 0, then one matrix."""
    stem = ConvStem(2, 3, 8)
    for p in stem.parameters():
        p.data += 0.3 * rng.standard_normal(p.shape, np.float32)
    images = rng.random((2, 6, 4, 3), np.float32)
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    x = np.empty((2, 3, 2, 8))
    for i, j in np.ndindex(3, 2):
        window = padded[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
        x[:, i, j] = np.einsum("brsc,rsck->bk", window, stem.convs[0].weight.numpy())
    groups = x.reshape(2, 3, 2, 4, 2)
    groups = groups - groups.mean(axis=(1, 2, 4), keepdims=True)
    groups /= np.sqrt((groups**2).mean(axis=(1, 2, 4), keepdims=True) + 1e-5)
    norm, proj = stem.norms[0], stem.proj
    x = np.maximum(groups.reshape(x.shape) * norm.weight.numpy() + norm.bias.numpy(), 0)
    expected = x.reshape(2, 6, 8) @ proj.weight.numpy() + proj.bias.numpy()
    np.testing.assert_allclose(stem(mv.Tensor(images)).numpy(), expected, rtol=0, atol=1e-5)


def test_behind_the_stem_it_is_the_vit(images):
    """The same weights in a ViT, given the stem's tokens as if they were patches of one pixel."""
    options = {"pool": "mean", "registers": 2, "qk_norm": True}
    model = Hybrid(**SIZES | options).eval()
    vit = mv.ViT(**SIZES | options | {"image_size": 4, "patch_size": 1, "in_channels": 16}).eval()
    for p in model.parameters():
        p.data += 0.1 * np.random.default_rng(p.size).standard_normal(p.shape, np.float32)
    own = {n: a for n, a in model.state_dict().items() if not n.startswith("patch_embed.")}
    identity = {
        "patch_embed.proj.weight": np.eye(16, dtype=np.float32),
        "patch_embed.proj.bias": np.zeros(16, np.float32),
    }
    vit.load_state_dict(own | identity)
    tokens = model.patch_embed(mv.Tensor(images)).numpy().reshape(2, 4, 4, 16)
    np.testing.assert_allclose(model(images).numpy(), vit(tokens).numpy(), rtol=0, atol=1e-5)


def test_it_takes_the_vit_s_arguments_and_every_parameter_learns(rng, images):
    assert inspect.signature(Hybrid) == inspect.signature(mv.ViT)
    model = Hybrid(**SIZES)
    assert model.config == mv.ViT(**SIZES).config
    model.head.weight.data += rng.standard_normal((16, 5), np.float32)
    mv.cross_entropy(model(images), [1, 4]).backward()
    assert min(np.abs(p.grad).max() for p in model.parameters()) > 1e-5


def test_the_seed_decides_the_stem():
    first, again, other = (Hybrid(**SIZES, seed=seed).patch_embed.convs[0].weight.numpy() for seed in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_it_is_saved_traced_and_takes_other_sizes(tmp_path, rng, images):
    model = Hybrid(**SIZES).eval()
    mv.save(model, tmp_path / "x")
    again = mv.load(tmp_path / "x")
    assert type(again) is Hybrid and np.array_equal(again(images).numpy(), model(images).numpy())
    trace = mv.trace(model, rng.random((3, 8, 24, 3), np.float32))
    assert [a.shape for a in trace.attention] == [(3, 2, 13, 13)] * 2
    assert trace.features["patch_embed"].shape == (3, 12, 16)


@pytest.mark.parametrize(
    "sizes", [{"patch_size": 3, "image_size": 12}, {"patch_size": 1}, {"patch_size": (4, 2)}, {"dim": 12}]
)
def test_sizes_that_no_stem_has(sizes):
    with pytest.raises(
        mv.ConfigError, match="patch_size must be 2, 4, 8, … and|and dim a multiple of 4 · patch_size / 2"
    ):
        Hybrid(**SIZES | sizes)


@pytest.mark.parametrize(("shape", "message"), [
    ((2, 16, 16), r"images must be \(B, H, W, 3\), got \(2, 16, 16\)"),
    ((2, 16, 16, 1), r"images must be \(B, H, W, 3\)"),
    ((2, 16, 18, 3), "a 16×18 image is not a whole number of 4×4 patches"),
])  # fmt: skip
def test_images_that_do_not_fit(shape, message):
    with pytest.raises(mv.ShapeError, match=message):
        Hybrid(**SIZES)(np.zeros(shape, np.float32))
