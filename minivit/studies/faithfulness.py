"""Is attention the reason? Patches are removed by map, and the answer says whether the map named the right ones.

In find-my-twin the answer is the colour of one patch, which only a comparison with patch 0 finds: truth is known. A map is
faithful where an answer is lost sooner by removing what it names first, and kept longer by removing it last, than by controls.
"""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import minivit as mv
from minivit.engine import backend as backends
from minivit.engine.tensor import no_grad
from minivit.nn.influence import influence
from minivit.nn.module import Module
from minivit.studies import subjects
from minivit.studies.report import DEPENDS, NOT_HERE, REPRODUCED, Config, Result, answer, spread, steady
from minivit.studies.rollout import TWIN, class_maps, cut
from minivit.training.infer import infer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FINDING = "An attention map shows which patches the answer rests on."
PAPER = (
    "as reported: maps are shown as what the model attends to for its answer (ViT paper, figure 6); that attention weights "
    "need not explain, as other weights give the same answer, by Jain and Wallace 2019 and Brunner et al. 2020, on language"
)
SCALES: dict[str, dict[str, Any]] = {
    "quick": {"data": "twin", "seeds": (0, 1, 2), "images": 64, "pictures": 4, "steps": 8, "options": TWIN},
    "standard": {"data": "twin", "seeds": (0, 1, 2), "images": 1000, "pictures": 16, "steps": 16, "options": {}},
    "full": {"data": "shapes", "seeds": (0, 1, 2), "images": 1000, "pictures": 64, "steps": 16, "options": {}},
}
MAPS = ("attention", "rollout")
# The last is the map's own mean over all images: what is the same in each image says nothing about this one.
CONTROLS = ("random", "centre", "untrained", "average {}")
FILLS = ("black", "mean", "gone")  # pixels 0; the mean colour of the data; the token itself is left out
WAYS = ("most first", "least first")  # what the map names is removed first (is it needed?), or last (is it enough?)
LARGEST = 2**27  # bytes of changed images that are made at once
TITLES = {"black": "black patches", "mean": "patches of the mean colour", "gone": "tokens left out"}
EFFECT = 0.05  # of the answers kept, averaged over all amounts: what a map must gain over every control


# ---------------------------------------------------------------- the measures


def order(scores: np.ndarray) -> np.ndarray:
    """Patches from the highest score to the lowest, equal ones in their order: (B, N) -> (B, N)."""
    return np.argsort(-scores, axis=1, kind="stable")


def from_centre(grid: tuple[int, int], count: int) -> np.ndarray:
    """The control that needs no model: patches from the middle of the image outwards, the same for each: (count, N)."""
    row, column = np.divmod(np.arange(grid[0] * grid[1]), grid[1])
    distance = np.hypot(row - (grid[0] - 1) / 2, column - (grid[1] - 1) / 2)
    return np.repeat(order(-distance[None]), count, axis=0)


