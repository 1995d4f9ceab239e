"""Chapter 01 behind the exercises."""

import numpy as np

_SUMS = (((3, 4), (4,)), ((3, 4), (3,)), ((3, 1), (1, 4)), ((5,), (5, 1)), ((2, 1, 4), (3, 1)), ((2, 3), (3, 2)))


def shapes():
    """Six predictions, with nothing run: the shape of each sum, or "error" where NumPy refuses.

    1. (3, 4) + (4,)          4. (5,) + (5, 1)
    2. (3, 4) + (3,)          5. (2, 1, 4) + (3, 1)
    3. (3, 1) + (1, 4)        6. (2, 3) + (3, 2)

    Returns them in this order as a list, such as [(3, 4), "error", …].
    """
    found = []
    for a, b in _SUMS:
        try:
            found.append((np.zeros(a) + np.zeros(b)).shape)
        except ValueError:
            found.append("error")
    return found


def inputs_shapes(rng):
    return [()]


def tiles_view(image, size):
    """The square tiles of a grey image, without copying a pixel: (H, W) -> (H/size, W/size, size, size).

    Entry [r, c] is the tile in row r and column c. The result shares the memory of `image`.
    """
    h, w = image.shape
    return image.reshape(h // size, size, w // size, size).swapaxes(1, 2)


def inputs_tiles_view(rng):
    return [(rng.random((4, 6)), 2), (rng.random((6, 15)), 3), (rng.random((5, 5)), 5), (rng.random((3, 4)), 1)]
