"""manifest.toml as Python: what exercises there are, and where the reference of each one is."""

import importlib
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

    @property
    def workshop(self) -> Any:
        """The module with this chapter's inputs and answers."""
        return importlib.import_module(f"exercises.workshop.ch{self.chapter:02}")

    @property
    def answer(self) -> Callable:
        """The reference: a function of the library, or the answer in the workshop."""
        if not self.reference:
            return getattr(self.workshop, self.id)
        module, _, name = self.reference.partition(":")
        return getattr(importlib.import_module(module), name)

    @property
    def forbidden(self) -> tuple[str, ...]:
        """Functions of the library that are this exercise's answer; in graded homework they do not answer."""
        return (*self.forbids, *filter(None, [self.reference.partition(":")[2]]))

    @property
    def skeleton(self) -> Path:
        """The file that the reader fills in."""
        return FOLDER / f"ch{self.chapter:02}.py"


@cache
def exercises() -> dict[str, Exercise]:
    """Every exercise by id, in the order of the book. Raises ConfigError for a key that the manifest does not explain."""
    tables = tomllib.loads((FOLDER / "manifest.toml").read_text(encoding="utf-8"))
    try:
        return {
            name: Exercise(id=name, **table | {"hints": tuple(table.get("hints", ()))})
            for name, table in tables.items()
        }
    except TypeError as error:
        raise ConfigError(f"exercises/manifest.toml: {error}") from error


def exercise(name: str) -> Exercise:
    """One exercise. Raises ConfigError for a name that the manifest does not have."""
    found = exercises().get(name)
    if found is None:
        raise ConfigError(
            f"there is no exercise {name!r}{did_you_mean(name, exercises())}; `python -m exercises list` shows all"
        )
    return found
