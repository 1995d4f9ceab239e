"""Chapter 03, solved in other ways."""

import numpy as np
from right_ways import right


@right("unbroadcast")
def axis_by_axis(g, shape):
    while g.ndim > len(shape):
        g = g.sum(axis=0)
    for axis, n in enumerate(shape):
        if n == 1:
            g = g.sum(axis=axis, keepdims=True)
    return g


@right("unbroadcast")
def entry_by_entry(g, shape):
    dx = np.zeros(shape)
    lead = g.ndim - len(shape)
    for i in np.ndindex(g.shape):
        dx[tuple(0 if n == 1 else j for j, n in zip(i[lead:], shape, strict=True))] += g[i]
    return dx


@right("unbroadcast")
def by_the_places_that_were_read(g, shape):
    places = np.broadcast_to(np.arange(int(np.prod(shape))).reshape(shape), g.shape)
    return np.bincount(places.ravel(), g.ravel()).reshape(shape)


@right("unbroadcast")
def by_einsum(g, shape):
    letters = "abcdef"[: g.ndim]
    kept = [a for a, n in zip(letters[g.ndim - len(shape) :], shape, strict=True) if n > 1]
    return np.einsum(f"{letters}->{''.join(kept)}", g).reshape(shape)


@right("matmul_vjp")
def product_by_einsum(g, a, b):
    rows = a.reshape(-1, a.shape[-1]), g.reshape(-1, g.shape[-1])
    return np.einsum("...m,km->...k", g, b), np.einsum("nk,nm->km", *rows)


@right("matmul_vjp")
def images_summed(g, a, b):
    db = np.matmul(np.moveaxis(a, -1, -2), g)
    return [np.matmul(g, np.transpose(b)), db.sum(axis=tuple(range(db.ndim - 2)))]


@right("matmul_vjp")
def row_by_row(g, a, b):
    da, db = np.empty_like(a), np.zeros_like(b)
    for i in np.ndindex(a.shape[:-1]):
        da[i] = b @ g[i]
        db += np.outer(a[i], g[i])
    return da, db


@right("matmul_vjp")
def by_tensordot(g, a, b):
    axes = list(range(a.ndim - 1))
    return np.tensordot(g, b, (-1, 1)), np.tensordot(a, g, (axes, axes))


@right("take_vjp")
def taken_row_by_row(g, x, index):
    dx = 0.0 * x
    for row, i in zip(g, index, strict=True):
        dx[i] += row
    return dx


@right("take_vjp")
def by_a_table_of_who_took_what(g, x, index):
    return (np.arange(len(x))[:, None] == index % len(x)).astype(np.float64) @ g


@right("take_vjp")
def row_of_x_by_row_of_x(g, x, index):
    return np.stack([g[(index == i) | (index == i - len(x))].sum(axis=0) for i in range(len(x))])


@right("take_vjp")
def column_by_column(g, x, index):
    places = np.where(index < 0, index + len(x), index)
    return np.stack([np.bincount(places, weights=column, minlength=len(x)) for column in g.T], axis=1)


@right("which_vjp_lies")
def against_every_entry(suspects):
    rng, liars = np.random.default_rng(5), set()
    for name, (f, vjp) in suspects.items():
        x = rng.standard_normal((3, 4))
        g = rng.standard_normal(f(x).shape)
        measured = np.zeros_like(x)
        for i in np.ndindex(x.shape):
            step = np.zeros_like(x)
            step[i] = 1e-5
            measured[i] = ((f(x + step) - f(x - step)) * g).sum() / 2e-5
        if np.abs(vjp(x, g) - measured).max() > 1e-6:
            liars.add(name)
    return liars


@right("which_vjp_lies")
def several_directions(suspects):
    rng = np.random.default_rng(6)

    def lies(f, vjp):
        x = rng.standard_normal((3, 4))
        g = rng.standard_normal(f(x).shape)
        steps = rng.standard_normal((5, 3, 4))
        return any(
            abs(np.vdot(f(x + 1e-6 * s) - f(x - 1e-6 * s), g) / 2e-6 - np.vdot(vjp(x, g), s)) > 1e-5 for s in steps
        )

    return {name for name, pair in suspects.items() if lies(*pair)}


@right("which_vjp_lies")
def the_two_that_are_farthest_off(suspects):
    rng, gaps = np.random.default_rng(7), {}
    for name, (f, vjp) in suspects.items():
        x, step = rng.standard_normal((2, 3, 4))
        g = rng.standard_normal(f(x).shape)
        gaps[name] = abs(((f(x + 1e-6 * step) - f(x)) * g).sum() / 1e-6 - (vjp(x, g) * step).sum())
    return set(sorted(gaps, key=gaps.get)[-2:])
