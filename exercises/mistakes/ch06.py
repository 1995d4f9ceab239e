"""The usual mistakes in the exercises of chapter 06."""

import math

import numpy as np

import minivit as mv
from exercises.mistakes import mistake


def softmax(scores, axis=-1):
    e = np.exp(scores - scores.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


# ---- attention: q, k and v come as Tensors, without axes in front or with two of them (images, heads)


def products(q, k):
    return (q @ k.swapaxes(-1, -2)).numpy()


@mistake(
    "attention",
    lambda found, expected, q, k, v: (
        f"Your weights are too sharp, as if every score were {q.shape[-1] ** 0.5:.3g} times too large. A score is a "
        f"sum of {q.shape[-1]} products: how does its spread grow with their number, and what keeps it as it was?"
    ),
)
def no_scale(q, k, v):
    return softmax(products(q, k)) @ v.numpy()


@mistake(
    "attention",
    lambda found, expected, q, k, v: (
        f"Your weights are too flat, as if every score were {q.shape[-3] ** 0.5:.3g} times too small. "
        f"{q.shape[-3] * q.shape[-1]} is the width of all heads together: how many products does a score of one head "
        "add up?"
    ),
)
def by_the_width_of_all_heads(q, k, v):
    width = q.shape[-1] * (q.shape[-3] if q.ndim > 2 else 1)
    return softmax(products(q, k) / math.sqrt(width)) @ v.numpy()


@mistake(
    "attention",
    lambda found, expected, q, k, v: (
        f"Your weights are too flat: the scores were divided by {q.shape[-1]}. A score adds up {q.shape[-1]} products "
        "of either sign, and they partly cancel: does its spread grow as fast as their number?"
    ),
)
def by_d_without_the_root(q, k, v):
    return softmax(products(q, k) / q.shape[-1]) @ v.numpy()


@mistake(
    "attention",
    lambda found, expected, q, k, v: (
        f"You multiply the scores by √{q.shape[-1]}, so they lie {q.shape[-1]} times too far apart. They were too wide "
        "before you began: which way should the root bring them?"
    ),
)
def multiplied_by_the_root(q, k, v):
    return softmax(products(q, k) * math.sqrt(q.shape[-1])) @ v.numpy()


@mistake(
    "attention",
    lambda found, expected, q, k, v: (
        f"Your scores are divided by √{q.shape[-2]}, and {q.shape[-2]} is the number of queries. Would the product "
        "q · k be larger if there were more tokens, or if each held more numbers?"
    ),
)
def by_the_number_of_tokens(q, k, v):
    return softmax(products(q, k) / math.sqrt(q.shape[-2])) @ v.numpy()


@mistake(
    "attention",
    lambda found, expected, q, k, v: (
        f"For one table (T, d) you are right. Here q is {q.shape}, and your scores are divided by √{q.shape[1]}: which "
        "axis is number 1 now, and at which end is d always?"
    ),
)
def by_axis_1(q, k, v):
    return softmax(products(q, k) / math.sqrt(q.shape[1])) @ v.numpy()


@mistake(
    "attention",
    "Your columns sum to 1, your rows do not. Token i asks in row i: among whom is its attention shared?",
)
def softmax_over_queries(q, k, v):
    return softmax(products(q, k) / math.sqrt(q.shape[-1]), axis=-2) @ v.numpy()


@mistake(
    "attention",
    lambda found, expected, q, k, v: (
        f"Your {math.prod(q.shape[:-1]) * k.shape[-2]} weights, those of the whole input, sum to 1 together. Token i "
        "asks in row i, once for each image and head: how much attention does one such row share out?"
    ),
)
def softmax_over_everything(q, k, v):
    scores = products(q, k) / math.sqrt(q.shape[-1])
    e = np.exp(scores - scores.max())
    return e / e.sum() @ v.numpy()


@mistake(
    "attention",
    lambda found, expected, q, k, v: (
        f"Softmax saw your scores at full size, and everything after it is {q.shape[-1] ** 0.5:.3g} times smaller than "
        "an average of v. Something came too late: which numbers was it meant to tame?"
    ),
)
def scale_after_softmax(q, k, v):
    return softmax(products(q, k)) / math.sqrt(q.shape[-1]) @ v.numpy()


@mistake(
    "attention",
    lambda found, expected, q, k, v: (
        "Small scores come out right, but here they lie up to "
        f"{np.abs(q @ k.swapaxes(-1, -2)).max() / q.shape[-1] ** 0.5:,.0f} from 0, where e to their power is inf or 0. "
        "What may you take from a whole row of scores without changing its softmax?"
    ),
)
def exp_of_large_scores(q, k, v):
    e = np.exp(products(q, k) / math.sqrt(q.shape[-1]))
    return e / e.sum(axis=-1, keepdims=True) @ v.numpy()


@mistake(
    "attention",
    lambda found, expected, q, k, v: (
        f"Your scores are {(*q.shape[:-1], k.shape[-2])}, the maxima of their rows {q.shape[:-1]}: the axis that you "
        "reduced is gone, and NumPy lines up the rest at other axes. How can a reduced axis stay, with length 1?"
    ),
)
def maximum_without_its_axis(q, k, v):
    scores = q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1])
    e = (scores - scores.max(axis=-1)).exp()
    return e / e.sum(axis=-1, keepdims=True) @ v


