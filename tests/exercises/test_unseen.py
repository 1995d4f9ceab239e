"""Wrong solutions that nobody had in mind when the usual mistakes were written: judged wrong, and never misdiagnosed."""

from collections import Counter

import pytest
from unseen import UNSEEN

from exercises.calling import cases
from exercises.checking import described, examine
from exercises.manifest import Exercise, exercise, exercises


@pytest.mark.parametrize("seed", [0, 3])
@pytest.mark.parametrize(("name", "function"), UNSEEN, ids=[f"{name}-{function.__name__}" for name, function in UNSEEN])
def test_an_unseen_mistake_is_not_misdiagnosed(name, function, seed):
    outcome = examine(exercise(name), function, seed)
    assert outcome.status in ("wrong", "stopped")
    assert outcome.mistake in ("", *function.may_be), outcome.message
    said = without_the_inputs(exercise(name), outcome.message, seed)
    assert not [word for word in function.never if word in said], outcome.message


def without_the_inputs(task: Exercise, message: str, seed: int) -> str:
    """A message without the names and sizes of the arguments, which say nothing about the cause."""
    for arguments in cases(task, seed):
        message = message.replace(described(task, arguments), "")
    return message


def test_they_are_many_and_differ():
    """They are spread over nearly all exercises, and no function stands for two mistakes."""
    of_each = Counter(name for name, _ in UNSEEN)
    assert len(UNSEEN) >= 45 and len(of_each) >= 25
    assert set(of_each) <= exercises().keys()
    assert len({function.__name__ for _, function in UNSEEN}) == len({f.__doc__ for _, f in UNSEEN}) == len(UNSEEN)
