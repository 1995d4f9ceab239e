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


def explain(name: str, error: Exception, operands: tuple, path: tuple[str, ...]) -> str:
    """The text of a `ShapeError`: the operation, each operand's shape and name, the module, and a likely cause."""
    shown = []
    for x in operands:
        shape = getattr(x, "shape", None)
        if shape is None:
            shown.append(repr(x))
        elif getattr(x, "name", None):
            shown.append(f"{tuple(shape)} (parameter {'.'.join((*path, x.name))!r})")
        else:
            shown.append(str(tuple(shape)))
    where = f", in {'.'.join(path)}" if path else ""
    return f"{name}: cannot combine {' and '.join(shown)}{where}: {hint(name, operands) or error}"


def hint(name: str, operands: tuple) -> str:
    """A likely cause in words, from the operation and the shapes alone; empty where there is nothing better to say."""
    shapes = [tuple(x.shape) for x in operands if hasattr(x, "shape")]
    if name in ("matmul", "linear") and len(shapes) >= 2 and min(len(shapes[0]), len(shapes[1])) >= 1:
        inner, outer = shapes[0][-1], shapes[1][-2] if len(shapes[1]) > 1 else shapes[1][0]
        if inner != outer:
            return (
                f"the last axis of the first ({inner}) must equal the rows of the second ({outer}); "
                "weights are (in, out), so a transposed weight or a wrong width is likely"
            )
        return f"the leading axes {shapes[0][:-2]} and {shapes[1][:-2]} must be equal or 1"
    if name in ("add", "subtract", "multiply", "divide", "maximum", "minimum", "where") and len(shapes) == 2:
        longest = max(len(s) for s in shapes)
        padded = [(1,) * (longest - len(s)) + s for s in shapes]
        wrong = [i - longest for i, (m, n) in enumerate(zip(*padded, strict=True)) if m != n and 1 not in (m, n)]
        if wrong:
            pairs = ", ".join(f"axis {i}: {padded[0][i]} against {padded[1][i]}" for i in wrong)
            return f"they broadcast only where lengths are equal or 1 ({pairs}); a keepdims=True or a reshape may be missing"
    if name == "layer_norm" and len(shapes) == 3:
        return f"the last axis of x ({shapes[0][-1]}) must equal the length of weight and bias {shapes[1]}, {shapes[2]}"
    if name in ("concatenate", "stack"):
        return f"all shapes must agree except along the joined axis: {', '.join(map(str, shapes))}"
    return ""
