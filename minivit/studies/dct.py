"""DCT energy: in which frequencies the least change lies that makes a model err (Paul and Chen 2022).

Measures: the orthonormal DCT of images, the energy of a change by frequency, and its share in each band.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from minivit.engine.errors import DataError
from minivit.studies import charts
from minivit.studies.adversarial import deepfool
from minivit.studies.report import DEPENDS, NOT_HERE, REPRODUCED, Config, Result, column, spread, steady
from minivit.studies.robust import ALONE, MATCHED, conclude, defaults, logits, subjects

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FINDING = "The least change that fools a ViT spreads its energy over more frequencies than the one that fools a CNN."
PAPER = (
    "as reported: a figure without numbers (Paul and Chen 2022); in the published notebook the ResNet-50's panel was "
    "computed with the ViT by mistake, and its DCT is not normalised"
)
IMAGES = {"quick": 60, "standard": 200, "full": 500}
STEPS = {"quick": 20, "standard": 50, "full": 50}
BANDS = 4
LEAST = 0.02  # of all coefficients


def dct_matrix(n: int) -> np.ndarray:
    """The orthonormal DCT-II: row k holds √(2/n) cos(π(2x + 1)k / 2n), row 0 divided by √2; float64 (n, n), CCᵀ = I."""
    k, x = np.indices((n, n))
    return np.cos(np.pi * (2 * x + 1) * k / (2 * n)) * np.where(k == 0, 1, 2**0.5) / n**0.5


def dct2(images: np.ndarray) -> np.ndarray:
    """The 2-D DCT of every channel, float64 (n, H, W, C); its squares sum to the images' squares (Parseval)."""
    down, across = dct_matrix(images.shape[1]), dct_matrix(images.shape[2])
    return np.einsum("ih,nhwc,jw->nijc", down, images.astype(float), across, optimize=True)


def energy(changes: np.ndarray) -> np.ndarray:
    """The squared coefficients, summed over channels, averaged over images: (n, H, W, C) -> (H, W), frequency 0 first."""
    return (dct2(changes) ** 2).sum(axis=-1).mean(axis=0)


def decibels(found: np.ndarray) -> np.ndarray:
    """10 log₁₀ of energies; −∞ where there is none."""
    with np.errstate(divide="ignore"):
        return 10 * np.log10(found)


def by_band(found: np.ndarray, bands: int = 4) -> np.ndarray:
    """How much of the energy (H, W) lies in bands of equal width, from low to high: (bands,), summing to 1.

    A coefficient (i, j) is in the band of max(i / H, j / W): squares round the corner of frequency 0.
    """
    i, j = np.indices(found.shape)
    band = (np.maximum(i / found.shape[0], j / found.shape[1]) * bands).astype(int)
    return np.bincount(band.ravel(), found.ravel(), minlength=bands) / found.sum()


def even_shares(h: int, w: int, bands: int = 4) -> np.ndarray:
    """What `by_band` gives for white noise: the share of all coefficients that lies in each band."""
    return by_band(np.ones((h, w)), bands)


def evenness(found: np.ndarray) -> float:
    """Over how many of the coefficients the energy is spread: exp(entropy of the shares) / number, from 1/(H·W) to 1."""
    if not found.sum() > 0:
        return float("nan")
    shares = found[found > 0] / found.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()) / found.size)


# --- the study --------------------------------------------------------------------------------------------------------


def run(config: Config) -> Result:
    """The energy of DeepFool's changes by frequency, as the paper measures it, with an orthonormal DCT.

    Raises `DataError` where DeepFool fooled a model with no image.
    """
    config = defaults(config)
    rows = []
    for subject in subjects(config, ("vit", "cnn", MATCHED, "linear")):
        few = subject.first(IMAGES[config.scale])
        changes = deepfool(few.model, few.pixels, STEPS[config.scale])
        fooled = logits(few.model, few.pixels + changes).argmax(axis=1) != logits(few.model, few.pixels).argmax(axis=1)
        if not fooled.any():
            raise DataError(
                f"dct: in {STEPS[config.scale]} steps no image of {few.name} found its way across a boundary"
            )
        found = energy(changes[fooled])
        length = np.median(np.sqrt((changes[fooled] ** 2).sum(axis=(1, 2, 3))))
        row = {"model": few.name, "seed": few.seed, "clean": few.clean, "fooled": fooled.mean(), "length": length}
        row |= {"evenness": evenness(found), "bands": by_band(found, BANDS), "decibels": decibels(found)}
        rows.append(row | {"white noise": even_shares(*found.shape, BANDS)})
    return conclude(config, rows, judge, FINDING, PAPER)


def judge(rows: Sequence[dict]) -> tuple[str, str]:
    """Reproduced where the energy of the ViT's change is spread over more coefficients than that of both CNNs.

    In every seed, and by `LEAST` of all coefficients on the mean. Where only one of the CNNs concentrates its change
    more, the verdict depends on how long the CNN was trained.
    """
    models = list(dict.fromkeys(column(rows, "model")))
    even = {m: column(rows, "evenness", model=m) for m in models}
    high = {m: [bands[-1] for bands in column(rows, "bands", model=m)] for m in models}
    long = {m: column(rows, "length", model=m) for m in models}
    each = (f"{m} {spread(even[m])} ({spread(high[m])} in the highest band, length {spread(long[m])})" for m in models)
    said = f"Share of coefficients that the energy is spread over: {'; '.join(each)}."
    if "cnn" not in models:
        return DEPENDS + ALONE, said
    won = [m for m in ("cnn", MATCHED) if steady(even["vit"], even[m], LEAST)]
    return (REPRODUCED if len(won) == 2 else DEPENDS + "how long the CNN was trained" if won else NOT_HERE), said


def plot(result: Result) -> tuple["Figure", str]:
    """The energy of the least change in decibels for each model, its mean over seeds; frequency 0 in the corner."""
    models = list(dict.fromkeys(column(result.rows, "model")))
    maps = {m: np.mean([np.array(d, float) for d in column(result.rows, "decibels", model=m)], axis=0) for m in models}
    low, high = min(np.nanmin(a) for a in maps.values()), max(np.nanmax(a) for a in maps.values())
    fig, axes = charts.panels(1, len(models), 3.0, 2.9, f"Where the least fooling change lies: {result.verdict}")
    for ax, model in zip(axes[0], models, strict=True):
        shown = charts.picture(ax, maps[model], model, low, high)
        charts.name(ax, "half cycles across", "half cycles down")
    fig.colorbar(shown, ax=list(axes[0]), shrink=0.8, label="energy (dB)")
    even = ", ".join(f"{m} {np.mean(column(result.rows, 'evenness', model=m)):.2f}" for m in models)
    alt = (
        f"{len(models)} maps of energy in decibels by DCT frequency, {low:.0f} to {high:.0f} dB, frequency 0 top left. "
    )
    return fig, alt + f"Share of coefficients over which it is spread: {even}."
