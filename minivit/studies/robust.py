"""What the studies of harmed images share: who takes part, and how an answer under harm is scored.

A raw drop in accuracy favours the weaker model, which has less to lose. So harm is reported as the retained share of what
a model knows, and a CNN that was stopped at the ViT's clean accuracy stands beside the one that was trained to the end.
An untrained model is no control here: its head is zero, so it gives one answer to everything; a linear model is.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import minivit as mv
from minivit.data.dataset import Dataset, to_float
from minivit.engine.errors import ConfigError, DataError
from minivit.nn.module import Module
from minivit.studies import relatives
from minivit.studies.report import NOT_HERE, Config, Result, answer, spread
from minivit.studies.subjects import opened, pictures, preparation, trained
from minivit.training.infer import evaluate
from minivit.training.recipes import recipe

IMAGES = {"quick": 200, "standard": 500, "full": 2000}
SEEDS = {"quick": (0,), "standard": (0, 1, 2), "full": (0, 1, 2, 3, 4)}
QUICK_TRAIN, QUICK_SEEN = 4000, 30_000  # training images in a quick run, and how many it sees in all
SHORTER = (1 / 16, 1 / 8, 1 / 4, 1 / 2)  # of the CNN's training: the runs among which the matched one is chosen
MATCHED = "cnn, stopped early"
KNOWS = 0.1  # accuracy above chance below which a share of it is mostly noise
ALONE = "what it is compared with: no CNN stands beside these weights"  # verdict where only given weights were measured


def logits(model: Module, pixels: np.ndarray) -> np.ndarray:
    """What a model says to pixels in [0, 1]: (n, H, W, C) -> (n, K)."""
    mean, std = preparation(model)
    return mv.infer(model, (pixels - mean) / std)


def retained(accuracy: float, clean: float, chance: float) -> float:
    """ρ = (accuracy − chance) / (clean − chance): 1 unharmed, 0 at chance; NaN for a model that knows nothing."""
    return (accuracy - chance) / (clean - chance) if clean > chance else float("nan")


def area(doses: Sequence[float], kept: Sequence[float]) -> float:
    """The mean height of a curve over its doses, by trapezia: of ρ, 1 for a model that no dose harms.

    Raises `ConfigError` for fewer than two doses, doses that do not rise, or another number of values.
    """
    doses, kept = np.asarray(doses, float), np.asarray(kept, float)
    if len(doses) != len(kept) or len(doses) < 2 or np.diff(doses).min() <= 0:
        raise ConfigError("area: at least two doses, rising, and as many values")
    return float((np.diff(doses) * (kept[1:] + kept[:-1]) / 2).sum() / (doses[-1] - doses[0]))


def nearest(target: float, accuracies: Mapping[int, float]) -> int:
    """The key whose accuracy is nearest to the target; of equal ones the smallest key."""
    return min(sorted(accuracies), key=lambda key: abs(accuracies[key] - target))


@dataclasses.dataclass
class Subject:
    """A model with the images it is tried on: `pixels` (n, H, W, C) float32 in [0, 1], `labels` (n,).

    `objects` (n, H, W) bool says which pixels are the thing itself, where that is known.
    """

    name: str
    seed: int
    model: Module
    pixels: np.ndarray
    labels: np.ndarray
    chance: float
    objects: np.ndarray | None = None

    def first(self, n: int) -> "Subject":
        """The same model with the first n images."""
        objects = None if self.objects is None else self.objects[:n]
        return dataclasses.replace(self, pixels=self.pixels[:n], labels=self.labels[:n], objects=objects)

    def right(self, pixels: np.ndarray) -> np.ndarray:
        """Which changed copies of the images are answered rightly, bool (n,)."""
        return logits(self.model, pixels).argmax(axis=1) == self.labels

    def accuracy(self, pixels: np.ndarray) -> float:
        """The share of right answers to changed copies of the images."""
        return float(self.right(pixels).mean())

    def scaled(self, accuracy: float) -> float:
        """ρ for this accuracy on changed copies."""
        return retained(accuracy, self.clean, self.chance)

    @functools.cached_property
    def clean(self) -> float:
        """The accuracy on the images as they are."""
        return self.accuracy(self.pixels)

    @property
    def cell(self) -> tuple[int, int]:
        """Rows and columns of pixels in a patch of the model; of the ViT that fits these data where it has none."""
        found = getattr(self.model, "patch_size", None)
        return found or mv.create(recipe((self.model.meta or {}).get("name", ""))[0]).patch_size


def subjects(config: Config, kinds: Sequence[str]) -> list[Subject]:
    """Everyone who takes part: models trained here, seed by seed, or those of `config.checkpoints`.

    Pictures from a folder have no labels; then a model is asked for its own answer to the picture as it is.
    """
    most = IMAGES[config.scale]
    if config.checkpoints:
        return [_visitor(config, name, model, most) for name, model in visitors(config).items()]
    data = loaded(config)
    test = data.test[:most]
    shared = {"pixels": to_float(test.images), "labels": test.labels, "chance": 1 / data.num_classes}
    shared["objects"] = test.extra.get("mask")
    return [
        Subject(name, seed, model, **shared)
        for seed in config.seeds
        for name, model in contestants(config, data, seed, kinds).items()
    ]


def visitors(config: Config) -> dict[str, Module]:
    """The models of `config.checkpoints` by the names of their files, or by whole paths where two are called the same."""
    names = [Path(name).name for name in config.checkpoints]
    names = names if len(set(names)) == len(names) else list(config.checkpoints)
    return dict(zip(names, opened(config), strict=True))


def defaults(config: Config) -> Config:
    """The data and seeds of a robustness study where none were asked for: digits when quick, else `shapes`.

    Given weights keep to their own data, and have no seeds.
    """
    if config.checkpoints:
        return config
    return config.with_defaults(data="digits" if config.scale == "quick" else "shapes", seeds=SEEDS[config.scale])


def loaded(config: Config) -> Dataset:
    """The data set of a Config, its training part cut short in a quick run."""
    data = mv.data.load(config.data, data_dir=config.data_dir)
    if config.scale == "quick" and len(data.train) > QUICK_TRAIN:
        data = dataclasses.replace(data, train=data.train[:QUICK_TRAIN], val=data.val[:1000])
    return data


def epochs(config: Config, data: Dataset) -> dict[str, int]:
    """How long to train: the recipe's epochs, in a quick run as many as `QUICK_SEEN` images allow."""
    return {"epochs": max(1, round(QUICK_SEEN / len(data.train)))} if config.scale == "quick" else {}


