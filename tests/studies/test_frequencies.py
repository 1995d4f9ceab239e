"""Exact facts of waves, the DCT and corruptions."""

import numpy as np
import pytest

import minivit as mv
from minivit.data.dataset import to_float
from minivit.engine.errors import ConfigError
from minivit.studies import corruptions, dct, fourier

# ---------------------------------------------------------------- Fourier


@pytest.mark.parametrize(("h", "w"), [(8, 8), (7, 10), (6, 5), (1, 4)])
def test_a_wave_has_unit_norm_and_exactly_its_two_frequencies(h, w):
    for i, j in fourier.frequencies(h, w):
        u = fourier.wave(h, w, i, j)
        assert u.dtype == np.float64 and np.linalg.norm(u) == pytest.approx(1, abs=1e-12)
        spectrum = np.abs(np.fft.fft2(u))
        expected = np.zeros((h, w), bool)
        expected[i % h, j % w] = expected[-i % h, -j % w] = True
        np.testing.assert_array_equal(spectrum > 1e-9, expected)
        assert (spectrum**2).sum() == pytest.approx(h * w)  # Parseval: nothing but those two


@pytest.mark.parametrize(("h", "w"), [(8, 8), (7, 10), (5, 5), (4, 7)])
def test_the_frequencies_cover_the_plane_once(h, w):
    seen = np.zeros((h, w), int)
    for i, j in fourier.frequencies(h, w):
        for place in {(i % h, j % w), (-i % h, -j % w)}:
            seen[place] += 1
    assert (seen == 1).all()
    waves = np.stack([fourier.wave(h, w, i, j).ravel() for i, j in fourier.frequencies(h, w)])
    np.testing.assert_allclose(waves @ waves.T, np.eye(len(waves)), atol=1e-12)  # orthonormal


def test_fewer_frequencies_on_request():
    assert set(fourier.frequencies(8, 8, 2)) == {(i, j) for i, j in fourier.frequencies(8, 8) if i % 2 == j % 2 == 0}


def test_a_disturbance_has_the_strength_it_says(rng):
    pixels = np.full((4, 16, 12, 3), 0.5, np.float32)
    harmed = fourier.disturbed(pixels, 3, -2, rng)
    assert harmed.dtype == np.float32
    change = harmed - pixels
    np.testing.assert_allclose(np.sqrt((change**2).mean(axis=(1, 2))), 1 / 8, rtol=1e-5)
    assert {round(float(s)) for s in (change[:, 0, 0] * 8 / np.sqrt(2)).ravel()} == {
        -1,
        1,
    }  # signs by image and channel
    assert np.linalg.norm(
        fourier.disturbed(np.full((1, 32, 32, 1), 0.5, np.float32), 5, 1, rng) - 0.5
    ) == pytest.approx(4)
    bright = fourier.disturbed(np.ones((2, 8, 8, 1), np.float32), 0, 0, rng)
    assert bright.min() >= 0 and bright.max() <= 1


def test_a_wave_outside_the_image_is_refused():
    with pytest.raises(ConfigError, match=r"frequencies up to ±4 and ±4, not \(5, 0\)"):
        fourier.wave(8, 8, 5, 0)


def test_the_heat_map_finds_the_frequency_that_a_model_listens_to():
    """A model whose error is how much of wave (2, 1) it is shown, up to the sign."""
    pixels, listens = np.full((3, 8, 8, 1), 0.5, np.float32), fourier.wave(8, 8, 2, 1)

    def error(images):
        return float(np.abs(((images - 0.5)[..., 0] * listens).sum(axis=(1, 2))).mean())

    found = fourier.heat_map(error, pixels, fourier.frequencies(8, 8), strength=0.1)
    picture = fourier.as_map(found, 8, 8)
    assert picture.shape == (9, 9) and np.isfinite(picture).all()
    assert picture[4 + 2, 4 + 1] == picture[4 - 2, 4 - 1] == pytest.approx(0.1 * 8, rel=1e-5)
    assert np.sort(picture.ravel())[-3] < 1e-6
    np.testing.assert_array_equal(picture, picture[::-1, ::-1])
    low, second, third, high = fourier.by_frequency(found, 8, 8)
    assert second > 1e-3 and max(low, third, high) < 1e-6  # max(2/8, 1/8) of at most 1/2 ends the second ring of four


# ---------------------------------------------------------------- DCT


@pytest.mark.parametrize("n", [1, 2, 7, 8])
def test_the_dct_is_orthonormal(n):
    c = dct.dct_matrix(n)
    np.testing.assert_allclose(c @ c.T, np.eye(n), atol=1e-14)


