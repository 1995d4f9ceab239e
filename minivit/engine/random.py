"""Random numbers that depend on (seed, purpose, step, …) alone, so that every run can be repeated and resumed.

They are always drawn on the CPU and then moved, so that NumPy and CuPy see the same ones.
"""

import contextlib
import zlib
from collections.abc import Iterator
from contextvars import ContextVar

import numpy as np

from minivit.engine.errors import ConfigError

_current: ContextVar[np.random.Generator | None] = ContextVar("rng", default=None)
_fallback = np.random.default_rng(0)


def stream(seed: int, purpose: str, *numbers: int) -> np.random.Generator:
    """A generator for one purpose, such as `stream(seed, "dropout", step, shard)`; equal arguments give equal numbers.

    Raises `ConfigError` unless the seed is a whole number ≥ 0.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ConfigError(f"seed must be a whole number ≥ 0, not {seed!r}")
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), *numbers])


@contextlib.contextmanager
def drawing_from(generator: np.random.Generator) -> Iterator[None]:
    """Inside, initial weights, dropout and its kin draw from this generator."""
    token = _current.set(generator)
    try:
        yield
    finally:
        _current.reset(token)


def current() -> np.random.Generator:
    """The generator in force: that of `drawing_from`, else one that starts at seed 0 with the program."""
    return _current.get() or _fallback
