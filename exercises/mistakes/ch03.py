"""The usual mistakes in the exercises of chapter 03."""

import math

import numpy as np

from exercises.mistakes import mistake

# ---- unbroadcast


@mistake(
    "unbroadcast",
    lambda found, expected, g, shape: (
        f"Your gradient is {g.shape}, but x is {shape}. Each x was used {_times(g, shape)} times: what does a value used "
        f"{_times(g, shape)} times receive?"
    ),
)
def not_summed(g, shape):
    return g


def _times(g, shape):
    n = g.size // math.prod(shape)
    return ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")[n] if n <= 10 else n


def _lead(g, shape):
    """g summed over the axes that x lacks."""
    return g.sum(axis=tuple(range(g.ndim - len(shape))))


def _stretched(g, shape):
    """The axes that were repeated, counted in g."""
    lead = g.ndim - len(shape)
    return tuple(range(lead)) + tuple(lead + i for i, n in enumerate(shape) if n == 1 < g.shape[lead + i])


@mistake(
    "unbroadcast",
    "You summed over the axes that x lacks, and yours is {found.shape}; x is {shape}. There is another way to be repeated: "
    "how often was each entry used along the axis where x has a 1?",
)
def axes_of_size_1_forgotten(g, shape):
    return _lead(g, shape)


@mistake(
    "unbroadcast",
    "You summed over the axes where x has a 1, and yours is {found.shape}; x is {shape}. Before that, broadcasting put a new "
    "axis in front of x: what do the copies along it send back?",
)
def leading_axes_forgotten(g, shape):
    lead = g.ndim - len(shape)
    ones = tuple(lead + i for i, n in enumerate(shape) if n == 1 < g.shape[lead + i])
    return g.sum(axis=ones, keepdims=True)


@mistake(
    "unbroadcast",
    "You summed over the right axes, but the result is {found.shape} and x is {shape}: a sum takes its axis away. What keeps "
    "an axis of size 1 standing?",
)
def axes_of_size_1_lost(g, shape):
    return g.sum(axis=_stretched(g, shape))


@mistake(
    "unbroadcast",
    "You summed over the right axes, and every axis is still there with size 1: {found.shape}, where x is {shape}. x never "
    "had the ones in front; how do they go?",
)
def leading_axes_kept(g, shape):
    return g.sum(axis=_stretched(g, shape), keepdims=True)


@mistake(
    "unbroadcast",
    lambda found, expected, g, shape: (
        f"The shape is right; your values are {_times(g, shape)} times too small, and each x was used {_times(g, shape)} "
        "times. If x grows by 1, do its copies grow by 1 each, or share it?"
    ),
)
def mean_for_sum(g, shape):
    return g.mean(axis=_stretched(g, shape)).reshape(shape)


@mistake(
    "unbroadcast",
    lambda found, expected, g, shape: (
        f"Reshape moves numbers and adds none: {g.size} gradients do not fit into {shape}. Several of them belong to "
        "one x; what becomes of gradients that meet?"
    ),
)
def reshape_for_sum(g, shape):
    return g.reshape(shape)


@mistake(
    "unbroadcast",
    lambda found, expected, g, shape: (
        f"Your shape is right, but you kept the first {found.size} of {g.size} gradients and left out the others. Every one "
        "of them answers for a use of x: what becomes of those that meet?"
    ),
)
def the_first_ones_kept(g, shape):
    return np.resize(g, shape)


@mistake(
    "unbroadcast",
    "Your shape is right, but of each group of gradients you kept the first. x was used at every one of these places: do "
    "the other uses have no effect?",
)
def one_copy_kept(g, shape):
    cut = tuple(slice(1) if a in _stretched(g, shape) else slice(None) for a in range(g.ndim))
    return g[cut].reshape(shape)