def test_parseval_and_a_hand_computed_case(rng):
    x = rng.standard_normal((5, 7, 6, 3))
    assert (dct.dct2(x) ** 2).sum() == pytest.approx((x**2).sum(), rel=1e-12)
    assert dct.energy(x).sum() == pytest.approx((x**2).sum() / 5, rel=1e-12)
    flat = dct.dct2(np.full((1, 4, 4, 1), 0.5))
    expected = np.zeros((1, 4, 4, 1))
    expected[0, 0, 0, 0] = 0.5 * 4
    np.testing.assert_allclose(flat, expected, atol=1e-14)
    # by the definition, one coefficient
    i, j, s = 2, 3, 1.7
    rows, columns = np.indices((7, 6))
    wave = np.cos(np.pi * (2 * rows + 1) * i / 14) * np.cos(np.pi * (2 * columns + 1) * j / 12) * 2 / np.sqrt(42)
    found = dct.dct2((s * wave)[None, :, :, None])[0, :, :, 0]
    assert found[i, j] == pytest.approx(s) and np.abs(np.delete(found.ravel(), i * 6 + j)).max() < 1e-12


def test_bands():
    found = np.zeros((8, 8))
    found[0, 0], found[1, 1], found[3, 2], found[7, 0] = 1, 1, 2, 4
    np.testing.assert_allclose(dct.by_band(found), [0.25, 0.25, 0, 0.5])
    np.testing.assert_allclose(dct.even_shares(8, 8), [4 / 64, 12 / 64, 20 / 64, 28 / 64])
    assert dct.even_shares(7, 5, 3).sum() == pytest.approx(1)
    assert dct.decibels(np.array([100.0, 1.0, 0.0])).tolist() == [20, 0, -np.inf]


# ---------------------------------------------------------------- corruptions


def cloud(size, n=6):
    """Coloured images whose spectrum falls as photographs' do."""
    rng = np.random.default_rng(5)
    f = np.hypot(*np.meshgrid(np.fft.fftfreq(size) * size, np.fft.fftfreq(size) * size, indexing="ij"))
    x = np.fft.ifft2(np.fft.fft2(rng.standard_normal((n, 3, size, size))) / (1 + f) ** 1.2).real.transpose(0, 2, 3, 1)
    return (0.5 + 0.2 * x / x.std()).clip(0, 1).astype(np.float32)


IMAGES = {
    "digits 8×8": lambda: to_float(mv.data.load("digits").test.images[:40]),
    "shapes 24×24": lambda: to_float(mv.data.shapes(n_train=1, n_val=1, n_test=20).test.images),
    "clouds 32×32": lambda: cloud(32),
    "clouds 97×97": lambda: cloud(97, 3),
    "clouds 224×224": lambda: cloud(224, 2),
}


@pytest.fixture(scope="module", params=IMAGES)
def pixels(request):
    return IMAGES[request.param]()


@pytest.mark.parametrize("name", corruptions.FAMILY)
def test_severities_are_monotone(pixels, name):
    harmed = [corruptions.corrupt(pixels, name, s) for s in corruptions.SEVERITIES]
    for x in harmed:
        assert x.shape == pixels.shape and x.dtype == np.float32 and x.min() >= 0 and x.max() <= 1
    sizes = [corruptions.change(pixels, x) for x in harmed]
    assert sizes[0] > 0 and (np.diff(sizes) > 0).all(), sizes
    np.testing.assert_array_equal(corruptions.corrupt(pixels, name, 3), harmed[2])  # the same numbers again


def test_there_are_enough_in_every_family():
    assert len(corruptions.FAMILY) == 15 and set(corruptions.FAMILY.values()) == {
        "noise", "blur", "digital", "weather", "geometry",
    }  # fmt: skip


def test_noise_has_its_variance_and_grows_at_every_pixel():
    grey = np.full((4, 64, 64, 1), 0.5, np.float32)
    for s, sigma in zip(corruptions.SEVERITIES, (0.04, 0.06, 0.08, 0.09, 0.10), strict=True):
        assert corruptions.change(grey, corruptions.corrupt(grey, "gaussian_noise", s)) ** 0.5 == pytest.approx(
            sigma, rel=0.03
        )
    for s, photons in zip(corruptions.SEVERITIES, (500, 250, 100, 75, 50), strict=True):
        found = corruptions.change(grey, corruptions.corrupt(grey, "shot_noise", s))
        assert found == pytest.approx(0.5 / photons, rel=0.05)
    share = (corruptions.corrupt(grey, "impulse_noise", 5) != grey).mean()
    assert share == pytest.approx(0.07, abs=0.01)
    for name in (*corruptions.CORRUPTIONS["noise"], "brightness", "contrast", "fog", "snow"):
        x = cloud(32)
        distances = [np.abs(corruptions.corrupt(x, name, s) - x) for s in corruptions.SEVERITIES]
        assert all((b >= a - 1e-6).all() for a, b in zip(distances, distances[1:], strict=False)), name


