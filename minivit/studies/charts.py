"""The few kinds of chart that the studies draw: lines over doses, bars by group, maps. Colour is never the only mark."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from minivit.viz import BLUE, GREEN, INK, NORMAL, PALE, SMALL, VERMILLION, figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEAST = 5.5  # inches: the width that a heading needs

# Colour (Okabe and Ito), mark, line and hatch of the first, second, … model of a chart.
STYLES = (
    (BLUE, "o", "-", ""),
    (VERMILLION, "s", "--", "///"),
    (GREEN, "^", "-.", "..."),
    (PALE, "x", ":", "xx"),
    ("#CC79A7", "D", "-", "\\\\\\"),
    ("#E69F00", "v", "--", "++"),
    ("#56B4E9", "P", "-.", "oo"),
)


def panels(rows: int, columns: int, width: float, height: float, heading: str = "") -> tuple["Figure", np.ndarray]:
    """A figure of rows × columns charts, each of so many inches (a lone one wider), and their axes (rows, columns)."""
    fig = figure(max(columns * width, LEAST), rows * height + 0.4, heading)
    return fig, fig.subplots(rows, columns, squeeze=False)


def lines(ax: "Axes", x: Sequence[float], curves: Mapping[str, Sequence[Sequence[float]]]) -> None:
    """One line for each name, the mean over seeds, in a band from the least to the largest: {name: (seeds, len(x))}."""
    for (name, values), (colour, mark, style, _) in zip(curves.items(), STYLES, strict=False):
        values = np.asarray(values, float)
        ax.plot(x, values.mean(axis=0), color=colour, marker=mark, ls=style, lw=1.8, ms=4.5, label=name)
        if len(values) > 1:
            ax.fill_between(x, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.15, lw=0)


def bars(ax: "Axes", groups: Sequence[str], values: Mapping[str, Sequence[Sequence[float]]]) -> None:
    """A group of bars for each word, one bar for each name: {name: (seeds, groups)}; whiskers from least to largest."""
    width = 0.8 / max(1, len(values))
    for k, ((name, v), (colour, _, _, hatch)) in enumerate(zip(values.items(), STYLES, strict=False)):
        v = np.asarray(v, float)
        at, mean = np.arange(len(groups)) + (k - (len(values) - 1) / 2) * width, v.mean(axis=0)
        whiskers = np.stack([mean - v.min(axis=0), v.max(axis=0) - mean]) if len(v) > 1 else None
        ax.bar(at, mean, width, color=colour, alpha=0.8, hatch=hatch, ec="white", label=name, yerr=whiskers, ecolor=INK)
    ax.set_xticks(range(len(groups)), groups)


def picture(
    ax: "Axes", values: np.ndarray, title: str, low: float, high: float, extent: Sequence[float] | None = None
) -> Any:
    """A map (rows, columns) from `low` to `high`, grey where nothing was measured; returns what a colour bar needs."""
    ax.set_facecolor("#DDDDDD")
    shown = ax.imshow(
        np.asarray(values, float), cmap="cividis", vmin=low, vmax=high, interpolation="nearest", extent=extent
    )
    ax.set_title(title, fontsize=NORMAL, color=INK, parse_math=False)
    ax.tick_params(labelsize=SMALL, colors=INK)
    return shown


def name(ax: "Axes", x: str, y: str, title: str = "") -> None:
    """Axes named, with units where there are any."""
    ax.set_xlabel(x, fontsize=NORMAL, color=INK)
    ax.set_ylabel(y, fontsize=NORMAL, color=INK)
    ax.tick_params(labelsize=SMALL, colors=INK)
    if title:
        ax.set_title(title, fontsize=NORMAL, color=INK, parse_math=False)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def legend(fig: "Figure", ax: "Axes") -> None:
    """The names of all lines or bars, below the charts, as many beside each other as there is room for."""
    handles, labels = ax.get_legend_handles_labels()
    room = max(1, int(fig.get_figwidth() / (0.6 + 0.085 * max(map(len, labels)))))
    fig.legend(handles, labels, loc="outside lower center", ncols=room, frameon=False, fontsize=SMALL)
