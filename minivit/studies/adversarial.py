"""Adversarial pixels: the least that must change for a wrong answer, found by following the model's own gradient.

Measures: PGD and its one-step case FGSM, DeepFool, signs that a gradient hides more than it shows, and hard sets.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from minivit.engine import backend as backends
from minivit.engine.errors import ConfigError
from minivit.engine.fused import cross_entropy
from minivit.engine.tensor import Tensor, gradients
from minivit.nn.module import Module, evaluating
from minivit.studies import charts
from minivit.studies.report import DEPENDS, NOT_HERE, REPRODUCED, Config, Result, column, spread, steady, table
from minivit.studies.robust import ALONE, MATCHED, Subject, area, conclude, defaults, logits, shown, subjects
from minivit.studies.subjects import preparation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FINDING = (
    "A ViT withstands small adversarial changes better than a CNN, and natural images that other models get wrong."
)
PAPER = (
    "as reported: ViT-L/16 28.1 % on ImageNet-A, 4.3 times a comparable CNN (Paul and Chen 2022, abstract); under one recipe "
    "for both, CNNs match ViTs on adversarial robustness (Bai et al. 2021)"
)
IMAGES = {"quick": 60, "standard": 200, "full": 500}
STEPS = {"quick": 5, "standard": 10, "full": 20}
RADII = (0.0, 1 / 255, 2 / 255, 4 / 255, 8 / 255, 16 / 255)
LEAST = 0.02  # of ρ, averaged over the radii
BATCH = 100  # images at a time: their graph is what needs memory


def loss_gradient(model: Module, pixels: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """∂ cross-entropy of each image / ∂ its pixels, which are in [0, 1]: (n, H, W, C), labels (n,) -> (n, H, W, C)."""
    parts = [slice(a, a + BATCH) for a in range(0, len(pixels), BATCH)]
    return np.concatenate([_loss_gradient(model, pixels[part], labels[part]) for part in parts])


def pgd(
    model: Module,
    pixels: np.ndarray,
    labels: np.ndarray,
    radius: float,
    steps: int = 10,
    step_size: float | None = None,
    rng: np.random.Generator | None = None,
) -> np.ndarray:
    """Projected gradient ascent on the loss (Madry et al. 2018): images no pixel of which moved by more than `radius`.

    `pixels` (n, H, W, C) in [0, 1], and so is the result. Steps of `step_size` (by default 2.5 · radius / steps) along the
    sign of the gradient, each brought back into the ball; with `rng` it starts at a random place in it. Raises
    `ConfigError` for a negative radius or no steps.
    """
    if radius < 0 or steps < 1:
        raise ConfigError(f"pgd: radius {radius} must not be negative, and steps {steps} at least 1")
    size = 2.5 * radius / steps if step_size is None else step_size
    low, high = (np.clip(pixels + d, 0, 1).astype(pixels.dtype) for d in (-radius, radius))
    x = pixels if rng is None else np.clip(pixels + rng.uniform(-radius, radius, pixels.shape), low, high)
    for _ in range(steps):
        slope = loss_gradient(model, x.astype(pixels.dtype), labels)
        x = np.clip(x + size * np.sign(slope), low, high)
    return x.astype(pixels.dtype)


def fgsm(model: Module, pixels: np.ndarray, labels: np.ndarray, radius: float) -> np.ndarray:
    """clip(x + radius · sign(∂ loss / ∂ x)) (Goodfellow et al. 2015): PGD in one step over the whole radius."""
    return pgd(model, pixels, labels, radius, steps=1, step_size=radius)


def deepfool(model: Module, pixels: np.ndarray, steps: int = 50, overshoot: float = 0.02) -> np.ndarray:
    """The change that takes each image across the nearest boundary of its class (Moosavi-Dezfooli et al. 2016).

    (n, H, W, C) -> (n, H, W, C), by ℓ₂ length and in units of [0, 1]; not clipped. Each step treats the logits as linear,
    which makes it exact for a linear model. All K logits are differentiated, so K backward passes a step.
    """
    return np.concatenate(
        [_deepfool(model, pixels[a : a + BATCH], steps, overshoot) for a in range(0, len(pixels), BATCH)]
    )


def masking(
    model: Module,
    pixels: np.ndarray,
    labels: np.ndarray,
    radius: float,
    others: list[np.ndarray] | None = None,
    steps: int = 10,
    seed: int = 0,
) -> dict[str, float]:
    """Accuracies that tell a sturdy model from one that hides its gradient (Athalye et al. 2018).

    `clean`, `random` (signs of noise of size `radius`), `fgsm`, `pgd`, `longer` (four times the steps), `wide` (PGD with
    radius ½, which could turn any image grey), `transfer` (the worst of `others`, images made against other models), and
    `dead`, the share of images whose gradient is exactly 0.
    """
    rng = np.random.default_rng(seed)

    def accuracy(changed: np.ndarray) -> float:
        return float((logits(model, changed).argmax(axis=1) == labels).mean())

    noise = np.clip(pixels + radius * rng.choice([-1, 1], pixels.shape), 0, 1).astype(pixels.dtype)
    slope = loss_gradient(model, pixels, labels)
    return {
        "clean": accuracy(pixels),
        "random": accuracy(noise),
        "fgsm": accuracy(fgsm(model, pixels, labels, radius)),
        "pgd": accuracy(pgd(model, pixels, labels, radius, steps, rng=rng)),
        "longer": accuracy(pgd(model, pixels, labels, radius, 4 * steps, rng=rng)),
        "wide": accuracy(pgd(model, pixels, labels, 0.5, 2 * steps, rng=rng)),
        "transfer": min(map(accuracy, others)) if others else float("nan"),
        "dead": float((np.abs(slope).max(axis=(1, 2, 3)) == 0).mean()),
    }


def suspicions(found: dict[str, float], chance: float, slack: float = 0.02) -> list[str]:
    """What in the numbers of `masking` speaks for a hidden gradient; an empty list is no proof that it is not.

    `slack` is how much an accuracy may be off by luck.
    """
    signs = {
        "noise does as much harm as the gradient": found["pgd"] > found["random"] + slack,
        "one step does more harm than many": found["pgd"] > found["fgsm"] + slack,
        "images made against another model do more harm": found["pgd"] > found["transfer"] + slack,
        "a radius of ½ leaves right answers": found["wide"] > chance + slack,
        "many images have no gradient at all": found["dead"] > slack,
    }
    return [text for text, seen in signs.items() if seen]


def hard_set(judges: list[np.ndarray], labels: np.ndarray) -> np.ndarray:
    """The images that every judge gets wrong: logits (n, K) of each, labels (n,) -> int indices.

    As ImageNet-A was made (Hendrycks et al. 2021): a set filtered by one kind of model is hard for that kind.
    """
    wrong = [said.argmax(axis=1) != labels for said in judges]
    return np.flatnonzero(np.logical_and.reduce(wrong))


# --- the study --------------------------------------------------------------------------------------------------------


def run(config: Config) -> Result:
    """PGD by radius, signs of hidden gradients at the middle radius, and hard sets filtered by each kind of model."""
    config = defaults(config)
    found = subjects(config, ("vit", "cnn", MATCHED, "linear"))
    few, steps = [subject.first(IMAGES[config.scale]) for subject in found], STEPS[config.scale]
    rows = [row for subject in few for row in _by_radius(subject, steps)]
    made = [pgd(s.model, s.pixels, s.labels, RADII[3], steps) for s in few]
    rows += [_checked(subject, few, made, steps) for subject in few]
    rows += _hard(found)
    return conclude(config, rows, judge, FINDING, PAPER, found)


def _by_radius(subject: Subject, steps: int) -> list[dict]:
    rows = []
    for radius in RADII:
        rng = np.random.default_rng(0)
        kept = (
            subject.accuracy(pgd(subject.model, subject.pixels, subject.labels, radius, steps, rng=rng))
            if radius
            else subject.clean
        )
        row = {"part": "pgd", "model": subject.name, "seed": subject.seed, "radius": radius, "accuracy": kept}
        rows.append(row | {"retained": subject.scaled(kept)})
    return rows


def _checked(subject: Subject, everyone: Sequence[Subject], made: Sequence[np.ndarray], steps: int) -> dict:
    """The signs of a hidden gradient; `made` are everyone's images, of which those of the same seed and images count."""
    others = [
        images
        for other, images in zip(everyone, made, strict=True)
        if other.seed == subject.seed and other.name != subject.name and np.array_equal(other.pixels, subject.pixels)
    ]
    found = masking(subject.model, subject.pixels, subject.labels, RADII[3], others, steps)
    told = suspicions(found, subject.chance, slack=1 / len(subject.pixels) ** 0.5)  # two standard errors of an accuracy
    return {"part": "masking", "model": subject.name, "seed": subject.seed, **found, "suspicions": told}


