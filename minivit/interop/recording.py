"""What a model does, written down: each operation that it uses, on what, with which settings, in which module.

It runs twice, with two batch sizes and other images. What differs between the runs, and is not the batch axis of a shape,
is no fixed graph, and raises.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minivit.engine import backend as backends
from minivit.engine.errors import ConfigError
from minivit.engine.tensor import Tensor, module_path, no_grad, raw, watchers
from minivit.nn.module import Module, tapped

Ref = tuple[str, Any]  # ("images", None), ("step", number), ("parameter", name), ("constant", number), ("number", 0.5)
Shape = tuple[int | str | None, ...]  # "batch" for the batch size, None for another number that depends on it

BATCHES = (1, 2)  # of the two runs


@dataclass
class Step:
    """One use of an operation: its name in the registry, the module, the operands, the settings, the result's shape."""

    op: str
    path: str
    operands: list[Ref]
    settings: dict[str, Any]
    shape: Shape


class Recording:
    """The steps of a model on images of its own size, in eval mode; `result` is what it returned.

    `names[i]` is the module whose output step i made. `attention` says for each tap of that name which step made the
    weights, or has them inside (FUSED_ATTENTION). Raises `ConfigError` for a model that is no fixed graph.
    """

    def __init__(self, model: Module):
        small, large = (_Run(model, batch) for batch in BATCHES)
        _compare(small, large)
        if small.result[0] != "step":
            raise ConfigError("the model computes nothing with minivit's operations: no graph")
        self.steps = [
            Step(op, path, operands, settings, _common(small.shapes["step", i], large.shapes["step", i]))
            for i, (op, path, operands, settings) in enumerate(small.steps)
        ]
        self.constants, self.names = small.constants, small.names
        self.attention, self.result = small.attention, small.result
        self._shapes = {ref: _common(shape, large.shapes[ref]) for ref, shape in small.shapes.items()}

    def shape(self, ref: Ref) -> Shape:
        """The shape of an operand; () for a number."""
        return self._shapes.get(ref, ())


class _Run:
    """One run; a watcher of `@op`."""

    def __init__(self, model: Module, batch: int):
        self.steps: list[tuple[str, str, list[Ref], dict]] = []
        self.shapes: dict[Ref, tuple[int, ...]] = {}
        self.constants: list[np.ndarray] = []
        self.names: dict[int, str] = {}
        self.attention: dict[str, Ref] = {}
        self._known: dict[int, tuple[Any, Ref]] = {}  # id -> the array, kept so that no other gets its id; its origin
        self._modules = {name for name, _ in model.named_modules()}
        parameters = dict(model.named_parameters())
        for name, p in parameters.items():
            self._learn(p.data, ("parameter", name))
        like = next(iter(parameters.values()))
        size = (batch, *model.image_size, model.config["in_channels"])
        images = Tensor(np.random.default_rng(batch).random(size).astype(like.dtype)).to(like.backend)
        self._learn(images.data, ("images", None))
        modes = [(module, module.training) for _, module in model.named_modules()]
        token = watchers.set((self,))
        try:
            with no_grad(), tapped(self._tapped):  # who looks inside sees every token of the last block too
                self.result = self._ref(model.eval()(images))
        finally:
            watchers.reset(token)
            for module, mode in modes:
                object.__setattr__(module, "training", mode)

    def forward(self, name: str, operands: tuple, static: dict, compute: Callable) -> tuple:
        value, vjp = compute()
        settings = {k: v for k, v in static.items() if k != "needs"}
        self.steps.append((name, ".".join(module_path.get()), [self._ref(x) for x in operands], settings))
        self._learn(value, ("step", len(self.steps) - 1))
        return value, vjp

    def _learn(self, array: Any, ref: Ref) -> None:
        self._known[id(array)] = array, ref
        self.shapes[ref] = array.shape

    def _ref(self, x: Any) -> Ref:
        if isinstance(x, (int, float, np.generic)):
            return "number", float(x)
        array = raw(x)
        if id(array) not in self._known:
            self._learn(array, ("constant", len(self.constants)))
            self.constants.append(backends.to_numpy(array))
        return self._known[id(array)][1]

    def _tapped(self, name: str, make: Callable[[], Tensor]) -> None:
        """Learn which step made a module's output, and which made its attention weights."""
        if name in self._modules:
            kind, number = self._ref(make())
            if kind == "step":
                self.names.setdefault(number, name)
        elif name.endswith(".attention"):
            here = name.removesuffix(".attention")
            fused = [i for i, (op, path, *_) in enumerate(self.steps) if path == here and op in FUSED_ATTENTION]
            self.attention[name] = ("step", fused[-1]) if fused else self._ref(make())


FUSED_ATTENTION = ("attention", "self_attention")


def _common(small: tuple[int, ...], large: tuple[int, ...]) -> Shape:
    """One shape out of those of the two runs."""
    axes = zip(small, large, strict=True)
    return tuple(m if m == n else "batch" if (m, n) == BATCHES else None for m, n in axes)


def _compare(small: _Run, large: _Run) -> None:
    """Raises `ConfigError` where two runs differ in more than shapes that grow with the batch."""
    for one, other in zip(small.steps, large.steps, strict=False):
        free = ("shape",) if one[0] in ("reshape", "broadcast_to") else ()  # seen in the shape of what came out
        settings = [{k: v for k, v in step[3].items() if k not in free} for step in (one, other)]
        if one[:3] != other[:3] or repr(settings[0]) != repr(settings[1]):
            raise ConfigError(
                f"{one[0]} in module {one[1]!r} does something else for another batch size: no fixed graph"
            )
    if len(small.steps) != len(large.steps):
        raise ConfigError("the model uses other operations for another batch size: it is no fixed graph")
    for i, (a, b) in enumerate(zip(small.constants, large.constants, strict=False)):
        users = [
            f"an operand of {op} in module {path!r}" for op, path, refs, _ in small.steps if ("constant", i) in refs
        ]
        if not np.array_equal(a, b):
            raise ConfigError(
                f"{[*users, 'an output'][0]} depends on the images or on the batch size, but was not computed by "
                "minivit's operations: no fixed graph"
            )