@mistake(
    "attention",
    lambda found, expected, q, k, v: (
        f"Small scores come out right. Here {np.isnan(found).any(axis=-1).sum()} of {len(found)} rows are nan, and the "
        "row with the largest score of all is not. From which row came the maximum that you subtracted?"
    ),
)
def one_maximum_for_all_rows(q, k, v):
    scores = products(q, k) / math.sqrt(q.shape[-1])
    e = np.exp(scores - scores.max())
    return e / e.sum(axis=-1, keepdims=True) @ v.numpy()


@mistake(
    "attention",
    lambda found, expected, q, k, v: (
        f"q and k meet as they are, {q.shape} and {k.shape}. A score is made of one query and one key, number by "
        "number: which axis of each holds these numbers, and which axes does a product of matrices sum over?"
    ),
)
def keys_not_turned(q, k, v):
    return mv.softmax(q @ k / math.sqrt(q.shape[-1])) @ v


@mistake(
    "attention",
    "You return the weights themselves: row i says where token i looks, not what it finds there. Which argument is "
    "still unused, and what does row i do with it?",
)
def weights_alone(q, k, v):
    return softmax(products(q, k) / math.sqrt(q.shape[-1]))


@mistake(
    "attention",
    lambda found, expected, q, k, v: (
        f"`.T` turns all {k.ndim} axes of k around, from {k.shape} to {k.shape[::-1]}, and images and heads go with "
        "them. Which two axes should change places here?"
    ),
)
def all_axes_turned(q, k, v):
    return softmax((q @ k.T).numpy() / math.sqrt(q.shape[-1])) @ v.numpy()


@mistake(
    "attention",
    "Your keys ask and your queries answer: number j of row i is kᵢ · qⱼ, and row i is turned into weights. Whose "
    "question should row i hold?",
)
def keys_ask(q, k, v):
    return softmax(products(k, q) / math.sqrt(q.shape[-1])) @ v.numpy()


# ---- attention_vjp


def parts(q, k, v, g):
    """The factor of the scores, the weights and their gradient."""
    by = 1 / math.sqrt(q.shape[-1])
    return by, softmax(q @ k.swapaxes(-1, -2) * by), g @ v.swapaxes(-1, -2)


def three(dscores, weights, g, q, k):
    return dscores @ k, dscores.swapaxes(-1, -2) @ q, weights.swapaxes(-1, -2) @ g


def sum_of_row_0(dscores):
    return f"{dscores.reshape(-1, dscores.shape[-1])[0].sum():.2g}"


def through_weights_alone(g, q, k, v):
    by, weights, dweights = parts(q, k, v, g)
    return weights * dweights * by


