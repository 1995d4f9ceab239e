"""Every figure: a function that takes arrays and returns a matplotlib Figure with alt text in its attribute `alt`.

No figure relies on colour alone. Colours are those of Okabe and Ito, and `cividis` for maps: both are safe for
colour-blind readers, and the map still reads in grey. Nothing here touches matplotlib's global state.
"""

import io
import math
import sys
import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from minivit.engine.errors import ConfigError, DataError, ShapeError
from minivit.interop.safetensors import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from minivit.data.dataset import Dataset

Query = str | tuple[int, int]  # "class", "mean" or the (row, column) of a patch

INK, PALE = "#222222", "#999999"
BLUE, VERMILLION, GREEN = "#0072B2", "#D55E00", "#009E73"
SMALLEST, SMALL, NORMAL, LARGE = 7.5, 9, 11, 13  # points


# ---------------------------------------------------------------- training


def learning_curves(history: Sequence[dict[str, Any]], *, title: str = "", note: str = "") -> "Figure":
    """Loss and validation accuracy against epochs, the best epoch marked; `history` is that of `fit`.

    Uses the keys `epoch`, `train_loss`, `val_loss` and `val_accuracy` (0 to 1). Raises DataError without an epoch.
    """
    if not history:
        raise DataError("learning_curves: the history is empty; there is no epoch to draw")
    epochs = np.array([row["epoch"] for row in history])
    train, loss, accuracy = (
        np.array([math.nan if row.get(key) is None else row[key] for row in history], dtype=float)
        for key in ("train_loss", "val_loss", "val_accuracy")
    )
    fig = figure(9, 3.8, title)
    left, right = fig.subplots(1, 2)
    mark = "o" if len(epochs) <= 20 else None
    left.plot(epochs, train, color=BLUE, lw=2, ls="-", marker=mark, label="training")
    left.plot(epochs, loss, color=VERMILLION, lw=2, ls="--", marker="s" if mark else None, label="validation")
    left.set_ylim(0, _top(train, loss))
    label(left, "epoch", "loss (nats)")
    left.legend(frameon=False, fontsize=NORMAL, labelcolor=INK, loc="upper right")
    right.plot(epochs, 100 * accuracy, color=VERMILLION, lw=2, ls="--", marker="s" if mark else None)
    label(right, "epoch", "validation accuracy (%)")
    lowest = np.nanmin(accuracy) if np.isfinite(accuracy).any() else 0
    right.set_ylim(max(0, math.floor(10 * lowest) * 10 - 2), 101)
    for axes in (left, right):
        axes.set_xlim(min(0, epochs[0]), 1.03 * max(epochs[-1], epochs[0] + 1))
        axes.xaxis.get_major_locator().set_params(integer=True)
    words = f"Two line charts over epochs {epochs[0]} to {epochs[-1]}. Loss in nats: training ends at {train[-1]:.3f}"
    if np.isfinite(accuracy).any():
        best = int(np.nanargmax(accuracy))
        right.plot(epochs[best], 100 * accuracy[best], "o", ms=12, mfc="none", mec=INK, mew=1.5, clip_on=False)
        best_words = f"best {100 * accuracy[best]:.1f} % after epoch {epochs[best]}"
        right.set_title(f"○ {best_words}", fontsize=NORMAL, color=INK)
        words += f", validation at {loss[-1]:.3f}. Validation accuracy ends at {100 * accuracy[-1]:.1f} %, {best_words}"
    _footnote(fig, note)
    return _finish(fig, title or "Learning curves", words + ".")


