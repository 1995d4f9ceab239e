"""Chapter 03 behind the exercises."""

import numpy as np


def inputs_unbroadcast(rng):
    shapes = [
        ((2, 3, 4), (3, 1)),
        ((2, 3, 4), (4,)),
        ((2, 3, 4), (2, 1, 4)),
        ((5, 2), (1, 1)),
        ((5, 2), ()),
        ((3, 2), (3, 2)),
    ]
    return [(rng.standard_normal(big), small) for big, small in shapes]


def matmul_vjp(g, a, b):
    """The gradients of y = a @ b: two arrays (da, db) of the shapes of a and b.

    `g` has the shape of y. a is (…, n, k), any number of leading axes; b is (k, m), one matrix for all of them.
    """
    da = g @ b.T
    db = a.reshape(-1, a.shape[-1]).T @ g.reshape(-1, g.shape[-1])
    return da, db


def inputs_matmul_vjp(rng):
    cases = []
    for a, m in (((2, 3), 4), ((2, 5, 3), 4), ((2, 3, 5, 4), 2), ((1, 2, 3), 1)):
        cases.append((rng.standard_normal((*a[:-1], m)), rng.standard_normal(a), rng.standard_normal((a[-1], m))))
    return cases


def take_vjp(g, x, index):
    """The gradient of y = x[index]: an array of the shape of x.

    `index` (n,) holds row numbers, some of them more than once; x is (rows, d), g and y are (n, d).
    """
    dx = np.zeros_like(x)
    np.add.at(dx, index, g)
    return dx


def inputs_take_vjp(rng):
    rows = [np.array([0, 2, 2, 4]), np.array([1, 1, 1]), np.array([3, 0, 4, 1, 2]), np.array([-1, 4, 0, -5, 2, 2])]
    return [(rng.standard_normal((len(i), 3)), rng.standard_normal((5, 3)), i) for i in rows]


def which_vjp_lies(suspects):
    """The names of the two suspects whose vjp is wrong, as a set.

    `suspects` is a dict: name -> (f, vjp). f(x) takes a float64 array (3, 4) and returns an array; vjp(x, g) claims to be
    the gradient of x where g, of the shape of f(x), is the gradient of f(x). Call them as often as you like.
    """
    rng, liars = np.random.default_rng(0), set()
    for name, (f, vjp) in suspects.items():
        x, step = rng.standard_normal((2, 3, 4))
        g = rng.standard_normal(f(x).shape)
        eps = 1e-6
        measured = ((f(x + eps * step) - f(x - eps * step)) * g).sum() / (2 * eps)
        claimed = vjp(x, g)
        if claimed.shape != x.shape or not np.isclose(measured, (claimed * step).sum(), rtol=1e-4, atol=1e-6):
            liars.add(name)
    return liars


def _softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def _softmax_vjp(x, g):
    y = _softmax(x)
    return y * (g - (g * y).sum(axis=-1, keepdims=True))


# name: (f, honest vjp, lying vjp)
_SUSPECTS = {
    "square": (lambda x: x * x, lambda x, g: 2 * x * g, lambda x, g: x * g),
    "row_sums": (
        lambda x: x.sum(axis=1, keepdims=True),
        lambda x, g: np.broadcast_to(g, x.shape),
        lambda x, g: np.broadcast_to(g / x.shape[1], x.shape),
    ),
    "centre": (
        lambda x: x - x.mean(axis=1, keepdims=True),
        lambda x, g: g - g.mean(axis=1, keepdims=True),
        lambda x, g: g.copy(),
    ),
    "running_sum": (
        lambda x: np.cumsum(x, axis=1),
        lambda x, g: np.cumsum(g[:, ::-1], axis=1)[:, ::-1],
        lambda x, g: np.cumsum(g, axis=1),
    ),
    "relu": (lambda x: np.maximum(x, 0), lambda x, g: g * (x > 0), lambda x, g: np.maximum(g, 0)),
    "softmax": (_softmax, _softmax_vjp, lambda x, g: _softmax(x) * g),
    "turn": (lambda x: x.T, lambda x, g: g.T, lambda x, g: g.reshape(x.shape)),
    "tanh": (np.tanh, lambda x, g: (1 - np.tanh(x) ** 2) * g, lambda x, g: (1 - x**2) * g),
}


def inputs_which_vjp_lies(rng):
    cases, everybody = [], rng.permutation(list(_SUSPECTS)).tolist()
    for i in range(0, 12, 2):  # everybody lies once, so that a test that misses one kind of lie is found out
        liars = everybody[i : i + 2] or rng.permutation(everybody)[:2].tolist()
        others = [name for name in everybody if name not in liars]
        names = rng.permutation([*liars, *rng.permutation(others)[:4]]).tolist()
        cases.append(({name: (_SUSPECTS[name][0], _SUSPECTS[name][2 if name in liars else 1]) for name in names},))
    return cases
