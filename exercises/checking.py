"""Judges what a function returned: right, or what is wrong with it, by what looks the mistake was made.

On each of the exercise's inputs it must do what the reference does and leave its arguments as they were. A wrong one is
compared with the usual mistakes (mistakes/): what does on every input what a known mistake does, is that mistake, and gets
its sentence. Any other gets what diagnosis.py can read from the numbers.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from exercises.calling import Attempt, call, calls, cases, names, prepared
from exercises.diagnosis import axis_names, clue, difference, equal
from exercises.manifest import Exercise, exercise
from exercises.mistakes import Mistake, mistakes

MARKS = {"passed": "✓", "not written yet": "…"}


@dataclass(frozen=True)
class Outcome:
    """What became of a check: `status` is "passed", "not written yet", "stopped" or "wrong"; `message` says more.

    `right` of `inputs` inputs were right; `mistake` is the name of the usual mistake that it is; `shown` holds a wrong and
    the right array where a picture helps.
    """

    status: str
    message: str
    right: int = 0
    inputs: int = 0
    mistake: str = ""
    shown: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def passed(self) -> bool:
        return self.status == "passed"

    @property
    def mark(self) -> str:
        return MARKS.get(self.status, "✗")


def check(name: str, function: Callable, seed: int = 0) -> None:
    """Check a function against the exercise `name` and print what was found. Raises ConfigError for an unknown name."""
    from exercises import pictures

    task = exercise(name)
    outcome = examine(task, function, seed)
    print(f"{outcome.mark} {name}: {outcome.message}")
    pictures.show(outcome)


def examine(task: Exercise, function: Callable, seed: int = 0) -> Outcome:
    """Call the function, in this process, on each of the exercise's inputs, drawn from `seed`, and judge what it returns."""
    return judged(task, list(calls(task, function, cases(task, seed))), seed)


def judged(task: Exercise, made: list[Attempt], seed: int = 0) -> Outcome:
    """The judgement on what a function did with the inputs of `seed`, however it was called."""
    given = cases(task, seed)
    faults = [_fault(task, attempt, arguments, right) for attempt, arguments, right in
              zip(made, given, _expected(task, seed), strict=True)]  # fmt: skip
    wrong = [i for i, fault in enumerate(faults) if fault is not None]
    counts = {"right": len(given) - len(wrong), "inputs": len(given)}
    if not wrong:
        return Outcome("passed", f"right on {len(given)} input{'s' if len(given) > 1 else ''}", **counts)
    first = wrong[0]
    if made[first].status == "not written":
        return Outcome("not written yet", made[first].error, **counts)
    status = "stopped" if made[first].status == "stopped" else "wrong"
    labels = _labels(task, given)
    known = recognised(task, made, seed)
    if known is None:  # a wrong shape says more than a wrong value
        first = next((i for i in wrong if "has shape" in faults[i]), first)
    inputs = f"For {labels[first]}: " if given[first] else ""
    if known is not None:
        same = _attempts_of(task, known, seed)[first].result  # as theirs, and an array where theirs is a list
        said = known.sentence(same, _expected(task, seed)[first], named(task, given[first]))
        message = f"{said}\n  {_ended(inputs + faults[first])}"
    else:
        message = f"{inputs}{faults[first]}"
        found_clues = {i: _clues(task, made[i], given[i], _expected(task, seed)[i]) for i in wrong}
        usual = 2 * sum(map(bool, found_clues.values())) > len(wrong)  # not by the accident of one input
        more = found_clues[first] if usual else []
        if status == "wrong" and len(wrong) < len(given) and task.reveals:
            fine = next(i for i in range(len(given)) if i not in wrong)
            more.append(f"Right on {counts['right']} of {len(given)} inputs, such as {labels[fine]}.")
        if more:
            message = "\n  ".join([_ended(message), *more])
    name = known.name if known else ""
    return Outcome(status, message, **counts, mistake=name, shown=_shown(task, made[first], seed, first))


def recognised(task: Exercise, made: list[Attempt], seed: int = 0) -> Mistake | None:
    """The usual mistake that does the same on every input, if there is one."""
    for mistake in mistakes(task.id):
        if all(alike(a, b) for a, b in zip(made, _attempts_of(task, mistake, seed), strict=True)):
            return mistake
    return None


