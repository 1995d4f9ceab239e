"""First values of weights: float32 arrays drawn from the random stream in force."""

import contextlib
import math
from collections.abc import Iterator
from contextvars import ContextVar

import numpy as np

from minivit.engine import random

_blank: ContextVar[bool] = ContextVar("blank", default=False)


@contextlib.contextmanager
def blank() -> Iterator[None]:
    """Inside, every first value is 0, for a model whose weights come from a file.

    No number is drawn, and the system gives memory to an array of zeros only where it is written to.
    """
    token = _blank.set(True)
    try:
        yield
    finally:
        _blank.reset(token)


def zeros(*shape: int) -> np.ndarray:
    """All 0."""
    return np.zeros(shape, np.float32)


def ones(*shape: int) -> np.ndarray:
    """All 1."""
    return zeros(*shape) if _blank.get() else np.ones(shape, np.float32)


def truncated_normal(*shape: int, std: float) -> np.ndarray:
    """N(0, std²) without what lies beyond two standard deviations, which is drawn again."""
    if _blank.get():
        return zeros(*shape)
    rng = random.current()
    values = rng.standard_normal(shape, np.float32)
    while (far := np.abs(values) > 2).any():
        values[far] = rng.standard_normal(int(far.sum()), np.float32)
    return values * np.float32(std)


def scaled(*shape: int, gain: float = 0.7) -> np.ndarray:
    """A truncated normal of std gain/√fan_in, fan_in being all axes but the last: the output keeps the input's size.

    Gain 0.7 at D = 768 is the 0.025 next to timm's fixed 0.02; narrow models need the larger values it gives them.
    """
    return truncated_normal(*shape, std=gain / math.sqrt(math.prod(shape[:-1])))
