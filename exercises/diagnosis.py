"""Says in what two results differ, and what in the difference betrays its cause.

A wrong diagnosis is worse than none: a clue is given only where undoing the suspected mistake gives the right values.
"""

import itertools
import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from minivit.engine.tensor import raw

RTOL, ATOL = 1e-5, 1e-6  # another order of the same arithmetic passes, and float32


def close(found: Any, expected: Any) -> np.ndarray:
    """Which entries of two arrays of one shape are equal but for rounding; nan equals nan."""
    whole = np.asarray(expected).dtype.kind in "iu"
    found, expected = np.asarray(found, float), np.asarray(expected, float)
    if whole:  # a count is right or wrong
        return np.isclose(found, expected, rtol=0, atol=1e-6)
    finite = np.abs(expected[np.isfinite(expected)])
    return np.isclose(found, expected, rtol=RTOL, atol=ATOL * max(1e-3, float(finite.max(initial=0))), equal_nan=True)


def equal(found: Any, expected: Any) -> bool:
    """Whether two results are the same but for rounding: arrays, numbers, text, and tuples, lists, dicts, sets of them."""
    return difference(found, expected) is None


def axis_names(doc: str | None) -> list[str]:
    """The names of a result's axes, from a docstring that says `-> (B, T, D)`; empty if it says nothing."""
    found = re.findall(r"-> \(([^()]*)\)", (doc or "").split("\n\n")[0])
    return [name.strip() for name in found[-1].split(",")] if found else []


def difference(
    found: Any, expected: Any, *, reveal: bool = True, where: str = "your result", axes: list[str] | None = None
) -> str | None:
    """The first thing in which two results differ, as a sentence, or None."""
    found, expected = raw(found), raw(expected)
    if isinstance(expected, str | set | bool) or expected is None:
        same = type(found) in (type(expected), np.bool_) and found == expected
        return None if same else f"{where} is {_shown(found)}" + (f", expected {_shown(expected)}" if reveal else "")
    if found is None:
        return f"{where} is None: does a `return` lack?"
    if isinstance(expected, dict):
        return _of_dicts(found, expected, reveal, where)
    if isinstance(expected, tuple | list) and not _numbers(expected):
        if isinstance(found, np.ndarray) and found.ndim and len(found) == len(expected):
            found = list(found)
        if not isinstance(found, tuple | list):
            return f"{where} is of type {type(found).__name__}, expected {len(expected)} values"
        if len(found) != len(expected):
            return f"{where} has {len(found)} values, expected {len(expected)}"
        parts = enumerate(zip(found, expected, strict=True), 1)
        word = "part" if where.startswith("value") else "value"
        faults = (difference(f, e, reveal=reveal, where=f"{word} {i} of {where}") for i, (f, e) in parts)
        return next((fault for fault in faults if fault is not None), None)
    if isinstance(expected, tuple | list) and isinstance(found, str):
        if found.strip().startswith(("(", "[")):
            return f"{where} is the text {found!r}; a shape is a tuple of numbers, without quotes"
        return f"{where} is {found!r}" + (f", expected {expected}" if reveal else ", which is not right")
    theirs = _as_numbers(found)
    if theirs is None:
        return f"{where} is of type {type(found).__name__}, which does not hold numbers"
    return _unequal(theirs, np.asarray(expected), where, reveal, axes or [])


def _shown(value: Any) -> str:
    """As Python writes it, a set in an order that is the same each time."""
    if isinstance(value, set) and value:
        return "{" + ", ".join(sorted(map(repr, value))) + "}"
    return repr(value)


def _of_dicts(found: Any, expected: dict, reveal: bool, where: str) -> str | None:
    if not isinstance(found, dict):
        return f"{where} is of type {type(found).__name__}, expected a dict"
    for word, keys in (("lacks", expected.keys() - found.keys()), ("has too many", found.keys() - expected.keys())):
        if keys:
            return f"{where} {word}: {sorted(map(str, keys))}"
    parts = (difference(found[k], expected[k], reveal=reveal, where=f"{k!r} of {where}") for k in expected)
    return next((fault for fault in parts if fault is not None), None)


