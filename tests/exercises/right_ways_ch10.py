"""Chapter 10, solved in other ways."""

import functools
import math

import numpy as np
from right_ways import right


@right("adamw")
def decay_first(p, gradients, lr, betas, eps, weight_decay):
    """p shrinks before the step, which does not look at p."""
    m = v = 0.0
    for t, g in enumerate(gradients, start=1):
        p = p * (1 - lr * weight_decay)
        m += (1 - betas[0]) * (g - m)
        v += (1 - betas[1]) * (g**2 - v)
        p = p - lr * (m / (1 - betas[0] ** t)) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)
    return p


@right("adamw")
def number_by_number(p, gradients, lr, betas, eps, weight_decay):
    found = np.empty_like(p)
    for i in np.ndindex(p.shape):
        value, m, v = float(p[i]), 0.0, 0.0
        for t, g in enumerate(gradients[(slice(None), *i)].tolist(), start=1):
            m, v = betas[0] * m + (1 - betas[0]) * g, betas[1] * v + (1 - betas[1]) * g * g
            step = m / (1 - betas[0] ** t) / (math.sqrt(v / (1 - betas[1] ** t)) + eps)
            value -= lr * (step + weight_decay * value)
        found[i] = value
    return found


@right("adamw")
def averages_as_sums(p, gradients, lr, betas, eps, weight_decay):
    """m and v of step t as weighted sums of all gradients so far, without state; in place on a copy."""
    p = p.copy()
    for t in range(1, len(gradients) + 1):
        m_hat, v_hat = (
            np.tensordot(beta ** np.arange(t - 1, -1, -1.0), gradients[:t] ** power, axes=1)
            / sum(beta**i for i in range(t))
            for beta, power in zip(betas, (1, 2), strict=True)
        )
        p -= lr * (m_hat / (v_hat**0.5 + eps) + weight_decay * p)
    return p


@right("adamw")
def as_a_fold(p, gradients, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05):
    """The correction moved into the rate, as in the paper's remark on efficiency, with eps to match."""

    def step(state, g):
        p, m, v, t = state
        m, v = (b * old + (1 - b) * new for b, old, new in zip(betas, (m, v), (g, g * g), strict=True))
        full = math.sqrt(1 - betas[1] ** t)
        rate = lr * full / (1 - betas[0] ** t)
        return p - rate * m / (np.sqrt(v) + eps * full) - lr * weight_decay * p, m, v, t + 1

    return functools.reduce(step, gradients, (p, np.zeros_like(p), np.zeros_like(p), 1))[0]


@right("clip_global_norm")
def one_long_row(gradients, limit):
    row = np.concatenate([g.ravel() for g in gradients if g is not None])
    norm = np.linalg.norm(row)
    return [None if g is None else g * min(1.0, limit / norm) for g in gradients], norm


@right("clip_global_norm")
def norm_of_norms(gradients, limit):
    norm = math.hypot(*(np.linalg.norm(g) for g in gradients if g is not None))
    if norm <= limit:
        return gradients, norm
    return tuple(g if g is None else g / (norm / limit) for g in gradients), norm


@right("clip_global_norm")
def square_by_square(gradients, limit):
    """As the library adds a little to the norm, so here; gradients in float32."""
    total = 0.0
    for g in gradients:
        for value in [] if g is None else g.ravel().tolist():
            total += value * value
    factor = min(1.0, limit / (total**0.5 + 1e-6))
    return [g if g is None else (g * factor).astype(np.float32) for g in gradients], total**0.5