@mistake(
    "attention_vjp",
    lambda found, expected, g, q, k, v: (
        f"Row 0 of your score gradient sums to {sum_of_row_0(through_weights_alone(g, q, k, v))}. Adding 5 to every "
        "score in a row changes nothing: what must that sum be?"
    ),
)
def no_sum_subtracted(g, q, k, v):
    _, weights, _ = parts(q, k, v, g)
    return three(through_weights_alone(g, q, k, v), weights, g, q, k)


def centred_down_the_columns(g, q, k, v):
    by, weights, dweights = parts(q, k, v, g)
    return weights * (dweights - (weights * dweights).sum(axis=-2, keepdims=True)) * by


@mistake(
    "attention_vjp",
    lambda found, expected, g, q, k, v: (
        f"You subtract one number for each of the {k.shape[-2]} keys, and row 0 of your score gradient sums to "
        f"{sum_of_row_0(centred_down_the_columns(g, q, k, v))}. Softmax ties the scores of one query together: how "
        "many such groups are there here?"
    ),
)
def sum_over_queries(g, q, k, v):
    _, weights, _ = parts(q, k, v, g)
    return three(centred_down_the_columns(g, q, k, v), weights, g, q, k)


@mistake(
    "attention_vjp",
    lambda found, expected, g, q, k, v: (
        f"dv is right; dq and dk are both {q.shape[-1] ** 0.5:.3g} times too large. On the way forward the scores were "
        "made smaller by one factor: what does the chain rule do with it on the way back?"
    ),
)
def scale_forgotten_on_the_way_back(g, q, k, v):
    _, weights, dweights = parts(q, k, v, g)
    return three(weights * (dweights - (weights * dweights).sum(axis=-1, keepdims=True)), weights, g, q, k)


@mistake(
    "attention_vjp",
    lambda found, expected, g, q, k, v: (
        "Even dv is wrong, and it needs only g and the weights. Yours are made of scores "
        f"{q.shape[-1] ** 0.5:.3g} times too large: what stands between qkᵀ and the softmax?"
    ),
)
def no_scale_at_all(g, q, k, v):
    weights, dweights = softmax(q @ k.swapaxes(-1, -2)), g @ v.swapaxes(-1, -2)
    return three(weights * (dweights - (weights * dweights).sum(axis=-1, keepdims=True)), weights, g, q, k)


@mistake(
    "attention_vjp",
    lambda found, expected, g, q, k, v: (
        "Even dv is wrong, and it needs only g and the weights. On the way back your scores are scaled; when the "
        "weights were made, they were not. Which function is it whose gradient is asked for?"
    ),
)
def scale_forgotten_on_the_way_forward(g, q, k, v):
    by, weights, dweights = 1 / math.sqrt(q.shape[-1]), softmax(q @ k.swapaxes(-1, -2)), g @ v.swapaxes(-1, -2)
    return three(weights * (dweights - (weights * dweights).sum(axis=-1, keepdims=True)) * by, weights, g, q, k)


@mistake(
    "attention_vjp",
    lambda found, expected, g, q, k, v: (
        f"For dk you multiply the score gradient, {q.shape[-2]} queries by {k.shape[-2]} keys, with q. dk must have a "
        f"row for each of the {k.shape[-2]} keys, collected over the queries that looked at it: which axis is summed "
        "then?"
    ),
)
def dk_from_scores_as_they_lie(g, q, k, v):
    by, weights, dweights = parts(q, k, v, g)
    dscores = weights * (dweights - (weights * dweights).sum(axis=-1, keepdims=True)) * by
    return dscores @ k, dscores @ q, weights.swapaxes(-1, -2) @ g


@mistake(
    "attention_vjp",
    lambda found, expected, g, q, k, v: (
        f"For dv you multiply the weights, {q.shape[-2]} queries by {k.shape[-2]} keys, with g. Value j was read by "
        "every query: along which axis of the table do its readers stand?"
    ),
)
def dv_from_weights_as_they_lie(g, q, k, v):
    by, weights, dweights = parts(q, k, v, g)
    dscores = weights * (dweights - (weights * dweights).sum(axis=-1, keepdims=True)) * by
    return dscores @ k, dscores.swapaxes(-1, -2) @ q, weights @ g


