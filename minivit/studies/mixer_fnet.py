"""Is attention needed? The ViT beside a Mixer, an FNet and a network that never mixes patches, all at one budget."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from minivit.engine import fused, ops
from minivit.engine.errors import DataError
from minivit.studies import charts, relatives
from minivit.studies.report import DEPENDS, NOT_HERE, REPRODUCED, Config, Result, column, paired, spread, steady
from minivit.studies.robust import SEEDS, conclude, contestants, loaded, retained
from minivit.training.infer import evaluate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FINDING = "Other ways to mix tokens come close to attention: a Mixer, and even a Fourier transform without a weight."
PAPER = (
    "as reported: FNet 92 to 97 % of BERT on GLUE, which is language (Lee-Thorp et al. 2021, abstract); Mixer-B/16 76.4 % on "
    "ImageNet alone (Tolstikhin et al. 2021)"
)
DATA = {
    "quick": ("digits",),
    "standard": ("digits", "fashion-mnist", "twin"),
    "full": ("digits", "fashion-mnist", "twin"),
}
MODELS = dict.fromkeys(SEEDS, ("vit", *relatives.RELATIVES)) | {"quick": ("vit", "mixer", "fnet", "no mixing")}
FNETS, CONTROL = ("fnet", "fnet, grid"), "no mixing"
TOKENS = (64, 256, 1024)
SHARE = 0.8  # of the ViT's accuracy above chance, that a relative must reach
LEAST = 0.02  # of accuracy above chance, that mixing must be worth


def run(config: Config) -> Result:
    """Test accuracy of each on each data set: equal data, steps, recipe and number of parameters."""
    config.refuse("checkpoints")
    config = config.with_defaults(seeds=SEEDS[config.scale])
    rows = []
    for name in (config.data,) if config.data else DATA[config.scale]:
        try:
            data = loaded(config.with_defaults(data=name))
        except DataError as error:
            if config.data:
                raise
            rows.append({"data": name, "model": None, "missing": str(error)})
            continue
        for seed in config.seeds:
            for model, trained in contestants(config, data, seed, MODELS[config.scale]).items():
                row = {"data": name, "model": model, "seed": seed, "parameters": trained.num_parameters()}
                accuracy, chance = evaluate(trained, data.test)[1], 1 / data.num_classes
                few = data.test[:1000]
                seconds = min(_timed(lambda: evaluate(trained, few)) for _ in range(3)) * 1000 / len(few)  # noqa: B023
                rows.append(row | {"accuracy": accuracy, "chance": chance, "seconds for a thousand": seconds})
    rows += [{"data": None, "model": None, "tokens": t, **mixing_seconds(t)} for t in TOKENS]
    return conclude(config, rows, judge, FINDING, PAPER)


def mixing_seconds(tokens: int, dim: int = 64, heads: int = 4, repeats: int = 3) -> dict[str, float]:
    """Seconds in which attention's core and the Fourier transform mix one image's tokens, on this machine, the best of several.

    Without the matrices around them: softmax(qkᵀ/√d)v takes O(T²D), the transform O(TD log TD).
    """
    x = np.random.default_rng(0).standard_normal((1, tokens, dim)).astype(np.float32)
    qkv = np.concatenate([x, x, x], axis=2)
    calls = {"attention": lambda: fused.self_attention(qkv, num_heads=heads), "fourier": lambda: ops.fft2_real(x)}
    found = {}
    for name, call in calls.items():
        call()
        found[name] = min(_timed(call) for _ in range(repeats))
    return found


def shares(rows: Sequence[dict], data: str) -> dict[str, list[float]]:
    """Each model's accuracy above chance on one data set, as a share of the ViT's of the same seed."""
    chosen = [row for row in rows if row["data"] == data and row["model"]]
    vit = column(chosen, "accuracy", model="vit")
    return {
        m: [retained(a, v, chosen[0]["chance"]) for a, v in zip(column(chosen, "accuracy", model=m), vit, strict=True)]
        for m in dict.fromkeys(column(chosen, "model"))
    }


def judge(rows: Sequence[dict]) -> tuple[str, str]:
    """Reproduced where on every data set a Mixer and an FNet reach `SHARE` of the ViT and mixing is worth something.

    That is: in every seed the Mixer and the better of the two FNets reach 80 % of the ViT's accuracy above chance, and that
    FNet is ahead of the network that mixes nothing, by `LEAST` on the mean. Where it holds on some data sets, the verdict
    names them. A data set on which a ViT gains less than ten points by mixing at all says little of attention: that is
    added.
    """
    won, parts, flat = [], [], []
    names = list(dict.fromkeys(row["data"] for row in rows if row["model"]))
    for data in names:
        found = shares(rows, data)
        fnet = np.max([found[m] for m in FNETS if m in found], axis=0).tolist()
        near = min(*found["mixer"], *fnet) >= SHARE
        if near and steady(fnet, found[CONTROL], LEAST):
            won.append(data)
        accuracy = {m: column(rows, "accuracy", data=data, model=m) for m in found}
        if paired(accuracy["vit"], accuracy[CONTROL])[0] < 0.1:
            flat.append(data)
        parts.append(f"{data}: {', '.join(f'{m} {spread([100 * a for a in v], 1)}' for m, v in accuracy.items())}")
    said = f"Test accuracy in % ({'; '.join(parts)})."
    said += f" On {' and '.join(flat)} a ViT gains less than ten points by mixing at all." if flat else ""
    missing = [row["data"] for row in rows if "missing" in row]
    said += f" Left out, as its files are not here: {', '.join(missing)}." if missing else ""
    faster = [row["tokens"] for row in rows if "tokens" in row and row["fourier"] < row["attention"]]
    said += (
        f" On this machine the Fourier transform mixes faster than attention from {min(faster)} tokens on."
        if faster
        else ""
    )
    if won and len(won) == len(names):
        return REPRODUCED, said
    return (DEPENDS + f"the task: so on {' and '.join(won)}" if won else NOT_HERE), said


def plot(result: Result) -> tuple["Figure", str]:
    """Accuracy above chance as a share of the ViT's, and the accuracies themselves."""
    rows = [row for row in result.rows if row["model"]]
    names, models = (list(dict.fromkeys(row[key] for row in rows)) for key in ("data", "model"))
    fig, axes = charts.panels(1, len(names), 3.6, 3.4, f"Other mixings at the ViT's budget: {result.verdict}")
    parts = []
    for ax, data in zip(axes[0], names, strict=True):
        by_model = {m: [[100 * a] for a in column(rows, "accuracy", data=data, model=m)] for m in models}
        charts.bars(ax, [data], by_model)
        chance = 100 * column(rows, "chance", data=data)[0]
        ax.axhline(chance, color=charts.INK, lw=1, ls=":")
        ax.annotate("chance", (0.01, chance), xycoords=("axes fraction", "data"), fontsize=charts.SMALL, va="bottom")
        ax.set_ylim(0, 100)
        charts.name(ax, "", "test accuracy (%)")
        parts.append(f"{data}: {', '.join(f'{m} {np.mean(v):.1f}' for m, v in by_model.items())}, chance {chance:.0f}")
    charts.legend(fig, axes[0, 0])
    return fig, f"Bar charts of test accuracy in percent. {'; '.join(parts)}."


def _timed(call: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun
