"""Grades a folder of submissions: a process for each student, marks made here, from what its functions returned."""

import ast
import hashlib
import json
import os
import platform
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from exercises import sources
from exercises.calling import calls, cases
from exercises.checking import alike, judged
from exercises.manifest import Exercise, exercises
from exercises.runner import Runner
from exercises.submissions import Submission, file_name
from minivit.engine.errors import ConfigError
from minivit.interop.safetensors import replacing

VERSION = 1  # of the stored marks: another one and they are made again


@dataclass(frozen=True)
class Mark:
    """One exercise of one student: `earned` of `points`; `flags` are what a teacher should look at."""

    id: str
    points: int
    earned: int
    status: str
    message: str
    mistake: str = ""
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """A student's marks. `problems` and `flags` concern the submission as a whole; `seconds` is how long it took."""

    student: str
    marks: tuple[Mark, ...]
    problems: tuple[str, ...]
    seconds: float
    seed: int
    flags: tuple[str, ...] = ()

    @property
    def earned(self) -> int:
        return sum(mark.earned for mark in self.marks)

    @property
    def points(self) -> int:
        return sum(mark.points for mark in self.marks)


def grade_all(
    submissions: list[Submission], tasks: list[Exercise], *, seed: int, folder: Path | None = None, workers: int = 0,
    seconds: float = 60.0, megabytes: int = 2048,
) -> Iterator[Report]:  # fmt: skip
    """Each student's report, as they are finished. What `folder` holds from an earlier run of the same is not run again."""
    workers = workers or max(
        1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    limits = {"seconds": seconds, "megabytes": megabytes}
    with ThreadPoolExecutor(workers) as pool:
        waiting = [pool.submit(_stored, s, tasks, seed, folder, limits) for s in submissions]
        for done in as_completed(waiting):
            yield done.result()


def preflight(tasks: Iterable[Exercise], seed: int) -> None:
    """Make sure, before the first student, that the grader itself works here. Raises ConfigError; no zero goes unexplained.

    Each reference must pass in a process like a student's, which also shows that processes, limits and libraries work.
    """
    solved = [
        task for task in tasks if not judged(task, list(calls(task, task.answer, cases(task, seed))), seed).passed
    ]
    if solved:
        raise ConfigError(
            f"the references of {', '.join(t.id for t in solved)} fail on this machine: nothing was graded"
        )
    with Runner({"probe.py": "def shapes():\n    return 1\n"}, guarded=True, tasks=("shapes",)) as runner:
        made = runner.ask(exercises()["shapes"], seed)
        if isinstance(made, str) or made[0].result != 1:
            said = made if isinstance(made, str) else made[0].error
            raise ConfigError(
                f"the process that runs submissions does not work on this machine ({said}): nothing was graded"
            )


def _stored(submission: Submission, tasks: list[Exercise], seed: int, folder: Path | None, limits: dict) -> Report:
    """The stored report if it is of the same files, exercises and seed; else a new one, stored."""
    if folder is None:
        return grade(submission, tasks, seed=seed, **limits)
    told = json.dumps(
        [VERSION, submission.files, submission.problems, [asdict(t) for t in tasks], seed], sort_keys=True
    )
    key = hashlib.sha256(told.encode()).hexdigest()[:16]
    path = folder / "marks" / f"{file_name(submission.student)}-{key}.json"
    try:
        return from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        pass
    report = grade(submission, tasks, seed=seed, **limits)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as out:
        out.write(json.dumps(asdict(report), indent=1).encode())
    return report


def from_json(held: dict) -> Report:
    marks = tuple(Mark(**{**m, "flags": tuple(m["flags"])}) for m in held["marks"])
    return Report(**{**held, "marks": marks, "problems": tuple(held["problems"]), "flags": tuple(held["flags"])})


def grade(
    submission: Submission, tasks: list[Exercise], *, seed: int, seconds: float = 60.0, megabytes: int = 2048
) -> Report:
    """One student's report; whatever the submission does, there is one."""
    began, marks = time.perf_counter(), []
    if not submission.files:
        why = "; ".join(submission.problems) or "nothing was handed in"
        marks = [Mark(t.id, t.points, 0, "missing", why) for t in tasks]
        return Report(submission.student, tuple(marks), submission.problems, 0.0, seed)
    looked = {name: _flags(text, name) for name, text in submission.files.items()}
    names = tuple(task.id for task in tasks)
    with Runner(submission.files, guarded=True, tasks=names, seconds=seconds, megabytes=megabytes) as runner:
        for task in tasks:
            file = next((f for f in submission.files if Path(f).name == task.skeleton.name), "")
            flags = tuple(flag for found in looked.values() for flag in found.get(task.id, ()))
            if time.perf_counter() - began > seconds:
                marks.append(
                    Mark(task.id, task.points, 0, "stopped", f"no time left: {seconds:g} s for all", flags=flags)
                )
                continue
            marks.append(_mark(task, runner.ask(task, seed, file), seed, flags))
    took = round(time.perf_counter() - began, 2)
    whole = tuple(f"{name}: {said}" for name, found in looked.items() for said in found.get("", ()))
    return Report(submission.student, tuple(marks), submission.problems, took, seed, whole)


def _mark(task: Exercise, made: list | str, seed: int, flags: tuple[str, ...]) -> Mark:
    if isinstance(made, str):
        status = "missing" if "has no function" in made else "stopped"
        return Mark(task.id, task.points, 0, status, made, flags=flags)
    outcome = judged(task, made, seed)
    if outcome.passed:
        return Mark(task.id, task.points, task.points, "passed", outcome.message, flags=flags)
    earned = task.points * outcome.right // max(outcome.inputs, 1)
    if outcome.status == "not written yet" or _as_it_stood(task, made, seed):
        earned = 0
    return Mark(task.id, task.points, earned, outcome.status, outcome.message, outcome.mistake, flags)


def _as_it_stood(task: Exercise, made: list, seed: int) -> bool:
    """Whether a listing to repair was handed in unrepaired: what it does right is not the student's work."""
    if not task.repairs:
        return False
    listing = getattr(task.workshop, f"listing_{task.id}")
    return all(alike(a, b) for a, b in zip(made, calls(task, listing, cases(task, seed)), strict=True))


# ---- what a teacher should look at -----------------------------------------------------------------------------------

SUSPECT = {
    "os",
    "subprocess",
    "socket",
    "ctypes",
    "importlib",
    "inspect",
    "gc",
    "sys",
    "shutil",
    "builtins",
    "urllib",
    "requests",
}
CALLS = {"exec", "eval", "compile", "__import__", "open", "globals", "vars"}


def _flags(text: str, file: str) -> dict[str, list[str]]:
    """What in a file is unusual in homework: {exercise, or "" for the file: [said in words]}. Flags cost no points."""
    try:
        tree = ast.parse(sources.of_notebook(text) if file.endswith(".ipynb") else text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    found: dict[str, list[str]] = {}
    for node in tree.body:
        name = node.name if isinstance(node, ast.FunctionDef) and node.name in exercises() else ""
        forbidden = set(exercises()[name].forbidden) if name else {f for t in exercises().values() for f in t.forbidden}
        for part in ast.walk(node):
            said = _unusual(part, forbidden if name or not isinstance(node, ast.FunctionDef) else set())
            if said and said not in found.setdefault(name, []):
                found[name].append(said)
    return {name: said for name, said in found.items() if said}


def _unusual(node: ast.AST, forbidden: set[str]) -> str | None:
    if isinstance(node, ast.Import | ast.ImportFrom):
        modules = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        for module in modules:
            if module.split(".")[0] in SUSPECT | {"exercises"}:
                return f"imports {module}"
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("minivit"):
            taken = [a.name for a in node.names if a.name in forbidden or a.name == "*"]
            return f"takes {', '.join(taken)} from {node.module}" if taken else None
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CALLS:
        return f"calls {node.func.id}"
    if isinstance(node, ast.Attribute) and node.attr in forbidden and isinstance(node.value, ast.Name | ast.Attribute):
        root = node.value
        while isinstance(root, ast.Attribute):
            root = root.value
        if isinstance(root, ast.Name) and root.id in ("mv", "minivit"):
            return f"uses minivit's own {node.attr}"
    return None


def environment() -> dict[str, str]:
    """What the marks were made with."""
    return {"python": platform.python_version(), "numpy": np.__version__, "system": platform.system()}