@mistake(
    "attention_vjp",
    lambda found, expected, g, q, k, v: (
        "For dq you multiply the score gradient with q itself. A score is q · k: if one number of a query grows by a "
        "little, what decides how much the score grows?"
    ),
)
def dq_from_queries(g, q, k, v):
    by, weights, dweights = parts(q, k, v, g)
    dscores = weights * (dweights - (weights * dweights).sum(axis=-1, keepdims=True)) * by
    return dscores @ q, dscores.swapaxes(-1, -2) @ k, weights.swapaxes(-1, -2) @ g


def by_own_slope(g, q, k, v):
    by, weights, dweights = parts(q, k, v, g)
    return dweights * weights * (1 - weights) * by


@mistake(
    "attention_vjp",
    lambda found, expected, g, q, k, v: (
        f"a(1 − a) is the slope of a weight by its own score, and row 0 of your score gradient sums to "
        f"{sum_of_row_0(by_own_slope(g, q, k, v))}, not to 0. When one score of a row grows, what happens to the other "
        "weights?"
    ),
)
def slope_of_a_sigmoid(g, q, k, v):
    _, weights, _ = parts(q, k, v, g)
    return three(by_own_slope(g, q, k, v), weights, g, q, k)


@mistake(
    "attention_vjp",
    "Your gradient goes through softmax as if nothing were there: what arrives at the weights is handed to the scores. "
    "A weight of 0.01 hardly moves when its score does: where does that enter?",
)
def past_the_softmax(g, q, k, v):
    by, weights, dweights = parts(q, k, v, g)
    return three(dweights * by, weights, g, q, k)


# ---- attention_bug: the listing with some of its three faults left, and repairs that miss


def repaired(most=-1, total=-1, scores_by="d", output_by=None):
    """The listing, with these axes for the maximum and the sum, and these widths (d, D) under the two roots."""

    def attention_bug(x, w_q, w_k, w_v):
        root = {None: 1.0, "d": math.sqrt(w_q.shape[-1]), "D": math.sqrt(x.shape[-1]), "d twice": w_q.shape[-1]}
        q, k, v = x @ w_q, x @ w_k, x @ w_v
        scores = q @ k.transpose(0, 2, 1) / root[scores_by]
        e = np.exp(scores - scores.max(axis=most, keepdims=True))
        return e / e.sum(axis=total, keepdims=True) @ v / root[output_by]

    return attention_bug


def row_0(x, w_q, w_k, by=1.0):
    """What row 0 of the weights sums to where the softmax runs down the columns."""
    return f"{softmax((x @ w_q) @ (x @ w_k).transpose(0, 2, 1) / by, axis=1)[0, 0].sum():.3g}"


mistake(
    "attention_bug",
    lambda found, expected, x, w_q, w_k, w_v: (
        "All three faults are still there. Begin with the table of weights: its columns sum to 1, and row 0 sums to "
        f"{row_0(x, w_q, w_k)}. A token asks in its row: what should that row sum to?"
    ),
    "as_it_stands",
)(repaired(most=1, total=1, scores_by=None, output_by="D"))

mistake(
    "attention_bug",
    lambda found, expected, x, w_q, w_k, w_v: (
        "Each row of weights sums to 1 now: one fault is gone. Two are left, both in one division: does the softmax "
        f"see it, and what is {x.shape[-1]} the width of?"
    ),
    "axis_alone",
)(repaired(scores_by=None, output_by="D"))

mistake(
    "attention_bug",
    lambda found, expected, x, w_q, w_k, w_v: (
        f"√{w_q.shape[-1]} is the right number: one fault is gone. Two are left: does the softmax see anything of that "
        f"division, and why does row 0 of the weights sum to {row_0(x, w_q, w_k)}?"
    ),
    "width_alone",
)(repaired(most=1, total=1, scores_by=None, output_by="d"))

