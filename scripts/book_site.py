"""The book as a static site that asks nothing of any other host: `python -m scripts.book_site`, into build/site/html.

Notebooks become pages; so does each skeleton of exercises, and each file of the library that a chapter links to, with a
place for every function. Sphinx runs with -W: a warning fails. Needs requirements-site.txt, and npm once, for MathJax.
"""

import argparse
import ast
import posixpath
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from urllib.parse import unquote

import nbformat

from exercises import skeletons
from exercises.manifest import exercises
from scripts import book, book_gates

BUILD = book.ROOT / "build" / "site"
LINK = re.compile(r"(?<!!)(\[[^\]]*\])\(([^)\s]+)\)")
MATHJAX = "mathjax@3.2.2"


def label(*parts: str) -> str:
    """The name of a place that pages link to: `label("minivit/nn/patches.py", "patchify")`."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(("code", *parts)).lower()).strip("-")


def code_page(file: str) -> str:
    """The page of a file of the repository, without its ending: minivit/nn/patches.py -> code/minivit-nn-patches-py."""
    return "code/" + re.sub(r"[^A-Za-z0-9_]+", "-", file)


def relinked(markdown: str, linked: set[str]) -> str:
    """A Markdown cell whose links lead to pages of the site; files that it links to are added to `linked`."""

    def leading(match: re.Match) -> str:
        target = unquote(match[2])
        if re.match(r"[a-z]+:", target):
            return match[0]
        place, _, fragment = target.partition("#")
        file = posixpath.normpath(posixpath.join("book", place)) if place else ""
        if file == "" or file.endswith(".ipynb"):
            page = Path(file).stem
            anchor = f"#{slug(fragment)}" if fragment else ""
            return f"{match[1]}({page + '.ipynb' if page else ''}{anchor})" if _there(page) else match[1][1:-1]
        if re.fullmatch(r"exercises/ch\d\d\.py", file):
            return f"{match[1]}(#exercise-{fragment})" if fragment else f"{match[1]}(/{file.removesuffix('.py')}.md)"
        linked.add(file)
        return f"{match[1]}(#{label(file, fragment)})" if fragment else f"{match[1]}(/{code_page(file)}.md)"

    return LINK.sub(leading, markdown)


def _there(page: str) -> bool:
    """Whether a chapter was made; a link to one that is only planned becomes plain words."""
    return not page or (book.BOOK / f"{page}.ipynb").exists()


def slug(heading: str) -> str:
    """The anchor that MyST gives a heading, from the one that Jupyter gives it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def chapter_page(notebook: nbformat.NotebookNode, linked: set[str]) -> nbformat.NotebookNode:
    """A notebook for Sphinx: links rewritten, and the words of each figure as the alt text of its picture."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = relinked(cell.source, linked)
            continue
        words = [o.data["text/plain"] for o in cell.outputs if "image/png" in o.get("data", {})]
        if words:
            cell.metadata["mystnb"] = {"image": {"alt": words[0]}}
    return notebook


def exercise_page(chapter: int) -> str:
    """The exercises of one chapter, as Markdown."""
    functions = {
        node.name: ast.unparse(node)
        for node in ast.parse(skeletons.skeleton(chapter)).body
        if isinstance(node, ast.FunctionDef)
    }
    page = [f"# Exercises {chapter:02}", f"In `exercises/ch{chapter:02}.py`, or in the chapter's notebook."]
    for task in (task for task in exercises().values() if task.chapter == chapter):
        page += [f"(exercise-{task.id})=\n## {task.title}"]
        page += [f"{'★' * task.stars} {task.minutes} minutes. Check it with `python -m exercises check {task.id}`."]
        page += [f"```python\n{functions[task.id]}\n```"]
    return "\n\n".join(page) + "\n"


def library_page(file: str) -> str:
    """A file of the repository as Markdown; of Python, a heading and a place for each function and class."""
    text = (book.ROOT / file).read_text(encoding="utf-8")
    if not file.endswith(".py"):
        kind = {".json": "json", ".toml": "toml", ".md": "markdown"}.get(Path(file).suffix, "text")
        return f"# {file}\n\n````{{code-block}} {kind}\n{text.rstrip()}\n````\n"
    lines, page, done, seen = text.splitlines(), [f"# {file}"], 0, set()
    for node in ast.parse(text).body:
        names = [node.name] if isinstance(node, ast.FunctionDef | ast.ClassDef) else []
        names += [target.id for target in getattr(node, "targets", []) if isinstance(target, ast.Name)]
        if not names:
            continue
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
        page += _listing(lines, done + 1, first - 1)
        inner = [n.name for n in getattr(node, "body", []) if isinstance(n, ast.FunctionDef)]
        public = [n for n in [*names, *(f"{names[0]}.{n}" for n in inner)] if not re.search(r"(^|\.)_", n)]
        places = [place for n in public if (place := label(file, n)) not in seen]
        seen.update(places)
        page += ["\n".join([*(f"({place})=" for place in places), f"## {', '.join(names)}"])]
        page += _listing(lines, first, node.end_lineno)
        done = node.end_lineno
    page += _listing(lines, done + 1, len(lines))
    return "\n\n".join(page) + "\n"


def _listing(lines: list[str], first: int, last: int) -> list[str]:
    """Lines first to last with their numbers, unless they are all blank."""
    while first <= last and not lines[first - 1].strip():
        first += 1
    while first <= last and not lines[last - 1].strip():
        last -= 1
    if first > last:
        return []
    body = "\n".join(lines[first - 1 : last])
    return [f"````{{code-block}} python\n:linenos:\n:lineno-start: {first}\n\n{body}\n````"]


def front_page(chapters: list[Path], pages: list[str]) -> str:
    """The first page: what the book is, its chapters, and the table of contents that Sphinx reads."""
    rows = []
    for path in chapters:
        about = book.front_matter(path)
        rows.append(
            f"| {path.stem[:2]} | [{about['title']}]({path.stem}.ipynb) | {about['question']} | {about['minutes']} min |"
        )
    parts = {
        "Chapters": [*(path.stem for path in chapters), "words"],
        "Exercises": [page for page in pages if page.startswith("exercises/")],
        "The library": [page for page in pages if page.startswith("code/")],
    }
    trees = [
        "\n".join(["```{toctree}", f":caption: {name}", ":hidden:", "", *inside, "```"])
        for name, inside in parts.items()
        if inside
    ]
    return "\n\n".join(
        [
            "# minivit",
            "A book that runs: from arrays to a Vision Transformer that you have built, trained and looked inside, in NumPy on "
            "a laptop. Each chapter asks one question and answers it with code that you can change; what is shown here is what "
            "the code printed.",
            "| | chapter | its question | reading |\n|---|---|---|---|\n" + "\n".join(rows),
            "Each page can be downloaded as a notebook, with the button at its top. To run it, install minivit from its "
            "repository: `pip install -r requirements.txt`, then `jupyter lab book`.",
            "How the exercises work: [for students](exercises/students.md), [for teachers](exercises/teachers.md).",
            *trees,
        ]
    ) + "\n"  # fmt: skip


NO_TERMS = {"Further reading.", "From earlier chapters", "To leave with", "all", "not", "negatives"}
PROPER = {"Adam", "Amdahl's law", "Jacobian"}


def glossary_page(chapters: list[Path]) -> str:
    """Every word that a chapter prints in bold, with the sentence in which it first does so, as Markdown."""
    rows: dict[str, str] = {}
    for path in chapters:
        cells = [cell.source for cell in book_gates.committed(path).cells if cell.cell_type == "markdown"]
        for sentence in (s for cell in cells for s in _sentences(cell)):
            for term in re.findall(r"\*\*([^*]+)\*\*", sentence):
                if "?" in term or term in NO_TERMS or len(term.split()) > 3:
                    continue
                name = term.lower() if term[1:].islower() and term not in PROPER else term
                said = sentence.replace("**", "").replace("|", "\\|")
                rows.setdefault(name, f"| {name} | {said} | [{path.stem[:2]}]({path.stem}.ipynb) |")
    table = ["| word | first used | chapter |", "|---|---|---|", *(rows[name] for name in sorted(rows, key=str.lower))]
    return (
        "# Words\n\nEvery word that the book explains, with the sentence in which it first appears.\n\n"
        + "\n".join(table)
        + "\n"
    )


def _sentences(markdown: str) -> list[str]:
    """The sentences of a cell's paragraphs; links as their words."""
    text = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", markdown)
    paragraphs = [" ".join(p.split()) for p in re.split(r"\n\s*\n", text) if not p.startswith(("#", "|", "```", "$$"))]
    return [sentence for p in paragraphs for sentence in re.split(r"(?<=[.?!])\s+(?=[A-Z*`$(])", p)]


