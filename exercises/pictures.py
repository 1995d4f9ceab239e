"""Draws a wrong result beside the right one: blocks in a terminal, a picture in a notebook."""

import sys

import numpy as np

from exercises.checking import Outcome

ROWS, COLUMNS = 10, 14  # what is drawn at most
SHADES = " ░▒▓█"


def show(outcome: Outcome) -> None:
    """Show what the outcome has to show, as a picture where a notebook runs."""
    if outcome.shown is None:
        return
    if "ipykernel" in sys.modules:
        _picture(*outcome.shown)
    else:
        print(blocks(*outcome.shown))


def blocks(found: np.ndarray, expected: np.ndarray) -> str:
    """Two grids of shades side by side, dark to light from the smallest to the largest value; `×` after a wrong one."""
    found, expected = found[:ROWS, :COLUMNS], expected[:ROWS, :COLUMNS]
    wrong = ~np.isclose(found, expected)
    both = np.concatenate([found[np.isfinite(found)], expected.ravel()])
    low, span = both.min(), max(float(np.ptp(both)), 1e-12)

    def row(values: np.ndarray, marks: np.ndarray) -> str:
        cells = []
        for value, mark in zip(values, marks, strict=True):
            shade = SHADES[round((len(SHADES) - 1) * float(value - low) / span)] if np.isfinite(value) else "?"
            cells.append(shade * 2 + ("×" if mark else " "))
        return "".join(cells)

    width = 3 * found.shape[1]
    lines = [f"    {'yours (× is wrong)':{width}}   expected"]
    for mine, right, marks in zip(found, expected, wrong, strict=True):
        lines.append(f"    {row(mine, marks)}   {row(right, np.zeros_like(marks))}".rstrip())
    return "\n".join(lines)


def _picture(found: np.ndarray, expected: np.ndarray) -> None:
    import matplotlib.pyplot as plt

    from minivit import viz

    found, expected = found[:ROWS, :COLUMNS], expected[:ROWS, :COLUMNS]
    wrong = np.argwhere(~np.isclose(found, expected))
    fig, axes = plt.subplots(1, 2, figsize=(7, 2.6), layout="constrained")
    limits = {"vmin": expected.min(), "vmax": expected.max(), "cmap": "gray"}
    for ax, values, title in zip(axes, (found, expected), ("yours", "expected"), strict=True):
        ax.imshow(values, **limits)
        ax.set(title=title, xticks=[], yticks=[])
    for row, column in wrong:
        box = plt.Rectangle((column - 0.45, row - 0.45), 0.9, 0.9, fill=False, color=viz.VERMILLION, lw=1.5)
        axes[0].add_patch(box)
    alt = f"Two grids of {found.shape[0]} by {found.shape[1]} values, yours and the expected; {len(wrong)} of yours differ."
    viz.show(fig, alt=alt)
