"""What a family of weight files says in minivit's words: a kind of model, its arguments, an array for each parameter."""

import fnmatch
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from minivit.engine.errors import CheckpointError
from minivit.interop.saved import from_file_layout
from minivit.interop.source import Stored
from minivit.models.foreign import FOREIGN

Make = Callable[[], np.ndarray]
Shapes = Mapping[str, tuple[int, ...]]


@dataclass
class Translation:
    """A file of a known family. `config` holds the constructor's arguments; one that nobody can know is None.

    `weights` makes the array of each of our parameters, in our layout; nothing is read before. `used` names the tensors
    that these consume, `ignored` those left out and why. `assumed` says where what is not in the weights came from.
    `preprocess` holds arguments of `Preprocess`. `origin`: the tensors behind a parameter, also those that are missing.
    """

    family: str
    kind: str
    config: dict[str, Any]
    weights: dict[str, Make]
    used: set[str]
    ignored: dict[str, str] = field(default_factory=dict)
    assumed: dict[str, str] = field(default_factory=dict)
    preprocess: dict[str, Any] = field(default_factory=dict)
    labels: list[str] | None = None
    meta: dict | None = None  # of a minivit model
    origin: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass
class Origin:
    """Where a model came from: what its file could not say, and what was left in it. `str()` gives a few lines."""

    file: str
    family: str
    assumed: dict[str, str]
    ignored: dict[str, str]
    labels: list[str] | None = None

    def __str__(self) -> str:
        lines = [f"{self.family}, from {self.file}"]
        lines += [f"  assumed {what}: {why}" for what, why in self.assumed.items()]
        reasons: dict[str, list[str]] = {}
        for name, why in self.ignored.items():
            reasons.setdefault(why, []).append(name)
        for why, names in reasons.items():
            more = f" and {len(names) - 2} more" if len(names) > 3 else ""
            lines.append(f"  left out {', '.join(names[: 2 if more else 3])}{more}: {why}")
        return "\n".join(lines)


class Reading:
    """The tensors of a file that PyTorch wrote, on their way into a Translation. `prefix` precedes every name."""

    def __init__(self, tensors: Mapping[str, Stored], prefix: str = ""):
        self.tensors, self.prefix = tensors, prefix
        self.weights: dict[str, Make] = {}
        self.origin: dict[str, tuple[str, ...]] = {}
        self.ignored: dict[str, str] = {}

    def names(self) -> list[str]:
        """The names below the prefix, without it; not those left out."""
        inside = [n for n in self.tensors if n.startswith(self.prefix) and n not in self.ignored]
        return [n.removeprefix(self.prefix) for n in inside]

    def __contains__(self, name: str) -> bool:
        return self.prefix + name in self.tensors

    def shape(self, name: str, axes: int) -> tuple[int, ...]:
        """The shape of a tensor that the sizes are read from. Raises `CheckpointError` where it has not `axes` axes."""
        if name not in self:
            raise CheckpointError(f"missing: {self.prefix + name}, which the sizes of the model are read from")
        shape = self.tensors[self.prefix + name].shape
        if len(shape) != axes or 0 in shape:
            raise CheckpointError(f"wrong shape: {self.prefix + name} is {shape}; {axes} axes are needed, none empty")
        return shape

    def count(self, pattern: str) -> int:
        """How many numbers i there are in names that begin with `pattern`, such as `blocks.{i}.`."""
        before, after = pattern.split("{i}")
        rest = [n.removeprefix(before) for n in self.names() if n.startswith(before)]
        return len({number for n in rest if (number := n.partition(after)[0]).isdecimal()})

    def tensor(self, ours: str, *theirs: str, make: Callable[..., np.ndarray] | None = None) -> None:
        """Our parameter is `make` of these tensors, each turned to our layout first; without `make`, the only one."""
        names = self.origin[ours] = tuple(self.prefix + name for name in theirs)
        if all(name in self.tensors for name in names):
            self.weights[ours] = partial(_made, [self.tensors[name] for name in names], make)

    def module(self, ours: str, *theirs: str, bias: bool = True) -> None:
        """The weight and the bias of one of our modules; of several of theirs, the columns side by side."""
        for part in ("weight", "bias") if bias else ("weight",):
            self.tensor(f"{ours}.{part}", *(f"{name}.{part}" for name in theirs), make=side_by_side)

    def modules(self, table: Mapping[str, str], depth: int) -> None:
        """Many modules by a table of ours -> theirs; `{i}` in both stands for each number below `depth`."""
        for ours, theirs in table.items():
            for i in range(depth) if "{i}" in ours else (0,):
                self.module(ours.format(i=i), theirs.format(i=i))

    def zeros(self, ours: str, size: int) -> None:
        """A bias that this source does without."""
        self.weights[ours] = partial(np.zeros, size, np.float32)

    def leave(self, pattern: str, why: str) -> None:
        """Do not load the tensors of this pattern, for a reason that is shown."""
        for name in self.names():
            if fnmatch.fnmatchcase(name, pattern):
                self.ignored[self.prefix + name] = why

    def leave_outside(self, reasons: Mapping[str, str]) -> None:
        """Do not load what lies outside the prefix, each for the reason of the first beginning that fits."""
        for name in self.tensors:
            if not name.startswith(self.prefix):
                why = next((why for beginning, why in reasons.items() if name.startswith(beginning)), None)
                if why is not None:
                    self.ignored[name] = why

    def translation(self, family: str, kind: str, config: dict[str, Any], **rest: Any) -> Translation:
        """What was gathered, as a Translation."""
        used = {name for names in self.origin.values() for name in names if name in self.tensors}
        return Translation(family, kind, config, self.weights, used, ignored=self.ignored, origin=self.origin, **rest)


