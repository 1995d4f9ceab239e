"""The usual mistakes in the exercises of chapter 07."""

import numpy as np

import minivit as mv
from exercises.mistakes import mistake

# ---- split_heads: x comes as a Tensor (B, T, D)


def reshaped_at_once(x, num_heads):
    """What head 1 begins with if (T, D) is cut straight into (heads, T, d): the token, its first and last feature, "
    "their head."""
    _, t, width = x.shape
    d = width // num_heads
    token, first = divmod(t * d, width)
    return token, first, first + d - 1, first // d


@mistake(
    "split_heads",
    lambda found, expected, x, num_heads: (
        "Right values, wrong order: your head 1 begins with features {1}–{2} of token {0}, which belong to head {3}. "
        "Reshape splits an axis; what moves one?".format(*reshaped_at_once(x, num_heads))
    ),
)
def reshape_alone(x, num_heads):
    b, t, width = x.shape
    return x.reshape(b, num_heads, t, width // num_heads)


@mistake(
    "split_heads",
    lambda found, expected, x, num_heads: (
        f"Right values, wrong order: your head 0 holds features 0, {num_heads}, {2 * num_heads} and so on, as if they "
        f"were dealt out like cards. A head owns {x.shape[-1] // num_heads} neighbours: of the two new axes, which "
        "counts heads?"
    ),
)
def width_before_heads(x, num_heads):
    b, t, width = x.shape
    return x.reshape(b, t, width // num_heads, num_heads).transpose(0, 3, 1, 2)


@mistake(
    "split_heads",
    lambda found, expected, x, num_heads: (
        "Right values, wrong order, and merging the heads again would not give x back: you move the tokens behind the "
        "features first, so row 0 of head 0 holds feature 0 of tokens "
        f"0–{min(x.shape[-1] // num_heads, x.shape[1]) - 1}. Which must come first, the split or the move?"
    ),
)
def merge_is_not_its_inverse(x, num_heads):
    b, t, width = x.shape
    return x.swapaxes(1, 2).reshape(b, num_heads, t, width // num_heads)


@mistake(
    "split_heads",
    lambda found, expected, x, num_heads: (
        "The shape is right, but features and tokens were never separated: you cut the rows, as they lie in memory, "
        "into (heads, d, T) and turned that around. Which axis of x is it that has to be split, and into what?"
    ),
)
def cut_as_if_turned(x, num_heads):
    b, t, width = x.shape
    return x.reshape(b, num_heads, width // num_heads, t).swapaxes(2, 3)


@mistake(
    "split_heads",
    "Each token has its heads, which is half of the way. But attention takes the last two axes for tokens and "
    "features, and yours are heads and features: which axis has to leave?",
)
def tokens_before_heads(x, num_heads):
    b, t, width = x.shape
    return x.reshape(b, t, num_heads, width // num_heads)


@mistake(
    "split_heads",
    "The heads are the right slices, but they stand before the images. Axis 0 is the batch all through the book: at "
    "which axis do you stack the slices?",
)
def heads_before_images(x, num_heads):
    return mv.stack(mv.split(x, num_heads, axis=-1))


@mistake(
    "split_heads",
    lambda found, expected, x, num_heads: (
        f"Images and heads share one axis of {found.shape[0]} in your result. The values are in the right order; who "
        "is to tell later which of them belong to one image?"
    ),
)
def heads_among_the_images(x, num_heads):
    b, t, width = x.shape
    split = x.reshape(b, t, num_heads, width // num_heads).swapaxes(1, 2)
    return split.reshape(b * num_heads, t, width // num_heads)


@mistake(
    "split_heads",
    "The slices are right, but each head lies on its side: its rows are features, its columns tokens, as k lies in "
    "qkᵀ. (B, heads, T, d) is asked for: which axes change places?",
)
def each_head_on_its_side(x, num_heads):
    b, t, width = x.shape
    return x.reshape(b, t, num_heads, width // num_heads).transpose(0, 2, 3, 1)


@mistake(
    "split_heads",
    lambda found, expected, x, num_heads: (
        f"You cut x into {found.shape[1]} heads of width {found.shape[3]}; asked for are {num_heads} heads. num_heads "
        "says how many there are: how wide is each?"
    ),
)
def number_taken_for_width(x, num_heads):
    b, t, width = x.shape
    return x.reshape(b, t, width // num_heads, num_heads).swapaxes(1, 2)


# ---- pack_qkv


def ordered(weight, bias, axes, order):
    """Columns read as if stored along these axes, (name, size) each, and laid out in another order of them."""
    new = (0, *(1 + i for i in order))
    turned = weight.reshape(-1, *axes).transpose(new).reshape(weight.shape)
    return turned, bias.reshape(-1, *axes).transpose(new).reshape(bias.shape)


def head_width(weight, num_heads):
    return weight.shape[1] // (3 * num_heads)


def order_of(found, weight):
    """Which columns of weight the first ones of found are."""
    return [int(np.argmax((weight == column[:, None]).all(axis=0))) for column in found.T]


@mistake(
    "pack_qkv",
    lambda found, expected, weight, bias, num_heads: (
        f"Weight and bias come back as they were. Your columns 0–{num_heads * head_width(weight, num_heads) - 1} would "
        f"all be taken for q, but from column {head_width(weight, num_heads)} on they hold k of head 0: what has to "
        "move past what?"
    ),
)
def nothing_moved(weight, bias, num_heads):
    return weight, bias


@mistake(
    "pack_qkv",
    lambda found, expected, weight, bias, num_heads: (
        "Your first columns are "
        f"{', '.join(map(str, order_of(found[0], weight)[: 2 * head_width(weight, num_heads)]))} of the old ones. You "
        f"read the old columns as 3 groups of {num_heads}, the way they are to become. In what groups do they come: "
        "what do 3 neighbouring slices belong to?"
    ),
)
def the_way_back(weight, bias, num_heads):
    return ordered(weight, bias, (3, num_heads, head_width(weight, num_heads)), (1, 0, 2))


@mistake(
    "pack_qkv",
    "The weight is right; the bias came back as it was. Column j of the weight and number j of the bias make one "
    "output together: what does that ask of the bias?",
)
def bias_left_behind(weight, bias, num_heads):
    axes = (num_heads, 3, head_width(weight, num_heads))
    return ordered(weight, bias, axes, (1, 0, 2))[0], bias


@mistake(
    "pack_qkv",
    "The bias is right; the weight came back as it was. Its rows belong to the input and stay; which of its axes is "
    "laid out as the bias is?",
)
def weight_left_behind(weight, bias, num_heads):
    axes = (num_heads, 3, head_width(weight, num_heads))
    return weight, ordered(weight, bias, axes, (1, 0, 2))[1]


@mistake(
    "pack_qkv",
    lambda found, expected, weight, bias, num_heads: (
        "You read q, k and v as interleaved number by number, so your first columns are 0, 3, 6 of the old ones. Of "
        f"each head, q comes as {head_width(weight, num_heads)} columns in a row: which axis runs fastest?"
    ),
)
def interleaved(weight, bias, num_heads):
    return ordered(weight, bias, (num_heads, head_width(weight, num_heads), 3), (2, 0, 1))


@mistake(
    "pack_qkv",
    lambda found, expected, weight, bias, num_heads: (
        "q, k and v are in three thirds now, but within each third your columns go round the heads: one of head 0, one "
        f"of head 1, and so on. A head's {head_width(weight, num_heads)} columns should stay together: which axis "
        "should run fastest?"
    ),
)
def heads_within_features(weight, bias, num_heads):
    return ordered(weight, bias, (num_heads, 3, head_width(weight, num_heads)), (1, 2, 0))


@mistake(
    "pack_qkv",
    "All q come first, as they should, but k and v have changed places: your second third holds v. In which order do "
    "q, k and v of one head come in the file?",
)
def values_before_keys(weight, bias, num_heads):
    axes = (num_heads, 3, head_width(weight, num_heads))
    packed = ordered(weight, bias, axes, (1, 0, 2))
    return tuple(np.concatenate([np.split(part, 3, axis=-1)[i] for i in (0, 2, 1)], axis=-1) for part in packed)


@mistake(
    "pack_qkv",
    lambda found, expected, weight, bias, num_heads: (
        f"The order is right, but the weight is {np.shape(found[0])} now and the bias {np.shape(found[1])}: the axes "
        "by which you sorted are still apart. What shape should both have in the end?"
    ),
)
def left_in_pieces(weight, bias, num_heads):
    d = head_width(weight, num_heads)
    by_head = weight.reshape(len(weight), num_heads, 3, d)
    return by_head.transpose(0, 2, 1, 3), bias.reshape(num_heads, 3, d).transpose(1, 0, 2)


# ---- shuffle_test: verdicts of tests that test too little


def verdict(order, same=np.allclose, axis=1, back=lambda order: order):
    """A test with one order of the entries along one axis; `back(order)` is how the outputs should have moved."""

    def shuffle_test(layer, tokens):
        chosen = order(tokens.shape[axis])
        before, after = layer(tokens), layer(tokens.take(chosen, axis))
        if same(after, before):
            return "invariant"
        return "equivariant" if before.ndim == 3 and same(after, before.take(back(chosen), axis)) else "neither"

    return shuffle_test


def scrambled(n):
    """An order that is no rotation, no reversal, and not its own inverse."""
    return np.array([2, 0, 3, 1, 5, 4, *range(6, n)])[:n]


def largest(layer, tokens, order=scrambled):
    """By how much this order of the tokens moves the outputs against what equivariance and invariance ask for."""
    chosen = order(tokens.shape[1])
    before, after = layer(tokens), layer(tokens[:, chosen])
    moved = np.abs(after - before).max()
    return min(moved, np.abs(after - before[:, chosen]).max()) if before.ndim == 3 else moved


mistake(
    "shuffle_test",
    "To you every layer is invariant, this one too. Are the tokens really in another order when you call the layer a "
    "second time?",
    "nothing_shuffled",
)(verdict(np.arange))

mistake(
    "shuffle_test",
    lambda found, expected, layer, tokens: (
        f"Your test says {found}, and for the reversed order that is true. But here the order 2 0 3 1 5 4 moves an "
        f"output by {largest(layer, tokens):.2g} from where it should be: are all orders like the one that you tried?"
    ),
    "reversed_alone",
)(verdict(lambda n: np.arange(n)[::-1]))

mistake(
    "shuffle_test",
    lambda found, expected, layer, tokens: (
        f"Your test says {found}, and for rotations of the tokens that is true. But here the order 2 0 3 1 5 4 moves "
        f"an output by {largest(layer, tokens):.2g} from where it should be: who stays neighbours in a rotation?"
    ),
    "rotated_alone",
)(verdict(lambda n: np.roll(np.arange(n), 1)))

mistake(
    "shuffle_test",
    lambda found, expected, layer, tokens: (
        f"Your test says {found}, and while the first three tokens keep their places, that is true. But the order 2 0 "
        f"3 1 5 4 moves an output by {largest(layer, tokens):.2g} from where it should be: does yours move every token?"
    ),
    "last_two_exchanged",
)(verdict(lambda n: np.array([*range(n - 2), n - 1, n - 2])))

mistake(
    "shuffle_test",
    lambda found, expected, layer, tokens: (
        f"Your test says {found}, and while the last three tokens keep their places, that is true. But the order 2 0 3 "
        f"1 5 4 moves an output by {largest(layer, tokens):.2g} from where it should be: how many tokens does yours "
        "move?"
    ),
    "first_two_exchanged",
)(verdict(lambda n: np.array([1, 0, *range(2, n)])))

mistake(
    "shuffle_test",
    lambda found, expected, layer, tokens: (
        "Your test says neither, but this layer misses what is asked for by no more than "
        f'{largest(layer, tokens):.1g}: sums in another order round in another way. What should "the same" mean for floats?'
    ),
    "exact_comparison",
)(verdict(scrambled, same=np.array_equal))

mistake(
    "shuffle_test",
    lambda found, expected, layer, tokens: (
        f"Your test says {found}. It seems to have shuffled the {tokens.shape[0]} images, which no layer here mixes: "
        f"in tokens {tokens.shape}, which axis counts what is to be shuffled?"
    ),
    "images_shuffled",
)(verdict(lambda n: np.arange(n)[::-1], axis=0))

mistake(
    "shuffle_test",
    "This layer gives one output for each token, or one for each image, and your verdict follows from that alone: does "
    "the number of outputs say what a shuffle does to them?",
    "judged_by_shape",
)(lambda layer, tokens: "equivariant" if layer(tokens).ndim == 3 else "invariant")

mistake(
    "shuffle_test",
    lambda found, expected, layer, tokens: (
        f"You say {found} where {expected} is right, and the other way round elsewhere. Which of the two words means "
        '"the outputs move as the inputs do", and which "the outputs do not notice"?'
    ),
    "words_exchanged",
)(
    lambda layer, tokens: {"invariant": "equivariant", "equivariant": "invariant"}.get(
        verdict(scrambled)(layer, tokens), "neither"
    )
)

mistake(
    "shuffle_test",
    "You seem to undo the shuffle where it should be done: the outputs come in the new order, and you compare them "
    "with the old ones in the inverse order. If output i now comes from token order[i], which old output is it?",
    "inverse_order",
)(verdict(scrambled, back=np.argsort))

mistake(
    "shuffle_test",
    "Your test never says invariant: it looks only for outputs that moved along. What if they do not move at all when "
    "the tokens do?",
    "never_invariant",
)(
    lambda layer, tokens: (
        "equivariant" if layer(tokens).ndim == 3 and verdict(scrambled)(layer, tokens) == "equivariant" else "neither"
    )
)
