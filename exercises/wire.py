"""Results as text and back: numbers, text, arrays, and tuples, lists, dicts, sets of them. Nothing else can be sent.

What comes back is data that a stranger's program wrote, so it is read as such: no pickle, no names to look up, sizes
checked before anything is built.
"""

import base64
import json
import math
from typing import Any

import numpy as np

from exercises.calling import Attempt

LARGEST = 1 << 24  # bytes of an array
DEEPEST = 8


def write(attempt: Attempt) -> str:
    """One attempt as a line of JSON."""
    fields = {**vars(attempt), "result": _encoded(attempt.result, 0)}
    return json.dumps(fields, ensure_ascii=True)


def read(line: str | bytes) -> Attempt | None:
    """The attempt of such a line; None where it is none."""
    try:
        fields = json.loads(line)
        status, error, changed = fields["status"], fields["error"], fields["changed"]
        if status not in ("returned", "not written", "stopped") or not isinstance(error, str):
            return None
        if changed is not None and not isinstance(changed, str):
            return None
        return Attempt(status, _decoded(fields["result"], 0), error[:500], changed, fields["shares"] is True)
    except (ValueError, TypeError, KeyError, RecursionError, AttributeError, IndexError):
        return None


def _encoded(value: Any, depth: int) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | str):
        return value if not isinstance(value, str) else value[:10_000]
    if isinstance(value, int | float):
        fits = abs(value) < 1 << 63 if isinstance(value, int) else math.isfinite(value)
        return value if fits else {"number": repr(float(value)) if isinstance(value, float) else "inf"}
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub" and value.nbytes <= LARGEST:
        held = np.ascontiguousarray(value)
        return {"array": [value.dtype.str, list(value.shape), base64.b64encode(held.tobytes()).decode()]}
    if depth < DEEPEST:
        if isinstance(value, dict):
            return {"dict": [[_encoded(k, depth + 1), _encoded(v, depth + 1)] for k, v in value.items()]}
        for kind in (list, tuple, set):
            if isinstance(value, kind):
                return {kind.__name__: [_encoded(v, depth + 1) for v in value]}
    return {"other": type(value).__name__}


def _decoded(value: Any, depth: int) -> Any:
    if not isinstance(value, dict):
        if value is not None and not isinstance(value, bool | int | float | str):
            raise ValueError("not a value")
        return value
    ((kind, held),) = value.items()
    if depth > DEEPEST:
        raise ValueError("too deep")
    if kind == "number":
        return float(held)
    if kind == "array":
        name, shape, text = held
        dtype = np.dtype(str(name))
        if dtype.kind not in "fiub" or dtype.hasobject:
            raise ValueError("not an array of numbers")
        return np.frombuffer(base64.b64decode(text, validate=True), dtype).reshape([int(n) for n in shape]).copy()
    if kind == "dict":
        return {_decoded(k, depth + 1): _decoded(v, depth + 1) for k, v in held}
    if kind in ("list", "tuple", "set"):
        return {"list": list, "tuple": tuple, "set": set}[kind](_decoded(v, depth + 1) for v in held)
    name = str(held)[:40]
    return type(name if name.isidentifier() else "object", (), {})()
