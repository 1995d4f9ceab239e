"""How far a reader is in the course: what is right, what comes next, hints shown, files set back with a copy kept."""

import ast
import inspect
import json
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

from exercises import manifest, skeletons
from exercises.checking import Outcome, judged
from exercises.manifest import Exercise, exercises
from exercises.runner import Runner
from minivit.engine.errors import ConfigError
from minivit.interop.safetensors import replacing


def outcomes(tasks: list[Exercise], seed: int = 0, file: Path | None = None) -> Iterator[tuple[Exercise, Outcome]]:
    """Each exercise with what became of it, as the reader's files stand (or one `file`, a script or a notebook)."""
    paths = [file] if file else sorted({task.skeleton for task in tasks})
    texts = {path.name: _text(path) for path in paths}
    with Runner(texts) as runner:
        for task in tasks:
            yield task, _outcome(runner, task, seed, file.name if file else task.skeleton.name)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}; `python -m exercises skeletons` makes the files"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not text in UTF-8: save it as such in your editor") from error


def _outcome(runner: Runner, task: Exercise, seed: int, file: str) -> Outcome:
    made = runner.ask(task, seed, file)
    return Outcome("stopped", made) if isinstance(made, str) else judged(task, made, seed)


def untouched(task: Exercise) -> bool:
    """Whether the reader has not changed this exercise yet."""
    try:
        return task.skeleton.exists() and task.id not in skeletons.solved(task.skeleton)
    except SyntaxError:
        return False


def bar(done: int, total: int, width: int = 30) -> str:
    """A progress bar as text."""
    full = round(width * done / max(total, 1))
    return f"[{'█' * full}{'·' * (width - full)}] {done} of {total} points"


def hint(task: Exercise) -> str:
    """One hint more than last time; all that were shown come along."""
    state = _state()
    shown = min(state.get(task.id, 0) + 1, len(task.hints))
    with replacing(_state_file()) as out:
        out.write(json.dumps(state | {task.id: shown}).encode())
    lines = [f"{i} of {len(task.hints)}: {text}" for i, text in enumerate(task.hints[:shown], 1)]
    if shown == len(task.hints):
        lines.append(f"That was the last one. `python -m exercises solution {task.id} --give-up` shows the answer.")
    return "\n".join(lines)


def _state_file() -> Path:
    return manifest.FOLDER / ".hints.json"


def _state() -> dict[str, int]:
    try:
        found = json.loads(_state_file().read_text(encoding="utf-8"))
        return {k: v for k, v in found.items() if isinstance(v, int)}
    except (OSError, ValueError, AttributeError):
        return {}  # hints already shown are no loss


def solution(task: Exercise) -> str:
    """The reference's own lines, and where they stand."""
    function = inspect.unwrap(task.answer)
    lines, start = inspect.getsourcelines(function)
    file = Path(inspect.getsourcefile(function)).resolve()
    head = f"# {'/'.join(file.parts[-3:])}, from line {start}; chapter {task.chapter:02} explains it"
    return f"{head}\n\n{textwrap.dedent(''.join(lines))}"


def reset(task: Exercise) -> str:
    """Set one function back to its skeleton; the file as it was is kept beside, under backups/."""
    path = task.skeleton
    text = _text(path)
    fresh = skeletons.function(task)
    copy = manifest.FOLDER / "backups" / f"{path.stem}-{time.strftime('%Y%m%d-%H%M%S')}-{task.id}.py"
    copy.parent.mkdir(exist_ok=True)
    with replacing(copy) as out:
        out.write(text.encode())
    with replacing(path) as out:
        out.write(_replaced(text, task, fresh).encode())
    return f"{task.id} is as it was at the beginning; your version is kept in exercises/backups/{copy.name}"


def _replaced(text: str, task: Exercise, fresh: str) -> str:
    try:
        node = next(n for n in reversed(ast.parse(text).body) if getattr(n, "name", None) == task.id)
    except SyntaxError as error:
        raise ConfigError(
            f"exercises/{task.skeleton.name} cannot be read (line {error.lineno}: {error.msg}); mend that line first, or "
            "remove the file and run `python -m exercises skeletons`. A copy was kept in exercises/backups"
        ) from error
    except StopIteration:
        return text.rstrip("\n") + "\n\n\n" + fresh
    lines = text.splitlines(keepends=True)
    first = min([node.lineno, *(d.lineno for d in node.decorator_list)]) - 1
    return "".join([*lines[:first], fresh, *lines[node.end_lineno :]])


def changed_files(known: dict[Path, float]) -> list[Path]:
    """The skeletons whose time of change is not the known one; notes the new ones. By looking, so it works everywhere."""
    changed = []
    for chapter in skeletons.chapters():
        path = skeletons.path(chapter)
        now = path.stat().st_mtime if path.exists() else 0.0
        if known.setdefault(path, now) != now:
            known[path] = now
            changed.append(path)
    return changed


def tasks_of(chapter: int) -> list[Exercise]:
    return [task for task in exercises().values() if task.chapter == chapter]
