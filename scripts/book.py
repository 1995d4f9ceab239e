"""From book/src/NN_name.py to book/NN_name.ipynb: read, execute, normalise, write. `python -m scripts.book [01 …]`.

A chapter is written as a script in jupytext's percent format, which reads well in a diff; the notebook is generated. The
script begins with front matter:

    # ---
    # jupyter:
    #   minivit:
    #     title: Images are arrays
    #     question: What does a computer see?
    #     here: [pixels]                       the stages of `STAGES` that this chapter is about; [] for none
    #     minutes: 35                          to read and run
    #     exercises: [shapes, tiles_view]      ids of exercises/manifest.toml
    #     builds: [patchify, nn.PatchEmbed]    names after `mv.` that later chapters may use from here on
    # ---

From it the first cell is made: title, question, and the strip that says where we are and in what shape. Then follow
`# %% [markdown]` and `# %%` cells. Tags (`# %% tags=["hide-output"]`) say what a code cell is for:

    hide-output   the outcome of a prediction: folded until it is opened; the Markdown cell above asks
    break         fails on purpose; it catches, and prints type and message
    check         compares the reader's version with minivit
    your-turn     for the reader to complete; it runs as it stands

An executed chapter is byte for byte the same each time on one machine: the ids of its cells are hashes of their source,
times and versions are left out, and lines printed in two pieces are joined.
"""

import argparse
import hashlib
import os
import sys
import tomllib
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from minivit.interop.safetensors import replacing

ROOT = Path(__file__).resolve().parent.parent
BOOK = ROOT / "book"
SOURCES = BOOK / "src"
CHAPTERS = (
    "00_start", "01_images", "02_gradients", "03_tensors", "04_classifier", "05_patches", "06_attention", "07_heads",
    "08_block", "09_vit", "10_training", "11_faster", "17_real_weights",
)  # fmt: skip
STAGES = {  # from pixels to logits and back: what there is at each stage, and in what shape
    "pixels": "(B, H, W, C)",
    "patches": "(B, N, P·P·C)",
    "tokens": "(B, T, D)",
    "attention": "(B, heads, T, T)",
    "blocks": "(B, T, D)",
    "class token": "(B, D)",
    "logits": "(B, K)",
    "loss": "()",
}
GRADIENTS = "gradients"  # a stage of its own: the way back
TAGS = {"hide-output", "break", "check", "your-turn"}
COLAB = """\
import sys

if "google.colab" in sys.modules:  # elsewhere this cell does nothing
    get_ipython().system("git clone -q --depth 1 {repository} minivit && pip install -q ./minivit")
    get_ipython().run_line_magic("cd", "minivit/book")"""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # chapters are run again two at a time
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def sources(names: list[str] | None = None) -> list[Path]:
    """The chapters' scripts in order: all, or those whose names begin with one of `names`. Raises SystemExit for none."""
    found = sorted(SOURCES.glob("[0-9][0-9]_*.py"))
    if not names:
        return found
    for name in names:
        if not any(path.stem.startswith(name) for path in found):
            raise SystemExit(f"book: no chapter begins with {name!r}; there are {', '.join(p.stem for p in found)}")
    return [path for path in found if path.stem.startswith(tuple(names))]


def front_matter(path: Path) -> dict[str, Any]:
    """What a chapter says of itself. Raises SystemExit where a key is missing, unknown or of the wrong kind."""
    about = dict(jupytext.read(path, fmt="py:percent").metadata.get("minivit", {}))
    kinds = {"title": str, "question": str, "here": list, "minutes": int, "exercises": list, "builds": list}
    wrong = [key for key, kind in kinds.items() if not isinstance(about.get(key), kind)]
    wrong += [key for key in about if key not in kinds]
    wrong += [stage for stage in about.get("here", []) if stage not in (*STAGES, GRADIENTS)]
    if wrong:
        raise SystemExit(f"{path.name}: front matter: {', '.join(wrong)} missing, misspelt or of the wrong kind")
    return about


def published() -> dict[str, str]:
    """Where the book is published, from book/site.toml: `repository` ("" for nowhere yet) and `branch`."""
    return tomllib.loads((ROOT / "book" / "site.toml").read_text(encoding="utf-8"))


def strip(here: list[str]) -> str:
    """Where we are between pixels and logits, and in what shape; the chapter's own stages in bold."""
    parts = [f"**▸ {name} `{shape}`**" if name in here else f"{name} `{shape}`" for name, shape in STAGES.items()]
    line = " → ".join(parts)
    return line + (" ← **◂ gradients, the way back**" if GRADIENTS in here else "")


