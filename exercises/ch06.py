"""Exercises of chapter 06. Fill them in, then: python -m exercises check attention

★★ attention, 20 minutes: Attention: ask every token, average what they hold
★★★ attention_vjp, 30 minutes: Back through attention and its softmax
★★ attention_bug, 15 minutes: Three faults in one head
★★ two_maps_one_output, 12 minutes: Another table, the same output

Made from manifest.toml by `python -m exercises skeletons`.
"""

import numpy as np

import minivit as mv


def attention(q, k, v, scale=None):
    """softmax(qkᵀ/√d) v (Vaswani et al. 2017, eq. 1): (…, T, d), (…, S, d), (…, S, d) -> (…, T, d)."""
    raise NotImplementedError


def attention_vjp(g, q, k, v):
    """The gradients of y = softmax(qkᵀ/√d) v: three arrays (dq, dk, dv) of the shapes of q, k and v.

    `q` is (…, T, d), `k` (…, S, d), `v` (…, S, e); `g` (…, T, e) is the gradient of y. In NumPy, without the tape.
    """
    raise NotImplementedError


def attention_bug(x, w_q, w_k, w_v):
    """One head over a batch of sequences: array (B, T, D) and three matrices (D, d) -> (B, T, d).

    It runs, its shapes are right, and it has three faults. Repair them.
    """
    q, k, v = x @ w_q, x @ w_k, x @ w_v
    scores = q @ k.transpose(0, 2, 1)
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    weights = e / e.sum(axis=1, keepdims=True)
    return weights @ v / np.sqrt(x.shape[-1])


def two_maps_one_output(weights, v):
    """Another table of attention with the same output: arrays (T, T), (T, d) -> (T, T), where T is at least d + 2.

    No entry is negative, each row sums to 1, `other @ v` equals `weights @ v`, and at least one entry differs from that
    of `weights` by 0.01 or more. All entries of `weights` are above 0.01.
    """
    raise NotImplementedError
