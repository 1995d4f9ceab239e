"""Exercises of chapter 03. Fill them in, then: python -m exercises check unbroadcast

★★ unbroadcast, 15 minutes: Sum a gradient back over what was broadcast
★★ matmul_vjp, 20 minutes: The gradients of a product of matrices
★★ take_vjp, 12 minutes: The gradient of indexing, with repeats
★★ which_vjp_lies, 15 minutes: Convict two of six

Made from manifest.toml by `python -m exercises skeletons`.
"""

import numpy as np

import minivit as mv


def unbroadcast(g, shape):
    """Sum a gradient back to the shape that was broadcast: a value used n times receives the sum of n gradients.

    `None` stands for a Python number, which has no gradient.
    """
    raise NotImplementedError


def matmul_vjp(g, a, b):
    """The gradients of y = a @ b: two arrays (da, db) of the shapes of a and b.

    `g` has the shape of y. a is (…, n, k), any number of leading axes; b is (k, m), one matrix for all of them.
    """
    raise NotImplementedError


def take_vjp(g, x, index):
    """The gradient of y = x[index]: an array of the shape of x.

    `index` (n,) holds row numbers, some of them more than once; x is (rows, d), g and y are (n, d).
    """
    raise NotImplementedError


def which_vjp_lies(suspects):
    """The names of the two suspects whose vjp is wrong, as a set.

    `suspects` is a dict: name -> (f, vjp). f(x) takes a float64 array (3, 4) and returns an array; vjp(x, g) claims to be
    the gradient of x where g, of the shape of f(x), is the gradient of f(x). Call them as often as you like.
    """
    raise NotImplementedError
