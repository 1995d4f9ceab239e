"""The hybrid: a Vision Transformer whose patches are made by a few convolutions instead of one matrix."""

import functools
from typing import Any

from minivit.engine import ops, random
from minivit.engine.errors import ConfigError, ShapeError
from minivit.engine.tensor import Tensor
from minivit.models.vit import ViT
from minivit.nn.layers import Conv2d, GroupNorm, Linear
from minivit.nn.module import Module
from minivit.nn.patches import Size, pair

GROUPS = 4


class ConvStem(Module):
    """Early convolutions (Xiao et al. 2021): 3×3 of stride 2, GroupNorm, ReLU, until a pixel stands for a patch, then 1×1.

    The channels double with each halving and end at `dim`: (B, H, W, C) -> (B, N, D). Raises `ConfigError`.
    """

    def __init__(self, patch_size: Size, in_channels: int, dim: int):
        p, q = pair(patch_size)
        halvings = p.bit_length() - 1
        if p != q or p != 2**halvings or not halvings or dim % (GROUPS * 2 ** (halvings - 1)):
            raise ConfigError(
                f"a convolutional stem halves the image until a patch is one pixel, while the channels double up to dim: "
                f"patch_size must be 2, 4, 8, …, and dim a multiple of {GROUPS} · patch_size / 2; got {p}×{q} and dim {dim}"
            )
        widths = [in_channels, *(dim >> i for i in reversed(range(halvings)))]
        self.in_channels = in_channels
        self.convs = [
            Conv2d(a, b, 3, stride=2, padding=1, bias=False) for a, b in zip(widths, widths[1:], strict=False)
        ]
        self.norms = [GroupNorm(GROUPS, width) for width in widths[1:]]
        self.proj = Linear(dim, dim)  # a 1×1 convolution

    def forward(self, images: Tensor) -> Tensor:
        if images.ndim != 4 or images.shape[-1] != self.in_channels:
            raise ShapeError(f"images must be (B, H, W, {self.in_channels}), got {images.shape}; channels come last")
        p = 2 ** len(self.convs)
        if images.shape[1] % p or images.shape[2] % p:
            raise ShapeError(f"a {images.shape[1]}×{images.shape[2]} image is not a whole number of {p}×{p} patches")
        x = images
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = ops.relu(norm(conv(x)))  # (B, h, w, c) -> (B, h/2, w/2, 2c)
        return self.proj(x.reshape(x.shape[0], -1, x.shape[-1]))  # (B, H/P, W/P, D) -> (B, N, D)


class Hybrid(ViT):
    """A ViT (same arguments, all its options) behind a `ConvStem` of the same stride as its patches (ViT paper, sec. 3.1)."""

    @functools.wraps(ViT.__init__)
    def __init__(self, *sizes: Any, **options: Any):
        super().__init__(*sizes, **options)
        config = self.config
        with random.drawing_from(random.stream(config["seed"], "stem")):
            self.patch_embed = ConvStem(config["patch_size"], config["in_channels"], config["dim"])
