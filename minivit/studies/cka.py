"""Do two layers hold the same picture of the same images? Centred kernel alignment of ViT and ResNet (Raghu et al. 2021).

With K = XXᵀ and L = YYᵀ over m images, CKA = HSIC(K, L) / √(HSIC(K, K) · HSIC(L, L)), with the unbiased HSIC of Song et
al. 2007 (`debiased`) summed over minibatches before the division (Nguyen et al. 2021). It does not change when X is rotated
or scaled as a whole; it does when its directions are scaled apart.
"""

import re
from typing import TYPE_CHECKING, Any

import numpy as np

import minivit as mv
from minivit.engine.errors import ConfigError, ShapeError
from minivit.nn.module import Module, evaluating, tapped
from minivit.studies import subjects
from minivit.studies.report import DEPENDS, NOT_HERE, REPRODUCED, Config, Result, answer, column, spread, steady

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FINDING = "A ViT's layers resemble each other from bottom to top; a ResNet's fall into stages that do not."
PAPER = (
    "as reported: uniform, grid-like heat-maps for ViTs against block stages for ResNets (Raghu et al. 2021, figure 1)"
)
SCALES: dict[str, dict[str, Any]] = {  # widths for about the ViT's size: 44,226 parameters to 58,570; 98,900 to 140,104
    "quick": {"data": "digits", "seeds": (0, 1, 2), "images": 256, "resnet": "resnet_digits", "width": 8,
              "vit_options": {"epochs": 20}, "resnet_options": {"epochs": 8}},
    "standard": {"data": "shapes", "seeds": (0, 1, 2), "images": 512, "resnet": "resnet_32", "width": 12,
                 "vit_options": {}, "resnet_options": {"epochs": 5}},
    "full": {"data": "shapes", "seeds": (0, 1, 2), "images": 1024, "resnet": "resnet_32", "width": 12,
             "vit_options": {"epochs": 60}, "resnet_options": {"epochs": 20}},
}  # fmt: skip
BATCH = 128  # images whose pairs are compared at once; the unbiased HSIC lets the batches be averaged
EFFECT = 0.05  # of CKA: the least by which the ViT's low and high layers must be more alike than the ResNet's


# ---------------------------------------------------------------- the measures


def gram(x: np.ndarray) -> np.ndarray:
    """Every image's activation times every other's: (m, …) -> (m, m), in float64."""
    flat = np.asarray(x, dtype=np.float64).reshape(len(x), -1)
    return flat @ flat.T


def centred(k: np.ndarray) -> np.ndarray:
    """A Gram matrix with the mean of the images taken out: HKH, H = I − 1/m."""
    return k - k.mean(axis=0) - k.mean(axis=1, keepdims=True) + k.mean()


def centred_unbiased(k: np.ndarray) -> np.ndarray:
    """The same without the diagonal, so that products of two such matrices are unbiased (m ≥ 4). Raises `ShapeError`.

    In this form, rather than by the three terms of the definition, small differences of large numbers do not arise.
    """
    m = len(k)
    if m < 4:
        raise ShapeError(f"unbiased HSIC needs at least 4 images, got {m}")
    k = k * (1 - np.eye(m))
    means = k.sum(axis=0) / (m - 2)
    means -= means.sum() / (2 * (m - 1))
    return (k - means - means[:, None]) * (1 - np.eye(m))


def hsic(k: np.ndarray, other: np.ndarray, debiased: bool = True) -> float:
    """How much two Gram matrices (m, m) vary together: HSIC₁ (`debiased`, may be negative) or HSIC₀."""
    m = len(k)
    if debiased:
        return float((centred_unbiased(k) * centred_unbiased(other)).sum() / (m * (m - 3)))
    return float((centred(k) * centred(other)).sum() / (m - 1) ** 2)


def cka(x: np.ndarray, y: np.ndarray, debiased: bool = True) -> float:
    """Of two sets of activations (m, …) of the same m images: 1 where one is a rotated and scaled copy of the other."""
    k, other = gram(x), gram(y)
    return hsic(k, other, debiased) / (hsic(k, k, debiased) * hsic(other, other, debiased)) ** 0.5


