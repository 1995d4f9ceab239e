"""The referee: compares a gradient with what small steps really do to the result."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minivit.engine import backend as backends
from minivit.engine.errors import DTypeError, GradientError
from minivit.engine.tensor import Tensor, as_array, gradients, no_grad

ELEMENTS = 400  # up to this many, every element is nudged; beyond, random directions


def gradcheck(
    fn: Callable[..., Tensor],
    *arrays: Any,
    eps: float = 1e-6,
    rtol: float = 1e-5,
    atol: float = 1e-7,
    directions: int = 8,
    seed: int = 0,
) -> str:
    """Check the gradient of `fn(*tensors)` in every array by central differences, in float64.

    The result may have any shape: a random cotangent weighs its entries, so that mistakes cannot cancel. Returns a
    report, one line for each array; raises `GradientError` with the same report and the worst element, `DTypeError` for
    arrays that are not float64.
    """
    rng = np.random.default_rng(seed)
    inputs = [Tensor(np.array(a, np.float64) if isinstance(a, (list, float, int)) else as_array(a)) for a in arrays]
    for i, x in enumerate(inputs):
        if x.dtype != np.float64:
            raise DTypeError(f"gradcheck: array {i} is {x.dtype}; small differences need float64: .astype('float64')")
        x.data = x.data.copy()
        x.requires_grad = True
    result = fn(*inputs)
    xp = backends.backend_of(result.data)
    weights = xp.from_host(rng.standard_normal(result.shape))
    found = gradients(result, weights)

    def objective() -> float:
        with no_grad():
            return float((fn(*inputs).data * weights).sum())

    lines, failed = [], False
    for i, x in enumerate(inputs):
        claimed = found[id(x)][1] if id(x) in found else xp.zeros(x.shape, np.float64)
        steps = _single_steps(x.shape) if x.size <= ELEMENTS else _random_steps(rng, x.shape, directions)
        worst = (-1.0, None, 0.0, 0.0)
        for where, direction in steps:
            step = xp.from_host(direction)
            original = x.data
            x.data = xp.asarray(original + eps * step)
            above = objective()
            x.data = xp.asarray(original - eps * step)
            below = objective()
            x.data = original
            measured, stated = (above - below) / (2 * eps), float((claimed * step).sum())
            excess = abs(measured - stated) / (atol + rtol * max(abs(measured), abs(stated)))
            excess = math.inf if math.isnan(excess) else excess
            if excess > worst[0]:
                worst = (excess, where, stated, measured)
        excess, where, stated, measured = worst
        verdict = "ok" if excess <= 1 else "WRONG"
        failed |= excess > 1
        at = (
            "no elements"
            if where is None
            else f"worst at {where}: gradient {stated:.8g}, small steps say {measured:.8g}"
        )
        if excess > 1 and abs(measured) > 1e-12:
            at += f" (ratio {stated / measured:.4g})"
        lines.append(f"array {i} {x.shape}: {verdict}, {at}")
    report = "\n".join(lines)
    if failed:
        raise GradientError(f"gradcheck: the gradient is wrong\n{report}")
    return report


def _single_steps(shape: tuple[int, ...]):
    """One element at a time."""
    for index in np.ndindex(shape):
        step = np.zeros(shape)
        step[index] = 1
        yield index, step


def _random_steps(rng: np.random.Generator, shape: tuple[int, ...], count: int):
    """A few directions through all elements at once."""
    for i in range(count):
        yield f"random direction {i}", rng.standard_normal(shape)
