"""What a data set is here: three parts of images and labels, and the story of where they come from.

One convention for all sets: images are uint8 (n, H, W, C), labels int64 (n,). Bytes, as in an image file, because
CIFAR-10 takes 184 MB as bytes and 737 MB as float32; a batch becomes float32 when it is used (`to_float`, `standardise`).
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from minivit.engine.errors import DataError, DTypeError, ShapeError


@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """One part of a data set: `images` uint8 (n, H, W, C), `labels` int64 (n,), and `extra` arrays of length n.

    Raises ShapeError or DTypeError when the arrays do not fit this description.
    """

    images: np.ndarray
    labels: np.ndarray
    extra: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.labels.dtype != np.int64:
            raise DTypeError(
                f"Split: images must be uint8 and labels int64, not {self.images.dtype} and {self.labels.dtype}"
            )
        if self.images.ndim != 4 or self.labels.shape != self.images.shape[:1]:
            raise ShapeError(
                f"Split: images must be (n, H, W, C) and labels (n,), not {self.images.shape} and {self.labels.shape}"
            )
        for name, array in self.extra.items():
            if len(array) != len(self.images):
                raise ShapeError(f"Split: extra[{name!r}] has {len(array)} rows for {len(self.images)} images")

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: slice | np.ndarray) -> "Split":
        """The chosen images, with their labels and extras, as a Split (a slice or an index array, not one integer)."""
        return Split(self.images[index], self.labels[index], {name: a[index] for name, a in self.extra.items()})

    def __repr__(self) -> str:
        return f"Split(images {self.images.shape}, labels {self.labels.shape}, extra {sorted(self.extra)})"


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """A data set: three parts, the names of its classes, and text that says what it is, how it is split, whose it is.

    `description` is for people (`minivit data NAME` prints it); `source` says where these very bytes were read from;
    `mean` and `std` are per channel, in units of [0, 1], from the training images only. Raises DataError when the parts
    differ in image shape or a label has no class.
    """

    name: str
    train: Split
    val: Split
    test: Split
    class_names: tuple[str, ...]
    description: str
    source: str
    license: str

    def __post_init__(self) -> None:
        for part, split in self.parts.items():
            if split.images.shape[1:] != self.train.images.shape[1:]:
                raise DataError(
                    f"{self.name}: {part} images are {split.images.shape[1:]}, train images {self.train.images.shape[1:]}"
                )
            if len(split) and (split.labels.min() < 0 or split.labels.max() >= len(self.class_names)):
                raise DataError(
                    f"{self.name}: {part} labels run from {split.labels.min()} to {split.labels.max()}, "
                    f"but there are {len(self.class_names)} classes"
                )

    @property
    def parts(self) -> dict[str, Split]:
        """The three parts by name, in the order train, val, test."""
        return {"train": self.train, "val": self.val, "test": self.test}

    @property
    def num_classes(self) -> int:
        """K, the number of classes."""
        return len(self.class_names)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.train.images.shape[1:3]

    @property
    def in_channels(self) -> int:
        """C: 1 for grey, 3 for RGB."""
        return self.train.images.shape[3]

    @cached_property
    def _statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return channel_statistics(self.train.images)

    @property
    def mean(self) -> tuple[float, ...]:
        """The mean of each channel over all training pixels, in [0, 1]."""
        return self._statistics[0]

    @property
    def std(self) -> tuple[float, ...]:
        """The standard deviation of each channel over all training pixels, in units of [0, 1]."""
        return self._statistics[1]

    def __repr__(self) -> str:
        sizes = ", ".join(f"{len(split):,} {part}" for part, split in self.parts.items())
        h, w = self.image_size
        return f"Dataset({self.name!r}: {sizes}; images {h}×{w}×{self.in_channels}, {self.num_classes} classes)"


def to_float(images: np.ndarray) -> np.ndarray:
    """uint8 images 0…255 as float32 in [0, 1], any shape; raises DTypeError for other types."""
    if images.dtype != np.uint8:
        raise DTypeError(f"to_float: expected uint8 images, not {images.dtype}")
    return np.divide(images, 255, dtype=np.float32)


def standardise(images: np.ndarray, mean: tuple[float, ...], std: tuple[float, ...]) -> np.ndarray:
    """(image - mean) / std per channel as float32: what the models are fed.

    `images` (..., C) are uint8, or float32 already in [0, 1] (augmented ones); raises ShapeError when `mean` and `std`
    are not C numbers each, DTypeError for other image types.
    """
    if not images.shape[-1] == len(mean) == len(std):
        raise ShapeError(f"standardise: images {images.shape} need C means and stds, not {len(mean)} and {len(std)}")
    if images.dtype != np.float32:
        images = to_float(images)
    return (images - np.asarray(mean, dtype=np.float32)) / np.asarray(std, dtype=np.float32)


def channel_statistics(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of uint8 images (n, H, W, C), in units of [0, 1].

    The sums are taken in integers, so the result is exact and the same on every machine; a channel that never varies
    gets 1 as its standard deviation, so that dividing by it does no harm.
    """
    channels = images.shape[-1]
    total = np.zeros(channels, dtype=np.uint64)
    squares = np.zeros(channels, dtype=np.uint64)
    for start in range(0, len(images), 1024):  # in pieces: the squares need twice the memory of the images
        piece = images[start : start + 1024].astype(np.uint16)  # 255² still fits
        total += piece.sum(axis=(0, 1, 2), dtype=np.uint64)
        squares += np.square(piece).sum(axis=(0, 1, 2), dtype=np.uint64)
    count = images.size // channels
    means = [int(t) / count for t in total]
    variances = [int(s) / count - m * m for s, m in zip(squares, means, strict=True)]
    stds = [max(v, 0.0) ** 0.5 or 255.0 for v in variances]
    return tuple(m / 255 for m in means), tuple(s / 255 for s in stds)
