"""The usual mistakes in the exercises of chapter 08."""

import numpy as np

from exercises.mistakes import mistake

# ---- layer_norm: x (…, D), weight and bias (D,) come as Tensors


def row_0(array):
    return array.reshape(-1, array.shape[-1])[0]


def narrowest(x):
    """The smallest variance of a row."""
    return x.var(axis=-1).min()


def normed(x, weight, bias, eps=1e-6, axis=-1, ddof=0):
    x = x.numpy()
    variance = x.var(axis=axis, ddof=ddof, keepdims=True)
    return (x - x.mean(axis=axis, keepdims=True)) / np.sqrt(variance + eps) * weight.numpy() + bias.numpy()


@mistake(
    "layer_norm",
    lambda found, expected, x, weight, bias: (
        f"Your statistics run along axis 0 of {x.shape}, so what one image is normed by depends on the others. A token "
        "should be normed by nothing but its own features: along which axis do they lie?"
    ),
)
def over_the_first_axis(x, weight, bias, eps=1e-6):
    return normed(x, weight, bias, eps, axis=0)


@mistake(
    "layer_norm",
    lambda found, expected, x, weight, bias: (
        f"You take one mean and one variance of all {x.size} numbers. Then the rows have different means, and a loud "
        "token drowns a quiet one: how many means does an array of this shape need?"
    ),
)
def over_everything(x, weight, bias, eps=1e-6):
    return normed(x, weight, bias, eps, axis=None)


@mistake(
    "layer_norm",
    lambda found, expected, x, weight, bias: (
        f"Before weight and bias your values are {((x.shape[-1] - 1) / x.shape[-1]) ** 0.5:.3g} times what they should "
        f"be: you divide the sum of squares by {x.shape[-1] - 1}. That corrects a sample; are these {x.shape[-1]} "
        "features a sample of something?"
    ),
)
def variance_of_a_sample(x, weight, bias, eps=1e-6):
    return normed(x, weight, bias, eps, ddof=1)


@mistake(
    "layer_norm",
    lambda found, expected, x, weight, bias: (
        f"Rows with a large spread come out right. Here the narrowest has a deviation of {np.sqrt(narrowest(x)):.1g}, "
        "while √ε is 0.001, and you differ: is ε added to the variance or to its root?"
    ),
)
def eps_outside_the_root(x, weight, bias, eps=1e-6):
    x = x.numpy()
    unit = (x - x.mean(axis=-1, keepdims=True)) / (x.std(axis=-1, keepdims=True) + eps)
    return unit * weight.numpy() + bias.numpy()


@mistake(
    "layer_norm",
    lambda found, expected, x, weight, bias: (
        f"Rows with a large spread come out right. Here the narrowest has a variance of {narrowest(x):.1g}, ε is "
        "1e-06, and yours is blown up as if there were no ε: where did it go?"
    ),
)
def no_eps(x, weight, bias, eps=1e-6):
    return normed(x, weight, bias, 0.0)


@mistake(
    "layer_norm",
    lambda found, expected, x, weight, bias: (
        f"Rows with a large spread come out right. Here the narrowest has a variance of {narrowest(x):.1g}, and yours "
        "shrinks as it would with an ε of 1e-05, PyTorch's. Which ε is in the signature?"
    ),
)
def eps_of_another_library(x, weight, bias, eps=1e-6):
    return normed(x, weight, bias, 1e-5)


@mistake(
    "layer_norm",
    "Every row of yours has mean 0 and variance 1, which is the first half. Two arguments are still unused: what may "
    "they do to each feature?",
)
def no_weight_and_bias(x, weight, bias, eps=1e-6):
    return normed(x, weight * 0 + 1, bias * 0, eps)


@mistake(
    "layer_norm",
    "Your rows have mean 0 and variance 1 before the bias, and the bias is there. One argument is still unused: which "
    "features does it make larger?",
)
def no_weight(x, weight, bias, eps=1e-6):
    return normed(x, weight * 0 + 1, bias, eps)


@mistake(
    "layer_norm",
    lambda found, expected, x, weight, bias: (
        f"You are off by the same numbers in every row, {row_0(found - expected)[0]:.3g} in feature 0, "
        f"{row_0(found - expected)[1]:.3g} in feature 1. Which argument has one number for each feature, and is added?"
    ),
)
def no_bias(x, weight, bias, eps=1e-6):
    return normed(x, weight, bias * 0, eps)