def contestants(config: Config, data: Dataset, seed: int, kinds: Sequence[str]) -> dict[str, Module]:
    """One seed's models by name, trained by the recipe of the data set."""
    found: dict[str, Module] = {}
    for kind in kinds:
        if kind == MATCHED:
            target = evaluate(found["vit"], data.val)[1]
            whole = epochs(config, data).get("epochs") or recipe(data.name, "cnn")[1]["epochs"]
            lengths = sorted({max(1, round(whole * share)) for share in SHORTER} - {whole})
            tried = {n: trained(config, "cnn", data, seed, epochs=n) for n in lengths} | {whole: found["cnn"]}
            found[kind] = tried[nearest(target, {n: evaluate(model, data.val)[1] for n, model in tried.items()})]
        else:
            preset, _, without = kind.partition(", no ")
            preset, sizes = relatives.sizes(kind, data) if kind in relatives.RELATIVES else (preset, {})
            sizes = sizes | ({without: "none"} if without else {})  # such as "vit, no positions"
            found[kind] = trained(config, preset, data, seed, sizes, **epochs(config, data))
    return found


def shown(kept: Iterable[float]) -> str:
    """Retained shares over seeds, to print: their mean and spread, or that there was nothing to retain."""
    values = np.array([float("nan") if value is None else value for value in kept], float)
    return "at chance" if np.isnan(values).any() else spread(values)


def conclude(
    config: Config,
    rows: list[dict[str, Any]],
    judge: Callable[[list[dict[str, Any]]], tuple[str, str]],
    finding: str,
    paper: str,
    found: Sequence[Subject] = (),
) -> Result:
    """The Result of a study by its rule, with the accuracy on untouched images, by which it can be seen how well matched
    the models are.

    Where one of those compared knows next to nothing, there is nothing to lose and nothing to compare.
    """
    verdict, said = judge(rows)
    if found and not config.checkpoints:
        by_name = {name: [s.clean for s in found if s.name == name] for name in dict.fromkeys(s.name for s in found)}
        said += f" Untouched: {', '.join(f'{name} {spread(values)} right' for name, values in by_name.items())}."
        weak = [name for name in ("vit", "cnn", MATCHED) if min(by_name.get(name, [1])) < found[0].chance + KNOWS]
        if weak:
            verdict, said = NOT_HERE, f"{said} Not ten points above chance, so nothing is compared: {', '.join(weak)}."
    return answer(config, finding=finding, paper=paper, rows=rows, verdict=verdict, said=said)


def _visitor(config: Config, name: str, model: Module, most: int) -> Subject:
    mean, std = preparation(model)
    pixels = (pictures(config, model, most) * std + mean).clip(0, 1)
    said = logits(model, pixels)
    if said.shape[1] < 2:
        raise DataError(f"{name}: {said.shape[1]} classes; these studies need answers to compare")
    return Subject(name, 0, model, pixels, said.argmax(axis=1), 1 / said.shape[1])
