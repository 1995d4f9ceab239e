"""The small parts: Linear, LayerNorm, Dropout, the MLPs, convolution and its norm."""

from typing import Any

from minivit.engine import backend as backends
from minivit.engine import fused, ops, random
from minivit.engine.errors import ConfigError
from minivit.engine.tensor import Tensor
from minivit.nn import init
from minivit.nn.module import Module, Parameter


class Linear(Module):
    """y = xW + b: (…, in_features) -> (…, out_features). `weight` is (in, out); `zero=True` starts it at 0."""

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, zero: bool = False, layout: Any = "linear"
    ):
        make = init.zeros if zero else init.scaled
        self.weight = Parameter(make(in_features, out_features), layout=layout)
        self.bias = Parameter(init.zeros(out_features)) if bias else None

    def forward(self, x: Tensor, columns: slice | None = None) -> Tensor:
        """`columns` asks for some of the output features only."""
        if columns is None:
            return fused.linear(x, self.weight, self.bias)
        return fused.linear(x, self.weight[:, columns], None if self.bias is None else self.bias[columns])


class LayerNorm(Module):
    """Each token to mean 0 and variance 1 over its D features, then γ and β (Ba et al. 2016): (…, D) -> (…, D)."""

    def __init__(self, dim: int, eps: float = 1e-6):
        self.weight = Parameter(init.ones(dim))
        self.bias = Parameter(init.zeros(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return fused.layer_norm(x, self.weight, self.bias, eps=self.eps)


class GroupNorm(Module):
    """Channels in groups to mean 0 and variance 1 over each image (Wu & He 2018): (B, H, W, C) -> (B, H, W, C)."""

    def __init__(self, groups: int, channels: int, eps: float = 1e-5):
        if channels % groups:
            raise ConfigError(f"GroupNorm: {channels} channels do not divide into {groups} groups")
        self.weight = Parameter(init.ones(channels))
        self.bias = Parameter(init.zeros(channels))
        self.groups, self.eps = groups, eps

    def forward(self, x: Tensor) -> Tensor:
        return fused.group_norm(x, self.weight, self.bias, groups=self.groups, eps=self.eps)


class Conv2d(Module):
    """Sliding dot products: (B, H, W, in_channels) -> (B, h, w, out_channels). `weight` is (kh, kw, in, out)."""

    def __init__(
        self, in_channels: int, out_channels: int, size: int, stride: int = 1, padding: Any = 0, bias: bool = True
    ):
        # He et al. 2015: ReLU halves the variance
        weight = init.scaled(size, size, in_channels, out_channels, gain=2**0.5)
        self.weight = Parameter(weight, layout="conv")
        self.bias = Parameter(init.zeros(out_channels)) if bias else None
        self.stride, self.padding = stride, padding

    def forward(self, x: Tensor) -> Tensor:
        y = ops.conv2d(x, self.weight, self.stride, self.padding)
        return y if self.bias is None else y + self.bias


class Dropout(Module):
    """In training, each value is set to 0 with probability `rate` and the others are divided by 1 − rate."""

    def __init__(self, rate: float = 0.0):
        self.rate = check_rate("dropout", rate)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        return x * kept(x, x.shape, self.rate)


class DropPath(Module):
    """Stochastic depth (Huang et al. 2016): in training, the whole branch of an image is dropped with probability `rate`."""

    def __init__(self, rate: float = 0.0):
        self.rate = check_rate("drop_path", rate)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        return x * kept(x, (x.shape[0],) + (1,) * (x.ndim - 1), self.rate)


class LayerScale(Module):
    """γ ⊙ x with a learned γ that starts small (Touvron et al. 2021): (…, D) -> (…, D)."""

    def __init__(self, dim: int, start: float):
        self.gamma = Parameter(init.ones(dim) * float(start))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class MLP(Module):
    """Two Linears with a GELU between, for each token alone: (…, D) -> (…, D)."""

    def __init__(self, dim: int, hidden: int, dropout: float = 0.0, tanh_gelu: bool = False):
        self.fc1 = Linear(dim, hidden)
        self.fc2 = Linear(hidden, dim)
        self.drop = Dropout(dropout)
        self.tanh_gelu = tanh_gelu

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.fc2(fused.gelu(self.fc1(x), approximate=self.tanh_gelu)))


class SwiGLU(Module):
    """(silu(xW₁) ⊙ xW₂) W₃ (Shazeer 2020), W₁ and W₂ packed: (…, D) -> (…, D)."""

    def __init__(self, dim: int, hidden: int, dropout: float = 0.0):
        self.w12 = Linear(dim, 2 * hidden)
        self.w3 = Linear(hidden, dim)
        self.drop = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = ops.split(self.w12(x), 2, axis=-1)
        return self.drop(self.w3(fused.silu(gate) * value))


def kept(like: Tensor, shape: tuple[int, ...], rate: float) -> Tensor:
    """A random mask of 0 and 1/(1 − rate), drawn on the CPU from the stream in force."""
    mask = (random.current().random(shape) >= rate) / (1 - rate)
    return Tensor(backends.backend_of(like.data).from_host(mask, like.dtype))


def check_rate(name: str, rate: float) -> float:
    """A probability below 1, or a `ConfigError`."""
    if not 0 <= rate < 1:
        raise ConfigError(f"{name}: {rate} is not a rate; choose 0 ≤ rate < 1")
    return rate