@mistake(
    "unbroadcast",
    "You line the shapes up at their first axes: {shape} with {g.shape}. Broadcasting put x's missing axes on the other "
    "side; at which end do the two shapes meet?",
)
def lined_up_on_the_left(g, shape):
    axes = tuple(i for i, n in enumerate(shape) if n == 1 < g.shape[i]) + tuple(range(len(shape), g.ndim))
    total = g.sum(axis=axes, keepdims=True)
    return total.reshape(total.shape[: len(shape)])


@mistake(
    "unbroadcast",
    "All your entries are equal: each is the sum of all of g, which belongs to a single number used everywhere. x is {shape}: "
    "along which axes was it repeated, and along which not?",
)
def summed_over_everything(g, shape):
    return np.full(shape, g.sum()) if _stretched(g, shape) else g


# ---- matmul_vjp


def _rows(x):
    return x.reshape(-1, x.shape[-1])


def _db(g, a):
    return _rows(a).T @ _rows(g)


def _turned(x):
    return x.swapaxes(-1, -2)


@mistake(
    "matmul_vjp",
    lambda found, expected, g, a, b: (
        f"g is {g.shape} and b is {b.shape}: g @ b fits where b is square, and is wrong even there. da is to be {a.shape}: "
        "which form of b leads from g's columns back to a's?"
    ),
)
def da_from_b_as_it_is(g, a, b):
    return g @ b, _db(g, a)


@mistake(
    "matmul_vjp",
    lambda found, expected, g, a, b: (
        f"With two axes yours is right; here a is {a.shape}, and a.T is {a.T.shape}: .T turns all axes round. Which two "
        "should have changed places?"
    ),
)
def all_axes_turned(g, a, b):
    return g @ b.T, a.T @ g


@mistake(
    "matmul_vjp",
    lambda found, expected, g, a, b: (
        f"db is {found[1].shape}. b is one matrix serving {_times(g, g.shape[-2:])} images: where do their gradients meet?"
    ),
)
def db_of_each_image(g, a, b):
    return g @ b.T, _turned(a) @ g


@mistake(
    "matmul_vjp",
    lambda found, expected, g, a, b: (
        f"db is right in shape and {_times(g, g.shape[-2:])} times too small. b serves {_times(g, g.shape[-2:])} images: if "
        "an entry of b grows, does each of them feel all of it, or its share?"
    ),
)
def db_averaged(g, a, b):
    db = _turned(a) @ g
    return g @ b.T, db.mean(axis=tuple(range(db.ndim - 2)))


@mistake(
    "matmul_vjp",
    lambda found, expected, g, a, b: (
        f"db is {found[1].shape}, but b is {b.shape}: every value is there, lying on its side. Which of the two factors' "
        "axes should name the rows of db?"
    ),
)
def db_transposed(g, a, b):
    return g @ b.T, _db(g, a).T


@mistake(
    "matmul_vjp",
    lambda found, expected, g, a, b: (
        f"Your two gradients are {found[0].shape} and {found[1].shape}; a is {a.shape} and b is {b.shape}. Each is right: "
        "in which order are they asked for?"
    ),
)
def db_before_da(g, a, b):
    return _db(g, a), g @ b.T


@mistake(
    "matmul_vjp",
    lambda found, expected, g, a, b: (
        f"With one matrix yours is right; with {_times(g, g.shape[-2:])} images db holds the gradient from the first of them "
        "alone. b was used for all: what do the others send back?"
    ),
)
def db_of_the_first_image(g, a, b):
    first = (0,) * (a.ndim - 2)
    return g @ b.T, a[first].T @ g[first]


@mistake(
    "matmul_vjp",
    lambda found, expected, g, a, b: (
        f"db is {found[1].shape}, and b is {b.shape}: one of the axes in front is summed, another is left. However many axes "
        "stand in front, they all share one b; which of them may stay?"
    ),
)
def one_leading_axis_summed(g, a, b):
    db = _turned(a) @ g
    return g @ b.T, db.sum(axis=0) if db.ndim > 2 else db


