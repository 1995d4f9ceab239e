"""What do position embeddings learn, and are they needed? (ViT paper, figure 7 left and middle, and table 8.)

Sᵢⱼ = cos(eᵢ, eⱼ) over the positions of patches. Only positions that began as noise can be said to have learned their map:
those that began as sines and cosines have one from the start.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

import minivit as mv
from minivit.engine.errors import ConfigError, ShapeError
from minivit.nn.module import Module
from minivit.nn.patches import Size, pair
from minivit.studies import subjects
from minivit.studies.attention_distance import pair_distances
from minivit.studies.report import DEPENDS, NOT_HERE, REPRODUCED, Config, Result, answer, paired, spread

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FINDING = "Learned positions come to resemble those nearby, most of all in the same row and column; without any, accuracy falls."
PAPER = "as reported: 5-shot accuracy of B/16 61.4 % without positions, 64.2 % with learned ones (ViT paper, table 8)"
SCALES: dict[str, dict[str, Any]] = {
    "quick": {"data": "digits", "seeds": (0, 1, 2), "options": {"epochs": 15}},
    "standard": {"data": "digits", "seeds": (0, 1, 2), "options": {}},
    "full": {"data": "shapes", "seeds": (0, 1, 2), "options": {"epochs": 60}},
}
# The rule of the similarity map: above LEARNED the map can be seen by eye; |ρ| of untrained noise must lie below NOISE, or
# the map was there before. 0.3 and 0.1 are what REFERENCE asks; on few patches chance alone gives an untrained ρ of about
# 1/√pairs (0.09 for 16 patches), so the mean over seeds is what must be small.
LEARNED, NOISE = 0.3, 0.1


# ---------------------------------------------------------------- the measures


def similarity(positions: np.ndarray, centre: bool = False) -> np.ndarray:
    """The cosine of every position with every other: (N, D) -> (N, N); `centre` takes their mean out first."""
    p = np.asarray(positions, dtype=np.float64)
    p = p - p.mean(axis=0) if centre else p
    p = p / np.maximum(np.linalg.norm(p, axis=1, keepdims=True), 1e-30)
    return p @ p.T


def tiles(table: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """(N, N) as the paper draws it, for each position a map of its likeness to all: (rows², columns²) pixels."""
    r, c = grid
    return table.reshape(r, c, r, c).transpose(0, 2, 1, 3).reshape(r * r, c * c)


def nearness(table: np.ndarray, grid: tuple[int, int]) -> float:
    """The correlation of Sᵢⱼ with −distance over all pairs of different patches: 1 where nearer is always more alike.

    Raises `ShapeError` where table and grid do not fit.
    """
    d = pair_distances(grid)
    if table.shape != d.shape:
        raise ShapeError(f"similarities {table.shape} do not fit a grid of {grid[0]}×{grid[1]}")
    chosen = np.triu_indices(len(d), 1)
    if np.ptp(table[chosen]) < 1e-12 or np.ptp(d[chosen]) == 0:
        return 0.0
    return float(np.corrcoef(table[chosen], -d[chosen])[0, 1])


def line_advantage(table: np.ndarray, grid: tuple[int, int]) -> float | None:
    """How much more alike two patches of one row or column are than others equally far apart; `None` on small grids.

    Equal distances in and off a line are rare: 5 = √(3² + 4²) is the first, so the grid must be at least 4×5 and 6 long.
    """
    d = pair_distances(grid)
    row, column = np.divmod(np.arange(len(d)), grid[1])
    line = (row[:, None] == row) | (column[:, None] == column)
    gains = []
    for distance in np.unique(np.round(d[line & (d > 0)], 9)):
        equal = np.abs(d - distance) < 1e-9
        if (equal & line).any() and (equal & ~line).any():
            gains.append(table[equal & line].mean() - table[equal & ~line].mean())
    return float(np.mean(gains)) if gains else None


def patch_filters(weight: np.ndarray, patch_size: Size, count: int = 28) -> np.ndarray:
    """The principal components of a patch matrix (P·P·C, D), each from 0 to 1: (count or fewer, P, P, C), strongest first."""
    centred = np.asarray(weight, dtype=np.float64) - np.asarray(weight, dtype=np.float64).mean(axis=1, keepdims=True)
    components = np.linalg.svd(centred, full_matrices=False)[0].T[:count]  # (count, P·P·C)
    low, high = components.min(axis=1, keepdims=True), components.max(axis=1, keepdims=True)
    p, q = pair(patch_size)
    return ((components - low) / np.maximum(high - low, 1e-30)).reshape(len(components), p, q, -1)


def of_model(model: Module) -> np.ndarray:
    """The position embeddings of the patches alone: (N, D). Raises `ConfigError` for a model that has none."""
    if getattr(model, "pos_embed", None) is None:
        raise ConfigError(f"this {type(model).__name__} has no position embeddings to look at")
    return np.asarray(mv.to_numpy(model.pos_embed.data))[0, getattr(model, "pos_prefix", 0) :]


# ---------------------------------------------------------------- the study


def run(config: Config) -> Result:
    """ViTs that began from noise, with and without positions; or the positions and filters of given weights."""
    scale = SCALES[config.scale]
    config.refuse("images")
    rows: list[dict[str, Any]] = []
    if config.checkpoints:
        for i, model in enumerate(subjects.opened(config)):
            rows += [_row(i, "trained", model, not i), _row(i, "untrained", subjects.fresh(model), not i)]
        verdict, said = judge_map(rows)
    else:
        config = config.with_defaults(data=scale["data"], seeds=scale["seeds"])
        data = mv.data.load(config.data, data_dir=config.data_dir)
        for seed in config.seeds:
            noise = {"positions": "learned"}
            model = subjects.trained(config, "vit", data, seed, noise, **scale["options"])
            without = subjects.trained(config, "vit", data, seed, {"positions": "none"}, **scale["options"])
            accuracy = [mv.evaluate(m, data.test)[1] for m in (model, without)]
            first = seed == config.seeds[0]
            rows += [_row(seed, "trained", model, first) | {"accuracy": accuracy[0]}]
            rows += [_row(seed, "untrained", subjects.untrained("vit", data, seed, **noise), first)]
            rows += [{"seed": seed, "state": "none", "accuracy": accuracy[1]}]
        verdict, said = judge(rows)
    return answer(config, finding=FINDING, paper=PAPER, rows=rows, verdict=verdict, said=said)


def _row(seed: int, state: str, model: Module, pictures: bool) -> dict[str, Any]:
    """What one model's positions and patch matrix look like, with the pictures where asked."""
    positions, grid = of_model(model), model.grid
    table = similarity(positions)
    row = {"seed": seed, "state": state, "grid": list(grid), "nearness": nearness(table, grid)}
    row |= {"nearness_centred": nearness(similarity(positions, centre=True), grid)}
    row |= {"line_advantage": line_advantage(table, grid), "start": model.config.get("positions")}
    if not pictures:
        return row
    row["map"] = np.round(tiles(table, grid), 3)
    embed = getattr(model.patch_embed, "proj", None)
    if embed is not None and len(embed.weight.shape) == 2 and not hasattr(model.patch_embed, "convs"):
        weight = np.asarray(mv.to_numpy(embed.weight.data))
        row["filters"] = np.round(patch_filters(weight, model.patch_size), 3)
    return row