def lay_out(source: Path) -> list[str]:
    """Write what Sphinx reads into `source`; the names of all pages, without endings."""
    chapters, linked = book_gates.written_chapters(), set()
    shutil.rmtree(source, ignore_errors=True)
    for folder in ("_static", "exercises", "code"):
        (source / folder).mkdir(parents=True)
    shutil.copytree(book.BOOK / "assets", source / "assets")
    for name in ("book.css", "book.js"):
        shutil.copy(book.BOOK / "site" / name, source / "_static" / name)
    shutil.copy(book.BOOK / "site" / "conf.py", source)
    shutil.copy(book.BOOK / "site.toml", source)
    pages = ["index"]
    for path in chapters:
        nbformat.write(chapter_page(book_gates.committed(path), linked), source / f"{path.stem}.ipynb")
        pages.append(path.stem)
    numbers = {int(path.stem[:2]) for path in chapters}
    for chapter in (n for n in skeletons.chapters() if n in numbers):
        pages.append(f"exercises/ch{chapter:02}")
        (source / f"{pages[-1]}.md").write_text(exercise_page(chapter), encoding="utf-8")
    for name in ("students", "teachers"):
        pages.append(f"exercises/{name}")
        shutil.copy(book.ROOT / "exercises" / f"{name.upper()}.md", source / f"{pages[-1]}.md")
    for file in sorted(linked):
        pages.append(code_page(file))
        (source / f"{pages[-1]}.md").write_text(library_page(file), encoding="utf-8")
    pages.append("words")
    (source / "words.md").write_text(glossary_page(chapters), encoding="utf-8")
    (source / "index.md").write_text(front_page(chapters, pages), encoding="utf-8")
    return pages