@mistake(
    "layer_norm",
    lambda found, expected, x, weight, bias: (
        "You add the bias first and multiply by the weight then, so the bias is scaled as well. Look at a row without "
        "any spread: what should come out of it, bias or weight · bias?"
    ),
)
def bias_before_weight(x, weight, bias, eps=1e-6):
    return (normed(x, weight * 0 + 1, bias, eps)) * weight.numpy()


@mistake(
    "layer_norm",
    lambda found, expected, x, weight, bias: (
        f"You divide by the variance. Row 0 has a deviation of {row_0(x).std():.2g} here, and yours leaves it one of "
        f"{1 / row_0(x).std():.2g}, not 1. Double x, and its variance is four times as large: which measure of spread "
        "grows as x does?"
    ),
)
def no_root(x, weight, bias, eps=1e-6):
    x = x.numpy()
    unit = (x - x.mean(axis=-1, keepdims=True)) / (x.var(axis=-1, keepdims=True) + eps)
    return unit * weight.numpy() + bias.numpy()


@mistake(
    "layer_norm",
    lambda found, expected, x, weight, bias: (
        f"Your rows have the right spread but are not centred: row 0 of x has mean {row_0(x).mean():.2g}, and it is "
        "still there, divided. What should a row lose before it is scaled?"
    ),
)
def mean_left_in(x, weight, bias, eps=1e-6):
    x = x.numpy()
    return x / np.sqrt(x.var(axis=-1, keepdims=True) + eps) * weight.numpy() + bias.numpy()


@mistake(
    "layer_norm",
    lambda found, expected, x, weight, bias: (
        "You divide each row by the root of its mean square, mean and all, as RMSNorm does: row 0 of x has mean "
        f"{row_0(x).mean():.2g}. From what does LayerNorm measure the spread of a row?"
    ),
)
def root_mean_square(x, weight, bias, eps=1e-6):
    x = x.numpy()
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps) * weight.numpy() + bias.numpy()


@mistake(
    "layer_norm",
    lambda found, expected, x, weight, bias: (
        f"The means of the rows have shape {x.shape[:-1]}, x has {x.shape}: the axis that you reduced is gone, and "
        "broadcasting lines up the rest at other axes. How can a reduced axis stay, with length 1?"
    ),
)
def mean_without_its_axis(x, weight, bias, eps=1e-6):
    return (x - x.mean(axis=-1)) / (x.var(axis=-1) + eps).sqrt() * weight + bias


# ---- layer_norm_vjp


def statistics(x, eps):
    """The normed x and what it was divided by."""
    deviation = np.sqrt(x.var(axis=-1, keepdims=True) + eps)
    return (x - x.mean(axis=-1, keepdims=True)) / deviation, deviation


def gradients(g, x, weight, eps, mean=True, stretch=True):
    """The right gradients, or dx without one of the terms that come from the mean and the deviation."""
    unit, deviation = statistics(x, eps)
    h = weight * g
    dx = h - mean * h.mean(axis=-1, keepdims=True) - stretch * unit * (h * unit).mean(axis=-1, keepdims=True)
    others = tuple(range(x.ndim - 1))
    return dx / deviation, (g * unit).sum(axis=others), g.sum(axis=others)


@mistake(
    "layer_norm_vjp",
    lambda found, expected, g, x, weight, eps=1e-6: (
        "Your dx is g · weight over the deviation, and no more: right, if each row's mean and deviation were handed in "
        "from outside. They are made of x: along which other ways does a change of x reach y?"
    ),
)
def statistics_as_constants(g, x, weight, eps=1e-6):
    return gradients(g, x, weight, eps, mean=False, stretch=False)


@mistake(
    "layer_norm_vjp",
    lambda found, expected, g, x, weight, eps=1e-6: (
        f"Row 0 of your dx has mean {row_0(found[0]).mean():.2g}. LayerNorm cannot feel a constant added to a row: "
        "which term removes that part?"
    ),
)
def no_mean_term(g, x, weight, eps=1e-6):
    return gradients(g, x, weight, eps, mean=False)