def predictions(
    images: np.ndarray,
    probabilities: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    *,
    count: int = 24,
    title: str = "",
) -> "Figure":
    """What a classifier says, mistakes first: the surest mistake in front, then the right answers it was least sure of.

    `images` (n, H, W, C) uint8 or [0, 1]; `probabilities` (n, K); `labels` (n,). Raises ShapeError.
    """
    n = len(images)
    if probabilities.shape != (n, len(class_names)) or labels.shape != (n,):
        raise ShapeError(
            f"predictions: {n} images and {len(class_names)} class names need probabilities {(n, len(class_names))} "
            f"and labels {(n,)}, not {probabilities.shape} and {labels.shape}"
        )
    said = probabilities.argmax(axis=1)
    sure = probabilities.max(axis=1)
    wrong = said != labels
    order = np.lexsort((np.where(wrong, -sure, sure), ~wrong))[:count]
    columns = min(8, len(order))
    rows = math.ceil(len(order) / columns)
    mistakes = int(wrong.sum())
    heading = title or "Mistakes first"
    heading += f": {mistakes:,} of {n:,} wrong ({100 * mistakes / n:.1f} %)"
    sheet = _Sheet(rows, columns, images.shape[1:3], tile=1.5, gap=0.18, above=0.26, below=0.26, heading=heading)
    for k, i in enumerate(order):
        ax = sheet.axes(*divmod(k, columns))
        _picture(ax, images[i])
        _frame(ax, VERMILLION if wrong[i] else GREEN, "--" if wrong[i] else "-")
        _caption(ax, _verdict("✗" if wrong[i] else "✓", class_names[said[i]], sure[i]))
        if wrong[i]:
            _caption(ax, _verdict("is", class_names[labels[i]], probabilities[i, labels[i]]), below=True)
    shown = min(mistakes, len(order))
    words = f"A grid of {len(order)} pictures with answer and confidence. {mistakes:,} of {n:,} answers are wrong"
    words += f"; {shown} of these come first" if mistakes else ""
    if mistakes:
        i = order[0]
        words += f", the surest with {100 * sure[i]:.0f} % for {class_names[said[i]]} where {class_names[labels[i]]} was right"
    if shown < len(order):
        words += f". The {len(order) - shown} others are right, the least sure with {100 * sure[order[shown]]:.0f} %"
    return _finish(sheet.fig, heading, words + ".")


def contact_sheet(dataset: "Dataset", *, per_class: int = 10, part: str = "train", max_classes: int = 20) -> "Figure":
    """The first images of each class, one class a row, with its name and how many images it has."""
    from minivit import data

    pixels, gap = 48, 2
    sheet = data.contact_sheet(dataset, per_class=per_class, max_classes=max_classes, part=part, pixels=pixels, gap=gap)
    counts = np.bincount(dataset.parts[part].labels, minlength=dataset.num_classes)
    rows = min(dataset.num_classes, max_classes)
    heading = f"{dataset.name}: {len(dataset.parts[part]):,} {part} images in {dataset.num_classes} classes"
    inches = 0.55  # of one image; wide enough for two lines of text beside a row
    h, w = sheet.shape[:2]
    tall = inches * rows
    wide = tall * w / h
    names = [_short(dataset.class_names[i], 22) for i in range(rows)]
    margin = 0.085 * max(map(len, names)) + 0.25
    fig = figure(wide + margin + 1.1, tall + 1.0, heading)
    ax = fig.subplots()
    ax.imshow(sheet, interpolation="nearest")
    ax.set_xticks([])
    ax.tick_params(length=0, labelsize=NORMAL, colors=INK)
    step = h / rows
    ax.set_yticks([step * (i + 0.5) for i in range(rows)], labels=names, parse_math=False)
    other = ax.secondary_yaxis("right")
    other.set_yticks([step * (i + 0.5) for i in range(rows)], labels=[f"{counts[i]:,}" for i in range(rows)])
    other.tick_params(length=0, labelsize=SMALL, colors=INK)
    for spine in [*ax.spines.values(), *other.spines.values()]:
        spine.set_visible(False)
    h, w = dataset.image_size
    more = f" The first {rows} of {dataset.num_classes} classes." if rows < dataset.num_classes else ""
    _footnote(fig, f"{h}×{w} pixels, {_channels(dataset.in_channels)}; right: images of the class.{more}")
    words = f"A contact sheet of {dataset.name}: {rows} rows of up to {per_class} pictures of {h}×{w} pixels. "
    words += f"Rows, with images in the {part} part: "
    words += ", ".join(f"{dataset.class_names[i]} {counts[i]:,}" for i in range(min(rows, 10)))
    return _finish(fig, heading, words + (" and others." if rows > 10 else "."))


