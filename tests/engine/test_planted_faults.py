"""The checks can fail: each fault below is planted in the engine's source, and the suite's own checks must catch it.

A fault is one small edit of one function, the kind of slip that is easily made. If the line it edits was rewritten, plant
it in the new line.
"""

import ast
import contextlib
import functools
import inspect
import textwrap
from dataclasses import dataclass

import numpy as np
import pytest
from gradient_cases import CASES, check_gradient, check_manners
from twins import TWINS, check_twins

from minivit.engine import backend as backends
from minivit.engine import composed, fused, ops, tensor


@dataclass(frozen=True)
class Fault:
    """In `function`, `right` becomes `wrong`; the checks of the operations `ops` must notice."""

    story: str
    function: object
    right: str
    wrong: str
    ops: tuple[str, ...]

    def __str__(self):
        return self.story.replace(" ", "-")


# fmt: off
FAULTS = [Fault(story, function, right, wrong, tuple(names.split())) for story, function, right, wrong, names in [
    # broadcasting and indices
    ("add does not unbroadcast", ops.add, "unbroadcast(g, b_shape)", "g", "add"),
    ("multiply does not unbroadcast", ops.multiply, "unbroadcast(g * a, shape_of(b))", "g * a", "multiply"),
    ("unbroadcast averages", tensor.unbroadcast, "g.sum(axis=axes)", "g.mean(axis=axes)", "add multiply where"),
    ("unbroadcast forgets axes of length 1", tensor.unbroadcast, "if n == 1 and", "if n == 0 and", "add"),
    ("repeated index assigns", ops.getitem, "xp.scatter_add(dx, index, g)", "dx[index] = g", "getitem"),
    ("a value used twice keeps one gradient", tensor.gradients, "xp.asarray(earlier + contribution)", "contribution", "multiply"),
    ("concatenate cuts one too far", ops.concatenate, "[:-1].tolist()", "[:-1].tolist(); ends = [e + 1 for e in ends]",
     "concatenate"),
    ("stack gives the parts back in reverse", ops.stack, "xp.split(g, n, axis=axis)", "xp.split(g, n, axis=axis)[::-1]", "stack"),
    ("transpose goes the same way back", ops.transpose, "axes.index(i)", "axes[i]", "transpose"),
    ("pad takes the gradient of the corner", ops.pad, "slice(before, before + n)", "slice(n)", "pad"),
    ("roll goes on instead of back", ops.roll, "back = -shift if", "back = shift if", "roll"),
    ("where gives both sides everything", ops._where, "xp.where(condition, zero, g)", "g", "where"),
    # reductions
    ("mean does not divide its gradient", ops.mean, "g.reshape(kept) / n", "g.reshape(kept)", "mean"),
    ("variance divides by n - 1", ops.var, "(centred * centred).mean(axis=axes, keepdims=keepdims)",
     "(centred * centred).sum(axis=axes, keepdims=keepdims) / (n - 1 or 1)", "var"),
    ("variance without the 2", ops.var, "(2 / n)", "(1 / n)", "var"),
    ("ties of max each get everything", ops._extreme, "hit / hit.sum(axis=axes, keepdims=True)", "hit * 1.0",
     "max min max_pool2d"),
    ("ties of maximum each get everything", ops.maximum, "0.5 * tied", "1.0 * tied", "maximum"),
    # elementwise
    ("divide with the wrong sign", ops.divide, "-g * a", "g * a", "divide"),
    ("sqrt divides by x", ops.sqrt, "0.5 * g / y", "0.5 * g / x", "sqrt"),
    ("tanh forgets the square", ops.tanh, "1 - y * y", "1 - y", "tanh"),
    ("erf without the 2", ops.erf, "2 / math.sqrt", "1 / math.sqrt", "erf"),
    ("clip lets the gradient through outside", ops.clip, "g * inside", "g", "clip"),
    ("power does not lower the exponent", ops.power, "exponent - 1", "exponent", "power"),
    # products and images
    ("matmul forgets a transpose", ops.matmul, "rows.swapaxes(-1, -2) @ g", "rows @ g", "matmul"),
    ("matmul drops the batch of a broadcast weight", ops.matmul, "db = unbroadcast(rows.swapaxes(-1, -2) @ g, columns.shape)",
     "db = (rows.swapaxes(-1, -2) @ g).reshape((-1,) + columns.shape)[0]", "matmul"),
    ("linear transposes its weight gradient", fused._linear, "rows.T @ g", "(g.T @ rows).reshape(weight.shape)", "linear"),
    ("linear averages its bias gradient", fused._linear, "xp.column_sum(g)", "g.mean(axis=0)", "linear"),
    ("fft takes the imaginary part", ops.fft2_real, "real).astype(g.dtype", "imag).astype(g.dtype", "fft2_real"),
    ("convolution flips its kernel", ops._conv2d, "kernel = w.reshape", "kernel = w[::-1].reshape", "conv2d"),
    ("convolution shifts its gradient by the padding", ops._unpadded, "top : top + shape[1], left : left + shape[2]",
     ": shape[1], : shape[2]", "conv2d max_pool2d avg_pool2d"),
    ("overlapping windows overwrite each other", ops._unwindows, "+= g[", "= g[", "conv2d avg_pool2d"),
    ("average pooling does not divide its gradient", ops._avg_pool2d, "(g / n)", "(g * 1)", "avg_pool2d"),
    ("max pooling pads with zeros", ops._max_pool2d, "padding, -math.inf", "padding, 0", "max_pool2d"),
    # softmax, attention
    ("softmax adds along the wrong axis", fused._softmax_rows, "xp.row_sum(y)", "y.sum(axis=0, keepdims=True)", "softmax"),
    ("softmax gradient without the row sum", fused.softmax, "(g - xp.row_dot(g, y))", "g", "softmax"),
    ("log-softmax gradient without the row sum", fused.log_softmax, "xp.row_sum(g)", "g", "log_softmax"),
    ("attention without 1/√d", fused.attention, "1 / math.sqrt(q.shape[-1])", "1.0", "attention"),
    ("attention divides by d", fused.attention, "1 / math.sqrt(q.shape[-1])", "1 / q.shape[-1]", "attention"),
    ("self-attention without 1/√d", fused.self_attention, "1 / math.sqrt(width // num_heads)", "1.0", "self_attention"),
    ("self-attention divides by √D", fused.self_attention, "math.sqrt(width // num_heads)", "math.sqrt(width)", "self_attention"),
    ("composed attention without 1/√d", composed.attention_weights, "1 / math.sqrt(q.shape[-1])", "1.0",
     "attention self_attention"),
    ("attention gradient without 1/√d", fused._attend_vjp, "g = g * scale", "pass", "attention self_attention"),
    ("attention gradient without the row sum", fused._attend_vjp, "scores -= xp.row_dot(g, y)", "pass",
     "attention self_attention"),
    ("q | k | v packed head by head", fused.self_attention,
     "qkv.reshape(b, t, 3, num_heads, width // num_heads).transpose(2, 0, 3, 1, 4)",
     "qkv.reshape(b, t, num_heads, 3, width // num_heads).transpose(3, 0, 2, 1, 4)", "self_attention"),
    # layer norm
    ("eps outside the root", fused.layer_norm, "xp.sqrt(xp.row_dot(unit, unit) / width + eps)",
     "(xp.sqrt(xp.row_dot(unit, unit) / width) + eps)", "layer_norm"),
    ("layer norm divides by D - 1", fused.layer_norm,
     "xp.row_dot(unit, unit) / width", "xp.row_dot(unit, unit) / (width - 1)", "layer_norm"),
    ("composed layer norm with eps outside the root", composed.layer_norm, "(x.var(axis=-1, keepdims=True) + eps).sqrt()",
     "(x.var(axis=-1, keepdims=True).sqrt() + eps)", "layer_norm"),
    ("layer norm gradient without the mean", fused.layer_norm, "h -= mean", "pass", "layer_norm"),
    ("layer norm gradient without the stretch", fused.layer_norm, "h -= unit * along", "pass", "layer_norm"),
    ("γ's gradient from g alone", fused.layer_norm,
     "xp.column_sum(h), xp.column_sum(g)", "xp.column_sum(g), xp.column_sum(g)", "layer_norm"),
    ("group norm over each pixel alone", fused.group_norm, "ones @ values / n", "values[:, :1]", "group_norm"),
    ("group norm gradient without the mean", fused.group_norm, "h -= group_mean(h)", "pass", "group_norm"),
    ("group norm gradient without the stretch", fused.group_norm, "h -= unit * group_mean(along)", "pass", "group_norm"),
    # GELU, cross-entropy
    ("GELU slope without x φ(x)", fused._gelu_erf, "density *= x", "density *= 0", "gelu"),
    ("tanh-GELU slope without the 3", fused._gelu_tanh, "3 * c * a", "c * a", "gelu"),
    ("cross-entropy gradient without 1/B", fused._cross_entropy, "d *= g / n", "d *= g", "cross_entropy"),
    ("cross-entropy gradient without smoothing", fused._cross_entropy, "d -= smoothing / classes", "pass", "cross_entropy"),
    ("cross-entropy smooths over K - 1 classes", fused._cross_entropy, "(smoothing / classes)", "(smoothing / (classes - 1))",
     "cross_entropy"),
    # range, dtypes, memory
    ("softmax trusts that exp of anything is finite", backends.NumpyBackend.shift_for_exp, "return x.max(axis=-1, keepdims=True)",
     "return None", "softmax"),
    ("softmax forgets that rows are added up", backends.NumpyBackend.shift_for_exp, " - math.log(x.shape[-1])", "", "softmax"),
    ("a float64 constant", ops.sigmoid, "+ 0.5", "+ np.float64(0.5)", "sigmoid"),
    ("a vjp writes into the gradient it is given", ops.relu, "g * (x > 0)", "xp.multiply(g, x > 0, out=g)", "relu"),
    ("an operation writes into its operand", ops.exp, "xp.exp(x)", "xp.exp(x, out=x)", "exp"),
]]
# fmt: on