@mistake(
    "layer_norm_vjp",
    lambda found, expected, g, x, weight, eps=1e-6: (
        "Each row of your dx has mean 0, as it should, and yet row 0 times x̂ sums to "
        f"{(row_0(found[0]) * row_0(statistics(x, eps)[0])).sum():.2g}. LayerNorm hardly feels a row stretched about "
        "its mean: which term removes that part?"
    ),
)
def no_stretch_term(g, x, weight, eps=1e-6):
    return gradients(g, x, weight, eps, stretch=False)


@mistake(
    "layer_norm_vjp",
    lambda found, expected, g, x, weight, eps=1e-6: (
        f"Row 0 of your dx has mean {row_0(found[0]).mean():.2g}, though you removed the means: the weight came after "
        "that and brought them back. In y = weight · x̂ + bias the weight acts last: when does it act on the way back?"
    ),
)
def weight_applied_late(g, x, weight, eps=1e-6):
    dx, dweight, dbias = gradients(g, x, np.ones_like(weight), eps)
    return weight * dx, dweight, dbias


@mistake(
    "layer_norm_vjp",
    "Your dx never meets the weight, so it is the gradient of x̂ alone. y = weight · x̂ + bias: what does a gradient "
    "of y become on its way to x̂?",
)
def dx_without_weight(g, x, weight, eps=1e-6):
    return gradients(g, x, np.ones_like(weight), eps)


@mistake(
    "layer_norm_vjp",
    lambda found, expected, g, x, weight, eps=1e-6: (
        f"dx is right. Your dweight is {np.shape(found[1])}, weight is {weight.shape}: you sum over the features. Each "
        "feature has one weight, which all the tokens use: over what do its gradients add up?"
    ),
)
def parameters_over_features(g, x, weight, eps=1e-6):
    dx, *_ = gradients(g, x, weight, eps)
    return dx, (g * statistics(x, eps)[0]).sum(axis=-1), g.sum(axis=-1)


@mistake(
    "layer_norm_vjp",
    lambda found, expected, g, x, weight, eps=1e-6: (
        f"dx and dbias are right. Your dweight is {np.shape(found[1])}, as if it were summed over features. You found "
        "the axes for dbias: what is different about dweight?"
    ),
)
def weight_over_features(g, x, weight, eps=1e-6):
    dx, _, dbias = gradients(g, x, weight, eps)
    return dx, (g * statistics(x, eps)[0]).sum(axis=-1), dbias


@mistake(
    "layer_norm_vjp",
    lambda found, expected, g, x, weight, eps=1e-6: (
        f"dx is right, and so is all for a table (T, D). Here x is {x.shape}, and your dweight is "
        f"{np.shape(found[1])}: one axis is summed. How many axes of x are not features?"
    ),
)
def over_the_first_axis_alone(g, x, weight, eps=1e-6):
    dx, *_ = gradients(g, x, weight, eps)
    return dx, (g * statistics(x, eps)[0]).sum(axis=0), g.sum(axis=0)


@mistake(
    "layer_norm_vjp",
    lambda found, expected, g, x, weight, eps=1e-6: (
        f"dx is right; dweight and dbias are {x.size // x.shape[-1]} times too small, and there are "
        f"{x.size // x.shape[-1]} tokens. Each of them used the same weight: what does a value used so often receive?"
    ),
)
def averaged_over_tokens(g, x, weight, eps=1e-6):
    dx, dweight, dbias = gradients(g, x, weight, eps)
    tokens = x.size // x.shape[-1]
    return dx, dweight / tokens, dbias / tokens


@mistake(
    "layer_norm_vjp",
    "dx and dbias are right. Your dweight multiplies g by x itself, but x is not what the weight meets on the way "
    "forward: which number does feature j of a token have when the weight arrives?",
)
def weight_met_x(g, x, weight, eps=1e-6):
    dx, _, dbias = gradients(g, x, weight, eps)
    return dx, (g * x).sum(axis=tuple(range(x.ndim - 1))), dbias


@mistake(
    "layer_norm_vjp",
    lambda found, expected, g, x, weight, eps=1e-6: (
        f"What you subtract in dx is {x.shape[-1]} times too large: sums over the {x.shape[-1]} features. A mean of "
        f"{x.shape[-1]} numbers stood there on the way forward: how much does one number weigh in it?"
    ),
)
def sums_for_means(g, x, weight, eps=1e-6):
    unit, deviation = statistics(x, eps)
    h = weight * g
    dx = h - h.sum(axis=-1, keepdims=True) - unit * (h * unit).sum(axis=-1, keepdims=True)
    others = tuple(range(x.ndim - 1))
    return dx / deviation, (g * unit).sum(axis=others), g.sum(axis=others)


