"""Chapter 05 behind the exercises."""

import numpy as np

import minivit as mv
from exercises.diagnosis import clue, difference


def inputs_patchify(rng):
    """Pixels that say where they are: row, column and channel can be read off each value."""
    row, column, channel = np.mgrid[:8, :12, :3]
    coded = (10000 * row + 100 * column + channel).astype(float)[None]
    return [(coded, 4), (rng.random((2, 6, 10, 3)), 2), (rng.random((3, 4, 4, 1)), 4)]


def conv_is_patchify(images, kernel):
    """A convolution with stride P and no padding, by `mv.patchify` and one product: (B, H, W, C) -> (B, H/P, W/P, D).

    `kernel` is (P, P, C, D): for each of D outputs a weight for every row, column and channel of the window. Returns an
    array; no loop over places.
    """
    p, _, c, d = kernel.shape
    b, h, w, _ = images.shape
    return (mv.patchify(images, p) @ kernel.reshape(p * p * c, d)).reshape(b, h // p, w // p, d)


def inputs_conv_is_patchify(rng):
    sizes = [((1, 4, 6, 1), 2, 1), ((2, 6, 9, 3), 3, 5), ((2, 8, 4, 2), 4, 3)]
    return [(rng.random(images), rng.standard_normal((p, p, images[-1], d))) for images, p, d in sizes]


def add_class_token(tokens, class_token):
    """Put the same learned token in front of every image's patches: (B, N, D), (1, 1, D) -> (B, N+1, D).

    Both are Tensors, and so is the result: the class token's gradient must be able to flow back to it.
    """
    b, _, d = tokens.shape
    return mv.concatenate([mv.broadcast_to(class_token, shape=(b, 1, d)), tokens], axis=1)


def plain_add_class_token(found, tokens, class_token):
    """The values, and what reaches the class token from a gradient that differs in every entry."""
    if not isinstance(found, mv.Tensor):
        return {"values": found, "gradient": None}
    if found.requires_grad:
        found.backward(np.arange(1.0, found.size + 1).reshape(found.shape))
    return {"values": found.numpy(), "gradient": class_token.grad}


def judge_add_class_token(found, tokens, class_token):
    """The values must be right and the gradient must flow."""
    if not isinstance(found, dict):
        return f"your result is of type {type(found).__name__}, expected a Tensor"
    right = plain_add_class_token(add_class_token(tokens, class_token), tokens, class_token)
    fault = difference(found["values"], right["values"], axes=["B", "N+1", "D"])
    if fault is not None:
        said = clue(found["values"], right["values"], {"tokens": tokens, "class_token": class_token})
        return f"{fault}. {said}".rstrip(".") if said else fault
    if found["gradient"] is None:
        return "the values are right, but no gradient reaches the class token: the result must be a Tensor that remembers it"
    return difference(found["gradient"], right["gradient"], where="the gradient of class_token")


def inputs_add_class_token(rng):
    return [
        (rng.standard_normal((b, n, d)), rng.standard_normal((1, 1, d)))
        for b, n, d in ((1, 2, 3), (3, 4, 2), (2, 5, 4))
    ]


def inputs_sincos_2d(rng):
    return [(3, 4, 8), (2, 5, 12), (4, 3, 16, 100.0), (1, 1, 4)]
