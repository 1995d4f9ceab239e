"""Multihead attention pooling: one learned query asks all tokens what the image is."""

from minivit.engine import fused, ops
from minivit.engine.composed import attention_weights, merge_heads, split_heads
from minivit.engine.errors import ConfigError
from minivit.engine.tensor import Tensor, no_grad
from minivit.nn import init
from minivit.nn.layers import MLP, LayerNorm, Linear
from minivit.nn.module import Module, Parameter, tap


class MAPHead(Module):
    """z + MLP(LN(z)) with z = Attention(probe, x, x) for one learned probe (Zhai et al. 2022, sec. 3.2): (B, T, D) -> (B, D).

    Parameters are named as in timm's attention pooling, where the probe is called `latent`; `kv.weight` is (D, 2D),
    columns k | v. `mlp`: `gelu` or `gelu_tanh`. The weights (B, heads, 1, T) leave through the tap `pooling`.
    Raises `ConfigError`.
    """

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float = 4.0, eps: float = 1e-6, mlp: str = "gelu"):
        if num_heads < 1 or dim % num_heads:
            raise ConfigError(f"dim {dim} does not divide into {num_heads} heads of equal width")
        if mlp not in ("gelu", "gelu_tanh"):
            raise ConfigError(f"mlp: unknown choice {mlp!r} for attention pooling, choose gelu or gelu_tanh")
        self.num_heads = num_heads
        self.latent = Parameter(init.truncated_normal(1, 1, dim, std=dim**-0.5))
        self.q = Linear(dim, dim)
        self.kv = Linear(dim, 2 * dim)
        self.proj = Linear(dim, dim)
        self.norm = LayerNorm(dim, eps)
        self.mlp = MLP(dim, int(dim * mlp_ratio), tanh_gelu=mlp == "gelu_tanh")

    def forward(self, x: Tensor) -> Tensor:
        b, _, dim = x.shape
        q = ops.broadcast_to(self.q(self.latent), shape=(b, 1, dim))  # the same question to every image
        k, v = ops.split(self.kv(x), 2, axis=-1)  # (B, T, 2D) -> two of (B, T, D)
        q, k, v = (split_heads(part, self.num_heads) for part in (q, k, v))
        tap("pooling", lambda: self._weights(q, k))
        z = self.proj(merge_heads(fused.attention(q, k, v)))[:, 0]  # (B, heads, 1, d) -> (B, D)
        return z + self.mlp(self.norm(z))

    @staticmethod
    def _weights(q: Tensor, k: Tensor) -> Tensor:
        with no_grad():
            return attention_weights(q, k)
