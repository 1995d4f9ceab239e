"""The usual mistakes in the exercises of chapter 17."""

import math

import numpy as np

from exercises.mistakes import mistake

# ---- patch_kernel


def side(weight, channels):
    return math.isqrt(len(weight) // channels)


@mistake(
    "patch_kernel",
    lambda found, expected, weight, channels: (
        f"The shape is right, and nothing has moved: your first {math.prod(expected.shape[1:])} numbers are the "
        f"matrix's first {math.prod(expected.shape[1:])}, which belong to all {weight.shape[1]} outputs in turn. "
        "Reshape splits an axis; which axis has to come forward?"
    ),
)
def reshape_alone(weight, channels):
    p = side(weight, channels)
    return weight.reshape(-1, channels, p, p)


@mistake(
    "patch_kernel",
    lambda found, expected, weight, channels: (
        "Each output has its own numbers, but you cut them as if all pixels of one channel came first. In our rows the "
        f"{channels} channels of a pixel are neighbours: into which three axes, in which order, is the long one to be "
        "split?"
    ),
)
def turned_and_cut_channels_first(weight, channels):
    p = side(weight, channels)
    return weight.T.reshape(-1, channels, p, p)


@mistake(
    "patch_kernel",
    "Outputs and channels are where they belong; inside each patch, rows and columns are exchanged. For square patches "
    "no shape tells you: which of the last two axes of your result counts rows?",
)
def columns_before_rows(weight, channels):
    p = side(weight, channels)
    return weight.reshape(p, p, channels, -1).T


@mistake(
    "patch_kernel",
    lambda found, expected, weight, channels: (
        f"Yours is {np.shape(found)}: outputs first, which is right, and the channels last, as in our images. PyTorch's "
        "come elsewhere: before which axes?"
    ),
)
def channels_last(weight, channels):
    p = side(weight, channels)
    return weight.reshape(p, p, channels, -1).transpose(3, 0, 1, 2)


@mistake(
    "patch_kernel",
    lambda found, expected, weight, channels: (
        f"Yours is {np.shape(found)}. Rows and columns are at the end, as they should; but {channels} is the number of "
        f"channels and {weight.shape[1]} that of outputs: which of them does PyTorch put first?"
    ),
)
def channels_before_outputs(weight, channels):
    p = side(weight, channels)
    return weight.reshape(p, p, channels, -1).transpose(2, 3, 0, 1)


@mistake(
    "patch_kernel",
    lambda found, expected, weight, channels: (
        f"Yours is still {np.shape(found)}: (out, in), right for a Linear. A convolution's kernel has four axes: which "
        "three things does the second of yours count?"
    ),
)
def turned_alone(weight, channels):
    return weight.T


@mistake(
    "patch_kernel",
    lambda found, expected, weight, channels: (
        f"Yours is {np.shape(found)}: the long axis is split in the right order, but the axes have not moved since. "
        "PyTorch wants outputs first: what comes after the reshape?"
    ),
)
def split_alone(weight, channels):
    p = side(weight, channels)
    return weight.reshape(p, p, channels, -1)


@mistake(
    "patch_kernel",
    "The axes are right, but each patch is turned by half a circle, rows and columns both counted from the end. Mathematicians' "
    "convolutions turn their kernel round; does the sliding product of chapter 05, or PyTorch's?",
)
def kernel_turned_round(weight, channels):
    p = side(weight, channels)
    return weight.reshape(p, p, channels, -1).transpose(3, 2, 0, 1)[:, :, ::-1, ::-1]


# ---- fold_preparation


def spread(values, weight, how=np.tile):
    """One number for each row of the matrix, out of one for each channel."""
    return how(values, len(weight) // len(values))


def folded(bias, divide=lambda weight, std: weight / std[:, None], how=np.tile):
    """`bias` gives the new bias from the old one, the old and new weight, and mean and std of each row."""

    def fold_preparation(weight, old, mean, std):
        m, s = (spread(values, weight, how) for values in (mean, std))
        new = divide(weight, s)
        return new, bias(old, weight, new, m, s)

    return fold_preparation


mistake(
    "fold_preparation",
    "The weight is right; the bias is the old one. The subtracted mean is a constant, but the matrix multiplies it too: "
    "what does a patch of which every pixel equals the mean get from the old pair, and from yours?",
    "bias_unchanged",
)(folded(lambda b, w, new, m, s: b))

mistake(
    "fold_preparation",
    lambda found, expected, weight, bias, mean, std: (
        "The bias is right; the weight is the old one. In channel 0 a difference of 1 between two pixels became "
        f"{1 / std[0]:.3g} before the matrix saw it: what makes up for that now?"
    ),
    "weight_unchanged",
)(lambda weight, bias, mean, std: (weight, bias - spread(mean / std, weight) @ weight))

mistake(
    "fold_preparation",
    "The weight is right, and the mean enters the bias with the wrong sign. Ask for the token of a patch that equals the "
    "mean: prepared it is all zeros, so what should your pair give?",
    "mean_added",
)(folded(lambda b, w, new, m, s: b + m @ new))

mistake(
    "fold_preparation",
    "The weight is right. Your bias subtracts the mean times the old weight, but the mean was subtracted before the "
    "division by std: was it divided as well?",
    "mean_not_divided",
)(folded(lambda b, w, new, m, s: b - m @ w))

mistake(
    "fold_preparation",
    "The weight is right. In your bias the mean is divided by std twice: once by you, and once in the weight that you "
    "multiply it with. Which of the two would be enough?",
    "mean_divided_twice",
)(folded(lambda b, w, new, m, s: b - m / s @ new))

mistake(
    "fold_preparation",
    "You multiply the weight by std, where the images were divided by it. You may change x / s · w only by moving the "
    "brackets: what belongs to w then?",
    "weight_times_std",
)(folded(lambda b, w, new, m, s: b - m / s @ w, divide=lambda w, s: w * s[:, None]))

mistake(
    "fold_preparation",
    lambda found, expected, weight, bias, mean, std: (
        "Your weight is multiplied by std, and the bias is made from that weight, so that both are off by one "
        f"misunderstanding. A difference of {std[0]:.2g} between two pixels of channel 0: how much of it reached the "
        "matrix?"
    ),
    "weight_times_std_in_the_bias_too",
)(folded(lambda b, w, new, m, s: b - m @ new, divide=lambda w, s: w * s[:, None]))

mistake(
    "fold_preparation",
    "You have built the opposite: a pair for prepared images, out of one for raw ones. Here the given pair wants prepared "
    "images. Where did the division come from, before or after the matrix?",
    "the_other_way_round",
)(folded(lambda b, w, new, m, s: b + m @ w, divide=lambda w, s: w * s[:, None]))

mistake(
    "fold_preparation",
    lambda found, expected, weight, bias, mean, std: (
        f"You give the first {len(weight) // len(mean)} rows to channel 0, the next to channel 1. That would be right for "
        "PyTorch's order. In ours, which channels do rows 0, 1 and 2 of the matrix belong to?"
    ),
    "channel_by_channel",
)(folded(lambda b, w, new, m, s: b - m @ new, how=np.repeat))

mistake(
    "fold_preparation",
    lambda found, expected, weight, bias, mean, std: (
        f"Your bias makes up for the mean of one pixel, {len(mean)} numbers. A patch has {len(weight)}, and each of them "
        "was prepared: over how many rows does the sum go?"
    ),
    "mean_of_one_pixel",
)(lambda weight, bias, mean, std: (weight / spread(std, weight)[:, None], bias - mean / std @ weight[: len(mean)]))

mistake(
    "fold_preparation",
    "You use one mean and one spread for all channels, the averages. Right for grey images; here each channel was "
    "prepared with its own: to which channel does row i of the matrix belong?",
    "one_mean_for_all_channels",
)(lambda weight, bias, mean, std: (weight / std.mean(), bias - (weight / std.mean()).sum(axis=0) * mean.mean()))
