"""Shuffle: how much of an answer hangs on where the parts of an image are. The cells of a grid change places.

Measures: the shuffle itself, on a grid that may be moved, and which grids fit an image and a model's patches.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from minivit.engine.errors import ShapeError
from minivit.nn.patches import Size, pair, patchify, unpatchify
from minivit.studies import charts
from minivit.studies.report import DEPENDS, NOT_HERE, REPRODUCED, Config, Result, column, steady, table
from minivit.studies.robust import ALONE, MATCHED, Subject, conclude, defaults, shown, subjects

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FINDING = "A ViT answers more of the images whose parts were shuffled than a CNN does."
PAPER = "as reported: curves over grids of 2×2 to 16×16 without numbers in the text (Naseer et al. 2021, section on shuffling)"
NO_POSITIONS = "vit, no positions"
LEAST = 0.02  # of ρ, averaged over grids: less is within what another order changes


def shuffle(pixels: np.ndarray, grid: Size, rng: np.random.Generator, offset: Size = 0) -> np.ndarray:
    """Cut each image into rows × columns cells and put them back in a random order, another for each image.

    An offset moves the grid down and right by so many pixels, round the edge of the image. Raises `ShapeError` where the
    grid does not divide the image.
    """
    (rows, columns), (down, right) = pair(grid), pair(offset)
    n, h, w, _ = pixels.shape
    if min(rows, columns) < 1 or h % rows or w % columns:
        raise ShapeError(f"shuffle: a {h}×{w} image does not divide into {rows}×{columns} equal cells")
    cell = h // rows, w // columns
    parts = patchify(np.roll(pixels, (-down, -right), axis=(1, 2)), cell)  # (n, cells, pixels of a cell)
    order = rng.random((n, rows * columns)).argsort(axis=1)
    parts = np.take_along_axis(parts, order[..., None], axis=1)
    return np.roll(unpatchify(parts, cell, (h, w)), (down, right), axis=(1, 2))


def grids(image_size: Size, patch_size: Size) -> list[tuple[int, int, bool]]:
    """The square grids that divide an image into 4 cells or more, each at least 2 pixels wide, from coarse to fine.

    Each is (rows, columns, aligned): aligned where every cell is made of whole patches.
    """
    (h, w), (p, q) = pair(image_size), pair(patch_size)
    sides = [s for s in range(2, min(h, w) // 2 + 1) if h % s == 0 and w % s == 0]
    return [(s, s, h // s % p == 0 and w // s % q == 0) for s in sides]


# --- the study --------------------------------------------------------------------------------------------------------


def run(config: Config) -> Result:
    """Retained accuracy by grid, as the patches lie and half a patch beside; a ViT without positions is the control."""
    config = defaults(config)
    found = subjects(config, ("vit", "cnn", MATCHED, NO_POSITIONS))
    rows = [row for subject in found for row in _rows(subject)]
    return conclude(config, rows, judge, FINDING, PAPER, found)


def _rows(subject: Subject) -> list[dict]:
    rows, half = [], tuple(side // 2 for side in subject.cell)
    for side, _, aligned in grids(subject.pixels.shape[1:3], subject.cell):
        for where, offset in (("aligned", 0), ("offset", half)):
            shuffled = shuffle(subject.pixels, side, np.random.default_rng(0), offset)
            kept = subject.accuracy(shuffled)
            row = {"model": subject.name, "seed": subject.seed, "grid": where, "side": side, "whole patches": aligned}
            rows.append(row | {"clean": subject.clean, "accuracy": kept, "retained": subject.scaled(kept)})
    return rows


def judge(rows: Sequence[dict]) -> tuple[str, str]:
    """Reproduced where the ViT keeps more than both CNNs on the mean over grids, wherever the grids lie.

    On the grids of whole patches (cells that are made of the model's own patches), on those half a patch beside, and on the
    grids that cut patches: in every seed and by `LEAST` on the mean. Where it does in some of the three only, the
    verdict names them. That a ViT without positions keeps everything on whole patches is exact, and tested, not found.
    """
    kinds = {
        "whole patches": {"grid": "aligned", "whole patches": True},
        "half a patch beside": {"grid": "offset", "whole patches": True},
        "cut patches": {"grid": "aligned", "whole patches": False},
    }
    kept = {
        kind: {m: [float(np.mean(v)) for v in values] for m, values in table(rows, "retained", "side", **where).items()}
        for kind, where in kinds.items()
        if column(rows, "side", **where)
    }
    said = "; ".join(f"{kind}: {', '.join(f'{m} {shown(v)}' for m, v in by.items())}" for kind, by in kept.items())
    said = f"Mean retained share over grids ({said})."
    if "cnn" not in column(rows, "model"):
        return DEPENDS + ALONE, said
    won = [kind for kind, by in kept.items() if all(steady(by["vit"], by[m], LEAST) for m in ("cnn", MATCHED))]
    if len(won) == len(kept):
        return REPRODUCED, said
    return (DEPENDS + f"the grid ({' and '.join(won)} only)" if won else NOT_HERE), said


def plot(result: Result) -> tuple["Figure", str]:
    """Retained share by grid, on the patches and half a patch beside."""
    fig, axes = charts.panels(1, 2, 4.6, 3.4, f"Shuffled parts: {result.verdict}")
    sides = list(dict.fromkeys(column(result.rows, "side")))
    whole = {side for side in sides if column(result.rows, "whole patches", side=side)[0]}
    ends = {}
    for ax, where, words in zip(
        axes[0], ("aligned", "offset"), ("grid on the patches", "half a patch beside"), strict=True
    ):
        curves = table(result.rows, "retained", "side", grid=where)
        charts.lines(ax, range(len(sides)), curves)
        ax.set_xticks(range(len(sides)), [f"{s}×{s}" + ("*" if s in whole else "") for s in sides])
        charts.name(ax, "grid (* cells of whole patches)", "retained share", words)
        ax.axhline(0, color=charts.INK, lw=0.8)
        ax.set_ylim(-0.25, 1.1)
        ends[where] = ", ".join(f"{m} {shown([np.mean([v[0] for v in by])])}" for m, by in curves.items())
    charts.legend(fig, axes[0, 0])
    alt = f"Two line charts: retained share of accuracy, 1 unharmed, 0 chance, by grid from {sides[0]} to {sides[-1]} a side. "
    return (
        fig,
        alt + f"At {sides[0]}×{sides[0]} on the patches: {ends['aligned']}; half a patch beside: {ends['offset']}.",
    )