def judge_map(rows: list[dict]) -> tuple[str, str]:
    """Of the similarity map alone; a model whose positions began as sines and cosines cannot have learned it."""
    trained, before = ([r for r in rows if r["state"] == s] for s in ("trained", "untrained"))
    found, chance = ([r["nearness"] for r in group] for group in (trained, before))
    said = f"Likeness of two positions and their nearness correlate by {spread(found)} after training, {spread(chance)} before"
    lines = [r["line_advantage"] for r in trained if r["line_advantage"] is not None]
    said += f"; in one row or column they are {spread(lines)} more alike than others as far apart." if lines else "."
    if any(r["start"] in ("sincos", "learned_sincos") for r in trained):
        return DEPENDS + "the start: these positions began as sines and cosines, which have the map already", said
    return (REPRODUCED if min(found) > LEARNED and abs(np.mean(chance)) < NOISE else NOT_HERE), said


def judge(rows: list[dict]) -> tuple[str, str]:
    """Two halves, each in every seed: the map of learned positions, and the loss of accuracy without any."""
    of_map, said = judge_map(rows)
    own, without = ([r["accuracy"] for r in rows if r["state"] == s] for s in ("trained", "none"))
    mean, std = paired(100 * np.array(own), 100 * np.array(without))
    needed = min(np.array(own) - without) > 0
    said += (
        f" Test accuracy with positions {spread(100 * np.array(own), 1)} %, without {spread(100 * np.array(without), 1)} %: a "
        f"difference of {mean:.1f} ± {std:.1f} points, seed by seed."
    )
    if needed and of_map == REPRODUCED:
        return REPRODUCED, said
    if needed:
        return DEPENDS + "the half: positions are needed, but those learned from noise show no map yet", said
    return (
        NOT_HERE if of_map != REPRODUCED else DEPENDS + "the half: there is a map, but accuracy does not need it"
    ), said


