"""Exercises of chapter 07. Fill them in, then: python -m exercises check split_heads

★★ split_heads, 15 minutes: Give each head its slice of the features
★★★ pack_qkv, 20 minutes: Weights that another library packed otherwise
★★ shuffle_test, 12 minutes: Write the test: what does shuffling do?

Made from manifest.toml by `python -m exercises skeletons`.
"""

import numpy as np

import minivit as mv


def split_heads(x, num_heads):
    """Give each head its own slice of the features: (B, T, D) -> (B, heads, T, d), d = D / heads."""
    raise NotImplementedError


def pack_qkv(weight, bias, num_heads):
    """Columns head by head to columns q | k | v, each head after head: (D, 3·heads·d), (3·heads·d,) -> the same shapes.

    Another library's weights are q, k, v of head 0, then q, k, v of head 1, and so on, d columns each. minivit wants q of all
    heads, then k of all heads, then v of all heads. Returns (weight, bias), both rearranged.
    """
    raise NotImplementedError


def shuffle_test(layer, tokens):
    """What shuffling the tokens does to a layer: "equivariant", "invariant" or "neither".

    `layer` takes an array (B, T, D); it returns one output for each token, (B, T, E), or one for each image, (B, E). It
    is equivariant if shuffled tokens give the same outputs, shuffled in the same way; invariant if they give the same
    outputs in the old order. No layer here is both. `tokens` (B, T, D) are random; results that differ by rounding are
    the same.
    """
    raise NotImplementedError
