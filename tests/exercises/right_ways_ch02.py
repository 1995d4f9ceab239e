"""Chapter 02, solved in other ways."""

from collections import Counter, defaultdict

import numpy as np
from right_ways import right


@right("numerical_grad")
def every_step_at_once(f, x, eps=1e-4):
    steps = eps * np.eye(x.size).reshape(-1, *x.shape)
    return np.array([(f(x + s) - f(x - s)) / eps / 2 for s in steps]).reshape(x.shape)


@right("numerical_grad")
def moved_and_put_back(f, x, eps=1e-4):
    found = np.empty_like(x)
    for i in np.ndindex(*x.shape):
        old = x[i]
        x[i] = old + eps
        ahead = f(x)
        x[i] = old - eps
        behind = f(x)
        x[i] = old
        found[i] = 0.5 * (ahead - behind) / eps
    return found


@right("numerical_grad")
def over_the_flat_copy(f, x, eps=1e-4):
    found = []
    for i in range(x.size):
        ahead, behind = x.copy(), x.copy()
        ahead.flat[i] += eps
        behind.flat[i] -= eps
        found.append((f(ahead) - f(behind)) / (ahead.flat[i] - behind.flat[i]))
    return np.reshape(found, x.shape)


@right("topo_order")
def by_recursion(root):
    order = []

    def visit(node):
        if node not in order:
            for parent in node.parents:
                visit(parent)
            order.append(node)

    visit(root)
    return order


@right("topo_order")
def last_parent_first(root):
    seen = {}

    def visit(node):
        for parent in node.parents[::-1]:
            if parent not in seen:
                visit(parent)
        seen[node] = True

    visit(root)
    return tuple(seen)


@right("topo_order")
def by_counting_users(root):
    """From the root: a node is taken when all that use it have been."""
    nodes = [root]
    for node in nodes:
        nodes += [p for p in dict.fromkeys(node.parents) if p not in nodes]
    users = Counter(parent for node in nodes for parent in node.parents)
    ready, taken = [root], []
    while ready:
        taken.append(node := ready.pop())
        for parent in node.parents:
            users[parent] -= 1
            if not users[parent]:
                ready.append(parent)
    return taken[::-1]


@right("topo_order")
def by_the_longest_way(root):
    height = {}

    def measure(node):
        if node not in height:
            height[node] = 1 + max(map(measure, node.parents), default=0)
        return height[node]

    measure(root)
    return sorted(height, key=height.get)


@right("backward")
def asked_of_the_users(order):
    """Each node collects from those that it made, instead of sending to those that it was made from."""
    gradient = {order[-1]: 1.0}
    for node in order[-2::-1]:
        gradient[node] = sum(
            gradient[user] * slope
            for user in order
            for parent, slope in zip(user.parents, user.slopes, strict=True)
            if parent is node
        )
    return {node: gradient[node] for node in order if node.parents == ()}


@right("backward")
def emptied_on_the_way(order):
    held = defaultdict(float, {order[-1]: 1.0})
    for node in order[::-1]:
        if node.parents:
            g = held.pop(node)
            for i in range(len(node.parents)):
                held[node.parents[i]] = held[node.parents[i]] + node.slopes[i] * g
    return dict(held)


@right("backward")
def over_all_paths(order):
    found = dict.fromkeys([node for node in order if not node.parents], 0)

    def follow(node, product):
        if not node.parents:
            found[node] += product
        for parent, slope in zip(node.parents, node.slopes, strict=True):
            follow(parent, product * slope)

    follow(order[-1], 1)
    return found


@right("backward")
def by_solving_a_system(order):
    """Forward: a row of derivatives for each node, d node / d leaf, by one matrix of slopes."""
    place = {node: i for i, node in enumerate(order)}
    slopes = np.zeros((len(order), len(order)))
    for node in order:
        for parent, slope in zip(node.parents, node.slopes, strict=True):
            slopes[place[node], place[parent]] += slope
    row = np.linalg.solve((np.eye(len(order)) - slopes).T, np.eye(len(order))[-1])
    return {node: row[place[node]] for node in order if not node.parents}