@mistake(
    "layer_norm_vjp",
    lambda found, expected, g, x, weight, eps=1e-6: (
        f"Rows with a large spread come out right. Here the narrowest has a variance of {narrowest(x):.1g} beside an "
        f"eps of {eps:g}, and yours is as if eps were 0: which root is without it?"
    ),
)
def no_eps_on_the_way_back(g, x, weight, eps=1e-6):
    return gradients(g, x, weight, 0.0)


# ---- block


@mistake(
    "block",
    "Your output is a norm's own output: you norm the sum, after each part, as the first Transformer did. The book's "
    "block norms what a part reads: what happens to the running sum itself?",
)
def post_norm(x, norm1, attention, norm2, mlp):
    x = norm1(x + attention(x))
    return norm2(x + mlp(x))


@mistake(
    "block",
    "Your MLP reads norm1 of the running sum. There is an argument that you never call: which, and why might the "
    "second part want its own?",
)
def one_norm(x, norm1, attention, norm2, mlp):
    x = x + attention(norm1(x))
    return x + mlp(norm1(x))


@mistake(
    "block",
    "Nothing of x itself is in your result: if attention and MLP found nothing, you would return zeros. What should a "
    "block hand on that has nothing to add?",
)
def no_skip(x, norm1, attention, norm2, mlp):
    return mlp(norm2(attention(norm1(x))))


@mistake(
    "block",
    "You overwrite x by its norm, and then add to that: the running sum is lost at the first line. The parts read a "
    "norm; what do they add to?",
)
def skip_of_the_norm(x, norm1, attention, norm2, mlp):
    x = norm1(x)
    x = x + attention(x)
    x = norm2(x)
    return x + mlp(x)


@mistake(
    "block",
    "Attention and MLP both read the x that came in, side by side. The running sum has grown when the MLP's turn "
    "comes: how would it learn of what attention found?",
)
def side_by_side(x, norm1, attention, norm2, mlp):
    return x + attention(norm1(x)) + mlp(norm2(x))


@mistake(
    "block",
    "All the pieces are there, and each with its own norm, but the MLP comes first. Which of the two looks at other "
    "tokens, and which thinks about what was seen?",
)
def thinks_first(x, norm1, attention, norm2, mlp):
    x = x + mlp(norm2(x))
    return x + attention(norm1(x))


@mistake(
    "block",
    lambda found, expected, x, norm1, attention, norm2, mlp: (
        "Your MLP reads the right thing, but its finding is added to the x that came in: what attention found, up to "
        f"{np.abs(attention(norm1(x))).max():.2g} here, is gone from the sum. To what is the second part added?"
    ),
)
def second_sum_from_the_start(x, norm1, attention, norm2, mlp):
    y = x + attention(norm1(x))
    return x + mlp(norm2(y))


@mistake(
    "block",
    "The first half is right. The second returns what the MLP finds, and the running sum ends there: where does it "
    "come back in?",
)
def second_skip_forgotten(x, norm1, attention, norm2, mlp):
    x = x + attention(norm1(x))
    return mlp(norm2(x))


@mistake(
    "block",
    "Attention's finding replaces x, where it should be added to it; the second half is right. How does the x that "
    "came in get past attention?",
)
def first_skip_forgotten(x, norm1, attention, norm2, mlp):
    x = attention(norm1(x))
    return x + mlp(norm2(x))


@mistake(
    "block",
    "Both sums are right, but your parts read the running sum as it is, and that grows from block to block. Two of the "
    "arguments are never called: what do they do to what a part reads?",
)
def no_norms(x, norm1, attention, norm2, mlp):
    x = x + attention(x)
    return x + mlp(x)


@mistake(
    "block",
    "norm1 and norm2 have changed places. They look alike, but each has learned scales of its own: which one belongs "
    "to attention?",
)
def norms_exchanged(x, norm1, attention, norm2, mlp):
    x = x + attention(norm2(x))
    return x + mlp(norm1(x))
