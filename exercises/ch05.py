"""Exercises of chapter 05. Fill them in, then: python -m exercises check patchify

★★ patchify, 20 minutes: Cut images into patches
★★ conv_is_patchify, 15 minutes: A strided convolution as one product
★ add_class_token, 10 minutes: An empty seat for every image
★★ sincos_2d, 20 minutes: Places as sines and cosines

Made from manifest.toml by `python -m exercises skeletons`.
"""

import numpy as np

import minivit as mv


def patchify(images, patch_size):
    """Cut images into patches, row by row: (B, H, W, C) -> (B, N, P·P·C), each patch in (row, column, channel) order.

    Takes and returns an array or a Tensor. Raises `ShapeError` where the patches do not tile the image.
    """
    raise NotImplementedError


def conv_is_patchify(images, kernel):
    """A convolution with stride P and no padding, by `mv.patchify` and one product: (B, H, W, C) -> (B, H/P, W/P, D).

    `kernel` is (P, P, C, D): for each of D outputs a weight for every row, column and channel of the window. Returns an
    array; no loop over places.
    """
    raise NotImplementedError


def add_class_token(tokens, class_token):
    """Put the same learned token in front of every image's patches: (B, N, D), (1, 1, D) -> (B, N+1, D).

    Both are Tensors, and so is the result: the class token's gradient must be able to flow back to it.
    """
    raise NotImplementedError


def sincos_2d(rows, columns, dim, base=10000.0):
    """Fixed positions: [sin xω, cos xω, sin yω, cos yω] with dim/4 frequencies ω from 1 to 1/base -> (rows·columns, dim).

    As in big_vision (Beyer et al. 2022). Raises `ConfigError` unless dim is a multiple of 4.
    """
    raise NotImplementedError
