"""Fourier sensitivity: which frequencies of a small disturbance make a model err (Yin et al. 2019).

Measures: the disturbance of one frequency, the heat map of errors over all of them, and its mean by frequency.
"""

import math
from collections.abc import Callable, Iterable

import numpy as np

from minivit.engine.errors import ConfigError

STRENGTH = 4 / 32  # ‖v·U‖ = 4 on 32×32 pixels; per pixel, so that images of all sizes are disturbed as strongly


def wave(h: int, w: int, i: int, j: int) -> np.ndarray:
    """A cosine wave U of i cycles down and j across, float64 (H, W): real, ‖U‖₂ = 1, its DFT not 0 at ±(i, j) alone.

    Raises `ConfigError` for a frequency outside ±H/2, ±W/2.
    """
    if not (-h / 2 <= i <= h / 2 and -w / 2 <= j <= w / 2):
        raise ConfigError(f"wave: a {h}×{w} image has frequencies up to ±{h // 2} and ±{w // 2}, not ({i}, {j})")
    turns = (i * np.arange(h)[:, None] / h + j * np.arange(w) / w) % 1
    u = np.cos(2 * np.pi * turns)
    return u / np.linalg.norm(u)


def frequencies(h: int, w: int, step: int = 1) -> list[tuple[int, int]]:
    """One of each pair ±(i, j), every `step`-th in both directions: the others' waves are the same."""
    rows, columns = (range(-(n // 2) + (n % 2 == 0), n // 2 + 1) for n in (h, w))
    pairs = [(i, j) for i in rows for j in columns if i % step == j % step == 0]
    return [(i, j) for i, j in pairs if 0 < 2 * j < w or (j in (0, w / 2) and i >= 0)]


def disturbed(pixels: np.ndarray, i: int, j: int, rng: np.random.Generator, strength: float = STRENGTH) -> np.ndarray:
    """clip(x + r·v·U): images in [0, 1] (n, H, W, C) with a wave, its sign r = ±1 drawn for each image and channel.

    `strength` is the root mean square of the wave's pixels, so that v = strength · √(H·W).
    """
    n, h, w, channels = pixels.shape
    u = strength * (h * w) ** 0.5 * wave(h, w, i, j)
    sign = rng.choice([-1, 1], (n, 1, 1, channels))
    return (pixels + sign * u[..., None]).clip(0, 1).astype(pixels.dtype)


def heat_map(
    error: Callable[[np.ndarray], float],
    pixels: np.ndarray,
    which: Iterable[tuple[int, int]],
    strength: float = STRENGTH,
    seed: int = 0,
) -> list[tuple[int, int, float]]:
    """The error under each frequency: (i, j, `error(disturbed pixels)`); the signs are the same for every frequency."""
    return [(i, j, error(disturbed(pixels, i, j, np.random.default_rng(seed), strength))) for i, j in which]


def as_map(found: Iterable[tuple[int, int, float]], h: int, w: int) -> np.ndarray:
    """The errors as a picture (H', W') with frequency 0 in the middle, −(i, j) as (i, j); NaN where none was measured."""
    rows, columns = 2 * (h // 2) + 1, 2 * (w // 2) + 1
    picture = np.full((rows, columns), np.nan)
    for i, j, value in found:
        for sign in (1, -1):
            picture[rows // 2 + sign * i, columns // 2 + sign * j] = value
            if abs(2 * i) == h:  # half a sampling rate: down is up
                picture[rows // 2 - sign * i, columns // 2 + sign * j] = value
            if abs(2 * j) == w:
                picture[rows // 2 + sign * i, columns // 2 - sign * j] = value
    return picture


def by_frequency(found: Iterable[tuple[int, int, float]], h: int, w: int, bands: int = 4) -> list[float]:
    """The mean error in rings of equal width, from low to high: by max(|i|/H, |j|/W), frequency 0 left out; NaN if empty."""
    rows = [(max(abs(i) / h, abs(j) / w), value) for i, j, value in found if (i, j) != (0, 0)]
    ring = [math.ceil(2 * place * bands - 1e-9) - 1 for place, _ in rows]  # (0, 1/bands], …
    groups = ([value for (_, value), at in zip(rows, ring, strict=True) if at == band] for band in range(bands))
    return [float(np.mean(group)) if group else float("nan") for group in groups]