def opening(path: Path) -> str:
    """The first cell of a chapter: title, question, strip, reading time, exercises."""
    about, number = front_matter(path), path.stem[:2]
    count = len(about["exercises"])
    homework = f"[{count} exercise{'s' if count > 1 else ''}](../exercises/ch{number}.py)" if count else "no exercises"
    place = published()
    colab = place["repository"].replace("https://github.com/", "https://colab.research.google.com/github/")
    colab = f" [Open in Colab]({colab}/blob/{place['branch']}/book/{path.stem}.ipynb)." if colab else ""
    return (
        f"# {number} · {about['title']}\n\n*{about['question']}*\n\n{strip(about['here'])}\n\n"
        f"About {about['minutes']} minutes, {homework}.{colab}"
    )


def notebook(path: Path) -> nbformat.NotebookNode:
    """A chapter's script as a notebook that was not executed yet, normalised. Raises SystemExit for an unknown tag."""
    read = jupytext.read(path, fmt="py:percent")
    cells = [nbformat.v4.new_markdown_cell(opening(path))]
    if repository := published()["repository"]:
        tags = {"tags": ["colab", "remove-cell"]}
        cells.append(nbformat.v4.new_code_cell(COLAB.format(repository=repository), metadata=tags))
    for cell in read.cells:
        tags = list(cell.metadata.get("tags", []))
        keys = [key for key in cell.metadata if key != "tags" and not key.startswith("lines_to_")]  # jupytext's own
        if unknown := keys + [tag for tag in tags if tag not in TAGS]:
            raise SystemExit(f"{path.name}: unknown cell metadata or tag {', '.join(unknown)}:\n{cell.source}")
        new = nbformat.v4.new_code_cell if cell.cell_type == "code" else nbformat.v4.new_markdown_cell
        metadata = {"tags": tags} if tags else {}
        if "hide-output" in tags:
            metadata["jupyter"] = {"outputs_hidden": True}
        cells.append(new(cell.source, metadata=metadata))
    seen: dict[str, int] = {}
    for cell in cells:
        digest = hashlib.sha1(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:12]
        seen[digest] = seen.get(digest, 0) + 1
        cell.id = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"
    metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}, "minivit": front_matter(path)}
    return nbformat.v4.new_notebook(cells=cells, metadata=metadata)


def execute(book: nbformat.NotebookNode, folder: Path = BOOK) -> nbformat.NotebookNode:
    """The notebook with its outputs, computed by a fresh kernel in `folder`. Raises CellExecutionError."""
    NotebookClient(
        book,
        timeout=600,
        kernel_name=KERNEL["name"],
        resources={"metadata": {"path": str(folder)}},
        extra_arguments=["--IPKernelApp.log_level=ERROR"],
    ).execute(env=os.environ | ONE_THREAD)
    book.metadata["kernelspec"], book.metadata["language_info"] = KERNEL, {"name": "python"}
    for cell in book.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = _joined(cell.outputs)
    return book


def _joined(outputs: list) -> list:
    """Neighbouring pieces of one stream as one: where they are cut is a matter of chance."""
    joined: list = []
    for output in outputs:
        last = joined[-1] if joined else None
        if last is not None and output.output_type == last.output_type == "stream" and output.name == last.name:
            last.text += output.text
        else:
            joined.append(output)
    return joined


def written(book: nbformat.NotebookNode) -> bytes:
    """The file of a notebook."""
    nbformat.validate(book)
    return (nbformat.writes(book) + "\n").encode()


def build(path: Path) -> bool:
    """Execute one chapter and write its notebook; says whether the file changed. Raises CellExecutionError."""
    target = BOOK / f"{path.stem}.ipynb"
    content = written(execute(notebook(path)))
    if target.exists() and target.read_bytes() == content:
        return False
    with replacing(target) as file:
        file.write(content)
    return True


def main(arguments: list[str] | None = None) -> int:
    """Build the chapters asked for, then say what the gates find in them."""
    from scripts import book_gates

    parser = argparse.ArgumentParser(
        prog="python -m scripts.book", description="Execute chapters, write their notebooks."
    )
    parser.add_argument("chapters", nargs="*", help="how their names begin (01, 05_patches); all without")
    parser.add_argument("--check", action="store_true", help="execute nothing; count, and say what the gates find")
    options = parser.parse_args(arguments)
    failed = False
    for path in sources(options.chapters):
        if not options.check:
            try:
                print(f"{path.stem}: {'written' if build(path) else 'unchanged'}", flush=True)
            except CellExecutionError as error:
                print(f"{path.stem}: a cell failed, nothing was written\n{error}", file=sys.stderr)
                failed = True
                continue
        print(book_gates.counts(path))
        faults = book_gates.faults(path)
        failed |= bool(faults)
        for fault in faults:
            print(f"  {fault}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
