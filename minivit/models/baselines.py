"""Two networks to stand beside every result: a linear model and a small CNN."""

from typing import Any

from minivit.engine import ops, random
from minivit.engine.tensor import Tensor
from minivit.nn.layers import Conv2d, GroupNorm, Linear
from minivit.nn.module import Module
from minivit.nn.patches import Size, pair


class LinearClassifier(Module):
    """Logistic regression on pixels: (B, H, W, C) -> (B, num_classes)."""

    def __init__(self, image_size: Size = 28, in_channels: int = 1, num_classes: int = 10, seed: int = 0):
        self.config = {k: v for k, v in locals().items() if k not in ("self", "__class__")}
        h, w = pair(image_size)
        self.image_size = (h, w)
        self.head = Linear(h * w * in_channels, num_classes, zero=True)

    def forward(self, images: Any) -> Tensor:
        x = self.as_input(images)
        return self.head(x.reshape(x.shape[0], -1))


class SmallCNN(Module):
    """Three 3×3 convolutions (GroupNorm, ReLU; the last two of stride 2), mean, linear head: (B, H, W, C) -> (B, num_classes)."""

    def __init__(
        self, image_size: Size = 28, in_channels: int = 1, num_classes: int = 10, width: int = 16, seed: int = 0
    ):
        self.config = {k: v for k, v in locals().items() if k not in ("self", "__class__")}
        self.image_size = pair(image_size)
        widths = (in_channels, width, 2 * width, 4 * width)
        with random.drawing_from(random.stream(seed, "init")):
            self.convs = [
                Conv2d(a, b, 3, stride=1 if i == 0 else 2, padding=1, bias=False)
                for i, (a, b) in enumerate(zip(widths, widths[1:], strict=False))
            ]
            self.norms = [GroupNorm(4, b) for b in widths[1:]]
            self.head = Linear(4 * width, num_classes, zero=True)

    def forward(self, images: Any) -> Tensor:
        x = self.as_input(images)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = ops.relu(norm(conv(x)))  # (B, h, w, c)
        return self.head(x.mean(axis=(1, 2)))
