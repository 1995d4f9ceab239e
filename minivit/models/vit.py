"""The Vision Transformer (Dosovitskiy et al. 2021) on one page: patches, positions, blocks, norm, head."""

import operator
from typing import Any

import numpy as np

from minivit.engine import backend as backends
from minivit.engine import ops, random
from minivit.engine.errors import ConfigError, did_you_mean
from minivit.engine.tensor import Tensor
from minivit.nn import init
from minivit.nn.attention import Rotation
from minivit.nn.block import Block
from minivit.nn.layers import LayerNorm, Linear, check_rate
from minivit.nn.module import Module, Parameter, listening, tap
from minivit.nn.patches import PatchEmbed, Size, pair, resize_positions, rope_2d, sincos_2d

POSITIONS = ("learned", "learned_sincos", "sincos", "none")
POOLS = ("cls", "mean")
MLPS = ("gelu", "gelu_tanh", "swiglu")


class ViT(Module):
    """Images (B, H, W, C) -> logits (B, num_classes), or features (B, dim) where num_classes = 0.

    `pool`: `cls` reads a class token after the last norm; `mean` averages the patch tokens, then norms (no class token).
    `positions`: `learned` from small noise, `learned_sincos` from sines and cosines, `sincos` fixed, `none`; `rope` turns
    queries and keys besides. `registers`: learned extra tokens without a position (Darcet et al. 2023). `layer_scale`: the
    starting γ. `drop_path`: stochastic depth, rising to this rate. `patch_dropout`: share of patches hidden in training.
    `mlp`: `gelu`, `gelu_tanh` or `swiglu`. Images of another size than `image_size` get resized positions.
    Raises `ConfigError` for sizes that do not fit together, `ShapeError` for images that do not.
    """

    def __init__(
        self,
        image_size: Size = 224,
        patch_size: Size = 16,
        in_channels: int = 3,
        num_classes: int = 1000,
        dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        *,
        pool: str = "cls",
        positions: str = "learned",
        position_base: float = 10000.0,
        rope: bool = False,
        registers: int = 0,
        layer_scale: float | None = None,
        drop_path: float = 0.0,
        patch_dropout: float = 0.0,
        dropout: float = 0.0,
        qkv_bias: bool = True,
        qk_norm: bool = False,
        mlp: str = "gelu",
        eps: float = 1e-6,
        seed: int = 0,
    ):
        self.config = {k: v for k, v in locals().items() if k not in ("self", "__class__")}
        self.grid = _check(self.config)
        self.image_size, self.patch_size = pair(image_size), pair(patch_size)
        self.pool, self.rope, self.head_dim = pool, rope, dim // num_heads
        self.patch_dropout = check_rate("patch_dropout", patch_dropout)
        self.num_prefix = (pool == "cls") + registers
        n = self.grid[0] * self.grid[1]
        with random.drawing_from(random.stream(seed, "init")):
            self.cls_token = Parameter(init.truncated_normal(1, 1, dim, std=0.02)) if pool == "cls" else None
            self.reg_token = Parameter(init.truncated_normal(1, registers, dim, std=0.02)) if registers else None
            # As in timm: with register tokens only patches have positions, otherwise the class token has one too.
            self.pos_prefix = 1 if pool == "cls" and not registers else 0
            self.pos_embed = None
            if positions == "learned":
                self.pos_embed = Parameter(init.truncated_normal(1, self.pos_prefix + n, dim, std=0.02))
            elif positions != "none":
                table = np.concatenate([init.zeros(self.pos_prefix, dim), sincos_2d(*self.grid, dim, position_base)])
                self.pos_embed = Parameter(table[None], requires_grad=positions == "learned_sincos")
            self.patch_embed = PatchEmbed(patch_size, in_channels, dim)
            rates = np.linspace(0, check_rate("drop_path", drop_path), depth)  # deeper blocks are dropped more often
            options = {"eps": eps, "qkv_bias": qkv_bias, "qk_norm": qk_norm, "layer_scale": layer_scale}
            options |= {"dropout": dropout, "mlp": mlp}
            self.blocks = [Block(dim, num_heads, mlp_ratio, drop_path=float(rate), **options) for rate in rates]
            self.norm = LayerNorm(dim, eps) if pool == "cls" else None
            self.fc_norm = LayerNorm(dim, eps) if pool == "mean" else None
            self.head = Linear(dim, num_classes, zero=True) if num_classes else None

    def forward(self, images: Any) -> Tensor:
        x = self.features(images)
        return x if self.head is None else self.head(x)  # (B, D) -> (B, num_classes)

    def features(self, images: Any) -> Tensor:
        """What the head reads: (B, H, W, C) -> (B, D)."""
        x, rotation = self.embed(self.as_input(images))
        for i, block in enumerate(self.blocks):
            # Of the last block only the class token is read, so only that is computed, unless someone looks inside.
            # Exact, and worth a tenth of a step at depth 4 to 12 (benchmarks/ablation.py).
            last = i == len(self.blocks) - 1
            x = block(x, rotation, first_only=last and self.pool == "cls" and not listening())
        if self.pool == "mean":
            tap("final", lambda: x)
            return self.fc_norm(x[:, self.num_prefix :].mean(axis=1))
        x = self.norm(x)
        tap("final", lambda: x)
        return x[:, 0]

    def embed(self, images: Tensor) -> tuple[Tensor, Rotation | None]:
        """Patches to tokens, positions added, prefix tokens in front: (B, H, W, C) -> (B, T, D)."""
        x = self.patch_embed(images)  # (B, N, D)
        b, _, dim = x.shape
        grid = images.shape[1] // self.patch_size[0], images.shape[2] // self.patch_size[1]
        prefix = [_repeat(token, b) for token in (self.cls_token, self.reg_token) if token is not None]
        positions = self._positions(grid)
        if positions is not None and not self.pos_prefix:
            x = x + positions
        if prefix:
            x = ops.concatenate([*prefix, x], axis=1)  # (B, T, D), T = prefix + N
        if positions is not None and self.pos_prefix:
            x = x + positions
        rotation = self._rotation(grid, x) if self.rope else None
        if self.training and self.patch_dropout:
            x, rotation = self._drop_patches(x, rotation)
        return x, rotation

    def _positions(self, grid: tuple[int, int]) -> Tensor | None:
        """The position embeddings, resized if the image has another grid of patches than `image_size`."""
        if self.pos_embed is None or grid == self.grid:
            return self.pos_embed
        fixed, patches = self.pos_embed[:, : self.pos_prefix], self.pos_embed[:, self.pos_prefix :]
        return ops.concatenate([fixed, resize_positions(patches, self.grid, grid)], axis=1)

    def _rotation(self, grid: tuple[int, int], like: Tensor) -> Rotation:
        xp = backends.backend_of(like.data)
        cosine, sine = rope_2d(*grid, self.head_dim, self.num_prefix)
        return Tensor(xp.from_host(cosine, like.dtype)), Tensor(xp.from_host(sine, like.dtype))

    def _drop_patches(self, x: Tensor, rotation: Rotation | None) -> tuple[Tensor, Rotation | None]:
        """Keep ⌊N(1 − p)⌋ patches (at least one) of each image, another choice for each, and every prefix token."""
        b, t, _ = x.shape
        n = t - self.num_prefix
        keep = max(1, int(n * (1 - self.patch_dropout) + 1e-6))  # 1 − 0.8 is a little less than 0.2
        chosen = np.sort(random.current().random((b, n)).argsort(axis=1)[:, :keep], axis=1) + self.num_prefix
        prefix = np.broadcast_to(np.arange(self.num_prefix), (b, self.num_prefix))
        index = backends.backend_of(x.data).from_host(np.concatenate([prefix, chosen], axis=1))
        if rotation is not None:  # (T, d) -> (B, 1, kept T, d): each image kept other patches
            rotation = tuple(table[index].reshape(b, 1, index.shape[1], self.head_dim) for table in rotation)
        rows = backends.backend_of(x.data).arange(b).reshape(b, 1)
        return x[rows, index], rotation


