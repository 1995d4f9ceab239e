"""Reads what somebody wrote, a script or a notebook, so that one broken function does not take the others with it."""

import ast
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from exercises.calling import OutOfTime, time_limit, told


@dataclass
class Loaded:
    """The functions that a file defines, and for those that it does not, why: {name: what is wrong}; "" is the file."""

    functions: dict[str, Callable] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)

    def why_not(self, name: str, file: str) -> str:
        """Why there is no function of this name."""
        if name in self.problems:
            return self.problems[name]
        general = f"; {self.problems['']}" if "" in self.problems else ""
        close = [mine for mine in self.functions if mine.lower().replace("_", "") == name.lower().replace("_", "")]
        named = f"; there is {close[0]!r}: is that it?" if close else ""
        return f"{file} has no function {name!r}{named}{general}"


def load(text: str, file: str, seconds: float = 5.0) -> Loaded:
    """Run a script, or the definitions of a notebook, statement by statement; what fails is left out and told."""
    if file.endswith(".ipynb"):
        try:
            text = of_notebook(text)
        except ValueError as error:
            return Loaded(problems={"": f"{file} is not a notebook: {error}"})
    loaded, scope = Loaded(), {"__name__": file.removesuffix(".py"), "__file__": file}
    for code, line, names in _statements(text, file, loaded.problems):
        try:
            with time_limit(seconds):
                exec(code, scope)
        except OutOfTime:
            problem = f"line {line} of {file} was still running after {seconds:g} seconds"
        except SystemExit:
            problem = f"line {line} of {file} ends Python (exit or sys.exit)"
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            problem = f"line {line} of {file} stopped with {told(error)}"
        else:
            continue
        for name in names or [""]:
            loaded.problems.setdefault(name, problem)
    loaded.functions = {k: v for k, v in scope.items() if callable(v) and not k.startswith("__")}
    return loaded


def of_notebook(text: str) -> str:
    """What a notebook defines, as a script: imports, functions, classes, assignments. Raises ValueError if it is none."""
    try:
        cells = [c for c in json.loads(text)["cells"] if c["cell_type"] == "code"]
        sources = ["".join(c["source"]) for c in cells]
    except (TypeError, KeyError) as error:
        raise ValueError(f"it lacks {error}") from error
    kept: list[str] = []
    for source in sources:
        plain = re.sub(r"(?m)^[%!].*$", "", source)
        try:
            body = ast.parse(plain).body
        except SyntaxError:
            if re.search(r"(?m)^def ", plain):  # told about when it is run
                kept.append(plain)
            continue
        wanted = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)
        kept += [ast.get_source_segment(plain, node) or "" for node in _decorated(body) if isinstance(node, wanted)]
    return "\n\n".join(kept)


def _decorated(body: list[Any]) -> list[Any]:
    """Statements whose source begins with their first decorator."""
    for node in body:
        decorators = getattr(node, "decorator_list", [])
        if decorators:
            node.lineno = min(d.lineno for d in decorators)
            node.col_offset = 0
    return body


def _statements(text: str, file: str, problems: dict[str, str]) -> list[tuple[Any, int, list[str]]]:
    """Each statement compiled, with its line and the names of what it defines."""
    found = []
    for start, chunk in _chunks(text):
        try:
            tree = ast.parse("\n" * start + chunk, file)
        except (SyntaxError, ValueError) as error:
            line, words = getattr(error, "lineno", start), getattr(error, "msg", str(error))
            for name in re.findall(r"(?m)^(?:def|class)\s+(\w+)", chunk) or [""]:
                problems.setdefault(name, f"Python cannot read line {line} of {file}: {words}")
            continue
        for node in tree.body:
            module = ast.Module([node], type_ignores=[])
            names = [node.name] if hasattr(node, "name") else []
            found.append((compile(module, file, "exec"), node.lineno, names))
    return found


def _chunks(text: str) -> list[tuple[int, str]]:
    """The whole text if Python can read it; else its parts, cut before each definition and import: (first line, part)."""
    try:
        ast.parse(text)
        return [(0, text)]
    except (SyntaxError, ValueError):
        pass
    lines = text.replace("\0", "").splitlines()
    cuts = [0]
    for i, line in enumerate(lines):
        if re.match(r"(def|class|import|from|@)\b|@", line) and not (i and lines[i - 1].startswith("@")):
            cuts.append(i)
    return [(a, "\n".join(lines[a:b])) for a, b in zip(cuts, [*cuts[1:], len(lines)], strict=True) if a < b]
