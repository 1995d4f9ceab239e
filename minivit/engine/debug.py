"""Two lamps for a dark model: `anomaly()` names the first NaN's operation, module and line; `draw()` draws the graph."""

import contextlib
import html
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from minivit.engine import backend as backends
from minivit.engine.errors import ConfigError, NonFiniteError, described
from minivit.engine.tensor import Node, Tensor, module_path, raw, topological_order, watchers

PACKAGE = str(Path(__file__).resolve().parent.parent)


class _Anomaly:
    """Looks at every value and every gradient as it is made."""

    def forward(self, name, operands, static, compute):
        value, vjp = compute()
        if not _finite(value):
            for i, x in enumerate(operands):
                if not _finite(x):
                    given = f"{_kind(x)} in operand {i}, {described(x, module_path.get())}"
                    raise NonFiniteError(f"{name} was given {given}, {_place()}")
            raise NonFiniteError(f"{name} made the first {_kind(value)}, {_place()}: all its operands were finite")
        return value, vjp

    def recorded(self, node):
        node.origin = _place()

    def backward(self, node, vjp):
        contributions = vjp()
        for i, g in enumerate(contributions):
            if g is not None and not _finite(g):
                raise NonFiniteError(
                    f"the gradient of operand {i} of {node.name} is the first {_kind(g)}; "
                    f"the forward pass made it {node.origin or 'outside anomaly mode'}"
                )
        return contributions


@contextlib.contextmanager
def anomaly() -> Iterator[None]:
    """Inside, the first NaN or infinity raises `NonFiniteError`, naming the operation, the module and the line. Slow."""
    token = watchers.set((*watchers.get(), _Anomaly()))
    try:
        yield
    finally:
        watchers.reset(token)


def _finite(x: Any) -> bool:
    x = raw(x)
    if not backends.is_array(x):
        return bool(np.isfinite(x).all())  # a number, or a list of them
    return x.dtype.kind != "f" or bool(backends.backend_of(x).isfinite(x).all())


def _kind(x: Any) -> str:
    x = raw(x)
    xp = backends.backend_of(x) if backends.is_array(x) else np
    return "NaN" if bool(xp.isnan(x).any()) else "infinity"


def _place() -> str:
    """`in module blocks.0.attn, at train.py:12`: the innermost line outside minivit, or outside its engine."""
    frame, inside = sys._getframe(1), None
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith(PACKAGE) and "contextlib" not in file and "functools" not in file:
            inside = frame
            break
        frame = frame.f_back
    line = f"at {Path(inside.f_code.co_filename).name}:{inside.f_lineno}" if inside else "inside minivit"
    path = ".".join(module_path.get())
    return f"in module {path}, {line}" if path else line


class Drawing:
    """An SVG picture; a notebook shows it, `save` writes it."""

    def __init__(self, svg: str, alt: str):
        self.svg, self.alt = svg, alt

    def _repr_svg_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        return self.alt

    def save(self, path: str | Path) -> None:
        """Write the picture to a file."""
        Path(path).write_text(self.svg, encoding="utf-8")


def _made_from(item: Node | Tensor) -> list:
    return [p for p in item.parents if p is not None] if isinstance(item, Node) else []


def draw(tensor: Tensor, max_nodes: int = 200) -> Drawing:
    """The graph that made a tensor: leaves on the left, the result on the right; each box an operation and its shape.

    Raises `ConfigError` for a graph of more than `max_nodes` operations and leaves.
    """
    start = tensor.node or tensor
    items = topological_order(start)
    if len(items) > max_nodes:
        raise ConfigError(
            f"draw: the graph has {len(items)} boxes, more than {max_nodes}; draw a smaller part, or raise max_nodes"
        )
    to_go = {id(start): 0}  # how many columns before the result: each box just before the first that needs it
    for item in reversed(items):
        for parent in _made_from(item):
            to_go[id(parent)] = max(to_go.get(id(parent), 0), to_go[id(item)] + 1)
    columns: dict[int, int] = {}
    place = {}
    for item in sorted(items, key=lambda item: isinstance(item, Tensor)):  # leaves below the operations
        column = max(to_go.values()) - to_go[id(item)]
        row = columns.get(column, 0)
        columns[column] = row + 1
        place[id(item)] = (20 + column * 170, 20 + row * 64)
    width, height = 20 + (max(columns) + 1) * 170, 20 + max(columns.values()) * 64
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12">'
    ]
    for item in items:
        x, y = place[id(item)]
        for parent in _made_from(item):
            px, py = place[id(parent)]
            parts.append(f'<line x1="{px + 140}" y1="{py + 22}" x2="{x}" y2="{y + 22}" stroke="#888"/>')
    for item in items:
        x, y = place[id(item)]
        operation = isinstance(item, Node)
        label = item.name if operation else (item.name or "leaf")
        fill, radius = ("#dbe9f6", 4) if operation else ("#fde7c8", 20)
        parts.append(
            f'<rect x="{x}" y="{y}" width="140" height="44" rx="{radius}" fill="{fill}" stroke="#333"/>'
            f'<text x="{x + 70}" y="{y + 18}" text-anchor="middle" font-weight="bold">{html.escape(label)}</text>'
            f'<text x="{x + 70}" y="{y + 36}" text-anchor="middle">{html.escape(str(tuple(item.shape)))}</text>'
        )
    parts.append("</svg>")
    operations = sum(isinstance(i, Node) for i in items)
    end = start.name or "a leaf"
    alt = f"Graph of {operations} operations and {len(items) - operations} leaves, ending in {end} {tensor.shape}."
    return Drawing("".join(parts), alt)
