"""What every chapter must pass: each gate takes a chapter and returns what it found wrong, as sentences.

`python -m scripts.book --check 01` prints them; tests/book holds them, and plants faults to see each gate find them.
"""

import ast
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import nbformat

import minivit
from exercises import manifest
from scripts import book

GIVEN = {"viz", "data"}  # tools, not lessons: every chapter may use them; so may it name any of the errors
EXEMPT_FROM_ORDER = {"00_start"}  # it shows the finished thing first
MOST_LINES, MOST_COLUMNS = 15, 90  # of a code cell
MOST_WORDS_BETWEEN = 150  # without something to run or see
WORDS, CELLS = (1800, 2800), (12, 20)  # of a chapter; cells of code, not counting those for the reader to complete
MOST_ALT_WORDS = 60
NEVER = re.compile(r"\b(simply|just|obviously)\b", re.IGNORECASE)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
CLOCKS = {"perf_counter", "process_time", "monotonic", "thread_time", "timeit", "time", "time_ns", "perf_counter_ns"}
TIMED = re.compile(r"Wall time|CPU times|\d\s*(?:ns|µs|us|ms) ±|± ?\d+(?:\.\d+)?\s*(?:ns|µs|us|ms|s)\b")


def committed(path: Path) -> nbformat.NotebookNode:
    """The notebook of a chapter as it lies in book/."""
    return nbformat.read(book.BOOK / f"{path.stem}.ipynb", as_version=4)


def written_chapters() -> list[Path]:
    """The scripts whose notebook was made; the others are still being written."""
    return [path for path in book.sources() if (book.BOOK / f"{path.stem}.ipynb").exists()]


def code_cells(notebook: nbformat.NotebookNode) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tags(cell: nbformat.NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def _first_line(cell: nbformat.NotebookNode) -> str:
    return next((line for line in cell.source.splitlines() if line.strip()), "(empty)")[:60]


# --- the notebook is the source, executed -----------------------------------------------------------------------------


def drift(path: Path, notebook: nbformat.NotebookNode) -> Iterator[str]:
    """The notebook holds the cells of the source."""
    fresh = book.notebook(path)
    for i, (new, old) in enumerate(zip(fresh.cells, notebook.cells, strict=False)):
        if (new.cell_type, new.source, new.metadata, new.id) != (old.cell_type, old.source, old.metadata, old.id):
            yield f"cell {i} is not that of the source ({_first_line(new)}); run: python -m scripts.book {path.stem}"
            return
    if len(fresh.cells) != len(notebook.cells):
        yield f"{len(notebook.cells)} cells, the source has {len(fresh.cells)}; run: python -m scripts.book {path.stem}"
    elif fresh.metadata != notebook.metadata:
        yield f"its metadata are not those of the source; run: python -m scripts.book {path.stem}"


def executed(path: Path, notebook: nbformat.NotebookNode) -> Iterator[str]:
    """Every code cell was executed, in order, without an error and without a warning."""
    for i, cell in enumerate(code_cells(notebook), start=1):
        if cell.execution_count != i:
            yield f"code cell {i} ({_first_line(cell)}) has execution count {cell.execution_count}, not {i}"
        for output in cell.outputs:
            if output.output_type == "error":
                yield f"code cell {i} ({_first_line(cell)}) ends in {output.ename}; a break cell catches and prints"
            elif output.output_type == "stream" and output.name == "stderr":
                yield f"code cell {i} ({_first_line(cell)}) writes to stderr: {output.text.strip()[:80]}"


def no_timings(path: Path, notebook: nbformat.NotebookNode) -> Iterator[str]:
    """No cell prints what a clock said: it would differ each time."""
    for cell in code_cells(notebook):
        words = " ".join(
            output.get("text", "") or output.get("data", {}).get("text/plain", "") for output in cell.outputs
        )
        clock = re.search(r"^\s*%{1,2}time", cell.source, re.MULTILINE) or _names(cell.source) & CLOCKS
        if TIMED.search(words) or (clock and re.search(r"\d", words)):
            yield f"prints a timing: {_first_line(cell)}"


def _names(source: str) -> set[str]:
    """Every attribute and imported name in a cell."""
    tree = ast.parse(re.sub(r"^(\s*)[%!].*$", r"\1pass", source, flags=re.MULTILINE))
    found = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return found | {a.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for a in node.names}


# --- only what was built ----------------------------------------------------------------------------------------------


def library_names(source: str) -> set[str]:
    """What a cell takes from minivit: `mv.nn.Attention(x)` -> {"nn.Attention"}, `from minivit.nn import Module` too."""
    tree, found = ast.parse(source), set()
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and id(node) not in inner:
            dotted = ast.unparse(node)
            if re.fullmatch(r"(mv|minivit)(\.\w+)+", dotted):
                found.add(dotted.partition(".")[2])
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "minivit":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name.partition(".")[2] for a in node.names if a.name.startswith("minivit.")}
    return found


