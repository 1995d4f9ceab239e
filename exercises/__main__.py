"""The command line: `python -m exercises list | check [ID …] | skeletons`."""

import argparse
import importlib
import sys
import traceback
from types import ModuleType

from exercises import skeletons
from exercises.checking import Outcome, examine
from exercises.manifest import Exercise, exercise, exercises
from minivit.engine.errors import ConfigError

MARKS = {"passed": "✓", "not written yet": "…"}


def main(arguments: list[str] | None = None) -> int:
    """Do what was asked; 1 where an exercise that was checked is not right."""
    parser = argparse.ArgumentParser(prog="python -m exercises", description="Exercises of the book, and their check.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="every exercise, and how far you are")
    checking = commands.add_parser("check", help="check what you wrote in exercises/chNN.py")
    checking.add_argument("ids", nargs="*", help="which exercises; all that you have begun without")
    checking.add_argument("--seed", type=int, default=0, help="other random inputs")
    making = commands.add_parser("skeletons", help="make exercises/chNN.py from the manifest (for authors)")
    making.add_argument("--overwrite", action="store_true", help="even where exercises are solved")
    options = parser.parse_args(arguments)
    try:
        if options.command == "skeletons":
            print("\n".join(skeletons.write(n, overwrite=options.overwrite) for n in skeletons.chapters()))
            return 0
        return listed() if options.command == "list" else checked(options.ids, options.seed)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2


def listed() -> int:
    """Print every exercise with its mark."""
    for chapter in skeletons.chapters():
        print(f"chapter {chapter:02}")
        for task in exercises().values():
            if task.chapter == chapter:
                mark = MARKS.get(outcome(task).status, "✗")
                key = " (key)" if task.key else ""
                print(f"  {mark} {task.id:18} {'★' * task.stars:3} {task.minutes:3} min  {task.title}{key}")
    return 0


def checked(names: list[str], seed: int) -> int:
    """Check the named exercises, or all that were begun; print a line for each."""
    tasks = [exercise(name) for name in names] or list(exercises().values())
    results = [(task, outcome(task, seed)) for task in tasks]
    if not names:
        results = [(task, result) for task, result in results if result.status != "not written yet"]
    for task, result in results:
        print(f"{MARKS.get(result.status, '✗')} {task.id}: {result.message}")
    return int(not all(result.passed for _, result in results))


def outcome(task: Exercise, seed: int = 0) -> Outcome:
    """What became of the reader's version of one exercise."""
    try:
        function = getattr(_module(task), task.id, None)
    except Exception:  # a file that does not even load: say where, as Python would
        last = traceback.format_exc(limit=-1).strip().splitlines()
        return Outcome("stopped", f"exercises/{task.skeleton.name} does not load: {last[-1]}")
    if function is None:
        return Outcome("stopped", f"exercises/{task.skeleton.name} has no function {task.id}")
    return examine(task, function, seed)


def _module(task: Exercise) -> ModuleType:
    return importlib.import_module(f"exercises.ch{task.chapter:02}")


if __name__ == "__main__":
    sys.exit(main())
