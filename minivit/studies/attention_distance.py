"""How far does each head look, layer by layer? (ViT paper, figure 7 right; Raghu et al. 2021, figures 3 and 4.)

MAD of a head = mean over images and query patches i of Σⱼ Aᵢⱼ Δᵢⱼ, with Δᵢⱼ = P·‖place i − place j‖ in pixels. Tokens in
front of the patches are left out, and the rows that remain sum to 1 again.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

import minivit as mv
from minivit.engine.errors import ConfigError, ShapeError
from minivit.nn.module import Module
from minivit.nn.patches import Size, pair
from minivit.studies import subjects
from minivit.studies.report import DEPENDS, NOT_HERE, REPRODUCED, Config, Result, answer, spread

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FINDING = "Low layers of a ViT have heads that look near beside heads that look far; in high layers all look far."
PAPER = (
    "as reported: with large pre-training sets both kinds in the lowest layers; trained on ImageNet alone, the largest ViTs "
    "learn no near heads there (Raghu et al. 2021, figure 4)"
)
SCALES: dict[str, dict[str, Any]] = {  # digits have 4×4 patches, shapes 6×6
    "quick": {"data": "digits", "seeds": (0, 1, 2), "images": 64, "options": {"epochs": 20}},
    "standard": {"data": "shapes", "seeds": (0, 1, 2), "images": 128, "options": {}},
    "full": {"data": "shapes", "seeds": (0, 1, 2), "images": 128, "options": {"epochs": 100}},
}
NEAR = 0.7  # of the uniform distance: below it, a head looks near. Untrained heads lie within some hundredths of 1
GROWTH = (
    0.05  # of the uniform distance, from the first layer's mean head to the last's: the smallest growth worth the name
)


# ---------------------------------------------------------------- the measures


def pair_distances(grid: tuple[int, int], patch_size: Size = 1) -> np.ndarray:
    """How far apart the middles of two patches are, in pixels: (N, N), patches row by row."""
    rows, columns = np.divmod(np.arange(grid[0] * grid[1]), grid[1])
    height, width = pair(patch_size)
    return np.hypot(height * (rows[:, None] - rows), width * (columns[:, None] - columns))


def uniform_distance(grid: tuple[int, int], patch_size: Size = 1) -> float:
    """The distance of a head that attends to all patches alike, in pixels."""
    return float(pair_distances(grid, patch_size).mean())


def between_patches(attention: np.ndarray, grid: tuple[int, int], prefix: int, renormalise: bool = True) -> np.ndarray:
    """Attention among patches alone: (…, T, T) -> (…, N, N); rows sum to 1 again unless `renormalise` is False.

    Without it, what goes to the class token counts as a distance of 0, as in much published code. Raises `ShapeError`.
    """
    if attention.shape[-1] != prefix + grid[0] * grid[1]:
        raise ShapeError(f"{attention.shape[-1]} tokens are not {prefix} in front of {grid[0]}×{grid[1]} patches")
    kept = attention[..., prefix:, prefix:].astype(np.float64)
    return kept / np.maximum(kept.sum(axis=-1, keepdims=True), 1e-30) if renormalise else kept


def attention_distance(
    attention: np.ndarray, grid: tuple[int, int], patch_size: Size = 1, prefix: int = 1, renormalise: bool = True
) -> np.ndarray:
    """The mean distance at which each head looks, in pixels, for each image: (B, heads, T, T) -> (B, heads)."""
    kept = between_patches(attention, grid, prefix, renormalise)
    return np.einsum("bhij,ij->bh", kept, pair_distances(grid, patch_size)) / kept.shape[-1]


def by_offset(attention: np.ndarray, grid: tuple[int, int], prefix: int = 1) -> np.ndarray:
    """Mean attention to the patch at each offset from the one that asks: (…, T, T) -> (…, 2·rows − 1, 2·columns − 1).

    Each offset is averaged over the queries for which a patch lies there. The middle is the patch itself: it tells a head
    that looks at its neighbours from one that looks at itself, which a small distance does not.
    """
    kept = between_patches(attention, grid, prefix)
    (rows, columns), lead = grid, kept.shape[:-2]
    row, column = np.divmod(np.arange(rows * columns), columns)
    place = (row - row[:, None] + rows - 1) * (2 * columns - 1) + column - column[:, None] + columns - 1  # query, key
    size = (2 * rows - 1) * (2 * columns - 1)
    sums = [np.bincount(place.ravel(), a.ravel(), size) for a in kept.reshape(-1, *kept.shape[-2:])]
    counts = np.bincount(place.ravel(), minlength=size)
    return (np.array(sums) / counts).reshape(*lead, 2 * rows - 1, 2 * columns - 1)


def of_model(model: Module, images: np.ndarray, batch_size: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Of any model with attention: distances in multiples of uniform (layers, heads), and `by_offset` of every head.

    `images` are ready for the model. Only one batch of attention is held at a time. Raises `ConfigError`.
    """
    if not hasattr(model, "patch_size"):
        raise ConfigError(f"a {type(model).__name__} has no patches, so no attention among them")
    p, prefix = pair(model.patch_size), model.num_prefix if hasattr(model, "num_prefix") else 0
    grid = images.shape[1] // p[0], images.shape[2] // p[1]
    unit = uniform_distance(grid, p)

    def reduce(name: str, attention: np.ndarray) -> np.ndarray:  # (B, heads, T, T) -> (B, heads, 1 + offsets)
        near = attention_distance(attention, grid, p, prefix)[..., None] / unit
        return np.concatenate([near, by_offset(attention, grid, prefix).reshape(*near.shape[:2], -1)], axis=-1)

    found = mv.trace(model, images, batch_size, keep="attention", reduce=reduce).attention
    if not found:
        raise ConfigError(f"a {type(model).__name__} has no attention to measure")
    found = np.stack([layer.mean(axis=0) for layer in found])  # (layers, heads, 1 + offsets)
    return found[..., 0], found[..., 1:].reshape(*found.shape[:2], 2 * grid[0] - 1, 2 * grid[1] - 1)


