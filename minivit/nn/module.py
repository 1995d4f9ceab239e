"""Module: parameters with dotted names, modes, weights in and out, and taps that look inside while it runs."""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import numpy as np

from minivit.engine import backend as backends
from minivit.engine.errors import CheckpointError, ConfigError, DTypeError, did_you_mean
from minivit.engine.tensor import Tensor, module_path, raw

Receiver = Callable[[str, Callable[[], Tensor]], None]
_receiver: ContextVar[Receiver | None] = ContextVar("tap", default=None)


class Parameter(Tensor):
    """A Tensor that is learned.

    `layout` says how its axes are stored in files that other tools read: `"linear"` (in, out), `"conv"`
    (kh, kw, in, out), `("patch", rows, columns, channels)`, or `None` where the order is the same everywhere.
    """

    __slots__ = ("layout",)

    def __init__(self, data: Any, layout: Any = None, requires_grad: bool = True):
        if isinstance(data, np.ndarray):
            data = backends.default_backend().from_host(data)
        super().__init__(data, requires_grad=requires_grad)
        self.layout = layout


class Module:
    """A part of a network: assign Parameters, Modules and lists or tuples of Modules as attributes; write `forward`.

    Names are attribute names joined by dots, positions in lists included: `blocks.0.attn.qkv.weight`.
    """

    training = True
    meta: dict | None = (
        None  # of a trained model: `name`, `class_names`, `mean` and `std` of the data it was trained on
    )
    source: Any = None  # of a model out of another library's file: what it was, what was assumed
    name = ""  # within its parent; empty for the root

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, (Parameter, Module)):
            value.name = name
        elif isinstance(value, (list, tuple)):
            for i, part in enumerate(value):
                if isinstance(part, Parameter):
                    raise ConfigError(f"{name}: a list of Parameters would not be learned; give each its own attribute")
                if isinstance(part, Module):
                    part.name = f"{name}.{i}"
        object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:  # only called when nothing was found
        known = [k for k in dir(self) if not k.startswith("_")]
        raise AttributeError(f"{type(self).__name__} has no {name!r}{did_you_mean(name, known)}")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        token = module_path.set((*module_path.get(), self.name) if self.name else module_path.get())
        try:
            out = self.forward(*args, **kwargs)
            if isinstance(out, Tensor):
                tap("", lambda: out)
            return out
        finally:
            module_path.reset(token)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes; subclasses write it."""
        raise NotImplementedError(f"{type(self).__name__}.forward")

    def children(self) -> Iterator[tuple[str, "Module"]]:
        """The modules right below this one, with their names."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value
            elif isinstance(value, (list, tuple)):
                yield from ((f"{name}.{i}", part) for i, part in enumerate(value) if isinstance(part, Module))

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, "Module"]]:
        """This module (named `""`) and all below it, in the order they were assigned."""
        yield prefix, self
        for name, child in self.children():
            yield from child.named_modules(f"{prefix}.{name}" if prefix else name)

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Every parameter once, with its dotted name, in the order of assignment."""
        seen: set[int] = set()
        for prefix, module in self.named_modules():
            for name, value in vars(module).items():
                if isinstance(value, Parameter) and id(value) not in seen:
                    seen.add(id(value))
                    yield f"{prefix}.{name}" if prefix else name, value

    def parameters(self) -> list[Parameter]:
        """Every parameter once, in the order of `named_parameters`."""
        return [p for _, p in self.named_parameters()]

    def num_parameters(self) -> int:
        """How many numbers are learned."""
        return sum(p.size for p in self.parameters() if p.requires_grad)

    def zero_grad(self) -> None:
        """Forget every gradient."""
        for p in self.parameters():
            p.zero_grad()

    def train(self, mode: bool = True) -> "Module":
        """Turn on what happens in training only (dropout, stochastic depth); `train(False)` is `eval()`."""
        for _, module in self.named_modules():
            object.__setattr__(module, "training", mode)
        return self

    def eval(self) -> "Module":
        """Turn off what happens in training only."""
        return self.train(False)

    def to(self, backend: str) -> "Module":
        """Move every parameter to `"numpy"` or `"cupy"`, in place."""
        target = backends.get_backend(backend)
        for p in self.parameters():
            if backends.backend_of(p.data) is not target:
                p.data, p.grad = target.from_host(backends.to_numpy(p.data)), None
        return self

    def astype(self, dtype: Any) -> "Module":
        """Convert every parameter to another floating-point type, in place."""
        if np.dtype(dtype).kind != "f":
            raise DTypeError(f"astype: parameters are floating-point numbers, not {np.dtype(dtype)}")
        for p in self.parameters():
            p.data, p.grad = p.data.astype(dtype), None
        return self

    def as_input(self, x: Any) -> Tensor:
        """A plain array as a Tensor of the model's dtype and backend; a Tensor as it is. Raises `DTypeError` for integers."""
        if isinstance(x, Tensor):
            return x
        like = next(self.named_parameters())[1].data
        x = np.asarray(x) if not backends.is_array(x) else x
        if x.dtype.kind != "f":
            raise DTypeError(
                f"{type(self).__name__}: the input holds {x.dtype}; scale it to floating-point numbers first, "
                "for example images.astype('float32') / 255"
            )
        target = backends.backend_of(like)
        if backends.backend_of(x) is not target:
            x = target.from_host(backends.to_numpy(x))
        return Tensor(x.astype(like.dtype, copy=False))

    def state_dict(self) -> dict[str, np.ndarray]:
        """A copy of every parameter by name, in ordinary memory and in minivit's own layout."""
        return {name: np.array(backends.to_numpy(p.data)) for name, p in self.named_parameters()}

    def load_state_dict(self, state: dict[str, Any], strict: bool = True) -> list[str]:
        """Copy arrays into the parameters of the same names; all are checked before any is changed.

        Raises `CheckpointError` listing every name that is missing, unknown, of another shape or not floating-point.
        With `strict=False` what fits is loaded and the list of complaints is returned.
        """
        own = dict(self.named_parameters())
        complaints = [f"missing: {name} {own[name].shape}" for name in own if name not in state]
        complaints += [f"unknown: {name}{did_you_mean(name, own)}" for name in state if name not in own]
        fitting = {}
        for name in own.keys() & state.keys():
            value, target = raw(state[name]), own[name]
            if tuple(value.shape) != target.shape:
                complaints.append(f"wrong shape: {name} is {target.shape} here, {tuple(value.shape)} in the weights")
            elif value.dtype.kind != "f":
                complaints.append(f"wrong type: {name} is {target.dtype} here, {value.dtype} in the weights")
            else:
                fitting[name] = value
        if strict and complaints:
            shown = "\n  ".join(sorted(complaints)[:20])
            more = f"\n  … and {len(complaints) - 20} more" if len(complaints) > 20 else ""
            raise CheckpointError(f"these weights do not fit this {type(self).__name__}:\n  {shown}{more}")
        for name, value in fitting.items():
            target = own[name].data
            value = backends.to_numpy(value).astype(target.dtype, copy=False)
            target[...] = backends.backend_of(target).from_host(value)
        return sorted(complaints)

    def __repr__(self) -> str:
        return "\n".join([*([str(self.source)] if self.source else []), *self._lines("")])

    def _lines(self, indent: str) -> list[str]:
        shapes = ", ".join(f"{k} {v.shape}" for k, v in vars(self).items() if isinstance(v, Parameter))
        lines = [f"{indent}{self.name + ': ' if indent else ''}{type(self).__name__}({shapes})"]
        for _, child in self.children():
            lines += child._lines(indent + "  ")
        return lines


