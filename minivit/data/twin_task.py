"""`twin`, find my twin: a task that needs one patch to look for another, and that knows which one it should find."""

import numpy as np

from minivit.data.dataset import Dataset, Split
from minivit.engine.errors import ConfigError
from minivit.engine.random import stream

GRID = 4  # patches in a row and in a column
PATCH = 4  # pixels in a row and in a column of a patch

# Eight marks, 1 where there is ink, (8, 4, 4): five inked pixels each, so that brightness does not tell them apart; no
# two share more than three. The last row and column are blank, so that neighbours in an image do not touch.
MARKS = np.array(
    [
        [[c == "#" for c in row] for row in mark.split()]
        for mark in (
            ".#.. ###. .#.. ....",  # plus
            "#.#. .#.. #.#. ....",  # cross
            "###. .#.. .#.. ....",  # T
            ".#.. .#.. ###. ....",  # T upside down
            "###. #... #... ....",  # corner, upper left
            "###. ..#. ..#. ....",  # corner, upper right
            "#... #... ###. ....",  # corner, lower left
            "..#. ..#. ###. ....",  # corner, lower right
        )
    ],
    dtype=np.uint8,
)

COLOUR_NAMES = ("orange", "blue", "green", "magenta")
# All five sum to 420: a mark is equally strong in every colour. The four stand at right angles round grey.
COLOURS = np.array([(230, 140, 50), (50, 140, 230), (88, 244, 88), (192, 36, 192)], dtype=np.uint8)
GREY = np.array((140, 140, 140), dtype=np.uint8)

_DESCRIPTION = """\
twin (find my twin): 16×16 RGB pixels, a 4×4 grid of patches of 4×4 pixels on black. Each patch shows one of 8 marks in
one of 4 colours. Patch 0, top left, is grey; exactly one other patch shows the same mark; the answer is that twin's colour
(4 classes, chance 25 %). The patches taken one by one do not tell: the best guess without comparing them is the
commonest colour, right in under 40 %. extra["twin"] is the index of the twin's patch (1 to 15, row by row),
extra["marks"] and extra["colours"] (n, 16) the mark and the colour of every patch (colour -1 is grey).
Made by a program from a seed; training, validation and test images are drawn independently.
"""


def twin(*, n_train: int = 8000, n_val: int = 1000, n_test: int = 2000, seed: int = 0) -> Dataset:
    """Find my twin: uint8 images (n, 16, 16, 3), labels 0…3, the colour of the one patch with the mark of patch 0.

    The first images of a longer set are those of a shorter one. Raises ConfigError for sizes below 1 or a bad seed.
    """
    sizes = {"train": n_train, "val": n_val, "test": n_test}
    for part, n in sizes.items():
        if n < 1:
            raise ConfigError(f"twin: n_{part} must be at least 1, not {n}")
    parts = {part: _draw(n, stream(seed, f"twin {part}")) for part, n in sizes.items()}
    return Dataset(
        name="twin",
        **parts,
        class_names=COLOUR_NAMES,
        description=_DESCRIPTION,
        source=f"made by minivit, seed {seed}",
        license="MIT, as minivit itself",
    )


def _draw(n: int, rng: np.random.Generator) -> Split:
    patches = GRID * GRID
    chance = rng.random((n, 2 * patches + 1))  # one row for each image, so that a longer set begins like a shorter one

    # The fifteen others draw from the seven marks that patch 0 does not have; then one of them becomes the twin.
    mark = (chance[:, 0] * len(MARKS)).astype(np.int64)
    others = (chance[:, 1:patches] * (len(MARKS) - 1)).astype(np.int64)
    others += others >= mark[:, None]
    marks = np.concatenate([mark[:, None], others], axis=1)  # (n, 16)
    where = 1 + (chance[:, patches] * (patches - 1)).astype(np.int64)  # never patch 0
    rows = np.arange(n)
    marks[rows, where] = mark

    colours = (chance[:, patches + 1 :] * len(COLOURS)).astype(np.int64)  # (n, 16)
    colours[:, 0] = -1
    palette = np.concatenate([COLOURS, GREY[None]])  # index -1 is grey
    pixels = MARKS[marks][..., None] * palette[colours][:, :, None, None, :]  # (n, 16, 4, 4, 3)
    images = pixels.reshape(n, GRID, GRID, PATCH, PATCH, 3).transpose(0, 1, 3, 2, 4, 5)
    images = images.reshape(n, GRID * PATCH, GRID * PATCH, 3)
    return Split(images, colours[rows, where], {"twin": where, "marks": marks, "colours": colours})
