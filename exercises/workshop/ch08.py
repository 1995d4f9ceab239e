"""Chapter 08 behind the exercises."""

import numpy as np

import minivit as mv


def inputs_layer_norm(rng):
    """Rows far from 0, and rows of tiny spread, where it matters that ε stands inside the root."""
    sizes = [(2, 3, 5), (4, 6), (1, 1, 2)]
    cases = [(2 + 3 * rng.standard_normal(s), *rng.standard_normal((2, s[-1]))) for s in sizes]
    tiny = 1 + 1e-3 * rng.standard_normal((3, 4))
    return [*cases, (tiny, *rng.standard_normal((2, 4)))]


def layer_norm_vjp(g, x, weight, eps=1e-6):
    """The gradients of y = weight · x̂ + bias with x̂ = (x − mean) / √(var + eps): three arrays dx, dweight, dbias.

    `g` is the gradient of y, of the shape of x (…, D); mean and variance are taken over the last axis, and they depend on
    x. weight is (D,), and so are dweight and dbias.
    """
    deviation = np.sqrt(x.var(axis=-1, keepdims=True) + eps)
    unit = (x - x.mean(axis=-1, keepdims=True)) / deviation
    h = weight * g
    along = unit * (h * unit).mean(axis=-1, keepdims=True)
    dx = (h - h.mean(axis=-1, keepdims=True) - along) / deviation
    others = tuple(range(x.ndim - 1))
    return dx, (g * unit).sum(axis=others), g.sum(axis=others)


def inputs_layer_norm_vjp(rng):
    """No two axes equal; rows far from 0; and narrow rows beside an ε of the size of their variance."""
    cases = [(rng.standard_normal(s), 2 + 3 * rng.standard_normal(s), rng.standard_normal(s[-1]))
             for s in ((2, 3, 5), (4, 6), (3, 7))]  # fmt: skip
    tiny = (rng.standard_normal((3, 4)), 1 + 1e-2 * rng.standard_normal((3, 4)), rng.standard_normal(4), 1e-4)
    return [*cases, tiny]


def block(x, norm1, attention, norm2, mlp):
    """A pre-norm Transformer block: (B, T, D) -> (B, T, D).

    `norm1`, `attention`, `norm2` and `mlp` are functions from arrays (B, T, D) to arrays (B, T, D). Each of the two parts,
    attention first, reads its own norm of the running sum and adds what it finds to the running sum.
    """
    x = x + attention(norm1(x))
    return x + mlp(norm2(x))


def inputs_block(rng):
    cases = []
    for b, t, d in ((2, 4, 6), (1, 3, 2)):
        scales = rng.uniform(0.5, 2, (2, d))
        weights = rng.standard_normal((4, d, d)) / d**0.5
        cases.append((2 + rng.standard_normal((b, t, d)), *_parts(scales, weights)))
    return cases


def _parts(scales, weights):
    """Two norms that differ, an attention and an MLP, as functions over arrays."""

    def norm(scale):
        def normed(x):
            return mv.layer_norm(x, scale, 0 * scale).numpy()

        return normed

    def attention(x):
        return mv.attention(x @ weights[0], x @ weights[1], x @ weights[2]).numpy()

    def mlp(x):
        return np.maximum(x @ weights[3], 0) @ weights[3].T

    return norm(scales[0]), attention, norm(scales[1]), mlp
