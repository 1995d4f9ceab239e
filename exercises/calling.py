"""Calls a reader's function on an exercise's inputs, and keeps what came of it as plain data.

The same calls are made in a notebook (in this process) and by child.py (in another one, whose word nobody takes:
checking.py compares what it sends with what the reference gives here).
"""

import contextlib
import inspect
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from exercises.manifest import Exercise
from minivit.engine import ops  # noqa: F401  (gives Tensor its operators)
from minivit.engine.random import stream
from minivit.engine.tensor import Tensor, raw

SECONDS = 3.0  # for one call; the references take milliseconds
_TOO_LONG = "it was still running after"


@dataclass(frozen=True)
class Attempt:
    """What one call came to: `status` is "returned", "not written" or "stopped" (then `error` says by what).

    `result` is plain data: arrays, numbers, text, and tuples, lists, dicts and sets of them. `changed` names an argument
    that is no longer what it was; `shares` says whether the result shares the memory of the first argument.
    """

    status: str
    result: Any = None
    error: str = ""
    changed: str | None = None
    shares: bool = False


class OutOfTime(BaseException):
    """Raised inside a call that takes too long; not an Exception, so that `except Exception` does not swallow it."""


def cases(task: Exercise, seed: int = 0) -> list[tuple]:
    """The exercise's inputs, drawn from `seed`: a list of tuples of arguments, fresh each time."""
    return getattr(task.workshop, f"inputs_{task.id}")(stream(seed, task.id))


def names(task: Exercise) -> list[str]:
    """The names of the arguments."""
    return list(inspect.signature(task.answer).parameters)


def calls(task: Exercise, function: Callable, given: list[tuple]) -> Iterator[Attempt]:
    """What came of each input, one after the other; one that took too long ends it, and stands for the rest."""
    for done, arguments in enumerate(given):
        attempt = call(task, function, arguments)
        if attempt.error.startswith(_TOO_LONG):
            yield from [attempt] * (len(given) - done)
            return
        yield attempt


def call(task: Exercise, function: Callable, arguments: tuple, seconds: float = SECONDS) -> Attempt:
    """Call the function on copies of these arguments; nothing that it raises comes through."""
    theirs = prepared(task, arguments)
    try:
        with np.errstate(all="ignore"), time_limit(seconds):  # what overflows shows in the result
            found = function(*theirs)
    except NotImplementedError:
        return Attempt("not written", error="not written yet")
    except OutOfTime:
        return Attempt("stopped", error=f"{_TOO_LONG} {seconds:g} seconds: does a loop never end?")
    except SystemExit:
        return Attempt("stopped", error="it ends Python itself (exit or sys.exit): return the result instead")
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever a first attempt raises is news for its author, not a fault here
        return Attempt("stopped", error=f"it stopped with {told(error, function)}")
    if found is Ellipsis or (found is None and _is_empty(function)):
        return Attempt("not written", error="not written yet (it returns nothing)")
    plain = getattr(task.workshop, f"plain_{task.id}", None)
    result = raw(found) if plain is None else plain(found, *theirs)
    first = raw(theirs[0]) if theirs else None
    shares = isinstance(first, np.ndarray) and isinstance(result, np.ndarray)
    return Attempt(
        "returned",
        result=_without_tensors(result),
        changed=_changed(task, theirs, arguments),
        shares=bool(shares and np.shares_memory(result, first)),
    )


def prepared(task: Exercise, arguments: tuple) -> tuple:
    """A copy of the arguments, float arrays as Tensors where the exercise takes them."""
    copies = tuple(_copied(a) for a in arguments)
    if task.takes == "arrays":
        return copies
    grad = task.takes == "parameters"
    return tuple(
        Tensor(a, requires_grad=grad) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a for a in copies
    )


def _copied(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, list):
        return [_copied(v) for v in value]
    if isinstance(value, dict):
        return {k: _copied(v) for k, v in value.items()}
    return value


def _changed(task: Exercise, theirs: tuple, arguments: tuple) -> str | None:
    pairs = zip(names(task), theirs, arguments, strict=False)
    return next((name for name, now, before in pairs if not _same(now, before)), None)


def _same(now: Any, before: Any) -> bool:
    if isinstance(before, np.ndarray):
        return np.array_equal(raw(now), before, equal_nan=before.dtype.kind == "f")
    if isinstance(before, list):
        return len(now) == len(before) and all(map(_same, now, before))
    if isinstance(before, dict):
        return now.keys() == before.keys() and all(_same(now[k], before[k]) for k in before)
    return True


def _without_tensors(value: Any) -> Any:
    value = raw(value)
    if isinstance(value, tuple | list):
        return type(value)(map(_without_tensors, value)) if type(value) in (tuple, list) else list(value)
    return {k: _without_tensors(v) for k, v in value.items()} if isinstance(value, dict) else value


def _is_empty(function: Callable) -> bool:
    """Whether a function holds no more than a docstring, `pass` or `...`: then it is not written, rather than wrong."""
    code = getattr(function, "__code__", None)
    return code is not None and not code.co_names and len(code.co_varnames) == code.co_argcount + code.co_kwonlyargcount


def told(error: BaseException, function: Callable | None = None) -> str:
    """An error in one line: its type, its message, and the line of the reader's file."""
    *_, last = traceback.format_exception_only(error)
    words = " ".join(last.split())
    file = getattr(getattr(function, "__code__", None), "co_filename", None)
    try:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    except (PermissionError, ValueError):  # where homework is graded nobody looks into frames
        return words
    return f"{words} (line {lines[-1]})" if lines else words


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises OutOfTime inside after so many seconds. Without effect on Windows and outside the main thread."""
    if not hasattr(signal, "SIGALRM") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def out_of_time(*_: Any) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, out_of_time)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
