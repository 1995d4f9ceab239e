"""What can go wrong, said so that a student can mend it: the operation, the operands, a hint."""

import difflib
from collections.abc import Iterable


class MinivitError(Exception):
    """The root of every error that minivit raises on purpose; the command line prints it in one line."""


class ShapeError(MinivitError, ValueError):
    """Shapes that do not fit together."""


class DTypeError(MinivitError, TypeError):
    """Number types that would have to be converted silently."""


class DeviceError(MinivitError, TypeError):
    """Arrays that live in different places (NumPy and CuPy)."""


class GraphError(MinivitError, RuntimeError):
    """A backward pass that cannot be run: no graph, a graph already used, or a second derivative."""


class NonFiniteError(MinivitError, ArithmeticError):
    """A NaN or an infinity, with the operation, module and line where it first appeared."""


class GradientError(MinivitError, AssertionError):
    """A gradient that the numerical check contradicts."""


class ConfigError(MinivitError, ValueError):
    """An argument that no model, optimiser or run can have."""


class CheckpointError(MinivitError, ValueError):
    """A weight file that is damaged, or does not belong to this model."""


class DataError(MinivitError, ValueError):
    """A data set or image that is missing, damaged or not what it claims to be."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A half-sentence such as `; did you mean 'depth'?`, or nothing where no known name is close."""
    close = difflib.get_close_matches(str(name), [str(k) for k in known], n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
