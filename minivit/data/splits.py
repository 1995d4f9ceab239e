"""The fixed splits and the order of the batches."""

from collections.abc import Iterator

import numpy as np

from minivit.engine.errors import ConfigError
from minivit.engine.random import stream


def stratified_order(labels: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """An order of the images, int64 (n,), in which every stretch holds the classes in the proportions of the whole.

    Each class, shuffled, is spread evenly over the line from 0 to 1; the second array says where on that line each
    image of the order lies, float64 (n,). Cutting the line anywhere gives stratified parts, to within one image per
    class and cut.
    """
    # `random` and sorting, not `permutation`: NumPy does not promise to keep the latter's algorithm, and a split is for good.
    chance = stream(seed, "split").random(len(labels))
    place = np.empty(len(labels))
    for label in np.unique(labels):
        (members,) = np.nonzero(labels == label)
        shuffled = members[np.argsort(chance[members])]
        place[shuffled] = (np.arange(len(members)) + 0.5) / len(members)
    order = np.lexsort((chance, place))  # by place; equal places (classes of equal size) by chance
    return order, place[order]


def epoch_order(n: int, seed: int, epoch: int) -> np.ndarray:
    """The order in which epoch number `epoch` visits n images, int64 (n,): known from the seed and the epoch alone."""
    return stream(seed, "shuffle", epoch).permutation(n)


def batches(n: int, batch_size: int, *, seed: int, epoch: int, drop_last: bool = False) -> Iterator[np.ndarray]:
    """The index arrays of one epoch's batches, int64 (batch_size,); the last may be shorter, unless `drop_last`.

    Raises ConfigError when `batch_size` is not positive.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1, not {batch_size}")
    order = epoch_order(n, seed, epoch)
    end = n - n % batch_size if drop_last else n
    return (order[start : start + batch_size] for start in range(0, end, batch_size))
