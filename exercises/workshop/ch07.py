"""Chapter 07 behind the exercises."""

import numpy as np

import minivit as mv


def inputs_split_heads(rng):
    """Features that say where they are: token and column can be read off each value. No two axes are equally long."""
    token, column = np.mgrid[:5, :12]
    coded = (100 * token + column).astype(float)[None]
    sizes = [((2, 5, 12), 3), ((3, 4, 10), 2), ((2, 3, 5), 1)]
    return [(coded, 3), *((rng.standard_normal(shape), heads) for shape, heads in sizes)]


def pack_qkv(weight, bias, num_heads):
    """Columns head by head to columns q | k | v, each head after head: (D, 3·heads·d), (3·heads·d,) -> the same shapes.

    Another library's weights are q, k, v of head 0, then q, k, v of head 1, and so on, d columns each. minivit wants q of all
    heads, then k of all heads, then v of all heads. Returns (weight, bias), both rearranged.
    """
    d = weight.shape[1] // (3 * num_heads)
    by_head = weight.reshape(len(weight), num_heads, 3, d)
    packed = by_head.transpose(0, 2, 1, 3).reshape(weight.shape)
    return packed, bias.reshape(num_heads, 3, d).transpose(1, 0, 2).reshape(bias.shape)


def inputs_pack_qkv(rng):
    """Two and four heads beside three: with three, an exchange of axes is its own inverse and a mistake could hide."""
    sizes = [(5, 2, 3), (6, 4, 2), (4, 3, 2), (2, 1, 5)]
    return [(rng.standard_normal((rows, 3 * h * d)), rng.standard_normal(3 * h * d), h) for rows, h, d in sizes]


def shuffle_test(layer, tokens):
    """What shuffling the tokens does to a layer: "equivariant", "invariant" or "neither".

    `layer` takes an array (B, T, D); it returns one output for each token, (B, T, E), or one for each image, (B, E). It
    is equivariant if shuffled tokens give the same outputs, shuffled in the same way; invariant if they give the same
    outputs in the old order. No layer here is both. `tokens` (B, T, D) are random; results that differ by rounding are
    the same.
    """
    rng = np.random.default_rng(0)
    before = layer(tokens)
    equivariant = invariant = True
    for _ in range(5):  # one order may be an exception
        order = rng.permutation(tokens.shape[1])
        after = layer(tokens[:, order])
        invariant &= np.allclose(after, before)
        equivariant &= before.ndim == 3 and np.allclose(after, before[:, order])
    return "invariant" if invariant else "equivariant" if equivariant else "neither"


def inputs_shuffle_test(rng):
    """Layers of each kind, and some that a single special order, an exact comparison or the wrong axis would misjudge."""
    q, k, v = rng.standard_normal((3, 4, 4))
    places = rng.standard_normal((6, 4))

    def attend(x, heads=1):
        d = x.shape[-1] // heads
        parts = (x @ w for w in (q, k, v))
        split = [part.reshape(*x.shape[:2], heads, d).swapaxes(1, 2) for part in parts]
        return _attention(*split).swapaxes(1, 2).reshape(x.shape)

    def split_wrongly(x):  # features of several tokens in one row of a head
        split = [(x @ w).reshape(len(x), 2, x.shape[1], 2) for w in (q, k, v)]
        return _attention(*split).reshape(x.shape)

    layers = [
        attend,
        lambda x: attend(x, heads=2),
        lambda x: attend(x).mean(axis=1),
        lambda x: attend(x + places),
        lambda x: attend(x + places).mean(axis=1),
        split_wrongly,
        lambda x: np.tanh(x @ q),
        lambda x: x.max(axis=1),
        lambda x: x + 2 * x.mean(axis=1, keepdims=True),
        lambda x: attend(x)[:, 0],  # one output for each image, and yet it depends on the order
        lambda x: np.sort(x @ q, axis=1),  # an output for each token, and yet it does not
        lambda x: x + np.roll(x, 1, axis=1),  # any rotation of the tokens passes
        lambda x: np.roll(x, 1, axis=1) + x + np.roll(x, -1, axis=1),  # so does the reverse order
        lambda x: np.roll(x, 1, axis=1),  # the same outputs in another order than theirs
        lambda x: np.cumsum(x, axis=1),
    ]
    return [(layer, rng.standard_normal((2, 6, 4))) for layer in layers]


def _attention(q, k, v):
    weights = mv.softmax(q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])).numpy()
    return weights @ v