@cache
def built_before(stem: str) -> frozenset[str]:
    """Every name that the chapters up to and including this one build."""
    names: set[str] = set(GIVEN)
    for path in book.sources():
        if path.stem <= stem and path.stem not in EXEMPT_FROM_ORDER:
            names |= set(book.front_matter(path)["builds"])
    return frozenset(names)


def _allowed(name: str, built: frozenset[str]) -> bool:
    parts = name.split(".")
    prefixes = {".".join(parts[: i + 1]) for i in range(len(parts))}
    lone = {entry.rpartition(".")[2] for entry in built}  # `from minivit.nn import Attention` for nn.Attention
    return bool(prefixes & built) or parts[0] in lone or parts[0].endswith("Error") or name == "__version__"


def order(path: Path, notebook: nbformat.NotebookNode) -> Iterator[str]:
    """Only names that this chapter or an earlier one builds are used; what a chapter builds exists, and it uses it."""
    if path.stem in EXEMPT_FROM_ORDER:
        return
    used = set().union(*(library_names(cell.source) for cell in code_cells(notebook)))
    for name in sorted(used):
        if not _allowed(name, built_before(path.stem)):
            yield f"uses mv.{name}, which no chapter up to here builds (front matter: builds)"
    text = "\n".join(cell.source for cell in notebook.cells)
    for name in book.front_matter(path)["builds"]:
        if not _resolves(name):
            yield f"builds mv.{name}, which minivit does not have"
        elif not re.search(rf"\b{re.escape(name.rpartition('.')[2])}\b", text):
            yield f"says that it builds mv.{name}, but never names it"


def _resolves(dotted: str) -> bool:
    thing = minivit
    for part in dotted.split("."):
        thing = getattr(thing, part, None)
    return thing is not None


# --- what is read ------------------------------------------------------------------------------------------------------


def alt_text(path: Path, notebook: nbformat.NotebookNode) -> Iterator[str]:
    """Every picture has words with numbers in them, at most 60, that do not begin by saying that it is a picture."""
    for cell in code_cells(notebook):
        for output in cell.outputs:
            data = output.get("data", {})
            if not any(kind.startswith("image/") for kind in data):
                continue
            words = data.get("text/plain", "")
            if not words or words.startswith("<"):
                yield f"a figure without alt text: {_first_line(cell)}; show it with mv.viz.show(fig, alt=…)"
            elif len(words.split()) > MOST_ALT_WORDS or re.match(r"(an? )?(image|picture) of", words, re.IGNORECASE):
                yield f"alt text must have at most {MOST_ALT_WORDS} words and not begin with 'image of': {words[:60]}"
            elif len(re.findall(r"\d+(?:\.\d+)?", words)) < 2:
                yield f"alt text must give the deciding numbers, computed: {words[:60]}"
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and re.search(r"!\[\s*\]\(", cell.source):
            yield f"a picture without alt text: {_first_line(cell)}"


def links(path: Path, notebook: nbformat.NotebookNode) -> Iterator[str]:
    """Links inside the repository resolve: files, `file.py#function`, `chapter.ipynb#heading`."""
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            continue
        for match in LINK.finditer(_without_code(cell.source)):
            target = unquote(match[1] or match[2])
            if re.match(r"[a-z]+:", target):
                continue
            place, _, fragment = target.partition("#")
            if (fault := _missing(path, place, fragment)) is not None:
                yield f"the link {target} leads nowhere: {fault}"


def _missing(path: Path, place: str, fragment: str) -> str | None:
    file = (book.BOOK / place).resolve() if place else book.BOOK / f"{path.stem}.ipynb"
    if file.parent == book.BOOK and file.suffix == ".ipynb":
        source = book.SOURCES / f"{file.stem}.py"
        if not source.exists():  # a chapter that is planned, and will be held to this when it is there
            return None if file.stem in book.CHAPTERS else "no such chapter"
        if not fragment:
            return None
        headings = [h for c in book.notebook(source).cells if c.cell_type == "markdown" for h in _headings(c.source)]
        return None if fragment in headings else f"{file.stem} has no such heading; it has {', '.join(headings)}"
    if not file.is_relative_to(book.ROOT):
        return "outside the repository"
    if not file.exists():
        return "no such file"
    if fragment and file.suffix == ".py" and fragment not in _definitions(file):
        return f"{file.name} defines no {fragment}"
    return None


def _headings(markdown: str) -> list[str]:
    """The anchors of the headings, as Jupyter makes them: spaces become hyphens."""
    return [m[1].strip().replace(" ", "-") for m in re.finditer(r"^#{1,4} (.+)$", markdown, re.MULTILINE)]