def _numbers(values: tuple | list) -> bool:
    """Whether this is one row of numbers, such as a shape."""
    return all(isinstance(v, int | float | np.number) for v in values)


def _as_numbers(value: Any) -> np.ndarray | None:
    try:
        array = np.asarray(value)
    except (ValueError, TypeError):
        return None
    return array if array.dtype.kind in "fiub" else None


def _unequal(found: np.ndarray, expected: np.ndarray, where: str, reveal: bool, axes: list[str]) -> str | None:
    if not reveal:
        same = found.shape == expected.shape and close(found, expected).all()
        return None if same else f"{where}, {found.tolist()}, is not right"
    if found.shape != expected.shape:
        named = f" ({', '.join(axes)})" if len(axes) == expected.ndim and "…" not in axes else ""
        return f"{where} has shape {found.shape}, expected {expected.shape}{named}"
    far = ~close(found, expected)
    if not far.any():
        return None
    first = tuple(int(i) for i in np.argwhere(far)[0])
    place = f"entry {list(first)} of {where}" if first else where
    count = f"; {int(far.sum())} of {far.size} entries differ{_place(far, axes)}" if far.size > 1 else ""
    return f"{place} is {_number(found[first])}, expected {_number(expected[first])}{count}"


def _number(value: Any) -> str:
    return f"{int(value)}" if abs(value) < 1e15 and value == int(value) else f"{value:.6g}"


def _place(far: np.ndarray, axes: list[str]) -> str:
    """Where all the differences lie, if that is one index of an axis, or all but one."""
    for axis in range(far.ndim):
        bad = np.flatnonzero(far.any(axis=tuple(a for a in range(far.ndim) if a != axis)))
        size = far.shape[axis]
        back = axis - far.ndim
        known = len(axes) >= -back and axes[back] != "…"
        name = f"axis {axis} ({axes[back]})" if known else f"axis {axis}"
        if len(bad) == 1 < size:
            return f", all where the index of {name} is {bad[0]}"
        if len(bad) == size - 1 > 1:
            right = next(i for i in range(size) if i not in bad)
            return f", none where the index of {name} is {right}"
    return ""


# ---- clues -----------------------------------------------------------------------------------------------------------


def clue(found: Any, expected: Any, arguments: dict[str, Any]) -> str | None:
    """What betrays the cause of a difference, as a sentence; None where nothing does. `arguments` are those of the call."""
    found, expected = raw(found), raw(expected)
    if isinstance(expected, tuple | list) and not _numbers(expected):
        return _clue_of_several(found, expected, arguments)
    if isinstance(expected, str | set | bool | dict) or expected is None:
        return None
    theirs, ours = _as_numbers(found), np.asarray(expected)
    if theirs is None or theirs.size == 0 or ours.size == 0 or ours.dtype.kind not in "fiub":
        return None
    clues = _of_values if theirs.shape == ours.shape else _of_shapes
    return next(clues(theirs, ours, {k: raw(v) for k, v in arguments.items()}), None)


def _clue_of_several(found: Any, expected: tuple | list, arguments: dict[str, Any]) -> str | None:
    if not isinstance(found, tuple | list):
        whole = [i for i, e in enumerate(expected, 1) if equal(found, e)]
        return f"It is right as value {whole[0]}; return all {len(expected)}, separated by commas." if whole else None
    if len(found) != len(expected):
        return None
    for order in itertools.permutations(range(len(found))) if len(found) <= 4 else ():
        if list(order) != sorted(order) and all(equal(found[o], e) for o, e in zip(order, expected, strict=True)):
            return f"All values are right, in another order: yours at {[o + 1 for o in order]} should stand at 1, 2, …"
    right = [i for i, pair in enumerate(zip(found, expected, strict=True), 1) if equal(*pair)]
    first = next((i for i in range(1, len(found) + 1) if i not in right), None)
    if first is None:
        return None
    said = clue(found[first - 1], expected[first - 1], arguments)
    parts = [
        f"Value{'s' * (len(right) > 1)} {' and '.join(map(str, right))} {'is' if len(right) == 1 else 'are'} right."
    ]
    parts = parts if right else []
    return " ".join([*parts, *([f"Value {first}: {said[0].lower()}{said[1:]}"] if said else [])]) or None


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and bool(close(a, b).all())


