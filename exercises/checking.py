"""Checks a function: on the exercise's inputs it must do what the reference does, and leave its arguments as they were."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from exercises.manifest import Exercise, exercise
from minivit.engine import ops  # noqa: F401  (gives Tensor its operators)
from minivit.engine.random import stream
from minivit.engine.tensor import Tensor, raw

RTOL, ATOL = 1e-5, 1e-8  # another order of the same arithmetic passes


@dataclass(frozen=True)
class Outcome:
    """What became of a check: `status` is "passed", "not written yet", "stopped" or "wrong"; `message` says more."""

    status: str
    message: str

    @property
    def passed(self) -> bool:
        return self.status == "passed"


def check(name: str, function: Callable, seed: int = 0) -> None:
    """Check a function against the exercise `name` and print what was found. Raises ConfigError for an unknown name."""
    outcome = examine(exercise(name), function, seed)
    mark = {"passed": "✓", "not written yet": "…"}.get(outcome.status, "✗")
    print(f"{mark} {name}: {outcome.message}")


def examine(task: Exercise, function: Callable, seed: int = 0) -> Outcome:
    """Call the function on each of the exercise's inputs, drawn from `seed`, until something is wrong."""
    cases = getattr(task.workshop, f"inputs_{task.id}")(stream(seed, task.id))
    for arguments in cases:
        outcome = _one(task, function, arguments)
        if not outcome.passed:
            return outcome
    return Outcome("passed", f"right on {len(cases)} input{'s' if len(cases) > 1 else ''}")


def _one(task: Exercise, function: Callable, arguments: tuple) -> Outcome:
    given = f"For {described(task, arguments)}: " if arguments else ""
    theirs = _prepared(task, arguments)
    try:
        with np.errstate(all="ignore"):  # what overflows shows in the result
            found = function(*theirs)
    except NotImplementedError:
        return Outcome("not written yet", "not written yet")
    except Exception as error:  # whatever a first attempt raises is news for its author, not a fault here
        return Outcome("stopped", f"{given}it stopped with {type(error).__name__}: {error}")
    if found is None or found is Ellipsis:
        return Outcome("not written yet", "not written yet (it returns nothing)")
    if (changed := _changed(task, theirs, arguments)) is not None:
        return Outcome("wrong", f"{given}it changes its argument {changed}, which the caller may still need")
    judge = getattr(task.workshop, f"judge_{task.id}", None)
    if judge is not None:  # where more than one answer is right
        fault = judge(found, *arguments)
    else:
        fault = difference(found, task.answer(*_prepared(task, arguments)), reveal=task.reveals)
    if fault is None and task.returns == "a view" and not np.shares_memory(found, theirs[0]):
        fault = "the values are right, but they are a copy; the result must be a view of the argument"
    return Outcome("passed", "") if fault is None else Outcome("wrong", f"{given}{fault}")


def _prepared(task: Exercise, arguments: tuple) -> tuple:
    """A copy of the arguments, float arrays as Tensors where the exercise takes them."""
    copies = tuple(a.copy() if isinstance(a, np.ndarray | list | dict) else a for a in arguments)
    if task.takes != "tensors":
        return copies
    return tuple(Tensor(a) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a for a in copies)


def _changed(task: Exercise, theirs: tuple, arguments: tuple) -> str | None:
    for name, now, before in zip(_names(task), theirs, arguments, strict=False):
        if isinstance(before, np.ndarray) and not np.array_equal(raw(now), before, equal_nan=before.dtype.kind == "f"):
            return name
    return None


def _names(task: Exercise) -> list[str]:
    return list(inspect.signature(task.answer).parameters)


def described(task: Exercise, arguments: tuple) -> str:
    """The arguments by name: shapes of arrays, values of numbers."""
    words = []
    for name, value in zip(_names(task), arguments, strict=False):
        if isinstance(value, np.ndarray):
            words.append(f"{name} {value.shape}")
        elif isinstance(value, int | float | str | tuple):
            words.append(f"{name} {value!r}")
    return ", ".join(words) or "one of the inputs"


def difference(found: Any, expected: Any, *, reveal: bool = True, where: str = "your result") -> str | None:
    """The first thing in which two results differ, as a sentence, or None: arrays, numbers, tuples, lists, dicts, sets."""
    found, expected = raw(found), raw(expected)
    if isinstance(expected, str | set | bool) or expected is None:
        told = f", expected {expected!r}" if reveal else ""
        return None if found == expected else f"{where} is {found!r}{told}"
    if isinstance(expected, tuple | list) and not _numbers(expected):
        if not isinstance(found, tuple | list):
            return f"{where} is of type {type(found).__name__}, expected {len(expected)} values"
        if len(found) != len(expected):
            return f"{where} has {len(found)} values, expected {len(expected)}"
        parts = zip(found, expected, strict=True)
        faults = (difference(f, e, reveal=reveal, where=f"value {i} of {where}") for i, (f, e) in enumerate(parts, 1))
        return next((fault for fault in faults if fault is not None), None)
    if isinstance(expected, tuple | list) and isinstance(found, str):
        return f"{where} is {found!r}" + (f", expected {expected}" if reveal else ", which is not right")
    try:
        ours, theirs = np.asarray(expected), np.asarray(found)
        compatible = theirs.dtype.kind in "fiub"
    except (ValueError, TypeError):
        compatible = False
    if not compatible:
        return f"{where} is of type {type(found).__name__}, which does not hold numbers"
    return _unequal(theirs, ours, where, reveal)


def _numbers(values: tuple | list) -> bool:
    """Whether this is one row of numbers, such as a shape."""
    return all(isinstance(v, int | float | np.number) for v in values)


def _unequal(found: np.ndarray, expected: np.ndarray, where: str, reveal: bool) -> str | None:
    if not reveal:
        same = found.shape == expected.shape and np.allclose(found, expected)
        return None if same else f"{where}, {found.tolist()}, is not right"
    if found.shape != expected.shape:
        return f"{where} has shape {found.shape}, expected {expected.shape}"
    far = ~np.isclose(found, expected, rtol=RTOL, atol=ATOL * max(1.0, float(np.abs(expected).max(initial=0))))
    if not far.any():
        return None
    first = tuple(int(i) for i in np.argwhere(far)[0])
    place = f"entry {list(first)} of {where}" if first else where
    count = f"; {int(far.sum())} of {far.size} entries differ" if far.size > 1 else ""
    return f"{place} is {found[first]:.6g}, expected {expected[first]:.6g}{count}"