def _hard(everyone: Sequence[Subject]) -> list[dict]:
    """Each kind's accuracy on the images that another kind gets wrong in every seed but the one that is asked.

    Two seeds or more are needed: what a model is asked must not have been chosen by its own errors.
    """
    by_name: dict[str, list[Subject]] = {}
    for subject in everyone:
        by_name.setdefault(subject.name, []).append(subject)
    rows = []
    for judge_name, judges in by_name.items():
        for subject in everyone:
            asked = [j for j in judges if j.seed != subject.seed and np.array_equal(j.pixels, subject.pixels)]
            if not asked:
                continue
            chosen = hard_set([logits(j.model, j.pixels) for j in asked], subject.labels)
            right = (
                (logits(subject.model, subject.pixels[chosen]).argmax(axis=1) == subject.labels[chosen])
                if len(chosen)
                else []
            )
            row = {"part": "hard set", "judge": judge_name, "model": subject.name, "seed": subject.seed}
            rows.append(
                row | {"images": len(chosen), "accuracy": float(np.mean(right)) if len(chosen) else float("nan")}
            )
    return rows


def judge(rows: Sequence[dict]) -> tuple[str, str]:
    """Reproduced where the ViT keeps more under PGD than both CNNs, in every seed and by `LEAST` on the mean over radii.

    Where it keeps more than one of them, the verdict depends on the CNN's clean accuracy. Where a ViT or CNN shows signs
    of a hidden gradient, on the attack: then PGD has not found what there is. Hard sets are reported beside, not judged:
    a set filtered by one kind of model is hard for that kind.
    """
    attacked = [row for row in rows if row["part"] == "pgd"]
    kept = {m: [area(RADII, v) for v in values] for m, values in table(attacked, "retained", "radius").items()}
    told = {row["model"]: row["suspicions"] for row in rows if row["part"] == "masking" and row["suspicions"]}
    each = ", ".join(f"{m} {shown(v)}" for m, v in kept.items())
    said = f"Mean retained share over radii to {RADII[-1] * 255:.0f}/255: {each}"
    said += f"; signs of a hidden gradient in {', '.join(told)}" if told else "; no sign of a hidden gradient"
    hard = [
        row
        for row in rows
        if row["part"] == "hard set" and row["images"] and {row["judge"], row["model"]} == {"vit", "cnn"}
    ]
    for other, model in (("cnn", "vit"), ("vit", "cnn")):
        found = column(hard, "accuracy", judge=other, model=model)
        said += (
            f"; on images that every other {other} gets wrong the {model} is right in {spread(found)}" if found else ""
        )
    if "cnn" not in kept:
        return DEPENDS + ALONE, said + "."
    if set(told) & {"vit", "cnn", MATCHED}:
        return DEPENDS + "the attack: a gradient may be hidden", said + "."
    won = [m for m in ("cnn", MATCHED) if steady(kept["vit"], kept[m], LEAST)]
    return (REPRODUCED if len(won) == 2 else DEPENDS + "the CNN's clean accuracy" if won else NOT_HERE), said + "."


