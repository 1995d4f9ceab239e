"""Optimisers: how a gradient becomes a step. Parameters change in place; decay touches matrices only."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from minivit.engine import backend as backends
from minivit.engine.backend import Array
from minivit.engine.errors import CheckpointError, ConfigError, ShapeError
from minivit.nn.module import Module, Parameter


class Optimizer:
    """What all optimisers share: the parameters, the step counter, and state that a checkpoint can hold."""

    slots: tuple[str, ...] = ()  # the running averages kept for each parameter

    def __init__(self, parameters: Iterable[Parameter], lr: float, weight_decay: float):
        if isinstance(parameters, Module):
            raise ConfigError("the optimiser takes parameters, not a module: write model.parameters()")
        self.parameters = [p for p in parameters if p.requires_grad]
        if not self.parameters:
            raise ConfigError("the optimiser has no parameters to learn; pass model.parameters()")
        if lr < 0 or weight_decay < 0:
            raise ConfigError(f"lr {lr} and weight_decay {weight_decay} must not be negative")
        self.lr, self.weight_decay, self.steps = lr, weight_decay, 0
        self.state = {slot: [p.data * 0 for p in self.parameters] for slot in self.slots}

    def step(self, gradients: Sequence[Array | None] | None = None) -> None:
        """One update from `gradients` (in the order of `parameters`), or from each parameter's `.grad`; None is skipped."""
        gradients = [p.grad for p in self.parameters] if gradients is None else gradients
        if len(gradients) != len(self.parameters):
            raise ShapeError(f"step: {len(gradients)} gradients for {len(self.parameters)} parameters")
        self.steps += 1
        if self.update_all(gradients):
            return
        for i, (p, g) in enumerate(zip(self.parameters, gradients, strict=True)):
            if g is not None:
                self.update(p.data, g, decays(p), *(self.state[slot][i] for slot in self.slots))

    def update(self, p: Array, g: Array, decay: bool, *state: Array) -> None:
        """Change one parameter's array in place; subclasses write it."""
        raise NotImplementedError

    def update_all(self, gradients: Sequence[Array | None]) -> bool:
        """Change every parameter at once, where there is a faster way than one by one; whether that was done."""
        return False

    def zero_grad(self) -> None:
        """Forget every gradient."""
        for p in self.parameters:
            p.zero_grad()

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of the running averages, `m.0`, `m.1`, …, and the number of `steps`."""
        named = {f"{slot}.{i}": backends.to_numpy(a) for slot in self.slots for i, a in enumerate(self.state[slot])}
        return {"steps": np.array(self.steps), **{name: np.array(a) for name, a in named.items()}}

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """Put back what `state_dict` gave. Raises `CheckpointError` where names or shapes differ."""
        own = self.state_dict()
        wrong = [name for name in own.keys() | state.keys() if np.shape(own.get(name)) != np.shape(state.get(name))]
        if wrong or own.keys() != state.keys():
            raise CheckpointError(
                f"the optimiser's state does not fit these parameters: {', '.join(sorted(wrong)[:5])}"
            )
        self.steps = int(state["steps"])
        for slot in self.slots:
            for i, a in enumerate(self.state[slot]):
                a[...] = backends.backend_of(a).from_host(state[f"{slot}.{i}"])


def decays(p: Parameter) -> bool:
    """Weight decay is for the matrices of Linear and convolution: not biases, norms, tokens or positions (1, T, D)."""
    return p.ndim in (2, 4)


class SGD(Optimizer):
    """p ← p − lr · v, v ← momentum · v + g (+ weight_decay · p on matrices), as in PyTorch."""

    slots = ("momentum",)

    def __init__(self, parameters: Iterable[Parameter], lr: float, momentum: float = 0.0, weight_decay: float = 0.0):
        if not 0 <= momentum < 1:
            raise ConfigError(f"momentum {momentum} must lie in [0, 1)")
        super().__init__(parameters, lr, weight_decay)
        self.momentum = momentum

    def update(self, p: Array, g: Array, decay: bool, velocity: Array) -> None:
        velocity *= self.momentum
        velocity += g
        if decay and self.weight_decay:
            velocity += self.weight_decay * p
        p -= self.lr * velocity


class AdamW(Optimizer):
    """p ← p − lr (m̂ / (√v̂ + ε) + weight_decay · p), the decay on matrices only (Loshchilov & Hutter 2019)."""

    slots = ("m", "v")

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.05,
    ):
        if not all(0 <= b < 1 for b in betas):
            raise ConfigError(f"betas {tuple(betas)} must lie in [0, 1)")
        super().__init__(parameters, lr, weight_decay)
        self.betas, self.eps = tuple(betas), eps

    def update(self, p: Array, g: Array, decay: bool, m: Array, v: Array) -> None:
        b1, b2 = self.betas
        m *= b1
        m += (1 - b1) * g
        v *= b2
        v += (1 - b2) * g * g
        if decay:
            p *= 1 - self.lr * self.weight_decay
        # m and v start empty; after t steps they are 1 − bᵗ full
        size = backends.backend_of(v).sqrt(v)
        size /= math.sqrt(1 - b2**self.steps)
        size += self.eps
        p -= self.lr / (1 - b1**self.steps) * m / size

    def update_all(self, gradients: Sequence[Array | None]) -> bool:
        arrays, decay = [p.data for p in self.parameters], [decays(p) for p in self.parameters]
        xp = backends.backend_of(arrays[0])
        numbers = {"lr": self.lr, "betas": self.betas, "eps": self.eps, "weight_decay": self.weight_decay}
        return xp.kernels is not None and xp.kernels.adamw(
            xp, arrays, gradients, self.state["m"], self.state["v"], decay, **numbers, steps=self.steps
        )


OPTIMIZERS: dict[str, Any] = {"adamw": AdamW, "sgd": SGD}


def global_norm(gradients: Iterable[Array | None]) -> float:
    """√(Σ g²) over all gradients together."""
    gradients = [g for g in gradients if g is not None]
    norm = _in_one_launch("global_norm", gradients)
    return math.sqrt(sum(float((g * g).sum()) for g in gradients)) if norm is None else norm


def clip_global_norm(gradients: Sequence[Array | None], limit: float) -> tuple[list[Array | None], float]:
    """The gradients, all scaled by one factor if their common norm exceeds `limit`, and that norm."""
    norm = global_norm(gradients)
    factor = limit / (norm + 1e-6)
    if factor >= 1:
        return list(gradients), norm
    there = [g for g in gradients if g is not None]
    scaled = iter(_in_one_launch("scaled", there, factor) or [g * factor for g in there])
    return [None if g is None else next(scaled) for g in gradients], norm


def _in_one_launch(name: str, gradients: list[Array], *rest: float) -> Any:
    """What the CUDA twin of a function over all gradients finds, or None where there is none that fits."""
    xp = backends.backend_of(gradients[0]) if gradients else None
    return getattr(xp.kernels, name)(xp, gradients, *rest) if xp is not None and xp.kernels else None