def kept_answers(
    model: Module, images: np.ndarray, removal: np.ndarray, amounts: Sequence[int], fill: str, black: np.ndarray
) -> np.ndarray:
    """The share of images that keep their answer without the first k patches of `removal` (B, ≤ N): one for each amount k.

    `images` are ready for the model, in which `black` (C,) stands for pixels of 0. With `fill="gone"` the tokens are left
    out, so that there is no filling at all (needs a ViT with a class token).
    """
    (p, q), (h, w), b = model.patch_size, images.shape[1:3], len(images)
    removed = np.zeros((len(amounts), b, (h // p) * (w // q)), bool)
    for mask, k in zip(removed, amounts, strict=True):
        np.put_along_axis(mask, removal[:, :k], True, axis=1)
    if fill == "gone":
        scores = [infer(model, images), *(without_tokens(model, images, mask) for mask in removed)]
    else:
        paint = black if fill == "black" else 0.0
        scores = np.empty((1 + len(amounts), b, infer(model, images[:1]).shape[1]))
        piece = max(1, LARGEST // (images[0].nbytes * len(scores)))
        for a in range(0, b, piece):  # every amount of some images in one call
            part = images[a : a + piece]
            cuts = [part, *(cut(part, mask[a : a + piece], (p, q), paint) for mask in removed)]
            scores[:, a : a + piece] = infer(model, np.concatenate(cuts)).reshape(len(scores), len(part), -1)
    said, *answers = (s.argmax(axis=1) for s in scores)
    return np.array([(a == said).mean() for a in answers])


def without_tokens(model: Module, images: np.ndarray, removed: np.ndarray, batch: int = 256) -> np.ndarray:
    """Logits of a ViT that never sees the removed patches, the same number in each image: `removed` (B, N) of booleans."""
    b, (n, prefix) = len(images), (removed.shape[1], model.num_prefix)
    kept = np.argsort(removed, axis=1, kind="stable")[:, : n - removed[0].sum()]
    index = np.concatenate([np.broadcast_to(np.arange(prefix), (b, prefix)), kept + prefix], axis=1)
    scores = []
    with no_grad():
        for a in range(0, b, batch):
            x, _ = model.embed(model.as_input(images[a : a + batch]))  # (B, T, D)
            rows = np.arange(x.shape[0])[:, None]
            place = [backends.backend_of(x.data).from_host(i) for i in (rows, index[a : a + batch])]
            x = x[tuple(place)]
            for block in model.blocks:
                x = block(x)
            scores.append(model.head(model.norm(x)[:, 0]).numpy())
    return np.concatenate(scores)


def another_map(weights: np.ndarray, values: np.ndarray, steps: int = 30) -> np.ndarray:
    """Other attention weights with the same output: (T,), (T, d) -> (T,), still ≥ 0 and summing to 1 (Brunner et al. 2020).

    Where there are more tokens than the head is wide, some changes of the weights change neither their sum nor the mixed
    values. Each step goes along the one that lowers the largest weight most, until another weight is 0, which then stays 0.
    """
    held = np.concatenate([values, np.ones((len(values), 1))], axis=1).astype(np.float64)  # what must not change
    weights, top = weights.astype(np.float64), int(weights.argmax())
    loose = np.ones(len(weights), bool)
    for _ in range(steps):
        u, s, _ = np.linalg.svd(held[loose], full_matrices=True)
        free = u[:, (s > 1e-9 * s[0]).sum() :]  # directions in which the output does not change: (loose, loose − rank)
        step = np.zeros(len(weights))
        step[loose] = -free @ free[loose[:top].sum()]
        shrinking = step < -1e-9
        if not shrinking.any():
            break
        far = np.where(shrinking, weights / np.where(shrinking, -step, 1), np.inf)
        weights = np.where(far <= far.min(), 0, weights + far.min() * step)
        loose &= far > far.min()
        if not loose[top]:
            break
    return np.maximum(weights, 0)


def two_maps(model: Module, images: np.ndarray, count: int = 100, seed: int = 0) -> dict[str, float]:
    """What `another_map` finds for rows of attention drawn at random from all layers, heads and queries of an image.

    `moved`: the mean share of a row that then lies elsewhere, in the layer where it is largest. `other_peak`: how often the
    largest weight is then on another token, in that layer. `output`: the largest change of an output, relative to the values.
    """
    trace = mv.trace(model, images, keep=("attention", "blocks.*.attn.qkv"))
    rng = np.random.default_rng(seed)
    moved, peak, change = [], [], []
    for layer, attention in enumerate(trace.attention):
        b, heads, t, _ = attention.shape
        qkv = trace.features[f"blocks.{layer}.attn.qkv"]
        values = qkv[..., -qkv.shape[-1] // 3 :].reshape(b, t, heads, -1)
        found = []
        for _ in range(-(-count // len(trace.attention))):
            i, head, query = rng.integers(b), rng.integers(heads), rng.integers(t)
            a, v = attention[i, head, query], values[i, :, head]
            other = another_map(a, v)
            found.append((0.5 * np.abs(other - a).sum(), other.argmax() != a.argmax()))
            change.append(np.abs((other - a / a.sum(dtype=np.float64)) @ v.astype(np.float64)).max() / np.abs(v).max())
        moved.append(np.mean(found, axis=0)[0])
        peak.append(np.mean(found, axis=0)[1])
    layer = int(np.argmax(moved))
    return {
        "moved": float(moved[layer]),
        "other_peak": float(peak[layer]),
        "moved_layer": layer,
        "output": float(max(change)),
    }


# ---------------------------------------------------------------- the study


def run(config: Config) -> Result:
    """Deletion by each map and control with each fill, two maps with one output, and on find-my-twin the true reason."""
    scale = SCALES[config.scale]
    rows: list[dict[str, Any]] = []
    if config.checkpoints:
        for i, model in enumerate(subjects.opened(config)):
            images = subjects.pictures(config, model, scale["pictures"])
            rows += _rows(i, model, subjects.fresh(model), images, scale["steps"])
    else:
        config = config.with_defaults(data=scale["data"], seeds=scale["seeds"])
        data = mv.data.load(config.data, data_dir=config.data_dir)
        test = data.test[: scale["images"]]
        for seed in config.seeds:
            model = subjects.trained(config, "vit", data, seed, **scale["options"])
            images = subjects.prepare(test.images, model.meta)
            twin = test.extra.get("twin")
            rows += _rows(seed, model, subjects.untrained("vit", data, seed), images, scale["steps"], twin)
            rows[-1]["accuracy"] = mv.evaluate(model, data.test)[1]
    verdict, said = judge(rows)
    return answer(config, finding=FINDING, paper=PAPER, rows=rows, verdict=verdict, said=said)


def _rows(
    seed: int, model: Module, before: Module, images: np.ndarray, steps: int, twin: np.ndarray | None = None
) -> list[dict[str, Any]]:
    """A row for each order, fill and way, then one of the model itself."""
    maps = class_maps(model, images)
    (p, q), b = model.patch_size, len(images)
    grid = images.shape[1] // p, images.shape[2] // q
    n = grid[0] * grid[1]
    rng = np.random.default_rng(seed)
    orders = {name: order(maps[name]) for name in MAPS}
    orders["gradient"] = order(influence(model, images, model.patch_size).reshape(b, -1))
    orders |= {"random": order(rng.random((b, n))), "centre": from_centre(grid, b)}
    orders["untrained"] = order(class_maps(before, images)["rollout"])
    orders |= {f"average {name}": np.repeat(order(maps[name].mean(axis=0)[None]), b, axis=0) for name in MAPS}
    row: dict[str, Any] = {"seed": seed, "order": None, **two_maps(model, images[:8])}
    if twin is not None:
        truth = rng.random((b, n))
        truth[np.arange(b), 0], truth[np.arange(b), twin] = 2, 3
        orders["truth"] = order(truth)
        top = maps["attention"].argmax(axis=1)
        row |= {"peak on twin": (top == twin).mean(), "peak on patch 0": (top == 0).mean()}
    steps = min(n, steps)
    amounts = sorted({round(n * i / steps) for i in range(steps)})
    fills = FILLS if model.pool == "cls" and type(model).__name__ in ("ViT", "Hybrid") and not model.rope else FILLS[:2]
    mean, std = subjects.preparation(model)
    black = -mean / std
    made = []
    for fill in fills:
        for name, removal in orders.items():
            for way in WAYS:
                turned = removal if way == WAYS[0] else removal[:, ::-1]
                kept = kept_answers(model, images, turned, amounts, fill, black)
                test = {"seed": seed, "order": name, "fill": fill, "way": way}
                made.append(test | {"removed": amounts, "kept": kept, "area": kept.mean()})
        if twin is not None:
            for what, first in (("twin", twin), ("patch 0", np.zeros(b, int))):
                kept = kept_answers(model, images, first[:, None], [1], fill, black)[0]
                row[f"kept without {what}, {fill}"] = kept
            other = np.array([rng.choice([j for j in range(1, n) if j != t]) for t in twin])
            row[f"kept without another, {fill}"] = kept_answers(model, images, other[:, None], [1], fill, black)[0]
    return [*made, row]


def _areas(rows: list[dict], name: str, fill: str, way: str) -> np.ndarray:
    return np.array([r["area"] for r in rows if (r["order"], r.get("fill"), r.get("way")) == (name, fill, way)])


def _beats(rows: list[dict], name: str, fill: str, way: str) -> bool:
    """Whether a map is beyond every control in every seed: fewer answers kept when it goes first, more when it goes last."""
    own, controls = _areas(rows, name, fill, way), [_areas(rows, c.format(name), fill, way) for c in CONTROLS]
    return all(steady(c, own, EFFECT) if way == WAYS[0] else steady(own, c, EFFECT) for c in controls)


def judge(rows: list[dict]) -> tuple[str, str]:
    """Each map with each fill and way of removal, in every seed, against every control.

    All of them beyond: reproduced; none: not at this scale; some: it depends on the test.
    """
    fills = [f for f in FILLS if any(r.get("fill") == f for r in rows)]
    good = {(name, fill, way): _beats(rows, name, fill, way) for name in MAPS for fill in fills for way in WAYS}
    names = [
        n
        for n in (*MAPS, "gradient", *(c.format("rollout") for c in CONTROLS), "truth")
        if any(r["order"] == n for r in rows)
    ]
    said = "Answers kept over all amounts and fills when what a map names goes first, and when it goes last: "
    said += ", ".join(
        f"{name} {' and '.join(spread(np.mean([_areas(rows, name, f, way) for f in fills], axis=0)) for way in WAYS)}"
        for name in names
    )
    of_model = [r for r in rows if r["order"] is None]
    said += (
        f". Other weights with the same output (to {max(r['output'] for r in of_model):.0e}) move "
        f"{spread([100 * r['moved'] for r in of_model], 0)} % of a row of attention."
    )
    if "peak on twin" in of_model[0]:
        lost = {
            what: [100 * np.mean([r[f"kept without {what}, {f}"] for f in fills]) for r in of_model]
            for what in ("twin", "patch 0", "another")
        }
        said += (
            f" The class token's peak lies on the twin in {spread([100 * r['peak on twin'] for r in of_model], 0)} % of images, "
            f"on patch 0 in {spread([100 * r['peak on patch 0'] for r in of_model], 0)} %; answers kept without the twin "
            f"{spread(lost['twin'], 0)} %, without patch 0 {spread(lost['patch 0'], 0)} %, without another "
            f"{spread(lost['another'], 0)} %."
        )
    if all(good.values()):
        return REPRODUCED, said
    if not any(good.values()):
        return NOT_HERE, said
    whole = [f"{name}, {way}" for name in MAPS for way in WAYS if all(good[name, fill, way] for fill in fills)]
    beyond = f"with every fill beyond all controls only: {'; '.join(whole)}" if whole else ""
    beyond = beyond or f"{sum(good.values())} of {len(good)} combinations of map, fill and way are beyond all controls"
    return DEPENDS + f"map and test; {beyond}", said


def plot(result: Result) -> tuple["Figure", str]:
    """For each fill the share of answers kept against the share of patches removed, one line for each order."""
    from minivit import viz

    styles = {
        "attention": (viz.BLUE, "-", "o"), "rollout": (viz.VERMILLION, "-", "s"), "gradient": (viz.GREEN, "-", "^"),
        "random": (viz.PALE, "--", None), "centre": (viz.PALE, ":", None), "untrained": (viz.PALE, "-.", None),
        "average rollout": (viz.VERMILLION, ":", None),
        "truth": (viz.INK, "-", None),
    }  # fmt: skip
    fills = list(dict.fromkeys(r["fill"] for r in result.rows if r["order"]))
    fig = viz.figure(3.4 * len(fills) + 1.8, 6.6, "Answers kept when patches go, in the order of each map")
    axes = fig.subplots(2, len(fills), sharey=True, squeeze=False)
    for (i, way), (j, fill) in itertools.product(enumerate(WAYS), enumerate(fills)):
        for name, (colour, line, mark) in styles.items():
            rows = [r for r in result.rows if (r["order"], r.get("fill"), r.get("way")) == (name, fill, way)]
            if rows:
                kept = 100 * np.mean([r["kept"] for r in rows], axis=0)
                axes[i, j].plot(rows[0]["removed"], kept, color=colour, ls=line, marker=mark, ms=4, lw=2, label=name)
        viz.label(axes[i, j], "patches removed" if i else "", "" if j else f"answers kept (%), {way}")
        axes[i, j].set_ylim(0, 102)
        if not i:
            axes[i, j].set_title(TITLES[fill], fontsize=viz.NORMAL, color=viz.INK)
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=viz.SMALL)
    shown = [n for n in ("rollout", "random", "average rollout", "truth") if any(r["order"] == n for r in result.rows)]
    areas = [
        f"{n} {' and '.join(f'{_areas(result.rows, n, fills[0], way).mean():.2f}' for way in WAYS)}" for n in shown
    ]
    alt = f"Line charts of answers kept against patches removed, most important first and least important first, {len(fills)} "
    alt += f"ways to remove. Mean over all amounts, {TITLES[fills[0]]}: {', '.join(areas)}."
    return fig, alt
