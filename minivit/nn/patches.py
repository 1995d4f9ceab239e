"""From image to sequence and back: patches, their embedding, and the vectors that say where each came from."""

import math
from typing import Any

import numpy as np

from minivit.engine.errors import ConfigError, ShapeError, did_you_mean
from minivit.engine.tensor import Tensor
from minivit.nn.layers import Linear
from minivit.nn.module import Module

Size = int | tuple[int, int]


def pair(size: Size) -> tuple[int, int]:
    """(rows, columns) from one number or two."""
    return (size, size) if isinstance(size, (int, np.integer)) else tuple(size)


def patchify(images: Any, patch_size: Size) -> Any:
    """Cut images into patches, row by row: (B, H, W, C) -> (B, N, P·P·C), each patch in (row, column, channel) order.

    Takes and returns an array or a Tensor. Raises `ShapeError` where the patches do not tile the image.
    """
    p, q = pair(patch_size)
    if len(images.shape) != 4:
        raise ShapeError(f"patchify: images must be (B, H, W, C), got {tuple(images.shape)}")
    b, h, w, c = images.shape
    if min(p, q) < 1 or h % p or w % q:
        raise ShapeError(f"patchify: a {h}×{w} image is not a whole number of {p}×{q} patches; crop or pad it first")
    x = images.reshape(b, h // p, p, w // q, q, c)  # (B, rows of patches, P, columns of patches, P, C)
    x = x.transpose(0, 1, 3, 2, 4, 5)  # (B, rows, columns, P, P, C): the pixels of one patch side by side
    return x.reshape(b, (h // p) * (w // q), p * q * c)


def unpatchify(patches: Any, patch_size: Size, image_size: Size) -> Any:
    """The inverse of `patchify`: (B, N, P·P·C) -> (B, H, W, C). Raises `ShapeError`."""
    (p, q), (h, w) = pair(patch_size), pair(image_size)
    if (
        len(patches.shape) != 3
        or min(p, q) < 1
        or h % p
        or w % q
        or patches.shape[1] != (h // p) * (w // q)
        or patches.shape[2] % (p * q)
    ):
        raise ShapeError(f"unpatchify: patches {tuple(patches.shape)} of {p}×{q} pixels do not make a {h}×{w} image")
    b, c = patches.shape[0], patches.shape[2] // (p * q)
    x = patches.reshape(b, h // p, w // q, p, q, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h, w, c)


class PatchEmbed(Module):
    """Each patch to a token by one matrix, which is a convolution of stride P: (B, H, W, C) -> (B, N, D)."""

    def __init__(self, patch_size: Size, in_channels: int, dim: int):
        self.patch_size, self.in_channels = pair(patch_size), in_channels
        p, q = self.patch_size
        self.proj = Linear(p * q * in_channels, dim, layout=("patch", p, q, in_channels))

    def forward(self, images: Tensor) -> Tensor:
        if images.ndim != 4 or images.shape[-1] != self.in_channels:
            raise ShapeError(
                f"images must be (B, H, W, {self.in_channels}), got {images.shape}; "
                "channels come last, and a single image needs a batch axis: image[None]"
            )
        return self.proj(patchify(images, self.patch_size))


def sincos_2d(rows: int, columns: int, dim: int, base: float = 10000.0) -> np.ndarray:
    """Fixed positions: [sin xω, cos xω, sin yω, cos yω] with dim/4 frequencies ω from 1 to 1/base -> (rows·columns, dim).

    As in big_vision (Beyer et al. 2022). Raises `ConfigError` unless dim is a multiple of 4.
    """
    if dim % 4:
        raise ConfigError(f"sin-cos positions: dim {dim} must be a multiple of 4 (sine and cosine of x and y)")
    omega = base ** (-np.arange(dim // 4) / max(1, dim // 4 - 1))
    y, x = (axis.reshape(-1, 1) * omega for axis in np.mgrid[:rows, :columns])
    return np.concatenate([np.sin(x), np.cos(x), np.sin(y), np.cos(y)], axis=1).astype(np.float32)


def rope_2d(rows: int, columns: int, head_dim: int, prefix: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines of 2-D rotary positions -> two arrays (prefix + rows·columns, d); prefix tokens do not turn.

    As in DINOv3: coordinates in (−1, 1), d/4 periods 100^(4k/d). Raises `ConfigError` unless d is a multiple of 4.
    """
    if head_dim % 4:
        raise ConfigError(f"rotary positions: each head's width {head_dim} must be a multiple of 4")
    periods = 100.0 ** (np.arange(head_dim // 4) / (head_dim / 4))
    y, x = np.mgrid[:rows, :columns]
    y, x = (2 * (y.reshape(-1, 1) + 0.5) / rows - 1, 2 * (x.reshape(-1, 1) + 0.5) / columns - 1)
    angle = 2 * math.pi * np.concatenate([y / periods, x / periods], axis=1)  # (N, d/2)
    angle = np.concatenate([np.zeros((prefix, head_dim // 2)), angle])
    angle = np.concatenate([angle, angle], axis=1)
    return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)


def resize_positions(positions: Any, old: tuple[int, int], new: tuple[int, int], mode: str = "timm") -> Any:
    """Position embeddings for another grid of patches: (1, old rows·columns, D) -> (1, new rows·columns, D).

    `mode` is whose way: `"timm"` (bicubic, antialiased), `"huggingface"` (bicubic), `"dino"` (bicubic, samples a little
    closer) or `"google"` (bilinear, corners aligned). The same size is the identity. Takes and returns an array or a
    Tensor. Raises `ConfigError` for another mode.
    """
    if tuple(old) == tuple(new):
        return positions
    dim = positions.shape[-1]
    down, across = (resize_matrix(n, m, mode) for n, m in zip(old, new, strict=True))
    down, across = (_like(positions, m) for m in (down, across))
    x = positions.reshape(old[0], old[1] * dim)
    x = (down @ x).reshape(new[0], old[1], dim)  # rows first, then columns
    return (across @ x).reshape(1, new[0] * new[1], dim)


def _like(x: Any, matrix: np.ndarray) -> Any:
    """A constant matrix of the dtype and place of `x`."""
    if isinstance(x, Tensor):
        return Tensor(matrix.astype(x.dtype)).to(x.backend)
    return matrix.astype(x.dtype)


RESIZES = ("timm", "huggingface", "dino", "google")


def resize_matrix(old: int, new: int, mode: str) -> np.ndarray:
    """The weights that turn `old` samples into `new` ones: (new, old), rows summing to 1. Raises `ConfigError`."""
    if mode == "google":
        at = np.linspace(0, old - 1, new) if new > 1 else np.zeros(1)
        return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(old)))
    if mode == "timm":  # as Pillow does it: what lies beyond the border does not count
        stretch = max(1.0, old / new)  # when shrinking, the kernel widens so that no sample is skipped
        at = (np.arange(new) + 0.5) * old / new - 0.5
        weights = _cubic((at[:, None] - np.arange(old)) / stretch, a=-0.5)
        return weights / weights.sum(axis=1, keepdims=True)
    if mode not in RESIZES:
        raise ConfigError(
            f"unknown way to resize positions {mode!r}: choose one of {', '.join(RESIZES)}{did_you_mean(mode, RESIZES)}"
        )
    # torch.nn.functional.interpolate: four neighbours, also when shrinking; beyond the border its sample is repeated.
    # DINO gives it the factor (new + 0.1)/old, where the 0.1 guards against a size rounded down, and shifts all samples.
    at = (np.arange(new) + 0.5) * old / (new + 0.1 if mode == "dino" else new) - 0.5
    weights = np.zeros((new, old))
    for step in (-1, 0, 1, 2):
        neighbour = np.floor(at).astype(int) + step
        np.add.at(weights, (np.arange(new), neighbour.clip(0, old - 1)), _cubic(at - neighbour, a=-0.75))
    return weights


def _cubic(x: np.ndarray, a: float) -> np.ndarray:
    """Keys' cubic convolution kernel."""
    x = np.abs(x)
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * (x**3 - 5 * x**2 + 8 * x - 4)
    return np.where(x <= 1, near, np.where(x < 2, far, 0))
