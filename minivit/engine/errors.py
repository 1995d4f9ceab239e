"""What can go wrong, said so that a student can mend it: the operation, the operands, a hint."""

import difflib
import math
from collections.abc import Iterable
from typing import Any


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


class WorkerError(MinivitError, RuntimeError):
    """A worker process that died in the middle of its work."""


class DataError(MinivitError, ValueError):
    """A data set or image that is missing, damaged or not what it claims to be."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A half-sentence such as `; did you mean 'depth'?`, or nothing where no known name is close."""
    close = difflib.get_close_matches(str(name), [str(k) for k in known], n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def misuse(
    error: Exception, name: str, parameters: dict, operands: tuple, static: dict, path: tuple[str, ...]
) -> Exception | None:
    """A clearer error than the one an operation raised; `None` where that one is clear, or shows a fault in minivit."""
    if isinstance(error, ShapeError):
        named = "" if str(error).startswith(name) else f"{name}: "
        where = f", in module {'.'.join(path)!r}" if path else ""
        return ShapeError(f"{named}{error}{where}") if named or where else None
    if isinstance(error, MinivitError):
        return None
    if isinstance(error, (ValueError, IndexError)):
        return ShapeError(explain(name, error, operands, path, static))
    if isinstance(error, TypeError):
        call = wrong_call(name, parameters, operands, static)
        if call:
            return ConfigError(call)
        kinds = {x.dtype.kind for x in operands if hasattr(x, "dtype")}
        if kinds and "f" not in kinds:
            return DTypeError(f"{name}: not for whole numbers or booleans; convert with .astype('float32') first")
        return None
    numbers = [i for i, x in enumerate(operands) if not hasattr(x, "shape")]
    if numbers:  # AttributeError: a number has no shape
        i = numbers[0]
        return ShapeError(f"{name}: operand {i} is the number {operands[i]!r}, where an array is needed")
    return None


def wrong_call(name: str, parameters: dict, operands: tuple, static: dict) -> str:
    """What is wrong with the arguments of an operation; empty where nothing is."""
    shown = [p for p in parameters.values() if p.name not in ("xp", "needs")]
    settings = [p.name for p in shown if p.kind is p.KEYWORD_ONLY]
    named = f"its settings, given by name, are {', '.join(f'{s}=…' for s in settings)}" if settings else "it has none"
    for k in static:
        if k not in settings and k != "needs":
            return f"{name} has no setting {k!r}; {named}{did_you_mean(k, settings)}"
    wanted = [p for p in shown if p.kind is p.POSITIONAL_OR_KEYWORD]
    if len(operands) > len(wanted) and not any(p.kind is p.VAR_POSITIONAL for p in shown):
        tensors = "1 tensor" if len(wanted) == 1 else f"{len(wanted)} tensors"
        return f"{name} takes {tensors}, got {len(operands)} operands; {named}"
    return ""


def explain(name: str, error: Exception, operands: tuple, path: tuple[str, ...], static: dict) -> str:
    """The text of a `ShapeError`: the operation, each operand's shape and name, the module, and a likely cause."""
    shown = [described(x, path) for x in operands]
    done = (
        f"cannot combine {' and '.join(shown)}"
        if len(shown) > 1
        else f"cannot be done to {', '.join(shown) or 'nothing'}"
    )
    settings = [f"{k}={described(v)}" for k, v in static.items() if _decides_shape(k, v)]
    given = f" with {', '.join(settings)}" if settings else ""
    where = f", in module {'.'.join(path)!r}" if path else ""
    return f"{name}: {done}{given}{where}: {hint(name, operands, static) or error}"


def described(x: Any, path: tuple[str, ...] = ()) -> str:
    """An array by its shape, a parameter by its dotted name besides, anything else as it is written."""
    shape = getattr(x, "shape", None)
    if isinstance(x, tuple):
        return f"({', '.join(map(described, x))}{',' * (len(x) == 1)})"
    if isinstance(x, slice):
        return ":".join("" if n is None else str(n) for n in (x.start, x.stop, x.step)[: 2 + (x.step is not None)])
    if shape is None:
        return repr(x)
    named = f" (parameter {'.'.join((*path, x.name))!r})" if getattr(x, "name", None) else ""
    return f"{tuple(shape)}{named}"


def _decides_shape(name: str, value: Any) -> bool:
    return name != "needs" and value is not None and not isinstance(value, (bool, float))


def hint(name: str, operands: tuple, static: dict) -> str:
    """A likely cause in words, from the operation and the shapes alone; empty where there is nothing better to say."""
    shapes = [tuple(x.shape) for x in operands if hasattr(x, "shape")]
    if name in ("matmul", "linear") and len(shapes) >= 2 and min(len(shapes[0]), len(shapes[1])) >= 1:
        inner, outer = shapes[0][-1], shapes[1][-2] if len(shapes[1]) > 1 else shapes[1][0]
        if inner != outer:
            left, right = ("x", "the weight") if name == "linear" else ("the first", "the second")
            return (
                f"the last axis of {left} ({inner}) must equal the rows of {right} ({outer}); "
                "weights are (in, out), so a transposed weight or a wrong width is likely"
            )
        if len(shapes) == 3:
            return f"the bias {shapes[2]} must be as long as the weight has columns ({shapes[1][-1]})"
        if name == "matmul":
            return f"the leading axes {shapes[0][:-2]} and {shapes[1][:-2]} must be equal or 1"
    if name == "matmul":
        return "both must have an axis to multiply along; to multiply by a number, write *"
    if name == "broadcast_to":
        return "only axes of length 1 can be repeated, and new axes come in front"
    if name == "reshape" and len(shapes) == 1:
        n = math.prod(shapes[0])
        return f"its lengths must multiply to the {n} values there are; one of them may be -1, and is then worked out"
    if name in ("add", "subtract", "multiply", "divide", "maximum", "minimum", "where") and len(shapes) == 2:
        longest = max(len(s) for s in shapes)
        padded = [(1,) * (longest - len(s)) + s for s in shapes]
        wrong = [i - longest for i, (m, n) in enumerate(zip(*padded, strict=True)) if m != n and 1 not in (m, n)]
        if wrong:
            pairs = ", ".join(f"axis {i}: {padded[0][i]} against {padded[1][i]}" for i in wrong)
            return f"they broadcast only where lengths are equal or 1 ({pairs}); a keepdims=True or a reshape may be missing"
    if name == "where" and hasattr(static["condition"], "shape"):
        return f"the condition {tuple(static['condition'].shape)} must broadcast with both"
    if name == "layer_norm" and len(shapes) == 3:
        return f"weight and bias must be as long as the last axis of x ({(1, *shapes[0])[-1]})"
    if name in ("concatenate", "stack"):
        if not shapes:
            return "at least one tensor is needed"
        if not -len(shapes[0]) <= static.get("axis", 0) < len(shapes[0]) + (name == "stack"):
            return f"axis {static['axis']} does not exist in tensors of {len(shapes[0])} axes"
        return "the shapes must agree" + (" except along the joined axis" if name == "concatenate" else "")
    return ""
