"""Exact facts of dropped and shuffled patches, and of how an answer under harm is scored."""

import math

import numpy as np
import pytest

import minivit as mv
from minivit.engine.errors import ConfigError, ShapeError
from minivit.nn import patchify
from minivit.studies import occlusion, robust, shuffle


@pytest.fixture
def pixels(rng):
    return rng.random((6, 12, 12, 3), dtype=np.float32)


@pytest.mark.parametrize("offset", [0, 1, 2, (1, 3)])
def test_cells_have_one_area_wherever_the_grid_lies(offset):
    grid = occlusion.cells((12, 8), 4, offset)
    assert grid.shape == (12, 8) and (np.bincount(grid.ravel()) == 16).all() and grid.max() == 5
    aligned = np.roll(grid, [-o for o in np.broadcast_to(offset, 2)], axis=(0, 1))
    assert (aligned[:4, :4] == 0).all() and (aligned[:4, 4:] == 1).all() and (aligned[8:, 4:] == 5).all()


def test_a_grid_that_does_not_tile_is_refused():
    with pytest.raises(ShapeError, match="a 12×10 image is not a whole number of 4×4 cells"):
        occlusion.cells((12, 10), 4)


@pytest.mark.parametrize(("share", "count"), [(0, 0), (0.1, 0), (0.3, 2), (0.5, 4), (0.99, 8), (1, 9)])
def test_random_drop_drops_that_many_whole_cells(share, count):
    grid = occlusion.cells(12, 4)
    dropped = occlusion.random_drop(50, grid, share, np.random.default_rng(1))
    by_cell = patchify(dropped[..., None], 4)
    assert (by_cell.all(axis=2) == by_cell.any(axis=2)).all()  # whole cells
    assert (by_cell.all(axis=2).sum(axis=1) == count).all()
    if 0 < count < 9:
        assert len(np.unique(by_cell.all(axis=2), axis=0)) >= 9  # another draw for each image


def test_a_larger_share_drops_the_same_and_more():
    grid = occlusion.cells(12, 2, 1)
    shares = [occlusion.random_drop(5, grid, s / 10, np.random.default_rng(3)) for s in range(11)]
    assert all((a <= b).all() for a, b in zip(shares, shares[1:], strict=False)) and shares[-1].all()
    assert [s[0].mean() for s in shares] == pytest.approx([int(s * 3.6) / 36 for s in range(11)])


def test_salient_drop_takes_the_object_first(rng):
    grid = occlusion.cells(8, 2)
    objects = np.zeros((2, 8, 8), bool)
    objects[0, 2:4, 4:6] = objects[0, 6:, 6:] = objects[1, :2, :2] = True
    salient = occlusion.salient_drop(objects, grid, 2 / 16)
    assert (salient[0] == objects[0]).all() and salient[1].sum() == 8 and salient[1, :2, :2].all()
    rest = occlusion.salient_drop(objects, grid, 14 / 16, salient=False)
    assert (rest[0] == ~objects[0]).all() and not rest[1, :2, :2].any()
    assert (occlusion.salient_drop(objects, grid, 1) == 1).all()
    # the two orders drop every cell between them
    score = rng.random((4, 8, 8))
    halves = [occlusion.salient_drop(score, grid, 0.5, salient) for salient in (True, False)]
    assert (halves[0] ^ halves[1]).all()
    assert (score * halves[0]).sum() > (score * halves[1]).sum()


def test_fills(pixels):
    dropped = np.zeros((6, 12, 12), bool)
    dropped[:, :4] = True
    black, mean = (occlusion.fill(pixels, dropped, how) for how in occlusion.FILLS)
    assert (black[:, :4] == 0).all() and (black[:, 4:] == pixels[:, 4:]).all() and black.dtype == np.float32
    np.testing.assert_allclose(
        mean[:, :4], np.broadcast_to(pixels.mean((1, 2))[:, None, None], (6, 4, 12, 3)), rtol=1e-6
    )
    assert (mean[:, 4:] == pixels[:, 4:]).all()
    with pytest.raises(ConfigError, match="did you mean 'black'"):
        occlusion.fill(pixels, dropped, "blak")


def test_visible_and_contrast(pixels):
    objects = np.zeros((2, 4, 4), bool)
    objects[0, :2] = True
    dropped = np.zeros((2, 4, 4), bool)
    dropped[:, 0] = True
    np.testing.assert_array_equal(occlusion.visible(objects, dropped), [0.5, np.nan])
    image = np.zeros((1, 4, 4, 3), np.float32)
    image[0, 1, 2] = (0.3, 0, 0.4)
    expected = np.zeros((1, 4, 4))
    expected[0, 1, 2] = 0.5
    np.testing.assert_allclose(occlusion.contrast(image), expected, rtol=1e-6)


# ---------------------------------------------------------------- shuffle


