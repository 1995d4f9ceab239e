"""Exercises of chapter 08. Fill them in, then: python -m exercises check layer_norm

★ layer_norm, 10 minutes: Each token to mean 0 and variance 1
★★★ layer_norm_vjp, 30 minutes: Its gradient, with statistics that depend on x
★★ block, 15 minutes: Norm, look, add; norm, think, add

Made from manifest.toml by `python -m exercises skeletons`.
"""

import numpy as np

import minivit as mv


def layer_norm(x, weight, bias, eps=1e-06):
    """γ (x − mean) / √(var + ε) + β over the last axis, with the biased variance (Ba et al. 2016): (…, D), (D,), (D,)."""
    raise NotImplementedError


def layer_norm_vjp(g, x, weight, eps=1e-06):
    """The gradients of y = weight · x̂ + bias with x̂ = (x − mean) / √(var + eps): three arrays dx, dweight, dbias.

    `g` is the gradient of y, of the shape of x (…, D); mean and variance are taken over the last axis, and they depend on
    x. weight is (D,), and so are dweight and dbias.
    """
    raise NotImplementedError


def block(x, norm1, attention, norm2, mlp):
    """A pre-norm Transformer block: (B, T, D) -> (B, T, D).

    `norm1`, `attention`, `norm2` and `mlp` are functions from arrays (B, T, D) to arrays (B, T, D). Each of the two parts,
    attention first, reads its own norm of the running sum and adds what it finds to the running sum.
    """
    raise NotImplementedError
