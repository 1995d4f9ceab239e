"""The usual mistakes in the exercises of chapter 11."""

import numpy as np

from exercises.mistakes import mistake

# ---- at_most


def percent(share):
    return f"{100 * share:.0f}"


mistake(
    "at_most",
    lambda found, expected, share, factor: (
        f"You average two speeds, {factor} times and once, by their shares, and find {found:.3g}. Of 100 seconds, "
        f"{percent(share)} become {100 * share / factor:.0f}: how many are left in all, and how many times as fast is "
        "that?"
    ),
    "speeds_averaged",
)(lambda share, factor: 1 + share * (factor - 1))

mistake(
    "at_most",
    lambda found, expected, share, factor: (
        f"Your {found:.3g} is the time that is left of 1. It is right, as far as it goes: if something takes "
        f"{found:.3g} of the time it took, how many times as fast is it?"
    ),
    "the_time_that_is_left",
)(lambda share, factor: 1 - share + share / factor)

mistake(
    "at_most",
    lambda found, expected, share, factor: (
        f"Your {found:.3g} is the share of the time that is saved. The step shall be compared with itself, before and "
        "after: how much of its time is left?"
    ),
    "the_time_that_is_saved",
)(lambda share, factor: share - share / factor)

mistake(
    "at_most",
    lambda found, expected, share, factor: (
        f"You save {100 * (found - 1):.3g} seconds of 100 and call that {found:.3g} times as fast. What took 100 seconds "
        "and now takes 50 has also saved 50: is that 1.5 times as fast?"
    ),
    "one_plus_the_time_saved",
)(lambda share, factor: 1 + share - share / factor)

mistake(
    "at_most",
    lambda found, expected, share, factor: (
        f"You multiply the factor by the share. By that, a part of {percent(share)} % that does not become faster at all, "
        f"factor 1, makes the step {share:g} times as fast: what should come out there?"
    ),
    "factor_times_share",
)(lambda share, factor: share * factor)

mistake(
    "at_most",
    lambda found, expected, share, factor: (
        f"Your answer is the limit, {found:.3g}, as if the part took no time any more. Here it becomes {factor} times "
        "as fast: how much of its time does it still take?"
    ),
    "the_part_disappears",
)(lambda share, factor: 1 / (1 - share))

mistake(
    "at_most",
    lambda found, expected, share, factor: (
        f"Your step is {found:.3g} times as fast as before, so it became slower, though a part of it got faster. "
        f"A part that is {factor} times as fast: does its time become larger or smaller?"
    ),
    "time_times_factor",
)(lambda share, factor: 1 / (1 - share + share * factor))

mistake(
    "at_most",
    lambda found, expected, share, factor: (
        f"You count the part alone, {percent(share)} seconds of 100 that become {100 * share / factor:.0f}. Where in "
        "your formula are the other seconds, which take as long as before?"
    ),
    "the_rest_forgotten",
)(lambda share, factor: 1 / (share / factor))

mistake(
    "at_most",
    lambda found, expected, share, factor: (
        f"The part's factor goes to the rest: you let {percent(1 - share)} % of the time become {factor} times as short and "
        f"leave {percent(share)} % as it was. Which of the two is `share`?"
    ),
    "part_and_rest_exchanged",
)(lambda share, factor: 1 / (share + (1 - share) / factor))

mistake(
    "at_most",
    "Right for every factor that is a number, but with an infinite one you divide infinity by infinity. Which form of "
    "your fraction has the factor in one place alone?",
    "infinity_by_infinity",
)(lambda share, factor: factor / (factor * (1 - share) + share))


# ---- attention_in_tiles


def running(largest, scores):
    return np.maximum(largest, scores.max(axis=1, keepdims=True))


def of_the_tile(largest, scores):
    return scores.max(axis=1, keepdims=True)


def shrink(old, new):
    return np.exp(old - new)


def unchanged(old, new):
    return 1


def in_tiles(
    top=running, total_by=shrink, values_by=shrink, start=-np.inf, rooted=True, whole=False, end=np.divide, each=None
):
    """The right way with a part left out or elsewhere."""

    def attention_in_tiles(q, k, v, size):
        largest = np.full((len(q), 1), float(start))
        total, found = np.zeros((len(q), 1)), np.zeros((len(q), v.shape[1]))
        for i in range(0, len(k) - size + 1 if whole else len(k), size):
            scores = q @ k[i : i + size].T / (q.shape[1] ** 0.5 if rooted else 1)
            new = top(largest, scores)
            weights = np.exp(scores - new)
            total = total * total_by(largest, new) + weights.sum(axis=1, keepdims=True)
            found = found * values_by(largest, new) + weights @ v[i : i + size]
            found, largest = each(found, total) if each else found, new
        return end(found, total)

    return attention_in_tiles


def tile_by_tile(combine):
    """Each tile's own attention, and what `combine` makes of these."""

    def attention_in_tiles(q, k, v, size):
        cuts = range(size, len(k), size)
        pairs = zip(np.split(k, cuts), np.split(v, cuts), strict=True)
        return combine([in_tiles()(q, keys, values, size) for keys, values in pairs], axis=0)

    return attention_in_tiles