def layers(model: Module, image: np.ndarray) -> list[str]:
    """The layers to compare, in the order in which one image (1, H, W, C) passes them.

    In a model with blocks: both norms, the mixing, the MLP and the sum that leaves each block. In others: every
    convolution, norm and ReLU. What is no sequence of these, every module but the head.
    """
    seen: list[str] = []
    with evaluating(model), mv.no_grad(), tapped(lambda name, make: seen.append(name)):
        model(image)
    modules = {name for name, _ in model.named_modules()}
    blocks = [n for n in seen if re.fullmatch(r"blocks\.\d+(\.(norm1|attn|mix|mlp_tokens|norm2|mlp|mlp_channels))?", n)]
    convolutions = [n for n in seen if re.fullmatch(r"(.+\.)?(conv|norm|act|convs\.|norms\.|downsample)\d*", n)]
    whole = [n for n in seen if re.fullmatch(r"layers\.\d+", n)]
    if not blocks and convolutions:
        return [n for n in seen if n in {*convolutions, *whole}]
    return blocks or [n for n in seen if n in modules and n and n.rpartition(".")[2] != "head"]


def vectors(model: Module, images: np.ndarray, names: list[str], batch: int = BATCH) -> np.ndarray:
    """Each layer's unbiased centred Gram matrices, batch after batch, as one row: (layers, batches · batch²).

    The product of two rows is then the sum of the batches' HSIC₁, but for a factor that CKA cancels. Images that do not
    fill a batch are left out. Raises `ConfigError` where none is full, or where there is no layer.
    """
    if not names:
        raise ConfigError(f"a {type(model).__name__} has no layers to compare but its head")
    count = len(images) // batch
    if not count:
        raise ConfigError(f"{len(images)} images do not fill a batch of {batch}")
    images = images[: count * batch]
    found = mv.trace(model, images, batch, keep=names, reduce=lambda name, a: centred_unbiased(gram(a))).features
    return np.stack([found[name].ravel() for name in names])