def _of_values(found: np.ndarray, expected: np.ndarray, arguments: dict[str, Any]) -> Iterator[str]:
    """Clues where the shape is right."""
    strange = ~np.isfinite(found.astype(float)) & np.isfinite(expected.astype(float))
    if strange.any():
        name = "nan" if np.isnan(found[strange]).any() else "inf"
        first = [int(i) for i in np.argwhere(strange)[0]]
        some = "everywhere" if strange.all() else f"in {int(strange.sum())} of {strange.size} entries, first at {first}"
        yield f"There is {name} {some}: which division, logarithm or exponential meets a number that it cannot take?"
        return
    for name, value in arguments.items():
        if isinstance(value, np.ndarray) and value.size > 1 and value.dtype.kind in "fiu" and _same(found, value):
            yield f"Your result is the argument {name}, unchanged."
    if found.size > 1 and not np.any(found) and np.any(expected):
        yield "All your values are 0: is the result ever filled?"
    if found.dtype.kind in "iu" and expected.dtype.kind == "f" and _same(found, np.trunc(expected)):
        yield "Your values are whole numbers: an array of integers cuts the fractions off."
    yield from _scaled(found, expected, arguments)
    if found.size > 1:
        yield from _reordered(found, expected)
    scale = float(np.abs(expected).max())
    gap = float(np.abs(found - expected.astype(float)).max())
    if scale and gap / scale < 2e-3 and expected.dtype.kind == "f":
        yield (
            f"You are close: the largest difference is {gap / scale:.1g} of the largest value. That looks like a small "
            "constant in another place, float16 arithmetic or a formula that is an approximation."
        )


def _scaled(found: np.ndarray, expected: np.ndarray, arguments: dict[str, Any]) -> Iterator[str]:
    big = np.abs(expected) > 1e-6 * max(1e-12, float(np.abs(expected).max()))
    if not big.any() or (expected.size > 1 and big.sum() < 2):
        return
    factor = float(np.median(found[big] / expected[big].astype(float)))
    if factor and math.isfinite(factor) and _same(found, factor * expected):
        if math.isclose(factor, -1, rel_tol=1e-5):
            yield "Every value has the wrong sign."
        elif expected.size > 1:
            times, word = (factor, "large") if abs(factor) > 1 else (1 / factor, "small")
            yield f"All your values are {times:.4g} times too {word}.{_sizes(times, arguments)}"
    shift = float(np.median(found - expected.astype(float)))
    if expected.size > 1 and shift and _same(found, expected + shift) and np.ptp(expected) > 1e-6:
        yield f"All your values are {abs(shift):.4g} too {'large' if shift > 0 else 'small'}."


def _sizes(factor: float, arguments: dict[str, Any]) -> str:
    """Which axis or number among the arguments is this factor, or has it for a root; nothing where two sizes would fit."""
    whole = [
        (value.shape[axis], f"the size of axis {axis} of {name}")
        for name, value in arguments.items()
        if isinstance(value, np.ndarray)
        for axis in range(value.ndim)
    ]
    whole += [(v, name) for name, v in arguments.items() if isinstance(v, int | float) and not isinstance(v, bool)]
    fitting = [
        (size, f" {words.format(f'{size:g}')}{said}.")
        for size, said in whole
        for fits, words in ((size, "{} is "), (math.sqrt(max(size, 0)), "That is the root of {}, "))
        if size > 1 and math.isclose(abs(factor), fits, rel_tol=1e-5)
    ]
    return fitting[0][1] if len({size for size, _ in fitting}) == 1 else ""