def mathjax(folder: Path) -> None:
    """Copy MathJax into `folder`; it is fetched from npm the first time. Raises SystemExit without npm."""
    store = book.ROOT / "build" / "npm"
    store.mkdir(parents=True, exist_ok=True)
    if not list(store.glob("mathjax-*.tgz")):
        npm = shutil.which("npm")
        if npm is None:
            raise SystemExit("site: npm is needed once, to fetch MathJax")
        subprocess.run([npm, "pack", "--silent", MATHJAX], cwd=store, check=True, stdout=subprocess.DEVNULL)
    with tarfile.open(next(store.glob("mathjax-*.tgz"))) as archive:
        for member in archive.getmembers():
            name = member.name.removeprefix("package/es5/")
            if member.isfile() and (name == "tex-mml-chtml.js" or name.startswith("output/chtml/")):
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.extractfile(member).read())


def sphinx(source: Path, target: Path, builder: str = "html") -> None:
    """Run Sphinx with warnings as errors. Raises SystemExit with what it said."""
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-b",
        builder,
        "-d",
        str(source.parent / f".{builder}"),
    ]
    done = subprocess.run([*command, str(source), str(target)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"site: Sphinx warns\n{done.stdout[-2000:]}{done.stderr[-6000:]}")


def build(folder: Path = BUILD) -> tuple[Path, list[str]]:
    """Lay out and build the site; its folder and its pages. Raises SystemExit where a page is missing or left over."""
    pages = lay_out(folder / "source")
    mathjax(folder / "source" / "_static" / "mathjax")
    html = folder / "html"
    shutil.rmtree(html, ignore_errors=True)
    sphinx(folder / "source", html)
    expected = {f"{page}.html" for page in [*pages, "search"]}
    found = {path.relative_to(html).as_posix() for path in html.rglob("*.html") if "_static" not in path.parts}
    if found != expected:
        raise SystemExit(f"site: pages {sorted(found ^ expected)} are missing or left over")
    for path in book_gates.written_chapters():  # what is downloaded is the notebook itself, with its own links
        shutil.copy(book.BOOK / f"{path.stem}.ipynb", html / "_sources" / f"{path.stem}.ipynb")
    if outside := external(html):
        raise SystemExit(f"site: pages load things from elsewhere: {outside[:5]}")
    return html, pages


def external(html: Path) -> list[str]:
    """Scripts, styles, fonts and pictures that a page would fetch from another host."""
    loads = re.compile(
        r"""<(?:script|img|iframe|source|video)[^>]*\bsrc=["'](?:https?:)?//[^"']+|<link[^>]*\bhref=["'](?:https?:)?//[^"']+"""
    )
    imports = re.compile(r"""(?:@import|url\()\s*["']?(?:https?:)?//[^"')]+""")
    found = [
        f"{page.name}: {hit}"
        for page in html.rglob("*.html")
        for hit in loads.findall(page.read_text(encoding="utf-8"))
    ]
    return found + [
        f"{sheet.name}: {hit}"
        for sheet in html.rglob("*.css")
        for hit in imports.findall(sheet.read_text(encoding="utf-8"))
    ]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.book_site", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--check", action="store_true", help="open every page in Chromium: accessibility, requests, errors"
    )
    parser.add_argument("--pictures", action="store_true", help="and keep pictures of them in build/site/pictures")
    parser.add_argument("--pdf", action="store_true", help="print the whole book into build/site/minivit.pdf")
    options = parser.parse_args(arguments)
    html, pages = build()
    print(f"{len(pages)} pages and the search in {html.relative_to(book.ROOT)}")
    if options.pdf:
        from scripts.book_browser import printed

        sphinx(BUILD / "source", BUILD / "single", "singlehtml")
        print(printed(BUILD / "single" / "index.html", BUILD / "minivit.pdf"))
    if not (options.check or options.pictures):
        return 0
    from scripts.book_browser import check

    faults = check(html, pages, BUILD / "pictures" if options.pictures else None)
    print("\n".join(faults) or "Chromium finds nothing wrong")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
