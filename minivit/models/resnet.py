"""A small residual network (He et al. 2016) for images of 8 to 32 pixels: what a ViT is compared with, layer by layer."""

from typing import Any

import numpy as np

from minivit.engine import ops, random
from minivit.engine.errors import ConfigError, ShapeError
from minivit.engine.tensor import Tensor
from minivit.nn.layers import Conv2d, GroupNorm, Linear
from minivit.nn.module import Module, tap
from minivit.nn.patches import Size, pair

GROUPS = 4  # GroupNorm, not BatchNorm: no running statistics that small batches or corrupted images would upset


class BasicBlock(Module):
    """ReLU(x + F(x)), F = conv3×3, norm, ReLU, conv3×3, norm: (B, H, W, a) -> (B, H/stride, W/stride, b).

    Where the shape changes, x goes through a 1×1 convolution and a norm. The inner ReLU leaves through the tap `act1`.
    """

    def __init__(self, a: int, b: int, stride: int = 1):
        self.conv1 = Conv2d(a, b, 3, stride, padding=1, bias=False)
        self.norm1 = GroupNorm(GROUPS, b)
        self.conv2 = Conv2d(b, b, 3, padding=1, bias=False)
        self.norm2 = GroupNorm(GROUPS, b)
        shortcut = stride != 1 or a != b
        self.downsample = Conv2d(a, b, 1, stride, bias=False) if shortcut else None
        self.norm3 = GroupNorm(GROUPS, b) if shortcut else None

    def forward(self, x: Tensor) -> Tensor:
        y = ops.relu(self.norm1(self.conv1(x)))
        tap("act1", lambda: y)
        y = self.norm2(self.conv2(y))
        return ops.relu(y + (x if self.downsample is None else self.norm3(self.downsample(x))))


class ResNet(Module):
    """Images (B, H, W, C) -> logits (B, num_classes), or features (B, 4·width) where num_classes = 0.

    A 3×3 convolution, then three stages of `blocks_per_stage` blocks, `width`, 2·`width` and 4·`width` wide, the last two
    at half and a quarter of the resolution; mean over pixels; linear head. Images of any size from 4 pixels on.
    Raises `ConfigError` for sizes that do not fit together, `ShapeError` for images that do not.
    """

    def __init__(
        self,
        image_size: Size = 32,
        in_channels: int = 3,
        num_classes: int = 10,
        width: int = 16,
        blocks_per_stage: int = 2,
        seed: int = 0,
    ):
        self.config = {k: v for k, v in locals().items() if k not in ("self", "__class__")}
        _check(self.config)
        self.image_size, self.in_channels = pair(image_size), in_channels
        with random.drawing_from(random.stream(seed, "init")):
            self.conv1 = Conv2d(in_channels, width, 3, padding=1, bias=False)
            self.norm1 = GroupNorm(GROUPS, width)
            widths = [width << stage for stage in range(3) for _ in range(blocks_per_stage)]
            pairs = zip([width, *widths], widths, strict=False)
            self.layers = [BasicBlock(a, b, stride=1 if a == b else 2) for a, b in pairs]
            self.head = Linear(widths[-1], num_classes, zero=True) if num_classes else None

    def forward(self, images: Any) -> Tensor:
        x = self.features(images)
        return x if self.head is None else self.head(x)  # (B, D) -> (B, num_classes)

    def features(self, images: Any) -> Tensor:
        """What the head reads: (B, H, W, C) -> (B, 4·width)."""
        images = self.as_input(images)
        if images.ndim != 4 or images.shape[-1] != self.in_channels or min(images.shape[1:3]) < 4:
            raise ShapeError(
                f"images must be (B, H, W, {self.in_channels}), H and W at least 4, got {images.shape}; channels come last"
            )
        x = ops.relu(self.norm1(self.conv1(images)))  # (B, H, W, width)
        tap("act1", lambda: x)
        for block in self.layers:
            x = block(x)
        return x.mean(axis=(1, 2))  # (B, H/4, W/4, 4·width) -> (B, 4·width)


def _check(config: dict) -> None:
    counts = {"in_channels": 1, "width": GROUPS, "blocks_per_stage": 1, "num_classes": 0, "seed": 0}
    for name, least in counts.items():
        if not isinstance(config[name], (int, np.integer)) or config[name] < least:
            raise ConfigError(f"{name} must be a whole number, at least {least}, got {config[name]!r}")
    if config["width"] % GROUPS:
        raise ConfigError(f"width {config['width']} does not divide into {GROUPS} groups of channels")
