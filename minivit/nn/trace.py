"""Look inside any model while it runs: attention, tokens and every module's output, as NumPy arrays."""

import fnmatch
import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from minivit.engine.errors import ConfigError, did_you_mean
from minivit.engine.tensor import module_path, no_grad
from minivit.nn.module import Module, evaluating, tapped

KINDS = ("logits", "attention", "tokens", "final", "features")
Reduce = Callable[[str, np.ndarray], np.ndarray]


class Trace:
    """What a model did with some images.

    `logits` (B, K). `attention[l]` (B, heads, T, T), rows summing to 1; empty where a model has none. `tokens[0]`
    (B, T, D) enters the first block, `tokens[l + 1]` leaves block l. `final` is what the last norm gives (with mean
    pooling, where the norm follows the mean, the last tokens). `features` holds each module's output by dotted name,
    and whatever was kept by a pattern. What was not kept is empty or `None`.
    """

    def __init__(self) -> None:
        self.logits: np.ndarray | None = None
        self.attention: list[np.ndarray] = []
        self.tokens: list[np.ndarray] = []
        self.final: np.ndarray | None = None
        self.features: dict[str, np.ndarray] = {}

    def __repr__(self) -> str:
        shapes = f"logits {None if self.logits is None else self.logits.shape}"
        return f"Trace({shapes}, {len(self.attention)} attention maps, {len(self.tokens)} tokens, {len(self.features)} features)"


def trace(
    model: Module,
    images: Any,
    batch_size: int = 16,
    keep: str | Iterable[str] = KINDS,
    reduce: Reduce | None = None,
) -> Trace:
    """Run a model over images (B, H, W, C) and return a `Trace`; in eval mode and without gradients, restored after.

    `keep` bounds the memory: any of `logits`, `attention`, `tokens`, `final`, `features`, or patterns of dotted names
    such as `"blocks.*.mlp"`. `reduce(name, array)` is applied to each batch of every kept array before it is stored
    (for example a mean over heads); the results are joined along axis 0. Raises `ConfigError` for a pattern that
    matches nothing.
    """
    keep = {keep} if isinstance(keep, str) else set(keep)
    patterns = keep - set(KINDS)
    if batch_size < 1:
        raise ConfigError(f"trace: batch_size must be at least 1, got {batch_size}")
    modules = {name for name, _ in model.named_modules()}
    root = ".".join(filter(None, (*module_path.get(), model.name)))  # the model may itself be a part of another
    kept: dict[tuple[str, str], list[np.ndarray]] = {}
    seen: set[str] = set()

    def receive(path: str, make: Callable) -> None:
        name = path.removeprefix(root).lstrip(".")
        seen.add(name)
        kinds = _kinds(name, name in modules) & keep
        if any(fnmatch.fnmatchcase(name, p) for p in patterns):
            kinds.add("features")
        if kinds:
            values = make().numpy()
            stored = np.array(reduce(name or "logits", values) if reduce else values, ndmin=1)
            for kind in kinds:
                kept.setdefault((kind, name), []).append(stored)

    with evaluating(model), no_grad(), tapped(receive):
        for start in range(0, max(1, len(images)), batch_size):
            model(images[start : start + batch_size])
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in seen):
            hint = did_you_mean(pattern, [*KINDS, *sorted(seen)])
            raise ConfigError(
                f"trace: nothing matches {pattern!r}; names are such as {', '.join(sorted(seen)[1:6])}{hint}"
            )
    return _collect(kept)


def _kinds(name: str, is_module: bool) -> set[str]:
    """The parts of a Trace that a tapped value belongs to: a module's output, or one of the few that modules add."""
    if not name:
        return {"logits"}
    if is_module:
        return {"features", "tokens"} if re.fullmatch(r"(.+\.)?blocks\.\d+", name) else {"features"}
    if re.fullmatch(r"(.+\.)?blocks\.0\.input", name):
        return {"tokens"}
    return {name.rpartition(".")[2]} & {"attention", "final"}


def _collect(kept: dict[tuple[str, str], list[np.ndarray]]) -> Trace:
    """Join the batches and sort them into a Trace; they arrive in the order in which the model made them."""
    result, joined = Trace(), {}
    for (kind, name), parts in kept.items():
        if name not in joined:
            joined[name] = np.concatenate(parts)  # once, where two parts of the Trace show the same array
        if kind in ("logits", "final"):
            setattr(result, kind, joined[name])
        elif kind == "features":
            result.features[name] = joined[name]
        else:
            getattr(result, kind).append(joined[name])
    return result