def plot(result: Result) -> tuple["Figure", str]:
    """Retained share against the radius, and accuracy under each of the checks at one radius."""
    attacked = [row for row in result.rows if row["part"] == "pgd"]
    checked = [row for row in result.rows if row["part"] == "masking"]
    fig, axes = charts.panels(1, 2, 4.8, 3.4, f"Adversarial pixels: {result.verdict}")
    curves = table(attacked, "retained", "radius")
    charts.lines(axes[0, 0], [255 * r for r in RADII], curves)
    charts.name(axes[0, 0], "radius of the change (1/255)", "retained share", "PGD")
    kinds = ("clean", "random", "transfer", "fgsm", "pgd", "longer", "wide")
    values = {
        m: [[row[k] if row[k] is not None else np.nan for k in kinds] for row in checked if row["model"] == m]
        for m in curves
    }
    charts.bars(axes[0, 1], kinds, values)
    charts.name(axes[0, 1], f"attack, radius {RADII[3] * 255:.0f}/255 (wide: ½)", "accuracy", "is a gradient hidden?")
    charts.legend(fig, axes[0, 0])
    at = {m: np.mean([v[3] for v in by]) for m, by in curves.items()}
    each = ", ".join(f"{m} {shown([v])}" for m, v in at.items())
    alt = f"Left, retained share of accuracy under PGD against radius; at {RADII[3] * 255:.0f}/255: {each}. "
    pgds = ", ".join(
        f"{m} {np.mean([x[1] for x in v]):.2f} and {np.mean([x[4] for x in v]):.2f}" for m, v in values.items()
    )
    return fig, alt + f"Right, accuracy by kind of attack; random signs and PGD: {pgds}."


