"""ForeignViT: what only other libraries' weight files need, so that `vit.py` stays on one page."""

from typing import Any

from minivit.engine import backend as backends
from minivit.engine import ops, random
from minivit.engine.errors import ConfigError, did_you_mean
from minivit.engine.tensor import Tensor
from minivit.models.vit import ViT
from minivit.nn.attention import Attention, Rotation
from minivit.nn.layers import LayerNorm, Linear
from minivit.nn.map_head import MAPHead
from minivit.nn.module import tap
from minivit.nn.patches import RESIZES, PatchEmbed, Size, patchify, resize_positions, sincos_2d

# Those of ViT, then five that read what the last norm gives: the mean of the patches; the mean of all tokens, the class
# token among them; the class token beside the mean of the patches (DINOv2's classifier); the class token beside a
# distillation token (DeiT, which has a second head and answers with the mean of both); attention pooling of the patches.
POOLS = ("cls", "mean", "norm_mean", "tokens_mean", "cls_mean", "cls_dist", "map")
FOREIGN = {"norm_pre": False, "patch_norm": False, "attention_dim": None, "position_resize": "timm"}  # not ViT's


class ForeignViT(ViT):
    """A ViT with what other libraries add to it: images (B, H, W, C) -> logits, or features where num_classes = 0.

    `pool`: one of POOLS; with `cls_dist` the first register is the distillation token. `norm_pre`: a norm before the first
    block (CLIP). `patch_norm`: norms before and after the patch matrix (lucidrains). `attention_dim`: the width of all heads
    together, where it is not dim. `position_resize`: whose way positions are resized, see `resize_positions`; with `sincos` they
    are computed anew instead. The other arguments are ViT's. Raises `ConfigError`.
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
        norm_pre: bool = False,
        patch_norm: bool = False,
        attention_dim: int | None = None,
        position_resize: str = "timm",
        positions: str = "learned",
        position_base: float = 10000.0,
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
        config = {k: v for k, v in locals().items() if k not in ("self", "__class__")}
        for name, value, known in (("pool", pool, POOLS), ("position_resize", position_resize, RESIZES)):
            if value not in known:
                raise ConfigError(
                    f"{name}: unknown choice {value!r}, choose one of {', '.join(known)}{did_you_mean(value, known)}"
                )
        if pool == "cls_dist" and not registers:
            raise ConfigError("pool cls_dist: the distillation token is the first register, so registers must be ≥ 1")
        if attention_dim is not None and (num_heads < 1 or attention_dim % num_heads):
            raise ConfigError(
                f"attention_dim {attention_dim} does not divide into num_heads {num_heads} of equal width"
            )
        plain = {k: v for k, v in config.items() if k not in FOREIGN}
        plain["pool"] = "mean" if pool in ("mean", "norm_mean", "map") else "cls"
        if attention_dim is not None:
            plain["num_heads"] = 1  # its blocks' attention is replaced below, and need not fit
        super().__init__(**plain)
        self.config, self.pool = config, pool
        with random.drawing_from(random.stream(seed, "foreign")):
            self.norm_pre = LayerNorm(dim, eps) if norm_pre else None
            if patch_norm:
                self.patch_embed = NormedPatchEmbed(patch_size, in_channels, dim, eps)
            if attention_dim is not None:
                self.head_dim = attention_dim // num_heads
                for block in self.blocks:
                    block.attn = WideAttention(dim, attention_dim, num_heads, qkv_bias, qk_norm, dropout, eps)
            if pool not in ("cls", "mean"):
                self.norm, self.fc_norm = LayerNorm(dim, eps), None
            self.attn_pool = MAPHead(dim, num_heads, mlp_ratio, eps, mlp) if pool == "map" else None
            self.head_dist = Linear(dim, num_classes, zero=True) if pool == "cls_dist" and num_classes else None
            if pool == "cls_mean" and num_classes:
                self.head = Linear(2 * dim, num_classes, zero=True)

    def forward(self, images: Any) -> Tensor:
        if self.head_dist is None:
            return super().forward(images)
        first, second = ops.split(self.features(images), 2, axis=-1)
        return (self.head(first) + self.head_dist(second)) * 0.5

    def features(self, images: Any) -> Tensor:
        """What the head reads: (B, H, W, C) -> (B, D), or (B, 2D) for the pools of two vectors."""
        if self.pool in ("cls", "mean"):
            return super().features(images)
        x, _ = self.embed(self.as_input(images))
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        tap("final", lambda: x)
        if self.pool == "tokens_mean":
            return x.mean(axis=1)
        if self.pool == "cls_dist":
            return ops.concatenate([x[:, 0], x[:, 1]], axis=-1)
        patches = x[:, self.num_prefix :]
        if self.pool == "cls_mean":
            return ops.concatenate([x[:, 0], patches.mean(axis=1)], axis=-1)
        return self.attn_pool(patches) if self.pool == "map" else patches.mean(axis=1)

    def embed(self, images: Tensor) -> tuple[Tensor, Rotation | None]:
        """As in ViT, then the norm before the blocks: (B, H, W, C) -> (B, T, D)."""
        x, rotation = super().embed(images)
        return (x if self.norm_pre is None else self.norm_pre(x)), rotation

    def _positions(self, grid: tuple[int, int]) -> Tensor | None:
        """The position embeddings for another grid of patches, resized as the source does."""
        if self.pos_embed is None or grid == self.grid:
            return self.pos_embed
        fixed, patches = self.pos_embed[:, : self.pos_prefix], self.pos_embed[:, self.pos_prefix :]
        if self.config["positions"] == "sincos":
            table = sincos_2d(*grid, self.config["dim"], self.config["position_base"])[None]
            patches = Tensor(backends.backend_of(patches.data).from_host(table, patches.dtype))
        else:
            patches = resize_positions(patches, self.grid, grid, self.config["position_resize"])
        return ops.concatenate([fixed, patches], axis=1)


class WideAttention(Attention):
    """Attention whose heads are together `inner` wide instead of D: (B, T, D) -> (B, T, D)."""

    def __init__(self, dim: int, inner: int, num_heads: int, qkv_bias: bool, qk_norm: bool, dropout: float, eps: float):
        super().__init__(inner, num_heads, qkv_bias, qk_norm, dropout, eps)
        self.inner = inner
        self.qkv = Linear(dim, 3 * inner, bias=qkv_bias)
        self.proj = Linear(inner, dim)

    def _project_first(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, rest = self.qkv(x[:, :1], slice(self.inner)), self.qkv(x, slice(self.inner, None))
        return q, *ops.split(rest, 2, axis=-1)


class NormedPatchEmbed(PatchEmbed):
    """PatchEmbed with a norm over each patch's pixels before the matrix and one after it: (B, H, W, C) -> (B, N, D)."""

    def __init__(self, patch_size: Size, in_channels: int, dim: int, eps: float):
        super().__init__(patch_size, in_channels, dim)
        p, q = self.patch_size
        self.norm_in, self.norm_out = LayerNorm(p * q * in_channels, eps), LayerNorm(dim, eps)

    def forward(self, images: Tensor) -> Tensor:
        return self.norm_out(self.proj(self.norm_in(patchify(images, self.patch_size))))