# ---------------------------------------------------------------- the study


def run(config: Config) -> Result:
    """Distances of every head before and after training, or of the weights in `config.checkpoints`."""
    scale = SCALES[config.scale]
    rows = []
    if config.checkpoints:
        for i, model in enumerate(subjects.opened(config)):
            images = subjects.pictures(config, model, scale["images"])
            rows += _rows(i, None, model, subjects.fresh(model), images)
    else:
        config = config.with_defaults(data=scale["data"], seeds=scale["seeds"])
        data = mv.data.load(config.data, data_dir=config.data_dir)
        for seed in config.seeds:
            model = subjects.trained(config, "vit", data, seed, **scale["options"])
            images = subjects.prepare(data.test.images[: scale["images"]], model.meta)
            accuracy = mv.evaluate(model, data.test)[1]
            rows += _rows(seed, accuracy, model, subjects.untrained("vit", data, seed), images)
    verdict, said = judge(rows)
    return answer(config, finding=FINDING, paper=PAPER, rows=rows, verdict=verdict, said=said)


def _rows(seed: int, accuracy: float | None, model: Module, before: Module, images: np.ndarray) -> list[dict]:
    made = []
    for state, subject in (("trained", model), ("untrained", before)):
        near, offsets = of_model(subject, images)
        layer, head = np.unravel_index(near.argmin(), near.shape)
        made.append(
            {"seed": seed, "state": state, "accuracy": accuracy if state == "trained" else None, "distance": near,
             "nearest": [int(layer), int(head)], "offsets": offsets[layer, head]}
        )  # fmt: skip
    return made


def judge(rows: list[dict]) -> tuple[str, str]:
    """The verdict and the sentence that bears it: near heads in the first layer, and growth with depth, in every seed."""
    trained, untrained = ([np.array(r["distance"]) for r in rows if r["state"] == s] for s in ("trained", "untrained"))
    nearest = [d[0].min() for d in trained]
    widths, before = ([float(np.ptp(d[0])) for d in ds] for ds in (trained, untrained))
    growth = [d[-1].mean() - d[0].mean() for d in trained]
    near, grows = max(nearest) < NEAR, min(growth) > GROWTH and len(trained[0]) > 1
    verdict = REPRODUCED if near and grows else NOT_HERE
    if near != grows:
        verdict = DEPENDS + ("the half: near heads there are, growth with depth not" if near else
                             "the half: distance grows with depth, near heads there are none")  # fmt: skip
    said = (
        f"Of {len(trained)} model(s), the nearest head of the first layer looks {spread(nearest)} of the uniform distance far "
        f"(below {NEAR} counts as near), heads of that layer differ by {spread(widths)} (untrained {spread(before)}), and the "
        f"mean head goes {spread(growth)} further in the last layer than in the first."
    )
    return verdict, said


def plot(result: Result) -> tuple["Figure", str]:
    """Left every head's distance by layer, trained and untrained; right where the nearest head looks, and its untrained twin."""
    from minivit import viz

    fig = viz.figure(10, 4, "How far each head looks")
    axes = fig.subplots(1, 3, width_ratios=(2.2, 1, 1))
    rows = {s: [r for r in result.rows if r["state"] == s] for s in ("untrained", "trained")}
    for state, colour, mark, shift in (("untrained", viz.PALE, "o", 0.12), ("trained", viz.BLUE, "s", -0.12)):
        for k, row in enumerate(rows[state]):
            near = np.array(row["distance"])
            layers = np.repeat(np.arange(len(near)), near.shape[1]) + shift
            face = colour if state == "trained" else "none"
            axes[0].plot(layers, near.ravel(), mark, ms=5, mfc=face, mec=colour, label=state if k == 0 else None)
    axes[0].axhline(1, color=viz.VERMILLION, ls="--", lw=1.5, label="uniform attention")
    viz.label(axes[0], "layer", "mean distance, in multiples of uniform")
    axes[0].set_ylim(0, None)
    axes[0].xaxis.get_major_locator().set_params(integer=True)
    axes[0].legend(frameon=False, fontsize=viz.SMALL, loc="lower right")
    first = rows["trained"][0]
    maps = [np.array(rows[s][0]["offsets"]) for s in ("trained", "untrained")]
    top = max(m.max() for m in maps)
    for ax, m, state in zip(axes[1:], maps, ("trained", "untrained"), strict=True):
        ax.imshow(m, cmap="cividis", vmin=0, vmax=top)
        ax.set_title(f"nearest head, {state}:\nattention by offset", fontsize=viz.SMALL, color=viz.INK)
        ax.set_axis_off()
    near = [np.array(r["distance"]) for r in rows["trained"]]
    before = [np.array(r["distance"]) for r in rows["untrained"]]
    layer, head = first["nearest"]
    middle = maps[0][tuple(n // 2 for n in maps[0].shape)]
    alt = (
        f"A scatter chart of attention distance against layer, in multiples of uniform, and two maps. Trained heads lie between "
        f"{min(n.min() for n in near):.2f} and {max(n.max() for n in near):.2f}, untrained between "
        f"{min(n.min() for n in before):.2f} and {max(n.max() for n in before):.2f}. The nearest, layer {layer}, head {head}, "
        f"gives its own patch {100 * middle:.0f} %."
    )
    return fig, alt