def plot(result: Result) -> tuple["Figure", str]:
    """For each patch a map of the others' likeness, and the strongest patch filters; trained beside untrained."""
    from minivit import viz

    rows = {s: next(r for r in result.rows if r["state"] == s) for s in ("trained", "untrained")}
    grid = rows["trained"]["grid"]
    filters = "filters" in rows["trained"]
    sheets = {state: _sheet(np.array(row["filters"])) for state, row in rows.items()} if filters else {}
    shape = sheets["trained"].shape if filters else (0, 1)
    heights = (4, 4 * shape[0] / shape[1])[: 1 + filters]
    heading = "Which positions are alike (cosine)" + (", and what patches are looked at for" if filters else "")
    fig = viz.figure(9.5, 1.5 + sum(heights), heading)
    axes = fig.subplots(len(heights), 2, squeeze=False, height_ratios=heights)
    for j, (state, row) in enumerate(rows.items()):
        image = axes[0, j].imshow(row["map"], cmap="cividis", vmin=-1, vmax=1)
        for k in range(1, grid[0]):
            axes[0, j].axhline(k * grid[0] - 0.5, color="white", lw=1)
        for k in range(1, grid[1]):
            axes[0, j].axvline(k * grid[1] - 0.5, color="white", lw=1)
        title = f"{state}: correlation with nearness {row['nearness']:.2f}"
        axes[0, j].set_title(title, fontsize=viz.NORMAL, color=viz.INK)
        if filters:
            axes[1, j].imshow(sheets[state], interpolation="nearest")
            axes[1, j].set_title(f"{state}: strongest filters", fontsize=viz.NORMAL, color=viz.INK)
    for ax in axes.ravel():
        ax.set_axis_off()
    fig.colorbar(image, ax=axes[0], shrink=0.8).ax.tick_params(labelsize=viz.NORMAL, colors=viz.INK)
    near = {s: [r["nearness"] for r in result.rows if r["state"] == s] for s in rows}
    alt = f"Two sheets of {grid[0]}×{grid[1]} maps of cosine similarity between positions, trained and untrained"
    alt += ", and below the strongest patch filters" if filters else ""
    alt += f". Correlation with nearness: trained {spread(near['trained'])}, untrained {spread(near['untrained'])}."
    return fig, alt


def _sheet(filters: np.ndarray) -> np.ndarray:
    """(n, P, P, C) side by side, up to seven in a row, on blue, which no filter is: one RGB picture."""
    n, p, q, c = filters.shape
    filters = filters if c in (1, 3) else filters.mean(axis=-1, keepdims=True)
    columns, side, gap = min(n, 7), -(-48 // max(p, q)), 4
    rows, tall, wide = -(-n // columns), side * p + gap, side * q + gap
    sheet = np.full((rows * tall, columns * wide, 3), (0.34, 0.71, 0.91))
    for k, one in enumerate(filters):
        y, x = (k // columns) * tall, (k % columns) * wide
        sheet[y : y + side * p, x : x + side * q] = np.kron(one, np.ones((side, side, 1)))
    return sheet[:-gap, :-gap]
