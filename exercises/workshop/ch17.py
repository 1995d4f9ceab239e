"""Chapter 17 behind the exercises."""

import math

import numpy as np


def patch_kernel(weight, channels):
    """Our patch matrix as the kernel of PyTorch's convolution: (P·P·C, D) -> (D, C, P, P).

    The rows of `weight` are the numbers of a patch in our order: row of the patch, column, channel. Patches are square;
    `channels` is C. PyTorch's kernel is indexed by output, channel, row, column.
    """
    p = math.isqrt(len(weight) // channels)
    return weight.reshape(p, p, channels, -1).transpose(3, 2, 0, 1)


def inputs_patch_kernel(rng):
    """First weights that say where they belong: row, column, channel, output, a digit each. Then others, and one channel."""
    row, column, channel, output = np.mgrid[1:5, 1:5, :3, :5]
    coded = (1000 * row + 100 * column + 10 * channel + output).reshape(48, 5).astype(float)
    return [(coded, 3), *((rng.standard_normal((p * p * c, d)), c) for p, c, d in ((2, 4, 7), (3, 1, 2), (5, 3, 4)))]


def fold_preparation(weight, bias, mean, std):
    """A patch embedding for images as they are: (P·P·C, D), (D,), (C,), (C,) -> the shapes of weight and bias.

    `weight` and `bias` expect images prepared as (image − mean) / std, channel by channel. Returns (weight, bias) that give the
    same tokens without that preparation. The numbers of a patch come in the order row, column, channel.
    """
    times = len(weight) // len(mean)
    folded = weight / np.tile(std, times)[:, None]
    return folded, bias - np.tile(mean, times) @ folded


def inputs_fold_preparation(rng):
    """Means and spreads differ from channel to channel; one case is grey."""
    cases = []
    for p, c, d in ((2, 3, 5), (3, 4, 2), (2, 1, 3)):
        weight, bias = rng.standard_normal((p * p * c, d)), rng.standard_normal(d)
        cases.append((weight, bias, rng.uniform(0.2, 0.7, c), rng.uniform(0.15, 0.4, c)))
    return cases
