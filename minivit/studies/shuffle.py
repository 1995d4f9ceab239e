"""Shuffle: how much of an answer hangs on where the parts of an image are. The cells of a grid change places.

Measures: the shuffle itself, on a grid that may be moved, and which grids fit an image and a model's patches.
"""

import numpy as np

from minivit.engine.errors import ShapeError
from minivit.nn.patches import Size, pair, patchify, unpatchify


def shuffle(pixels: np.ndarray, grid: Size, rng: np.random.Generator, offset: Size = 0) -> np.ndarray:
    """Cut each image into rows × columns cells and put them back in a random order, another for each image.

    An offset moves the grid down and right by so many pixels, round the edge of the image. Raises `ShapeError` where the
    grid does not divide the image.
    """
    (rows, columns), (down, right) = pair(grid), pair(offset)
    n, h, w, _ = pixels.shape
    if min(rows, columns) < 1 or h % rows or w % columns:
        raise ShapeError(f"shuffle: a {h}×{w} image does not divide into {rows}×{columns} equal cells")
    cell = h // rows, w // columns
    parts = patchify(np.roll(pixels, (-down, -right), axis=(1, 2)), cell)  # (n, cells, pixels of a cell)
    order = rng.random((n, rows * columns)).argsort(axis=1)
    parts = np.take_along_axis(parts, order[..., None], axis=1)
    return np.roll(unpatchify(parts, cell, (h, w)), (down, right), axis=(1, 2))


def grids(image_size: Size, patch_size: Size) -> list[tuple[int, int, bool]]:
    """The square grids that divide an image into 4 cells or more, each at least 2 pixels wide, from coarse to fine.

    Each is (rows, columns, aligned): aligned where every cell is made of whole patches.
    """
    (h, w), (p, q) = pair(image_size), pair(patch_size)
    sides = [s for s in range(2, min(h, w) // 2 + 1) if h % s == 0 and w % s == 0]
    return [(s, s, h // s % p == 0 and w // s % q == 0) for s in sides]
