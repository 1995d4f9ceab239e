"""Chapter 17, solved in other ways."""

import numpy as np
from right_ways import right

import minivit as mv


@right("patch_kernel")
def number_by_number(weight, channels):
    rows, outputs = weight.shape
    p = int((rows / channels) ** 0.5)
    kernel = np.empty((outputs, channels, p, p))
    for y, x, c, out in np.ndindex(p, p, channels, outputs):
        kernel[out, c, y, x] = weight[(y * p + x) * channels + c, out]
    return kernel


@right("patch_kernel")
def by_einsum(weight, channels):
    p = round(np.sqrt(len(weight) / channels))
    return np.einsum("yxcd->dcyx", weight.reshape(p, p, channels, weight.shape[1]))


@right("patch_kernel")
def turned_first(weight, channels):
    p = int(np.sqrt(len(weight) // channels))
    return np.moveaxis(weight.T.reshape(-1, p, p, channels), -1, 1).astype(np.float32)


@right("patch_kernel")
def channel_by_channel(weight, channels):
    p = int(np.sqrt(len(weight) // channels))
    return np.stack([weight[c::channels].T.reshape(-1, p, p) for c in range(channels)], axis=1)


@right("fold_preparation")
def row_by_row(weight, bias, mean, std):
    new, rest = np.empty_like(weight), bias.copy()
    for i, row in enumerate(weight):
        c = i % len(mean)
        new[i] = row / std[c]
        rest -= mean[c] * new[i]
    return new, rest


@right("fold_preparation")
def with_an_axis_for_channels(weight, bias, mean, std):
    pixels = weight.reshape(-1, len(mean), len(bias))
    new = pixels / std[:, None]
    return new.reshape(weight.shape), bias - np.einsum("pcd,c->d", new, mean)


@right("fold_preparation")
def by_asking_the_old_pair(weight, bias, mean, std):
    """A black patch gives the bias; one with a single 1 gives a row of the weight, and the bias again."""
    ones = np.concatenate([np.zeros((1, len(weight))), np.eye(len(weight))])
    m, s = (np.resize(values, len(weight)) for values in (mean, std))
    tokens = mv.linear((ones - m) / s, weight, bias).numpy()
    return [tokens[1:] - tokens[0], tokens[0]]