def pictures(
    images: Sequence[np.ndarray],
    captions: Sequence[str] = (),
    *,
    columns: int | None = None,
    title: str = "",
    tile: float = 1.5,
) -> "Figure":
    """Images side by side, pixels as squares, with a caption above each: (h, w), (h, w, 1) or (h, w, 3), uint8 or [0, 1].

    All have one size; `tile` is the longer side of one in inches. Its alt text counts them and reads the captions.
    """
    images = [image[..., None] if image.ndim == 2 else image for image in map(np.asarray, images)]
    columns = min(columns or len(images), len(images))
    sheet = _Sheet(
        math.ceil(len(images) / columns), columns, images[0].shape[:2], tile=tile, gap=0.15,
        above=0.27 if len(captions) else 0, heading=title, least_width=1.0,
    )  # fmt: skip
    for k, image in enumerate(images):
        ax = sheet.axes(*divmod(k, columns))
        _picture(ax, image)
        if k < len(captions):
            _caption(ax, captions[k])
    h, w = images[0].shape[:2]
    words = f"{len(images)} pictures of {h}×{w} pixels" if len(images) > 1 else f"A picture of {h}×{w} pixels"
    words += f": {', '.join(captions)}" if len(captions) else ""
    return _finish(sheet.fig, title, words + ".")


# ---------------------------------------------------------------- attention


def rollout(attention: Sequence[np.ndarray]) -> np.ndarray:
    """How attention adds up over layers (Abnar and Zuidema 2020): L arrays (B, heads, T, T) -> (B, T, T), rows summing to 1.

    Ã = ½(mean over heads + I), the identity standing for the residual path; rows renormalised; then Ã_L … Ã_1.
    Raises ConfigError without layers. It follows attention only: what values and MLPs do, it does not see.
    """
    if not len(attention):
        raise ConfigError("rollout: there is no attention to roll out; the model has no attention layers")
    total = None
    for weights in attention:
        mixed = 0.5 * (weights.mean(axis=1) + np.eye(weights.shape[-1], dtype=weights.dtype))  # (B, T, T)
        mixed = mixed / mixed.sum(axis=-1, keepdims=True)
        total = mixed if total is None else mixed @ total
    return total


def over_patches(weights: np.ndarray, grid: tuple[int, int], *, query: Query = "class", prefix: int = 1) -> np.ndarray:
    """How much one query attends to each patch, relative to uniform: (..., T, T) -> (..., rows, columns); 1 means 1/T.

    `query` is `"class"` (token 0), `"mean"` (the mean over all query patches) or a patch's (row, column); `prefix`
    tokens stand in front of the patches. Raises ConfigError for a patch outside the grid, ShapeError for a wrong grid.
    """
    rows, columns = grid
    tokens = weights.shape[-1]
    if tokens != prefix + rows * columns:
        raise ShapeError(
            f"over_patches: {tokens} tokens are not {prefix} in front of a grid of {rows}×{columns} patches"
        )
    if query == "class":
        if prefix < 1:
            raise ConfigError("over_patches: without a class token there is no query 'class'; use 'mean' or a patch")
        line = weights[..., 0, :]
    elif query == "mean":
        line = weights[..., prefix:, :].mean(axis=-2)
    else:
        r, c = _inside(query, grid)
        line = weights[..., prefix + r * columns + c, :]
    return (line[..., prefix:] * tokens).reshape(*line.shape[:-1], rows, columns)


