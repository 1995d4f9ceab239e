"""Does rollout tell better than raw attention which patches matter? (Abnar and Zuidema 2020; ViT paper, figure 6.)

Raw: what the class token attends to in the last layer, mean over heads. Rollout: ½(mean over heads + I) of all layers,
multiplied. What matters is measured twice without attention: by removing one patch at a time, and by the gradient.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

import minivit as mv
from minivit import viz
from minivit.engine.errors import ConfigError
from minivit.nn.influence import influence
from minivit.nn.module import Module
from minivit.studies import subjects
from minivit.studies.report import NOT_HERE, REPRODUCED, Config, Result, answer, spread, steady
from minivit.training.infer import infer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FINDING = "Rollout says better than raw attention which patches an answer rests on."
PAPER = (
    "as reported: rollout correlates higher than raw attention with importance by ablation and by gradients (Abnar and "
    "Zuidema 2020, on language)"
)
TWIN = {"epochs": 8, "lr": 4e-3}  # enough to solve find-my-twin, the task that knows which patches matter
SCALES: dict[str, dict[str, Any]] = {
    "quick": {"data": "twin", "seeds": (0, 1, 2), "images": 128, "pictures": 4, "options": TWIN},
    "standard": {"data": "twin", "seeds": (0, 1, 2), "images": 1000, "pictures": 16, "options": {}},
    "full": {"data": "shapes", "seeds": (0, 1, 2), "images": 1000, "pictures": 64, "options": {}},
}
EFFECT = 0.05  # of rank correlation: the least by which rollout must be ahead, in both measures
MOST = 32  # patches of an image that are removed one at a time, drawn at random where it has more


# ---------------------------------------------------------------- the measures


def class_maps(model: Module, images: np.ndarray) -> dict[str, np.ndarray]:
    """Raw attention of the last layer and rollout, for the token that answers: each (B, N), in multiples of uniform.

    Where a model averages its patches, their rows are averaged. `images` are ready for it. Raises `ConfigError`.
    """
    found = mv.trace(model, images, keep="attention", reduce=lambda name, a: a.mean(axis=1, keepdims=True)).attention
    if not found:
        raise ConfigError(f"a {type(model).__name__} has no attention to look at")
    (p, q), (h, w) = model.patch_size, images.shape[1:3]
    where = {"grid": (h // p, w // q), "prefix": model.num_prefix}
    where["query"] = "class" if model.pool in ("cls", "cls_mean", "cls_dist") else "mean"
    maps = {"attention": found[-1][:, 0], "rollout": viz.rollout(found)}
    return {name: viz.over_patches(m, **where).reshape(len(images), -1) for name, m in maps.items()}


def cut(images: np.ndarray, removed: np.ndarray, patch_size: tuple[int, int], fill: Any) -> np.ndarray:
    """Images (B, H, W, C) with patches painted over: `removed` (B, N) of booleans, `fill` a value or one for each channel."""
    (p, q), (b, h, w, _) = patch_size, images.shape
    mask = removed.reshape(b, h // p, w // q).repeat(p, axis=1).repeat(q, axis=2)[..., None]
    return np.where(mask, np.asarray(fill, images.dtype), images)


def by_removal(
    model: Module, images: np.ndarray, fill: Any, most: int = MOST, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """How much the log-probability of a model's own answer falls without one patch: (chosen (B, n), falls (B, n)).

    `chosen` are the n patches of each image that were tried, all of them up to `most`.
    """
    b, (p, q) = len(images), model.patch_size
    n = (images.shape[1] // p) * (images.shape[2] // q)
    rng = np.random.default_rng(seed)
    chosen = np.sort(np.argsort(rng.random((b, n)), axis=1)[:, :most], axis=1)
    before = _log_probabilities(infer(model, images))
    said = before.argmax(axis=1)
    rows, falls = np.arange(b), []
    for k in range(chosen.shape[1]):
        removed = np.zeros((b, n), bool)
        removed[rows, chosen[:, k]] = True
        after = _log_probabilities(infer(model, cut(images, removed, (p, q), fill)))
        falls.append(before[rows, said] - after[rows, said])
    return chosen, np.stack(falls, axis=1)


def _log_probabilities(logits: np.ndarray) -> np.ndarray:
    return mv.log_softmax(mv.Tensor(logits.astype(np.float64))).numpy()


def rank_correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Spearman's, row by row: (B, n), (B, n) -> (B,), equal values sharing their rank; 0 where all are equal."""
    ranks = [
        (x[:, :, None] > x[:, None]).sum(axis=2) + ((x[:, :, None] == x[:, None]).sum(axis=2) - 1) / 2 for x in (a, b)
    ]
    a, b = (r - r.mean(axis=1, keepdims=True) for r in ranks)
    lengths = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    return (a * b).sum(axis=1) / np.maximum(lengths, 1e-12)


# ---------------------------------------------------------------- the study


