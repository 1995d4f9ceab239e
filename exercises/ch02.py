"""Exercises of chapter 02. Fill them in, then: python -m exercises check numerical_grad

★ numerical_grad, 10 minutes: The gradient by small steps
★★ topo_order, 15 minutes: Which number is computed before which
★★ backward, 15 minutes: Gradients as sums over paths

Made from manifest.toml by `python -m exercises skeletons`.
"""

import numpy as np

import minivit as mv


def numerical_grad(f, x, eps=0.0001):
    """The gradient of f at x by central differences: an array of the shape of x.

    `f` takes an array and returns a number; `x` is left as it was. Entry i is (f(x + eps·eᵢ) − f(x − eps·eᵢ)) / 2 eps.
    """
    raise NotImplementedError


def topo_order(root):
    """Every node that `root` depends on, `root` included, once, each after the nodes it was made from.

    A node knows those as `node.parents`, a tuple; a leaf has none. Returns a list that ends with `root`.
    """
    raise NotImplementedError


def backward(order):
    """d root / d leaf for every leaf: a dict from leaf to number.

    `order` is what `topo_order` returns: parents before what is made from them, the root last. A node has `parents` and
    `slopes`, where slopes[i] is d node / d parents[i]; a leaf has no parents.
    """
    raise NotImplementedError