def test_what_a_blur_may_not_do():
    """A flat image stays flat, and the blurs, pixelate, shift and rotation invent no value outside the image's range."""
    flat = np.full((3, 9, 11, 2), 0.3, np.float32)
    x = (0.2 + 0.5 * np.random.default_rng(0).random((3, 16, 16, 1))).astype(np.float32)
    for name in ("gaussian_blur", "motion_blur", "zoom_blur", "pixelate", "shift", "rotation"):
        np.testing.assert_allclose(corruptions.corrupt(flat, name, 5), flat, atol=1e-6)
        harmed = corruptions.corrupt(x, name, 5)
        assert harmed.min() >= x.min() - 1e-6 and harmed.max() <= x.max() + 1e-6


def test_pixelate_in_whole_blocks_is_the_mean_of_each():
    x = np.random.default_rng(0).random((2, 8, 8, 1)).astype(np.float32)
    blocks = x.reshape(2, 4, 2, 4, 2, 1).mean(axis=(2, 4)).repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_allclose(corruptions.corrupt(x, "pixelate", 3), blocks, atol=1e-6)  # severity 3: 2×2 at this size


def test_jpeg_keeps_what_its_steps_hold():
    """A block whose coefficients are whole steps of the table comes back as it was."""
    steps, c = corruptions.JPEG_STEPS, dct.dct_matrix(8)
    coefficients = np.zeros((8, 8))
    coefficients[0, 0], coefficients[1, 0], coefficients[0, 2] = 3 * steps[0, 0], -2 * steps[1, 0], steps[0, 2]
    block = ((c.T @ coefficients @ c + 128) / 255).astype(np.float32)[None, :, :, None]  # quality 50: the table itself
    np.testing.assert_allclose(corruptions.corrupt(block, "jpeg", 3), block, atol=1e-5)
    coefficients[7, 7] = 0.4 * steps[7, 7]
    other = ((c.T @ coefficients @ c + 128) / 255).astype(np.float32)[None, :, :, None]
    np.testing.assert_allclose(corruptions.corrupt(other, "jpeg", 3), block, atol=1e-5)  # rounded away


@pytest.mark.parametrize(("severity", "step"), [(1, 6), (2, 11), (3, 16), (4, 23), (5, 32)])
def test_jpeg_rounds_the_mean_as_its_quality_says(severity, step):
    """The first step of the table, 16, times 40, 70, 100, 142 and 200 %, as libjpeg scales and rounds it."""
    for whole in (-4, 0, 3):
        for off in (0.0, 0.45, -0.45):
            block = np.full((1, 8, 8, 1), ((whole + off) * step / 8 + 128) / 255, np.float32)
            expected = (whole * step / 8 + 128) / 255
            np.testing.assert_allclose(corruptions.corrupt(block, "jpeg", severity), expected, atol=1e-5)


def test_a_shift_moves_by_that_much_and_a_rotation_keeps_the_middle():
    x = np.zeros((40, 65, 65, 1), np.float32)
    x[:, 30:35, 30:35] = 1
    for s, share in ((1, 0.03), (5, 0.15)):
        moved = corruptions.corrupt(x, "shift", s)[..., 0]
        rows, columns = np.indices((65, 65)) - 32
        centre = np.stack([(moved * a).sum((1, 2)) / moved.sum((1, 2)) for a in (rows, columns)], 1)
        np.testing.assert_allclose(np.hypot(*centre.T), share * 65, rtol=0.02)
        assert np.ptp(np.arctan2(*centre.T)) > 3  # in all directions
    turned = corruptions.corrupt(x, "rotation", 5)
    np.testing.assert_allclose(turned[:, 32, 32], 1, atol=1e-6)
    np.testing.assert_allclose(turned.sum((1, 2)), 25, rtol=0.02)


def test_the_unknown_is_named(pixels):
    with pytest.raises(ConfigError, match="did you mean 'gaussian_noise'"):
        corruptions.corrupt(pixels, "gausian_noise", 1)
    with pytest.raises(ConfigError, match="severity must be one of 1, 2, 3, 4, 5, got 0"):
        corruptions.corrupt(pixels, "jpeg", 0)
