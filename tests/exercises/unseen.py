"""Wrong solutions as students write them, chosen without a look at exercises/mistakes/: what may a message say of these?

Each docstring says in words what the mistake truly is. `may_be` are the names of the usual mistakes that would be a right
diagnosis; `never` are words that would belong to a wrong one. Use it through UNSEEN, a list of (exercise, function).
"""

import math
import re
from collections.abc import Callable

import numpy as np

import minivit as mv

UNSEEN: list[tuple[str, Callable]] = []


def unseen(exercise: str, may_be: tuple[str, ...] = (), never: tuple[str, ...] = ()) -> Callable:
    """Enter a wrong solution of `exercise` into UNSEEN."""

    def enter(function: Callable) -> Callable:
        function.may_be, function.never = may_be, never
        UNSEEN.append((exercise, function))
        return function

    return enter


# ---- chapter 01 ------------------------------------------------------------------------------------------------------


@unseen("shapes", may_be=("from_the_left",), never=("order", "string"))
def aligned_at_the_left():
    """Lines the two shapes up at their first axes instead of their last."""
    return ["error", (3, 4), (3, 4), (5, 1), "error", "error"]


@unseen("shapes", may_be=("row_plus_column_stays_a_column",), never=("left",))
def two_columns_of_five():
    """Takes (5,) for a column, so that (5,) + (5, 1) stays (5, 1); the other five are right."""
    return [(3, 4), "error", (3, 4), (5, 1), (2, 3, 4), "error"]


@unseen("shapes", never=("left", "column", "which is not right"))
def shapes_in_quotes():
    """All six are right, but written as text."""
    return ["(3, 4)", "error", "(3, 4)", "(5, 5)", "(2, 3, 4)", "error"]


@unseen("shapes", never=("left",))
def more_axes_never_fit():
    """Believes that only arrays of equally many axes broadcast."""
    return ["error", "error", (3, 4), "error", "error", "error"]


