"""Chapter 11 behind the exercises."""

import math

import numpy as np


def at_most(share, factor):
    """How many times as fast a step becomes when one part of it does.

    The part takes `share` of the step's time, from 0 to 1, and becomes `factor` times as fast; the rest takes as long as
    before. `factor` may be `math.inf`: then the part takes no time at all.
    """
    return 1 / (1 - share + share / factor)


def inputs_at_most(rng):
    """An infinite factor; a part that takes no time, and one that takes it all."""
    shares = [round(share, 2) for share in rng.uniform(0.1, 0.9, 3).tolist()]
    drawn = zip(shares, (3, 7, 40), strict=True)
    return [(0.5, 2), *drawn, (0.25, math.inf), (0.0, 4), (1.0, 5)]


def attention_in_tiles(q, k, v, size):
    """Attention over `size` keys and values at a time: (T, d), (S, d), (S, e) -> (T, e).

    Exactly attention: softmax(qkᵀ / √d) v, the softmax over all keys. But the table (T, S) is never made, only the scores of
    one tile, (T, size), which are forgotten before the next tile; each tile is read once. The last tile may be shorter.
    Scores may be as large as 10,000, or as low as −10,000.
    """
    largest = np.full((len(q), 1), -np.inf)  # of each row so far
    total = np.zeros((len(q), 1))  # the sum of exponentials, each divided by e^largest
    found = np.zeros((len(q), v.shape[1]))  # the values weighted by these exponentials
    for start in range(0, len(k), size):
        scores = q @ k[start : start + size].T / q.shape[1] ** 0.5
        new = np.maximum(largest, scores.max(axis=1, keepdims=True))
        weights, shrink = np.exp(scores - new), np.exp(largest - new)
        total = total * shrink + weights.sum(axis=1, keepdims=True)
        found = found * shrink + weights @ v[start : start + size]
        largest = new
    return found / total


def inputs_attention_in_tiles(rng):
    """Tiles that do not come out even, and one; then scores too large and too low for e to their power, and rows far apart."""
    cases = [_drawn(rng, *sizes) for sizes in ((2, 6, 4, 3, 2), (3, 7, 4, 5, 3), (4, 5, 2, 3, 9), (1, 8, 3, 2, 4))]
    high = np.array([1000, 1001, 1000.5, 1002, 1001, 1003])
    low_between = np.array([3000, 3001, -3000, -2999, 3000, 2999])
    cases += [_scoring(rng, high), _scoring(rng, -high - 8000), _scoring(rng, low_between)]
    cases.append(_scoring(rng, high - 1002, rows=(1, 2000)))
    return cases


def _scoring(rng, levels, rows=(1, 1)):
    """Two queries and six keys whose scores are about `levels`, times `rows`."""
    q, k, v, size = _drawn(rng, 2, 6, 4, 3, 2)
    along, q = rng.uniform(0.5, 1.5, 4), np.abs(q) + 0.5
    return q * (2 * np.array(rows) / (q @ along))[:, None], levels[:, None] * along + 0.1 * k, v, size


def _drawn(rng, t, s, d, e, size):
    return 1.5 * rng.standard_normal((t, d)), 1.5 * rng.standard_normal((s, d)), rng.standard_normal((s, e)), size
