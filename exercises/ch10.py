"""Exercises of chapter 10. Fill them in, then: python -m exercises check adamw

★★ adamw, 20 minutes: AdamW over several steps
★ clip_global_norm, 8 minutes: One norm for all gradients

Made from manifest.toml by `python -m exercises skeletons`.
"""

import numpy as np

import minivit as mv


def adamw(p, gradients, lr=0.001, betas=(0.9, 0.999), eps=1e-08, weight_decay=0.05):
    """A parameter after one step of AdamW for each of its gradients: an array of the shape of p, which stays as it is.

    `gradients` (n, …) holds the gradients of n steps, each of the shape of p. m and v, the running averages of the
    gradient and of its square, begin at 0; t counts steps from 1. A step is p ← p − lr (m̂ / (√v̂ + eps) + weight_decay · p)
    with m̂ = m / (1 − β₁ᵗ), v̂ = v / (1 − β₂ᵗ), and the p on the right from before the step.
    """
    raise NotImplementedError


def clip_global_norm(gradients, limit):
    """The gradients, all scaled by one factor if their common norm exceeds `limit`, and that norm."""
    raise NotImplementedError