def run(config: Config) -> Result:
    """Both maps against both measures, on a task that knows its patches, or for the weights in `config.checkpoints`."""
    scale = SCALES[config.scale]
    rows: list[dict[str, Any]] = []
    if config.checkpoints:
        for i, model in enumerate(subjects.opened(config)):
            images = subjects.pictures(config, model, scale["pictures"])
            rows.append(_row(i, model, subjects.fresh(model), images, pictures=not i))
    else:
        config = config.with_defaults(data=scale["data"], seeds=scale["seeds"])
        data = mv.data.load(config.data, data_dir=config.data_dir)
        test = data.test[: scale["images"]]
        for seed in config.seeds:
            model = subjects.trained(config, "vit", data, seed, **scale["options"])
            images = subjects.prepare(test.images, model.meta)
            before = subjects.untrained("vit", data, seed)
            row = _row(seed, model, before, images, test.extra.get("twin"), pictures=seed == config.seeds[0])
            rows.append(row | {"accuracy": mv.evaluate(model, data.test)[1]})
    verdict, said = judge(rows)
    return answer(config, finding=FINDING, paper=PAPER, rows=rows, verdict=verdict, said=said)


def _row(
    seed: int, model: Module, before: Module, images: np.ndarray, twin: np.ndarray | None = None, pictures: bool = False
) -> dict[str, Any]:
    """One model: each map's rank correlation with each measure, the same with the untrained twin's maps, and the hits."""
    maps = class_maps(model, images) | {f"untrained {k}": m for k, m in class_maps(before, images).items()}
    maps["average rollout"] = np.repeat(maps["rollout"].mean(axis=0)[None], len(images), axis=0)
    chosen, falls = by_removal(model, images, 0.0, seed=seed)  # prepared images have mean 0: the fill that says least
    slopes = influence(model, images, model.patch_size).reshape(len(images), -1)
    row: dict[str, Any] = {"seed": seed, "model": type(model).__name__}
    for name, m in maps.items():
        picked = np.take_along_axis(m, chosen, axis=1)
        row[f"{name}, removal"] = rank_correlation(picked, falls).mean()
        row[f"{name}, gradient"] = rank_correlation(m, slopes).mean()
        if twin is not None:
            top = m.argmax(axis=1)
            row |= {f"{name}, on twin": (top == twin).mean(), f"{name}, on patch 0": (top == 0).mean()}
    if pictures:
        (p, q), (h, w) = model.patch_size, images.shape[1:3]
        mean, std = subjects.preparation(model)
        row["images"] = np.round(np.clip(images[:4] * std + mean, 0, 1), 3)
        full = np.zeros((4, maps["rollout"].shape[1]))
        np.put_along_axis(full[: len(images)], chosen[:4], falls[:4], axis=1)
        shown = maps | {"removal": full}
        row["maps"] = {k: np.round(m[:4], 3).reshape(-1, h // p, w // q) for k, m in shown.items()}
    return row


def judge(rows: list[dict]) -> tuple[str, str]:
    """Reproduced where rollout is ahead of raw attention and of both controls in every seed, by removal and by gradient.

    The controls are an untrained model's rollout, and the mean of the trained one's over images: a map that is the same for
    every image can say where answers usually lie, but nothing of this one.
    """
    others = ("attention", "untrained rollout", "average rollout")
    found = {(k, by): [r[f"{k}, {by}"] for r in rows] for k in ("rollout", *others) for by in ("removal", "gradient")}
    ahead = all(steady(found["rollout", by], found[k, by], EFFECT) for by in ("removal", "gradient") for k in others)
    words = [
        f"with importance by {by}: {', '.join(f'{k} {spread(found[k, by])}' for k in ('rollout', *others))}"
        for by in ("removal", "gradient")
    ]
    said = f"Rank correlation {'; '.join(words)}."
    if "rollout, on twin" in rows[0]:
        hits = []
        for k in ("rollout", "attention", "untrained rollout"):
            shares = [spread([100 * r[f"{k}, on {where}"] for r in rows], 0) for where in ("twin", "patch 0")]
            hits.append(f"{k} {' and '.join(shares)} %")
        said += f" Of all images, the peak lies on the patch that holds the answer, and on the one that asks: {'; '.join(hits)}."
    return (REPRODUCED if ahead else NOT_HERE), said


def plot(result: Result) -> tuple["Figure", str]:
    """Some images with raw attention, rollout, the untrained model's rollout, and what removal says."""
    row = next(r for r in result.rows if "maps" in r)
    images = np.array(row["images"])
    names = ("attention", "rollout", "untrained rollout", "removal")
    fig = viz.figure(1.7 * (len(names) + 1), 1.6 * len(images) + 0.6, "Which patches matter, by four accounts")
    axes = fig.subplots(len(images), len(names) + 1, squeeze=False)
    for i, image in enumerate(images):
        axes[i, 0].imshow(viz.rgb(image), interpolation="nearest")
        for j, name in enumerate(names, 1):
            m = np.array(row["maps"][name][i])
            axes[i, j].imshow(m, cmap="cividis", vmin=min(0, m.min()), vmax=max(m.max(), 1e-9), interpolation="nearest")
    for ax, title in zip(axes[0], ("image", *names), strict=True):
        ax.set_title(title.replace(" ", "\n"), fontsize=viz.NORMAL, color=viz.INK)
    for ax in axes.ravel():
        ax.set_axis_off()
    found = {k: spread([r[f"{k}, removal"] for r in result.rows]) for k in names[:3]}
    alt = f"{len(images)} images, each with four maps of its patches; each map has a scale of its own. Rank correlation with "
    alt += f"importance by removal: {', '.join(f'{k} {v}' for k, v in found.items())}."
    return fig, alt