def class_attention(
    images: np.ndarray,
    attention: np.ndarray,
    grid: tuple[int, int],
    *,
    query: Query = "class",
    prefix: int = 1,
    untrained: np.ndarray | None = None,
    captions: Sequence[str] = (),
    title: str = "",
) -> "Figure":
    """Where the class token looks: images (B, H, W, C) above their maps, mean over heads, relative to uniform.

    `attention` (B, heads, T, T) is one layer's; `untrained` the same of the model before training, drawn below, because
    structure that was there from the start was not learned. `query` and `prefix` as in `over_patches`.
    """
    kinds = [("after training", attention)] if untrained is not None else [("", attention)]
    kinds += [("before training", untrained)] if untrained is not None else []
    maps = [over_patches(a.mean(axis=1), grid, query=query, prefix=prefix) for _, a in kinds]
    norm = _around_uniform(*maps)
    n = len(images)
    missing = "no class token; " if query == "mean" else ""
    heading = title or f"Where {_who(query)} looks ({missing}mean over heads)"
    sheet = _Sheet(
        1 + len(kinds), n, images.shape[1:3], tile=1.3, gap=0.1, above=0.27 if len(captions) else 0,
        left=0.9 if untrained is not None else 0, bar=True, heading=heading, above_all=False,
    )  # fmt: skip
    for j in range(n):
        ax = sheet.axes(0, j)
        _picture(ax, images[j])
        if j < len(captions):
            _caption(ax, captions[j])
        for i, relative in enumerate(maps):
            _map(sheet.axes(1 + i, j), images[j], relative[j], norm)
    for i, (name, _) in enumerate(kinds):
        sheet.row_name(1 + i, name.replace(" ", "\n"))
    sheet.scale(norm)
    words = (
        f"{n} pictures, below each a map of {grid[0]}×{grid[1]} patches: attention of {_who(query)}, in multiples of "
    )
    words += f"uniform. Largest {maps[0].max():.1f}×, smallest {maps[0].min():.2f}×"
    if untrained is not None:
        words += f"; before training {maps[1].max():.1f}× and {maps[1].min():.2f}×"
    return _finish(sheet.fig, heading, words + ".")


def look(
    image: np.ndarray,
    attention: Sequence[np.ndarray],
    grid: tuple[int, int],
    *,
    query: Query = "class",
    prefix: int = 1,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    pooling: np.ndarray | None = None,
    answers: Sequence[tuple[str, float]] = (),
    note: str = "",
    title: str = "",
) -> "Figure":
    """One image through all of a model's attention: the photo, rollout, and a map for each layer and head and their mean.

    `image` (H, W, C) uint8 or [0, 1]; `attention` L arrays (heads, T, T); `layers` and `heads` choose by number from 0
    (rollout always takes all); `pooling` (heads, 1, T or N) is that of a learned query that asks last; `answers` are (class
    name, probability), best first, `note` a line below them; `title` names the picture. Raises ConfigError for a layer,
    head or patch that is not there. Maps say where values were fetched from, not why the answer came out as it did.
    """
    if not len(attention):
        raise ConfigError("look: this model has no attention to look at")
    layers = _chosen("layer", layers, len(attention))
    heads = _chosen("head", heads, len(attention[0]))
    rolled = over_patches(rollout([a[None] for a in attention])[0], grid, query=query, prefix=prefix)
    rows = {f"layer {i}": over_patches(attention[i], grid, query=query, prefix=prefix) for i in layers}
    if pooling is not None:
        rows["pooling"] = (pooling[:, 0, -grid[0] * grid[1] :] * pooling.shape[-1]).reshape(len(pooling), *grid)
    norm = _around_uniform(rolled, *(maps[heads] for maps in rows.values()))

    columns = len(heads) + 1
    heading = f"Where {_who(query)} looks in {_short(title, 40) or 'the image'}"
    heading += (
        ": attention averaged over all patches, as this model answers from no class token" if query == "mean" else ""
    )
    below = "Colours compare with an equal share for every token (uniform). Rollout multiplies the attention of all layers, "
    below += "with half of each token staying where it is. Below, layer 0 is the first to see the image."
    below += " Pooling: what the query that gathers the answer asks last." if pooling is not None else ""
    opening = _Opening(heading, image, _answers(answers, note, image, grid), below)
    sheet = _Sheet(
        len(rows), columns, image.shape[:2], tile=min(1.3, max(0.85, 11 / columns)), gap=0.07, above=0.27, left=0.75,
        top=opening.height, bar=True, above_all=False, least_width=LEAST,
    )  # fmt: skip
    opening.draw(sheet, rolled, norm, "rollout", query)
    for i, (name, maps) in enumerate(rows.items()):
        for j, head in enumerate([*heads, None]):
            ax = sheet.axes(i, j)
            _map(ax, image, maps.mean(axis=0) if head is None else maps[head], norm)
            if name != "pooling":
                _mark(ax, image, grid, query, thick=False)
            if i == 0:
                _caption(ax, "mean" if head is None else f"head {head}")
        sheet.row_name(i, name)
    sheet.scale(norm)

    r, c = np.unravel_index(rolled.argmax(), rolled.shape)
    strongest = max(((m[k].max(), name, k) for name, m in rows.items() for k in heads), key=lambda t: t[0])
    words = f"A photo, its rollout map and {len(rows)}×{columns} attention maps of {grid[0]}×{grid[1]} patches for "
    words += (
        f"{_who(query)}, in multiples of uniform. Rollout peaks at {rolled.max():.1f}× in row {r}, column {c}; the "
    )
    words += f"strongest head ({strongest[1]}, head {strongest[2]}) at {strongest[0]:.1f}×."
    if answers:
        words += f" Answer: {answers[0][0]}, {100 * answers[0][1]:.0f} %."
    return _finish(sheet.fig, heading, words)


