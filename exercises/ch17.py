"""Exercises of chapter 17. Fill them in, then: python -m exercises check patch_kernel

★★ patch_kernel, 12 minutes: The way back to PyTorch's layout
★★ fold_preparation, 15 minutes: A model that prepares its own images

Made from manifest.toml by `python -m exercises skeletons`.
"""

import numpy as np

import minivit as mv


def patch_kernel(weight, channels):
    """Our patch matrix as the kernel of PyTorch's convolution: (P·P·C, D) -> (D, C, P, P).

    The rows of `weight` are the numbers of a patch in our order: row of the patch, column, channel. Patches are square;
    `channels` is C. PyTorch's kernel is indexed by output, channel, row, column.
    """
    raise NotImplementedError


def fold_preparation(weight, bias, mean, std):
    """A patch embedding for images as they are: (P·P·C, D), (D,), (C,), (C,) -> the shapes of weight and bias.

    `weight` and `bias` expect images prepared as (image − mean) / std, channel by channel. Returns (weight, bias) that give the
    same tokens without that preparation. The numbers of a patch come in the order row, column, channel.
    """
    raise NotImplementedError
