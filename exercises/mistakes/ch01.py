"""The usual mistakes in the exercises of chapter 01."""

import numpy as np

from exercises.mistakes import mistake

# ---- shapes: a prediction is a picture of the rule, so each of these is a rule that NumPy does not have


@mistake(
    "shapes",
    "You let NumPy refuse all six. It raises less often than one hopes: may one shape be shorter than the other, and what "
    "may an axis of size 1 do?",
)
def different_shapes_raise():
    return ["error"] * 6


@mistake(
    "shapes",
    "Your answers fit a rule that lines two shapes up at their first axes. Compare with question 1, where (4,) has to meet "
    "one of 3 and 4: at which end does NumPy begin?",
)
def from_the_left():
    return ["error", (3, 4), (3, 4), (5, 1), "error", "error"]


@mistake(
    "shapes",
    "Your first answer lines shapes up at their last axes, your second one at their first. The rule is the same in both: "
    "which axis of (3, 4) does the 3 of (3,) meet?",
)
def three_looks_for_a_three():
    return [(3, 4), (3, 4), (3, 4), (5, 5), (2, 3, 4), "error"]


@mistake(
    "shapes",
    "Your answers refuse every pair in which a 1 meets another size. An axis of size 1 is special to NumPy: what happens to "
    "its only entry when the other array has more?",
)
def ones_do_not_stretch():
    return [(3, 4), "error", "error", "error", "error", "error"]


@mistake(
    "shapes",
    "Your answers take the larger of two sizes, whatever they are, even 4 against 3. One entry can be repeated to make "
    "four; which of three entries would be used for a fourth?",
)
def the_larger_size_wins():
    return [(3, 4), (3, 4), (3, 4), (5, 5), (2, 3, 4), (3, 3)]


@mistake(
    "shapes",
    "These are the shapes of products of matrices, x @ y. The question is about sums, entry by entry: do axes of a sum "
    "disappear?",
)
def as_if_multiplied():
    return [(3,), "error", (3, 4), (1,), "error", (2, 2)]


@mistake(
    "shapes",
    "Five are right, and number 4 is the trap of the chapter. (5,) is read with a 1 put in front, so a row meets a column: "
    "how large is the table with an entry for every pair?",
)
def row_plus_column_stays_a_column():
    return [(3, 4), "error", (3, 4), (5, 1), (2, 3, 4), "error"]


@mistake(
    "shapes",
    "Five are right, and number 4 is the trap of the chapter: you let five and five pair up one by one. Write (5,) with the "
    "1 that NumPy puts in front and look again: does a row meet a row?",
)
def row_plus_column_stays_a_row():
    return [(3, 4), "error", (3, 4), (5,), (2, 3, 4), "error"]


@mistake(
    "shapes",
    "Five are right. In number 5 the sizes 2 and 3 worry you, but do they meet? Write (3, 1) below (2, 1, 4), flush right, "
    "and go through the columns.",
)
def three_axes_against_two_raise():
    return [(3, 4), "error", (3, 4), (5, 5), "error", "error"]


@mistake(
    "shapes",
    "Five are right, but number 6 is (2, 2) only for the product x @ y. In a sum 3 meets 2, and 2 meets 3: can either be "
    "repeated to fit?",
)
def the_last_one_multiplied():
    return [(3, 4), "error", (3, 4), (5, 5), (2, 3, 4), (2, 2)]


@mistake(
    "shapes",
    "Six predictions, but they seem to stand in another order than the questions. The numbers run down the left column "
    "first: which question is your second answer for?",
)
def questions_read_across():
    return [(3, 4), (5, 5), "error", (2, 3, 4), (3, 4), "error"]


# ---- tiles_view


@mistake(
    "tiles_view",
    "All values are in place, but they lie in new memory: writing into a tile would leave the image as it was. Which step "
    "of yours had to move pixels?",
)
def copied(image, size):
    h, w = image.shape
    return image.reshape(h // size, size, w // size, size).swapaxes(1, 2).copy()


@mistake(
    "tiles_view",
    "The shape is right, but all four pixels of your first tile are neighbours in row 0 of the image. Reshape keeps the "
    "order in memory: once both axes are split, which one must move?",
)
def reshape_only(image, size):
    h, w = image.shape
    return image.reshape(h // size, w // size, size, size)


@mistake(
    "tiles_view",
    "Splitting both axes worked: yours are (row of tiles, row in the tile, column of tiles, column in the tile). The tile's "
    "own two axes shall come last: which two stand in each other's place?",
)
def split_and_not_moved(image, size):
    h, w = image.shape
    return image.reshape(h // size, size, w // size, size)


@mistake(
    "tiles_view",
    "Your tiles are numbered in one long row: shape {found.shape}, expected {expected.shape}. The reader wants to ask for "
    "row r and column c of the tiles: can a view still merge those two axes?",
)
def one_long_row_of_tiles(image, size):
    h, w = image.shape
    return image.reshape(h // size, size, w // size, size).swapaxes(1, 2).reshape(-1, size, size)


@mistake(
    "tiles_view",
    "You have {found.shape[0]} rows of tiles and {found.shape[1]} columns of tiles; the image has {expected.shape[0]} and "
    "{expected.shape[1]}. The tiles themselves are right: which comes first in [r, c]?",
)
def columns_before_rows(image, size):
    h, w = image.shape
    return image.reshape(h // size, size, w // size, size).transpose(2, 0, 1, 3)


@mistake(
    "tiles_view",
    "Each tile is in its place, but lies on its side: what should run down runs across. Of your two axes of size "
    "{size}, which one counted rows of the image?",
)
def tiles_transposed(image, size):
    h, w = image.shape
    return image.reshape(h // size, size, w // size, size).transpose(0, 2, 3, 1)


@mistake(
    "tiles_view",
    "Your first tile holds pixels from all over the image, every few rows and columns. In reshape the later part of a split "
    "axis counts neighbours: is that the tile, or the place in the tile?",
)
def far_apart_pixels(image, size):
    h, w = image.shape
    return image.reshape(size, h // size, size, w // size).transpose(1, 3, 0, 2)


@mistake(
    "tiles_view",
    "You have {found.shape[0]} × {found.shape[1]} windows where {expected.shape[0]} × {expected.shape[1]} tiles are asked "
    "for: yours overlap. How far must a window move so that no pixel is seen twice?",
)
def overlapping_windows(image, size):
    return np.lib.stride_tricks.sliding_window_view(image, (size, size))
