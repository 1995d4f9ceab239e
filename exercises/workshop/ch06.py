"""Chapter 06 behind the exercises."""

import math

import numpy as np


def inputs_attention(rng):
    """Two images and two heads, T ≠ S ≠ d; one query over many keys; scores too large for exp."""
    cases = []
    for lead, t, s, d, e, spread in (
        ((2, 2), 5, 5, 7, 7, 1),
        ((), 3, 4, 2, 5, 1),
        ((1,), 1, 6, 9, 3, 1),
        ((), 4, 3, 4, 2, 100),
    ):
        q, k, v = (rng.standard_normal((*lead, n, width)) for n, width in ((t, d), (s, d), (s, e)))
        cases.append((q * spread, k * spread, v))
    return cases


def attention_vjp(g, q, k, v):
    """The gradients of y = softmax(qkᵀ/√d) v: three arrays (dq, dk, dv) of the shapes of q, k and v.

    `q` is (…, T, d), `k` (…, S, d), `v` (…, S, e); `g` (…, T, e) is the gradient of y. In NumPy, without the tape.
    """
    scale = 1 / math.sqrt(q.shape[-1])
    weights = _softmax(q @ k.swapaxes(-1, -2) * scale)
    dweights = g @ v.swapaxes(-1, -2)
    dscores = weights * (dweights - (weights * dweights).sum(axis=-1, keepdims=True)) * scale
    return dscores @ k, dscores.swapaxes(-1, -2) @ q, weights.swapaxes(-1, -2) @ g


def inputs_attention_vjp(rng):
    cases = []
    for lead, t, s, d, e in (((), 2, 3, 4, 5), ((2, 2), 5, 5, 7, 7), ((3,), 1, 6, 2, 4)):
        shapes = ((t, e), (t, d), (s, d), (s, e))
        cases.append(tuple(rng.standard_normal((*lead, *shape)) for shape in shapes))
    return cases


def listing_attention_bug(x, w_q, w_k, w_v):
    """One head over a batch of sequences: array (B, T, D) and three matrices (D, d) -> (B, T, d).

    It runs, its shapes are right, and it has three faults. Repair them.
    """
    q, k, v = x @ w_q, x @ w_k, x @ w_v
    scores = q @ k.transpose(0, 2, 1)
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    weights = e / e.sum(axis=1, keepdims=True)
    return weights @ v / np.sqrt(x.shape[-1])


def attention_bug(x, w_q, w_k, w_v):
    """The listing, repaired."""
    q, k, v = x @ w_q, x @ w_k, x @ w_v
    return _softmax(q @ k.transpose(0, 2, 1) / math.sqrt(w_q.shape[-1])) @ v


def inputs_attention_bug(rng):
    sizes = ((1, 3, 4, 2), (2, 5, 6, 3))
    return [(rng.standard_normal((b, t, dim)), *rng.standard_normal((3, dim, d))) for b, t, dim, d in sizes]


def two_maps_one_output(weights, v):
    """Another table of attention with the same output: arrays (T, T), (T, d) -> (T, T), where T is at least d + 2.

    No entry is negative, each row sums to 1, `other @ v` equals `weights @ v`, and at least one entry differs from that
    of `weights` by 0.01 or more. All entries of `weights` are above 0.01.
    """
    known = np.concatenate([v, np.ones((len(v), 1))], axis=1)  # what a change of a row must not be seen by
    unseen = np.linalg.svd(known)[0][:, -1]
    other = weights.copy()
    other[0] += unseen * (weights[0] / np.abs(unseen)).min()
    return np.maximum(other, 0)


def inputs_two_maps_one_output(rng):
    cases = []
    for t, d in ((4, 2), (6, 3), (9, 2)):
        cases.append((_softmax(0.3 * rng.standard_normal((t, t))), rng.standard_normal((t, d))))
    return cases


def judge_two_maps_one_output(found, weights, v):
    """Any such table will do."""
    try:
        other = np.asarray(found, dtype=float)
    except (TypeError, ValueError):
        return f"your result is of type {type(found).__name__}, expected an array"
    if other.shape != weights.shape:
        return f"your table has shape {other.shape}, expected {weights.shape}"
    if other.min() < -1e-9:
        return f"entry {_place(other.argmin(), other)} of your table is {other.min():.3g}; no weight is negative"
    sums = other.sum(axis=-1)
    if not np.allclose(sums, 1):
        row = int(np.abs(sums - 1).argmax())
        return f"row {row} of your table sums to {sums[row]:.6g}, not to 1"
    gap = np.abs(other @ v - weights @ v)
    if gap.max() > 1e-6:
        return f"entry {_place(gap.argmax(), gap)} of the output changes by {gap.max():.3g}; it must stay the same"
    moved = np.abs(other - weights).max()
    if moved < 0.01:
        return f"no entry of your table differs from `weights` by more than {moved:.2g}; 0.01 is asked for"
    return None


def _place(flat, array):
    return [int(i) for i in np.unravel_index(flat, array.shape)]


def _softmax(scores):
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)