mistake(
    "attention_bug",
    lambda found, expected, x, w_q, w_k, w_v: (
        "The division is in its place: one fault is gone. Two are left: how many products does one score add up, and "
        f"why does row 0 of the weights sum to {row_0(x, w_q, w_k, x.shape[-1] ** 0.5)}?"
    ),
    "place_alone",
)(repaired(most=1, total=1, scores_by="D"))

mistake(
    "attention_bug",
    lambda found, expected, x, w_q, w_k, w_v: (
        f"Two faults are gone. Softmax still sees the scores at full size, and the output is {w_q.shape[-1] ** 0.5:.3g} "
        "times smaller than an average of v. Which numbers was the division meant to tame?"
    ),
    "all_but_the_place",
)(repaired(scores_by=None, output_by="d"))

mistake(
    "attention_bug",
    lambda found, expected, x, w_q, w_k, w_v: (
        f"Two faults are gone. Your scores are still {(x.shape[-1] / w_q.shape[-1]) ** 0.5:.3g} times too small: they "
        f"are divided by √{x.shape[-1]}, and {x.shape[-1]} is the width of a token. How many products does one score "
        "add up?"
    ),
    "all_but_the_width",
)(repaired(scores_by="D"))

mistake(
    "attention_bug",
    lambda found, expected, x, w_q, w_k, w_v: (
        "Two faults are gone. One is left in the table: every column sums to 1, and row 0 sums to "
        f"{row_0(x, w_q, w_k, w_q.shape[-1] ** 0.5)}. Token i asks in row i: among whom is its attention shared?"
    ),
    "all_but_the_axis",
)(repaired(most=1, total=1))

mistake(
    "attention_bug",
    "Each row of weights sums to 1 now, and yet the weights are not right: what you take from the scores before `exp` "
    "differs within a row. Softmax forgives a number only if who shares it?",
    "axis_of_the_sum_alone",
)(repaired(most=1))

mistake(
    "attention_bug",
    "The maximum runs along a row now, the sum still down a column, so the columns sum to 1. Among whom does one query "
    "share its attention?",
    "axis_of_the_maximum_alone",
)(repaired(total=1))

mistake(
    "attention_bug",
    lambda found, expected, x, w_q, w_k, w_v: (
        "The division that stood in the wrong place is gone altogether, and your scores are "
        f"{w_q.shape[-1] ** 0.5:.3g} times too large. What was it there for: what grows with the width of a query?"
    ),
    "no_scale_left",
)(repaired(scores_by=None))

mistake(
    "attention_bug",
    lambda found, expected, x, w_q, w_k, w_v: (
        f"Axis and place are right, and {w_q.shape[-1]} is the right width, but the scores are divided by all of it. "
        "The products in a score partly cancel: does its spread grow as fast as their number?"
    ),
    "no_root",
)(repaired(scores_by="d twice"))

mistake(
    "attention_bug",
    lambda found, expected, x, w_q, w_k, w_v: (
        f"Every value is {x.shape[-1] ** 0.5:.3g} times too small. Your weights are right now: what still happens to "
        "the average that they take?"
    ),
    "the_old_division_stayed",
)(repaired(output_by="D"))

mistake(
    "attention_bug",
    lambda found, expected, x, w_q, w_k, w_v: (
        f"Every value is {w_q.shape[-1] ** 0.5:.3g} times too small, though your weights are right. How often is "
        "something divided by that number, and how often should it be?"
    ),
    "divided_twice",
)(repaired(output_by="d"))


# ---- two_maps_one_output: a table that is not right, and why; how to find one is for the reader


def unseen(*columns):
    """A direction that is at right angles to all of these columns."""
    return np.linalg.svd(np.concatenate(columns, axis=1))[0][:, -1]


def changed_row(weights, direction, size):
    other = weights.copy()
    other[0] += direction * size
    return other


def as_far_as_it_goes(weights, direction):
    return (weights[0] / np.abs(direction)).min()


