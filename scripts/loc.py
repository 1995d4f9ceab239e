"""The line budget: code lines (no blanks, comments or docstrings) of each floor; the reading path stays under 2,200.

`python -m scripts.loc` prints the table and fails where the budget is exceeded.
"""

import ast
import io
import sys
import tokenize
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent / "minivit"
BUDGET = 2200
OFF_THE_PATH = {"engine/kernels.py", "engine/cublas.py", "engine/debug.py", "engine/profile.py", "engine/errors.py"}


def code_lines(path: Path) -> int:
    """Lines of a Python file that hold code: neither blank, nor comment, nor docstring."""
    source = path.read_text(encoding="utf-8")
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT):
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            lines -= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return len([n for n in lines if source.splitlines()[n - 1 : n] != [""]])


def main() -> int:
    """Print the table; 1 where the reading path is over its budget."""
    counts = {path.relative_to(ROOT).as_posix(): code_lines(path) for path in sorted(ROOT.rglob("*.py"))}
    path = {
        name: n
        for name, n in counts.items()
        if (name.startswith(("engine/", "nn/")) and name not in OFF_THE_PATH) or name == "models/vit.py"
    }
    for floor in sorted({name.partition("/")[0] for name in counts}):
        inside = {name: n for name, n in counts.items() if name.partition("/")[0] == floor}
        print(f"{sum(inside.values()):6}  {floor}")
        if len(inside) > 1:
            for name, n in inside.items():
                print(f"{n:12}  {name}{'  *' if name in path else ''}")
    total = sum(path.values())
    print(f"\nreading path (*): {total} lines of code, budget {BUDGET}")
    return int(total > BUDGET)


if __name__ == "__main__":
    sys.exit(main())