def _made(tensors: list[Stored], make: Callable[..., np.ndarray] | None) -> np.ndarray:
    arrays = [from_torch(t.name, t.read()) for t in tensors]
    return make(*arrays) if make else arrays[0]


def from_torch(name: str, array: np.ndarray) -> np.ndarray:
    """PyTorch's axes to ours: a Linear's (out, in) -> (in, out), a patch convolution's (D, C, P, P) -> (P·P·C, D)."""
    if not name.endswith("weight"):
        return array
    if array.ndim == 4:
        _, c, p, q = array.shape
        return from_file_layout(array, ("patch", p, q, c))
    return from_file_layout(array, "linear")


def side_by_side(*arrays: np.ndarray) -> np.ndarray:
    """Matrices (in, out) or biases (out,) of several Linears as one with all their outputs."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis=-1)


def place_prefix(reading: Reading, tokens: list[str], positions: str | None, slots: int, pool: str) -> None:
    """Give `cls_token`, `reg_token` and `pos_embed` from prefix tokens in order and positions with `slots` rows for them.

    Ours: a lone class token has a position, other prefix tokens have none. So rows are added to their tokens (which gives
    the same sum), or a row of zeros is put in front. With a pool other than `cls…` every prefix token is a register.
    """
    cls = int(pool.startswith("cls") and bool(tokens))
    if cls == len(tokens) == 1:
        reading.tensor("cls_token", *tokens, make=as_rows)
        if positions:
            reading.tensor("pos_embed", positions, make=as_rows if slots else _below_a_row_of_zeros)
        return
    sources = (*tokens, positions) if positions and slots else tuple(tokens)
    folded = partial(_folded, len(tokens), slots if positions else 0)
    if cls:
        reading.tensor("cls_token", *sources, make=lambda *arrays: folded(*arrays)[:, :1])
    if len(tokens) > cls:
        reading.tensor("reg_token", *sources, make=lambda *arrays: folded(*arrays)[:, cls:])
    if positions:
        reading.tensor("pos_embed", positions, make=lambda table: as_rows(table)[:, slots:])


def as_rows(tokens: np.ndarray) -> np.ndarray:
    """Tokens or positions with the leading axes of ours: (…, n, D) or (D,) -> (1, n, D)."""
    return tokens.reshape(1, -1, tokens.shape[-1])


def _below_a_row_of_zeros(table: np.ndarray) -> np.ndarray:
    table = as_rows(table)
    return np.concatenate([np.zeros_like(table[:, :1]), table], axis=1)


def _folded(count: int, slots: int, *arrays: np.ndarray) -> np.ndarray:
    """`count` arrays of prefix tokens as one (1, n, D), with the first `slots` positions of the array after them added."""
    rows = np.concatenate([as_rows(a) for a in arrays[:count]], axis=1, dtype=np.float32)
    if slots:
        rows[:, :slots] += as_rows(arrays[count])[:, :slots]
    return rows


def plain_or_foreign(arguments: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The kind of model, ViT where that is enough, and its arguments, out of all the arguments of ForeignViT."""
    if arguments["pool"] in ("cls", "mean") and all(arguments.get(k, v) == v for k, v in FOREIGN.items()):
        return "ViT", {k: v for k, v in arguments.items() if k not in FOREIGN}
    return "ForeignViT", arguments


def ratio(hidden: int, dim: int) -> float:
    """The `mlp_ratio` for which `int(dim * mlp_ratio)` is `hidden`."""
    value = hidden / dim
    return value if int(dim * value) == hidden else math.nextafter(value, math.inf)


def square(count: int) -> tuple[int, int] | None:
    """(g, g) where `count` is g², else None."""
    side = math.isqrt(max(0, count))
    return (side, side) if count > 0 and side * side == count else None


HEADS = {1152: 16, 1280: 16, 1408: 16, 1664: 16}  # of the published models whose heads are not 64 wide


def usual_heads(dim: int) -> tuple[int | None, str]:
    """The number of heads that a published model of this width has, or None; and a sentence for `assumed`."""
    heads = HEADS.get(dim, dim // 64 if dim % 64 == 0 else None)
    return heads, f"{heads}, as published models of width {dim} have; num_heads=… overrides it"
