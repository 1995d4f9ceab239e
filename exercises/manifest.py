"""manifest.toml as Python: what exercises there are, and where the reference of each one is."""

import importlib
import importlib.util
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from minivit.engine.errors import ConfigError, did_you_mean

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Exercise:
    """One table of the manifest; its keys are explained there."""

    id: str
    chapter: int
    title: str
    stars: int
    minutes: int
    key: bool = False
    reference: str = ""
    takes: str = "arrays"
    returns: str = ""
    repairs: bool = False
    reveals: bool = True
    draws: bool = False
    points: int = 10
    hints: tuple[str, ...] = ()
    forbids: tuple[str, ...] = ()
    home: str = ""

    @property
    def workshop(self) -> Any:
        """The module with this chapter's inputs and answers."""
        return _file(self.home, "workshop") if self.home else _module(f"exercises.workshop.ch{self.chapter:02}")

    @property
    def answer(self) -> Callable:
        """The reference: a function of the library, or the answer in the workshop."""
        return _answer(self)

    @property
    def forbidden(self) -> tuple[str, ...]:
        """Functions of the library that are this exercise's answer; in graded homework they do not answer."""
        return (*self.forbids, *filter(None, [self.reference.partition(":")[2]]))

    @property
    def skeleton(self) -> Path:
        """The file that the reader fills in."""
        return FOLDER / f"ch{self.chapter:02}.py"


@cache
def _module(name: str) -> Any:
    return importlib.import_module(name)


@cache
def _answer(task: Exercise) -> Callable:
    if not task.reference:
        return getattr(task.workshop, task.id)
    module, _, name = task.reference.partition(":")
    return getattr(_module(module), name)


@cache
def exercises() -> dict[str, Exercise]:
    """Every exercise by id, in the order of the book. Raises ConfigError for a key that the manifest does not explain."""
    return _read(FOLDER / "manifest.toml")


def _read(path: Path, home: str = "") -> dict[str, Exercise]:
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error
    found = {}
    for name, table in tables.items():
        try:
            values = {k: tuple(v) if isinstance(v, list) else v for k, v in table.items()}
            found[name] = Exercise(id=name, **values, home=home)
        except (TypeError, AttributeError) as error:
            raise ConfigError(f"{path}, [{name}]: {error}") from error
    return found


def add(folder: Path) -> None:
    """Add a teacher's own exercises: a folder with manifest.toml, workshop.py and, if wanted, mistakes.py, as here.

    One with the name of an exercise of the book takes its place. Raises ConfigError where the folder does not hold them.
    """
    folder = folder.resolve()
    found = _read(folder / "manifest.toml", str(folder))
    for task in found.values():
        for name in (f"inputs_{task.id}", *([] if task.reference else [task.id])):
            if not hasattr(task.workshop, name):
                raise ConfigError(f"{folder / 'workshop.py'} has no {name}, which [{task.id}] needs")
    exercises().update(found)


@cache
def _file(home: str, name: str) -> Any:
    path = Path(home) / f"{name}.py"
    if not path.is_file():
        raise ConfigError(f"there is no {path}")
    spec = importlib.util.spec_from_file_location(f"exercises.extra.{Path(home).name}.{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load_mistakes(task: Exercise) -> None:
    """Load the usual mistakes of an exercise's chapter; a teacher's own exercises need none."""
    if not task.home:
        _module(f"exercises.mistakes.ch{task.chapter:02}")
    elif (Path(task.home) / "mistakes.py").is_file():
        _file(task.home, "mistakes")


def exercise(name: str) -> Exercise:
    """One exercise. Raises ConfigError for a name that the manifest does not have."""
    found = exercises().get(name)
    if found is None:
        raise ConfigError(
            f"there is no exercise {name!r}{did_you_mean(name, exercises()) or ';'} `python -m exercises list` shows all"
        )
    return found
