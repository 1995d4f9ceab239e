"""Chapter 10 behind the exercises."""

import math

import numpy as np


def adamw(p, gradients, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05):
    """A parameter after one step of AdamW for each of its gradients: an array of the shape of p, which stays as it is.

    `gradients` (n, …) holds the gradients of n steps, each of the shape of p. m and v, the running averages of the
    gradient and of its square, begin at 0; t counts steps from 1. A step is p ← p − lr (m̂ / (√v̂ + eps) + weight_decay · p)
    with m̂ = m / (1 − β₁ᵗ), v̂ = v / (1 − β₂ᵗ), and the p on the right from before the step.
    """
    b1, b2 = betas
    m, v = np.zeros_like(p), np.zeros_like(p)
    for t, g in enumerate(gradients, start=1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g * g
        size = np.sqrt(v) / math.sqrt(1 - b2**t) + eps
        p = p - lr * (m / (1 - b1**t) / size + weight_decay * p)
    return p


def inputs_adamw(rng):
    """One step, then several; gradients of very different sizes, one of 0, and an eps that is felt."""
    sizes = np.array([1e-4, 1.0, 100.0])
    p, several = rng.standard_normal((4, 3)), rng.standard_normal((3, 4, 3)) * sizes
    several[:, 0, 0] = 0
    return [
        (p, several[:1], 0.1, (0.9, 0.999), 1e-8, 0.0),
        (p, several, 0.1, (0.9, 0.999), 1e-8, 0.0),
        (p, several, 0.1, (0.9, 0.99), 1e-3, 0.0),
        (p, several, 0.01, (0.8, 0.95), 1e-8, 0.5),
    ]


def inputs_clip_global_norm(rng):
    """Above the limit together but not apart; far above; below; and a parameter that had no gradient."""
    shapes = [(3, 4), (5,), (2, 1, 3)]
    draw = [rng.standard_normal(shape) for shape in shapes]
    return [
        ([np.array([0.9, 0.0]), np.array([[0.0], [1.2]])], 1.3),
        (draw, 0.5),
        ([g * 100 for g in draw], 1.0),
        ([g / 100 for g in draw], 1.0),
        ([draw[0], None, draw[1]], 2.0),
    ]