def alike(a: Attempt, b: Attempt) -> bool:
    if a.status != b.status or a.changed != b.changed:
        return False
    if a.status == "returned":
        return equal(a.result, b.result)
    return a.error.split(" (line")[0] == b.error.split(" (line")[0]


@cache
def _attempts_of(task: Exercise, mistake: Mistake, seed: int) -> list[Attempt]:
    return list(calls(task, mistake.function, cases(task, seed)))


@cache
def _expected(task: Exercise, seed: int) -> list[Any]:
    """What the reference returns for each input."""
    return [call(task, task.answer, arguments).result for arguments in cases(task, seed)]


def _fault(task: Exercise, attempt: Attempt, arguments: tuple, right: Any) -> str | None:
    """What is wrong with one attempt, as a sentence without its full stop, or None."""
    if attempt.status != "returned":
        return attempt.error
    if attempt.changed is not None:
        alias = "; `b = a` makes no copy, both names mean one array" if attempt.shares else ""
        return f"it changes its argument {attempt.changed}, which the caller may still need{alias}"
    judge = getattr(task.workshop, f"judge_{task.id}", None)
    if judge is not None and attempt.result is not None:  # where more than one answer is right
        fault = judge(attempt.result, *prepared(task, arguments))
    else:
        fault = difference(attempt.result, right, reveal=task.reveals, axes=_axes(task))
    if fault is None and task.returns == "a view" and not attempt.shares:
        fault = "the values are right, but they are a copy; the result must be a view of the argument"
    return fault


def _axes(task: Exercise) -> list[str]:
    return axis_names(task.answer.__doc__)


def _clues(task: Exercise, attempt: Attempt, arguments: tuple, right: Any) -> list[str]:
    if (
        attempt.status != "returned"
        or attempt.changed
        or not task.reveals
        or hasattr(task.workshop, f"judge_{task.id}")
    ):
        return []
    said = clue(attempt.result, right, named(task, arguments))
    return [said] if said else []


def _shown(task: Exercise, attempt: Attempt, seed: int, number: int) -> tuple[np.ndarray, np.ndarray] | None:
    """The wrong and the right array, cut to two axes, where the exercise wants a picture and the shapes allow one."""
    right = _expected(task, seed)[number]
    found = attempt.result
    if not task.draws or not isinstance(found, np.ndarray) or not isinstance(right, np.ndarray):
        return None
    if found.shape != right.shape or found.ndim < 2 or found.dtype.kind not in "fiu":
        return None
    far = np.argwhere(~np.isclose(found, right))
    lead = tuple(int(i) for i in far[0][:-2]) if len(far) else (0,) * (found.ndim - 2)
    return found[lead], right[lead]


def _labels(task: Exercise, given: list[tuple]) -> list[str]:
    """A description of each input, with its number where two would read alike."""
    words, labels = [described(task, arguments) for arguments in given], []
    for i, said in enumerate(words, 1):
        number = f"input {i} of {len(given)}"
        labels.append(said if words.count(said) == 1 and said else f"{said} ({number})" if said else number)
    return labels


def _ended(sentence: str) -> str:
    return sentence if sentence.endswith((".", "?", "!")) else f"{sentence}."


def named(task: Exercise, arguments: tuple) -> dict[str, Any]:
    """The arguments by name."""
    return dict(zip(names(task), arguments, strict=False))


def described(task: Exercise, arguments: tuple) -> str:
    """The arguments by name: shapes of arrays, values of numbers; "" where they have neither."""
    words = []
    for name, value in named(task, arguments).items():
        if isinstance(value, np.ndarray):
            words.append(f"{name} {value.shape}")
        elif isinstance(value, list) and value and all(isinstance(v, np.ndarray) or v is None for v in value):
            words.append(f"{name} of shapes {', '.join('None' if v is None else str(v.shape) for v in value)}")
        elif isinstance(value, int | float | str | tuple) and not (isinstance(value, float) and math.isnan(value)):
            words.append(f"{name} {value!r}")
    return ", ".join(words)
