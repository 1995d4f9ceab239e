"""Changed copies of images that mean the same: float images (B, H, W, C) in, the same shape out.

Each takes a generator, so that a batch's changes depend on (seed, step) alone. Outside an image all is 0.
"""

from collections.abc import Callable

import numpy as np

from minivit.engine.errors import ConfigError, did_you_mean

Augment = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def affine(
    images: np.ndarray,
    rng: np.random.Generator,
    rotation: float = 0.2,
    scale: float = 0.12,
    translation: float = 0.08,
    shear: float = 0.1,
) -> np.ndarray:
    """A random rotation (± radians), scale (± share), shear and translation (± share of the side) of each image, bilinear."""
    b, h, w, _ = images.shape
    angle, slant = rng.uniform(-rotation, rotation, b), rng.uniform(-shear, shear, b)
    sizes = rng.uniform(1 - scale, 1 + scale, (b, 2))
    shift = rng.uniform(-translation, translation, (b, 2)) * (h, w)
    cosine, sine = np.cos(angle), np.sin(angle)
    turn = np.stack([np.stack([cosine, -sine], -1), np.stack([sine, cosine], -1)], -2)  # (B, 2, 2)
    lean = np.zeros((b, 2, 2))
    lean[:, 0, 0], lean[:, 1, 1], lean[:, 1, 0] = 1 / sizes[:, 0], 1 / sizes[:, 1], slant
    centre = np.array([(h - 1) / 2, (w - 1) / 2])
    target = np.stack(np.mgrid[:h, :w], -1).reshape(-1, 2) - centre  # (H·W, 2): rows and columns from the centre
    source = target @ (turn @ lean).swapaxes(1, 2) + centre + shift[:, None]  # where each pixel comes from: (B, H·W, 2)
    return sample(images, source).reshape(images.shape)


def sample(images: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Bilinear values at fractional (row, column) places, 0 outside: (B, H, W, C), (B, n, 2) -> (B, n, C)."""
    b, h, w, _ = images.shape
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))  # the image fades to 0 over one pixel
    y, x = np.clip(at[..., 0] + 1, 0, h + 1), np.clip(at[..., 1] + 1, 0, w + 1)
    top, left = np.minimum(y.astype(np.int64), h), np.minimum(x.astype(np.int64), w)
    down, right = ((v - c).astype(images.dtype)[..., None] for v, c in ((y, top), (x, left)))
    rows = np.arange(b)[:, None]
    upper = padded[rows, top, left] * (1 - right) + padded[rows, top, left + 1] * right
    lower = padded[rows, top + 1, left] * (1 - right) + padded[rows, top + 1, left + 1] * right
    return upper * (1 - down) + lower * down


def flip(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Half of the images mirrored left to right."""
    mirrored = rng.random(len(images)) < 0.5
    return np.where(mirrored[:, None, None, None], images[:, :, ::-1], images)


def shift(images: np.ndarray, rng: np.random.Generator, pixels: int = 2) -> np.ndarray:
    """Each image moved by up to `pixels` whole pixels in both directions."""
    b, h, w, _ = images.shape
    padded = np.pad(images, ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0)))
    rows, columns = rng.integers(0, 2 * pixels + 1, (2, b, 1))
    rows, columns = rows + np.arange(h), columns + np.arange(w)
    return padded[np.arange(b)[:, None, None], rows[:, :, None], columns[:, None, :]]


def erase(images: np.ndarray, rng: np.random.Generator, share: float = 0.25) -> np.ndarray:
    """In half of the images a rectangle of 2 % to `share` of the area is filled with the image's mean (Zhong et al. 2020)."""
    images = images.copy()
    b, h, w, _ = images.shape
    area, ratio = rng.uniform(0.02, share, b), np.exp(rng.uniform(-1, 1, b))
    chosen, corner = rng.random(b) < 0.5, rng.random((b, 2))
    for i in np.flatnonzero(chosen):
        rows = min(h, max(1, round(h * np.sqrt(area[i] * ratio[i]))))
        columns = min(w, max(1, round(w * np.sqrt(area[i] / ratio[i]))))
        top, left = int(corner[i, 0] * (h - rows + 1)), int(corner[i, 1] * (w - columns + 1))
        images[i, top : top + rows, left : left + columns] = images[i].mean(axis=(0, 1))
    return images


AUGMENTS: dict[str, Augment] = {"affine": affine, "flip": flip, "shift": shift, "erase": erase}


def named(names: str | None) -> Augment:
    """One augmentation out of names joined by `+`, such as `"affine+erase"`; `"none"` changes nothing. Raises `ConfigError`."""
    chosen = [] if names in (None, "", "none") else names.split("+")
    for name in chosen:
        if name not in AUGMENTS:
            known = ["none", *AUGMENTS]
            raise ConfigError(
                f"unknown augmentation {name!r}; join some of {', '.join(known)} by +{did_you_mean(name, known)}"
            )

    def apply(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        for name in chosen:
            images = AUGMENTS[name](images, rng)
        return images

    return apply


def one_hot(labels: np.ndarray, classes: int) -> np.ndarray:
    """Class indices (B,) as rows of 0 and 1 (B, K), float32; rows of probabilities as they are."""
    return np.eye(classes, dtype=np.float32)[labels] if labels.ndim == 1 else labels


def mixup(
    images: np.ndarray, labels: np.ndarray, rng: np.random.Generator, alpha: float, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Each image blended with another by λ ~ Beta(α, α), the labels likewise (Zhang et al. 2018) -> images, (B, K)."""
    share = rng.beta(alpha, alpha, (len(images), 1)).astype(images.dtype)
    other = rng.permutation(len(images))
    rows = one_hot(labels, classes)
    weight = share[..., None, None]
    return weight * images + (1 - weight) * images[other], (share * rows + (1 - share) * rows[other]).astype(np.float32)


def cutmix(
    images: np.ndarray, labels: np.ndarray, rng: np.random.Generator, alpha: float, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """A rectangle of each image replaced by another's, the labels by area (Yun et al. 2019) -> images, (B, K)."""
    b, h, w, _ = images.shape
    other, rows = rng.permutation(b), one_hot(labels, classes)
    side = np.sqrt(1 - rng.beta(alpha, alpha, b))  # λ is the share that stays
    centre = rng.random((b, 2)) * (h, w)
    top, bottom = (np.clip(np.round(centre[:, 0] + s * side * h / 2), 0, h) for s in (-1, 1))
    left, right = (np.clip(np.round(centre[:, 1] + s * side * w / 2), 0, w) for s in (-1, 1))
    y, x = np.arange(h)[None, :, None], np.arange(w)[None, None, :]
    inside = (
        (y >= top[:, None, None])
        & (y < bottom[:, None, None])
        & (x >= left[:, None, None])
        & (x < right[:, None, None])
    )
    stays = (1 - inside.mean(axis=(1, 2)))[:, None].astype(np.float32)
    return np.where(inside[..., None], images[other], images), stays * rows + (1 - stays) * rows[other]
