"""The usual mistakes in the exercises of chapter 02."""

import numpy as np

from exercises.mistakes import mistake

# ---- numerical_grad


def _slope(difference):
    """A gradient whose entry i is difference(f, x, step, eps) with a step along entry i."""

    def numerical_grad(f, x, eps=1e-4):
        found = np.zeros_like(x)
        for i in np.ndindex(x.shape):
            step = np.zeros_like(x)
            step[i] = eps
            found[i] = difference(f, x, step, eps)
        return found

    return numerical_grad


mistake(
    "numerical_grad",
    "Your step goes one way only, so the curvature of f stays in: {found.flat[0]:.5g} where two steps give "
    "{expected.flat[0]:.5g}. What does a step to the other side do to that error?",
    "one_step_ahead",
)(_slope(lambda f, x, step, eps: (f(x + step) - f(x)) / eps))

mistake(
    "numerical_grad",
    "You compare x with a point behind it, and the curvature of f stays in: {found.flat[0]:.5g} where two steps give "
    "{expected.flat[0]:.5g}. What would a step ahead do to that error?",
    "one_step_back",
)(_slope(lambda f, x, step, eps: (f(x) - f(x - step)) / eps))

mistake(
    "numerical_grad",
    "Every entry is twice what it should be. You step ahead by eps and back by eps: how far apart are the two points?",
    "divided_by_one_step",
)(_slope(lambda f, x, step, eps: (f(x + step) - f(x - step)) / eps))

mistake(
    "numerical_grad",
    "Your entries have the right size and the wrong sign. Where f grows with x, which of the two values is the larger one?",
    "behind_minus_ahead",
)(_slope(lambda f, x, step, eps: (f(x - step) - f(x + step)) / (2 * eps)))

mistake(
    "numerical_grad",
    "Your values are differences of f, not slopes: they shrink when eps does. Rise over run: what was the run?",
    "not_divided",
)(_slope(lambda f, x, step, eps: f(x + step) - f(x - step)))

mistake(
    "numerical_grad",
    "Your entries are tiny, {found.flat[0]:.2g} for {expected.flat[0]:.3g}, too small by eps². `a / 2 * eps` divides by 2 and "
    "multiplies by eps; what keeps a denominator together?",
    "multiplied_by_eps",
)(_slope(lambda f, x, step, eps: (f(x + step) - f(x - step)) / 2 * eps))

mistake(
    "numerical_grad",
    "Yours lies nearer to the true slope than one step of eps = {eps:g} ahead and one behind can bring it. About which points "
    "does the docstring's formula ask f, and about which does yours?",
    "a_step_of_its_own",
)(
    lambda f, x, eps=1e-4: _slope(lambda f, x, step, _: (f(x + step / eps * 1e-5) - f(x - step / eps * 1e-5)) / 2e-5)(
        f, x, eps
    )
)


@mistake(
    "numerical_grad",
    "All entries of your gradient are equal, {found.flat[0]:.4g}: the sum of the right ones. You moved every entry of x at "
    "once; how do you learn what one entry does alone?",
)
def all_entries_at_once(f, x, eps=1e-4):
    return np.full_like(x, (f(x + eps) - f(x - eps)) / (2 * eps))


@mistake(
    "numerical_grad",
    "For one axis your gradient is right; here each row holds one number, the sum over the row. An index of a table's first "
    "axis is a whole row: how do you reach every single entry?",
)
def row_by_row(f, x, eps=1e-4):
    found = np.zeros_like(x)
    for i in range(len(x)):
        step = np.zeros_like(x)
        step[i] = eps
        found[i] = (f(x + step) - f(x - step)) / (2 * eps)
    return found


@mistake(
    "numerical_grad",
    "After your call x is no longer where it was: entry after entry stays moved, and later slopes are taken elsewhere. "
    "Who puts an entry back before the next one is tried?",
)
def moved_and_left_there(f, x, eps=1e-4):
    found = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        x[i] += eps
        ahead = f(x)
        x[i] -= 2 * eps
        found[i] = (ahead - f(x)) / (2 * eps)
    return found