def influence(
    image: np.ndarray,
    relative: np.ndarray,
    *,
    kind: str = "model",
    answers: Sequence[tuple[str, float]] = (),
    note: str = "",
    title: str = "",
) -> "Figure":
    """For a model without attention: the photo beside a map (rows, columns) of `nn.influence`, 1 being the mean patch."""
    norm = _around_uniform(relative)
    heading = f"What moves the answer in {_short(title, 40) or 'the image'}: a {kind} has no attention, so this is its gradient"
    below = "Colours compare with the mean patch: how much the best answer changes when the pixels of a patch change a little."
    opening = _Opening(heading, image, _answers(answers, note, image, relative.shape), below)
    sheet = _Sheet(0, 0, image.shape[:2], tile=1, gap=0, top=opening.height, bar=True, least_width=LEAST)
    opening.draw(sheet, relative, norm, "gradient", "class")
    sheet.scale(norm, "the mean patch")
    r, c = np.unravel_index(relative.argmax(), relative.shape)
    words = f"A photo and a map of {relative.shape[0]}×{relative.shape[1]} patches: how much each moves the answer, in multiples "
    words += f"of the mean patch. It peaks at {relative.max():.1f}× in row {r}, column {c}."
    words += f" Answer: {answers[0][0]}, {100 * answers[0][1]:.0f} %." if answers else ""
    return _finish(sheet.fig, heading, words)


# ---------------------------------------------------------------- out


def png(fig: "Figure", dpi: int = 150) -> bytes:
    """A figure as the bytes of a PNG file, its title and alt text in the metadata `Title` and `Description`."""
    buffer = io.BytesIO()
    about = {"Title": fig.title, "Description": fig.alt, "Software": "minivit"}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a class name in a script the font lacks
        fig.savefig(buffer, format="png", dpi=dpi, metadata=about)
    return buffer.getvalue()


def save(fig: "Figure", path: str | Path, dpi: int = 150) -> Path:
    """Write a PNG with its alt text inside: whole or not at all. Raises CheckpointError where it cannot."""
    content = png(fig, dpi)
    with replacing(path) as file:
        file.write(content)
    return Path(path)


def show(fig: "Figure", alt: str | None = None) -> None:
    """Show any matplotlib figure in a notebook, with `alt` (or its own alt text) as `text/plain` for readers and tests.

    The words are kept in `fig.alt`; a figure of pyplot is closed, so that it is not shown twice. Raises ConfigError
    where there are no words, or more than 60.
    """
    from IPython.display import display

    words = (alt or getattr(fig, "alt", "")).split()
    if not 1 <= len(words) <= 60:
        raise ConfigError(
            f"show: a figure needs alt text of 1 to 60 words (chart, axes, the deciding numbers), not {len(words)}; "
            'write show(fig, alt="…")'
        )
    fig.alt, fig.title = " ".join(words), getattr(fig, "title", "")
    display({"image/png": png(fig, dpi=100), "text/plain": fig.alt}, raw=True)
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None:
        pyplot.close(fig)


# ---------------------------------------------------------------- parts of figures


