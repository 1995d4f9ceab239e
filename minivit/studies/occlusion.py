"""Occlusion: how much of an answer survives when patches of the image are missing; which, filled how, on whose grid.

Measures: which cells to drop (at random, the salient ones, the others), and what to fill them with.
"""

import numpy as np

from minivit.engine.errors import ConfigError, ShapeError, did_you_mean
from minivit.nn.patches import Size, pair

FILLS = ("black", "mean")


def cells(image_size: Size, cell: Size, offset: Size = 0) -> np.ndarray:
    """The number of the cell that each pixel lies in: int (H, W), cells counted row by row.

    An offset moves the grid down and right by so many pixels; what leaves on one side comes back on the other, so that
    every grid has the same number of cells of the same area. Raises `ShapeError` where the cells do not tile the image.
    """
    (h, w), (p, q) = pair(image_size), pair(cell)
    if min(p, q) < 1 or h % p or w % q:
        raise ShapeError(f"cells: a {h}×{w} image is not a whole number of {p}×{q} cells")
    numbers = (np.arange(h) // p)[:, None] * (w // q) + np.arange(w) // q
    return np.roll(numbers, pair(offset), axis=(0, 1))


def random_drop(n: int, grid: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """⌊share · cells⌋ cells of each of n images, another draw for each: bool (n, H, W), True where dropped.

    A larger share with an equal generator drops the same cells and more.
    """
    return _lowest(rng.random((n, int(grid.max()) + 1)), grid, share)


def salient_drop(saliency: np.ndarray, grid: np.ndarray, share: float, salient: bool = True) -> np.ndarray:
    """The cells with most saliency (`salient=False`: least) on the mean of their pixels: (n, H, W) -> bool (n, H, W).

    Equal cells are dropped in the order of their numbers.
    """
    count = int(grid.max()) + 1
    member = (grid.ravel() == np.arange(count)[:, None]).astype(float)  # (cells, H·W)
    scores = saliency.reshape(len(saliency), -1).astype(float) @ (member / member.sum(axis=1, keepdims=True)).T
    return _lowest(-scores if salient else scores, grid, share)


def contrast(pixels: np.ndarray) -> np.ndarray:
    """How far each pixel is from the image's median colour: (n, H, W, C) -> (n, H, W); saliency that belongs to no model."""
    return np.sqrt(((pixels - np.median(pixels, axis=(1, 2), keepdims=True)) ** 2).sum(axis=-1))


def fill(pixels: np.ndarray, dropped: np.ndarray, how: str = "black") -> np.ndarray:
    """Images in [0, 1] with the dropped pixels replaced: `black` (0, before any standardising) or the image's own `mean`.

    Raises `ConfigError` for another fill.
    """
    if how not in FILLS:
        raise ConfigError(f"fill: unknown {how!r}, choose one of {', '.join(FILLS)}{did_you_mean(how, FILLS)}")
    value = 0 if how == "black" else pixels.mean(axis=(1, 2), keepdims=True)
    return np.where(dropped[..., None], value, pixels).astype(pixels.dtype)


def visible(objects: np.ndarray, dropped: np.ndarray) -> np.ndarray:
    """How much of each object is left: bool (n, H, W) twice -> (n,) in [0, 1]; NaN where there is no object."""
    total = objects.sum(axis=(1, 2))
    return np.where(total > 0, (objects & ~dropped).sum(axis=(1, 2)) / np.maximum(total, 1), np.nan)


def _lowest(scores: np.ndarray, grid: np.ndarray, share: float) -> np.ndarray:
    """Drop the ⌊share · cells⌋ cells with the lowest scores (n, cells) -> bool (n, H, W)."""
    if not 0 <= share <= 1:
        raise ConfigError(f"the share to drop must be between 0 and 1, got {share}")
    count = int(share * scores.shape[1] + 1e-9)  # 0.3 · 10 is a little less than 3
    chosen = np.zeros(scores.shape, bool)
    np.put_along_axis(chosen, np.argsort(scores, axis=1, kind="stable")[:, :count], True, axis=1)
    return chosen[:, grid]
