"""Reads a folder of submissions: a folder, a zip, a script or a notebook for each student. Nothing is unpacked to disk."""

import io
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

from exercises.manifest import exercises
from minivit.engine.errors import ConfigError

KINDS = (".py", ".ipynb")
LARGEST, MOST, DEEPEST = 2_000_000, 300, 12  # bytes of a file, files of a student, folders within folders


@dataclass(frozen=True)
class Submission:
    """What one student handed in: file names with their text, and what could not be read, said in words."""

    student: str
    files: dict[str, str]
    problems: tuple[str, ...] = ()


def read(folder: Path) -> list[Submission]:
    """Every submission in a folder, by name. Raises ConfigError where there is none.

    Links are not followed, and a zip is read in memory, so that no path in it can lead anywhere.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder; give the one that holds a folder, zip or file for each student")
    found = []
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith((".", "__")) or not _wanted(entry):
            continue
        student = entry.stem if entry.is_file() else entry.name
        found.append(_submission(student, entry))
    if not found:
        raise ConfigError(f"{folder} holds no submission: no folder, zip, .py or .ipynb")
    names = [file_name(s.student) for s in found]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise ConfigError(f"{folder} holds two submissions of the same name: {', '.join(twice)}; rename one")
    return found


def one(entry: Path) -> Submission:
    """A folder, zip, script or notebook itself as one student's submission. Raises ConfigError where it is none."""
    entry = entry.resolve()
    if not entry.exists() or not _wanted(entry):
        raise ConfigError(f"{entry} is no folder, zip, .py or .ipynb")
    return _submission(entry.stem if entry.is_file() else entry.name, entry)


def file_name(student: str) -> str:
    """A student's name as the name of a file, without its ending."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in student)[:80].lstrip(".") or "student"


def _wanted(entry: Path) -> bool:
    return entry.is_symlink() or entry.is_dir() or entry.suffix.lower() in (*KINDS, ".zip")


def _submission(student: str, entry: Path) -> Submission:
    if entry.is_symlink():
        return Submission(student, {}, (f"{entry.name} is a link; links are not followed",))
    try:
        if entry.is_dir():
            raw, problems = _of_folder(entry)
        elif entry.suffix.lower() == ".zip":
            raw, problems = _of_zip(entry)
        else:
            raw, problems = _of_file(entry, entry.name)
    except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError, ValueError) as error:
        return Submission(student, {}, (f"{entry.name} cannot be read: {error}",))
    files = {}
    defines = re.compile(r"\bdef\s+(" + "|".join(map(re.escape, exercises())) + r")\b")
    for name, data in raw.items():
        text = data.decode("utf-8", errors="replace").replace("\r\n", "\n")
        if defines.search(text):
            files[name if name not in files else f"{len(files)}-{name}"] = text
    if not files and not problems:
        problems = ["no .py or .ipynb file that defines an exercise"]
    return Submission(student, files, tuple(problems))


def _of_file(path: Path, name: str) -> tuple[dict[str, bytes], list[str]]:
    if path.stat().st_size > LARGEST:
        return {}, [f"{name} is larger than {LARGEST // 10**6} MB"]
    return {name: path.read_bytes()}, []


def _of_folder(folder: Path) -> tuple[dict[str, bytes], list[str]]:
    files: dict[str, bytes] = {}
    problems: list[str] = []
    waiting = [(folder, 0)]
    while waiting:
        here, depth = waiting.pop(0)
        for entry in sorted(here.iterdir()):
            name = entry.relative_to(folder).as_posix()
            if entry.is_symlink():
                problems.append(f"{name} is a link; links are not followed")
            elif entry.is_dir() and depth < DEEPEST and not entry.name.startswith((".", "__")):
                waiting.append((entry, depth + 1))
            elif entry.is_file() and entry.suffix.lower() in KINDS and len(files) < MOST:
                found, said = _of_file(entry, name)
                files |= found
                problems += said
    return files, problems


def _of_zip(path: Path) -> tuple[dict[str, bytes], list[str]]:
    files: dict[str, bytes] = {}
    problems: list[str] = []
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
        for entry in archive.infolist()[: 10 * MOST]:
            name = entry.filename
            parts = name.replace("\\", "/").split("/")
            if entry.is_dir() or not name.lower().endswith(KINDS) or any(p.startswith("__") for p in parts):
                continue
            if entry.external_attr >> 28 == 0xA or ".." in parts or name.startswith("/") or ":" in name:
                problems.append(f"{name!r} leads out of the zip, so it was left out")
            elif entry.file_size > LARGEST or len(files) >= MOST:
                problems.append(f"{name!r} is larger than {LARGEST // 10**6} MB, so it was left out")
            else:
                with archive.open(entry) as file:  # read no more than allowed, whatever the zip says of its size
                    data = file.read(LARGEST + 1)
                if len(data) <= LARGEST:
                    files[name] = data
    return files, problems