def _reordered(found: np.ndarray, expected: np.ndarray) -> Iterator[str]:
    if not _same(np.sort(found, axis=None), np.sort(expected, axis=None)):
        for axis in range(found.ndim):  # moved along an axis, something lost at its end
            size = found.shape[axis]
            for by in (1, -1) if size > 2 else ():
                kept = range(max(by, 0), size + min(by, 0))
                if _same(found.take([i - by for i in kept], axis), expected.take(list(kept), axis)):
                    true = "i+1" if by > 0 else "i-1"
                    yield f"Your values are off by one along axis {axis}: entry i holds what belongs to entry {true}."
        return
    if np.ptp(expected) == 0:
        return
    right = "Right values, wrong order: "
    for axis in range(found.ndim):
        if _same(np.flip(found, axis), expected):
            yield f"{right}axis {axis} runs backwards."
        for by in range(1, found.shape[axis]):
            if _same(np.roll(found, -by, axis), expected):
                yield f"{right}axis {axis} is turned by {by}, so that its entry {by} should be the first."
    for order in itertools.permutations(range(found.ndim)):
        turned = expected.transpose(order)
        if list(order) == sorted(order):
            continue
        if turned.shape == found.shape and _same(found, turned):
            yield f"{right}axes {[i for i, o in enumerate(order) if i != o]} are exchanged."
        elif _same(found, turned.reshape(found.shape)):
            yield f"{right}they lie as if the axes came in the order {list(order)}. Reshape splits; what moves an axis?"
    yield f"{right}every value is there, but not in its place. Which axis should move before you reshape?"


def _of_shapes(found: np.ndarray, expected: np.ndarray, arguments: dict[str, Any]) -> Iterator[str]:
    """Clues where the shape is wrong."""
    if found.size == expected.size:
        for order in itertools.permutations(range(found.ndim)) if found.ndim <= 5 else ():
            turned = found.transpose(order)
            if turned.shape == expected.shape and _same(turned, expected):
                yield f"It is transposed: with its axes in the order {list(order)} it would be right."
        if _same(found.reshape(expected.shape), expected):
            ones = "an axis of size 1 lacks (keepdims?) or is too many" if _squeezed(found, expected) else "reshape it"
            yield f"The values are right, only the shape is not: {ones}."
        elif expected.size > 1 and np.ptp(expected) and _same(np.sort(found, axis=None), np.sort(expected, axis=None)):
            yield "Every value is there, but neither shape nor order is right."
    if found.ndim >= expected.ndim and found.size > expected.size:
        yield from _unsummed(found, expected)
    if found.size < expected.size and expected.ndim and _broadcasts(found, expected):
        yield "The values are right, but they stand there once: broadcast them to the shape asked for."
    for name, value in arguments.items():
        if isinstance(value, np.ndarray) and value.ndim == found.ndim + 1 and expected.ndim == found.ndim:
            gone = [value.shape[:a] + value.shape[a + 1 :] for a in range(value.ndim)]
            if gone.count(found.shape) == 1 == gone.count(expected.shape):
                yield f"Axis {gone.index(found.shape)} of {name} is gone; axis {gone.index(expected.shape)} should be."
    for name, value in arguments.items():
        if isinstance(value, np.ndarray) and value.shape == found.shape and value.ndim and _same(found, value):
            yield f"Your result is the argument {name}, unchanged."
    if found.ndim == expected.ndim:
        off = [a for a in range(found.ndim) if found.shape[a] != expected.shape[a]]
        if len(off) == 1 and abs(found.shape[off[0]] - expected.shape[off[0]]) == 1:
            more = found.shape[off[0]] > expected.shape[off[0]]
            yield f"Axis {off[0]} has one entry too {'many' if more else 'few'}."


def _squeezed(found: np.ndarray, expected: np.ndarray) -> bool:
    return [n for n in found.shape if n > 1] == [n for n in expected.shape if n > 1]


def _unsummed(found: np.ndarray, expected: np.ndarray) -> Iterator[str]:
    for count in range(1, found.ndim + 1):
        for axes in itertools.combinations(range(found.ndim), count):
            for word, kept in itertools.product(("sum", "mean"), (False, True)):
                if _same(getattr(found, word)(axis=axes, keepdims=kept), expected):
                    named = "axis " + str(axes[0]) if count == 1 else f"axes {list(axes)}"
                    yield f"The {word} of your result over {named} would be right."
                    return


def _broadcasts(found: np.ndarray, expected: np.ndarray) -> bool:
    try:
        return _same(np.broadcast_to(found, expected.shape), expected)
    except ValueError:
        return False
