"""Exact facts of locality: a convolution is a tied, local matrix that moves with its input; a ViT block sees everything."""

import numpy as np
import pytest

import minivit as mv
from minivit.engine.errors import ConfigError, ShapeError
from minivit.models.baselines import SmallCNN
from minivit.nn import PatchEmbed
from minivit.nn.layers import Conv2d
from minivit.studies import locality


@pytest.mark.parametrize("stride", [1, 2, (2, 1)])
@pytest.mark.parametrize("padding", [0, 1, (2, 0)])
@pytest.mark.parametrize(("kernel", "image"), [((3, 3), (8, 8)), ((2, 3), (5, 7)), ((1, 1), (4, 4))])
def test_a_convolution_is_a_matrix(rng, kernel, image, stride, padding):
    x, weight = rng.standard_normal((3, *image, 2)), rng.standard_normal((*kernel, 2, 4))
    matrix = locality.conv_matrix(weight, image, stride, padding)
    y = mv.conv2d(x, weight, stride, padding).numpy()
    assert matrix.shape == (x[0].size, y[0].size)
    np.testing.assert_allclose((x.reshape(3, -1) @ matrix).reshape(y.shape), y, rtol=1e-12, atol=1e-12)


def test_it_is_local_and_tied(rng):
    """3×3 on 8×8 with zeros outside: 9 offsets less the rows and columns that fall off, and 9 weights for every pair."""
    weight = rng.standard_normal((3, 3, 2, 4))
    counts = locality.weights_in(locality.conv_matrix(weight, 8, padding=1))
    assert counts == {"entries": 128 * 256, "nonzero": (3 * 8 - 2) ** 2 * 2 * 4, "different": 9 * 2 * 4}
    matrix = locality.conv_matrix(weight[:, :, :1, :1], 8, padding=1).reshape(8, 8, 8, 8)
    for (r, c, i, j), value in np.ndenumerate(matrix):
        near = max(abs(r - i), abs(c - j)) <= 1
        assert value == (weight[r - i + 1, c - j + 1, 0, 0] if near else 0)


def test_a_kernel_too_large_is_refused(rng):
    with pytest.raises(ShapeError, match="a 5×5 kernel does not fit a 4×4 image"):
        locality.conv_matrix(rng.standard_normal((5, 5, 1, 1)), 4)


def test_a_convolution_moves_with_its_input(rng):
    x = rng.standard_normal((2, 12, 12, 3)).astype(np.float32)
    conv = Conv2d(3, 4, 3, padding=1)
    assert locality.equivariance_error(conv, mv.Tensor(x).numpy(), (2, -3), border=4) == 0
    assert locality.equivariance_error(conv, x, (2, -3)) > 0.01  # at the border, where zeros come in
    strided = Conv2d(3, 4, 3, stride=2, padding=1)
    assert locality.equivariance_error(strided, x, (2, -2), stride=2, border=2) == 0
    assert locality.equivariance_error(strided, x, (1, 0), stride=2, border=2) > 0.01


def test_patches_move_with_whole_patches_only(rng):
    x = rng.standard_normal((2, 12, 12, 3)).astype(np.float32)
    embed = PatchEmbed(4, 3, 8)

    def as_map(images):
        return embed(mv.Tensor(images)).reshape(2, 3, 3, 8)

    for shift in ((4, 0), (-8, 4), (0, 0)):
        assert locality.equivariance_error(as_map, x, shift, stride=4) == 0
    for shift in ((1, 0), (2, 2), (4, 3)):
        assert locality.equivariance_error(as_map, x, shift, stride=4) > 0.1
    with pytest.raises(ShapeError, match="a border of 2 leaves nothing of 3×3"):
        locality.equivariance_error(as_map, x, (4, 0), stride=4, border=2)


def test_fields_in_theory():
    assert locality.fields_in_theory([(3, 1), (3, 2), (3, 2)]) == [3, 5, 9]
    assert locality.fields_in_theory([(7, 2), (3, 2), (3, 1)]) == [7, 11, 19]


@pytest.fixture
def cnn():
    return SmallCNN(24, 2, 5, width=8)


