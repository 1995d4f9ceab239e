"""Corruptions: fifteen ways to harm an image, in five severities, for images from 8×8 to 224×224 pixels.

After Hendrycks and Dietterich (2019), written anew in NumPy; the strengths are near those of CIFAR-10-C at 32×32 pixels,
and lengths grow with larger images. This is not CIFAR-10-C: no mean over it may be called mCE. The measure of severity
is the mean squared change of the pixels; noise, masks and directions are drawn once for an image, so that a higher
severity is more of the same.
"""

import itertools
import zlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from minivit.engine.errors import ConfigError, did_you_mean
from minivit.studies import charts
from minivit.studies.dct import dct_matrix
from minivit.studies.report import DEPENDS, NOT_HERE, REPRODUCED, Config, Result, column, steady
from minivit.studies.robust import ALONE, MATCHED, conclude, defaults, shown, subjects
from minivit.training.augment import sample

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FINDING = "A ViT withstands common corruptions better than a CNN."
PAPER = (
    "as reported: ViT-L/16 has a lower mCE on ImageNet-C than the ResNets and BiT models beside it (Paul and Chen 2022); the "
    "ResNet-50 baseline has 76.7 (Hendrycks and Dietterich 2019). Pre-training sets and recipes differ"
)
LEAST = 0.02  # of ρ, averaged over a family and five severities

SEVERITIES = (1, 2, 3, 4, 5)
Corruption = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]

# Luminance table of the JPEG standard (ISO 10918-1, annex K): the steps to which an 8×8 block's coefficients are rounded.
JPEG_STEPS = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)


def corrupt(pixels: np.ndarray, name: str, severity: int, seed: int = 0) -> np.ndarray:
    """Harmed copies of images in [0, 1], float32 (n, H, W, C), the same for the same (images, name, seed).

    `severity` 1 to 5. Raises `ConfigError` for another name or severity.
    """
    if name not in FAMILY:
        raise ConfigError(f"unknown corruption {name!r}{did_you_mean(name, FAMILY)}; known are {', '.join(FAMILY)}")
    if severity not in SEVERITIES:
        raise ConfigError(f"corrupt: severity must be one of {', '.join(map(str, SEVERITIES))}, got {severity!r}")
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])  # no severity in it: see above
    harmed = CORRUPTIONS[FAMILY[name]][name](pixels.astype(float), severity - 1, rng)
    return harmed.clip(0, 1).astype(np.float32)


def change(pixels: np.ndarray, harmed: np.ndarray) -> float:
    """The measure of severity: the mean squared difference of the pixels."""
    return float(((pixels.astype(float) - harmed) ** 2).mean())


# --- noise ------------------------------------------------------------------------------------------------------------


def gaussian_noise(x: np.ndarray, s: int, rng: np.random.Generator) -> np.ndarray:
    """x + σz."""
    return x + (0.04, 0.06, 0.08, 0.09, 0.10)[s] * rng.standard_normal(x.shape)


def speckle_noise(x: np.ndarray, s: int, rng: np.random.Generator) -> np.ndarray:
    """x + xσz: more where it is bright."""
    return x + x * (0.06, 0.10, 0.12, 0.16, 0.20)[s] * rng.standard_normal(x.shape)


def shot_noise(x: np.ndarray, s: int, rng: np.random.Generator) -> np.ndarray:
    """What is left when each pixel counts few photons: Poisson(λx)/λ, its noise as a Gaussian of the same variance x/λ."""
    return x + np.sqrt(x / (500, 250, 100, 75, 50)[s]) * rng.standard_normal(x.shape)


def impulse_noise(x: np.ndarray, s: int, rng: np.random.Generator) -> np.ndarray:
    """Some values black, as many white."""
    share = (0.01, 0.02, 0.03, 0.05, 0.07)[s]
    hit, white = rng.random(x.shape) < share, rng.random(x.shape) < 0.5
    return np.where(hit, white, x)


# --- blur: one matrix for each axis, the edge pixels repeated outside ---------------------------------------------------


def gaussian_blur(x: np.ndarray, s: int, rng: np.random.Generator) -> np.ndarray:
    """Averages weighted by a bell curve."""
    sigma = (0.4, 0.6, 0.7, 0.8, 1.0)[s] * _unit(x)
    reach = int(np.ceil(4 * sigma))
    weights = {d: np.exp(-0.5 * (d / sigma) ** 2) for d in range(-reach, reach + 1)}
    return _along(x, lambda n: _banded(n, weights))


