"""Chapter 07, solved in other ways."""

import itertools

import numpy as np
from right_ways import right

import minivit as mv


@right("split_heads")
def heads_by_slices(x, num_heads):
    d = x.shape[-1] // num_heads
    return mv.stack([x[:, :, h * d : (h + 1) * d] for h in range(num_heads)], axis=1)


@right("split_heads")
def heads_by_einsum(x, num_heads):
    b, t, width = x.shape
    return np.einsum("bthd->bhtd", x.numpy().reshape(b, t, num_heads, width // num_heads))


@right("split_heads")
def heads_number_by_number(x, num_heads):
    b, t, width = x.shape
    d = width // num_heads
    found = np.empty((b, num_heads, t, d), np.float32)
    for image, token, feature in np.ndindex(b, t, width):
        found[image, feature // d, token, feature % d] = x.numpy()[image, token, feature]
    return found


@right("split_heads")
def features_first(x, num_heads):
    """Features forward, split, and the tokens back to their place."""
    b, t, width = x.shape
    return x.swapaxes(1, 2).reshape(b, num_heads, width // num_heads, t).swapaxes(2, 3)


@right("pack_qkv")
def column_by_column(weight, bias, num_heads):
    d = weight.shape[1] // (3 * num_heads)
    chosen = [(3 * h + part) * d + i for part in range(3) for h in range(num_heads) for i in range(d)]
    return weight[:, chosen], bias[chosen]


@right("pack_qkv")
def slices_side_by_side(weight, bias, num_heads):
    slices = np.split(np.vstack([weight, bias]), 3 * num_heads, axis=1)  # the bias as a last row
    both = np.concatenate([s for part in range(3) for s in slices[part::3]], axis=1)
    return [both[:-1], both[-1]]


@right("pack_qkv")
def one_order_for_both(weight, bias, num_heads):
    order = np.arange(len(bias)).reshape(num_heads, 3, -1).swapaxes(0, 1).ravel()
    return weight.take(order, axis=1), bias[order]


@right("pack_qkv")
def by_einsum(weight, bias, num_heads):
    d = len(bias) // (3 * num_heads)
    packed = np.einsum("nhpd->nphd", weight.reshape(-1, num_heads, 3, d)).reshape(weight.shape)
    return packed, np.einsum("hpd->phd", bias.reshape(num_heads, 3, d)).ravel()


def scrambled(n):
    return np.array([2, 0, 3, 1, 5, 4])[:n]


@right("shuffle_test")
def one_scrambled_order(layer, tokens):
    order = scrambled(tokens.shape[1])
    before, after = layer(tokens), layer(tokens[:, order])
    if np.allclose(after, before):
        return "invariant"
    return "equivariant" if before.ndim == 3 and np.allclose(after, before[:, order]) else "neither"


@right("shuffle_test")
def all_orders(layer, tokens):
    before = layer(tokens)
    orders = list(itertools.permutations(range(tokens.shape[1])))[1::7]
    after = [layer(tokens[:, order]) for order in orders]
    if max(np.abs(a - before).max() for a in after) < 1e-9:
        return "invariant"
    if before.ndim == 2:
        return "neither"
    far = max(np.abs(a - before[:, order]).max() for a, order in zip(after, orders, strict=True))
    return "equivariant" if far < 1e-9 else "neither"


@right("shuffle_test")
def put_back_afterwards(layer, tokens):
    """The outputs are put back in the old order, image by image in one of its own."""
    rng = np.random.default_rng(3)
    order = np.stack([rng.permutation(tokens.shape[1]) for _ in tokens])
    before = layer(tokens)
    after = layer(np.take_along_axis(tokens, order[..., None], axis=1))
    if np.isclose(after, before, atol=1e-7).all():
        return "invariant"
    if before.ndim != 3:
        return "neither"
    back = np.take_along_axis(after, order.argsort(axis=1)[..., None], axis=1)
    return "equivariant" if np.isclose(back, before, atol=1e-7).all() else "neither"
