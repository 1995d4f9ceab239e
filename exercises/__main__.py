"""The command line: `python -m exercises list | next | check [ID …] | watch | hint ID | solution ID | reset ID | grade …`."""

import argparse
import os
import sys
import time
from pathlib import Path

from exercises import course, manifest, pictures, skeletons
from exercises.manifest import Exercise, exercise, exercises
from exercises.reports import FORMS
from minivit.engine.errors import ConfigError, did_you_mean

COMMANDS = ("list", "next", "check", "watch", "hint", "solution", "reset", "grade", "skeletons")


def main(arguments: list[str] | None = None) -> int:
    """Do what was asked; 1 where an exercise that was checked is not right, 2 where the question was wrong."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        if given and not given[0].startswith("-") and given[0] not in COMMANDS:
            near = did_you_mean(given[0], COMMANDS) or ";"
            raise ConfigError(f"there is no command {given[0]!r}{near} there are {', '.join(COMMANDS)}")
        options = _parser().parse_args(given)
        return options.run(options)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print()
        return 130
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m exercises", description="Exercises of the book, and their check.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run, words: str, *, takes_id: bool = False) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=words, description=words)
        made.set_defaults(run=run)
        if takes_id:
            made.add_argument("id", help="an exercise's name, as `list` shows it")
        return made

    command("list", listed, "every exercise, and how far you are")
    command("next", following, "what to do next")
    checking = command("check", checked, "check what you wrote in exercises/chNN.py")
    checking.add_argument("ids", nargs="*", help="which exercises; all that you have begun without")
    checking.add_argument("--seed", type=int, default=0, help="other random inputs")
    checking.add_argument("--file", type=Path, help="another file of yours, a script or a notebook")
    command("watch", watched, "check a file each time you save it; Ctrl-C ends it")
    command("hint", hinted, "a hint; once more for the next one", takes_id=True)
    solving = command("solution", solved, "the library's own lines, once yours are right", takes_id=True)
    solving.add_argument("--give-up", action="store_true", help="show it although yours is not right yet")
    command("reset", reset, "set one exercise back; your version is kept in exercises/backups", takes_id=True)
    marking = command("grade", graded, "mark a folder of submissions (for teachers)")
    marking.add_argument(
        "submissions", type=Path, help="a folder with a folder, zip, script or notebook for each student"
    )
    marking.add_argument("--one", action="store_true", help="the folder, zip or file is the submission of one student")
    marking.add_argument(
        "--out", nargs="+", choices=FORMS, default=["json", "csv", "html"], help="which files to write"
    )
    marking.add_argument("--to", type=Path, default=Path("grades"), help="where to write them (grades/)")
    marking.add_argument("--only", nargs="+", metavar="ID", help="these exercises only")
    marking.add_argument("--extra", type=Path, metavar="DIR", help="a folder with exercises of your own")
    marking.add_argument("--seed", type=int, default=0, help="the inputs' seed; choose one that nobody knows")
    marking.add_argument(
        "--workers", type=int, default=0, help="students at a time; as many as there are cores without"
    )
    marking.add_argument("--seconds", type=float, default=60.0, help="for one student, all in all")
    marking.add_argument("--megabytes", type=int, default=2048, help="of memory for one student (not on Windows)")
    making = command("skeletons", written, "make exercises/chNN.py from the manifest (for authors)")
    making.add_argument("--overwrite", action="store_true", help="even where exercises are solved")
    return parser


def listed(options: argparse.Namespace) -> int:
    """Print every exercise with its mark."""
    done, chapter = 0, 0
    for task, outcome in course.outcomes(list(exercises().values())):
        if task.chapter != chapter:
            chapter = task.chapter
            print(f"chapter {chapter:02}")
        done += task.points * outcome.passed
        mark = "…" if course.untouched(task) else outcome.mark
        key = " (key)" if task.key else ""
        print(
            f"  {mark} {task.id:20} {'★' * task.stars:3} {task.minutes:3} min {task.points:3} points  {task.title}{key}"
        )
    print(course.bar(done, sum(task.points for task in exercises().values())))
    return 0


def following(options: argparse.Namespace) -> int:
    """Print the first exercise that is not right yet."""
    for task, outcome in course.outcomes(list(exercises().values())):
        if not outcome.passed:
            print(f"{task.id} {'★' * task.stars}, about {task.minutes} minutes: {task.title}")
            print(f"Chapter {task.chapter:02}. Write it in exercises/{task.skeleton.name}.")
            print(f"Then: python -m exercises check {task.id}")
            print(f"Stuck? python -m exercises hint {task.id}. Any other exercise can be done first.")
            return 0
    print("All are done.")
    return 0


def checked(options: argparse.Namespace) -> int:
    """Check the named exercises, or all that were begun; print what was found."""
    tasks = [exercise(name) for name in options.ids] or list(exercises().values())
    if options.file and not (options.file.is_file() and options.file.suffix in (".py", ".ipynb")):
        raise ConfigError(f"{options.file} is no script or notebook (.py, .ipynb)")
    if not options.ids and not options.file:
        tasks = [task for task in tasks if not course.untouched(task)]
        if not tasks:
            print("Nothing is begun yet. `python -m exercises next` names an exercise to begin with.")
    every = list(course.outcomes(tasks, options.seed, options.file))
    results = [(task, outcome) for task, outcome in every if not _absent(options, outcome)]
    if options.file and not results:
        why = every[0][1].message.partition("; ")[2] or "`python -m exercises list` shows their names"
        raise ConfigError(f"{options.file} defines none of the exercises; {why}")
    for task, outcome in results:
        _print(task, outcome)
    return int(not all(outcome.passed for _, outcome in results))


def _absent(options: argparse.Namespace, outcome) -> bool:
    """Whether a file that was named holds nothing of an exercise that was not."""
    return bool(options.file and not options.ids and "has no function" in outcome.message)


def _print(task: Exercise, outcome) -> None:
    print(f"{outcome.mark} {task.id}: {outcome.message}")
    pictures.show(outcome)
    if outcome.status in ("wrong", "stopped") and task.hints:
        print(f"  A hint: python -m exercises hint {task.id}")


def watched(options: argparse.Namespace, seconds: float = 0.5, rounds: int | None = None) -> int:
    """Look twice a second whether a file was saved; check what is begun in it."""
    known: dict[Path, float] = {}
    course.changed_files(known)
    print("Watching exercises/ch*.py; save one. Ctrl-C ends it.", flush=True)
    while rounds is None or (rounds := rounds - 1) >= 0:
        time.sleep(seconds)
        for path in course.changed_files(known):
            print(f"\n{time.strftime('%H:%M:%S')}  {path.name}")
            begun = [task for task in course.tasks_of(int(path.stem[2:])) if not course.untouched(task)]
            for task, outcome in course.outcomes(begun):
                _print(task, outcome)
            sys.stdout.flush()
    return 0


def hinted(options: argparse.Namespace) -> int:
    print(course.hint(exercise(options.id)))
    return 0


def solved(options: argparse.Namespace) -> int:
    task = exercise(options.id)
    if not options.give_up:
        ((_, outcome),) = course.outcomes([task])
        if not outcome.passed:
            print(
                f"Yours is not right yet. `python -m exercises hint {task.id}` may help; `--give-up` shows it all the same."
            )
            return 1
    print(course.solution(task))
    return 0


def reset(options: argparse.Namespace) -> int:
    print(course.reset(exercise(options.id)))
    return 0


def graded(options: argparse.Namespace) -> int:
    """Mark every submission and write the marks; each is stored as it is made, so that a run can be resumed."""
    from tqdm import tqdm

    from exercises import grading, submissions

    if options.extra:
        manifest.add(options.extra)
    tasks = [exercise(name) for name in options.only] if options.only else list(exercises().values())
    found = [submissions.one(options.submissions)] if options.one else submissions.read(options.submissions)
    limits = {"workers": options.workers, "seconds": options.seconds, "megabytes": options.megabytes}
    grading.preflight(tasks, options.seed)
    kept = None if options.one else options.to
    made = grading.grade_all(found, tasks, seed=options.seed, folder=kept, **limits)
    reports = sorted(tqdm(made, total=len(found), unit="student"), key=lambda report: report.student)
    for form in options.out:
        print(f"{form}: {FORMS[form](reports, options.to)}")
    if options.one:
        for mark in reports[0].marks:
            print(f"{mark.id}: {mark.earned} of {mark.points}; {mark.message}")
    unread = [report.student for report in reports if report.problems]
    if unread:
        print(f"look at these: {', '.join(unread)}")
    count = f"{len(reports)} submission{'s' if len(reports) > 1 else ''}"
    print(f"{count}; `--seed {options.seed}` gives every mark again")
    return 0


def written(options: argparse.Namespace) -> int:
    print("\n".join(skeletons.write(n, overwrite=options.overwrite) for n in skeletons.chapters()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