@unseen("tiles_view", never=("copy",))
def size_and_count_exchanged(image, size):
    """Cuts each axis into `size` tiles instead of into tiles of `size` pixels."""
    h, w = image.shape
    return image.reshape(size, h // size, size, w // size).swapaxes(1, 2)


@unseen("tiles_view", may_be=("tiles_transposed",), never=("copy", "stride"))
def tiles_on_their_side(image, size):
    """The tiles are in the right places, but each is transposed: its columns before its rows."""
    h, w = image.shape
    return image.reshape(h // size, size, w // size, size).transpose(0, 2, 3, 1)


@unseen("tiles_view", may_be=("overlapping_windows",), never=("copy", "transpose"))
def every_window(image, size):
    """All overlapping windows, one pixel apart: forgets to take every size-th."""
    return np.lib.stride_tricks.sliding_window_view(image, (size, size))


@unseen("tiles_view", may_be=("copied",), never=("transpose", "order"))
def tiles_collected(image, size):
    """Collects slices, each a view, in np.array, which copies them."""
    h, w = image.shape
    rows = range(0, h, size)
    return np.array([[image[r : r + size, c : c + size] for c in range(0, w, size)] for r in rows])


@unseen("tiles_view", may_be=("columns_before_rows",), never=("copy", "on its side"))
def columns_of_tiles_first(image, size):
    """Each tile is right, but the first axis counts columns of tiles."""
    h, w = image.shape
    return image.reshape(h // size, size, w // size, size).transpose(2, 0, 1, 3)


# ---- chapter 02 ------------------------------------------------------------------------------------------------------


@unseen("numerical_grad", may_be=("multiplied_by_eps",), never=("forward", "one-sided", "restore"))
def precedence(f, x, eps=1e-4):
    """Writes `/ 2 * eps`, which multiplies by eps."""
    gradient = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[i] = eps
        gradient[i] = (f(x + step) - f(x - step)) / 2 * eps
    return gradient


@unseen("numerical_grad", never=("forward", "one-sided", "2 eps", "restore"))
def steps_pile_up(f, x, eps=1e-4):
    """The step is made once before the loop and never cleared: entry i is a change along all entries up to i."""
    gradient, step = np.zeros_like(x), np.zeros_like(x)
    for i in np.ndindex(x.shape):
        step[i] = eps
        gradient[i] = (f(x + step) - f(x - step)) / (2 * eps)
    return gradient


@unseen("numerical_grad", may_be=("row_by_row",), never=("forward", "one-sided", "2 eps", "restore"))
def only_the_first_axis(f, x, eps=1e-4):
    """Loops over len(x), so that in a table a whole row moves at once."""
    gradient = np.zeros_like(x)
    for i in range(len(x)):
        step = np.zeros_like(x)
        step[i] = eps
        gradient[i] = (f(x + step) - f(x - step)) / (2 * eps)
    return gradient


@unseen("numerical_grad", may_be=("moved_and_left_there",), never=("forward", "one-sided", "2 eps", "sign"))
def stays_behind(f, x, eps=1e-4):
    """Steps within x itself, and goes back once too little: x[i] ends at x[i] - eps."""
    gradient = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        x[i] += eps
        above = f(x)
        x[i] -= 2 * eps
        gradient[i] = (above - f(x)) / (2 * eps)
    return gradient


@unseen("numerical_grad", may_be=("a_step_of_its_own",), never=("forward", "one-sided", "float16", "restore"))
def own_eps(f, x, eps=1e-4):
    """Ignores the argument eps and uses 1e-5."""
    gradient = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[i] = 1e-5
        gradient[i] = (f(x + step) - f(x - step)) / 2e-5
    return gradient


@unseen("topo_order", may_be=("met_and_turned_round",), never=("more than once", "root is missing"))
def pre_order_reversed(root):
    """Notes a node when it is first met, before its parents are, and reverses the list: right only for trees."""
    order = []

    def visit(node):
        if node not in order:
            order.append(node)
            for parent in node.parents:
                visit(parent)

    visit(root)
    return order[::-1]


@unseen("topo_order", may_be=("parents_only",), never=("more than once",))
def only_two_generations(root):
    """Looks at the root's parents but not at theirs."""
    order = []
    for parent in root.parents:
        if parent not in order:
            order.append(parent)
    return [*order, root]


@unseen("topo_order", never=("comes later", "more than once"))
def list_as_default(root, order=[]):  # noqa: B006
    """The list is a default argument: it keeps the nodes of earlier calls."""
    if root not in order:
        for parent in root.parents:
            topo = list_as_default(parent, order)
            assert topo is order
        order.append(root)
    return order


@unseen("topo_order", may_be=("without_the_root",), never=("comes later", "parents"))
def root_left_out(root):
    """Collects the parents of each node, and so never the root itself."""
    order = []

    def visit(node):
        for parent in node.parents:
            visit(parent)
            if parent not in order:
                order.append(parent)

    visit(root)
    return order


@unseen("backward", may_be=("a_parent_counted_once",), never=("reverse", "order", "interior"))
def equal_parents_once(order):
    """Pairs parents and slopes in a dict, so that x·x, which has x twice, counts only one of its two slopes."""
    gradients = dict.fromkeys(order, 0.0)
    gradients[order[-1]] = 1.0
    for node in reversed(order):
        for parent, slope in dict(zip(node.parents, node.slopes, strict=True)).items():
            gradients[parent] += gradients[node] * slope
    return {node: g for node, g in gradients.items() if not node.parents}


@unseen("backward", may_be=("slopes_alone",), never=("reverse", "order", "overwrit"))
def slopes_without_the_chain(order):
    """Adds up the slopes without multiplying by the gradient of the node: no chain rule."""
    gradients = dict.fromkeys(order, 0.0)
    gradients[order[-1]] = 1.0
    for node in order:
        for parent, slope in zip(node.parents, node.slopes, strict=True):
            gradients[parent] += slope
    return {node: g for node, g in gradients.items() if not node.parents}


@unseen("backward", may_be=("beginning_with_the_value",), never=("reverse", "overwrit", "slope"))
def begins_with_the_value(order):
    """Begins with the root's value instead of d root / d root = 1."""
    gradients = dict.fromkeys(order, 0.0)
    gradients[order[-1]] = order[-1].value
    for node in reversed(order):
        for parent, slope in zip(node.parents, node.slopes, strict=True):
            gradients[parent] += gradients[node] * slope
    return {node: g for node, g in gradients.items() if not node.parents}


@unseen("backward", never=("reverse", "overwrit"))
def root_is_no_leaf(order):
    """Fills the dict only from nodes with parents, so that a root that is itself a leaf is missing."""
    gradients = {}
    gradient_of = {order[-1]: 1.0}
    for node in reversed(order):
        for parent, slope in zip(node.parents, node.slopes, strict=True):
            gradient_of[parent] = gradient_of.get(parent, 0.0) + gradient_of[node] * slope
            if not parent.parents:
                gradients[parent] = gradient_of[parent]
    return gradients


@unseen(
    "numerical_grad",
    may_be=("a_step_of_its_own",),
    never=("third argument", "forward", "one-sided", "float16", "restore"),
)
def five_points(f, x, eps=1e-4):
    """A formula of higher order, with four values of f for each entry, where the task names two."""
    gradient = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[i] = eps
        near, far = f(x + step) - f(x - step), f(x + 2 * step) - f(x - 2 * step)
        gradient[i] = (8 * near - far) / (12 * eps)
    return gradient


@unseen("numerical_grad", never=("forward", "one-sided", "float16", "restore"))
def half_steps(f, x, eps=1e-4):
    """Goes eps / 2 to either side and divides by eps: a central difference, but with half the step asked for."""
    gradient = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[i] = eps / 2
        gradient[i] = (f(x + step) - f(x - step)) / eps
    return gradient


@unseen("numerical_grad", may_be=("put_back_by_arithmetic",), never=("stays moved", "forward", "taken elsewhere"))
def back_by_addition(f, x, eps=1e-4):
    """Steps within x and adds eps to come back, which leaves x changed by rounding; the gradient is right."""
    gradient = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        x[i] += eps
        above = f(x)
        x[i] -= 2 * eps
        below = f(x)
        x[i] += eps
        gradient[i] = (above - below) / (2 * eps)
    return gradient


@unseen("topo_order", may_be=("by_distance_from_the_root",), never=("more than once",))
def level_by_level(root):
    """Breadth first from the root, reversed: a node may be met on a short way before a user of it on a long one."""
    order = [root]
    for node in order:
        for parent in node.parents:
            if parent not in order:
                order.append(parent)
    return order[::-1]


@unseen("backward", may_be=("last_use_only",), never=("root's value", "slopes of its own"))
def only_the_last_use(order):
    """Sets the gradient of a parent at each use instead of adding to it."""
    gradients = dict.fromkeys(order, 0.0)
    gradients[order[-1]] = 1.0
    for node in reversed(order):
        for parent, slope in zip(node.parents, node.slopes, strict=True):
            gradients[parent] = gradients[node] * slope
    return {node: g for node, g in gradients.items() if not node.parents}


@unseen("topo_order", may_be=("again_on_every_way",), never=("comes later",))
def noted_at_every_visit(root):
    """Does not ask whether a node is in the list already."""
    order = []

    def visit(node):
        for parent in node.parents:
            visit(parent)
        order.append(node)

    visit(root)
    return order


@unseen("numerical_grad", may_be=("all_entries_at_once",), never=("forward", "row", "restore"))
def all_entries_at_once(f, x, eps=1e-4):
    """Adds eps to the whole array: every entry gets the sum of the gradient."""
    slope = (f(x + eps) - f(x - eps)) / (2 * eps)
    return np.full_like(x, slope)


@unseen("numerical_grad", may_be=("one_step_ahead",), never=("third argument", "twice", "row"))
def one_sided(f, x, eps=1e-4):
    """A forward difference, (f(x + eps) − f(x)) / eps."""
    gradient = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        moved = x.copy()
        moved[i] += eps
        gradient[i] = (f(moved) - f(x)) / eps
    return gradient


@unseen("topo_order", may_be=("root_first",), never=("more than once", "takes part"))
def root_first(root):
    """The right list from back to front."""
    order = []

    def visit(node):
        if node not in order:
            for parent in node.parents:
                visit(parent)
            order.append(node)

    visit(root)
    return order[::-1]


@unseen("backward", may_be=("from_front_to_back",), never=("root's value", "last use"))
def from_front_to_back(order):
    """Walks the list forwards, so that a node passes on what it has not received yet."""
    gradients = dict.fromkeys(order, 0.0)
    gradients[order[-1]] = 1.0
    for node in order:
        for parent, slope in zip(node.parents, node.slopes, strict=True):
            gradients[parent] += gradients[node] * slope
    return {node: g for node, g in gradients.items() if not node.parents}


@unseen("numerical_grad", never=("forward", "row", "restore"))
def whole_numbers_only(f, x, eps=1e-4):
    """Fills an array of integers, which cuts the fractions off."""
    gradient = np.zeros(x.shape, dtype=int)
    for i in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[i] = eps
        gradient[i] = (f(x + step) - f(x - step)) / (2 * eps)
    return gradient


# ---- chapter 03 ------------------------------------------------------------------------------------------------------


@unseen("unbroadcast", may_be=("one_copy_kept",), never=("mean", "keepdims", "lead"))
def first_of_them(g, shape):
    """Takes the first of the gradients along a broadcast axis instead of their sum."""
    while g.ndim > len(shape):
        g = g[0]
    for axis, n in enumerate(shape):
        if n == 1:
            g = g.take([0], axis=axis)
    return g


@unseen("unbroadcast", never=("mean", "keepdims"))
def one_leading_axis(g, shape):
    """Removes one leading axis with `if`, where there may be several (`while`)."""
    if g.ndim > len(shape):
        g = g.sum(axis=0)
    for axis, n in enumerate(shape):
        if n == 1:
            g = g.sum(axis=axis, keepdims=True)
    return g


@unseen("unbroadcast", never=("mean",))
def lead_forgotten(g, shape):
    """Counts the axes of size 1 from the front of g, without the leading axes that are still there."""
    ones = [axis for axis, n in enumerate(shape) if n == 1]
    g = g.sum(axis=tuple(ones), keepdims=True)
    while g.ndim > len(shape):
        g = g.sum(axis=0)
    return g


@unseen("matmul_vjp", may_be=("db_of_the_first_image",), never=("transpose", "mean", "order"))
def first_of_the_batch(g, a, b):
    """db of the first matrix of the batch only, where those of all should be added."""
    da = g @ b.T
    while a.ndim > 2:
        a, g = a[0], g[0]
    return da, a.T @ g


@unseen("matmul_vjp", may_be=("db_transposed",), never=("mean", "sum over"))
def weights_out_by_in(g, a, b):
    """db as (m, k), the layout of PyTorch's Linear."""
    return g @ b.T, g.reshape(-1, g.shape[-1]).T @ a.reshape(-1, a.shape[-1])


@unseen("matmul_vjp", may_be=("one_leading_axis_summed",), never=("mean", "exchanged"))
def three_axes_at_most(g, a, b):
    """Adds db over the first axis only: right for one leading axis, not for two."""
    db = a.swapaxes(-1, -2) @ g
    return g @ b.T, db.sum(axis=0) if db.ndim > 2 else db


@unseen("matmul_vjp", may_be=("db_averaged",), never=("sum", "exchanged"))
def mean_over_the_batch(g, a, b):
    """The mean of db over the leading axes where the sum is asked for."""
    db = a.swapaxes(-1, -2) @ g
    return g @ b.T, db.mean(axis=tuple(range(db.ndim - 2)))


@unseen("take_vjp", may_be=("negative_ones_lost",), never=("last of", "+=", "overwrit"))
def blind_for_negative_rows(g, x, index):
    """Compares `index` with 0, 1, 2, …, so that rows counted from the end are never found."""
    return np.stack([g[index == row].sum(axis=0) for row in range(len(x))])


@unseen("take_vjp", may_be=("mean_over_uses",), never=("last", "negative"))
def mean_of_the_repeats(g, x, index):
    """Divides by how often a row was taken."""
    dx, count = np.zeros_like(x), np.zeros((len(x), 1))
    np.add.at(dx, index, g)
    np.add.at(count, index, 1)
    return dx / np.maximum(count, 1)


@unseen("take_vjp", may_be=("added_to_x",), never=("last", "repeat", "negative"))
def on_top_of_x(g, x, index):
    """Begins with a copy of x instead of zeros."""
    dx = x.copy()
    np.add.at(dx, index, g)
    return dx


@unseen("which_vjp_lies", may_be=("g_of_ones",), never=("tolerance", "shape"))
def gradient_of_ones(suspects):
    """Always gives g = 1, with which a transposed gradient looks like an honest one."""
    rng, liars = np.random.default_rng(1), set()
    for name, (f, vjp) in suspects.items():
        x, step = rng.standard_normal((2, 3, 4))
        g = np.ones_like(f(x))
        measured = (f(x + 1e-6 * step) - f(x - 1e-6 * step)).sum() / 2e-6
        if not np.isclose(measured, (vjp(x, g) * step).sum(), rtol=1e-4, atol=1e-6):
            liars.add(name)
    return liars


@unseen("which_vjp_lies", may_be=("asked_at_zero",), never=("tolerance",))
def at_zero(suspects):
    """Tries every function at x = 0 only, where some lies are true."""
    rng, liars = np.random.default_rng(1), set()
    for name, (f, vjp) in suspects.items():
        x, step = np.zeros((3, 4)), rng.standard_normal((3, 4))
        g = rng.standard_normal(f(x).shape)
        measured = ((f(x + 1e-6 * step) - f(x - 1e-6 * step)) * g).sum() / 2e-6
        if not np.isclose(measured, (vjp(x, g) * step).sum(), rtol=1e-4, atol=1e-6):
            liars.add(name)
    return liars


@unseen("which_vjp_lies", may_be=("all_convicted",), never=("g of ones", "zero"))
def exactly_equal(suspects):
    """Compares measured and claimed with ==, which rounding never satisfies, and convicts nearly everybody."""
    rng, liars = np.random.default_rng(1), set()
    for name, (f, vjp) in suspects.items():
        x, step = rng.standard_normal((2, 3, 4))
        g = rng.standard_normal(f(x).shape)
        measured = ((f(x + 1e-6 * step) - f(x - 1e-6 * step)) * g).sum() / 2e-6
        if measured != (vjp(x, g) * step).sum():
            liars.add(name)
    return liars


@unseen("which_vjp_lies", may_be=("only_one",), never=("tolerance", "ones"))
def first_liar_only(suspects):
    """Returns at the first liar, from within the loop."""
    rng = np.random.default_rng(1)
    for name, (f, vjp) in suspects.items():
        x, step = rng.standard_normal((2, 3, 4))
        g = rng.standard_normal(f(x).shape)
        measured = ((f(x + 1e-6 * step) - f(x - 1e-6 * step)) * g).sum() / 2e-6
        if not np.isclose(measured, (vjp(x, g) * step).sum(), rtol=1e-4, atol=1e-6):
            return {name}


@unseen("which_vjp_lies", may_be=("all_convicted",), never=("digits", "how far apart"))
def not_divided(suspects):
    """Forgets to divide the measured difference by the step, so that nobody agrees with it."""
    rng, liars = np.random.default_rng(1), set()
    for name, (f, vjp) in suspects.items():
        x, step = rng.standard_normal((2, 3, 4))
        g = rng.standard_normal(f(x).shape)
        measured = ((f(x + 1e-6 * step) - f(x - 1e-6 * step)) * g).sum()
        if not np.isclose(measured, (vjp(x, g) * step).sum(), rtol=1e-4, atol=1e-9):
            liars.add(name)
    return liars


@unseen("which_vjp_lies", never=("digits", "after it has found the first"))
def last_liar_only(suspects):
    """Keeps one name, which each further liar overwrites."""
    rng, liar = np.random.default_rng(1), None
    for name, (f, vjp) in suspects.items():
        x, step = rng.standard_normal((2, 3, 4))
        g = rng.standard_normal(f(x).shape)
        measured = ((f(x + 1e-6 * step) - f(x - 1e-6 * step)) * g).sum() / 2e-6
        if not np.isclose(measured, (vjp(x, g) * step).sum(), rtol=1e-4, atol=1e-6):
            liar = name
    return {liar}


@unseen("which_vjp_lies", may_be=("the_honest_ones",), never=("digits", "at x = 0"))
def honest_ones(suspects):
    """Collects those that pass instead of those that do not."""
    rng, honest = np.random.default_rng(1), set()
    for name, (f, vjp) in suspects.items():
        x, step = rng.standard_normal((2, 3, 4))
        g = rng.standard_normal(f(x).shape)
        measured = ((f(x + 1e-6 * step) - f(x - 1e-6 * step)) * g).sum() / 2e-6
        if np.isclose(measured, (vjp(x, g) * step).sum(), rtol=1e-4, atol=1e-6):
            honest.add(name)
    return honest


@unseen("matmul_vjp", never=("exchanged", "transpose"))
def divided_by_the_first_axis(g, a, b):
    """Divides db by len(a), as if a mean over the batch stood before it."""
    db = a.reshape(-1, a.shape[-1]).T @ g.reshape(-1, g.shape[-1])
    return g @ b.T, db / len(a)


@unseen("take_vjp", may_be=("g_taken_again",), never=("repeat", "more than once"))
def gathered_again(g, x, index):
    """Indexes g as the forward pass indexes x, instead of putting its rows back."""
    return g[index]


@unseen("which_vjp_lies", may_be=("positive_numbers",), never=("digits", "g of ones"))
def one_entry_only(suspects):
    """Moves one entry of x alone and compares that one entry, where some lies happen to be true."""
    rng, liars = np.random.default_rng(3), set()
    for name, (f, vjp) in suspects.items():
        x, step = rng.standard_normal((3, 4)), np.zeros((3, 4))
        step[0, 1] = 1e-6
        g = rng.standard_normal(f(x).shape)
        measured = ((f(x + step) - f(x - step)) * g).sum() / 2e-6
        if not np.isclose(measured, vjp(x, g)[0, 1], rtol=1e-4, atol=1e-6):
            liars.add(name)
    return liars


@unseen("matmul_vjp", never=("first of", "mean"))
def overwritten_in_the_loop(g, a, b):
    """Loops over the batch and sets db each time, so that the last matrix's stays."""
    da = g @ b.T
    for one_a, one_g in zip(a.reshape(-1, *a.shape[-2:]), g.reshape(-1, *g.shape[-2:]), strict=True):
        db = one_a.T @ one_g
    return da, db


@unseen("unbroadcast", may_be=("mean_for_sum",), never=("first", "keepdims"))
def mean_of_them(g, shape):
    """The mean over what was broadcast, where the sum belongs."""
    while g.ndim > len(shape):
        g = g.mean(axis=0)
    for axis, n in enumerate(shape):
        if n == 1:
            g = g.mean(axis=axis, keepdims=True)
    return g


@unseen("unbroadcast", may_be=("axes_of_size_1_lost",), never=("mean", "first of"))
def axes_of_length_1_lost(g, shape):
    """Sums over the right axes, but the axes of length 1 are gone (keepdims)."""
    lead = g.ndim - len(shape)
    return g.sum(axis=(*range(lead), *(lead + i for i, n in enumerate(shape) if n == 1)))


@unseen("matmul_vjp", may_be=("da_from_b_as_it_is",), never=("db", "mean"))
def b_as_it_is(g, a, b):
    """da = g @ b without the transpose."""
    return g @ b, a.reshape(-1, a.shape[-1]).T @ g.reshape(-1, g.shape[-1])


@unseen("take_vjp", may_be=("last_use_wins",), never=("negative", "mean"))
def last_one_wins(g, x, index):
    """dx[index] = g: of several gradients for one row the last is kept."""
    dx = np.zeros_like(x)
    dx[index] = g
    return dx


@unseen("which_vjp_lies", never=("signs", "x = 0", "g are alike"))
def steps_too_long(suspects):
    """Measures with steps of half a unit, where curved functions differ from their slopes: honest ones are convicted."""
    rng, liars = np.random.default_rng(1), set()
    for name, (f, vjp) in suspects.items():
        x, step = rng.standard_normal((2, 3, 4))
        g = rng.standard_normal(f(x).shape)
        measured = ((f(x + 0.5 * step) - f(x - 0.5 * step)) * g).sum()
        if not np.isclose(measured, (vjp(x, g) * step).sum(), rtol=1e-4, atol=1e-6):
            liars.add(name)
    return liars


@unseen("which_vjp_lies", may_be=("all_convicted",), never=("signs", "x = 0", "g are alike", "factor of"))
def steps_too_short(suspects):
    """Measures with steps of 1e-15, where rounding is all that is left."""
    rng, liars = np.random.default_rng(1), set()
    for name, (f, vjp) in suspects.items():
        x, step = rng.standard_normal((2, 3, 4))
        g = rng.standard_normal(f(x).shape)
        measured = ((f(x + 1e-15 * step) - f(x - 1e-15 * step)) * g).sum() / 2e-15
        if not np.isclose(measured, (vjp(x, g) * step).sum(), rtol=1e-4, atol=1e-6):
            liars.add(name)
    return liars


@unseen("which_vjp_lies", may_be=("all_acquitted",), never=("digits", "x = 0"))
def shapes_alone(suspects):
    """Convicts whoever returns another shape than that of x, which nobody does."""
    x = np.ones((3, 4))
    return {name for name, (f, vjp) in suspects.items() if vjp(x, f(x)).shape != x.shape}


# ---- chapter 04 ------------------------------------------------------------------------------------------------------


@unseen("softmax", never=("keepdims", "all rows", "mean"))
def largest_size_subtracted(x):
    """Subtracts the largest |x| of the row instead of the largest x: rows of large negative numbers vanish."""
    e = (x - x.abs().max(axis=-1, keepdims=True)).exp()
    return e / e.sum(axis=-1, keepdims=True)


@unseen("softmax", may_be=("second_axis",), never=("maximum", "keepdims", "overflow"))
def softmax_over_axis_1(x):
    """Axis 1 instead of the last, which is the same only for tables."""
    e = (x - x.max(axis=1, keepdims=True)).exp()
    return e / e.sum(axis=1, keepdims=True)


@unseen("softmax", never=("keepdims", "axis=", "all rows"))
def cut_off_at_50(x):
    """Clips x to −50…50 against overflow, which makes all large numbers alike."""
    e = x.clip(-50, 50).exp()
    return e / e.sum(axis=-1, keepdims=True)


@unseen("softmax", may_be=("logarithm",), never=("maximum", "keepdims", "axis 0"))
def the_log_of_it(x):
    """Stops at log softmax: the last exp is missing."""
    shifted = x - x.max(axis=-1, keepdims=True)
    return shifted - shifted.exp().sum(axis=-1, keepdims=True).log()


@unseen("softmax", may_be=("shares_of_everything",), never=("maximum", "overflow"))
def one_sum_for_all(x):
    """Divides by the sum over all rows, so that the table, not each row, sums to 1."""
    e = (x - x.max(axis=-1, keepdims=True)).exp()
    return e / e.sum()


@unseen("cross_entropy", may_be=("loss_over_all_entries",), never=("maximum", "sign"))
def mean_over_all_entries(logits, labels):
    """Takes the mean of y·log p over B·K entries, of which only B are not 0: the loss is K times too small."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    y = np.eye(logits.shape[1])[labels]
    return -(y * log_p).mean(), (np.exp(log_p) - y) / len(labels)


@unseen("cross_entropy", may_be=("logarithm_of_a_sum_with_1e-12",), never=("sign", "mean"))
def saved_by_a_tiny_number(logits, labels):
    """log(p + 1e-12) keeps log 0 away, but caps the loss of an improbable label at 27.6."""
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    y = np.eye(logits.shape[1])[labels]
    return -np.log(p + 1e-12)[np.arange(len(labels)), labels].mean(), (p - y) / len(labels)


@unseen("cross_entropy", never=("overflow", "maximum", "underflow"))
def gradient_first(logits, labels):
    """Turns p into p − y in place before the loss reads p, so that it takes the log of a negative number."""
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    rows = np.arange(len(labels))
    gradient = p
    gradient[rows, labels] -= 1
    return -np.log(p[rows, labels]).mean(), gradient / len(labels)


@unseen("cross_entropy", may_be=("all_labels_in_the_loss",), never=("overflow", "sign"))
def every_label_for_every_row(logits, labels):
    """log_p[:, labels] picks each image's value at the labels of all images, not at its own."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    y = np.eye(logits.shape[1])[labels]
    return -log_p[:, labels].mean(), (np.exp(log_p) - y) / len(labels)


@unseen("cross_entropy", never=("overflow",))
def sum_and_wrong_sign(logits, labels):
    """Two mistakes: the loss is the sum over the batch, and the gradient is y − p."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    y = np.eye(logits.shape[1])[labels]
    return -(y * log_p).sum(), (y - np.exp(log_p)) / len(labels)


@unseen("first_loss", may_be=("outputs_counted_for_inputs",), never=("same", "alike", "shape"))
def roots_of_the_wrong_axis(rng, features, hidden, classes):
    """Divides by the roots of the numbers of outputs instead of inputs."""
    w1 = rng.standard_normal((features, hidden)) / np.sqrt(hidden)
    w2 = rng.standard_normal((hidden, classes)) / np.sqrt(classes)
    return w1, w2


@unseen("first_loss", never=("same", "alike", "loss is"))
def weights_as_in_pytorch(rng, features, hidden, classes):
    """Well scaled, but each matrix is (out, in)."""
    w1 = rng.standard_normal((hidden, features)) / np.sqrt(features)
    w2 = rng.standard_normal((classes, hidden)) / np.sqrt(hidden)
    return w1, w2


@unseen("first_loss", never=("loss is", "shape"))
def small_and_all_alike(rng, features, hidden, classes):
    """A constant first matrix: the loss is right, but all hidden units stay the same."""
    w1 = np.full((features, hidden), 0.01)
    w2 = rng.standard_normal((hidden, classes)) / np.sqrt(hidden)
    return w1, w2


@unseen("first_loss", never=("same", "alike", "shape"))
def only_the_first_matrix(rng, features, hidden, classes):
    """Scales the first matrix and leaves the second as it was."""
    w1 = rng.standard_normal((features, hidden)) * np.sqrt(2 / features)
    w2 = rng.standard_normal((hidden, classes))
    return w1, w2


@unseen("training_bug", never=("test", "cheat", "standardis"))
def rate_divided_by_steps(train_x, train_y, test_x, classes, steps, rate):
    """Against the long steps it divides the rate by their number, and the gradients still pile up."""
    mean, std = train_x.mean(axis=0), train_x.std(axis=0) + 1e-6
    x, target = (train_x - mean) / std, np.eye(classes)[train_y]
    weight, gradient = np.zeros((x.shape[1], classes)), np.zeros((x.shape[1], classes))
    for _ in range(steps):
        logits = x @ weight
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        gradient += x.T @ (p - target) / len(x)
        weight -= rate / steps * gradient
    return weight, (test_x - mean) / std


@unseen("training_bug", may_be=("test_by_its_own_statistics",), never=("gradient",))
def test_images_by_themselves(train_x, train_y, test_x, classes, steps, rate):
    """Standardises the test images with their own mean and deviation; the training is right."""
    mean, std = train_x.mean(axis=0), train_x.std(axis=0) + 1e-6
    x, target = (train_x - mean) / std, np.eye(classes)[train_y]
    weight = np.zeros((x.shape[1], classes))
    for _ in range(steps):
        logits = x @ weight
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        weight -= rate * (x.T @ (p - target) / len(x))
    return weight, (test_x - test_x.mean(axis=0)) / (test_x.std(axis=0) + 1e-6)


@unseen("training_bug", may_be=("sum_over_images",), never=("test", "cheat", "pile"))
def sum_of_the_images(train_x, train_y, test_x, classes, steps, rate):
    """Repairs both faults and loses the division by the number of images on the way."""
    mean, std = train_x.mean(axis=0), train_x.std(axis=0) + 1e-6
    x, target = (train_x - mean) / std, np.eye(classes)[train_y]
    weight = np.zeros((x.shape[1], classes))
    for _ in range(steps):
        logits = x @ weight
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        weight -= rate * x.T @ (p - target)
    return weight, (test_x - mean) / std


@unseen("training_bug", may_be=("one_number_for_all_features",), never=("gradient",))
def one_mean_for_all_features(train_x, train_y, test_x, classes, steps, rate):
    """Uses the training set alone, but one mean and one deviation for all features."""
    mean, std = train_x.mean(), train_x.std() + 1e-6
    x, target = (train_x - mean) / std, np.eye(classes)[train_y]
    weight = np.zeros((x.shape[1], classes))
    for _ in range(steps):
        logits = x @ weight
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        weight -= rate * x.T @ (p - target) / len(x)
    return weight, (test_x - mean) / std


@unseen("softmax", may_be=("one_maximum_for_all_rows",), never=("mean", "sum to 1", "shares"))
def one_maximum(x):
    """Subtracts the maximum of the whole table, so that rows far below it vanish."""
    e = (x - x.max()).exp()
    return e / e.sum(axis=-1, keepdims=True)


@unseen("softmax", may_be=("tensor_sum_without_keepdims",), never=("maximum of the whole", "all rows"))
def axis_gone(x):
    """The sum loses its axis: no keepdims."""
    e = (x - x.max(axis=-1, keepdims=True)).exp()
    return e / e.sum(axis=-1)


@unseen("cross_entropy", may_be=("gradient_not_divided",), never=("sign", "overflow"))
def gradient_of_the_sum(logits, labels):
    """The loss is a mean, but its gradient is that of the sum: not divided by the size of the batch."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    y = np.eye(logits.shape[1])[labels]
    return -(y * log_p).sum() / len(labels), np.exp(log_p) - y


@unseen("cross_entropy", never=("batch", "sign"))
def divided_by_the_classes(logits, labels):
    """Divides the gradient by K, the number of classes, instead of B."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    y = np.eye(logits.shape[1])[labels]
    return -(y * log_p).sum() / len(labels), (np.exp(log_p) - y) / logits.shape[1]


@unseen("training_bug", may_be=("still_cheating",), never=("own statistics", "own mean"))
def still_cheats(train_x, train_y, test_x, classes, steps, rate):
    """Ends the piling up of gradients and still standardises with the test images."""
    everything = np.concatenate([train_x, test_x])
    mean, std = everything.mean(axis=0), everything.std(axis=0) + 1e-6
    x, target = (train_x - mean) / std, np.eye(classes)[train_y]
    weight = np.zeros((x.shape[1], classes))
    for _ in range(steps):
        logits = x @ weight
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        gradient = x.T @ (p - target) / len(x)
        weight -= rate * gradient
    return weight, (test_x - mean) / std


@unseen("training_bug", may_be=("still_collecting",), never=("still cheat", "peek", "statistics"))
def cleared_too_early(train_x, train_y, test_x, classes, steps, rate):
    """Clears the gradient before the loop, where it is cleared already, instead of in it."""
    mean, std = train_x.mean(axis=0), train_x.std(axis=0) + 1e-6
    x, target = (train_x - mean) / std, np.eye(classes)[train_y]
    weight, gradient = np.zeros((x.shape[1], classes)), np.zeros((x.shape[1], classes))
    gradient[:] = 0
    for _ in range(steps):
        logits = x @ weight
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        gradient += x.T @ (p - target) / len(x)
        weight -= rate * gradient
    return weight, (test_x - mean) / std


@unseen("training_bug", never=("pile", "add up", "cheat"))
def deviation_with_n_minus_1(train_x, train_y, test_x, classes, steps, rate):
    """Both faults are gone, but the deviation is the one with n − 1, as in R and pandas."""
    mean, std = train_x.mean(axis=0), train_x.std(axis=0, ddof=1) + 1e-6
    x, target = (train_x - mean) / std, np.eye(classes)[train_y]
    weight = np.zeros((x.shape[1], classes))
    for _ in range(steps):
        logits = x @ weight
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        weight -= rate * x.T @ (p - target) / len(x)
    return weight, (test_x - mean) / std


@unseen("softmax", may_be=("one_maximum_and_one_sum",), never=("keepdims",))
def the_whole_table_at_once(x):
    """Two mistakes that belong together: one maximum and one sum for the whole array."""
    e = (x - x.max()).exp()
    return e / e.sum()


@unseen("cross_entropy", may_be=("logarithm_of_a_sum_with_1e-12",), never=("sign", "mean"))
def cut_at_a_tiny_number(logits, labels):
    """Keeps p at 1e-12 or above, which caps the loss of an improbable label at 27.6."""
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    y = np.eye(logits.shape[1])[labels]
    return -np.log(np.maximum(p, 1e-12))[np.arange(len(labels)), labels].mean(), (p - y) / len(labels)


@unseen("training_bug", may_be=("test_as_it_came",), never=("own statistics", "gradient"))
def test_images_as_they_came(train_x, train_y, test_x, classes, steps, rate):
    """Returns the test images without standardising them at all."""
    mean, std = train_x.mean(axis=0), train_x.std(axis=0) + 1e-6
    x, target = (train_x - mean) / std, np.eye(classes)[train_y]
    weight = np.zeros((x.shape[1], classes))
    for _ in range(steps):
        logits = x @ weight
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        weight -= rate * x.T @ (p - target) / len(x)
    return weight, test_x


@unseen("cross_entropy", never=("all labels", "overflow"))
def labels_from_one(logits, labels):
    """Takes the labels for 1…K and subtracts 1, so that class 0 becomes the last."""
    rows = np.arange(len(labels))
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    gradient = np.exp(log_p)
    gradient[rows, labels - 1] -= 1
    return -log_p[rows, labels - 1].mean(), gradient / len(labels)


@unseen("cross_entropy", never=("sign", "classes"))
def in_bits(logits, labels):
    """Takes the logarithm to base 2, so that the loss comes in bits; the gradient is right."""
    rows = np.arange(len(labels))
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    log_p = (logits - logits.max(axis=1, keepdims=True)) / np.log(2) - np.log2(e.sum(axis=1, keepdims=True))
    gradient = e / e.sum(axis=1, keepdims=True)
    gradient[rows, labels] -= 1
    return -log_p[rows, labels].mean(), gradient / len(labels)


@unseen("cross_entropy", may_be=("softmax_over_the_batch",), never=("sign",))
def softmax_down_the_batch(logits, labels):
    """The softmax runs over the images (axis 0) instead of the classes."""
    rows = np.arange(len(labels))
    shifted = logits - logits.max(axis=0)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=0))
    gradient = np.exp(log_p)
    gradient[rows, labels] -= 1
    return -log_p[rows, labels].mean(), gradient / len(labels)


@unseen("cross_entropy", never=("sign", "overflow"))
def loss_alone(logits, labels):
    """Returns the loss and forgets the gradient."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return -log_p[np.arange(len(labels)), labels].mean()


# ---- chapter 05 ------------------------------------------------------------------------------------------------------


@unseen("patchify", never=("channel", "transpose"))
def last_patches_lost(images, patch_size):
    """range(0, h − P, P) leaves out the last row and the last column of patches; an image of one patch has none."""
    b, h, w, _ = images.shape
    p, patches = patch_size, []
    for i in range(0, h - p, p):
        for j in range(0, w - p, p):
            patches.append(images[:, i : i + p, j : j + p].reshape(b, -1))
    return np.stack(patches, axis=1) if patches else np.zeros((b, 0, p * p * images.shape[3]))


@unseen("patchify", never=("channel", "column by column"))
def batch_behind_the_patches(images, patch_size):
    """Stacks the patches along axis 0: (N, B, P·P·C)."""
    b, h, w, _ = images.shape
    p, patches = patch_size, []
    for i in range(0, h, p):
        for j in range(0, w, p):
            patches.append(images[:, i : i + p, j : j + p].reshape(b, -1))
    return np.stack(patches)


@unseen("patchify", may_be=("channels_first",), never=("batch", "columns first"))
def channels_first(images, patch_size):
    """Each patch in (channel, row, column) order, as in PyTorch."""
    b, h, w, c = images.shape
    p = patch_size
    x = images.reshape(b, h // p, p, w // p, p, c)
    return x.transpose(0, 1, 3, 5, 2, 4).reshape(b, -1, p * p * c)


@unseen("patchify", may_be=("pixels_far_apart",), never=("channel", "batch"))
def comb(images, patch_size):
    """Takes the coarse for the fine part of an index: each patch is a comb of pixels from the whole image."""
    b, h, w, c = images.shape
    p = patch_size
    x = images.reshape(b, p, h // p, p, w // p, c)
    return x.transpose(0, 2, 4, 1, 3, 5).reshape(b, (h // p) * (w // p), p * p * c)


@unseen("patchify", may_be=("reshape_only",), never=("channel", "batch"))
def strips(images, patch_size):
    """One reshape for everything: P·P·C neighbouring numbers of a row are taken for a patch."""
    b, h, w, c = images.shape
    n = (h // patch_size) * (w // patch_size)
    return images.reshape(b, n, -1)


@unseen("conv_is_patchify", may_be=("outputs_reshaped_to_the_front",), never=("height", "width", "flip"))
def kernel_turned(images, kernel):
    """Reshapes the kernel to (D, P·P·C) and transposes it, as if D were its first axis."""
    p, _, c, d = kernel.shape
    b, h, w, _ = images.shape
    return (mv.patchify(images, p) @ kernel.reshape(d, p * p * c).T).reshape(b, h // p, w // p, d)


@unseen("conv_is_patchify", may_be=("kernel_flipped",), never=("channel", "reshape the kernel"))
def mirrored_kernel(images, kernel):
    """Turns the kernel by 180°, as convolution in mathematics does and in networks does not."""
    p, _, c, d = kernel.shape
    b, h, w, _ = images.shape
    flipped = kernel[::-1, ::-1].reshape(p * p * c, d)
    return (mv.patchify(images, p) @ flipped).reshape(b, h // p, w // p, d)


@unseen("conv_is_patchify", may_be=("rows_and_columns_exchanged",), never=("kernel", "channel"))
def height_and_width_exchanged(images, kernel):
    """The last reshape has columns before rows."""
    p, _, c, d = kernel.shape
    b, h, w, _ = images.shape
    return (mv.patchify(images, p) @ kernel.reshape(p * p * c, d)).reshape(b, w // p, h // p, d)


@unseen("conv_is_patchify", may_be=("left_as_a_sequence",), never=("sum", "flip"))
def no_grid(images, kernel):
    """Leaves the places in one row, (B, N, D)."""
    p, _, c, d = kernel.shape
    return mv.patchify(images, p) @ kernel.reshape(p * p * c, d)


@unseen("add_class_token", may_be=("added_to_every_patch",), never=("end", "broadcast"))
def added_not_put_in_front(tokens, class_token):
    """Adds the class token's numbers to every token."""
    return tokens + class_token


@unseen("add_class_token", may_be=("one_for_every_patch",), never=("end", "few"))
def one_for_each_patch(tokens, class_token):
    """As many class tokens as there are patches, because it broadcasts to the shape of `tokens`."""
    return mv.concatenate([mv.broadcast_to(class_token, shape=tokens.shape), tokens], axis=1)


@unseen("add_class_token", may_be=("first_patch_replaced",), never=("end",))
def seat_of_the_first_patch(tokens, class_token):
    """Puts the class token in the place of the first patch."""
    b, _, d = tokens.shape
    return mv.concatenate([mv.broadcast_to(class_token, shape=(b, 1, d)), tokens[:, 1:]], axis=1)


@unseen("add_class_token", may_be=("not_repeated",), never=("end", "axis 0"))
def batch_of_one(tokens, class_token):
    """Concatenates without repeating the class token: works for a batch of one."""
    return mv.concatenate([class_token, tokens], axis=1)


@unseen("sincos_2d", may_be=("frequencies_stop_short",), never=("order", "interleav"))
def last_frequency_missing(rows, columns, dim, base=10000.0):
    """Divides the exponent by dim/4 instead of dim/4 − 1, so that the lowest frequency is not 1/base."""
    omega = base ** (-np.arange(dim // 4) / (dim // 4))
    y, x = (axis.reshape(-1, 1) * omega for axis in np.mgrid[:rows, :columns])
    return np.concatenate([np.sin(x), np.cos(x), np.sin(y), np.cos(y)], axis=1)


@unseen("sincos_2d", may_be=("places_down_the_columns",), never=("frequenc", "interleav"))
def column_by_column(rows, columns, dim, base=10000.0):
    """The places run down the columns instead of along the rows; x is still the column, y the row."""
    omega = base ** (-np.arange(dim // 4) / max(1, dim // 4 - 1))
    x, y = (axis.reshape(-1, 1) * omega for axis in np.mgrid[:columns, :rows])
    return np.concatenate([np.sin(x), np.cos(x), np.sin(y), np.cos(y)], axis=1)


@unseen("sincos_2d", may_be=("sine_and_cosine_take_turns",), never=("frequenc", "x and y"))
def pairs_side_by_side(rows, columns, dim, base=10000.0):
    """sin and cos of the same frequency stand side by side (Vaswani), instead of all sines, then all cosines."""
    omega = base ** (-np.arange(dim // 4) / max(1, dim // 4 - 1))
    y, x = (axis.reshape(-1, 1) * omega for axis in np.mgrid[:rows, :columns])
    turns = [np.stack([np.sin(axis), np.cos(axis)], axis=2).reshape(rows * columns, -1) for axis in (x, y)]
    return np.concatenate(turns, axis=1)


@unseen("sincos_2d", may_be=("counted_from_1",), never=("order", "interleav", "x and y"))
def counts_from_one(rows, columns, dim, base=10000.0):
    """Rows and columns are counted from 1."""
    omega = base ** (-np.arange(dim // 4) / max(1, dim // 4 - 1))
    y, x = ((axis.reshape(-1, 1) + 1) * omega for axis in np.mgrid[:rows, :columns])
    return np.concatenate([np.sin(x), np.cos(x), np.sin(y), np.cos(y)], axis=1)


@unseen("sincos_2d", may_be=("base_ignored",), never=("order", "interleav", "x and y"))
def base_is_always_10000(rows, columns, dim, base=10000.0):
    """Ignores `base`."""
    omega = 10000.0 ** (-np.arange(dim // 4) / max(1, dim // 4 - 1))
    y, x = (axis.reshape(-1, 1) * omega for axis in np.mgrid[:rows, :columns])
    return np.concatenate([np.sin(x), np.cos(x), np.sin(y), np.cos(y)], axis=1)


@unseen("patchify", never=("channel", "columns first"))
def square_images_only(images, patch_size):
    """Counts the patches along the height and uses the number for the width too."""
    b, h, _, c = images.shape
    n, p = h // patch_size, patch_size
    return images.reshape(b, n, p, n, p, c).transpose(0, 1, 3, 2, 4, 5).reshape(b, n * n, p * p * c)


@unseen("patchify", may_be=("patches_down_the_columns",), never=("channel", "pixels of"))
def patches_down_the_columns(images, patch_size):
    """Cuts and orders the pixels rightly, but numbers the patches down the columns of the image."""
    b, h, w, c = images.shape
    p = patch_size
    x = images.reshape(b, h // p, p, w // p, p, c)
    return x.transpose(0, 3, 1, 2, 4, 5).reshape(b, -1, p * p * c)


@unseen("sincos_2d", may_be=("y_before_x",), never=("frequenc", "interleav"))
def y_before_x(rows, columns, dim, base=10000.0):
    """The halves are exchanged: y before x."""
    omega = base ** (-np.arange(dim // 4) / max(1, dim // 4 - 1))
    y, x = (axis.reshape(-1, 1) * omega for axis in np.mgrid[:rows, :columns])
    return np.concatenate([np.sin(y), np.cos(y), np.sin(x), np.cos(x)], axis=1)


@unseen("add_class_token", may_be=("at_the_end",), never=("broadcast",))
def at_the_end(tokens, class_token):
    """Puts the class token behind the patches."""
    b, _, d = tokens.shape
    return mv.concatenate([tokens, mv.broadcast_to(class_token, shape=(b, 1, d))], axis=1)


@unseen("conv_is_patchify", may_be=("kernel_channels_first",), never=("mathematician", "height"))
def kernel_channels_first(images, kernel):
    """Turns the kernel to (C, P, P, D), the order of PyTorch's weights, before it is flattened; patches are not."""
    p, _, c, d = kernel.shape
    b, h, w, _ = images.shape
    return (mv.patchify(images, p) @ kernel.transpose(2, 0, 1, 3).reshape(-1, d)).reshape(b, h // p, w // p, d)


@unseen("add_class_token", may_be=("token_for_the_first_image",), never=("broadcast", "end"))
def only_the_first_image(tokens, class_token):
    """Only the first image gets the class token; zeros stand in front of the others."""
    b, _, d = tokens.shape
    front = class_token if b == 1 else mv.concatenate([class_token, mv.Tensor(np.zeros((b - 1, 1, d)))], axis=0)
    return mv.concatenate([front, tokens], axis=1)


@unseen("sincos_2d", never=("interleav", "order"))
def places_between_0_and_1(rows, columns, dim, base=10000.0):
    """Divides the places by the numbers of rows and columns, so that they lie between 0 and 1."""
    omega = base ** (-np.arange(dim // 4) / max(1, dim // 4 - 1))
    y, x = np.mgrid[:rows, :columns]
    y, x = y.reshape(-1, 1) / rows * omega, x.reshape(-1, 1) / columns * omega
    return np.concatenate([np.sin(x), np.cos(x), np.sin(y), np.cos(y)], axis=1)


@unseen("patchify", may_be=("pixels_transposed",), never=("channel by channel", "down the columns of the image"))
def pixels_down_the_columns(images, patch_size):
    """The patches are in order, but inside each the pixels go down the columns."""
    b, h, w, c = images.shape
    p = patch_size
    x = images.reshape(b, h // p, p, w // p, p, c)
    return x.transpose(0, 1, 3, 4, 2, 5).reshape(b, -1, p * p * c)


# ---- chapter 06 ------------------------------------------------------------------------------------------------------


@unseen("attention", never=("axis", "nan", "twice"))
def width_of_the_values(q, k, v, scale=None):
    """Divides by the root of the width of v, which need not be that of k."""
    scores = q @ k.swapaxes(-1, -2) / math.sqrt(v.shape[-1])
    return mv.softmax(scores) @ v


@unseen("attention", may_be=("scale_after_softmax",), never=("axis", "root is missing"))
def scaled_after_the_softmax(q, k, v, scale=None):
    """Divides the weights by √d after the softmax instead of the scores before it."""
    weights = mv.softmax(q @ k.swapaxes(-1, -2))
    return weights / math.sqrt(q.shape[-1]) @ v


@unseen("attention", may_be=("multiplied_by_the_root",), never=("axis",))
def root_multiplied(q, k, v, scale=None):
    """Multiplies the scores by √d instead of dividing."""
    return mv.softmax(q @ k.swapaxes(-1, -2) * math.sqrt(q.shape[-1])) @ v


@unseen("attention", never=("root", "√", "scale"))
def keys_twice(q, k, v, scale=None):
    """Averages the keys instead of the values: weights @ k."""
    return mv.softmax(q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1])) @ k


@unseen("attention", may_be=("exp_of_large_scores",), never=("root", "√", "axis"))
def unsafe_softmax(q, k, v, scale=None):
    """Its own softmax without subtracting the maximum: overflows where the scores are large."""
    e = (q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1])).exp()
    return e / e.sum(axis=-1, keepdims=True) @ v


@unseen("attention_vjp", may_be=("slope_of_a_sigmoid",), never=("order", "exchanged", "transpose"))
def softmax_entry_by_entry(g, q, k, v):
    """Takes p (1 − p) for the derivative of softmax, as if each entry depended on its own score only."""
    scale = 1 / np.sqrt(q.shape[-1])
    weights = mv.softmax(mv.Tensor(q @ k.swapaxes(-1, -2) * scale)).numpy()
    dscores = weights * (1 - weights) * (g @ v.swapaxes(-1, -2)) * scale
    return dscores @ k, dscores.swapaxes(-1, -2) @ q, weights.swapaxes(-1, -2) @ g


@unseen("attention_vjp", never=("softmax", "transpose", "size of axis"))
def scale_forgotten_in_dk(g, q, k, v):
    """1/√d is in dq, but not in dk."""
    scale = 1 / np.sqrt(q.shape[-1])
    weights = mv.softmax(mv.Tensor(q @ k.swapaxes(-1, -2) * scale)).numpy()
    dweights = g @ v.swapaxes(-1, -2)
    dscores = weights * (dweights - (weights * dweights).sum(axis=-1, keepdims=True))
    return dscores @ k * scale, dscores.swapaxes(-1, -2) @ q, weights.swapaxes(-1, -2) @ g


@unseen("attention_vjp", never=("scale", "√", "root"))
def plain_mean_subtracted(g, q, k, v):
    """Subtracts the mean of dweights over the keys instead of the mean weighted by the weights."""
    scale = 1 / np.sqrt(q.shape[-1])
    weights = mv.softmax(mv.Tensor(q @ k.swapaxes(-1, -2) * scale)).numpy()
    dweights = g @ v.swapaxes(-1, -2)
    dscores = weights * (dweights - dweights.mean(axis=-1, keepdims=True)) * scale
    return dscores @ k, dscores.swapaxes(-1, -2) @ q, weights.swapaxes(-1, -2) @ g


@unseen("attention_vjp", may_be=("dv_from_weights_as_they_lie",), never=("scale", "√", "softmax"))
def values_weighted_again(g, q, k, v):
    """dv is what attention gives for g, weights @ g, without the transpose."""
    scale = 1 / np.sqrt(q.shape[-1])
    weights = mv.softmax(mv.Tensor(q @ k.swapaxes(-1, -2) * scale)).numpy()
    dweights = g @ v.swapaxes(-1, -2)
    dscores = weights * (dweights - (weights * dweights).sum(axis=-1, keepdims=True)) * scale
    return dscores @ k, dscores.swapaxes(-1, -2) @ q, weights @ g


@unseen("attention_bug", may_be=("axis_of_the_maximum_alone",), never=("root of D",))
def sum_over_the_queries(x, w_q, w_k, w_v):
    """Repairs the scale and the axis of the maximum, and leaves the sum on axis 1."""
    q, k, v = x @ w_q, x @ w_k, x @ w_v
    scores = q @ k.transpose(0, 2, 1) / np.sqrt(w_q.shape[-1])
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights = weights / weights.sum(axis=1, keepdims=True)
    return weights @ v


@unseen("attention_bug", may_be=("all_but_the_width",), never=("axis",))
def root_of_the_whole_width(x, w_q, w_k, w_v):
    """The root stands in the right place, but it is that of D, the width of x, instead of d."""
    q, k, v = x @ w_q, x @ w_k, x @ w_v
    scores = q @ k.transpose(0, 2, 1) / np.sqrt(x.shape[-1])
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True) @ v


@unseen("attention_bug", may_be=("the_old_division_stayed",), never=("axis",))
def scaled_in_both_places(x, w_q, w_k, w_v):
    """Puts the root of d before the softmax and forgets to remove the division at the end."""
    q, k, v = x @ w_q, x @ w_k, x @ w_v
    scores = q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1])
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights = e / e.sum(axis=-1, keepdims=True)
    return weights @ v / np.sqrt(x.shape[-1])


@unseen("attention_bug", may_be=("axis_alone",))
def only_the_axes(x, w_q, w_k, w_v):
    """Repairs the axis of the softmax and neither of the two faults of the scale."""
    q, k, v = x @ w_q, x @ w_k, x @ w_v
    scores = q @ k.transpose(0, 2, 1)
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights = e / e.sum(axis=-1, keepdims=True)
    return weights @ v / np.sqrt(x.shape[-1])


@unseen("two_maps_one_output", never=("sums to",))
def too_far(weights, v):
    """A right direction, but a step so long that weights become negative."""
    known = np.concatenate([v, np.ones((len(v), 1))], axis=1)
    direction = np.linalg.svd(known.T)[2][-1]
    return weights + direction


@unseen("two_maps_one_output", never=("negative",))
def ones_forgotten(weights, v):
    """Looks for a change that v does not see, and forgets that the rows must still sum to 1."""
    direction = np.linalg.svd(v.T)[2][-1]
    return weights + 0.02 * direction / np.abs(direction).max()


@unseen("two_maps_one_output", never=("negative", "sums to"))
def rows_for_columns(weights, v):
    """Two columns of the table are exchanged without the rows of v: sums stay, the output does not."""
    other = weights.copy()
    other[:, [0, 1]] = weights[:, [1, 0]]
    return other


@unseen("attention", may_be=("softmax_over_queries",), never=("nan", "overflow"))
def shares_of_the_queries(q, k, v, scale=None):
    """The softmax runs over the queries, so that columns sum to 1."""
    scores = q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1])
    e = (scores - scores.max(axis=-2, keepdims=True)).exp()
    return e / e.sum(axis=-2, keepdims=True) @ v


@unseen("attention", may_be=("by_d_without_the_root",), never=("softmax", "overflow"))
def no_root(q, k, v, scale=None):
    """Divides by d instead of √d."""
    return mv.softmax(q @ k.swapaxes(-1, -2) / q.shape[-1]) @ v


@unseen("attention", may_be=("all_axes_turned",), never=("root", "√"))
def all_axes_turned(q, k, v, scale=None):
    """k.transpose() turns round all axes, the batch too, where only the last two should change places."""
    return mv.softmax(q @ k.transpose() / math.sqrt(q.shape[-1])) @ v


@unseen("attention_vjp", never=("1/√d", "softmax", "transpose"))
def dk_before_dq(g, q, k, v):
    """Returns dk before dq."""
    scale = 1 / np.sqrt(q.shape[-1])
    weights = mv.softmax(mv.Tensor(q @ k.swapaxes(-1, -2) * scale)).numpy()
    dweights = g @ v.swapaxes(-1, -2)
    dscores = weights * (dweights - (weights * dweights).sum(axis=-1, keepdims=True)) * scale
    return dscores.swapaxes(-1, -2) @ q, dscores @ k, weights.swapaxes(-1, -2) @ g


@unseen("attention_vjp", never=("1/√d", "transpose"))
def weights_left_out(g, q, k, v):
    """Forgets the factor `weights` in front: dscores = dweights − Σ weights · dweights."""
    scale = 1 / np.sqrt(q.shape[-1])
    weights = mv.softmax(mv.Tensor(q @ k.swapaxes(-1, -2) * scale)).numpy()
    dweights = g @ v.swapaxes(-1, -2)
    dscores = (dweights - (weights * dweights).sum(axis=-1, keepdims=True)) * scale
    return dscores @ k, dscores.swapaxes(-1, -2) @ q, weights.swapaxes(-1, -2) @ g


@unseen("two_maps_one_output", may_be=("the_same_table",), never=("negative", "sums to"))
def only_a_copy(weights, v):
    """Returns the same table again."""
    return weights.copy()


@unseen("attention", may_be=("scale_after_softmax",), never=("Your weights sum to", "axis"))
def output_divided(q, k, v, scale=None):
    """Divides the output by √d instead of the scores; the weights themselves sum to 1."""
    return mv.softmax(q @ k.swapaxes(-1, -2)) @ v / math.sqrt(q.shape[-1])


@unseen("attention_vjp", may_be=("sum_over_queries",), never=("1/√d", "transpose"))
def weighted_mean_over_the_queries(g, q, k, v):
    """In the softmax's gradient the sum runs over the queries (axis −2) instead of the keys."""
    scale = 1 / np.sqrt(q.shape[-1])
    weights = mv.softmax(mv.Tensor(q @ k.swapaxes(-1, -2) * scale)).numpy()
    dweights = g @ v.swapaxes(-1, -2)
    dscores = weights * (dweights - (weights * dweights).sum(axis=-2, keepdims=True)) * scale
    return dscores @ k, dscores.swapaxes(-1, -2) @ q, weights.swapaxes(-1, -2) @ g


@unseen("attention_vjp", may_be=("scale_forgotten_on_the_way_back",), never=("softmax",))
def scale_forgotten_on_the_way_back(g, q, k, v):
    """The scale is in the weights, but not in dq and dk."""
    weights = mv.softmax(mv.Tensor(q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]))).numpy()
    dweights = g @ v.swapaxes(-1, -2)
    dscores = weights * (dweights - (weights * dweights).sum(axis=-1, keepdims=True))
    return dscores @ k, dscores.swapaxes(-1, -2) @ q, weights.swapaxes(-1, -2) @ g


@unseen("attention_bug", may_be=("axis_of_the_sum_alone",), never=("columns sum",))
def maximum_over_the_queries(x, w_q, w_k, w_v):
    """Repairs the scale and the axis of the sum, and leaves the maximum on axis 1, which then does not cancel."""
    q, k, v = x @ w_q, x @ w_k, x @ w_v
    scores = q @ k.transpose(0, 2, 1) / np.sqrt(w_q.shape[-1])
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True) @ v


@unseen("attention", may_be=("by_d_without_the_root",), never=("axis", "without the root"))
def both_scaled(q, k, v, scale=None):
    """Divides q and k by √d each, so that the scores are divided by d."""
    root = math.sqrt(q.shape[-1])
    return mv.softmax((q / root) @ (k / root).swapaxes(-1, -2)) @ v


@unseen("attention", may_be=("no_scale",), never=("axis", "too late"))
def not_scaled(q, k, v, scale=None):
    """No √d at all."""
    return mv.softmax(q @ k.swapaxes(-1, -2)) @ v


@unseen("attention_bug", may_be=("as_it_stands",))
def nothing_repaired(x, w_q, w_k, w_v):
    """The listing as it was."""
    q, k, v = x @ w_q, x @ w_k, x @ w_v
    scores = q @ k.transpose(0, 2, 1)
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    weights = e / e.sum(axis=1, keepdims=True)
    return weights @ v / np.sqrt(x.shape[-1])


@unseen("attention", may_be=("exp_of_large_scores",), never=("root", "√", "queries"))
def mean_for_maximum(q, k, v, scale=None):
    """Its own softmax subtracts the mean of a row instead of its maximum, which does not help far from the mean."""
    scores = q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1])
    e = (scores - scores.mean(axis=-1, keepdims=True)).exp()
    return e / e.sum(axis=-1, keepdims=True) @ v


@unseen("attention", never=("root", "√", "queries"))
def four_axes_only(q, k, v, scale=None):
    """Exchanges axes 2 and 3 of k, which are the last two only where there are four."""
    return mv.softmax(q @ k.swapaxes(2, 3) / math.sqrt(q.shape[-1])) @ v


@unseen("attention_vjp", never=("scale", "p (1 − p)"))
def tables_only(g, q, k, v):
    """Transposes with .T, which turns round all axes: right only without leading axes."""
    scale = 1 / np.sqrt(q.shape[-1])
    weights = mv.softmax(mv.Tensor(q @ k.T * scale)).numpy()
    dweights = g @ v.T
    dscores = weights * (dweights - (weights * dweights).sum(axis=-1, keepdims=True)) * scale
    return dscores @ k, dscores.T @ q, weights.T @ g


# ---- chapter 07 ------------------------------------------------------------------------------------------------------


@unseen("split_heads", may_be=("width_before_heads",), never=("axis lacks",))
def features_dealt_out(x, num_heads):
    """Deals the features to the heads like cards: head i gets features i, i + heads, …, instead of a slice."""
    b, t, width = x.shape
    return x.reshape(b, t, width // num_heads, num_heads).transpose(0, 3, 1, 2)


@unseen("split_heads", may_be=("reshape_alone",), never=("features are dealt", "interleav"))
def straight_to_the_shape(x, num_heads):
    """Reshapes straight to (B, heads, T, d), which mixes tokens."""
    b, t, width = x.shape
    return x.reshape(b, num_heads, t, width // num_heads)


@unseen("split_heads", may_be=("heads_before_images",), never=("mixes", "tokens of"))
def heads_in_front(x, num_heads):
    """Stacks the slices along axis 0: (heads, B, T, d)."""
    return mv.stack(mv.split(x, num_heads, axis=-1), axis=0)


@unseen("split_heads", may_be=("number_taken_for_width",), never=("mixes", "features are dealt"))
def d_and_heads_confused(x, num_heads):
    """Takes num_heads for the width of a head: (B, D / heads, T, heads)."""
    b, t, width = x.shape
    return x.reshape(b, t, width // num_heads, num_heads).swapaxes(1, 2)


@unseen("pack_qkv", may_be=("the_way_back",), never=("bias is unchanged", "rows"))
def the_way_back(weight, bias, num_heads):
    """The inverse: from q | k | v to head by head."""
    rows = weight.reshape(len(weight), 3, num_heads, -1).swapaxes(1, 2).reshape(weight.shape)
    return rows, bias.reshape(3, num_heads, -1).swapaxes(0, 1).reshape(bias.shape)


@unseen("pack_qkv", may_be=("bias_left_behind",), never=("inverse",))
def bias_left_behind(weight, bias, num_heads):
    """Rearranges the weight and returns the bias as it came."""
    d = weight.shape[1] // (3 * num_heads)
    packed = weight.reshape(len(weight), num_heads, 3, d).transpose(0, 2, 1, 3).reshape(weight.shape)
    return packed, bias


@unseen("pack_qkv", may_be=("interleaved",), never=("inverse", "came back as it was"))
def feature_by_feature(weight, bias, num_heads):
    """Takes the order for q, k, v of each single column, as if 3 were the last axis."""
    d = weight.shape[1] // (3 * num_heads)
    packed = weight.reshape(len(weight), num_heads, d, 3).transpose(0, 3, 1, 2).reshape(weight.shape)
    return packed, bias.reshape(num_heads, d, 3).transpose(2, 0, 1).reshape(bias.shape)


@unseen("shuffle_test", may_be=("inverse_order",), never=("rounding", "exact"))
def order_undone_wrongly(layer, tokens):
    """Applies the order to the shuffled outputs again instead of to the unshuffled ones: right only for some orders."""
    order = np.random.default_rng(0).permutation(tokens.shape[1])
    before, after = layer(tokens), layer(tokens[:, order])
    if np.allclose(after, before):
        return "invariant"
    return "equivariant" if before.ndim == 3 and np.allclose(after[:, order], before) else "neither"


@unseen("shuffle_test", never=("rounding", "exact"))
def features_shuffled(layer, tokens):
    """Shuffles the last axis, the features, instead of the tokens."""
    order = np.random.default_rng(0).permutation(tokens.shape[2])
    before, after = layer(tokens), layer(tokens[:, :, order])
    if np.allclose(after, before):
        return "invariant"
    return "equivariant" if before.ndim == 3 and np.allclose(after, before[:, :, order]) else "neither"


@unseen("shuffle_test", never=("axis", "features"))
def decided_by_the_shape(layer, tokens):
    """One output for each image is taken for invariant without a look at the numbers."""
    order = np.random.default_rng(0).permutation(tokens.shape[1])
    before, after = layer(tokens), layer(tokens[:, order])
    if before.ndim == 2:
        return "invariant"
    return "equivariant" if np.allclose(after, before[:, order]) else "neither"


@unseen("shuffle_test", may_be=("reversed_alone",), never=("axis", "features"))
def turned_round_only(layer, tokens):
    """Tries one order only, the reverse, which some layers survive that others do not."""
    before, after = layer(tokens), layer(tokens[:, ::-1])
    if np.allclose(after, before):
        return "invariant"
    return "equivariant" if before.ndim == 3 and np.allclose(after, before[:, ::-1]) else "neither"


@unseen("split_heads", may_be=("each_head_on_its_side",), never=("mixes",))
def keys_of_each_head_turned(x, num_heads):
    """Also exchanges tokens and features of each head: (B, heads, d, T)."""
    b, t, width = x.shape
    return x.reshape(b, t, num_heads, width // num_heads).transpose(0, 2, 3, 1)


@unseen("pack_qkv", may_be=("left_in_pieces",), never=("inverse", "came back as it was"))
def last_step_missing(weight, bias, num_heads):
    """The columns are in the right order, but still on three axes."""
    d = weight.shape[1] // (3 * num_heads)
    packed = weight.reshape(len(weight), num_heads, 3, d).transpose(0, 2, 1, 3)
    return packed, bias.reshape(num_heads, 3, d).transpose(1, 0, 2)


@unseen("shuffle_test", may_be=("exact_comparison",), never=("axis", "features"))
def bit_for_bit(layer, tokens):
    """Compares with ==, although a sum in another order is rounded differently."""
    order = np.random.default_rng(0).permutation(tokens.shape[1])
    before, after = layer(tokens), layer(tokens[:, order])
    if np.array_equal(after, before):
        return "invariant"
    return "equivariant" if before.ndim == 3 and np.array_equal(after, before[:, order]) else "neither"


@unseen("shuffle_test", may_be=("words_exchanged",), never=("axis", "rounding"))
def words_exchanged(layer, tokens):
    """Takes the two words for one another."""
    order = np.random.default_rng(0).permutation(tokens.shape[1])
    before, after = layer(tokens), layer(tokens[:, order])
    if np.allclose(after, before):
        return "equivariant"
    return "invariant" if before.ndim == 3 and np.allclose(after, before[:, order]) else "neither"


@unseen("split_heads", may_be=("heads_before_images",), never=("reshape",))
def list_of_heads(x, num_heads):
    """A Python list with one array (B, T, d) for each head."""
    return list(mv.split(x, num_heads, axis=-1))


@unseen("pack_qkv", never=("inverse", "bias"))
def rows_taken_for_columns(weight, bias, num_heads):
    """Splits axis 0 of the weight, as if it were (out, in); the bias is right."""
    d = weight.shape[1] // (3 * num_heads)
    packed = weight.reshape(num_heads, 3, d, -1).swapaxes(0, 1).reshape(weight.shape)
    return packed, bias.reshape(num_heads, 3, d).swapaxes(0, 1).reshape(bias.shape)


@unseen("shuffle_test", may_be=("rotated_alone",), never=("axis", "revers", "rounding"))
def turned_by_one(layer, tokens):
    """Tries one order only, all tokens moved on by one place."""
    before, after = layer(tokens), layer(np.roll(tokens, 1, axis=1))
    if np.allclose(after, before):
        return "invariant"
    return "equivariant" if before.ndim == 3 and np.allclose(after, np.roll(before, 1, axis=1)) else "neither"


@unseen("shuffle_test", may_be=("images_shuffled",), never=("features", "revers", "rounding"))
def images_shuffled(layer, tokens):
    """Shuffles axis 0, the images, which no layer mixes."""
    before, after = layer(tokens), layer(tokens[[1, 0]])
    if np.allclose(after, before):
        return "invariant"
    return "equivariant" if before.ndim == 3 and np.allclose(after, before[[1, 0]]) else "neither"


@unseen("shuffle_test", may_be=("last_two_exchanged",), never=("last three", "revers", "rotation"))
def last_two_exchanged(layer, tokens):
    """Tries one order only: the last two tokens change places."""
    order = np.array([0, 1, 2, 3, 5, 4])
    before, after = layer(tokens), layer(tokens[:, order])
    if np.allclose(after, before):
        return "invariant"
    return "equivariant" if before.ndim == 3 and np.allclose(after, before[:, order]) else "neither"


@unseen("shuffle_test", never=("round in another way", "revers", "rotation"))
def every_column_its_own_order(layer, tokens):
    """rng.permuted shuffles each feature by itself, so that the tokens fall apart."""
    before, after = layer(tokens), layer(np.random.default_rng(0).permuted(tokens, axis=1))
    if np.allclose(after, before):
        return "invariant"
    same = before.ndim == 3 and np.allclose(np.sort(after, axis=1), np.sort(before, axis=1))
    return "equivariant" if same else "neither"


@unseen("split_heads", never=("dealt out", "on its side"))
def batch_lost(x, num_heads):
    """Takes the first image only, and gives it an axis of length 1."""
    t, width = x.shape[1:]
    return x[0].reshape(1, t, num_heads, width // num_heads).transpose(0, 2, 1, 3)


# ---- chapter 08 ------------------------------------------------------------------------------------------------------


@unseen("layer_norm", may_be=("eps_of_another_library",), never=("axis=", "scaled as well", "n − 1"))
def epsilon_of_pytorch(x, weight, bias, eps=1e-6):
    """Uses 1e-5, PyTorch's default, instead of the argument: felt where the spread is tiny."""
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / (x.var(axis=-1, keepdims=True) + 1e-5).sqrt() * weight + bias


@unseen("layer_norm", may_be=("mean_left_in",), never=("axis", "ε", "eps"))
def mean_not_removed(x, weight, bias, eps=1e-6):
    """Divides x itself by the deviation: the mean is not subtracted."""
    return x / (x.var(axis=-1, keepdims=True) + eps).sqrt() * weight + bias


@unseen("layer_norm", may_be=("bias_before_weight",), never=("axis", "ε", "eps"))
def bias_inside(x, weight, bias, eps=1e-6):
    """Adds the bias before multiplying by the weight."""
    centred = x - x.mean(axis=-1, keepdims=True)
    return (centred / (x.var(axis=-1, keepdims=True) + eps).sqrt() + bias) * weight


@unseen("layer_norm", never=("ε", "eps", "bias"))
def all_tokens_of_an_image(x, weight, bias, eps=1e-6):
    """Statistics over the last two axes: right only for one row."""
    centred = x - x.mean(axis=(-2, -1), keepdims=True)
    return centred / (x.var(axis=(-2, -1), keepdims=True) + eps).sqrt() * weight + bias


@unseen("layer_norm", never=("axis", "bias"))
def at_least_epsilon(x, weight, bias, eps=1e-6):
    """max(variance, ε) instead of variance + ε."""
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / mv.maximum(x.var(axis=-1, keepdims=True), eps).sqrt() * weight + bias


@unseen("layer_norm_vjp", may_be=("no_mean_term",), never=("order",))
def mean_taken_for_constant(g, x, weight, eps=1e-6):
    """Remembers that the variance depends on x and forgets that the mean does."""
    deviation = np.sqrt(x.var(axis=-1, keepdims=True) + eps)
    unit = (x - x.mean(axis=-1, keepdims=True)) / deviation
    h = weight * g
    dx = (h - unit * (h * unit).mean(axis=-1, keepdims=True)) / deviation
    others = tuple(range(x.ndim - 1))
    return dx, (g * unit).sum(axis=others), g.sum(axis=others)


@unseen("layer_norm_vjp", may_be=("over_the_first_axis_alone",), never=("mean", "constant", "variance"))
def sums_over_the_first_axis(g, x, weight, eps=1e-6):
    """dweight and dbias are summed over axis 0 only: right for tables."""
    deviation = np.sqrt(x.var(axis=-1, keepdims=True) + eps)
    unit = (x - x.mean(axis=-1, keepdims=True)) / deviation
    h = weight * g
    along = unit * (h * unit).mean(axis=-1, keepdims=True)
    dx = (h - h.mean(axis=-1, keepdims=True) - along) / deviation
    return dx, (g * unit).sum(axis=0), g.sum(axis=0)


@unseen("layer_norm_vjp", may_be=("weight_met_x",), never=("order", "mean term"))
def x_for_unit(g, x, weight, eps=1e-6):
    """dweight is the sum of g · x instead of g · x̂; dx and dbias are right."""
    deviation = np.sqrt(x.var(axis=-1, keepdims=True) + eps)
    unit = (x - x.mean(axis=-1, keepdims=True)) / deviation
    h = weight * g
    along = unit * (h * unit).mean(axis=-1, keepdims=True)
    dx = (h - h.mean(axis=-1, keepdims=True) - along) / deviation
    others = tuple(range(x.ndim - 1))
    return dx, (g * x).sum(axis=others), g.sum(axis=others)


@unseen("layer_norm_vjp", may_be=("weight_applied_late",), never=("constant", "order"))
def weight_comes_last(g, x, weight, eps=1e-6):
    """Multiplies dx by the weight at the end instead of g at the beginning, when the means are already taken."""
    deviation = np.sqrt(x.var(axis=-1, keepdims=True) + eps)
    unit = (x - x.mean(axis=-1, keepdims=True)) / deviation
    along = unit * (g * unit).mean(axis=-1, keepdims=True)
    dx = weight * (g - g.mean(axis=-1, keepdims=True) - along) / deviation
    others = tuple(range(x.ndim - 1))
    return dx, (g * unit).sum(axis=others), g.sum(axis=others)


@unseen("block", may_be=("side_by_side",), never=("post", "norm1", "order"))
def side_by_side(x, norm1, attention, norm2, mlp):
    """The MLP reads the block's input instead of the running sum: attention and MLP side by side."""
    return x + attention(norm1(x)) + mlp(norm2(x))


@unseen("block", never=("post", "norm1", "mlp first"))
def input_counted_twice(x, norm1, attention, norm2, mlp):
    """Adds x once more at the end, though the running sum holds it already."""
    y = x + attention(norm1(x))
    return x + y + mlp(norm2(y))


@unseen("block", may_be=("skip_of_the_norm",), never=("post",))
def sum_of_the_normed(x, norm1, attention, norm2, mlp):
    """Overwrites x by its norm, so that what is added to is the norm, not the running sum."""
    x = norm1(x)
    x = x + attention(x)
    x = norm2(x)
    return x + mlp(x)


@unseen("block", never=("post", "norm2", "residual"))
def adds_in_place(x, norm1, attention, norm2, mlp):
    """Right values, but += writes into the caller's x."""
    x += attention(norm1(x))
    x += mlp(norm2(x))
    return x


@unseen("layer_norm", may_be=("no_eps",), never=("axis", "n − 1", "mean"))
def no_epsilon(x, weight, bias, eps=1e-6):
    """Leaves ε out."""
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / x.var(axis=-1, keepdims=True).sqrt() * weight + bias


@unseen("layer_norm", may_be=("no_root",), never=("ε", "eps", "mean is"))
def no_root_taken(x, weight, bias, eps=1e-6):
    """Divides by the variance instead of its root."""
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / (x.var(axis=-1, keepdims=True) + eps) * weight + bias


@unseen("layer_norm_vjp", may_be=("dx_without_weight",), never=("constant", "axis"))
def weight_forgotten_in_dx(g, x, weight, eps=1e-6):
    """Uses g where dx needs weight · g."""
    deviation = np.sqrt(x.var(axis=-1, keepdims=True) + eps)
    unit = (x - x.mean(axis=-1, keepdims=True)) / deviation
    dx = (g - g.mean(axis=-1, keepdims=True) - unit * (g * unit).mean(axis=-1, keepdims=True)) / deviation
    others = tuple(range(x.ndim - 1))
    return dx, (g * unit).sum(axis=others), g.sum(axis=others)


@unseen("block", may_be=("first_skip_forgotten",), never=("norm1", "post", "order"))
def first_residual_forgotten(x, norm1, attention, norm2, mlp):
    """The attention replaces the running sum instead of being added to it."""
    x = attention(norm1(x))
    return x + mlp(norm2(x))


@unseen("layer_norm", never=("ε", "eps", "bias"))
def statistics_over_axis_1(x, weight, bias, eps=1e-6):
    """Axis 1 instead of the last: right for tables."""
    centred = x - x.mean(axis=1, keepdims=True)
    return centred / (x.var(axis=1, keepdims=True) + eps).sqrt() * weight + bias


@unseen("layer_norm_vjp", may_be=("no_stretch_term",), never=("mean term", "order"))
def deviation_taken_for_constant(g, x, weight, eps=1e-6):
    """Remembers that the mean depends on x and forgets that the variance does."""
    deviation = np.sqrt(x.var(axis=-1, keepdims=True) + eps)
    unit = (x - x.mean(axis=-1, keepdims=True)) / deviation
    h = weight * g
    others = tuple(range(x.ndim - 1))
    return (h - h.mean(axis=-1, keepdims=True)) / deviation, (g * unit).sum(axis=others), g.sum(axis=others)


@unseen("layer_norm_vjp", never=("constant", "late"))
def sum_for_mean(g, x, weight, eps=1e-6):
    """Sums h · x̂ over the features where its mean belongs."""
    deviation = np.sqrt(x.var(axis=-1, keepdims=True) + eps)
    unit = (x - x.mean(axis=-1, keepdims=True)) / deviation
    h = weight * g
    along = unit * (h * unit).sum(axis=-1, keepdims=True)
    dx = (h - h.mean(axis=-1, keepdims=True) - along) / deviation
    others = tuple(range(x.ndim - 1))
    return dx, (g * unit).sum(axis=others), g.sum(axis=others)


@unseen("block", may_be=("post_norm",), never=("overwrite", "side by side"))
def norms_behind(x, norm1, attention, norm2, mlp):
    """Post-norm, as in 2017: the norm comes after the sum."""
    x = norm1(x + attention(x))
    return norm2(x + mlp(x))


@unseen("block", may_be=("one_norm",), never=("side by side", "post"))
def same_norm_twice(x, norm1, attention, norm2, mlp):
    """Uses norm1 in both places."""
    x = x + attention(norm1(x))
    return x + mlp(norm1(x))


@unseen("block", may_be=("second_sum_from_the_start",), never=("side by side", "norm1"))
def second_half_from_the_start(x, norm1, attention, norm2, mlp):
    """The MLP reads the running sum, but its finding is added to x as it came in: what attention found is lost."""
    y = x + attention(norm1(x))
    return x + mlp(norm2(y))


@unseen("layer_norm", may_be=("variance_of_a_sample",), never=("ε of", "scaled as well", "mean is"))
def n_minus_1(x, weight, bias, eps=1e-6):
    """The unbiased variance, divided by D − 1."""
    d = x.shape[-1]
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / (x.var(axis=-1, keepdims=True) * d / (d - 1) + eps).sqrt() * weight + bias


@unseen("layer_norm", may_be=("no_eps",), never=("bias", "PyTorch"))
def epsilon_of_bert(x, weight, bias, eps=1e-6):
    """Uses 1e-12 instead of the argument."""
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / (x.var(axis=-1, keepdims=True) + 1e-12).sqrt() * weight + bias


@unseen("layer_norm_vjp", never=("late", "dweight"))
def along_added(g, x, weight, eps=1e-6):
    """The term along x̂ has the wrong sign."""
    deviation = np.sqrt(x.var(axis=-1, keepdims=True) + eps)
    unit = (x - x.mean(axis=-1, keepdims=True)) / deviation
    h = weight * g
    along = unit * (h * unit).mean(axis=-1, keepdims=True)
    dx = (h - h.mean(axis=-1, keepdims=True) + along) / deviation
    others = tuple(range(x.ndim - 1))
    return dx, (g * unit).sum(axis=others), g.sum(axis=others)


@unseen("layer_norm_vjp", never=("mean term", "late"))
def weight_in_its_own_gradient(g, x, weight, eps=1e-6):
    """dweight is the sum of weight · g · x̂: the product h is used where g belongs."""
    deviation = np.sqrt(x.var(axis=-1, keepdims=True) + eps)
    unit = (x - x.mean(axis=-1, keepdims=True)) / deviation
    h = weight * g
    along = unit * (h * unit).mean(axis=-1, keepdims=True)
    dx = (h - h.mean(axis=-1, keepdims=True) - along) / deviation
    others = tuple(range(x.ndim - 1))
    return dx, (h * unit).sum(axis=others), g.sum(axis=others)


# ---- chapter 09 ------------------------------------------------------------------------------------------------------


@unseen("count_parameters", never=("bias", "norm"))
def square_before_the_quotient(image_size, patch_size, in_channels, num_classes, dim, depth, mlp_ratio):
    """image_size // patch_size ** 2 divides by the square, so that the number of patches is wrong."""
    tokens = 1 + image_size // patch_size**2
    embedding = patch_size**2 * in_channels * dim + dim
    block = 4 * dim * dim + 4 * dim + 2 * dim * dim * mlp_ratio + dim * mlp_ratio + dim + 4 * dim
    return embedding + dim + tokens * dim + depth * block + 2 * dim + dim * num_classes + num_classes


@unseen("count_parameters", may_be=("two_vectors_in_each_block",), never=("class token", "Two norms"))
def one_bias_for_q_k_v(image_size, patch_size, in_channels, num_classes, dim, depth, mlp_ratio):
    """The packed qkv gets a bias of D numbers instead of 3D."""
    tokens = 1 + (image_size // patch_size) ** 2
    embedding = patch_size**2 * in_channels * dim + dim
    attention = 3 * dim * dim + dim + dim * dim + dim
    mlp = 2 * dim * dim * mlp_ratio + dim * mlp_ratio + dim
    block = attention + mlp + 4 * dim
    return embedding + dim + tokens * dim + depth * block + 2 * dim + dim * num_classes + num_classes


@unseen("count_parameters", may_be=("grey_images_alone",), never=("norm", "qkv"))
def grey_images(image_size, patch_size, in_channels, num_classes, dim, depth, mlp_ratio):
    """Forgets the channels in the patch embedding: right for grey images."""
    tokens = 1 + (image_size // patch_size) ** 2
    embedding = patch_size**2 * dim + dim
    block = 4 * dim * dim + 4 * dim + 2 * dim * dim * mlp_ratio + dim * mlp_ratio + dim + 4 * dim
    return embedding + dim + tokens * dim + depth * block + 2 * dim + dim * num_classes + num_classes


@unseen("count_parameters", may_be=("two_vectors_outside_the_blocks",))
def two_things_forgotten(image_size, patch_size, in_channels, num_classes, dim, depth, mlp_ratio):
    """Two mistakes: no position for the class token, and a last norm without its bias."""
    tokens = (image_size // patch_size) ** 2
    embedding = patch_size**2 * in_channels * dim + dim
    block = 4 * dim * dim + 4 * dim + 2 * dim * dim * mlp_ratio + dim * mlp_ratio + dim + 4 * dim
    return embedding + dim + tokens * dim + depth * block + dim + dim * num_classes + num_classes


def _vit(images, weights, patch_size, num_heads, *, late=False, own=None, pool=None, act=mv.gelu, second="norm2"):
    """A forward pass with a place for each mistake below."""

    def linear(x, name):
        return x @ weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def norm(x, name):
        return mv.layer_norm(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    x = linear(mv.Tensor(mv.patchify(images, patch_size)), "patch_embed.proj")
    cls = mv.broadcast_to(weights["cls_token"], shape=(len(images), 1, x.shape[2]))
    if late:
        x = mv.concatenate([cls, x + weights["pos_embed"][:, 1:]], axis=1)
    else:
        x = mv.concatenate([cls, x], axis=1) + weights["pos_embed"]
    for i in range(sum(name.endswith("norm1.weight") for name in weights)):
        qkv = linear(norm(x, f"blocks.{i}.norm1"), f"blocks.{i}.attn.qkv")
        x = x + linear(mv.composed.self_attention(qkv, own or num_heads), f"blocks.{i}.attn.proj")
        mlp = act(linear(norm(x, f"blocks.{i}.{second}"), f"blocks.{i}.mlp.fc1"))
        x = x + linear(mlp, f"blocks.{i}.mlp.fc2")
    return linear(pool(x, norm) if pool else norm(x, "norm")[:, 0], "head")


@unseen("vit_forward", may_be=("positions_for_patches_alone",), never=("gelu", "heads", "pool"))
def class_token_without_a_place(images, weights, patch_size, num_heads):
    """Adds the positions to the patches before the class token comes in front, which gets none."""
    return _vit(images, weights, patch_size, num_heads, late=True)


@unseen("vit_forward", may_be=("mean_of_the_tokens",), never=("position", "heads", "gelu"))
def mean_of_all_tokens(images, weights, patch_size, num_heads):
    """Reads the mean of all tokens, the class token among them, instead of the class token."""
    return _vit(images, weights, patch_size, num_heads, pool=lambda x, norm: norm(x, "norm").mean(axis=1))


@unseen("vit_forward", may_be=("relu",), never=("position", "heads", "float16"))
def relu_for_gelu(images, weights, patch_size, num_heads):
    """ReLU in the MLP instead of GELU."""
    return _vit(images, weights, patch_size, num_heads, act=mv.relu)


@unseen("vit_forward", may_be=("one_head",), never=("position", "gelu", "norm"))
def a_single_head(images, weights, patch_size, num_heads):
    """Ignores num_heads: all features in one head."""
    return _vit(images, weights, patch_size, num_heads, own=1)


@unseen("vit_forward", may_be=("one_norm_for_both",), never=("position", "heads", "gelu"))
def first_norm_twice(images, weights, patch_size, num_heads):
    """Reads norm1 in front of the MLP, where norm2 belongs (copy and paste)."""
    return _vit(images, weights, patch_size, num_heads, second="norm1")


@unseen("vit_forward", may_be=("softmax_at_the_end",), never=("position", "heads", "gelu", "norm"))
def probabilities(images, weights, patch_size, num_heads):
    """A softmax at the end: probabilities instead of logits."""
    return mv.softmax(_vit(images, weights, patch_size, num_heads))


@unseen(
    "count_parameters",
    may_be=("one_vector_outside_the_blocks",),
    never=("You forget the class token", "position of the class token"),
)
def patch_embedding_without_bias(image_size, patch_size, in_channels, num_classes, dim, depth, mlp_ratio):
    """The patch embedding has no bias: D too few, as many as a class token has."""
    tokens = 1 + (image_size // patch_size) ** 2
    embedding = patch_size**2 * in_channels * dim
    block = 4 * dim * dim + 4 * dim + 2 * dim * dim * mlp_ratio + dim * mlp_ratio + dim + 4 * dim
    return embedding + dim + tokens * dim + depth * block + 2 * dim + dim * num_classes + num_classes


@unseen(
    "count_parameters", may_be=("one_vector_outside_the_blocks",), never=("bias of the patch", "bias of the output")
)
def class_token_forgotten(image_size, patch_size, in_channels, num_classes, dim, depth, mlp_ratio):
    """Counts the class token's position, but not the token."""
    tokens = 1 + (image_size // patch_size) ** 2
    embedding = patch_size**2 * in_channels * dim + dim
    block = 4 * dim * dim + 4 * dim + 2 * dim * dim * mlp_ratio + dim * mlp_ratio + dim + 4 * dim
    return embedding + tokens * dim + depth * block + 2 * dim + dim * num_classes + num_classes


@unseen("count_parameters", may_be=("two_vectors_in_each_block",))
def one_norm_for_each_block(image_size, patch_size, in_channels, num_classes, dim, depth, mlp_ratio):
    """Counts one LayerNorm in a block where there are two."""
    tokens = 1 + (image_size // patch_size) ** 2
    embedding = patch_size**2 * in_channels * dim + dim
    block = 4 * dim * dim + 4 * dim + 2 * dim * dim * mlp_ratio + dim * mlp_ratio + dim + 2 * dim
    return embedding + dim + tokens * dim + depth * block + 2 * dim + dim * num_classes + num_classes


@unseen("count_parameters", may_be=("two_vectors_in_each_block",))
def norms_without_bias(image_size, patch_size, in_channels, num_classes, dim, depth, mlp_ratio):
    """Both LayerNorms of a block have a weight but no bias, which is as many numbers as one LayerNorm."""
    tokens = 1 + (image_size // patch_size) ** 2
    embedding = patch_size**2 * in_channels * dim + dim
    norms = 2 * dim
    block = 4 * dim * dim + 4 * dim + 2 * dim * dim * mlp_ratio + dim * mlp_ratio + dim + norms
    return embedding + dim + tokens * dim + depth * block + 2 * dim + dim * num_classes + num_classes


@unseen("count_parameters", may_be=("one_vector_outside_the_blocks",), never=("Before the blocks",))
def last_norm_without_bias(image_size, patch_size, in_channels, num_classes, dim, depth, mlp_ratio):
    """The LayerNorm in front of the head has a weight and no bias: D too few."""
    tokens = 1 + (image_size // patch_size) ** 2
    embedding = patch_size**2 * in_channels * dim + dim
    block = 4 * dim * dim + 4 * dim + 2 * dim * dim * mlp_ratio + dim * mlp_ratio + dim + 4 * dim
    return embedding + dim + tokens * dim + depth * block + dim + dim * num_classes + num_classes


@unseen("count_parameters", never=("position",))
def fc1_and_fc2_with_one_bias(image_size, patch_size, in_channels, num_classes, dim, depth, mlp_ratio):
    """Gives both Linears of the MLP a bias of D numbers; that of the first is as wide as the hidden layer."""
    tokens = 1 + (image_size // patch_size) ** 2
    embedding = patch_size**2 * in_channels * dim + dim
    block = 4 * dim * dim + 4 * dim + 2 * dim * dim * mlp_ratio + 2 * dim + 4 * dim
    return embedding + dim + tokens * dim + depth * block + 2 * dim + dim * num_classes + num_classes


@unseen("count_parameters", never=("norm",))
def head_over_all_tokens(image_size, patch_size, in_channels, num_classes, dim, depth, mlp_ratio):
    """Lets the head read all tokens laid end to end instead of the class token."""
    tokens = 1 + (image_size // patch_size) ** 2
    embedding = patch_size**2 * in_channels * dim + dim
    block = 4 * dim * dim + 4 * dim + 2 * dim * dim * mlp_ratio + dim * mlp_ratio + dim + 4 * dim
    return embedding + dim + tokens * dim + depth * block + 2 * dim + tokens * dim * num_classes + num_classes


@unseen("count_parameters", may_be=("two_vectors_outside_the_blocks",), never=("class token",))
def last_norm_forgotten(image_size, patch_size, in_channels, num_classes, dim, depth, mlp_ratio):
    """Forgets the LayerNorm in front of the head: 2D, as many as the class token and its position have."""
    tokens = 1 + (image_size // patch_size) ** 2
    embedding = patch_size**2 * in_channels * dim + dim
    block = 4 * dim * dim + 4 * dim + 2 * dim * dim * mlp_ratio + dim * mlp_ratio + dim + 4 * dim
    return embedding + dim + tokens * dim + depth * block + dim * num_classes + num_classes


@unseen("count_parameters", may_be=("two_vectors_outside_the_blocks",), never=("last norm", "last LayerNorm"))
def no_class_token_at_all(image_size, patch_size, in_channels, num_classes, dim, depth, mlp_ratio):
    """Counts neither the class token nor its position."""
    tokens = (image_size // patch_size) ** 2
    embedding = patch_size**2 * in_channels * dim + dim
    block = 4 * dim * dim + 4 * dim + 2 * dim * dim * mlp_ratio + dim * mlp_ratio + dim + 4 * dim
    return embedding + tokens * dim + depth * block + 2 * dim + dim * num_classes + num_classes


@unseen("count_parameters", may_be=("no_projection_of_the_heads",), never=("norm", "class token"))
def no_output_projection(image_size, patch_size, in_channels, num_classes, dim, depth, mlp_ratio):
    """Forgets the Linear after the attention, which puts the heads together."""
    tokens = 1 + (image_size // patch_size) ** 2
    embedding = patch_size**2 * in_channels * dim + dim
    block = 3 * dim * dim + 3 * dim + 2 * dim * dim * mlp_ratio + dim * mlp_ratio + dim + 4 * dim
    return embedding + dim + tokens * dim + depth * block + 2 * dim + dim * num_classes + num_classes


@unseen("count_parameters", never=("norm", "class token"))
def always_four_times_as_wide(image_size, patch_size, in_channels, num_classes, dim, depth, mlp_ratio):
    """Takes 4 for mlp_ratio, as in most papers."""
    tokens = 1 + (image_size // patch_size) ** 2
    embedding = patch_size**2 * in_channels * dim + dim
    block = 4 * dim * dim + 4 * dim + 8 * dim * dim + 4 * dim + dim + 4 * dim
    return embedding + dim + tokens * dim + depth * block + 2 * dim + dim * num_classes + num_classes


@unseen("vit_forward", never=("the first alone", "heads", "gelu"))
def block_0_every_time(images, weights, patch_size, num_heads):
    """Runs as many blocks as there are, each with the weights of blocks.0."""
    same = {name: weights[re.sub(r"^blocks\.\d+", "blocks.0", name)] for name in weights}
    return _vit(images, same, patch_size, num_heads)


@unseen("vit_forward", never=("class token has none", "heads", "gelu"))
def positions_one_too_early(images, weights, patch_size, num_heads):
    """The patches get rows 0…N−1 of the positions, the class token the last row, as if it stood at the end."""
    moved = weights | {"pos_embed": np.roll(weights["pos_embed"], 1, axis=1)}
    return _vit(images, moved, patch_size, num_heads)


@unseen("vit_forward", never=("position", "gelu"))
def biases_forgotten(images, weights, patch_size, num_heads):
    """Multiplies by the weights of the Linears and adds no bias."""
    bare = {name: w * (not name.endswith("bias") or "norm" in name) for name, w in weights.items()}
    return _vit(images, bare, patch_size, num_heads)


@unseen("vit_forward", never=("position", "gelu", "one head"))
def scaled_by_the_whole_width(images, weights, patch_size, num_heads):
    """Divides the scores by the root of D instead of that of a head's width."""
    d = weights["cls_token"].shape[2]
    scaled = dict(weights)
    for name in weights:
        if ".attn.qkv." in name:  # q smaller by √heads: the same as scores divided by √D
            scaled[name] = weights[name] * np.where(np.arange(3 * d) < d, num_heads**-0.5, 1)
    return _vit(images, scaled, patch_size, num_heads)


@unseen("vit_forward", never=("position", "gelu", "one head"))
def packed_head_by_head(images, weights, patch_size, num_heads):
    """Reads the packed columns as q, k, v of head 0, then of head 1, and so on."""
    d = weights["cls_token"].shape[2]
    other = dict(weights)
    for name, w in weights.items():
        if ".attn.qkv." in name:
            split = w.reshape(-1, num_heads, 3, d // num_heads).swapaxes(1, 2)
            other[name] = split.reshape(w.shape)
    return _vit(images, other, patch_size, num_heads)


@unseen("count_parameters", may_be=("no_qkv_bias",), never=("Two norms", "class token", "Before the blocks"))
def no_bias_in_qkv(image_size, patch_size, in_channels, num_classes, dim, depth, mlp_ratio):
    """The packed qkv has no bias, as in some ViTs: 3D too few in each block."""
    tokens = 1 + (image_size // patch_size) ** 2
    embedding = patch_size**2 * in_channels * dim + dim
    block = 4 * dim * dim + dim + 2 * dim * dim * mlp_ratio + dim * mlp_ratio + dim + 4 * dim
    return embedding + dim + tokens * dim + depth * block + 2 * dim + dim * num_classes + num_classes


@unseen("count_parameters", may_be=("no_biases",), never=("one vector", "two vectors"))
def no_biases_at_all(image_size, patch_size, in_channels, num_classes, dim, depth, mlp_ratio):
    """Counts the matrices of all Linears and none of their biases."""
    tokens = 1 + (image_size // patch_size) ** 2
    block = 4 * dim * dim + 2 * dim * dim * mlp_ratio + 4 * dim
    return patch_size**2 * in_channels * dim + dim + tokens * dim + depth * block + 2 * dim + dim * num_classes


@unseen("count_parameters", may_be=("no_head_bias",), never=("vector", "norm"))
def head_without_bias(image_size, patch_size, in_channels, num_classes, dim, depth, mlp_ratio):
    """Forgets the bias of the head, one number for each class."""
    tokens = 1 + (image_size // patch_size) ** 2
    embedding = patch_size**2 * in_channels * dim + dim
    block = 4 * dim * dim + 4 * dim + 2 * dim * dim * mlp_ratio + dim * mlp_ratio + dim + 4 * dim
    return embedding + dim + tokens * dim + depth * block + 2 * dim + dim * num_classes


@unseen("vit_forward", never=("all 5 tokens", "position", "heads"))
def mean_of_the_patches(images, weights, patch_size, num_heads):
    """Reads the mean of the patches, without the class token."""
    return _vit(images, weights, patch_size, num_heads, pool=lambda x, norm: norm(x, "norm")[:, 1:].mean(axis=1))


# ---- chapter 10 ------------------------------------------------------------------------------------------------------


@unseen("adamw", may_be=("correction_kept_in_the_state",), never=("L2", "eps", "decay"))
def corrected_in_place(p, gradients, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05):
    """Writes the corrected averages over m and v, so that the next step goes on from m̂ and v̂: right for one step."""
    m, v = np.zeros_like(p), np.zeros_like(p)
    for t, g in enumerate(gradients, start=1):
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        m = m / (1 - betas[0] ** t)
        v = v / (1 - betas[1] ** t)
        p = p - lr * (m / (np.sqrt(v) + eps) + weight_decay * p)
    return p


@unseen("adamw", never=("L2", "decay", "square"))
def always_the_first_step(p, gradients, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05):
    """Corrects with 1 − β instead of 1 − βᵗ: t stays 1."""
    m, v = np.zeros_like(p), np.zeros_like(p)
    for g in gradients:
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        p = p - lr * (m / (1 - betas[0]) / (np.sqrt(v / (1 - betas[1])) + eps) + weight_decay * p)
    return p


@unseen("adamw", may_be=("decay_without_lr",), never=("bias correction", "eps", "square"))
def decay_without_rate(p, gradients, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05):
    """The brackets close too early: the decay is not multiplied by lr."""
    m, v = np.zeros_like(p), np.zeros_like(p)
    for t, g in enumerate(gradients, start=1):
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        p = p - lr * (m / (1 - betas[0] ** t) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)) - weight_decay * p
    return p


@unseen("adamw", may_be=("counter_from_0",), never=("bias correction", "decay", "root"))
def counts_from_zero(p, gradients, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05):
    """t begins at 0, so that the first step divides by 1 − β⁰ = 0."""
    m, v = np.zeros_like(p), np.zeros_like(p)
    for t, g in enumerate(gradients):
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        p = p - lr * (m / (1 - betas[0] ** t) / (np.sqrt(v / (1 - betas[1] ** t)) + eps) + weight_decay * p)
    return p


@unseen("adamw", may_be=("state_made_anew",), never=("bias correction", "L2", "decay"))
def state_made_in_the_loop(p, gradients, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05):
    """m and v are made inside the loop, so that each step forgets the earlier ones."""
    for t, g in enumerate(gradients, start=1):
        m, v = np.zeros_like(p), np.zeros_like(p)
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        p = p - lr * (m / (1 - betas[0] ** t) / (np.sqrt(v / (1 - betas[1] ** t)) + eps) + weight_decay * p)
    return p


@unseen("clip_global_norm", may_be=("norm_afterwards",), never=("each", "sum of the norms", "None"))
def norm_after_the_clip(gradients, limit):
    """Returns the norm of what it returns, not the norm that it found."""
    norm = np.sqrt(sum((g**2).sum() for g in gradients if g is not None))
    factor = min(1, limit / norm)
    clipped = [None if g is None else g * factor for g in gradients]
    return clipped, np.sqrt(sum((g**2).sum() for g in clipped if g is not None))


@unseen("clip_global_norm", may_be=("sum_of_norms",), never=("each", "None"))
def norms_added(gradients, limit):
    """Adds the norms of the gradients instead of their squares."""
    norm = sum(np.linalg.norm(g) for g in gradients if g is not None)
    factor = min(1, limit / norm)
    return [None if g is None else g * factor for g in gradients], norm


@unseen("clip_global_norm", may_be=("always_scaled",), never=("each", "None"))
def also_stretched(gradients, limit):
    """Always scales to the limit, small gradients too."""
    norm = np.sqrt(sum((g**2).sum() for g in gradients if g is not None))
    return [None if g is None else g * limit / norm for g in gradients], norm


@unseen("clip_global_norm", may_be=("none_left_out",), never=("each", "sum of the norms"))
def gaps_closed(gradients, limit):
    """Leaves out the parameters that have no gradient, so that the list no longer fits them."""
    there = [g for g in gradients if g is not None]
    norm = np.sqrt(sum((g**2).sum() for g in there))
    factor = min(1, limit / norm)
    return [g * factor for g in there], norm


@unseen("clip_global_norm", may_be=("values_cut",), never=("None", "sum of the norms"))
def values_cut(gradients, limit):
    """Cuts each number at ±limit (clip by value) and leaves the norm alone."""
    norm = np.sqrt(sum((g**2).sum() for g in gradients if g is not None))
    return [None if g is None else np.clip(g, -limit, limit) for g in gradients], norm


@unseen("vit_forward", may_be=("no_last_norm",), never=("position", "heads", "gelu"))
def no_last_norm(images, weights, patch_size, num_heads):
    """Leaves out the LayerNorm before the head."""
    return _vit(images, weights, patch_size, num_heads, pool=lambda x, norm: x[:, 0])


@unseen("adamw", may_be=("v_not_corrected",), never=("L2", "decay"))
def only_m_corrected(p, gradients, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05):
    """Corrects m for its start at 0 and forgets v."""
    m, v = np.zeros_like(p), np.zeros_like(p)
    for t, g in enumerate(gradients, start=1):
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        p = p - lr * (m / (1 - betas[0] ** t) / (np.sqrt(v) + eps) + weight_decay * p)
    return p


@unseen("adamw", may_be=("decay_after_the_step",), never=("correct", "L2", "outside", "float16"))
def decayed_afterwards(p, gradients, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05):
    """Decays the parameter after the step instead of taking the decay from before it."""
    m, v = np.zeros_like(p), np.zeros_like(p)
    for t, g in enumerate(gradients, start=1):
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        p = p - lr * m / (1 - betas[0] ** t) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)
        p = p * (1 - lr * weight_decay)
    return p


@unseen("adamw", may_be=("each_step_from_the_first_p",), never=("decay", "correct"))
def always_from_the_start(p, gradients, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05):
    """Takes each step from the first p: only the last one counts."""
    m, v, new = np.zeros_like(p), np.zeros_like(p), p
    for t, g in enumerate(gradients, start=1):
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        new = p - lr * (m / (1 - betas[0] ** t) / (np.sqrt(v / (1 - betas[1] ** t)) + eps) + weight_decay * p)
    return new


@unseen("clip_global_norm", may_be=("largest_norm",), never=("None",))
def largest_norm(gradients, limit):
    """Takes the largest norm of all gradients for their common one."""
    norm = max(np.linalg.norm(g) for g in gradients if g is not None)
    factor = min(1, limit / norm)
    return [None if g is None else g * factor for g in gradients], norm


@unseen("clip_global_norm", never=("common", "sum of the norms"))
def nobody_is_none(gradients, limit):
    """Does not expect a parameter without a gradient."""
    norm = np.sqrt(sum((g**2).sum() for g in gradients))
    return [g * min(1, limit / norm) for g in gradients], norm


@unseen("vit_forward", may_be=("gelu_by_tanh",), never=("position", "heads"))
def gelu_by_tanh(images, weights, patch_size, num_heads):
    """The tanh approximation of GELU instead of GELU."""
    return _vit(images, weights, patch_size, num_heads, act=lambda x: mv.gelu(x, approximate=True))


@unseen("vit_forward", may_be=("first_block_alone",), never=("position", "heads", "gelu"))
def only_the_first_block(images, weights, patch_size, num_heads):
    """Runs blocks.0 and forgets that there may be more."""
    first = {name: w for name, w in weights.items() if not name.startswith("blocks.1")}
    return _vit(images, first, patch_size, num_heads)


@unseen("vit_forward", may_be=("reads_the_last_token",), never=("position", "heads", "gelu"))
def reads_the_last_token(images, weights, patch_size, num_heads):
    """Reads the last token, a patch, instead of the class token."""
    return _vit(images, weights, patch_size, num_heads, pool=lambda x, norm: norm(x, "norm")[:, -1])


@unseen("adamw", may_be=("decay_inside_the_gradient",), never=("correct", "lr", "afterwards"))
def decay_in_the_gradient(p, gradients, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05):
    """Adds weight_decay · p to the gradient (Adam with L2), so that m and v see it."""
    m, v = np.zeros_like(p), np.zeros_like(p)
    for t, g in enumerate(gradients, start=1):
        g = g + weight_decay * p
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        p = p - lr * m / (1 - betas[0] ** t) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)
    return p


@unseen("adamw", may_be=("eps_inside_the_root",), never=("decay", "correct"))
def eps_below_the_root(p, gradients, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05):
    """√(v̂ + eps) instead of √v̂ + eps."""
    m, v = np.zeros_like(p), np.zeros_like(p)
    for t, g in enumerate(gradients, start=1):
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        p = p - lr * (m / (1 - betas[0] ** t) / np.sqrt(v / (1 - betas[1] ** t) + eps) + weight_decay * p)
    return p


@unseen("adamw", never=("decay", "v̂ + eps"))
def eps_before_the_correction(p, gradients, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05):
    """Folds both corrections into the rate, as the paper on Adam allows, so that eps meets √v instead of √v̂."""
    m, v = np.zeros_like(p), np.zeros_like(p)
    for t, g in enumerate(gradients, start=1):
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        rate = lr * math.sqrt(1 - betas[1] ** t) / (1 - betas[0] ** t)
        p = p - rate * m / (np.sqrt(v) + eps) - lr * weight_decay * p
    return p


@unseen("adamw", may_be=("betas_exchanged",), never=("decay", "eps"))
def betas_exchanged(p, gradients, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05):
    """Unpacks the betas the wrong way round."""
    b2, b1 = betas
    m, v = np.zeros_like(p), np.zeros_like(p)
    for t, g in enumerate(gradients, start=1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        p = p - lr * (m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps) + weight_decay * p)
    return p


@unseen("clip_global_norm", may_be=("factor_upside_down",), never=("None", "common"))
def factor_upside_down(gradients, limit):
    """Scales by norm / limit instead of limit / norm."""
    norm = np.sqrt(sum((g**2).sum() for g in gradients if g is not None))
    factor = norm / limit if norm > limit else 1
    return [None if g is None else g * factor for g in gradients], norm


@unseen("clip_global_norm", may_be=("each_alone",), never=("None", "sum of the norms"))
def each_by_its_own_norm(gradients, limit):
    """Clips every gradient by its own norm, which turns the direction of the step."""
    norm = np.sqrt(sum((g**2).sum() for g in gradients if g is not None))
    return [None if g is None else g * min(1, limit / np.linalg.norm(g)) for g in gradients], norm


@unseen("clip_global_norm", may_be=("scaled_in_place",), never=("None", "each"))
def written_into_the_gradients(gradients, limit):
    """Scales with *=, which changes the caller's gradients."""
    norm = np.sqrt(sum((g**2).sum() for g in gradients if g is not None))
    for g in gradients:
        if g is not None and norm > limit:
            g *= limit / norm
    return gradients, norm


@unseen("adamw", may_be=("no_bias_correction",), never=("decay", "v̂"))
def no_correction(p, gradients, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05):
    """Uses m and v as they are, without correcting for their start at 0."""
    m, v = np.zeros_like(p), np.zeros_like(p)
    for g in gradients:
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        p = p - lr * (m / (np.sqrt(v) + eps) + weight_decay * p)
    return p


@unseen("adamw", never=("decay", "correct"))
def square_of_the_average(p, gradients, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05):
    """v averages the square of m instead of that of the gradient."""
    m, v = np.zeros_like(p), np.zeros_like(p)
    for t, g in enumerate(gradients, start=1):
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * m**2
        p = p - lr * (m / (1 - betas[0] ** t) / (np.sqrt(v / (1 - betas[1] ** t)) + eps) + weight_decay * p)
    return p


@unseen("clip_global_norm", may_be=("norm_without_root",), never=("None", "each"))
def squares_without_a_root(gradients, limit):
    """Compares and divides by the sum of the squares: the root is missing."""
    norm = sum((g**2).sum() for g in gradients if g is not None)
    factor = min(1, limit / norm)
    return [None if g is None else g * factor for g in gradients], norm


@unseen("adamw", may_be=("state_made_anew",), never=("made inside", "decay"))
def old_averages_dropped(p, gradients, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05):
    """The averages lack their first half, β·m and β·v, so that nothing of the earlier gradients is left."""
    for t, g in enumerate(gradients, start=1):
        m = (1 - betas[0]) * g
        v = (1 - betas[1]) * g**2
        p = p - lr * (m / (1 - betas[0] ** t) / (np.sqrt(v / (1 - betas[1] ** t)) + eps) + weight_decay * p)
    return p


@unseen("adamw", never=("decay", "t begins"))
def times_t(p, gradients, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05):
    """1 − β·t instead of 1 − βᵗ: * for **."""
    m, v = np.zeros_like(p), np.zeros_like(p)
    for t, g in enumerate(gradients, start=1):
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        p = p - lr * (m / (1 - betas[0] * t) / (np.sqrt(v / (1 - betas[1] * t)) + eps) + weight_decay * p)
    return p


@unseen("clip_global_norm", may_be=("scaled_in_place",), never=("*=", "own arrays"))
def list_rewritten(gradients, limit):
    """Puts new arrays into the caller's list; the arrays themselves stay as they were."""
    norm = np.sqrt(sum((g**2).sum() for g in gradients if g is not None))
    for i, g in enumerate(gradients):
        if g is not None and norm > limit:
            gradients[i] = g * (limit / norm)
    return gradients, norm


@unseen("clip_global_norm", never=("each", "norm"))
def return_forgotten(gradients, limit):
    """Makes the list and does not return it."""
    norm = np.sqrt(sum((g**2).sum() for g in gradients if g is not None))
    factor = min(1, limit / norm)
    clipped = [None if g is None else g * factor for g in gradients]
    assert len(clipped) == len(gradients)