class Sequential(Module):
    """Modules one after another."""

    def __init__(self, *layers: Module):
        self.layers = list(layers)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


@contextlib.contextmanager
def evaluating(model: Module) -> Iterator[Module]:
    """Inside, the model is in eval mode; afterwards each of its modules is in the mode that it was in."""
    modes = [(module, module.training) for _, module in model.named_modules()]
    try:
        yield model.eval()
    finally:
        for module, mode in modes:
            object.__setattr__(module, "training", mode)


@contextlib.contextmanager
def tapped(receive: Receiver | None) -> Iterator[None]:
    """Inside, `receive(name, make)` is called for every module's output; `make()` gives the Tensor.

    Names are dotted; modules add a few of their own, such as `blocks.0.input` and `blocks.0.attn.attention`. `None`: nobody
    listens.
    """
    token = _receiver.set(receive)
    try:
        yield
    finally:
        _receiver.reset(token)


def listening() -> bool:
    """Whether anyone wants to look inside, so that nothing may be left out."""
    return _receiver.get() is not None


def tap(name: str, make: Callable[[], Tensor]) -> None:
    """Offer a value under `<module path>.<name>` to whoever is listening; `make` runs only if they ask for it."""
    receive = _receiver.get()
    if receive is not None:
        receive(".".join((*module_path.get(), name) if name else module_path.get()), make)
