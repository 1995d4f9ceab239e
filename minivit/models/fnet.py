"""FNet (Lee-Thorp et al. 2021) for images: the ViT's plan, with a Fourier transform where the ViT has attention.

The paper is about language; this is our port. It differs from the paper in three things: the norm comes before the mixing, as
in the ViT, so that only the mixing differs from it; the transform is divided by √(T·D), without which the residual stream
would grow by that factor in each block; and there is no class token.
"""

import math

import numpy as np

from minivit.engine import ops, random
from minivit.engine.errors import ConfigError, ShapeError, did_you_mean
from minivit.engine.tensor import Tensor
from minivit.models.vit import ViT
from minivit.nn.layers import MLP, DropPath, LayerNorm, check_rate
from minivit.nn.module import Module, tap
from minivit.nn.patches import Size

MIXINGS = ("tokens", "grid", "none")


class FourierMix(Module):
    """Re(DFT(x)) / √(T·D), over tokens and features: (B, T, D) -> (B, T, D); nothing is learned.

    With a `grid` (rows, columns), over rows, columns and features: it knows that patches lie in a plane. Raises `ShapeError`.
    """

    def __init__(self, grid: tuple[int, int] | None = None):
        self.grid = grid

    def forward(self, x: Tensor) -> Tensor:
        b, t, d = x.shape
        scale = 1 / math.sqrt(t * d)
        if self.grid is None:
            return ops.fft2_real(x) * scale
        if t != self.grid[0] * self.grid[1]:
            raise ShapeError(
                f"{t} tokens are no grid of {self.grid[0]}×{self.grid[1]} patches, for which this FNet was made"
            )
        plane = x.reshape(b, *self.grid, d)  # (B, T, D) -> (B, rows, columns, D)
        return ops.fft2_real(plane, axes=(1, 2, 3)).reshape(b, t, d) * scale


class FNetBlock(Module):
    """x ← x + Mix(LN(x)), then x ← x + MLP(LN(x)); without a grid or tokens to mix, only the MLP: (B, T, D) -> (B, T, D)."""

    def __init__(self, dim: int, hidden: int, mix: FourierMix | None, drop_path: float, eps: float):
        self.norm1 = LayerNorm(dim, eps) if mix else None
        self.mix = mix
        self.norm2 = LayerNorm(dim, eps)
        self.mlp = MLP(dim, hidden)
        self.drop_path1, self.drop_path2 = DropPath(drop_path), DropPath(drop_path)

    def forward(self, x: Tensor, rotation: None = None, first_only: bool = False) -> Tensor:
        """The last two are the ViT's and not used: there is nothing to rotate, and no class token to compute alone."""
        tap("input", lambda: x)
        if self.mix is not None:
            x = x + self.drop_path1(self.mix(self.norm1(x)))
        return x + self.drop_path2(self.mlp(self.norm2(x)))


class FNet(ViT):
    """Images (B, H, W, C) -> logits (B, num_classes), or features (B, dim) where num_classes = 0; arguments as the ViT's.

    `mixing`: `tokens` transforms over all tokens in a row, as the paper does, `grid` over their rows and columns, `none`
    leaves each patch alone until the mean (the control: feed-forward only). Raises `ConfigError` and `ShapeError`.
    """

    def __init__(
        self,
        image_size: Size = 224,
        patch_size: Size = 16,
        in_channels: int = 3,
        num_classes: int = 1000,
        dim: int = 768,
        depth: int = 12,
        mlp_ratio: float = 4.0,
        *,
        mixing: str = "tokens",
        positions: str = "learned",
        position_base: float = 10000.0,
        drop_path: float = 0.0,
        eps: float = 1e-6,
        seed: int = 0,
    ):
        config = {k: v for k, v in locals().items() if k not in ("self", "__class__")}
        if not isinstance(depth, (int, np.integer)) or depth < 0:
            raise ConfigError(f"depth must be a whole number, at least 0, got {depth!r}")
        if mixing not in MIXINGS:
            raise ConfigError(
                f"mixing: unknown choice {mixing!r}, choose one of {', '.join(MIXINGS)}{did_you_mean(mixing, MIXINGS)}"
            )
        shared = {k: v for k, v in config.items() if k not in ("mixing", "depth", "drop_path")}
        super().__init__(**shared, depth=0, num_heads=1, pool="mean")
        self.config = config
        mix = {"tokens": FourierMix, "grid": lambda: FourierMix(self.grid), "none": lambda: None}[mixing]
        with random.drawing_from(random.stream(seed, "blocks")):
            rates = np.linspace(0, check_rate("drop_path", drop_path), depth)
            self.blocks = [FNetBlock(dim, int(dim * mlp_ratio), mix(), float(rate), eps) for rate in rates]