@mistake(
    "two_maps_one_output",
    "This is `weights` itself, so of course the output stays. At least one entry has to move, by 0.01 or more: which "
    "moves of a row would its output not notice?",
)
def the_same_table(weights, v):
    return weights.copy()


@mistake(
    "two_maps_one_output",
    "In your table every token looks at all others alike, so all get one and the same output. In `weights @ v` the "
    "rows differ: what must a new row have in common with the old one?",
)
def looks_at_all_alike(weights, v):
    return np.full_like(weights, 1 / len(weights))


@mistake(
    "two_maps_one_output",
    lambda found, expected, weights, v: (
        f"You moved whole rows: row 0 of yours is row {len(weights) - 1} of `weights`, so token 0 gets what belongs to "
        f"token {len(weights) - 1}. Could a row change without leaving its place?"
    ),
)
def rows_reversed(weights, v):
    return weights[::-1].copy()


@mistake(
    "two_maps_one_output",
    lambda found, expected, weights, v: (
        f"You turned the rows around from within: key 0 has the weight of key {len(weights) - 1} now. Each weight has "
        "left the value that it multiplies: what does that do to the sum?"
    ),
)
def columns_reversed(weights, v):
    return weights[:, ::-1].copy()


@mistake(
    "two_maps_one_output",
    lambda found, expected, weights, v: (
        "Key 1 gives 0.01 to key 0, and your row still sums to 1. The output moves by 0.01 times the difference of "
        f"their two values, {0.01 * np.abs(v[0] - v[1]).max():.2g} in one entry: who else must take part so that "
        "nothing moves?"
    ),
)
def two_keys_trade(weights, v):
    other = weights.copy()
    other[0, 0] += 0.01
    other[0, 1] -= 0.01
    return other


@mistake(
    "two_maps_one_output",
    "Each row sums to 0.5 now, and the output is halved with it. A row of attention shares out 1, no less: what may be "
    "added to a row that leaves its sum as it is?",
)
def halved(weights, v):
    return weights / 2


@mistake(
    "two_maps_one_output",
    lambda found, expected, weights, v: (
        f"The output stays as it was: v does not see your change. But row 0 sums to {found[0].sum():.4g} now. There is "
        "one more thing that must not see it: which?"
    ),
)
def sums_forgotten(weights, v):
    direction = unseen(v)
    return changed_row(weights, direction, as_far_as_it_goes(weights, direction))


@mistake(
    "two_maps_one_output",
    lambda found, expected, weights, v: (
        "The output stays, and each row sums to 1: your direction is a good one. But you went too far along it, one "
        f"entry is {found.min():.2g}. How far may you go before the first weight reaches 0?"
    ),
)
def too_far(weights, v):
    return changed_row(weights, unseen(v, np.ones((len(v), 1))), 1.0)


@mistake(
    "two_maps_one_output",
    lambda found, expected, weights, v: (
        f"Output, sums and signs are right; the largest change is only {np.abs(found - weights).max():.1g}, where 0.01 "
        "is asked for. All weights are above 0.01: how much further could you go?"
    ),
)
def too_little(weights, v):
    return changed_row(weights, unseen(v, np.ones((len(v), 1))), 0.001)


@mistake(
    "two_maps_one_output",
    lambda found, expected, weights, v: (
        "The pseudo-inverse finds a table with this output, the one whose squares sum to the least. It knows nothing "
        f"of tables of attention: row 0 sums to {found[0].sum():.3g}, and the smallest entry is {found.min():.2g}. "
        "What else must hold?"
    ),
)
def pseudo_inverse(weights, v):
    return weights @ v @ np.linalg.pinv(v)


@mistake(
    "two_maps_one_output",
    "Your new table is a right one, but `weights` holds it now and the old one is lost. `other = weights` gives an "
    "array a second name: what gives you a second array?",
)
def the_old_table_lost(weights, v):
    direction = unseen(v, np.ones((len(v), 1)))
    other = weights
    other[0] += direction * as_far_as_it_goes(weights, direction)
    return np.maximum(other, 0)
