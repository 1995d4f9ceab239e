"""Adversarial pixels: the least that must change for a wrong answer, found by following the model's own gradient.

Measures: PGD and its one-step case FGSM, DeepFool, signs that a gradient hides more than it shows, and hard sets.
"""

import numpy as np

from minivit.engine import backend as backends
from minivit.engine.errors import ConfigError
from minivit.engine.fused import cross_entropy
from minivit.engine.tensor import Tensor, gradients
from minivit.nn.module import Module
from minivit.studies.robust import logits, statistics

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
    sign of the gradient, each brought back into the ball; with `rng` it starts at a random place in it.
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


def _loss_gradient(model: Module, pixels: np.ndarray, labels: np.ndarray) -> np.ndarray:
    x, said = _forward(model, pixels)
    loss = cross_entropy(said, labels) * float(len(pixels))  # the sum: no image's gradient depends on the batch
    return backends.to_numpy(gradients(loss)[id(x)][1])


def _forward(model: Module, pixels: np.ndarray) -> tuple[Tensor, Tensor]:
    """Pixels as a leaf of the tape, and the logits of their standardised values."""
    mean, std = statistics(model)
    x = Tensor(model.as_input(pixels).data, requires_grad=True)
    xp = backends.backend_of(x.data)
    mode = model.training
    model.eval()
    try:
        said = model((x - xp.from_host(mean, x.dtype)) / xp.from_host(std, x.dtype))
    finally:
        model.train(mode)
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
