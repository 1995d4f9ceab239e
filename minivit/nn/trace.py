"""Look inside any model while it runs: attention, tokens and every module's output, as NumPy arrays."""

import fnmatch
import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from minivit.engine.errors import ConfigError
from minivit.engine.tensor import no_grad
from minivit.nn.module import Module, tapped

KINDS = ("logits", "attention", "tokens", "final", "features")
Reduce = Callable[[str, np.ndarray], np.ndarray]


class Trace:
    """What a model did with some images.

    `logits` (B, K). `attention[l]` (B, heads, T, T), rows summing to 1; empty where a model has none. `tokens[0]`
    (B, T, D) enters the first block, `tokens[l + 1]` leaves block l. `final` is what the last norm gives (with mean
    pooling, where the norm follows the mean, the last tokens). `features` holds each module's output by dotted name.
    What was not kept is empty or `None`.
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
    pieces: dict[str, list[np.ndarray]] = {}
    seen: set[str] = set()

    def wanted(name: str) -> bool:
        kind = _kind(name)
        seen.add(name)
        return kind in keep or any(fnmatch.fnmatchcase(name, p) for p in patterns)

    def receive(name: str, make) -> None:
        if wanted(name or "logits"):
            values = make().numpy()
            stored = reduce(name or "logits", values) if reduce else values
            pieces.setdefault(name or "logits", []).append(np.array(stored))

    modes = [(module, module.training) for _, module in model.named_modules()]
    model.eval()
    try:
        with no_grad(), tapped(receive):
            for start in range(0, len(images), batch_size):
                model(images[start : start + batch_size])
    finally:
        for module, mode in modes:
            object.__setattr__(module, "training", mode)
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in seen):
            raise ConfigError(f"trace: nothing matches {pattern!r}; names are such as {', '.join(sorted(seen)[:5])}")
    return _collect({name: np.concatenate(parts) for name, parts in pieces.items()}, keep)


def _kind(name: str) -> str:
    """Which part of a Trace a tapped value belongs to."""
    if name in ("logits", "final"):
        return name
    if name.endswith(".attention"):
        return "attention"
    if name.endswith(".input") or re.fullmatch(r"blocks\.\d+", name):
        return "tokens"
    return "features"


def _collect(arrays: dict[str, np.ndarray], keep: set[str]) -> Trace:
    """Sort arrays by name into a Trace; they arrive in the order in which the model made them."""
    result = Trace()
    for name, array in arrays.items():
        kind = _kind(name)
        if kind == "logits":
            result.logits = array
        elif kind == "final":
            result.final = array
        elif kind == "attention":
            result.attention.append(array)
        elif kind == "tokens" and "tokens" in keep and (not name.endswith(".input") or not result.tokens):
            result.tokens.append(array)
        if kind == "features" or (kind == "tokens" and not name.endswith(".input")):
            result.features[name] = array
    return result