def tiles(k, size):
    return -(-len(k) // size)


def highest(q, k):
    return (q @ k.T).max() / q.shape[1] ** 0.5


mistake(
    "attention_in_tiles",
    lambda found, expected, q, k, v, size: (
        f"You add the outputs of {tiles(k, size)} attentions, one for each tile, and the weights of each sum to 1. What "
        "do all weights of a token sum to in your result, and what should they?"
    ),
    "outputs_of_tiles_added",
)(tile_by_tile(np.sum))

mistake(
    "attention_in_tiles",
    lambda found, expected, q, k, v, size: (
        f"Each of your {tiles(k, size)} tiles counts as much as any other, whether its keys fit the query or not. If the "
        "one key that fits stands in the first tile, how much should the others have a say?"
    ),
    "mean_over_tiles",
)(tile_by_tile(np.mean))

mistake(
    "attention_in_tiles",
    "The exponentials of each tile are measured against that tile's own maximum, and then added to those of the others. "
    "An e^0 of one tile and an e^0 of another may belong to very different scores: against what can all be measured?",
    "maxima_of_tiles_not_reconciled",
)(in_tiles(top=of_the_tile, total_by=unchanged, values_by=unchanged))

mistake(
    "attention_in_tiles",
    "You keep the largest score so far, and that is half of it. But what was added up before a larger one came is still "
    "measured against the old one: what happens to both sums when the maximum moves?",
    "nothing_rescaled",
)(in_tiles(total_by=unchanged, values_by=unchanged))

mistake(
    "attention_in_tiles",
    "When a larger score comes, you shrink the sum of the exponentials but not the weighted values. Your weights then sum "
    "to more than 1: which sum has been left behind?",
    "values_not_rescaled",
)(in_tiles(values_by=unchanged))

mistake(
    "attention_in_tiles",
    "When a larger score comes, you shrink the weighted values but not the sum that they are divided by. Your weights then "
    "sum to less than 1: which sum has been left behind?",
    "sum_not_rescaled",
)(in_tiles(total_by=unchanged))


@mistake(
    "attention_in_tiles",
    "When a larger score comes, your earlier sums grow. They were divided by e^(old maximum) and should now be divided by "
    "e^(new maximum), which is larger: which way round is the difference in your exponent?",
)
def rescaled_the_wrong_way(q, k, v, size):
    def grow(old, new):
        return np.where(np.isinf(old), 1, np.exp(new - old))  # the first tile has nothing to rescale

    return in_tiles(total_by=grow, values_by=grow)(q, k, v, size)


@mistake(
    "attention_in_tiles",
    "Every number is nan, from the first tile on. There the largest score so far may be −inf, and the sums are 0: what is "
    "your factor for the sums then, and what is it times 0?",
)
def infinite_from_the_start(q, k, v, size):
    def grow(old, new):
        return np.exp(new - old)

    return in_tiles(total_by=grow, values_by=grow)(q, k, v, size)


mistake(
    "attention_in_tiles",
    lambda found, expected, q, k, v, size: (
        f"Right while scores are small. Here one is {highest(q, k):,.0f}, and e to that is infinite. Chapter 04 had a "
        "remedy for a whole row; how much of it can be had before all tiles are seen?"
    ),
    "no_maximum",
)(in_tiles(top=lambda largest, scores: 0 * scores[:, :1]))

mistake(
    "attention_in_tiles",
    "Right until a tile with far lower scores follows one with far higher ones: then your factor for the sums, "
    "e^(old − new), is infinite. You go down with every tile's own maximum: which of the two should be kept?",
    "maximum_of_the_last_tile",
)(in_tiles(top=of_the_tile))

mistake(
    "attention_in_tiles",
    lambda found, expected, q, k, v, size: (
        "You subtract one maximum for all queries. Row 0 of the scores reaches "
        f"{highest(q[:1], k):,.0f} here and row 1 {highest(q[1:], k):,.0f}: what is left of row 0 then? How many maxima "
        "do you need?"
    ),
    "one_maximum_for_all_rows",
)(in_tiles(top=lambda largest, scores: np.maximum(largest, scores.max())))

mistake(
    "attention_in_tiles",
    lambda found, expected, q, k, v, size: (
        "Your largest score so far seems to begin too high, at 0 perhaps. Here the highest of all is "
        f"{highest(q, k):,.0f}, so the start stays the maximum and every exponential becomes 0. What is smaller than any "
        "score?"
    ),
    "maximum_starts_at_zero",
)(in_tiles(start=0))

mistake(
    "attention_in_tiles",
    lambda found, expected, q, k, v, size: (
        f"{len(k)} keys in tiles of {size}: yours ends with the last full tile, after {len(k) - len(k) % size} keys. How "
        "many steps does your loop make, and where does the last one have to begin?"
    ),
    "last_tile_dropped",
)(in_tiles(whole=True))

mistake(
    "attention_in_tiles",
    lambda found, expected, q, k, v, size: (
        f"The tiles are put together rightly, but the scores are {q.shape[1] ** 0.5:.3g} times too large: queries and "
        f"keys have {q.shape[1]} numbers. What does chapter 06 do with a score before the softmax?"
    ),
    "no_scale",
)(in_tiles(rooted=False))

mistake(
    "attention_in_tiles",
    "You divide by the sum after every tile, so what the first tile brought is divided again and again. Both sums can "
    "wait: when is the sum of all exponentials known?",
    "divided_in_every_tile",
)(in_tiles(each=np.divide, end=lambda found, total: found))

mistake(
    "attention_in_tiles",
    "Both sums are kept rightly, and one of them is not used in the end. A softmax is exponentials divided by something: "
    "where is that?",
    "never_divided",
)(in_tiles(end=lambda found, total: found))
