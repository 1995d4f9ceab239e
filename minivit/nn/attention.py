"""Self-attention: every token asks every token, in several heads at once."""

from minivit.engine import fused, ops
from minivit.engine.composed import attention_weights, merge_heads, split_heads
from minivit.engine.errors import ConfigError
from minivit.engine.tensor import Tensor, no_grad
from minivit.nn.layers import Dropout, LayerNorm, Linear
from minivit.nn.module import Module, tap

Rotation = tuple[Tensor, Tensor]  # cosines and sines, (T, d) or (B, 1, T, d)


class Attention(Module):
    """softmax(qkᵀ/√d) v in `num_heads` heads of width d = D/heads, then one Linear (Vaswani et al. 2017): (B, T, D) -> (B, T, D).

    `qkv.weight` is (D, 3D): columns q | k | v, each head after head. `qk_norm` normalises q and k over d (Dehghani et
    al. 2023). The weights (B, heads, T, T) leave through the tap `attention`. Raises `ConfigError`.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        qkv_bias: bool = True,
        qk_norm: bool = False,
        dropout: float = 0.0,
        eps: float = 1e-6,
    ):
        if num_heads < 1 or dim % num_heads:
            raise ConfigError(f"dim {dim} does not divide into {num_heads} heads of equal width")
        self.num_heads = num_heads
        self.qkv = Linear(dim, 3 * dim, bias=qkv_bias)
        self.q_norm = LayerNorm(dim // num_heads, eps) if qk_norm else None
        self.k_norm = LayerNorm(dim // num_heads, eps) if qk_norm else None
        self.proj = Linear(dim, dim)
        self.drop = Dropout(dropout)

    def forward(self, x: Tensor, rotation: Rotation | None = None, first_only: bool = False) -> Tensor:
        """`first_only` asks for the first token alone, which still looks at all of them: (B, T, D) -> (B, 1, D)."""
        if first_only:
            q, k, v = self._heads(*self._project_first(x), rotation)
            y = merge_heads(fused.attention(q, k, v))
        elif self.q_norm is None and rotation is None:
            qkv = self.qkv(x)  # (B, T, D) -> (B, T, 3D)
            y = fused.self_attention(qkv, num_heads=self.num_heads)
            tap("attention", lambda: self._weights(*self._heads(*ops.split(qkv, 3, axis=-1), None)[:2]))
        else:
            q, k, v = self._heads(*ops.split(self.qkv(x), 3, axis=-1), rotation)
            y = merge_heads(fused.attention(q, k, v))
            tap("attention", lambda: self._weights(q, k))
        return self.drop(self.proj(y))

    def _heads(self, q: Tensor, k: Tensor, v: Tensor, rotation: Rotation | None) -> tuple[Tensor, Tensor, Tensor]:
        """Three of (B, T, D) -> three of (B, heads, T, d), q and k normalised and turned (a lone first token is not)."""
        q, k, v = (split_heads(part, self.num_heads) for part in (q, k, v))
        if self.q_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        if rotation is not None:
            q, k = (q if q.shape[2] < k.shape[2] else rotate(q, *rotation)), rotate(k, *rotation)
        return q, k, v

    def _project_first(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The first token's query, everyone's keys and values: (B, T, D) -> (B, 1, D), (B, T, D), (B, T, D)."""
        width = x.shape[-1]
        q, rest = self.qkv(x[:, :1], slice(width)), self.qkv(x, slice(width, None))
        return q, *ops.split(rest, 2, axis=-1)

    @staticmethod
    def _weights(q: Tensor, k: Tensor) -> Tensor:
        with no_grad():
            return attention_weights(q, k)


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turn each pair (xᵢ, xᵢ₊d/₂) by its token's angle (Su et al. 2021): (B, heads, T, d) -> (B, heads, T, d)."""
    first, second = ops.split(x, 2, axis=-1)
    return x * cosine + ops.concatenate([-second, first], axis=-1) * sine
