"""Chapter 11, solved in other ways."""

import math
from fractions import Fraction

import numpy as np
from right_ways import right


@right("at_most")
def seconds_of_a_hundred(share, factor):
    part = 100 * share
    after = (100 - part) + (0 if factor == math.inf else part / factor)
    return 100 / after


@right("at_most")
def by_the_time_saved(share, factor):
    saved = share * (1 - 1 / factor)
    return 1 / (1 - saved)


@right("at_most")
def in_fractions(share, factor):
    share = Fraction(share)
    part = 0 if math.isinf(factor) else share / Fraction(factor)
    return float(1 / (1 - share + part))


@right("at_most")
def in_numpy(share, factor):
    return np.reciprocal(np.sum([np.float64(1) - share, np.float64(share) / factor]))


def scaled(q, tile):
    return np.einsum("td,sd->ts", q, tile) / math.sqrt(q.shape[-1])


@right("attention_in_tiles")
def tiles_and_their_weights(q, k, v, size):
    """Each tile's attention and the logarithm of its sum; in the end a softmax of these over the tiles."""
    outputs, logs = [], []
    for i in range(0, len(k), size):
        scores = scaled(q, k[i : i + size])
        top = scores.max(axis=1)
        e = np.exp(scores - top[:, None])
        outputs.append(e @ v[i : i + size] / e.sum(axis=1)[:, None])
        logs.append(top + np.log(e.sum(axis=1)))
    weights = np.exp(np.array(logs) - np.max(logs, axis=0))
    weights /= weights.sum(axis=0)
    return sum(w[:, None] * out for w, out in zip(weights, outputs, strict=True))


@right("attention_in_tiles")
def query_by_query(q, k, v, size):
    found = np.zeros((len(q), v.shape[1]))
    for row, query in enumerate(q):
        top, total, values = -math.inf, 0.0, np.zeros(v.shape[1])
        for i in range(0, len(k), size):
            scores = [float(query @ key) / len(query) ** 0.5 for key in k[i : i + size]]
            if max(scores) > top:
                shrink, top = math.exp(top - max(scores)), max(scores)
                total, values = total * shrink, values * shrink
            for score, value in zip(scores, v[i : i + size], strict=True):
                total += math.exp(score - top)
                values = values + math.exp(score - top) * value
        found[row] = values / total
    return found


@right("attention_in_tiles")
def always_divided(q, k, v, size):
    """The output of the keys so far, at each tile mixed with the tile's own; the logarithms of both sums say how."""
    out, log = np.zeros((len(q), v.shape[1])), np.full((len(q), 1), -np.inf)
    cuts = range(size, len(k), size)
    for keys, values in zip(np.split(k, cuts), np.split(v, cuts), strict=True):
        scores = scaled(q, keys)
        new = np.logaddexp(log, np.logaddexp.reduce(scores, axis=1, keepdims=True))
        out = np.exp(log - new) * out + np.exp(scores - new) @ values
        log = new
    return out


@right("attention_in_tiles")
def with_a_column_of_ones(q, k, v, size):
    """The sum is one more column of the values; the tiles come in the opposite order."""
    v = np.hstack([v, np.ones((len(v), 1))])
    both, largest = np.zeros((len(q), v.shape[1])), np.full(len(q), -1e300)
    for i in reversed(range(0, len(k), size)):
        scores = scaled(q, k[i : i + size])
        new = np.fmax(largest, scores.max(1))
        both *= np.exp(largest - new)[:, None]
        both += np.exp(scores - new[:, None]) @ v[i : i + size]
        largest = new
    return both[:, :-1] / both[:, -1:]
