"""Chapter 02 behind the exercises."""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(eq=False)
class Node:
    """A number that remembers how it was made: its `parents`, and for each of them the slope d value / d parent."""

    value: float
    parents: tuple["Node", ...] = ()
    slopes: tuple[float, ...] = ()


def numerical_grad(f, x, eps=1e-4):
    """The gradient of f at x by central differences: an array of the shape of x.

    `f` takes an array and returns a number; `x` is left as it was. Entry i is (f(x + eps·eᵢ) − f(x − eps·eᵢ)) / 2 eps.
    """
    gradient = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[i] = eps
        gradient[i] = (f(x + step) - f(x - step)) / (2 * eps)
    return gradient


def inputs_numerical_grad(rng):
    weights = rng.standard_normal((2, 3))
    return [
        (lambda x: float((x**3).sum()), rng.standard_normal(4), 1e-2),
        (lambda x: float((weights * np.exp(x)).sum()), rng.standard_normal((2, 3)), 1e-2),
        (lambda x: float(np.prod(x)), rng.standard_normal((3, 1, 2)), 1e-3),
        (lambda x: float((x**4).sum()), np.array([0.027, 0.999]), 1e-2),  # 0.027 + 0.01 − 0.01 is not 0.027
    ]


def topo_order(root):
    """Every node that `root` depends on, `root` included, once, each after the nodes it was made from.

    A node knows those as `node.parents`, a tuple; a leaf has none. Returns a list that ends with `root`.
    """
    order, seen = [], set()
    stack = [(root, iter(root.parents))]
    seen.add(root)
    while stack:
        node, parents = stack[-1]
        parent = next((p for p in parents if p not in seen), None)
        if parent is None:
            order.append(node)
            stack.pop()
        else:
            seen.add(parent)
            stack.append((parent, iter(parent.parents)))
    return order


def inputs_topo_order(rng):
    shared = Node(3.0)
    square = _times(shared, shared)
    diamond = _plus(_times(square, Node(2.0)), _plus(square, shared))
    return [(Node(1.0),), (_plus(Node(1.0), Node(2.0)),), (square,), (diamond,), *((_graph(rng),) for _ in range(4))]


def _numbered(root):
    """The nodes in an order of their own, so that a result can be told as numbers: {node: number}."""
    numbers, waiting = {root: 0}, [root]
    for node in waiting:
        for parent in node.parents:
            if parent not in numbers:
                numbers[parent] = len(numbers)
                waiting.append(parent)
    return numbers


def plain_topo_order(found, root):
    numbers = _numbered(root)
    if not isinstance(found, list | tuple) or not all(isinstance(node, Node) for node in found):
        return found if found is None else f"of type {type(found).__name__}"
    return [numbers.get(node, -1) for node in found]


def judge_topo_order(found, root):
    """Any order will do in which every node comes after its parents."""
    expected, nodes = set(topo_order(root)), list(_numbered(root))
    if not isinstance(found, list) or not all(isinstance(i, int) and -1 <= i < len(nodes) for i in found):
        return "your result is not a list of nodes"
    if foreign := sum(i < 0 for i in found):
        count = f"{foreign} node{'s' if foreign > 1 else ''}"
        return f"your list holds {count} that the root does not depend on: does a list live on from an earlier call?"
    found = [nodes[i] for i in found]
    if len(found) != len(set(found)):
        return f"your list holds a node more than once: {len(found)} entries, {len(set(found))} different nodes"
    if set(found) != expected:
        return f"your list holds {len(set(found))} nodes; {len(expected)} take part in computing the root"
    place = {node: i for i, node in enumerate(found)}
    for node in found:
        for parent in node.parents:
            if place[parent] > place[node]:
                return (
                    f"entry {place[node]} of your list was made from entry {place[parent]}, which comes later; "
                    "what a node is made from must stand before it"
                )
    return None


def backward(order):
    """d root / d leaf for every leaf: a dict from leaf to number.

    `order` is what `topo_order` returns: parents before what is made from them, the root last. A node has `parents` and
    `slopes`, where slopes[i] is d node / d parents[i]; a leaf has no parents.
    """
    gradients = dict.fromkeys(order, 0.0)
    gradients[order[-1]] = 1.0
    for node in reversed(order):
        for parent, slope in zip(node.parents, node.slopes, strict=True):
            gradients[parent] += gradients[node] * slope
    return {node: g for node, g in gradients.items() if not node.parents}


def inputs_backward(rng):
    return [(topo_order(root),) for (root,) in inputs_topo_order(rng)]


def plain_backward(found, order):
    numbers = _numbered(order[-1])
    if not isinstance(found, dict):
        return found
    return {numbers.get(key, -1 - i) if isinstance(key, Node) else -1 - i: found[key] for i, key in enumerate(found)}


def judge_backward(found, order):
    """Compared leaf by leaf, because nodes are not numbers."""
    if not isinstance(found, dict):
        return f"your result is of type {type(found).__name__}, expected a dict from leaf to number"
    expected, nodes = backward(order), list(_numbered(order[-1]))
    found = {nodes[i] if 0 <= i < len(nodes) else Node(math.nan): value for i, value in found.items()}
    if extra := [node for node in found if node not in expected]:
        inner = sum(node in order for node in extra)
        return f"your dict holds {len(extra)} keys that are not leaves ({inner} of them interior nodes)"
    if missing := [node for node in expected if node not in found]:
        return f"your dict lacks {len(missing)} of {len(expected)} leaves"
    for node, gradient in expected.items():
        if not isinstance(found[node], int | float | np.number):
            return f"a leaf's gradient is of type {type(found[node]).__name__}, expected a number"
        if not np.isclose(found[node], gradient):
            uses = sum(parent is node for other in order for parent in other.parents)
            return (
                f"the leaf of value {node.value:.3g}, which is used {uses} time{'s' if uses != 1 else ''}, gets "
                f"{found[node]:.6g}, expected {gradient:.6g}"
            )
    return None


def _plus(a, b):
    return Node(a.value + b.value, (a, b), (1.0, 1.0))


def _times(a, b):
    return Node(a.value * b.value, (a, b), (b.value, a.value))


def _graph(rng):
    """Three leaves and twelve operations on what there is already, so that most values are used several times."""
    nodes = [Node(float(value)) for value in rng.uniform(0.5, 1.5, 3)]
    for _ in range(12):
        a, b = (nodes[i] for i in rng.integers(max(0, len(nodes) - 5), len(nodes), 2))
        nodes.append(_times(a, b) if rng.random() < 0.5 else _plus(a, b))
    return nodes[-1]