@pytest.mark.parametrize(("grid", "offset"), [(3, 0), ((2, 4), 0), (6, 1), (3, (2, 1)), (12, 0)])
def test_a_shuffle_keeps_every_cell(pixels, grid, offset):
    rows, columns = np.broadcast_to(grid, 2)
    shuffled = shuffle.shuffle(pixels, grid, np.random.default_rng(0), offset)
    assert shuffled.shape == pixels.shape and (shuffled != pixels).any()
    down, right = np.broadcast_to(offset, 2)
    for before, after in zip(pixels, shuffled, strict=True):
        a, b = (
            patchify(np.roll(x, (-down, -right), (0, 1))[None], (12 // rows, 12 // columns))[0] for x in (before, after)
        )
        assert sorted(map(tuple, a)) == sorted(map(tuple, b))


def test_each_image_is_shuffled_in_its_own_order_and_one_cell_stays(pixels):
    same = np.repeat(pixels[:1], 30, axis=0)
    assert len(np.unique(shuffle.shuffle(same, 2, np.random.default_rng(0)).reshape(30, -1), axis=0)) > 10
    np.testing.assert_array_equal(shuffle.shuffle(pixels, 1, np.random.default_rng(0)), pixels)
    with pytest.raises(ShapeError, match="does not divide into 5×5 equal cells"):
        shuffle.shuffle(pixels, 5, np.random.default_rng(0))


@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_without_positions_a_vit_cannot_notice_a_shuffle_of_its_patches(pixels, pool):
    vit = mv.ViT(12, 4, 3, 5, dim=16, depth=2, num_heads=2, positions="none", pool=pool).astype("float64")
    state = {n: a + 0.2 * np.random.default_rng(1).standard_normal(a.shape) for n, a in vit.state_dict().items()}
    vit.load_state_dict(state)
    vit.eval()
    images = pixels.astype(float)
    before = vit(images).numpy()
    aligned = vit(shuffle.shuffle(images, 3, np.random.default_rng(0))).numpy()
    np.testing.assert_allclose(aligned, before, rtol=1e-10)
    offset = vit(shuffle.shuffle(images, 3, np.random.default_rng(0), offset=2)).numpy()
    finer = vit(shuffle.shuffle(images, 6, np.random.default_rng(0))).numpy()
    assert np.abs(offset - before).max() > 1e-3 and np.abs(finer - before).max() > 1e-3


def test_grids_that_fit():
    assert shuffle.grids(24, 4) == [
        (2, 2, True), (3, 3, True), (4, 4, False), (6, 6, True), (8, 8, False), (12, 12, False),
    ]  # fmt: skip
    assert shuffle.grids(8, 2) == [(2, 2, True), (4, 4, True)]


# ---------------------------------------------------------------- scores


def test_retained_and_area():
    assert robust.retained(0.55, 0.9, 0.1) == pytest.approx(0.45 / 0.8)
    assert robust.retained(0.1, 0.9, 0.1) == 0 and robust.retained(0.9, 0.9, 0.1) == 1
    assert math.isnan(robust.retained(0.1, 0.1, 0.1))
    assert robust.area([0, 0.5, 1], [1, 1, 1]) == 1 and robust.area([0, 1], [1, 0]) == 0.5
    assert robust.area([0, 0.1, 1], [1, 0, 0]) == pytest.approx(0.05)  # doses need not be even
    with pytest.raises(ConfigError):
        robust.area([0, 0], [1, 1])


def test_the_matched_model_is_the_nearest():
    assert robust.nearest(0.8, {1: 0.5, 2: 0.78, 3: 0.83}) == 2
    assert robust.nearest(0.8, {3: 0.75, 2: 0.75}) == 2


def test_pixels_are_standardised_as_in_training(pixels):
    model = mv.create("linear", image_size=12, in_channels=3, num_classes=4)
    model.head.weight.data[...] = np.random.default_rng(0).standard_normal(model.head.weight.shape)
    with pytest.raises(ConfigError, match="does not know how its images are standardised"):
        robust.logits(model, pixels)
    model.meta = {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.4, 0.3]}
    expected = model((pixels - np.float32([0.1, 0.2, 0.3])) / np.float32([0.5, 0.4, 0.3])).numpy()
    np.testing.assert_allclose(robust.logits(model, pixels), expected, rtol=1e-5, atol=1e-5)
    subject = robust.Subject("linear", 0, model, pixels, expected.argmax(1), 0.25)
    assert (
        subject.clean == 1
        and subject.scaled(1.0) == 1
        and subject.scaled(0.25) == 0
        and subject.accuracy(1 - pixels) < 1
    )


def test_what_was_kept_is_told_only_where_there_was_something():
    assert robust.shown([0.5, 0.7]) == "0.60 ± 0.14" and robust.shown([0.5]) == "0.50"
    assert robust.shown([0.5, math.nan]) == robust.shown([None]) == "at chance"
