"""Exercises of chapter 01. Fill them in, then: python -m exercises check shapes

★ shapes, 5 minutes: Broadcasting by prediction
★★ tiles_view, 12 minutes: Tiles of an image without copying it

Made from manifest.toml by `python -m exercises skeletons`.
"""

import numpy as np

import minivit as mv


def shapes():
    """Six predictions, with nothing run: the shape of each sum, or "error" where NumPy refuses.

    1. (3, 4) + (4,)          4. (5,) + (5, 1)
    2. (3, 4) + (3,)          5. (2, 1, 4) + (3, 1)
    3. (3, 1) + (1, 4)        6. (2, 3) + (3, 2)

    Returns them in this order as a list, such as [(3, 4), "error", …].
    """
    raise NotImplementedError


def tiles_view(image, size):
    """The square tiles of a grey image, without copying a pixel: (H, W) -> (H/size, W/size, size, size).

    Entry [r, c] is the tile in row r and column c. The result shares the memory of `image`.
    """
    raise NotImplementedError