@mistake(
    "matmul_vjp",
    "Your gradients are right for a g of ones, but your g is not in them. The chain rule multiplies: what does a change of "
    "y at a place count?",
)
def without_g(g, a, b):
    return np.ones_like(g) @ b.T, _db(np.ones_like(g), a)


@mistake(
    "matmul_vjp",
    "da is right. For db you reshaped a to ({a.shape[1]}, rows) at once, which deals its numbers out as they lie in memory. "
    "Which axis has to move, so that your row i holds column i of a?",
)
def rows_not_turned(g, a, b):
    return g @ b.T, a.reshape(a.shape[-1], -1) @ _rows(g)


# ---- take_vjp


@mistake(
    "take_vjp",
    lambda found, expected, g, x, index: (
        f"Row {_repeated(index)} was taken {_often(index)}, but its gradient holds what its last use sent, alone. "
        "NumPy writes each indexed row once, with = and with += alike: what adds them all?"
    ),
)
def last_use_wins(g, x, index):
    dx = np.zeros_like(x)
    dx[index] += g
    return dx


def _repeated(index):
    return max(index.tolist(), key=index.tolist().count)


def _count(index):
    return index.tolist().count(_repeated(index))


def _often(index):
    return "twice" if _count(index) == 2 else f"{_count(index)} times"


@mistake(
    "take_vjp",
    lambda found, expected, g, x, index: (
        f"Row {_repeated(index)} was taken {_often(index)}, but its gradient holds what its first use sent, alone. "
        "What does a value that is used several times receive?"
    ),
)
def first_use_wins(g, x, index):
    dx = np.zeros_like(x)
    dx[index[::-1]] = g[::-1]
    return dx


@mistake(
    "take_vjp",
    lambda found, expected, g, x, index: (
        f"Row {_repeated(index)} was taken {_often(index)}, and its gradient is {_count(index)} times too small. If the "
        "row grows by 1, does each of its copies grow by 1, or by a share?"
    ),
)
def mean_over_uses(g, x, index):
    dx = np.zeros_like(x)
    np.add.at(dx, index, g)
    uses = np.bincount(index % len(x), minlength=len(x))
    return dx / np.maximum(uses, 1)[:, None]


@mistake(
    "take_vjp",
    "Yours is {found.shape}, the shape of y; the gradient of x has a row for each row of x, {expected.shape}. To which row "
    "of x does row i of g belong?",
)
def g_handed_on(g, x, index):
    return g


@mistake(
    "take_vjp",
    lambda found, expected, g, x, index: (
        f"index names rows of x, up to {index.max()}, and you look them up in g, which has {len(g)}. The forward pass took "
        "y[i] from x[index[i]]; going back, does index say where to read or where to write?"
    ),
)
def g_taken_again(g, x, index):
    return g[index]


@mistake(
    "take_vjp",
    lambda found, expected, g, x, index: (
        f"Your gradient still holds x: row {_untaken(index, len(x))}, which nobody took, should be 0, and is not. With what "
        "does an array begin to which gradients are added?"
    ),
)
def added_to_x(g, x, index):
    dx = x.copy()
    np.add.at(dx, index, g)
    return dx


def _untaken(index, rows):
    return next((i for i in range(rows) if i not in index % rows), 0)


@mistake(
    "take_vjp",
    "You add into x itself: after the call the caller's x has changed, and your gradient is x plus gradients. Into what "
    "should they be added?",
)
def added_into_x(g, x, index):
    np.add.at(x, index, g)
    return x


@mistake(
    "take_vjp",
    "Rows taken by a negative number get nothing. x[-1] is the last row, so an index may name a row in two ways: how do "
    "you find the row that -1 means?",
)
def negative_ones_lost(g, x, index):
    return (np.arange(len(x))[:, None] == index).astype(float) @ g


@mistake(
    "take_vjp",
    "Your rows are filled from the top, in the order of g; row numbers play no part, or the wrong one. Row 0 of g belongs to "
    "row index[0] of x: where did you put it?",
)
def from_the_top(g, x, index):
    dx = np.zeros_like(x)
    for i in range(min(len(g), len(x))):
        dx[i] += g[i]
    return dx