def similarity(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """CKA of each layer of one model with each of another, from their `vectors`: (a, n), (b, n) -> (a, b)."""
    lengths = [np.sqrt(np.maximum((v * v).sum(axis=1), 1e-300)) for v in (first, second)]
    return first @ second.T / np.outer(*lengths)


def low_high(table: np.ndarray) -> float:
    """The mean CKA between the lowest third of a model's layers and the highest third."""
    third = max(1, len(table) // 3)
    return float(table[:third, -third:].mean())


# ---------------------------------------------------------------- the study


def run(config: Config) -> Result:
    """ViT and ResNet, trained and untrained; or the models in `config.checkpoints`, each with its untrained twin."""
    scale = SCALES[config.scale]
    rows: list[dict[str, Any]] = []
    if config.checkpoints:
        models = subjects.opened(config)
        for i, model in enumerate(models):
            images = subjects.pictures(config, model, scale["images"])
            kind = f"{type(model).__name__} {i}"
            rows += _rows(0, {kind: (model, subjects.fresh(model), None)}, images)
        verdict, said = _of_checkpoints(rows)
    else:
        config = config.with_defaults(data=scale["data"], seeds=scale["seeds"])
        data = mv.data.load(config.data, data_dir=config.data_dir)
        for seed in config.seeds:
            pair = {}
            for kind, preset in (("ViT", "vit"), ("ResNet", scale["resnet"])):
                options = scale["vit_options" if kind == "ViT" else "resnet_options"]
                sizes = {"width": scale["width"]} if kind == "ResNet" else {}
                model = subjects.trained(config, preset, data, seed, sizes, **options)
                pair[kind] = model, subjects.untrained(preset, data, seed, **sizes), mv.evaluate(model, data.test)[1]
            images = subjects.prepare(data.test.images[: scale["images"]], pair["ViT"][0].meta)
            rows += _rows(seed, pair, images, maps=seed == config.seeds[0])
        verdict, said = judge(rows)
    return answer(config, finding=FINDING, paper=PAPER, rows=rows, verdict=verdict, said=said)


def _rows(seed: int, models: dict[str, tuple], images: np.ndarray, maps: bool = True) -> list[dict[str, Any]]:
    """A row for each model and state, with its map where asked; and one for the trained pair across."""
    made, seen = [], {}
    batch = min(BATCH, len(images))
    for kind, (model, before, accuracy) in models.items():
        names = layers(model, images[:1])
        for state, subject in (("trained", model), ("untrained", before)):
            found = vectors(subject, images, names, batch)
            table = similarity(found, found)
            row = {"seed": seed, "model": kind, "state": state, "accuracy": accuracy if state == "trained" else None}
            row |= {"low_high": low_high(table), "mean": float(table[np.triu_indices(len(table), 1)].mean())}
            made.append(row | ({"layers": names, "map": np.round(table, 4)} if maps else {}))
            if state == "trained":
                seen[kind] = found
    if len(seen) == 2:
        table = similarity(*seen.values())
        row = {
            "seed": seed,
            "model": " × ".join(seen),
            "state": "trained",
            "accuracy": None,
            "low_high": low_high(table),
        }
        made.append(row | {"mean": float(table.mean())} | ({"map": np.round(table, 4)} if maps else {}))
    return made


def judge(rows: list[dict]) -> tuple[str, str]:
    """Reproduced where, in every seed, the trained ViT's low and high layers are more alike than the trained ResNet's.

    The untrained values stand beside and are not subtracted: training lowers the ViT's, so a difference would turn the
    finding round. That they are high already says that much of it is the architecture, not what was learned.
    """
    kinds = ("ViT", "ResNet")
    vit, resnet = (column(rows, "low_high", model=kind, state="trained") for kind in kinds)
    before = [column(rows, "low_high", model=kind, state="untrained") for kind in kinds]
    accuracy = [column(rows, "accuracy", model=kind, state="trained") for kind in kinds]
    said = (
        f"CKA of the lowest with the highest third of the layers: ViT {spread(vit)}, ResNet {spread(resnet)}; untrained "
        f"{spread(before[0])} and {spread(before[1])}, so training {_moved(vit, before[0])} the ViT's and "
        f"{_moved(resnet, before[1])} the ResNet's. Test accuracy {spread(100 * np.array(accuracy[0]), 1)} and "
        f"{spread(100 * np.array(accuracy[1]), 1)} %."
    )
    return (REPRODUCED if steady(vit, resnet, EFFECT) else NOT_HERE), said


def _moved(after: list[float], before: list[float]) -> str:
    return "raised" if np.mean(after) > np.mean(before) else "lowered"


def _of_checkpoints(rows: list[dict]) -> tuple[str, str]:
    trained = [r for r in rows if r["state"] == "trained"]
    before = [r for r in rows if r["state"] == "untrained"]
    words = [
        f"{a['model']} {a['low_high']:.2f} (untrained {b['low_high']:.2f})"
        for a, b in zip(trained, before, strict=True)
    ]
    said = f"CKA of the lowest with the highest third of the layers: {', '.join(words)}."
    if len(trained) < 2:
        return DEPENDS + "a second model to compare with; give two to --checkpoint, the ViT first", said
    gap = trained[0]["low_high"] - trained[1]["low_high"]
    return (REPRODUCED if gap >= EFFECT else NOT_HERE), said


def plot(result: Result) -> tuple["Figure", str]:
    """Each model's heat-map of layers, trained above untrained; and the trained pair across."""
    from minivit import viz

    rows = [r for r in result.rows if r.get("map")]
    own = [r for r in rows if "×" not in r["model"]]
    kinds = list(dict.fromkeys(r["model"] for r in own))
    across = [r for r in rows if "×" in r["model"]]
    fig = viz.figure(3.4 * (len(kinds) + len(across)) + 1, 6.8, "Which layers are alike (CKA; 1: alike, 0: unrelated)")
    axes = fig.subplots(2, len(kinds) + len(across), squeeze=False)
    for ax in axes.ravel():
        ax.set_axis_off()
    for i, state in enumerate(("trained", "untrained")):
        for row in (r for r in rows if r["state"] == state):
            ax = axes[i, kinds.index(row["model"]) if row in own else -1]
            ax.set_axis_on()
            image = ax.imshow(row["map"], cmap="cividis", vmin=0, vmax=1, origin="lower", aspect="auto")
            ax.set_title(f"{row['model']}, {state}\nlow–high {row['low_high']:.2f}", fontsize=viz.NORMAL, color=viz.INK)
            first, _, second = row["model"].partition(" × ")
            viz.label(ax, f"layer of the {second or first}", f"layer of the {first}")
            ax.grid(False)
            for axis in (ax.xaxis, ax.yaxis):
                axis.get_major_locator().set_params(integer=True)
    fig.colorbar(image, ax=axes, shrink=0.6).ax.tick_params(labelsize=viz.NORMAL, colors=viz.INK)
    words = [f"{r['model']} {r['state']} {r['low_high']:.2f}" for r in own]
    alt = f"{len(rows)} heat-maps of CKA between layers, low ones at the bottom left. Lowest with highest third: "
    alt += f"{', '.join(words)}."
    return fig, alt