@cache
def _definitions(file: Path) -> frozenset[str]:
    """Functions, classes, their methods as `Class.method`, and constants of a Python file."""
    found = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
            found |= {f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return frozenset(found)


def _without_code(markdown: str) -> str:
    markdown = re.sub(r"^```.*?^```", "", markdown, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "`code`", markdown)


def _words(markdown: str) -> int:
    """Words of prose: no code, formulas, tables or targets of links."""
    text = _without_code(markdown)
    text = re.sub(r"\$\$.*?\$\$|\$[^$\n]+\$", " formula ", text, flags=re.DOTALL)
    text = re.sub(r"^\s*\|.*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    return len(re.findall(r"[\w’'-]+", text))


# --- style -------------------------------------------------------------------------------------------------------------


def style(path: Path, notebook: nbformat.NotebookNode) -> Iterator[str]:
    """Short cells with a reason between them; no long stretch without something to run; none of the words we avoid."""
    since, cells = 0, notebook.cells
    last_code = max((i for i, cell in enumerate(cells) if cell.cell_type == "code"), default=0)
    for i, cell in enumerate(cells):
        if cell.cell_type == "markdown":
            since += _words(cell.source) if i else 0  # the opening is the same everywhere
            if since > MOST_WORDS_BETWEEN and i < last_code:
                yield f"{since} words without something to run or see, up to: {_first_line(cell)}"
                since = 0
            if hit := NEVER.search(_without_code(cell.source)):
                yield f"the word {hit[0]!r}: {_first_line(cell)}"
            continue
        since = 0
        if "colab" in tags(cell):
            continue
        lines = cell.source.splitlines()
        if len([line for line in lines if line.strip()]) > MOST_LINES:
            yield f"a code cell of more than {MOST_LINES} lines: {_first_line(cell)}"
        if longest := [line for line in lines if len(line) > MOST_COLUMNS]:
            yield f"a line of code of more than {MOST_COLUMNS} columns: {longest[0].strip()[:60]}"
        if i and cells[i - 1].cell_type == "code":
            yield f"two code cells without a reason between them: {_first_line(cell)}"
        if "hide-output" in tags(cell) and "?" not in cells[i - 1].source:
            yield f"a folded outcome without a question above it: {_first_line(cell)}"
        if "hide-output" in tags(cell) and not cell.outputs:
            yield f"a folded outcome without an outcome: {_first_line(cell)}"
        if "break" in tags(cell) and ("except" not in cell.source or not cell.outputs):
            yield f"a break cell catches an error and prints its type and message: {_first_line(cell)}"


def measure(notebook: nbformat.NotebookNode) -> dict[str, int]:
    """Words, code cells (without those for the reader), lines of code, figures, predictions, break cells."""
    code = code_cells(notebook)
    ours = [cell for cell in code if not {"your-turn", "colab"} & {*tags(cell)}]
    return {
        "words": sum(_words(cell.source) for cell in notebook.cells[1:] if cell.cell_type == "markdown"),
        "cells": len(ours),
        "lines": sum(len([line for line in cell.source.splitlines() if line.strip()]) for cell in ours),
        "figures": sum("image/png" in output.get("data", {}) for cell in code for output in cell.outputs),
        "predictions": sum("hide-output" in tags(cell) for cell in code),
        "breaks": sum("break" in tags(cell) for cell in code),
    }


def size(path: Path, notebook: nbformat.NotebookNode) -> Iterator[str]:
    """A chapter is as long as a sitting, has pictures, asks for predictions, and breaks something."""
    found = measure(notebook)
    bounds = {"words": WORDS, "cells": CELLS, "figures": (3, 6), "predictions": (3, 5), "breaks": (1, 4)}
    if path.stem in EXEMPT_FROM_ORDER:
        bounds = {"words": (0, WORDS[1]), "figures": (1, 6)}
    for what, (least, most) in bounds.items():
        if not least <= found[what] <= most:
            yield f"{found[what]} {what}, not {least} to {most}"


def homework(path: Path, notebook: nbformat.NotebookNode) -> Iterator[str]:
    """The exercises that a chapter names are those of the manifest, and each is checked in a cell."""
    named = book.front_matter(path)["exercises"]
    code = "\n".join(cell.source for cell in code_cells(notebook))
    known = manifest.exercises()
    for name in named:
        if name not in known:
            yield f"exercise {name!r} is not in exercises/manifest.toml"
        elif known[name].chapter != int(path.stem[:2]):
            yield f"exercise {name!r} belongs to chapter {known[name].chapter:02}"
        elif not re.search(rf"check\(\s*[\"']{name}[\"']", code):
            yield f"exercise {name!r} has no cell with check({name!r}, …)"
    for name in re.findall(r"check\(\s*[\"'](\w+)[\"']", code):
        if name not in named:
            yield f"check({name!r}, …), but the front matter does not name it"


GATES: dict[str, Callable[[Path, nbformat.NotebookNode], Iterator[str]]] = {
    gate.__name__: gate
    for gate in (drift, executed, no_timings, order, alt_text, links, style, size, homework)
}  # fmt: skip


def faults(path: Path) -> list[str]:
    """All that the gates find in one chapter."""
    try:
        notebook = committed(path)
    except FileNotFoundError:
        return [f"drift: book/{path.stem}.ipynb was never made; run: python -m scripts.book {path.stem}"]
    return [f"{name}: {fault}" for name, gate in GATES.items() for fault in gate(path, notebook)]


def counts(path: Path) -> str:
    """How long a chapter is, as one line."""
    found = measure(committed(path))
    return f"{path.stem}: " + ", ".join(f"{n} {what}" for what, n in found.items())
