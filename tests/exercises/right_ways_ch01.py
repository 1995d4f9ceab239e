"""Chapter 01, solved in other ways."""

import numpy as np
from right_ways import right

from exercises.workshop.ch01 import _SUMS


@right("shapes")
def shapes_written_down():
    return [(3, 4), "error", (3, 4), (5, 5), (2, 3, 4), "error"]


@right("shapes")
def shapes_as_lists_in_a_tuple():
    return ([3, 4], "error", [3, 4], [5, 5], [2, 3, 4], "error")


@right("shapes")
def shapes_by_the_rule():
    found = []
    for a, b in _SUMS:
        n = max(len(a), len(b))
        pairs = list(zip((1,) * (n - len(a)) + a, (1,) * (n - len(b)) + b, strict=True))
        fits = all(x == y or 1 in (x, y) for x, y in pairs)
        found.append(tuple(map(max, pairs)) if fits else "error")
    return found


@right("shapes")
def shapes_by_numpy():
    def shape(a, b):
        try:
            return np.broadcast_shapes(a, b)
        except ValueError:
            return "error"

    return [shape(a, b) for a, b in _SUMS]


@right("tiles_view")
def tiles_by_transpose(image, size):
    rows, columns = (n // size for n in image.shape)
    return image.reshape(rows, size, columns, size).transpose(0, 2, 1, 3)


@right("tiles_view")
def tiles_by_strides(image, size):
    (h, w), (down, across) = image.shape, image.strides
    shape, strides = (h // size, w // size, size, size), (size * down, size * across, down, across)
    return np.lib.stride_tricks.as_strided(image, shape, strides)


@right("tiles_view")
def tiles_by_every_size_th_window(image, size):
    return np.lib.stride_tricks.sliding_window_view(image, (size, size))[::size, ::size]


@right("tiles_view")
def tiles_by_einsum(image, size):
    h, w = image.shape
    return np.einsum("aibj->abij", image.reshape(h // size, size, w // size, size))
