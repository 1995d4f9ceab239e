"""The usual mistakes in the exercises of chapter 05."""

import numpy as np

import minivit as mv
from exercises.mistakes import mistake
from minivit.nn import patches

# ---- patchify


def _cut(order):
    """patchify with its six axes (image, row of patches, row, column of patches, column, channel) in another order."""

    def patchify(images, patch_size):
        b, h, w, c = images.shape
        p = patch_size
        x = images.reshape(b, h // p, p, w // p, p, c).transpose(order)
        return x.reshape(b, (h // p) * (w // p), p * p * c)

    return patchify


@mistake(
    "patchify",
    "Every pixel arrived, but patch 0 begins with a whole image row. Which axis counts rows inside a patch?",
)
def reshape_only(images, patch_size):
    return _cut((0, 1, 2, 3, 4, 5))(images, patch_size)


@mistake(
    "patchify",
    "The right pixels are in each patch, but channel by channel: all of channel 0, then channel 1. In a grey image nobody "
    "would notice: which axis should run fastest inside a patch?",
)
def channels_first(images, patch_size):
    return _cut((0, 1, 3, 5, 2, 4))(images, patch_size)


@mistake(
    "patchify",
    "Each patch is right, but they go down the columns: patch 1 lies below patch 0, not beside it. Which of the two counts "
    "of patches should change faster?",
)
def patches_down_the_columns(images, patch_size):
    return _cut((0, 3, 1, 2, 4, 5))(images, patch_size)


@mistake(
    "patchify",
    "Each patch has its pixels, lying on their side: its second pixel comes from the row below, not from the next column. "
    "Which axis inside a patch should come first?",
)
def pixels_transposed(images, patch_size):
    return _cut((0, 1, 3, 4, 2, 5))(images, patch_size)


@mistake(
    "patchify",
    "Rows and columns have changed places twice: patches go down the columns, and so do the pixels inside them. Was the "
    "image turned before it was cut?",
)
def everything_transposed(images, patch_size):
    return _cut((0, 3, 1, 4, 2, 5))(images, patch_size)


@mistake(
    "patchify",
    lambda found, expected, images, patch_size: (
        f"Patch 0 takes every {_nth(images.shape[1] // patch_size)} row and every {_nth(images.shape[2] // patch_size)} column "
        "of the image. Where an axis is split in two, the second part counts neighbours: should that be the patch, or the "
        "place in it?"
    ),
)
def pixels_far_apart(images, patch_size):
    b, h, w, c = images.shape
    p = patch_size
    x = images.reshape(b, p, h // p, p, w // p, c).transpose(0, 2, 4, 1, 3, 5)
    return x.reshape(b, (h // p) * (w // p), p * p * c)


def _nth(n):
    return ("zeroth", "single", "second", "third", "fourth", "fifth", "sixth")[n] if n < 7 else f"{n}th"


@mistake(
    "patchify",
    lambda found, expected, images, patch_size: (
        f"You have {found.shape[1]} patches, expected {expected.shape[1]}, and patch 0 takes every {_nth(patch_size)} pixel from "
        "the whole image: P became a stride. How far apart are two pixels that share a patch?"
    ),
)
def every_pth_pixel(images, patch_size):
    p = patch_size
    return np.stack([images[:, i::p, j::p].reshape(len(images), -1) for i in range(p) for j in range(p)], axis=1)


@mistake(
    "patchify",
    "The patches still lie in rows and columns: {found.shape}, expected {expected.shape}. A Transformer reads one sequence: "
    "which two axes become one?",
)
def grid_kept(images, patch_size):
    found = patches.patchify(images, patch_size)
    return found.reshape(len(images), images.shape[1] // patch_size, -1, found.shape[2])


@mistake(
    "patchify",
    "The patches are cut and in order, but each is still a small image, {found.shape}; expected is one row of numbers for "
    "each, {expected.shape}. What is left to flatten?",
)
def patches_not_flattened(images, patch_size):
    found = patches.patchify(images, patch_size)
    return found.reshape(*found.shape[:2], patch_size, patch_size, images.shape[-1])


@mistake(
    "patchify",
    "Cut and not put together: you have six axes, {found.shape}. Three of the numbers asked for are products of these: which "
    "axes make N, and which make a patch?",
)
def axes_moved_and_not_joined(images, patch_size):
    b, h, w, c = images.shape
    return images.reshape(b, h // patch_size, patch_size, w // patch_size, patch_size, c).transpose(0, 1, 3, 2, 4, 5)


@mistake(
    "patchify",
    "The images of the batch have run together: {found.shape[0]} patches in one list, expected {expected.shape}. Patches of "
    "different images must never meet: which axis stays in front, untouched?",
)
def batch_lost(images, patch_size):
    found = patches.patchify(images, patch_size)
    return found.reshape(-1, found.shape[2])


@mistake(
    "patchify",
    "One image is right. Of a batch only the first is cut: expected {expected.shape}, yours is {found.shape}. Which axis "
    "counts images, and does your code look along it?",
)
def first_image_only(images, patch_size):
    return patches.patchify(images[:1], patch_size)


@mistake(
    "patchify",
    lambda found, expected, images, patch_size: (
        f"Your shape {found.shape} has its axes the other way: {found.shape[1]} patches of {found.shape[2]} numbers, expected "
        f"{expected.shape[1]} of {expected.shape[2]}. Height over P and height of P: which one counts patches?"
    ),
)
def numbers_for_patches(images, patch_size):
    return patches.patchify(images, patch_size).swapaxes(1, 2)


# ---- conv_is_patchify


def _convolved(images, kernel, *, flat=None, cut=mv.patchify):
    """Patches times a kernel that was flattened by `flat`: (B, N, D)."""
    p, _, c, d = kernel.shape
    flat = kernel.reshape(p * p * c, d) if flat is None else flat
    return cut(images, p) @ flat


def _on_grid(tokens, images, kernel):
    b, h, w, _ = images.shape
    p = len(kernel)
    return tokens.reshape(b, h // p, w // p, -1)


@mistake(
    "conv_is_patchify",
    "All products are right, in one row of patches: {found.shape}. A convolution returns a picture, {expected.shape}: how "
    "many patches stand beside each other, and how many below?",
)
def left_as_a_sequence(images, kernel):
    return _convolved(images, kernel)


@mistake(
    "conv_is_patchify",
    "Your picture is {found.shape[1]} rows high and {found.shape[2]} columns wide, expected {expected.shape[1]} and "
    "{expected.shape[2]}. Patches come row by row: how many make one row?",
)
def rows_and_columns_exchanged(images, kernel):
    b, h, w, _ = images.shape
    p = len(kernel)
    return _convolved(images, kernel).reshape(b, w // p, h // p, -1)


@mistake(
    "conv_is_patchify",
    "The shape is right, but your results run down the columns, while `patchify` goes along the rows. Was there a reshape to "
    "(columns, rows), and a turn to mend its shape?",
)
def filled_column_by_column(images, kernel):
    b, h, w, _ = images.shape
    p = len(kernel)
    return _convolved(images, kernel).reshape(b, w // p, h // p, -1).swapaxes(1, 2)


@mistake(
    "conv_is_patchify",
    "A grey image comes out right; with channels the weights meet other pixels. In a patch the channel runs fastest: in "
    "which order do the numbers of your flat kernel lie?",
)
def kernel_channels_first(images, kernel):
    d = kernel.shape[-1]
    flat = kernel.transpose(2, 0, 1, 3).reshape(-1, d)
    return _on_grid(_convolved(images, kernel, flat=flat), images, kernel)


@mistake(
    "conv_is_patchify",
    "You turned the kernel round, as the mathematician's convolution does. In this library, as in all of deep learning, the "
    "window is multiplied as it lies: which pixel meets kernel[0, 0]?",
)
def kernel_flipped(images, kernel):
    flat = kernel[::-1, ::-1].reshape(-1, kernel.shape[-1])
    return _on_grid(_convolved(images, kernel, flat=flat), images, kernel)


@mistake(
    "conv_is_patchify",
    "The kernel lies on its side: the weight for the next column meets the pixel in the next row. Did its first two axes "
    "change places before it was flattened?",
)
def kernel_transposed(images, kernel):
    flat = kernel.swapaxes(0, 1).reshape(-1, kernel.shape[-1])
    return _on_grid(_convolved(images, kernel, flat=flat), images, kernel)


@mistake(
    "conv_is_patchify",
    lambda found, expected, images, kernel: (
        f"With one output yours is right, with {kernel.shape[3]} the weights are dealt out wrongly: the outputs lie last in "
        "the kernel, so they run fastest. Which number stays whole when the rest is flattened?"
    ),
)
def outputs_reshaped_to_the_front(images, kernel):
    flat = kernel.reshape(kernel.shape[-1], -1).T
    return _on_grid(_convolved(images, kernel, flat=flat), images, kernel)


@mistake(
    "conv_is_patchify",
    lambda found, expected, images, kernel: (
        f"Your values are {kernel[..., 0].size} times too small, and a window holds {kernel[..., 0].size} numbers. Does a "
        "product of a window with its weights add up, or average?"
    ),
)
def mean_over_the_window(images, kernel):
    return _on_grid(_convolved(images, kernel), images, kernel) / kernel[..., 0].size


@mistake(
    "conv_is_patchify",
    "Your windows overlap: {found.shape[1]} × {found.shape[2]} of them, expected {expected.shape[1]} × {expected.shape[2]}. "
    "Stride P means that the next window begins where this one ends: who cuts the image like that?",
)
def stride_of_one(images, kernel):
    return mv.conv2d(images, kernel, stride=1).numpy()


@mistake(
    "conv_is_patchify",
    "Each output holds one product for every number of its window, and they are not added up: {found.shape}. A product of "
    "matrices would add them; what did you use?",
)
def products_not_added(images, kernel):
    p, _, c, d = kernel.shape
    b, h, w, _ = images.shape
    products = mv.patchify(images, p)[..., None] * kernel.reshape(p * p * c, d)
    return products.reshape(b, h // p, w // p, p * p * c, d)


@mistake(
    "conv_is_patchify",
    "With one channel yours is right. With {kernel.shape[2]} only the first is in your result: a window is as deep as the "
    "image; over how many axes does its product sum?",
)
def first_channel_alone(images, kernel):
    p, _, _, d = kernel.shape
    tokens = mv.patchify(images[..., :1], p) @ kernel[:, :, 0].reshape(p * p, d)
    return _on_grid(tokens, images, kernel)


# ---- add_class_token


def _seats(tokens, class_token, order="front", axis=1):
    b, _, d = tokens.shape
    seat = mv.broadcast_to(class_token, shape=(b, 1, d))
    return mv.concatenate([seat, tokens] if order == "front" else [tokens, seat], axis=axis)


def _zeros(tokens):
    return mv.Tensor(np.zeros((tokens.shape[0], 1, tokens.shape[2])))


@mistake(
    "add_class_token",
    "Every image has its class token, behind its patches. The head will read token 0: which token would it find there?",
)
def at_the_end(tokens, class_token):
    return _seats(tokens, class_token, "back")


@mistake(
    "add_class_token",
    "For one image this works; here {tokens.shape[0]} images meet one token of shape {class_token.shape}. Concatenation does "
    "not broadcast: who makes a seat for each image?",
)
def not_repeated(tokens, class_token):
    return mv.concatenate([class_token, tokens], axis=1)


@mistake(
    "add_class_token",
    "You added the token's values to every patch: {found[values].shape} is as many tokens as before. The class token is to sit "
    "beside the patches: which operation makes a sequence longer?",
)
def added_to_every_patch(tokens, class_token):
    return tokens + class_token


@mistake(
    "add_class_token",
    "The class token took the seat of the first patch: there are still {found[values].shape[1]} tokens. "
    "How many should there be, if nobody has to stand up?",
)
def first_patch_replaced(tokens, class_token):
    return _seats(tokens[:, 1:], class_token)


@mistake(
    "add_class_token",
    "{found[values].shape}: each patch of yours has become wider, by numbers of the class token. "
    "It should be one more token of the same width: along which axis do tokens lie?",
)
def along_the_features(tokens, class_token):
    b, n, d = tokens.shape
    return mv.concatenate([mv.broadcast_to(class_token, shape=(b, n, d)), tokens], axis=2)


@mistake(
    "add_class_token",
    "{found[values].shape}: your batch has grown by an image that is nothing but class tokens. Each image should have one token "
    "more: along which axis do tokens lie?",
)
def along_the_batch(tokens, class_token):
    return mv.concatenate([mv.broadcast_to(class_token, shape=(1, *tokens.shape[1:])), tokens], axis=0)


@mistake(
    "add_class_token",
    "There is a seat in front, and it is empty: zeros for every image. The learned token came as an argument: where does it "
    "enter?",
)
def seats_of_zeros(tokens, class_token):
    return mv.concatenate([_zeros(tokens), tokens], axis=1)


@mistake(
    "add_class_token",
    "One image is right. In a batch only the first gets the learned token, and the others sit beside zeros. Is there "
    "anything about image 1 that makes its question another one?",
)
def token_for_the_first_image(tokens, class_token):
    seats = _zeros(tokens).numpy()
    seats[0] = class_token.numpy()[0]
    return mv.concatenate([mv.Tensor(seats), tokens], axis=1)


@mistake(
    "add_class_token",
    "Every patch has got a class token of its own: {found[values].shape[1]} tokens where "
    "{expected[values].shape[1]} are expected. It answers for the whole image: how many of it does an image need?",
)
def one_for_every_patch(tokens, class_token):
    return mv.concatenate([mv.broadcast_to(class_token, shape=tokens.shape), tokens], axis=1)


@mistake(
    "add_class_token",
    "The tokens are Tensors, and NumPy's functions do not take them: they would not know how to send a gradient back. "
    "Which library has a concatenate that does?",
)
def concatenated_by_numpy(tokens, class_token):
    return np.concatenate([mv.broadcast_to(class_token, shape=(len(tokens), 1, tokens.shape[2])), tokens], axis=1)


# ---- sincos_2d


def _places(frequencies=None, place=None, parts=None, join=None):
    """Positions with another choice of frequencies, of places, of what is put side by side, or of how."""

    def sincos_2d(rows, columns, dim, base=10000.0):
        n = dim // 4
        omega = (frequencies or _omega)(n, base)
        y, x = (place or _grid)(rows, columns)
        x, y = x.reshape(-1, 1) * omega, y.reshape(-1, 1) * omega
        chosen = (parts or (lambda x, y: [np.sin(x), np.cos(x), np.sin(y), np.cos(y)]))(x, y)
        return (join or (lambda chosen: np.concatenate(chosen, axis=1)))(chosen)

    return sincos_2d


def _omega(n, base):
    return base ** (-np.arange(n) / max(1, n - 1))


def _grid(rows, columns):
    return np.mgrid[:rows, :columns].astype(float)


def _sincos_mistake(name, sentence, **changed):
    mistake("sincos_2d", sentence, name)(_places(**changed))


_sincos_mistake(
    "y_before_x",
    "Every number is there, but the row stands in the first half and the column in the second. Which of the two is x?",
    parts=lambda x, y: [np.sin(y), np.cos(y), np.sin(x), np.cos(x)],
)
_sincos_mistake(
    "places_down_the_columns",
    "Your places go down the columns: entry 1 is row 1, column 0. `patchify` goes along the rows: which patch comes after "
    "patch 0?",
    place=lambda rows, columns: np.mgrid[:rows, :columns].astype(float).transpose(0, 2, 1),
)
_sincos_mistake(
    "rows_for_columns",
    "Your grid has {columns} rows and {rows} columns; {rows} rows and {columns} columns are asked for. In which order do a "
    "picture's two sizes come, and in which are the places counted?",
    place=lambda rows, columns: np.mgrid[:columns, :rows].astype(float),
)
_sincos_mistake(
    "frequencies_stop_short",
    "Your frequencies begin at 1 and do not reach 1/base: you divide the exponents by dim/4 = {dim} / 4. There are that many "
    "frequencies, but how many steps lie between the first and the last?",
    frequencies=lambda n, base: base ** (-np.arange(n) / n),
)
_sincos_mistake(
    "frequencies_of_the_half",
    "Your frequencies are those of the formula for a line of words, which divides the exponents by half the width. Here four "
    "parts share {dim} numbers, and the last frequency is 1/base: what is the last exponent?",
    frequencies=lambda n, base: base ** (-np.arange(n) / (2 * n)),
)
_sincos_mistake(
    "frequencies_upside_down",
    "Your frequencies grow from 1 to base, so neighbours are turned round many times over. They should fall from 1 to 1/base: "
    "what is missing in the exponent?",
    frequencies=lambda n, base: base ** (np.arange(n) / max(1, n - 1)),
)
_sincos_mistake(
    "frequencies_evenly_spaced",
    "First and last frequency are right; between them yours go down in equal differences. From 1 to 1/base over several "
    "powers of ten: which spacing treats each power alike?",
    frequencies=lambda n, base: np.linspace(1, 1 / base, n),
)
_sincos_mistake(
    "sine_and_cosine_take_turns",
    "Your numbers are right, in another order: sine and cosine take turns. The docstring asks for four blocks: what should the "
    "first {dim} / 4 columns all be?",
    parts=lambda x, y: [np.stack([np.sin(a), np.cos(a)], axis=2).reshape(len(a), -1) for a in (x, y)],
)
_sincos_mistake(
    "sines_before_cosines",
    "Your numbers are right, in another order: both sines, then both cosines. In the docstring's list, which block follows "
    "sin xω?",
    parts=lambda x, y: [np.sin(x), np.sin(y), np.cos(x), np.cos(y)],
)
_sincos_mistake(
    "cosine_before_sine",
    "Your numbers are right, in another order: each cosine stands before its sine, so place (0, 0) begins with 1. With what "
    "should it begin?",
    parts=lambda x, y: [np.cos(x), np.sin(x), np.cos(y), np.sin(y)],
)
_sincos_mistake(
    "counted_from_1",
    "Your first place is (1, 1). The picture's first patch lies in row 0 and column 0: what is the sine of 0?",
    place=lambda rows, columns: np.mgrid[1 : rows + 1, 1 : columns + 1].astype(float),
)
_sincos_mistake(
    "places_between_0_and_1",
    "Your places are fractions of the picture's size, so a larger picture has nearer neighbours. The docstring's x and y: do "
    "they count patches, or shares?",
    place=lambda rows, columns: np.stack(
        np.meshgrid(np.linspace(0, 1, rows), np.linspace(0, 1, columns), indexing="ij")
    ),
)
_sincos_mistake(
    "the_column_twice",
    "The second half of your numbers repeats the first: two places in one column look alike whatever their row. Where does y "
    "come in?",
    parts=lambda x, y: [np.sin(x), np.cos(x), np.sin(x), np.cos(x)],
)
_sincos_mistake(
    "one_number_for_each_place",
    "You number the patches in one line and use that for x and for y. The patch below is then a whole row away: which two "
    "numbers say where a patch is?",
    place=lambda rows, columns: np.stack([np.arange(float(rows * columns))] * 2),
)
_sincos_mistake(
    "summed_not_joined",
    "Yours is {found.shape}: sine and cosine of x and y, added into one another. Added together they cannot be told apart: how "
    "do four blocks become one row?",
    join=sum,
)
_sincos_mistake(
    "base_ignored",
    "With the usual base yours is right; with base = 100 it is not. Does your function use its fourth argument, or a number "
    "written into it?",
    frequencies=lambda n, base: _omega(n, 10000.0),
)


@mistake(
    "add_class_token",
    "Every value is right, and yet the class token would never learn: its gradient stops at your copy. Which of your "
    "steps leaves the Tensors for NumPy?",
)
def out_of_the_tape(tokens, class_token):
    seat = np.broadcast_to(class_token.numpy(), (tokens.shape[0], 1, tokens.shape[2]))
    return mv.Tensor(np.concatenate([seat, tokens.numpy()], axis=1))