@mistake(
    "numerical_grad",
    "The gradient is right, but x has changed in its last digits: a number plus eps, minus eps, is rounded twice. How could "
    "an entry get back exactly the value that it had?",
)
def put_back_by_arithmetic(f, x, eps=1e-4):
    found = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        x[i] += eps
        ahead = f(x)
        x[i] -= 2 * eps
        found[i] = (ahead - f(x)) / (2 * eps)
        x[i] += eps
    return found


@mistake(
    "numerical_grad",
    "Every slope is 0. `ahead = x` gives the same array a second name, so that both of your steps end in one place: "
    "what makes an array of its own?",
)
def two_names_for_one_array(f, x, eps=1e-4):
    found = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        ahead, behind = x, x
        ahead[i] += eps
        behind[i] -= eps
        found[i] = (f(ahead) - f(behind)) / (2 * eps)
    return found


@mistake(
    "numerical_grad",
    "Your slopes are about half of the right ones. `behind = x` is another name of the array that you had moved ahead, so "
    "the second step ends where the first began: what makes an array of its own?",
)
def two_names_one_after_the_other(f, x, eps=1e-4):
    found = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        ahead = x
        ahead[i] += eps
        f_ahead = f(ahead)
        behind = x
        behind[i] -= eps
        found[i] = (f_ahead - f(behind)) / (2 * eps)
    return found


# ---- topo_order


def _depth_first(root, *, before=False, seen_too=True):
    """Nodes in the order in which a walk over the parents meets them (`before`) or leaves them."""
    order, seen = [], set()

    def visit(node):
        if node in seen and seen_too:
            return
        seen.add(node)
        if before:
            order.append(node)
        for parent in node.parents:
            visit(parent)
        if not before:
            order.append(node)

    visit(root)
    return order


@mistake(
    "topo_order",
    "Your list begins with the root, which was made last, and each node stands before what it was made from. When, relative "
    "to its parents, may a node be written down?",
)
def root_first(root):
    return _depth_first(root)[::-1]


@mistake(
    "topo_order",
    "You write a node down when you meet it, the root before everything else. What must have happened to all of its parents "
    "before its turn has come?",
)
def written_down_when_met(root):
    return _depth_first(root, before=True)


@mistake(
    "topo_order",
    "You write nodes down when you meet them and turn the list round. That works on a tree; a node that is used twice is met "
    "on one of its two ways only. Has every user of it been met before?",
)
def met_and_turned_round(root):
    return _depth_first(root, before=True)[::-1]


@mistake(
    "topo_order",
    "Your order goes by the distance from the root, farthest first. A node that is used near the root and far from it has two "
    "distances: which one did you take, and who then stands before it?",
)
def by_distance_from_the_root(root):
    order = [root]
    for node in order:
        order += [p for i, p in enumerate(node.parents) if p not in order and p not in node.parents[:i]]
    return order[::-1]


@mistake(
    "topo_order",
    "Parents come first, as they should, but a node that is used twice is there twice. How could the walk know that it has "
    "been somewhere before?",
)
def again_on_every_way(root):
    return _depth_first(root, seen_too=False)


@mistake(
    "topo_order",
    "Your list stops at the root's own parents. They have parents too: which call would do for a parent what this one does "
    "for the root?",
)
def parents_only(root):
    return [*dict.fromkeys(root.parents), root]


@mistake(
    "topo_order",
    "Everything that the root was made from is there and in order; the root is not. Does a node depend on itself here? Read "
    "the docstring's last sentence.",
)
def without_the_root(root):
    return _depth_first(root)[:-1]


@mistake(
    "topo_order",
    "Your list holds the results and lacks the leaves. A leaf has no parents to wait for; does that make it nothing to "
    "write down?",
)
def without_leaves(root):
    return [node for node in _depth_first(root) if node.parents]


@mistake(
    "topo_order",
    "Your list holds the leaves alone. The root depends on everything in between, too: when is a node with parents written "
    "down?",
)
def leaves_only(root):
    return [node for node in _depth_first(root) if not node.parents]


# ---- backward


