"""Every notebook, run again, prints what it says: nbval compares text and the words of figures, cell by cell."""

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import nbformat
import pytest

from scripts import book, book_gates

pytestmark = pytest.mark.slow


def run_again(notebooks: list[Path], report: Path) -> dict[str, list[str]]:
    """For each notebook, by stem, what nbval complains about; two at a time."""
    folder = notebooks[0].parent
    command = [sys.executable, "-m", "pytest", "--nbval", "--nbval-sanitize-with", str(book.BOOK / "sanitize.cfg")]
    command += ["-c", os.devnull, "--rootdir", str(folder), "-p", "no:cacheprovider", "--nbval-cell-timeout", "600"]
    command += ["-n", "2", "--dist", "loadscope", f"--junitxml={report}", *(path.name for path in notebooks)]
    # The kernels start as make book starts them, whatever this process was told about warnings.
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONWARNINGS", "PYTEST_ADDOPTS", "MPLBACKEND")}
    done = subprocess.run(
        command, cwd=folder, env=environment | book.ONE_THREAD, capture_output=True, text=True, check=False
    )
    assert report.exists(), done.stdout[-3000:] + done.stderr[-3000:]
    faults: dict[str, list[str]] = {path.stem: [] for path in notebooks}
    ran = dict.fromkeys(faults, 0)
    for case in ElementTree.parse(report).iter("testcase"):
        stem = case.get("classname", "").partition(".")[0]
        ran[stem] += 1
        faults[stem] += [
            f"{case.get('name')}: {bad.get('message')}\n{bad.text}"
            for tag in ("failure", "error")
            for bad in case.iter(tag)
        ]
    for path in notebooks:
        cells = sum(cell.cell_type == "code" for cell in nbformat.read(path, as_version=4).cells)
        assert ran[path.stem] == cells, (
            f"{path.stem}: {ran[path.stem]} of {cells} cells were run\n{done.stdout[-3000:]}"
        )
    return faults


def test_every_notebook_prints_what_it_says(tmp_path):
    faults = run_again(
        [book.BOOK / f"{path.stem}.ipynb" for path in book_gates.written_chapters()], tmp_path / "report.xml"
    )
    assert not any(faults.values()), "\n\n".join(f"{stem}: {fault}" for stem, all_ in faults.items() for fault in all_)


PLANTED = {  # one change each in the code of chapter 01, whose outputs stay as they are
    "a_number": ("labels = np.array([0.0, 1.0, 3.0, 7.0, 8.0])", "labels = np.array([0.0, 1.0, 3.0, 7.0, 9.0])"),
    "a_text": ("averages 0:", "average 0:"),
    "plotted_data": ("error32 = np.abs(np.cumsum(values) - truth) / truth", "error32 = np.abs(np.cumsum(values) - truth)"),
    "nothing": ("", ""),
}  # fmt: skip


def test_planted_changes_are_caught(tmp_path):
    (tmp_path / "assets").symlink_to(book.BOOK / "assets")
    copies = []
    for name, (old, new) in PLANTED.items():
        notebook = nbformat.read(book.BOOK / "01_images.ipynb", as_version=4)
        hits = [cell for cell in notebook.cells if cell.cell_type == "code" and old and old in cell.source]
        assert len(hits) == bool(old), f"{old!r} is in {len(hits)} cells of chapter 01"
        for cell in hits:
            cell.source = cell.source.replace(old, new)
        copies.append(tmp_path / f"{name}.ipynb")
        nbformat.write(notebook, copies[-1])
    faults = run_again(copies, tmp_path / "report.xml")
    assert {name: len(found) for name, found in faults.items()} == {
        "a_number": 1,
        "a_text": 1,
        "plotted_data": 1,
        "nothing": 0,
    }
    assert "mean squared error" in faults["a_number"][0] and "average 0" in faults["a_text"][0]
    assert "relative error of the running" in faults["plotted_data"][0]
