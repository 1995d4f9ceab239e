"""Patches, their embedding, and the positions: each against a direct evaluation of its formula."""

import math

import numpy as np
import pytest

import minivit as mv
from minivit.nn import PatchEmbed, patchify, resize_positions, rope_2d, sincos_2d, unpatchify
from minivit.nn.attention import rotate
from minivit.nn.patches import RESIZES, resize_matrix


def test_each_patch_is_row_column_channel():
    images = np.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
    patches = patchify(images, (2, 3))
    assert patches.shape == (2, 4, 18)
    for b in range(2):
        for n, (row, column) in enumerate([(0, 0), (0, 3), (2, 0), (2, 3)]):
            assert np.array_equal(patches[b, n], images[b, row : row + 2, column : column + 3].ravel())


@pytest.mark.parametrize("patch", [1, 2, (4, 3), (2, 6)])
def test_unpatchify_is_the_inverse(rng, patch):
    images = rng.random((3, 4, 6, 2))
    assert np.array_equal(unpatchify(patchify(images, patch), patch, (4, 6)), images)
    tensor = mv.Tensor(images, requires_grad=True)
    back = unpatchify(patchify(tensor, patch), patch, (4, 6))
    assert np.array_equal(back.numpy(), images)
    (back * images).sum().backward()
    assert np.array_equal(tensor.grad, images)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: patchify(np.zeros((4, 4, 1)), 2), r"must be \(B, H, W, C\), got \(4, 4, 1\)"),
        (lambda: patchify(np.zeros((1, 5, 4, 1)), 2), "5×4 image is not a whole number of 2×2 patches"),
        (lambda: patchify(np.zeros((1, 4, 4, 1)), 0), "0×0 patches"),
        (lambda: unpatchify(np.zeros((1, 4, 4)), 2, (4, 6)), "do not make a 4×6 image"),
        (lambda: unpatchify(np.zeros((1, 4, 5)), 2, 4), "do not make a 4×4 image"),
        (lambda: unpatchify(np.zeros((4, 4)), 2, 4), "do not make"),
        (lambda: unpatchify(np.zeros((1, 4, 4)), 0, 4), "of 0×0 pixels"),
    ],
)
def test_patches_that_do_not_tile(call, message):
    with pytest.raises(mv.ShapeError, match=message):
        call()


