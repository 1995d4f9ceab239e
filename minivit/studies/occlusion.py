"""Occlusion: how much of an answer survives when patches of the image are missing; which, filled how, on whose grid.

Measures: which cells to drop (at random, the salient ones, the others), and what to fill them with.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from minivit.engine.errors import ConfigError, ShapeError, did_you_mean
from minivit.nn.patches import Size, pair
from minivit.studies import charts
from minivit.studies.report import DEPENDS, NOT_HERE, REPRODUCED, Config, Result, column, steady, table
from minivit.studies.robust import ALONE, MATCHED, Subject, area, conclude, defaults, shown, subjects

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FINDING = "A ViT answers with most of an image missing where a CNN no longer does."
PAPER = (
    "as reported: 60 % top-1 with 80 % of the image occluded (Naseer et al. 2021, abstract); those ViTs were trained with "
    "random erasing and CutMix, their ResNet-50 was not"
)
FILLS = ("black", "mean")
SHARES = tuple(k / 10 for k in range(10))
DROPS = ("random", "salient", "non-salient")
LEAST = 0.02  # of ρ, averaged over the shares: less is within what another draw of patches changes


def cells(image_size: Size, cell: Size, offset: Size = 0) -> np.ndarray:
    """The number of the cell that each pixel lies in: int (H, W), cells counted row by row.

    An offset moves the grid down and right by so many pixels; what leaves on one side comes back on the other, so that
    every grid has the same number of cells of the same area. Raises `ShapeError` where the cells do not tile the image.
    """
    (h, w), (p, q) = pair(image_size), pair(cell)
    if min(p, q) < 1 or h % p or w % q:
        raise ShapeError(f"cells: a {h}×{w} image is not a whole number of {p}×{q} cells")
    numbers = (np.arange(h) // p)[:, None] * (w // q) + np.arange(w) // q
    return np.roll(numbers, pair(offset), axis=(0, 1))


def random_drop(n: int, grid: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """⌊share · cells⌋ cells of each of n images, another draw for each: bool (n, H, W), True where dropped.

    A larger share with an equal generator drops the same cells and more.
    """
    return _lowest(rng.random((n, int(grid.max()) + 1)), grid, share)


def salient_drop(saliency: np.ndarray, grid: np.ndarray, share: float, salient: bool = True) -> np.ndarray:
    """The cells with most saliency (`salient=False`: least) on the mean of their pixels: (n, H, W) -> bool (n, H, W).

    Equal cells are dropped in the order of their numbers.
    """
    count = int(grid.max()) + 1
    member = (grid.ravel() == np.arange(count)[:, None]).astype(float)  # (cells, H·W)
    scores = saliency.reshape(len(saliency), -1).astype(float) @ (member / member.sum(axis=1, keepdims=True)).T
    return _lowest(-scores if salient else scores, grid, share)


def contrast(pixels: np.ndarray) -> np.ndarray:
    """How far each pixel is from the image's median colour: (n, H, W, C) -> (n, H, W); saliency that belongs to no model."""
    return np.sqrt(((pixels - np.median(pixels, axis=(1, 2), keepdims=True)) ** 2).sum(axis=-1))


def fill(pixels: np.ndarray, dropped: np.ndarray, how: str = "black") -> np.ndarray:
    """Images in [0, 1] with the dropped pixels replaced: `black` (0, before any standardising) or the image's own `mean`.

    Raises `ConfigError` for another fill.
    """
    if how not in FILLS:
        raise ConfigError(f"fill: unknown {how!r}, choose one of {', '.join(FILLS)}{did_you_mean(how, FILLS)}")
    value = 0 if how == "black" else pixels.mean(axis=(1, 2), keepdims=True)
    return np.where(dropped[..., None], value, pixels).astype(pixels.dtype)


def visible(objects: np.ndarray, dropped: np.ndarray) -> np.ndarray:
    """How much of each object is left: bool (n, H, W) twice -> (n,) in [0, 1]; NaN where there is no object."""
    total = objects.sum(axis=(1, 2))
    return np.where(total > 0, (objects & ~dropped).sum(axis=(1, 2)) / np.maximum(total, 1), np.nan)


def _lowest(scores: np.ndarray, grid: np.ndarray, share: float) -> np.ndarray:
    """Drop the ⌊share · cells⌋ cells with the lowest scores (n, cells) -> bool (n, H, W)."""
    if not 0 <= share <= 1:
        raise ConfigError(f"the share to drop must be between 0 and 1, got {share}")
    count = int(share * scores.shape[1] + 1e-9)  # 0.3 · 10 is a little less than 3
    chosen = np.zeros(scores.shape, bool)
    np.put_along_axis(chosen, np.argsort(scores, axis=1, kind="stable")[:, :count], True, axis=1)
    return chosen[:, grid]


# --- the study --------------------------------------------------------------------------------------------------------


def run(config: Config) -> Result:
    """Retained accuracy against the share of cells dropped: three orders, two fills, the model's own grid and one half a
    patch beside it."""
    config = defaults(config)
    found = subjects(config, ("vit", "cnn", MATCHED, "mixer", "linear"))
    rows = [row for subject in found for row in _rows(subject)]
    return conclude(config, rows, judge, FINDING, PAPER, found)


