"""Every usual mistake is told its own sentence and no other; every right way to solve an exercise passes."""

import importlib
from collections import Counter
from pathlib import Path

import pytest
from right_ways import WAYS

from exercises.checking import examine
from exercises.manifest import exercise, exercises
from exercises.mistakes import mistakes

for chapter in sorted(Path(__file__).parent.glob("right_ways_*.py")):
    importlib.import_module(chapter.stem)

ALL = [(task.id, mistake) for task in exercises().values() for mistake in mistakes(task.id)]
SEEDS = [0, 7]


@pytest.mark.parametrize(("name", "mistake"), ALL, ids=[f"{name}-{m.name}" for name, m in ALL])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_usual_mistake_gets_its_sentence(name, mistake, seed):
    outcome = examine(exercise(name), mistake.function, seed)
    assert not outcome.passed and outcome.mistake == mistake.name, outcome.message
    said = outcome.message.splitlines()[0]
    assert "{" not in said and said.endswith((".", "?", "!")), said


def test_a_usual_mistake_gets_its_sentence_in_a_list_too():
    """A sentence may ask for the shape of what was found, which a list does not have."""
    task = exercise("patchify")
    grid_kept = next(m for m in mistakes("patchify") if m.name == "grid_kept")
    outcome = examine(task, lambda images, patch_size: grid_kept.function(images, patch_size).tolist())
    assert outcome.mistake == "grid_kept" and "(1, 2, 3, 48)" in outcome.message


@pytest.mark.parametrize("name", exercises())
def test_sentences_differ(name):
    said = [examine(exercise(name), m.function).message.splitlines()[0] for m in mistakes(name)]
    assert len(set(said)) == len(said)


def test_there_are_enough():
    few = {task.id: len(mistakes(task.id)) for task in exercises().values() if len(mistakes(task.id)) < 3}
    assert not few
    assert len(ALL) >= 120


@pytest.mark.parametrize(("name", "function"), WAYS, ids=[f"{name}-{f.__name__}" for name, f in WAYS])
@pytest.mark.parametrize("seed", SEEDS)
def test_another_right_way_passes(name, function, seed):
    outcome = examine(exercise(name), function, seed)
    assert outcome.passed, outcome.message


def test_there_are_three_right_ways_beside_the_reference():
    count = Counter(name for name, _ in WAYS)
    assert not {name: count[name] for name in exercises() if count[name] < 3}


@pytest.mark.parametrize("name", exercises())
def test_points_and_hints(name):
    task = exercise(name)
    assert task.points in range(2, 41) and 2 <= len(task.hints) <= 5
    assert all(hint.strip().endswith((".", "?", "!", ":")) and len(hint) < 400 for hint in task.hints)