@contextlib.contextmanager
def planted(fault):
    """Run with the faulty source: the code inside the function is exchanged, so that everyone who calls it feels it."""
    function = inspect.unwrap(fault.function)
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(fault.right) >= 1, (
        f"{function.__qualname__} holds no {fault.right!r} any more: plant it elsewhere"
    )
    tree = ast.parse(source.replace(fault.right, fault.wrong))
    tree.body[0].decorator_list = []
    made = {}
    exec(compile(tree, f"<{fault.story}>", "exec"), function.__globals__, made)
    right, function.__code__ = function.__code__, made[function.__name__].__code__
    try:
        yield
    finally:
        function.__code__ = right


def complaints(names):
    """The suite's own checks of these operations: what fails, and how."""
    xp = backends.get_backend("numpy")
    checks = [(f"{check.__name__}({case})", functools.partial(check, case, xp, *rest))
              for case in CASES if case.op in names
              for check, *rest in [(check_gradient,), (check_manners, np.float32)]]  # fmt: skip
    checks += [(f"check_twins({p})", functools.partial(check_twins, p, xp)) for p in TWINS if p.op in names]
    found = {}
    for name, check in checks:
        try:
            check()
        except NameError:  # the planted code does not even run: that would prove nothing
            raise
        except Exception as error:  # whatever would have made the suite red
            found[name] = error
    return found


@functools.cache
def healthy(names):
    return not complaints(names)


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_planted_fault_is_caught(fault):
    assert healthy(fault.ops), "the checks complain without a fault"
    with planted(fault):
        found = complaints(fault.ops)
    assert found, f"nobody noticed: {fault.story}"
    assert healthy.__wrapped__(fault.ops), "the fault stayed behind"


def test_there_are_enough_faults(record_property):
    record_property("planted faults", len(FAULTS))
    assert len(FAULTS) >= 12
    assert len({f.story for f in FAULTS}) == len(FAULTS)