@mistake(
    "take_vjp",
    "Every row that was taken gets the same gradient, the sum of all rows of g. Rows of g that belong to different rows of x "
    "should not meet: which ones should?",
)
def all_rows_summed(g, x, index):
    dx = np.zeros_like(x)
    dx[index] = g.sum(axis=0)
    return dx


# ---- which_vjp_lies


def _liars(draw_x, draw_g, draw_step, verdict, eps=1e-6):
    """The suspects whose claim `verdict(claimed, measured)` finds wrong, in the order of the suspects."""

    def which_vjp_lies(suspects):
        rng, liars = np.random.default_rng(0), []
        for name, (f, vjp) in suspects.items():
            x, step = draw_x(rng), draw_step(rng)
            g = draw_g(rng, f(x).shape)
            measured = ((f(x + eps * step) - f(x - eps * step)) * g).sum() / (2 * eps)
            if verdict((vjp(x, g) * step).sum(), measured):
                liars.append(name)
        return liars

    return which_vjp_lies


def _normal(rng, shape=(3, 4)):
    return rng.standard_normal(shape)


def _ones(rng, shape=(3, 4)):
    return np.ones(shape)


def _apart(claimed, measured):
    return not np.isclose(claimed, measured, rtol=1e-4, atol=1e-6)


def _convict(name, sentence, finder):
    mistake("which_vjp_lies", sentence, name)(lambda suspects: set(finder(suspects)))


_right = _liars(_normal, _normal, _normal, _apart)

_convict(
    "all_acquitted",
    "You convict nobody, though two of them lie. A wrong gradient may have the right shape and look likely: with what do you "
    "compare the numbers that it claims?",
    lambda suspects: [],
)
_convict(
    "all_convicted",
    "You convict all six, though four are honest. Print claim and measurement of one suspect side by side: are they nearly the "
    "same, off by a factor, or unlike?",
    lambda suspects: suspects,
)
_convict(
    "the_first_two",
    "Your two are the first two of the dict, every time. Which question did you put to the suspects?",
    lambda suspects: list(suspects)[:2],
)
_convict(
    "the_honest_ones",
    "You name four, and the task speaks of two. Read your comparison aloud: whom does it add to the set, those who agree with "
    "the measurement or those who do not?",
    lambda suspects: [name for name in suspects if name not in _right(suspects)],
)
_convict(
    "only_one",
    "You name one, and the task speaks of two. What does your loop do after it has found the first?",
    lambda suspects: _right(suspects)[:1],
)
_convict(
    "g_of_ones",
    "One kind of lie gets past you: right numbers in wrong places. If all entries of g are alike, or all those of your step, "
    "who would notice that two were exchanged?",
    _liars(_normal, _ones, _normal, _apart),
)
_convict(
    "ones_everywhere",
    "Two kinds of lie get past you: you add up everything that a claim holds, each entry counting the same. Errors of both "
    "signs cancel in a plain sum; what would keep them apart?",
    _liars(_normal, _ones, _ones, _apart),
)
_convict(
    "positive_numbers",
    "One liar gets past you, and always of the same kind. Does your test see numbers above and below 0, in x and in g, and "
    "in every place?",
    _liars(lambda rng: rng.random((3, 4)) + 0.1, lambda rng, shape: rng.random(shape) + 0.1, _normal, _apart),
)
_convict(
    "asked_at_zero",
    "You ask at x = 0, where lies look honest and one honest function has a corner. What would a point without any special "
    "numbers tell you?",
    _liars(lambda rng: np.zeros((3, 4)), _normal, _normal, _apart),
)
mistake(
    "which_vjp_lies",
    "The names agree with what your gradients say, but they come in a list. The docstring asks for a set: what does a set "
    "say about order that a list does not?",
    "a_list",
)(_right)
