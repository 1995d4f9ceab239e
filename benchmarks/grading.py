"""How long it takes to grade a class: made-up students, each with the whole course, right, wrong and not begun in turn.

    python -m benchmarks.grading                 200 students
    python -m benchmarks.grading --students 20 --endless 2

Each exercise of a student is one of the right ways of the tests, one of the usual mistakes, or not begun; `--endless` of the
students never end in one exercise. Prints seconds, and how the marks compare with what the answers deserve.
"""

import argparse
import importlib
import inspect
import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from exercises import grading, submissions
from exercises.manifest import Exercise, exercises
from exercises.mistakes import mistakes
from minivit.training.report import machine

STUB = "def {name}(*_, **__):\n    return lambda function: function\n"
HERE = Path(__file__).resolve().parent.parent / "tests" / "exercises"


def right_ways() -> dict[str, list[Callable]]:
    """The right ways of the tests, by exercise."""
    sys.path.insert(0, str(HERE))
    for path in sorted(HERE.glob("right_ways_*.py")):
        importlib.import_module(path.stem)
    ways: dict[str, list[Callable]] = {}
    for name, function in importlib.import_module("right_ways").WAYS:
        ways.setdefault(name, []).append(function)
    return ways


def answer(task: Exercise, functions: list[Callable], decorator: str, rng: np.random.Generator) -> str:
    """A file in which one of the functions, with all that it needs, is the answer to the exercise; "" if it cannot be."""
    module = inspect.getmodule(functions[0])
    at_hand = [f for f in functions if getattr(module, f.__name__, None) is f]
    text = inspect.getsource(module)
    if not at_hand or "exercises.workshop" in text:  # their text is not theirs alone, or reads what no student can
        return ""
    chosen = at_hand[int(rng.integers(len(at_hand)))].__name__
    text = re.sub(rf"from [\w.]+ import {decorator}\n", STUB.format(name=decorator), text)
    return f"inside = {{}}\nexec({text!r}, inside)\n{task.id} = inside[{chosen!r}]  # def {task.id}\n"


def student(folder: Path, ways: dict[str, list[Callable]], rng: np.random.Generator, endless: bool) -> dict[str, str]:
    """Write one student's files; what each exercise holds: "right", "wrong" or ""."""
    folder.mkdir(parents=True)
    kinds = {name: str(rng.choice(["right", "wrong", ""], p=[0.6, 0.25, 0.15])) for name in exercises()}
    for task in exercises().values():
        text = f"def {task.id}(*given):\n    raise NotImplementedError\n"
        if endless and task.id == "softmax":
            text, kinds["softmax"] = "def softmax(x):\n    while True:\n        pass\n", "endless"
        elif kinds[task.id] == "right":
            text = answer(task, ways[task.id], "right", rng)
        elif kinds[task.id] == "wrong":
            text = answer(task, [m.function for m in mistakes(task.id)], "mistake", rng)
        if not text:
            text, kinds[task.id] = f"def {task.id}(*given):\n    return 0\n", "another"
        (folder / f"{task.id}.py").write_text(text, encoding="utf-8")
    return kinds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--students", type=int, default=200)
    parser.add_argument("--endless", type=int, default=5, help="of them never end in one exercise")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        ways = right_ways()
        names = [f"s{i:03}" for i in range(options.students)]
        kinds = {name: student(root / name, ways, rng, i < options.endless) for i, name in enumerate(names)}
        tasks = list(exercises().values())
        began = time.perf_counter()
        grading.preflight(tasks, options.seed)
        reports = list(grading.grade_all(submissions.read(root), tasks, seed=options.seed))
        seconds = time.perf_counter() - began
    count = {("right", True): 0, ("right", False): 0, ("wrong", True): 0, ("wrong", False): 0}
    diagnosed = 0
    for report in reports:
        for mark in report.marks:
            kind = kinds[report.student][mark.id]
            if kind in ("right", "wrong"):
                count[kind, mark.status == "passed"] += 1
                diagnosed += bool(kind == "wrong" and mark.mistake)
    print(f"{machine()}")
    print(f"{len(reports)} students, {len(tasks)} exercises: {seconds:.0f} s, {seconds / len(reports):.2f} s for one")
    print(f"right answers passed {count['right', True]}, failed {count['right', False]}")
    print(
        f"wrong answers failed {count['wrong', False]} ({diagnosed} told their mistake), passed {count['wrong', True]}"
    )


if __name__ == "__main__":
    main()