def motion_blur(x: np.ndarray, s: int, rng: np.random.Generator) -> np.ndarray:
    """The mean along a line, whose direction is drawn for each image."""
    length = (1.0, 1.5, 2.0, 2.6, 3.2)[s] * _unit(x)
    angle = rng.uniform(0, np.pi, len(x))
    places = np.linspace(-0.5, 0.5, int(np.ceil(length)) + 3)
    return sum(_moved(x, length * t * np.sin(angle), length * t * np.cos(angle)) for t in places) / len(places)


def zoom_blur(x: np.ndarray, s: int, rng: np.random.Generator) -> np.ndarray:
    """The mean of copies magnified more and more."""
    most = (0.06, 0.11, 0.16, 0.21, 0.26)[s]
    zooms = 1 + np.linspace(0, most, 6)
    return sum(_along(x, lambda n, z=z: _taken(n, (np.arange(n) - (n - 1) / 2) / z + (n - 1) / 2)) for z in zooms) / 6


# --- digital ----------------------------------------------------------------------------------------------------------


def contrast(x: np.ndarray, s: int, rng: np.random.Generator) -> np.ndarray:
    """Every pixel nearer to the image's mean."""
    mean = x.mean(axis=(1, 2), keepdims=True)
    return mean + (0.75, 0.5, 0.4, 0.3, 0.15)[s] * (x - mean)


