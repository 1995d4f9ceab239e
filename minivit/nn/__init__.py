"""Building blocks of networks; `nn.Linear`, `nn.Block`, … are the classes of the files here."""

from minivit.nn.attention import Attention
from minivit.nn.block import Block
from minivit.nn.layers import (
    MLP,
    Conv2d,
    Dropout,
    DropPath,
    GroupNorm,
    LayerNorm,
    LayerScale,
    Linear,
    SwiGLU,
)
from minivit.nn.module import Module, Parameter, Sequential, tap, tapped
from minivit.nn.patches import PatchEmbed, patchify, resize_positions, rope_2d, sincos_2d, unpatchify

__all__ = [
    "MLP", "Attention", "Block", "Conv2d", "DropPath", "Dropout", "GroupNorm", "LayerNorm", "LayerScale", "Linear",
    "Module", "Parameter", "PatchEmbed", "Sequential", "SwiGLU", "patchify", "resize_positions", "rope_2d", "sincos_2d",
    "tap", "tapped", "unpatchify",
]  # fmt: skip
