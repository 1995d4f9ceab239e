"""The usual mistakes: each a wrong solution as students write it, and the sentence that it is answered with.

    @mistake("patchify", "Every pixel arrived, but patch 0 begins with a whole image row. Which axis …?")
    def reshape_only(images, patch_size): …

They are recognised by what they do, not by how they are written: whoever's function returns the same on every input has
made the same mistake. The sentence says what can be seen, then what to suspect, and asks; it may hold {found}, {expected}
and the arguments by name, as `str.format` reads them, or be a function of (found, expected, **arguments).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from exercises.manifest import exercise, load_mistakes


@dataclass(frozen=True)
class Mistake:
    """A wrong solution of an exercise, and what to tell whoever makes it."""

    id: str
    function: Callable
    words: str | Callable[..., str]
    name: str

    def sentence(self, found: Any, expected: Any, arguments: dict[str, Any]) -> str:
        """What to say, with what was seen in this call."""
        if callable(self.words):
            return self.words(found, expected, **arguments)
        return self.words.format(found=found, expected=expected, **arguments)


_all: dict[str, list[Mistake]] = {}


def mistake(id: str, words: str | Callable[..., str], name: str = "") -> Callable[[Callable], Callable]:
    """Enters the decorated function as a usual mistake of the exercise `id`."""

    def enter(function: Callable) -> Callable:
        _all.setdefault(id, []).append(Mistake(id, function, words, name or function.__name__))
        return function

    return enter


@cache
def mistakes(id: str) -> tuple[Mistake, ...]:
    """The usual mistakes of an exercise. Raises ConfigError for an unknown exercise."""
    load_mistakes(exercise(id))
    return tuple(_all.get(id, ()))