def pixelate(x: np.ndarray, s: int, rng: np.random.Generator) -> np.ndarray:
    """Larger pixels: means over blocks 1¼ to 3 pixels wide."""
    parts = 4  # a block may end at a quarter of a pixel
    block = int(round(parts * (1.25, 1.5, 2.0, 2.5, 3.0)[s] * _unit(x)))

    def matrix(n: int) -> np.ndarray:
        fine = np.arange(n * parts)
        member = (fine // block)[:, None] == np.arange(-(-n * parts // block))
        means = member @ (member / member.sum(axis=0)).T  # of quarter pixels over their block
        return means.reshape(n, parts, n, parts).sum(axis=3).mean(axis=1)

    return _along(x, matrix)


def jpeg(x: np.ndarray, s: int, rng: np.random.Generator) -> np.ndarray:
    """Coefficients of 8×8 blocks rounded as JPEG does at quality 80 to 25, each channel alone and at full resolution."""
    quality = (80, 65, 50, 35, 25)[s]
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    steps = np.clip((JPEG_STEPS * scale + 50) // 100, 1, 255)[None, None, :, None, :, None]
    n, h, w, channels = x.shape
    padded = np.pad(255 * x - 128, ((0, 0), (0, -h % 8), (0, -w % 8), (0, 0)), mode="edge")
    blocks = padded.reshape(n, (h + 7) // 8, 8, (w + 7) // 8, 8, channels)
    c = dct_matrix(8)
    there = np.einsum("iu,naubvc,jv->naibjc", c, blocks, c, optimize=True)
    back = np.einsum("iu,naibjc,jv->naubvc", c, steps * np.round(there / steps), c, optimize=True)
    return (back.reshape(padded.shape)[:, :h, :w] + 128) / 255


# --- weather ----------------------------------------------------------------------------------------------------------


def brightness(x: np.ndarray, s: int, rng: np.random.Generator) -> np.ndarray:
    """The same added to every pixel."""
    return x + (0.05, 0.10, 0.15, 0.20, 0.30)[s]


def fog(x: np.ndarray, s: int, rng: np.random.Generator) -> np.ndarray:
    """Less of the image, more of a bright cloud that is uneven at all scales."""
    share = (0.15, 0.25, 0.35, 0.45, 0.60)[s]
    n, h, w, _ = x.shape
    i, j = np.meshgrid(np.fft.fftfreq(h) * h, np.fft.fftfreq(w) * w, indexing="ij")
    cloud = np.fft.ifft2(np.fft.fft2(rng.standard_normal((n, h, w))) / (1 + np.hypot(i, j)) ** 1.5).real
    low, high = (edge(cloud, axis=(1, 2), keepdims=True) for edge in (np.min, np.max))
    cloud = 0.5 + 0.5 * (cloud - low) / (high - low)
    return (1 - share) * x + share * cloud[..., None]


def snow(x: np.ndarray, s: int, rng: np.random.Generator) -> np.ndarray:
    """White flakes in front, as large as 1/32 of the image, more and more of them."""
    share = (0.02, 0.04, 0.06, 0.08, 0.12)[s]
    n, h, w, _ = x.shape
    size = max(1, round(_unit(x)))
    flakes = rng.random((n, -(-h // size), -(-w // size))) < share
    mask = flakes.repeat(size, axis=1).repeat(size, axis=2)[:, :h, :w, None]
    return x + 0.9 * mask * (1 - x)


# --- geometry ---------------------------------------------------------------------------------------------------------


def shift(x: np.ndarray, s: int, rng: np.random.Generator) -> np.ndarray:
    """Moved by 3 to 15 % of the side, in a direction drawn for each image."""
    share, angle = (0.03, 0.06, 0.09, 0.12, 0.15)[s], rng.uniform(0, 2 * np.pi, len(x))
    return _moved(x, share * x.shape[1] * np.sin(angle), share * x.shape[2] * np.cos(angle))


def rotation(x: np.ndarray, s: int, rng: np.random.Generator) -> np.ndarray:
    """Turned by 5 to 25 degrees, to the left or to the right."""
    n, h, w, _ = x.shape
    angle = np.radians((5, 10, 15, 20, 25)[s]) * rng.choice([-1, 1], n)[:, None]
    rows, columns = (a.ravel() - (size - 1) / 2 for a, size in zip(np.indices((h, w)), (h, w), strict=True))
    cosine, sine = np.cos(angle), np.sin(angle)
    return _sampled(x, cosine * rows - sine * columns + (h - 1) / 2, sine * rows + cosine * columns + (w - 1) / 2)


CORRUPTIONS: dict[str, dict[str, Corruption]] = {
    family: {f.__name__: f for f in members}
    for family, members in {
        "noise": (gaussian_noise, shot_noise, impulse_noise, speckle_noise),
        "blur": (gaussian_blur, motion_blur, zoom_blur),
        "digital": (contrast, pixelate, jpeg),
        "weather": (brightness, fog, snow),
        "geometry": (shift, rotation),
    }.items()
}
FAMILY: dict[str, str] = {name: family for family, members in CORRUPTIONS.items() for name in members}


# --- the study --------------------------------------------------------------------------------------------------------


def run(config: Config) -> Result:
    """Accuracy under each corruption and severity; judged by family."""
    config = defaults(config)
    found = subjects(config, ("vit", "cnn", MATCHED, "linear"))
    shared = {id(subject.pixels): subject.pixels for subject in found}  # models trained here see the same test images
    rows = []
    for (name, family), severity in itertools.product(FAMILY.items(), SEVERITIES):
        harmed = {key: corrupt(pixels, name, severity) for key, pixels in shared.items()}
        for subject in found:
            images = harmed[id(subject.pixels)]
            kept = subject.accuracy(images)
            row = {"model": subject.name, "seed": subject.seed, "family": family, "corruption": name}
            row |= {"severity": severity, "clean": subject.clean, "accuracy": kept, "retained": subject.scaled(kept)}
            rows.append(row | {"change": change(subject.pixels, images)})
    return conclude(config, rows, judge, FINDING, PAPER, found)


def corruption_error(errors: Sequence[float], reference: Sequence[float]) -> float:
    """CE = Σ errors / Σ errors of the reference, over the severities (Hendrycks and Dietterich 2019); 1 is as bad as it."""
    return float(np.sum(errors) / np.sum(reference)) if np.sum(reference) > 0 else float("nan")


def by_family(rows: Sequence[dict], key: str = "retained") -> dict[str, dict[str, list[float]]]:
    """{family: {model: the mean over its corruptions and severities, for each seed}}."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        seeds = found.setdefault(row["family"], {}).setdefault(row["model"], {})
        seeds.setdefault(row["seed"], []).append(np.nan if row[key] is None else row[key])
    return {f: {m: [float(np.mean(v)) for v in seeds.values()] for m, seeds in by.items()} for f, by in found.items()}


def judge(rows: Sequence[dict]) -> tuple[str, str]:
    """Reproduced where the ViT keeps more than both CNNs in all five families, in every seed and by `LEAST` on the mean.

    Where it does in some families, the verdict names them. A mean over families is not judged: which corruptions are in it
    would decide the answer.
    """
    kept = by_family(rows)
    said = "; ".join(f"{family}: {', '.join(f'{m} {shown(v)}' for m, v in by.items())}" for family, by in kept.items())
    said = f"Mean retained share by family ({said})."
    if "cnn" not in column(rows, "model"):
        return DEPENDS + ALONE, said
    won = [f for f, by in kept.items() if all(steady(by["vit"], by[m], LEAST) for m in ("cnn", MATCHED))]
    lost = [f for f, by in kept.items() if all(steady(by[m], by["vit"], LEAST) for m in ("cnn", MATCHED))]
    reference = {(r["seed"], r["corruption"], r["severity"]): 1 - r["accuracy"] for r in rows if r["model"] == "cnn"}
    errors = []
    for name in FAMILY:
        mine = [r for r in rows if r["model"] == "vit" and r["corruption"] == name]
        others = [reference[r["seed"], name, r["severity"]] for r in mine]
        errors.append(corruption_error([1 - r["accuracy"] for r in mine], others))
    said += f" The ViT's errors are {np.nanmean(errors):.2f} of the CNN's, mean of {len(FAMILY)} corruptions."
    if len(won) == len(kept):
        return REPRODUCED, said
    words = f"the family: ViT ahead in {' and '.join(won)}" + (f", CNN in {' and '.join(lost)}" if lost else "")
    return (DEPENDS + words if won else NOT_HERE), said


def plot(result: Result) -> tuple["Figure", str]:
    """Retained share by family, and against the severity in each."""
    families = list(dict.fromkeys(column(result.rows, "family")))
    kept = by_family(result.rows)
    models = list(kept[families[0]])
    fig, axes = charts.panels(2, 3, 3.8, 2.9, f"Corruptions: {result.verdict}")
    values = {m: np.array([kept[f][m] for f in families], float).T for m in models}
    charts.bars(axes[0, 0], families, values)
    charts.name(axes[0, 0], "", "retained share", "mean by family")
    for ax, family in zip(axes.ravel()[1:], families, strict=True):
        curves = {}
        for model in models:
            chosen = [r for r in result.rows if r["family"] == family and r["model"] == model]
            steps = [by_family([r for r in chosen if r["severity"] == s])[family][model] for s in SEVERITIES]
            curves[model] = np.array(steps, float).T
        charts.lines(ax, SEVERITIES, curves)
        charts.name(ax, "severity", "retained share", family)
        ax.set_ylim(-0.05, 1.1)
        ax.set_xticks(SEVERITIES)
    charts.legend(fig, axes[0, 1])
    each = "; ".join(f"{f} {', '.join(f'{m} {shown([np.mean(kept[f][m])])}' for m in models[:2])}" for f in families)
    return fig, f"Bars and five line charts: retained share of accuracy, 1 unharmed, 0 chance. Mean by family: {each}."


# --- how pixels move --------------------------------------------------------------------------------------------------


def _unit(x: np.ndarray) -> float:
    """Pixels for a length of one at 32×32; never less, for below a pixel a blur does nothing."""
    return max(1.0, min(x.shape[1:3]) / 32)


def _along(x: np.ndarray, matrix: Callable[[int], np.ndarray]) -> np.ndarray:
    """A matrix (n, n) applied to the rows and to the columns of every channel."""
    down, across = matrix(x.shape[1]), matrix(x.shape[2])
    return np.einsum("ih,nhwc,jw->nijc", down, x, across, optimize=True)


def _banded(n: int, weights: dict[int, float]) -> np.ndarray:
    """Row i holds the weight of each offset d at column i + d, or at the edge where that lies outside; rows sum to 1."""
    matrix = np.zeros((n, n))
    rows = np.arange(n)
    for d, weight in weights.items():
        matrix[rows, np.clip(rows + d, 0, n - 1)] += weight  # one entry in each row: no repeated index
    return matrix / matrix.sum(axis=1, keepdims=True)


def _taken(n: int, at: np.ndarray) -> np.ndarray:
    """Row i takes the value at the fractional place at[i], linearly between its neighbours: (n, n)."""
    at = np.clip(at, 0, n - 1)
    return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(n)))


def _moved(x: np.ndarray, down: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Each image moved by a fraction of pixels: down and right (n,)."""
    rows, columns = (a.ravel() for a in np.indices(x.shape[1:3]))
    return _sampled(x, rows - down[:, None], columns - right[:, None])


def _sampled(x: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Bilinear values at fractional places (n, H·W), the edge repeated outside: (n, H, W, C)."""
    h, w = x.shape[1:3]
    places = np.stack([np.clip(rows, 0, h - 1), np.clip(columns, 0, w - 1)], axis=-1)
    return sample(x, places).reshape(x.shape)
