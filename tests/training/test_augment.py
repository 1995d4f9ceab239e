"""Augmentations change what they should, keep shape and dtype, and depend on the generator alone."""

import numpy as np
import pytest

import minivit as mv
from minivit.training import augment


@pytest.fixture
def images(rng):
    return rng.random((6, 10, 12, 3), dtype=np.float32)


@pytest.mark.parametrize("name", [*augment.AUGMENTS, "affine+flip+erase", "none"])
def test_same_shape_same_dtype_same_generator_same_result(name, images):
    before = images.copy()
    first, second = (augment.named(name)(images, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(images, before)  # the data set itself must not change
    assert first.shape == images.shape and first.dtype == np.float32
    assert np.array_equal(first, images) == (name == "none")


def test_affine_with_nothing_to_do_is_the_identity(images, rng):
    same = augment.affine(images, rng, rotation=0, scale=0, translation=0, shear=0)
    np.testing.assert_allclose(same, images, atol=1e-6)


def test_affine_turns_about_the_centre():
    image = np.zeros((1, 9, 9, 1), np.float32)
    image[0, 4, 1:8] = 1  # a horizontal bar through the centre

    class QuarterTurn:  # stands in for the generator: every angle is π/2
        def uniform(self, low, high, size):
            return np.full(size, np.pi / 2 if high == 2.0 else (low + high) / 2)

    turned = augment.affine(image, QuarterTurn(), rotation=2.0)
    np.testing.assert_allclose(turned, image.swapaxes(1, 2), atol=1e-6)


def test_sample_is_bilinear_and_zero_outside():
    ramp = np.arange(12, dtype=np.float32).reshape(1, 3, 4, 1)
    at = np.array([[[0.0, 0.0], [1.5, 2.25], [2.0, 3.0], [-3.0, 0.0], [0.0, -0.5], [9.0, 9.0]]])
    np.testing.assert_allclose(augment.sample(ramp, at)[0, :, 0], [0, 8.25, 11, 0, 0, 0])
    assert augment.sample(ramp, np.array([[[1.0, -0.5]]]))[0, 0, 0] == 2.0  # half way from the edge's 4 to 0


def test_flip_mirrors_about_half(rng):
    images = rng.random((400, 2, 3, 1), dtype=np.float32)
    changed = augment.flip(images, rng)
    mirrored = (changed == images[:, :, ::-1]).all(axis=(1, 2, 3))
    assert 150 < mirrored.sum() < 250
    np.testing.assert_array_equal(changed[~mirrored], images[~mirrored])


def test_shift_moves_by_whole_pixels(rng):
    images = np.zeros((50, 9, 9, 1), np.float32)
    images[:, 4, 4] = 1
    moved = np.argwhere(augment.shift(images, rng, pixels=2)[..., 0])
    assert len(moved) == 50 and set(np.unique(moved[:, 1:] - 4)) == {-2, -1, 0, 1, 2}


def test_mixup_and_cutmix_labels_follow_the_pixels(rng):
    labels = np.arange(6)
    constant = np.broadcast_to(labels.astype(np.float32)[:, None, None, None], (6, 8, 8, 1)).copy()
    for mix in (
        augment.mixup,
        augment.cutmix,
    ):  # an image whose pixels are its label: their mean must be the label's mean
        images, rows = mix(constant, labels, rng, 1.0, 6)
        assert rows.shape == (6, 6) and rows.dtype == np.float32
        np.testing.assert_allclose(rows.sum(axis=1), 1, rtol=1e-6)
        np.testing.assert_allclose(images.mean(axis=(1, 2, 3)), rows @ np.arange(6), rtol=1e-5)


def test_unknown_augmentation():
    with pytest.raises(mv.ConfigError, match="unknown augmentation 'afine'.*did you mean 'affine'"):
        augment.named("flip+afine")
