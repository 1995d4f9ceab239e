"""`digits`: 1,797 real handwritten digits of 8×8 pixels, embedded in the package."""

from pathlib import Path

import numpy as np

from minivit.data.dataset import Dataset, Split
from minivit.data.splits import stratified_order
from minivit.engine.errors import ConfigError, did_you_mean

_FILE = Path(__file__).with_name("digits.npz")
_SIZES = (1257, 180, 360)

_DESCRIPTION = """\
digits: 1,797 handwritten digits, 8×8 grey pixels, 10 classes. Each pixel counts the inked dots (0 to 16) in a 4×4 block
of a 32×32 scan; here 0–16 is stretched to 0–255. Embedded in the package; nothing is downloaded.
"""
_MIXED = """\
Split: 1,257 for training, 180 for validation, 360 for test, stratified by class, always the same. The same writers
appear in all three parts, so the test accuracy says nothing of a new writer's hand, where it is lower:
digits(split="file-order") keeps the order of the file and tests on the last 360, probably other writers. There three
nearest neighbours fall from 99.2 % to 95.8 %, ridge regression from 94.7 % to 85.6 %.
"""
_FILE_ORDER = """\
Split: the order of the file is kept: the first 1,257 for training, the next 180 for validation, the last 360 for test.
The last were probably written by other people (the file does not say), so this is harder than the default split.
"""


def digits(*, split: str = "mixed") -> Dataset:
    """The embedded handwritten digits: 1,257 / 180 / 360 images, uint8 (n, 8, 8, 1), with `extra["index"]` in the file.

    `split` is "mixed" (stratified, writers in all parts) or "file-order" (the last 360 are the test). Neither depends
    on a seed. Raises ConfigError for another split. Source: Alpaydin and Kaynak, UCI 1998, DOI 10.24432/C50P49.
    """
    if split not in ("mixed", "file-order"):
        raise ConfigError(
            f"digits: split must be 'mixed' or 'file-order', not {split!r}{did_you_mean(split, ['mixed', 'file-order'])}"
        )
    with np.load(_FILE, allow_pickle=False) as file:
        counts, labels = file["images"], file["labels"].astype(np.int64)
    images = ((counts.astype(np.uint16) * 255 + 8) // 16).astype(np.uint8)[..., None]  # rounded; 16 -> 255
    order = stratified_order(labels)[0] if split == "mixed" else np.arange(len(labels))
    train, val, test = np.split(order, np.cumsum(_SIZES)[:2])
    return Dataset(
        name="digits",
        train=Split(images[train], labels[train], {"index": train}),
        val=Split(images[val], labels[val], {"index": val}),
        test=Split(images[test], labels[test], {"index": test}),
        class_names=tuple("0123456789"),
        description=_DESCRIPTION + (_MIXED if split == "mixed" else _FILE_ORDER),
        source="embedded (optdigits.tes of the UCI set, by way of scikit-learn)",
        license='CC BY 4.0: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning '
        "Repository, 1998, DOI 10.24432/C50P49",
    )
