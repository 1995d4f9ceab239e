"""Write tests/cupy_api.json: which names CuPy has, and which arguments they take, read from the real package.

The stand-in for CuPy in the tests offers what this snapshot lists and nothing else. CuPy imports without a GPU or a
driver, so any machine can make it, in an environment of its own:

    pip install "cupy-cuda12x>=14"
    python scripts/make_cupy_api.py

One line per name, sorted, so that the diff between two versions reads as a list of changes.
"""

import importlib
import inspect
import json
import re
from pathlib import Path
from types import ModuleType

import cupy
import numpy

OUTPUT = Path(__file__).resolve().parents[1] / "tests" / "cupy_api.json"

MODULES = [
    "cupy",
    "cupy.cuda",
    "cupy.cuda.runtime",
    "cupy.fft",
    "cupy.lib.stride_tricks",
    "cupy.linalg",
    "cupy.random",
    "cupyx",
    "cupyx.scipy.special",
]
CLASSES = [
    "cupy.ndarray",
    "cupy.ufunc",
    "cupy.random.Generator",
    "cupy.cuda.Device",
    "cupy.cuda.Event",
    "cupy.cuda.MemoryPool",
    "cupy.cuda.Stream",
]
# Comparisons belong to every object, and the rest is Python's or Cython's own bookkeeping.
NOT_WORTH_LISTING = {
    *dir(object),
    "__dict__",
    "__module__",
    "__pyx_vtable__",
    "__setstate__",
    "__slots__",
    "__weakref__",
}


def stub(names: list[str]) -> str:
    """Parameters as a type stub writes them: `(a, axis=..., *, dtype=...)`."""
    return f"({', '.join(names)})"


def from_inspect(function: object) -> str:
    """The parameters of a function that Python can look into; ValueError or TypeError where it cannot."""
    kinds = inspect.Parameter
    names, star, parameters = [], False, list(inspect.signature(function).parameters.values())
    for i, p in enumerate(parameters):
        if p.kind is kinds.KEYWORD_ONLY and not star:
            names.append("*")
            star = True
        star = star or p.kind is kinds.VAR_POSITIONAL
        prefix = {kinds.VAR_POSITIONAL: "*", kinds.VAR_KEYWORD: "**"}.get(p.kind, "")
        names.append(prefix + p.name + ("" if p.default is p.empty else "=..."))
        last = i + 1 == len(parameters) or parameters[i + 1].kind is not kinds.POSITIONAL_ONLY
        if p.kind is kinds.POSITIONAL_ONLY and last:
            names.append("/")
    return stub(names)


def from_docstring(name: str, function: object) -> str:
    """The parameters of a compiled function: Cython writes them, with C types, in the first line of its docstring."""
    first_line = (function.__doc__ or "").split("\n")[0]
    match = re.search(rf"\b{re.escape(name)}\((.*)\)", first_line)
    if not match:
        return "unknown"
    names = []
    for part in re.split(r",\s*(?![^()]*\))", match[1]):
        declared, has_default, _ = part.partition("=")
        names.append(declared.split()[-1] + ("=..." if has_default else "") if declared else "")
    return stub([n for n in names if n])


def describe(name: str, value: object) -> str:
    """One word for what a name stands for, or the parameters of what can be called."""
    if isinstance(value, cupy.ufunc):
        # `at` needs an atomic instruction, which only some ufuncs have.
        return f"ufunc {value.nin} {value.nout}" + (" at" if value._scatter_op else "")
    if isinstance(value, ModuleType):
        return "module"
    if isinstance(value, type):
        return "type"
    if isinstance(value, property) or inspect.isdatadescriptor(value):
        return "attribute"
    if not callable(value):
        return "constant"
    try:
        return from_inspect(value)
    except (TypeError, ValueError):
        return from_docstring(name, value)


def members(path: str) -> dict[str, str]:
    """The public names of a module; for a class its special methods too, and no `self`."""
    if path in MODULES:
        module = importlib.import_module(path)
        skip = {"annotations"}
        return {n: describe(n, getattr(module, n)) for n in dir(module) if n[0] != "_" and n not in skip}
    module, name = path.rsplit(".", 1)
    cls = getattr(importlib.import_module(module), name)
    public = {n: re.sub(r"^\(self(, )?", "(", describe(n, getattr(cls, n))) for n in dir(cls) if n[0] != "_"}
    return public | {n: "special" for n in dir(cls) if n.startswith("__") and n not in NOT_WORTH_LISTING}


def main() -> None:
    """Read the installed CuPy and replace the snapshot."""
    api = {"versions": {"cupy": cupy.__version__, "numpy": numpy.__version__}}
    api |= {path: members(path) for path in MODULES + CLASSES}
    OUTPUT.write_text(json.dumps(api, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(f"{OUTPUT.name}: CuPy {cupy.__version__}, {sum(map(len, api.values()))} names")


if __name__ == "__main__":
    main()