def _flow(order, keep, start=1.0):
    """Walk back along the order; `keep(old, new)` says what a node's gradient becomes when one more arrives."""
    gradients = {order[-1]: start}
    for node in reversed(order):
        for parent, slope in zip(node.parents, node.slopes, strict=True):
            gradients[parent] = keep(gradients.get(parent), gradients[node] * slope)
    return {node: g for node, g in gradients.items() if not node.parents}


@mistake(
    "backward",
    "Where a value is used several times, yours keeps what the last use sent and forgets the rest. If x acts on the root "
    "along two paths, what is its whole effect?",
)
def last_use_only(order):
    return _flow(order, lambda old, new: new)


@mistake(
    "backward",
    "Where a value is used several times, yours keeps what the first use sent and turns later ones away. If x acts on the "
    "root along two paths, what is its whole effect?",
)
def first_use_only(order):
    return _flow(order, lambda old, new: new if old is None else old)


@mistake(
    "backward",
    "In x · x both parents are the same node, and you count it once. A dict or set of parents has one place for both: how "
    "many slopes does the node have?",
)
def a_parent_counted_once(order):
    gradients = dict.fromkeys(order, 0.0)
    gradients[order[-1]] = 1.0
    for node in reversed(order):
        for parent, slope in dict(zip(node.parents, node.slopes, strict=True)).items():
            gradients[parent] += gradients[node] * slope
    return {node: g for node, g in gradients.items() if not node.parents}


@mistake(
    "backward",
    "Your leaves get 0, except where the root is right behind them. You walk from the leaves to the root, so a node passes "
    "its gradient on before it has one: who knows its gradient at the start?",
)
def from_front_to_back(order):
    gradients = dict.fromkeys(order, 0.0)
    gradients[order[-1]] = 1.0
    for node in order:
        for parent, slope in zip(node.parents, node.slopes, strict=True):
            gradients[parent] += gradients[node] * slope
    return {node: g for node, g in gradients.items() if not node.parents}


@mistake(
    "backward",
    "Each leaf gets the slopes of its own uses and nothing of what happens behind them. Two nodes in a row: how much does "
    "the root move when the first one moves by 1?",
)
def slopes_alone(order):
    gradients = dict.fromkeys(order, 0.0)
    gradients[order[-1]] = 1.0
    for node in reversed(order):
        for parent, slope in zip(node.parents, node.slopes, strict=True):
            gradients[parent] += slope
    return {node: g for node, g in gradients.items() if not node.parents}


@mistake(
    "backward",
    "Your leaves get what arrives at their results, with no slope in it. When a product moves by 1, do both of its factors "
    "move it equally?",
)
def without_slopes(order):
    gradients = dict.fromkeys(order, 0.0)
    gradients[order[-1]] = 1.0
    for node in reversed(order):
        for parent in node.parents:
            gradients[parent] += gradients[node]
    return {node: g for node, g in gradients.items() if not node.parents}


@mistake(
    "backward",
    "All your gradients are 0. They are all made by multiplying what the root begins with: by how much does the root change "
    "when the root changes by 1?",
)
def nothing_to_begin_with(order):
    gradients = dict.fromkeys(order, 0.0)
    for node in reversed(order):
        for parent, slope in zip(node.parents, node.slopes, strict=True):
            gradients[parent] += gradients[node] * slope
    return {node: g for node, g in gradients.items() if not node.parents}


@mistake(
    "backward",
    "Your gradients begin with the root's value instead of its gradient, so all are too large by that factor. By how much "
    "does the root change when the root changes by 1?",
)
def beginning_with_the_value(order):
    gradients = dict.fromkeys(order, 0.0)
    gradients[order[-1]] = order[-1].value
    for node in reversed(order):
        for parent, slope in zip(node.parents, node.slopes, strict=True):
            gradients[parent] += gradients[node] * slope
    return {node: g for node, g in gradients.items() if not node.parents}


@mistake(
    "backward",
    "The numbers are right, but your dict also holds nodes that were computed on the way. Only leaves are asked for: how "
    "does a leaf show that it is one?",
)
def every_node(order):
    gradients = dict.fromkeys(order, 0.0)
    gradients[order[-1]] = 1.0
    for node in reversed(order):
        for parent, slope in zip(node.parents, node.slopes, strict=True):
            gradients[parent] += gradients[node] * slope
    return gradients
