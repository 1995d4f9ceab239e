"""Makes exercises/chNN.py: of each exercise the reference's signature and docstring, and nothing else.

An exercise that repairs a listing gets the listing, which runs and is wrong.
"""

import ast
import inspect
import textwrap
from collections.abc import Callable
from pathlib import Path

from exercises.manifest import FOLDER, Exercise, exercises
from minivit.interop.safetensors import replacing

_HEAD = '''"""Exercises of chapter {number:02}. Fill them in, then: python -m exercises check {first}

{summary}

Made from manifest.toml by `python -m exercises skeletons`.
"""

import numpy as np

import minivit as mv
'''


def skeleton(chapter: int) -> str:
    """The text of exercises/chNN.py."""
    tasks = [task for task in exercises().values() if task.chapter == chapter]
    summary = "\n".join(f"{'★' * task.stars} {task.id}, {task.minutes} minutes: {task.title}" for task in tasks)
    parts = [_HEAD.format(number=chapter, first=tasks[0].id, summary=summary)]
    return "\n\n".join([*parts, *(function(task) for task in tasks)])


def function(task: Exercise) -> str:
    if task.repairs:
        source = textwrap.dedent(inspect.getsource(getattr(task.workshop, f"listing_{task.id}")))
        return source.replace(f"def listing_{task.id}(", f"def {task.id}(", 1)
    node = _definition(task.answer)
    for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs):
        argument.annotation = None  # the docstring says what they are, and the file needs no more imports
    doc = textwrap.indent(inspect.getdoc(task.answer), "    ").strip()
    ending = "\n    " if "\n" in doc else ""
    return f'def {task.id}({ast.unparse(node.args)}):\n    """{doc}{ending}"""\n    raise NotImplementedError\n'


def _definition(function: Callable) -> ast.FunctionDef:
    return ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]


def chapters() -> list[int]:
    """The chapters that have exercises."""
    return sorted({task.chapter for task in exercises().values()})


def path(chapter: int) -> Path:
    return FOLDER / f"ch{chapter:02}.py"


def solved(file: Path) -> list[str]:
    """The exercises in a skeleton whose body is no longer the one that was made."""
    chapter = int(file.stem.removeprefix("ch"))
    fresh, now = (_bodies(text) for text in (skeleton(chapter), file.read_text(encoding="utf-8")))
    return [name for name in fresh if name not in now or fresh[name] != now[name]]


def _bodies(text: str) -> dict[str, str]:
    """Each function's statements without its docstring."""
    functions = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]
    return {f.name: "\n".join(map(ast.unparse, f.body[ast.get_docstring(f) is not None :])) for f in functions}


def write(chapter: int, *, overwrite: bool = False) -> str:
    """Write one skeleton and say what was done; what a reader has solved is kept unless `overwrite`."""
    file, text = path(chapter), skeleton(chapter)
    if file.exists() and file.read_text(encoding="utf-8") == text:
        return f"{file.name}: unchanged"
    if file.exists() and not overwrite and (mine := solved(file)):
        return f"{file.name}: kept, because it differs in {', '.join(mine)}; --overwrite replaces it"
    with replacing(file) as out:
        out.write(text.encode())
    return f"{file.name}: written"