def figure(width: float, height: float, heading: str = "", layout: str | None = "constrained") -> "Figure":
    """An empty figure with a heading, in inches, without pyplot: it is freed when nobody holds it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    fig = Figure(figsize=(width, height), layout=layout, facecolor="white")
    FigureCanvasAgg(fig)
    if heading:
        fig.suptitle(_wrapped(heading, width), fontsize=LARGE, color=INK, parse_math=False)
    return fig


class _Sheet:
    """A grid of pictures of one size, laid out in inches from the top left, so that nothing overlaps at any count.

    `tile` is the longer side of a picture; `above` and `below` leave room for captions (`above_all`: of each row, else
    of the first); `left` for row names; `top` for what comes before the grid; `bar` for a colour bar below it.
    """

    def __init__(
        self, rows: int, columns: int, image_size: Sequence[int], *, tile: float, gap: float, above: float = 0,
        below: float = 0, left: float = 0, top: float = 0, bar: bool = False, heading: str = "", above_all: bool = True,
        least_width: float = 4.0,
    ):  # fmt: skip
        self.h, self.w = (tile * side / max(image_size) for side in image_size)
        self.gap, self.above, self.below, self.above_all = gap, above, below, above_all
        grid = left + columns * (self.w + gap) - gap
        self.width = max(grid + 0.3, least_width)
        self.left = 0.15 + left
        self.row = max(
            0.24, self.h + gap + below + (above if above_all else 0)
        )  # a row of a very wide image has a name too
        lines = _wrapped(heading, self.width).count("\n") + 1 if heading else 0
        self.top = 0.15 + top + 0.3 * lines + (0 if above_all else above)
        self.bottom = self.top + rows * self.row
        self.height = self.bottom + (0.75 if bar else 0.05)
        self.fig = figure(self.width, self.height, layout=None)
        if heading:
            self.text(self.left, 0.12, _wrapped(heading, self.width), size=LARGE)

    def place(self, x: float, y: float, width: float, height: float) -> Any:
        """Bare axes, in inches from the top left."""
        box = [x / self.width, 1 - (y + height) / self.height, width / self.width, height / self.height]
        ax = self.fig.add_axes(box)
        ax.set_axis_off()
        return ax

    def axes(self, i: int, j: int) -> Any:
        """The axes of the picture in row i, column j."""
        y = self.top + i * self.row + (self.above if self.above_all else 0)
        return self.place(self.left + j * (self.w + self.gap), y, self.w, self.h)

    def text(self, x: float, y: float, text: str, size: float = NORMAL, **options: Any) -> None:
        at = (x / self.width, 1 - y / self.height)
        options = {"va": "top", "fontsize": size, "color": INK, "linespacing": 1.35, "parse_math": False} | options
        self.fig.text(*at, text, **options)

    def row_name(self, i: int, name: str) -> None:
        self.text(self.left - 0.1, self.top + i * self.row + self.h / 2, name, ha="right", va="center")

    def scale(self, norm: Any, one: str = "uniform") -> None:
        """The colour bar of maps, below the grid; `one` says what a value of 1 is."""
        from matplotlib.cm import ScalarMappable

        width = min(4.5, self.width - 1)
        x = min(self.left, (self.width - width) / 2)
        ax = self.place(x, self.height - 0.62, width, 0.14)
        ax.set_axis_on()
        bar = self.fig.colorbar(ScalarMappable(norm, "cividis"), cax=ax, orientation="horizontal", extend="both")
        reach = norm.vmax
        names = [f"1/{reach:.0f} of it", f"{one} (the photo shows)", f"{reach:.0f} times it"]
        bar.set_ticks([1 / reach, 1, reach], labels=names)
        bar.minorticks_off()
        bar.ax.tick_params(labelsize=NORMAL, colors=INK)


def _finish(fig: "Figure", title: str, alt: str) -> "Figure":
    words = alt.split(" ")
    fig.title, fig.alt = title, alt if len(words) <= 60 else " ".join(words[:60]) + " …"
    return fig


def label(ax: Any, x: str, y: str) -> None:
    """Name both axes of a chart, with units, and give it the look of the others."""
    ax.set_xlabel(x, fontsize=NORMAL, color=INK)
    ax.set_ylabel(y, fontsize=NORMAL, color=INK)
    ax.tick_params(labelsize=NORMAL, colors=INK)
    ax.grid(True, color="#dddddd", lw=0.8)
    ax.spines[["top", "right"]].set_visible(False)


def _footnote(fig: "Figure", text: str) -> None:
    if text:
        fig.supxlabel(textwrap.fill(text, int(fig.get_figwidth() * 13)), fontsize=SMALL, color=INK, parse_math=False)


def _frame(ax: Any, colour: str, style: str) -> None:
    """A frame round a picture, drawn even where the axes are off."""
    from matplotlib.patches import Rectangle

    ax.add_patch(
        Rectangle((0, 0), 1, 1, transform=ax.transAxes, fill=False, ec=colour, ls=style, lw=2.5, clip_on=False)
    )


def _picture(ax: Any, image: np.ndarray) -> None:
    """One image, pixels as squares; grey or RGB, uint8 or [0, 1]."""
    ax.imshow(rgb(image), interpolation="nearest")
    ax.set_axis_off()


def rgb(image: np.ndarray) -> np.ndarray:
    """(H, W, 1 or 3), uint8 or [0, 1] -> float (H, W, 3) in [0, 1]."""
    values = image / 255 if image.dtype == np.uint8 else np.clip(image, 0, 1)
    return np.broadcast_to(values, (*values.shape[:2], 3))


def _map(ax: Any, image: np.ndarray, relative: np.ndarray, norm: Any) -> None:
    """A map of patches over the photo: the further from uniform, the more colour and the less photo."""
    from matplotlib import colormaps

    h, w = image.shape[:2]
    rows, columns = (np.arange(m) * n // m for n, m in zip(relative.shape, (h, w), strict=True))
    place = np.asarray(norm(relative[rows][:, columns]))[..., None]  # (H, W, 1): 0, uniform at ½, 1
    photo = rgb(image).mean(axis=-1, keepdims=True) - 0.5
    through = 0.36 * photo * (1 - np.abs(2 * place - 1))
    ax.imshow(np.clip(colormaps["cividis"](place[..., 0])[..., :3] + through, 0, 1), interpolation="nearest")


def _around_uniform(*maps: np.ndarray) -> Any:
    """One logarithmic scale for all maps, with uniform attention (1) in its middle."""
    from matplotlib.colors import LogNorm

    largest = max(float(m.max()) for m in maps)
    reach = 2.0 ** min(5, max(1, round(math.log2(max(largest, 1)))))
    return LogNorm(1 / reach, reach, clip=True)


def _grid_lines(ax: Any, image: np.ndarray, grid: tuple[int, int], query: Query) -> None:
    """The cuts between patches, and a frame round the patch that asks."""
    h, w = image.shape[:2]
    rows, columns = grid
    few = max(grid) <= 32  # more lines would hide the photo
    for i in range(1, rows if few else 0):
        ax.axhline(i * h / rows - 0.5, color="white", lw=0.5, alpha=0.6)
    for j in range(1, columns if few else 0):
        ax.axvline(j * w / columns - 0.5, color="white", lw=0.5, alpha=0.6)
    _mark(ax, image, grid, query)


def _mark(ax: Any, image: np.ndarray, grid: tuple[int, int], query: Query, thick: bool = True) -> None:
    """A frame round the patch that asks, if one does."""
    from matplotlib.patches import Rectangle

    if isinstance(query, str):
        return
    h, w = image.shape[0] / grid[0], image.shape[1] / grid[1]
    corner = (query[1] * w - 0.5, query[0] * h - 0.5)
    for width, colour in ((4.5, "white"), (2.5, VERMILLION)) if thick else ((1.2, VERMILLION),):
        ax.add_patch(Rectangle(corner, w, h, fill=False, ec=colour, lw=width))


def _who(query: Query) -> str:
    if query == "class":
        return "the class token"
    if query == "mean":
        return "the average patch"
    return f"the patch in row {query[0]}, column {query[1]}"


LEAST = 7.6  # inches: the least width of a figure that begins with an `_Opening`


class _Opening:
    """What stands above a grid of maps: a heading, the photo, one large map beside it, a text beside both, one below."""

    def __init__(self, heading: str, image: np.ndarray, beside: str, below: str):
        self.heading, self.below = _wrapped(heading, LEAST * 0.92), _wrapped(below, LEAST * 1.35)
        self.image, self.beside = image, beside.split("\n")
        self.h, self.w = (2.2 * side / max(image.shape[:2]) for side in image.shape[:2])
        self.y = 0.4 + 0.3 * (self.heading.count("\n") + 1)
        self.end = self.y + max(self.h, 0.212 * len(self.beside)) + 0.1
        self.height = self.end + 0.17 * (self.below.count("\n") + 1) + 0.1  # inches

    def draw(self, sheet: _Sheet, relative: np.ndarray, norm: Any, name: str, query: Query) -> None:
        """`relative` is the large map, called `name`."""
        sheet.text(0.15, 0.12, self.heading, size=LARGE)
        photo, large = (sheet.place(x, self.y, self.w, self.h) for x in (0.15, 0.3 + self.w))
        _picture(photo, self.image)
        _caption(photo, "what the model sees")
        _grid_lines(photo, self.image, relative.shape, query)
        _map(large, self.image, relative, norm)
        _caption(large, name)
        letters = max(12, int((sheet.width - 0.65 - 2 * self.w) * 10.5))
        sheet.text(0.5 + 2 * self.w, self.y, "\n".join(_short(line, letters) for line in self.beside))
        sheet.text(0.15, self.end, self.below, size=SMALL)


def _answers(answers: Sequence[tuple[str, float]], note: str, image: np.ndarray, grid: tuple[int, int]) -> str:
    """The lines beside the photo."""
    lines = [f"{image.shape[0]}×{image.shape[1]} pixels,", f"{grid[0]}×{grid[1]} patches", ""]
    lines += [f"{100 * share:.1f} %  {name}" for name, share in answers]
    return "\n".join([*lines, *([""] if note and answers else []), *textwrap.wrap(note, 24)])


def _inside(patch: Query, grid: tuple[int, int]) -> tuple[int, int]:
    rows, columns = grid
    if isinstance(patch, str) or len(patch) != 2 or not (0 <= patch[0] < rows and 0 <= patch[1] < columns):
        raise ConfigError(
            f"patch {patch!r} is not in the grid; give (row, column), rows 0 to {rows - 1} and columns 0 to {columns - 1}"
        )
    return patch


def _chosen(what: str, numbers: Sequence[int] | None, n: int) -> list[int]:
    if numbers is None:
        return list(range(n))
    for i in numbers:
        if not 0 <= i < n:
            raise ConfigError(f"there is no {what} {i}; this model has {what}s 0 to {n - 1}")
    return list(numbers)


def _top(*curves: np.ndarray) -> float:
    finite = np.concatenate([c[np.isfinite(c)] for c in curves])
    return 1.05 * float(finite.max()) if len(finite) and finite.max() > 0 else 1.0


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _wrapped(text: str, width: float) -> str:
    return textwrap.fill(text, max(20, int(width * 10)))


def _verdict(mark: str, name: str, share: float) -> str:
    return f"{mark} {_short(name, 14)} ({100 * share:.0f} %)"


def _caption(ax: Any, text: str, below: bool = False) -> None:
    """A line above or below a picture: smaller where it is long, cut where it is too long."""
    points = 72 * ax.get_position().width * ax.figure.get_figwidth()
    text = _short(text, max(12, int(points / (0.58 * SMALLEST))))
    size = max(SMALLEST, min(NORMAL, points / (0.58 * max(1, len(text)))))
    x, y, va = (0.5, -4, "top") if below else (0.5, 4, "bottom")
    ax.annotate(
        text, (x, 0 if below else 1), xycoords="axes fraction", xytext=(0, y), textcoords="offset points", ha="center",
        va=va, fontsize=size, color=INK, parse_math=False,
    )  # fmt: skip


def _channels(count: int) -> str:
    return "grey" if count == 1 else "RGB"
