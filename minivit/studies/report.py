"""What a study is asked and what it answers: plain data, kept as JSON."""

import dataclasses
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from minivit.engine.errors import ConfigError, DataError, did_you_mean
from minivit.interop.safetensors import replacing

SCALES = ("quick", "standard", "full")
REPRODUCED, NOT_HERE, DEPENDS = "reproduced", "not at this scale", "depends on "  # the last goes on: on what


@dataclasses.dataclass(frozen=True)
class Config:
    """What is asked of a study; what is `None` or empty is the study's own choice.

    `data` as in `mv.data.load`; `scale` one of `SCALES` (quick: within a minute on two cores); `checkpoints` are files of
    weights to look into instead of models trained here, opened with `settings` as `mv.load_pretrained` takes them;
    `images` is a folder of pictures to show them; `folder` is where runs are kept.
    """

    study: str
    data: str | None = None
    seeds: tuple[int, ...] | None = None
    scale: str = "standard"
    checkpoints: tuple[str, ...] = ()
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    images: str | None = None
    folder: str = "runs"
    data_dir: str | None = None
    progress: bool = False
    command: str = ""

    def __post_init__(self) -> None:
        if self.scale not in SCALES:
            raise ConfigError(
                f"scale {self.scale!r} is not one of {', '.join(SCALES)}{did_you_mean(self.scale, SCALES)}"
            )
        if self.seeds is not None and (not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0):
            raise ConfigError(f"seeds must be different whole numbers from 0 on, at least one; got {self.seeds}")
        for name, option in (("images", "--images"), ("settings", "--set")):
            if getattr(self, name) and not self.checkpoints:
                raise ConfigError(f"{self.study}: there is no use for {option} without --checkpoint")

    @property
    def out(self) -> Path:
        """The folder of this study's result and figure."""
        return Path(self.folder) / f"study-{self.study}"

    def with_defaults(self, **choices: Any) -> "Config":
        """The same, with a study's own choices where nothing was asked for."""
        return dataclasses.replace(self, **{k: v for k, v in choices.items() if not getattr(self, k)})

    def refuse(self, *names: str) -> None:
        """Raises `ConfigError` where something was asked for that the study has no use for."""
        for name in names:
            if getattr(self, name):
                option = "--checkpoint" if name == "checkpoints" else f"--{name}"
                raise ConfigError(f"{self.study}: there is no use for {option} in this study")


@dataclasses.dataclass(frozen=True)
class Result:
    """What a study found. `rows` are tables of numbers (lists for maps), one for each model, seed, layer, …

    `finding` is the literature's claim in one sentence; `paper` its numbers, `as reported: …` with the source; `verdict`
    is `reproduced`, `not at this scale` or `depends on …`, by the rule in the study's file; `said` is our answer in one or
    two sentences, with numbers and their spread over seeds. `perform` fills the last three. Raises `ConfigError`.
    """

    study: str
    finding: str
    paper: str
    config: dict[str, Any]
    rows: list[dict[str, Any]]
    verdict: str
    said: str
    seconds: float = 0.0
    machine: dict[str, Any] = dataclasses.field(default_factory=dict)
    command: str = ""

    def __post_init__(self) -> None:
        on = self.verdict.startswith(DEPENDS) and len(self.verdict) > len(DEPENDS)
        if self.verdict not in (REPRODUCED, NOT_HERE) and not on:
            raise ConfigError(f"{self.study}: verdict {self.verdict!r} is not {REPRODUCED}, {NOT_HERE} or {DEPENDS}…")

    @property
    def text(self) -> str:
        """What the command prints."""
        lines = (("finding", self.finding), ("paper", self.paper), ("here", self.said), ("verdict", self.verdict))
        return "\n".join(f"{name:8} {line}" for name, line in lines)


def answer(config: Config, **parts: Any) -> Result:
    """A Result that remembers what it was asked, in plain data; with fewer than three seeds it says that it is no finding."""
    if config.seeds and not config.checkpoints and (n := len(config.seeds)) < 3:
        parts["said"] += f" From {n} seed{'s' * (n > 1)}: an illustration; a finding takes three."
    asked = {
        k: v for k, v in dataclasses.asdict(config).items() if k not in ("progress", "command", "folder", "data_dir")
    }
    return Result(study=config.study, config=plain(asked), **(parts | {"rows": plain(parts["rows"])}))


def plain(value: Any) -> Any:
    """NumPy's arrays and numbers as lists and Python's numbers; NaN and infinities as `None`, which JSON has."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(v) for v in (value.tolist() if isinstance(value, np.ndarray) else value)]
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not np.isfinite(value) else value


def save(result: Result, path: str | Path) -> None:
    """Write a Result as JSON, whole or not at all."""
    with replacing(path) as file:
        text = json.dumps(plain(dataclasses.asdict(result)), indent=1, ensure_ascii=False, allow_nan=False)
        file.write((text + "\n").encode())


def load(path: str | Path) -> Result:
    """The Result that `save` wrote. Raises `DataError` for a file that is missing, damaged or something else."""
    try:
        return Result(**json.loads(Path(path).read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such result; `minivit study NAME` makes one") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: not the result of a study: {error}") from error


def draw(module: ModuleType, result: Result, path: str | Path) -> str:
    """Write a study's figure as a PNG with its alt text inside; returns the alt text."""
    from minivit import viz

    figure, alt = module.plot(result)
    figure.title, figure.alt = f"{result.study}: {result.verdict}", alt
    viz.save(figure, path)
    return alt


def spread(values: Iterable[float], digits: int = 2) -> str:
    """`mean ± standard deviation` over seeds, to print; of a single value only that."""
    values = np.asarray(list(values), dtype=float)
    mean = f"{values.mean():.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {values.std(ddof=1):.{digits}f}"


def paired(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation over seeds of the difference `first − second`, seed by seed; 0 for a single seed."""
    difference = np.asarray(first, dtype=float) - np.asarray(second, dtype=float)
    return float(difference.mean()), float(difference.std(ddof=1)) if len(difference) > 1 else 0.0


def steady(first: Sequence[float], second: Sequence[float], least: float) -> bool:
    """Whether `first` exceeds `second` in every seed, and on the mean by `least`: a sign with an effect size.

    With three seeds a t-test has hardly any power; that no seed contradicts is what such a small sample can show.
    """
    difference = np.asarray(first, dtype=float) - np.asarray(second, dtype=float)
    return bool(difference.min() > 0 and difference.mean() >= least)


def column(rows: Iterable[dict[str, Any]], key: str, **where: Any) -> list[Any]:
    """The values under a key in the rows of a Result that have these values under those keys, in their order."""
    return [row[key] for row in rows if all(row[k] == value for k, value in where.items())]


def table(rows: Sequence[dict[str, Any]], key: str, over: str, **where: Any) -> dict[str, list[list[Any]]]:
    """Each model's values by seed and by what is under `over`: {model: (seeds, …)}, in the order of the rows; `None` as NaN."""
    found: dict[str, dict[int, dict[Any, float]]] = {}
    for row in rows:
        if all(row[k] == value for k, value in where.items()):
            steps = found.setdefault(row["model"], {}).setdefault(row["seed"], {})
            steps[row[over]] = float("nan") if row[key] is None else row[key]
    return {name: [list(steps.values()) for steps in seeds.values()] for name, seeds in found.items()}