@pytest.mark.parametrize("patch", [4, (2, 4)])
def test_patch_embedding_is_a_convolution_of_stride_p(rng, patch):
    p, q = (patch, patch) if isinstance(patch, int) else patch
    embed = PatchEmbed(patch, 3, 10).astype("float64")
    embed.proj.bias.data[...] = rng.standard_normal(10)
    images = mv.Tensor(rng.standard_normal((2, 8, 12, 3)), requires_grad=True)
    tokens = embed(images)
    g = rng.standard_normal(tokens.shape)
    tokens.backward(g)
    expected = {name: gradient.copy() for name, gradient in (("x", images.grad), ("w", embed.proj.weight.grad))}

    images.zero_grad()
    kernel = mv.Tensor(embed.proj.weight.data.reshape(p, q, 3, 10), requires_grad=True)
    convolved = mv.conv2d(images, kernel, stride=(p, q)) + embed.proj.bias.detach()
    convolved = convolved.reshape(2, -1, 10)
    convolved.backward(g)
    np.testing.assert_allclose(tokens.numpy(), convolved.numpy(), rtol=0, atol=1e-6)
    np.testing.assert_allclose(images.grad, expected["x"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(kernel.grad.reshape(-1, 10), expected["w"], rtol=0, atol=1e-6)


def test_images_with_the_channels_first_are_recognised():
    embed = PatchEmbed(2, 3, 4)
    with pytest.raises(mv.ShapeError, match="channels come last"):
        embed(mv.Tensor(np.zeros((1, 3, 4, 4), np.float32)))
    with pytest.raises(mv.ShapeError, match="needs a batch axis"):
        embed(mv.Tensor(np.zeros((4, 4, 3), np.float32)))


@pytest.mark.parametrize(("rows", "columns", "dim", "base"), [(3, 5, 16, 10000.0), (2, 2, 8, 100.0), (2, 3, 4, 10.0)])
def test_sincos_table_by_direct_evaluation(rows, columns, dim, base):
    table = sincos_2d(rows, columns, dim, base)
    assert table.shape == (rows * columns, dim)
    assert table.dtype == np.float32
    quarter = dim // 4
    for y in range(rows):
        for x in range(columns):
            for i in range(quarter):
                omega = base ** (-i / (quarter - 1)) if quarter > 1 else 1.0
                expected = [math.sin(x * omega), math.cos(x * omega), math.sin(y * omega), math.cos(y * omega)]
                found = table[y * columns + x, [i, quarter + i, 2 * quarter + i, 3 * quarter + i]]
                np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_sincos_similarity_depends_on_the_offset_alone():
    table = sincos_2d(4, 4, 32).astype(np.float64)
    dots = (table @ table.T).reshape(4, 4, 4, 4)
    assert dots[0, 0, 1, 2] == pytest.approx(dots[2, 1, 3, 3], abs=1e-5)
    assert dots[0, 0, 0, 1] > dots[0, 0, 3, 3]


def test_rope_by_complex_multiplication(rng):
    rows, columns, d, prefix = 3, 4, 8, 2
    x = rng.standard_normal((2, 3, prefix + rows * columns, d))
    cosine, sine = (mv.Tensor(t.astype(np.float64)) for t in rope_2d(rows, columns, d, prefix))
    turned = rotate(mv.Tensor(x), cosine, sine).numpy()
    assert np.array_equal(turned[:, :, :prefix], x[:, :, :prefix])
    for row in range(rows):
        for column in range(columns):
            t = prefix + row * columns + column
            at = {"y": 2 * (row + 0.5) / rows - 1, "x": 2 * (column + 0.5) / columns - 1}
            angles = [2 * math.pi * at[axis] / 100 ** (2 * k / (d / 2)) for axis in "yx" for k in range(d // 4)]
            z = (x[:, :, t, : d // 2] + 1j * x[:, :, t, d // 2 :]) * np.exp(1j * np.array(angles))
            np.testing.assert_allclose(turned[:, :, t], np.concatenate([z.real, z.imag], -1), rtol=0, atol=1e-6)


def test_rope_scores_depend_on_the_offset_alone(rng):
    rows, columns, d = 3, 4, 8
    q, k = rng.standard_normal((2, d))
    cosine, sine = (mv.Tensor(t) for t in rope_2d(rows, columns, d))
    same = [mv.Tensor(np.tile(v.astype(np.float32), (1, 1, rows * columns, 1))) for v in (q, k)]
    turned = [rotate(t, cosine, sine).numpy()[0, 0] for t in same]
    scores = (turned[0] @ turned[1].T).reshape(rows, columns, rows, columns)
    by_offset: dict[tuple[int, int], list[float]] = {}
    for y, x, v, u in np.ndindex(scores.shape):
        by_offset.setdefault((v - y, u - x), []).append(scores[y, x, v, u])
    for offset, values in by_offset.items():
        np.testing.assert_allclose(values, values[0], rtol=0, atol=2e-5, err_msg=str(offset))
    means = [values[0] for values in by_offset.values()]
    assert len({round(float(m), 3) for m in means}) == len(means)  # and every offset has its own


@pytest.mark.parametrize("mode", RESIZES)
def test_resized_to_the_same_size_nothing_changes(rng, mode):
    table = rng.standard_normal((1, 12, 5))
    assert resize_positions(table, (3, 4), (3, 4), mode) is table
    if mode != "dino":  # whose samples are shifted even then, which is why it leaves such a table alone
        np.testing.assert_allclose(resize_matrix(6, 6, mode), np.eye(6), atol=1e-12)


@pytest.mark.parametrize("mode", RESIZES)
@pytest.mark.parametrize(("old", "new"), [(4, 7), (7, 4), (5, 1), (1, 5), (3, 30)])
def test_resizing_keeps_constants_and_mirror_images(mode, old, new):
    weights = resize_matrix(old, new, mode)
    assert weights.shape == (new, old)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-12)
    if mode != "dino" and not (mode == "google" and new == 1):  # aligned corners: one sample sits in the first corner
        np.testing.assert_allclose(weights, weights[::-1, ::-1], atol=1e-12)


def test_google_s_way_keeps_the_corners_and_straight_lines():
    weights = resize_matrix(5, 9, "google")
    np.testing.assert_allclose(weights @ np.arange(5.0), np.linspace(0, 4, 9), atol=1e-12)


def test_rows_and_columns_are_resized_each_by_its_own_factor(rng):
    table = rng.standard_normal((1, 3 * 4, 2))
    found = resize_positions(table, (3, 4), (6, 2))
    down, across = resize_matrix(3, 6, "timm"), resize_matrix(4, 2, "timm")
    expected = np.einsum("Yy,Xx,yxd->YXd", down, across, table.reshape(3, 4, 2)).reshape(1, 12, 2)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    swapped = resize_positions(table, (4, 3), (6, 2))
    assert not np.allclose(found, swapped)


def test_the_gradient_of_resizing(rng):
    mv.gradcheck(lambda x: resize_positions(x, (3, 4), (5, 2)), rng.standard_normal((1, 12, 3)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sincos_2d(2, 2, 6), "dim 6 must be a multiple of 4"),
        (lambda: rope_2d(2, 2, 6), "width 6 must be a multiple of 4"),
        (lambda: resize_matrix(2, 3, "nearest"), "'nearest': choose one of timm, huggingface, dino, google"),
    ],
)
def test_positions_that_cannot_be(call, message):
    with pytest.raises(mv.ConfigError, match=message):
        call()
