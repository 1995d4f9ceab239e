"""The pre-norm Transformer block: look around, then think, each added to what was there."""

from minivit.engine.tensor import Tensor
from minivit.nn.attention import Attention, Rotation
from minivit.nn.layers import MLP, DropPath, LayerNorm, LayerScale, SwiGLU
from minivit.nn.module import Module, tap


class Block(Module):
    """x ← x + Attention(LN(x)), then x ← x + MLP(LN(x)) (ViT paper, eq. 2 and 3): (B, T, D) -> (B, T, D)."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        *,
        eps: float = 1e-6,
        qkv_bias: bool = True,
        qk_norm: bool = False,
        layer_scale: float | None = None,
        dropout: float = 0.0,
        drop_path: float = 0.0,
        mlp: str = "gelu",
    ):
        self.norm1 = LayerNorm(dim, eps)
        self.attn = Attention(dim, num_heads, qkv_bias, qk_norm, dropout, eps)
        self.ls1 = LayerScale(dim, layer_scale) if layer_scale is not None else None
        self.norm2 = LayerNorm(dim, eps)
        if mlp == "swiglu":
            self.mlp = SwiGLU(dim, -(-int(dim * mlp_ratio * 2 / 3) // 8) * 8, dropout)  # ⅔ as wide, a multiple of 8
        else:
            self.mlp = MLP(dim, int(dim * mlp_ratio), dropout, tanh_gelu=mlp == "gelu_tanh")
        self.ls2 = LayerScale(dim, layer_scale) if layer_scale is not None else None
        self.drop_path1, self.drop_path2 = DropPath(drop_path), DropPath(drop_path)  # two names, for the taps

    def forward(self, x: Tensor, rotation: Rotation | None = None, first_only: bool = False) -> Tensor:
        """`first_only`: compute what comes out at the first token alone, (B, T, D) -> (B, 1, D)."""
        tap("input", lambda: x)
        y = self.attn(self.norm1(x), rotation, first_only)
        x = x[:, :1] if first_only else x
        x = x + self.drop_path1(y if self.ls1 is None else self.ls1(y))
        y = self.mlp(self.norm2(x))
        return x + self.drop_path2(y if self.ls2 is None else self.ls2(y))