def _rows(subject: Subject) -> list[dict]:
    h, w = subject.pixels.shape[1:3]
    half = tuple(side // 2 for side in subject.cell)
    saliency = contrast(subject.pixels) if subject.objects is None else subject.objects
    rows = []
    for where, offset in (("aligned", 0), ("offset", half)):
        grid = cells((h, w), subject.cell, offset)
        for drop in DROPS if where == "aligned" else DROPS[:1]:
            for share in SHARES:
                if drop == "random":
                    dropped = random_drop(len(subject.pixels), grid, share, np.random.default_rng(0))
                else:
                    dropped = salient_drop(saliency, grid, share, drop == "salient")
                for how in FILLS:
                    right = subject.right(fill(subject.pixels, dropped, how))
                    row = {"model": subject.name, "seed": subject.seed, "grid": where, "drop": drop, "fill": how}
                    row |= {"share": share, "accuracy": right.mean(), "retained": subject.scaled(right.mean())}
                    rows.append(row | _counted(right, subject.objects, dropped))
    return rows


def _counted(right: np.ndarray, objects: np.ndarray | None, dropped: np.ndarray) -> dict:
    """Right answers and images by how much of the object is left: under ¼, ½, ¾, and more."""
    if objects is None:
        return {}
    left = visible(objects, dropped)
    known = ~np.isnan(left)
    quarter = np.minimum(3, (4 * left[known]).astype(int))
    counts = np.bincount(quarter, right[known], 4), np.bincount(quarter, minlength=4)
    return dict(zip(("right by visible", "images by visible"), counts, strict=True))


def by_visible(rows: Sequence[dict], model: str, **where: str) -> list[float]:
    """The accuracy with under ¼, ½, ¾ of the object left, and with more, over all shares and seeds; NaN where no image is.

    A drop that hides the object says nothing of a model that then does not name it. Empty where objects are not known.
    """
    chosen = [row for row in rows if row["model"] == model and all(row[k] == v for k, v in where.items())]
    counts = [(row["right by visible"], row["images by visible"]) for row in chosen if "images by visible" in row]
    if not counts:
        return []
    right, images = np.sum(counts, axis=0)
    return [r / n if n else float("nan") for r, n in zip(right, images, strict=True)]


def areas(rows: Sequence[dict], model: str, **where: str) -> list[float]:
    """The mean retained share over all shares dropped, for each seed of a model."""
    return [area(SHARES, kept) for kept in table(rows, "retained", "share", **where)[model]]


def judge(rows: Sequence[dict]) -> tuple[str, str]:
    """Reproduced where the ViT keeps more than the CNN of its own clean accuracy and more than the fully trained one.

    It must do so with random drops under both fills and on both grids, in every seed and by `LEAST` on the mean. Where it
    does in some of the four, the verdict names what it depends on: an advantage on the model's own grid alone means that
    whole tokens were removed, not that the model copes with missing pixels.
    """
    models = list(dict.fromkeys(column(rows, "model")))
    if "cnn" not in models:
        said = "; ".join(
            f"{m} keeps {shown(areas(rows, m, grid='aligned', drop='random', fill='black'))}" for m in models
        )
        return DEPENDS + ALONE, f"Mean retained share, random drops in black: {said}."
    passed, numbers = {}, []
    for where in ("aligned", "offset"):
        for how in FILLS:
            kept = {m: areas(rows, m, grid=where, drop="random", fill=how) for m in models}
            passed[where, how] = all(steady(kept["vit"], kept[other], LEAST) for other in ("cnn", MATCHED))
            each = ", ".join(f"{m} {shown(values)}" for m, values in kept.items())
            numbers.append(f"{where} grid, {how}: {each}")
    said = f"Mean retained share over drops of 0 to 90 %, chance removed ({'; '.join(numbers)})."
    left = {m: by_visible(rows, m, grid="aligned", drop="random", fill="mean") for m in models}
    if all(left.values()):
        each = ", ".join(f"{m} {v[1]:.2f}" for m, v in left.items())
        said += f" Right with a quarter to half of the object left (aligned, mean): {each}."
    if all(passed.values()):
        return REPRODUCED, said
    if not any(passed.values()):
        return NOT_HERE, said
    on = []
    for word, at in (("grid", 0), ("fill", 1)):
        where = {key[at] for key, won in passed.items() if won}
        on += [f"the {word} ({where.pop()} only)"] if len(where) == 1 else []
    return DEPENDS + (" and ".join(on) or "grid and fill together"), said


def plot(result: Result) -> tuple["Figure", str]:
    """Curves of the retained share: random drops by grid and fill, and the salient orders."""
    wanted = [("aligned", "random", how) for how in FILLS] + [("offset", "random", how) for how in FILLS]
    wanted += [("aligned", drop, "mean") for drop in DROPS[1:]]
    fig, axes = charts.panels(2, 3, 3.6, 2.9, f"Missing patches: {result.verdict}")
    for ax, (where, drop, how) in zip(axes.T.ravel(), wanted, strict=True):
        charts.lines(
            ax, [100 * s for s in SHARES], table(result.rows, "retained", "share", grid=where, drop=drop, fill=how)
        )
        charts.name(ax, "cells dropped (%)", "retained share", f"{drop}, {where} grid, {how}")
        ax.set_ylim(-0.25, 1.1)
        ax.axhline(0, color=charts.INK, lw=0.8)
    charts.legend(fig, axes[0, 0])
    half = table(
        [r for r in result.rows if r["share"] == 0.5], "retained", "share", grid="aligned", drop="random", fill="mean"
    )
    each = ", ".join(f"{m} {shown([np.mean(v)])}" for m, v in half.items())
    alt = "Six line charts: retained share of accuracy, 1 unharmed, 0 chance, against cells dropped, 0 to 90 %. "
    return fig, alt + f"With half dropped at random, filled with the mean, aligned grid: {each}."
