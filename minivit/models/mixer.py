"""MLP-Mixer (Tolstikhin et al. 2021): the ViT's plan, with an MLP across the patches where the ViT has attention."""

import operator
from typing import Any

import numpy as np

from minivit.engine import random
from minivit.engine.errors import ConfigError, ShapeError, did_you_mean
from minivit.engine.tensor import Tensor
from minivit.nn.layers import MLP, DropPath, LayerNorm, Linear, check_rate
from minivit.nn.module import Module, tap
from minivit.nn.patches import PatchEmbed, Size, pair

MLPS = ("gelu", "gelu_tanh")


class MixerBlock(Module):
    """x ← x + MLP(LN(x)ᵀ)ᵀ across the patches, then x ← x + MLP(LN(x)) across the channels (eq. 1): (B, N, D) -> (B, N, D)."""

    def __init__(
        self, n: int, dim: int, tokens_mlp_dim: int, channels_mlp_dim: int, drop_path: float, mlp: str, eps: float
    ):
        self.norm1 = LayerNorm(dim, eps)
        self.mlp_tokens = MLP(n, tokens_mlp_dim, tanh_gelu=mlp == "gelu_tanh")
        self.norm2 = LayerNorm(dim, eps)
        self.mlp_channels = MLP(dim, channels_mlp_dim, tanh_gelu=mlp == "gelu_tanh")
        self.drop_path1, self.drop_path2 = DropPath(drop_path), DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        tap("input", lambda: x)
        columns = self.norm1(x).transpose(0, 2, 1)  # (B, N, D) -> (B, D, N): each channel's values at all patches
        x = x + self.drop_path1(self.mlp_tokens(columns).transpose(0, 2, 1))
        return x + self.drop_path2(self.mlp_channels(self.norm2(x)))


class Mixer(Module):
    """Images (B, H, W, C) -> logits (B, num_classes), or features (B, dim) where num_classes = 0.

    There are no positions: a token MLP's weights already know which patch is which, and so the image size is fixed.
    `tokens_mlp_dim` and `channels_mlp_dim` are the hidden widths D_S and D_C; the defaults are Mixer-B/16. `mlp`: `gelu`
    or `gelu_tanh`. `drop_path`: stochastic depth, rising to this rate.
    Raises `ConfigError` for sizes that do not fit together, `ShapeError` for images of another size.
    """

    def __init__(
        self,
        image_size: Size = 224,
        patch_size: Size = 16,
        in_channels: int = 3,
        num_classes: int = 1000,
        dim: int = 768,
        depth: int = 12,
        tokens_mlp_dim: int = 384,
        channels_mlp_dim: int = 3072,
        *,
        drop_path: float = 0.0,
        mlp: str = "gelu",
        eps: float = 1e-6,
        seed: int = 0,
    ):
        self.config = {k: v for k, v in locals().items() if k not in ("self", "__class__")}
        self.grid = _check(self.config)
        self.image_size, self.patch_size = pair(image_size), pair(patch_size)
        n = self.grid[0] * self.grid[1]
        with random.drawing_from(random.stream(seed, "init")):
            self.stem = PatchEmbed(patch_size, in_channels, dim)
            rates = np.linspace(0, check_rate("drop_path", drop_path), depth)  # deeper blocks are dropped more often
            widths = (n, dim, tokens_mlp_dim, channels_mlp_dim)
            self.blocks = [MixerBlock(*widths, drop_path=float(rate), mlp=mlp, eps=eps) for rate in rates]
            self.norm = LayerNorm(dim, eps)
            self.head = Linear(dim, num_classes, zero=True) if num_classes else None

    def forward(self, images: Any) -> Tensor:
        x = self.features(images)
        return x if self.head is None else self.head(x)  # (B, D) -> (B, num_classes)

    def features(self, images: Any) -> Tensor:
        """What the head reads: (B, H, W, C) -> (B, D)."""
        images = self.as_input(images)
        if images.ndim == 4 and images.shape[1:3] != self.image_size:
            (h, w), (rows, columns) = self.image_size, images.shape[1:3]
            raise ShapeError(
                f"this Mixer was made for {h}×{w} images, got {rows}×{columns}: its token MLPs have one weight for each "
                "patch, so it cannot take another size; resize the images"
            )
        x = self.stem(images)  # (B, N, D)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        tap("final", lambda: x)
        return x.mean(axis=1)


def _check(config: dict) -> tuple[int, int]:
    """The grid of patches, or a `ConfigError` that says which sizes do not fit."""
    counts = {"in_channels": 1, "dim": 1, "tokens_mlp_dim": 1, "channels_mlp_dim": 1}
    for name, least in (counts | {"depth": 0, "num_classes": 0, "seed": 0}).items():
        if not isinstance(config[name], (int, np.integer)) or config[name] < least:
            raise ConfigError(f"{name} must be a whole number, at least {least}, got {config[name]!r}")
    if config["mlp"] not in MLPS:
        hint = did_you_mean(config["mlp"], MLPS)
        raise ConfigError(f"mlp: unknown choice {config['mlp']!r}, choose one of {', '.join(MLPS)}{hint}")
    try:
        h, w, p, q = map(operator.index, (*pair(config["image_size"]), *pair(config["patch_size"])))
    except (TypeError, ValueError) as error:
        sizes = f"image_size {config['image_size']!r} and patch_size {config['patch_size']!r}"
        raise ConfigError(f"{sizes} must each be a whole number or a pair (rows, columns)") from error
    if min(h, w, p, q) < 1 or h % p or w % q:
        raise ConfigError(
            f"image_size {h}×{w} is not a whole number of {p}×{q} patches; change image_size or patch_size"
        )
    return h // p, w // q
