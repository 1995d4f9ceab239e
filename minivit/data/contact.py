"""A contact sheet: a few images of each class on one page."""

import numpy as np

from minivit.data.dataset import Dataset
from minivit.engine.errors import ConfigError


def contact_sheet(
    dataset: Dataset, *, per_class: int = 10, max_classes: int = 20, part: str = "train", pixels: int = 48, gap: int = 2
) -> np.ndarray:
    """The first `per_class` images of each class, one class a row, in the order of `class_names`: uint8 (H, W, 3).

    Each image is enlarged by a whole number, to at most `pixels` on its longer side where it fits, so that every pixel
    stays a square; white between them, `gap` wide, and where a class has fewer images. At most `max_classes` rows.
    Raises ConfigError for an unknown part or a size below 1.
    """
    if part not in dataset.parts or min(per_class, max_classes, pixels) < 1 or gap < 0:
        raise ConfigError(
            f"contact_sheet: part must be one of {', '.join(dataset.parts)} and sizes at least 1, not part={part!r}, "
            f"per_class={per_class}, max_classes={max_classes}, pixels={pixels}, gap={gap}"
        )
    split = dataset.parts[part]
    enlarge = max(1, pixels // max(dataset.image_size))
    h, w = (side * enlarge for side in dataset.image_size)
    classes = min(dataset.num_classes, max_classes)
    sheet = np.full((gap + classes * (h + gap), gap + per_class * (w + gap), 3), 255, dtype=np.uint8)
    for row in range(classes):
        chosen = split.images[np.flatnonzero(split.labels == row)[:per_class]]
        tiles = chosen.repeat(enlarge, axis=1).repeat(enlarge, axis=2)  # grey tiles are broadcast over R, G and B below
        for column, tile in enumerate(tiles):
            top, left = gap + row * (h + gap), gap + column * (w + gap)
            sheet[top : top + h, left : left + w] = tile
    return sheet