def _repeat(token: Tensor, b: int) -> Tensor:
    """One learned token for every image: (1, n, D) -> (B, n, D)."""
    return ops.broadcast_to(token, shape=(b, *token.shape[1:]))


def _check(config: dict) -> tuple[int, int]:
    """The grid of patches, or a `ConfigError` that says which sizes do not fit."""
    counts = {"in_channels": 1, "dim": 1, "num_heads": 1, "depth": 0, "registers": 0, "num_classes": 0, "seed": 0}
    for name, least in counts.items():
        if not isinstance(config[name], (int, np.integer)) or config[name] < least:
            raise ConfigError(f"{name} must be a whole number, at least {least}, got {config[name]!r}")
    for name, value, known in (
        ("pool", config["pool"], POOLS),
        ("positions", config["positions"], POSITIONS),
        ("mlp", config["mlp"], MLPS),
    ):
        if value not in known:
            raise ConfigError(
                f"{name}: unknown choice {value!r}, choose one of {', '.join(known)}{did_you_mean(value, known)}"
            )
    try:
        h, w, p, q = map(operator.index, (*pair(config["image_size"]), *pair(config["patch_size"])))
    except (TypeError, ValueError) as error:
        sizes = f"image_size {config['image_size']!r} and patch_size {config['patch_size']!r}"
        raise ConfigError(f"{sizes} must each be a whole number or a pair (rows, columns)") from error
    if min(h, w, p, q) < 1 or h % p or w % q:
        raise ConfigError(
            f"image_size {h}×{w} is not a whole number of {p}×{q} patches; change image_size or patch_size"
        )
    if config["dim"] % config["num_heads"]:
        raise ConfigError(f"dim {config['dim']} does not divide into num_heads {config['num_heads']} of equal width")
    if config["rope"] and config["dim"] // config["num_heads"] % 4:
        raise ConfigError(f"rope: each head's width {config['dim'] // config['num_heads']} must be a multiple of 4")
    if int(config["dim"] * config["mlp_ratio"]) < 1:
        raise ConfigError(f"mlp_ratio {config['mlp_ratio']} leaves the MLP of a {config['dim']} wide model no width")
    return h // p, w // q