def _loss_gradient(model: Module, pixels: np.ndarray, labels: np.ndarray) -> np.ndarray:
    x, said = _forward(model, pixels)
    loss = cross_entropy(said, labels) * float(len(pixels))  # the sum: no image's gradient depends on the batch
    return backends.to_numpy(gradients(loss)[id(x)][1])


def _forward(model: Module, pixels: np.ndarray) -> tuple[Tensor, Tensor]:
    """Pixels as a leaf of the tape, and the logits of their standardised values."""
    mean, std = preparation(model)
    x = Tensor(model.as_input(pixels).data, requires_grad=True)
    xp = backends.backend_of(x.data)
    with evaluating(model):
        said = model((x - xp.from_host(mean, x.dtype)) / xp.from_host(std, x.dtype))
    return x, said


def _deepfool(model: Module, pixels: np.ndarray, steps: int, overshoot: float) -> np.ndarray:
    total = np.zeros(pixels.shape, pixels.dtype)
    active = np.arange(len(pixels))
    own = None  # each image's class at the start
    for _ in range(steps):
        x, said = _forward(model, pixels[active] + (1 + overshoot) * total[active])
        values = backends.to_numpy(said.data)
        own = values.argmax(axis=1) if own is None else own
        stays = values.argmax(axis=1) == own[active]
        if not stays.any():
            break
        slopes = np.stack([_slope(said, x, k) for k in range(values.shape[1])], axis=1)  # (n, K, H, W, C)
        rows, mine = np.arange(len(active)), own[active]
        gaps = values - values[rows, mine][:, None]  # (n, K), 0 for the class itself
        walls = slopes - slopes[rows, mine][:, None]
        lengths = np.sqrt((walls**2).sum(axis=(2, 3, 4)))
        distance = np.where(np.arange(values.shape[1]) == mine[:, None], np.inf, -gaps / np.maximum(lengths, 1e-12))
        to = distance.argmin(axis=1)
        # A little more than the distance, as the authors' code has it: a boundary is not yet the other side.
        move = ((distance[rows, to] + 1e-4) / np.maximum(lengths[rows, to], 1e-12))[:, None, None, None] * walls[
            rows, to
        ]
        total[active] += np.where(stays[:, None, None, None], move, 0)
        active = active[stays]
    return (1 + overshoot) * total


def _slope(said: Tensor, x: Tensor, k: int) -> np.ndarray:
    seed = np.zeros(said.shape, said.dtype)
    seed[:, k] = 1
    found = gradients(said, backends.backend_of(said.data).from_host(seed), retain_graph=True)
    return backends.to_numpy(found[id(x)][1])