def test_the_field_of_a_cnn_ends_where_theory_says(cnn, rng):
    """Layer l at place p reads pixels s·p − reach … s·p + reach, s the product of strides: elsewhere exactly 0."""
    x = rng.standard_normal((3, 24, 24, 2)).astype(np.float32)
    for layer, side, jump in zip(range(3), locality.fields_in_theory([(3, 1), (3, 2), (3, 2)]), (1, 2, 4), strict=True):
        energy = locality.field(cnn, x, f"convs.{layer}", place=(3, 3))
        assert energy.shape == (24, 24) and np.isclose(energy.sum(), 1)
        rows, columns = np.indices(energy.shape) - 3 * jump
        inside = np.maximum(abs(rows), abs(columns)) <= side // 2
        assert inside.sum() == side**2
        assert (energy[inside] > 0).all() and (energy[~inside] == 0).all()
        assert locality.share_within(energy, side, (3 * jump, 3 * jump)) == pytest.approx(1)
        assert 1 < locality.area_of(energy) <= side**2


def test_group_norm_lets_every_pixel_reach_every_place_a_little(cnn, rng):
    x = rng.standard_normal((3, 24, 24, 2)).astype(np.float32)
    energy = locality.field(cnn, x, "convs.1", place=(6, 6), fixed_statistics=False)
    assert (energy > 0).all() and 0.9 < locality.share_within(energy, 5, (12, 12)) < 1
    # what is held fixed is let go again
    assert all("forward" not in vars(norm) for norm in cnn.norms)
    before = cnn(x).numpy()
    locality.field(cnn, x, "convs.2")
    np.testing.assert_array_equal(cnn(x).numpy(), before)


def test_fixed_statistics_change_no_value(cnn, rng):
    x = rng.standard_normal((2, 24, 24, 2)).astype(np.float32)
    expected = mv.trace(cnn, x, keep="features").features["norms.1"]
    with locality._fixed(cnn):
        np.testing.assert_allclose(mv.trace(cnn, x, keep="features").features["norms.1"], expected, atol=2e-6)


def test_one_vit_block_sees_the_whole_image(rng):
    vit = mv.ViT(24, 4, 2, 5, dim=16, depth=2, num_heads=2)
    x = rng.standard_normal((3, 24, 24, 2)).astype(np.float32)
    assert (locality.field(vit, x, "blocks.0", (2, 3), vit.grid) > 0).all()
    alone = locality.field(vit, x, "patch_embed", (2, 3), vit.grid)
    assert (alone[8:12, 12:16] > 0).all() and np.isclose(alone[8:12, 12:16].sum(), 1)


def test_the_field_is_the_squared_jacobian(rng):
    """Of a linear layer known exactly; random signs estimate it without bias, and with one output they are exact."""
    conv = Conv2d(1, 1, 3, padding=1)
    energy = locality.field(
        conv_model(conv), rng.standard_normal((1, 5, 5, 1)).astype(np.float32), "layer", (2, 2), draws=1
    )
    expected = np.zeros((5, 5))
    expected[1:4, 1:4] = conv.weight.numpy()[:, :, 0, 0] ** 2
    np.testing.assert_allclose(energy, expected / expected.sum(), rtol=1e-5)


def conv_model(layer):
    class One(mv.Module):
        def __init__(self):
            self.layer = layer

        def forward(self, x):
            return self.layer(x)

    return One()


def test_a_wrong_name_or_place_is_named(cnn, rng):
    x = rng.standard_normal((1, 24, 24, 2)).astype(np.float32)
    with pytest.raises(ConfigError, match="no module 'convs.7'"):
        locality.field(cnn, x, "convs.7")
    with pytest.raises(ConfigError, match=r"no place \(24, 0\)"):
        locality.field(cnn, x, "convs.0", (24, 0))
    with pytest.raises(ConfigError, match="no place"):
        locality.field(cnn, x, "head")


def test_area_of_a_field():
    energy = np.zeros((9, 9))
    energy[4, 4], energy[4, 6] = 0.9, 0.1
    assert locality.area_of(energy, 0.9) == 1 and locality.area_of(energy, 0.95) == 2
    assert locality.area_of(np.ones((9, 9)), 0.5) == 41
    assert locality.share_within(energy, 3, (4, 4)) == 0.9
