"""How long it takes to grade a class: made-up students, each with the whole course, right, wrong and not begun in turn.

    python -m benchmarks.grading                 200 students
    python -m benchmarks.grading --students 20 --endless 2

A student's file of a chapter holds, for each exercise, the reference, one of the usual mistakes, or nothing; `--endless` of
them never end in one exercise. Prints seconds, and how the marks compare with what the answers deserve.
"""

import argparse
import inspect
import re
import tempfile
import time
from pathlib import Path

import numpy as np

from exercises import grading, submissions
from exercises.manifest import exercises
from exercises.mistakes import mistakes
from minivit.training.report import machine

NOT_OURS = "def mistake(*_, **__):\n    return lambda function: function\n"


def student(folder: Path, rng: np.random.Generator, endless: bool) -> dict[str, str]:
    """Write one student's files; what each exercise holds: "right", "wrong" or ""."""
    folder.mkdir(parents=True)
    kinds = {name: str(rng.choice(["right", "wrong", ""], p=[0.6, 0.25, 0.15])) for name in exercises()}
    if endless:
        kinds["softmax"] = "wrong"
    for chapter in sorted({task.chapter for task in exercises().values()}):
        tasks = [task for task in exercises().values() if task.chapter == chapter]
        module = inspect.getmodule(mistakes(tasks[0].id)[0].function)
        wrong = re.sub(r"from exercises.mistakes import mistake\n", NOT_OURS, inspect.getsource(module))
        wrong = re.sub(r"(?m)^from exercises\.workshop.*$", "", wrong)
        parts = [inspect.getsource(tasks[0].workshop), wrong]
        for task in tasks:
            if kinds[task.id] == "":
                parts.append(f"def {task.id}(*given):\n    raise NotImplementedError\n")
            elif kinds[task.id] == "wrong":
                chosen = mistakes(task.id)[int(rng.integers(len(mistakes(task.id))))]
                parts.append(f"{task.id} = {chosen.function.__name__}\n")
            elif task.reference:
                parts.append(inspect.getsource(inspect.unwrap(task.answer)))
        if endless and chapter == 4:
            parts.append("def softmax(x):\n    while True:\n        pass\n")
        (folder / f"ch{chapter:02}.py").write_text("\n\n".join(parts), encoding="utf-8")
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
        kinds = {f"s{i:03}": student(root / f"s{i:03}", rng, i < options.endless) for i in range(options.students)}
        tasks = list(exercises().values())
        began = time.perf_counter()
        grading.preflight(tasks, options.seed)
        reports = list(grading.grade_all(submissions.read(root), tasks, seed=options.seed))
        seconds = time.perf_counter() - began
    count = {("right", True): 0, ("right", False): 0, ("wrong", True): 0, ("wrong", False): 0}
    diagnosed = 0
    for report in reports:
        for mark in report.marks:
            if kind := kinds[report.student][mark.id]:
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
