"""PyTorch's `.pth`, `.pt` and `.bin`: a zip archive of a pickle, which describes tensors, and their numbers in files beside it.

The pickle is read by a machine that imports and executes nothing. Storages hold numbers in a row; a tensor is an offset, a
shape and strides over one, so that tensors can share a storage, be transposed, or be a part of it.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from minivit.engine.errors import CheckpointError
from minivit.interop import zip_file
from minivit.interop.source import DTYPES, Source, Stored, element, fits_numpy, native
from minivit.interop.unpickle import MAX_BYTES, Name, Refused, unpickle

STORAGES = {
    "torch.DoubleStorage": "F64", "torch.FloatStorage": "F32", "torch.HalfStorage": "F16",
    "torch.BFloat16Storage": "BF16", "torch.LongStorage": "I64", "torch.IntStorage": "I32", "torch.ShortStorage": "I16",
    "torch.CharStorage": "I8", "torch.ByteStorage": "U8", "torch.BoolStorage": "BOOL",
}  # fmt: skip
MAX_NAME, MAX_TENSORS, MAX_DEPTH = 500, 65_535, 50
MAX_VALUES = 100_000  # a list mentioned twice in a list, that one twice in the next, and so on, has 2^n ends
MAX_SHARING, MAY_SHARE = 4, 1 << 20  # the tensors may have four times the bytes of their storages, and 1 MiB


@dataclass(frozen=True)
class Storage:
    """Numbers in a row: the archive's entry that holds them, and their type."""

    entry: zip_file.Entry
    dtype: str
    count: int


@dataclass(frozen=True)
class Tensor:
    """A view of a storage; offset and strides count numbers, not bytes."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def open_tensors(source: Source, entries: dict[str, zip_file.Entry]) -> tuple[dict[str, Stored], dict[str, Any]]:
    """The tensors of an archive, not yet read, and its other values; dicts in dicts give names joined by dots.

    Raises `CheckpointError` for a damaged file and for one whose pickle wants anything but tensors and plain containers.
    """
    try:
        return _open(source, entries)
    except Refused as error:
        raise CheckpointError(f"{source.path}: {error}") from error


def _open(source: Source, entries: dict[str, zip_file.Entry]) -> tuple[dict[str, Stored], dict[str, Any]]:
    folders = [name.removesuffix("data.pkl") for name in entries if name.endswith("/data.pkl")]
    if len(folders) != 1:
        raise Refused(f"there are {len(folders)} pickles in it; PyTorch writes one")
    (folder,) = folders
    if f"{folder}constants.pkl" in entries:
        raise Refused(
            "a TorchScript program, not plain weights; with PyTorch: torch.save(torch.jit.load(path).state_dict(), new)"
        )
    order = ">" if _content(source, entries, f"{folder}byteorder", b"little") == b"big" else "<"
    calls = {
        "torch._utils._rebuild_tensor_v2": _tensor,
        "torch._utils._rebuild_parameter": lambda tensor, requires_grad, hooks: tensor,
        "torch.Size": _whole,
    }
    value = unpickle(
        _content(source, entries, f"{folder}data.pkl"),
        calls,
        frozenset(STORAGES),
        lambda identity: _storage(entries, folder, identity),
    )
    tensors, plain = _Walk().split(value)
    needed = sum(math.prod(t.shape) * element(t.storage.dtype).itemsize for t in tensors.values())
    held = {t.storage.entry.name: t.storage.entry.size for t in tensors.values()}
    if needed > MAX_SHARING * sum(held.values()) + MAY_SHARE:
        raise Refused(f"its tensors share storages so much that they would take {needed} bytes")
    stored = {
        name: Stored(name, t.shape, t.storage.dtype, partial(_read, source, t, order)) for name, t in tensors.items()
    }
    return stored, plain


def _content(source: Source, entries: dict, name: str, otherwise: bytes = b"") -> bytes:
    if name not in entries:
        return otherwise
    if entries[name].size > MAX_BYTES:
        raise Refused(f"entry {name!r} has {entries[name].size} bytes; 150 describe a tensor")
    data = bytearray(entries[name].size)
    zip_file.fill(source, entries[name], 0, memoryview(data))
    return bytes(data)


def _whole(numbers: Any) -> tuple[int, ...]:
    """A short tuple of whole numbers from 0 on; any other value is refused."""
    if (
        not isinstance(numbers, tuple)
        or len(numbers) > 16
        or not all(type(n) is int and 0 <= n < 2**63 for n in numbers)
    ):
        raise Refused("damaged pickle: a shape, stride or offset is not made of whole numbers")
    return numbers


def _storage(entries: dict[str, zip_file.Entry], folder: str, identity: Any) -> Storage:
    """The storage that a persistent id names: ("storage", its class, the entry's name, where it once was, its length)."""
    if not isinstance(identity, tuple) or len(identity) != 5 or identity[0] != "storage":
        raise Refused("damaged pickle: it refers to something that is not a storage")
    _, kind, key, _, count = identity
    if not isinstance(key, str) or not isinstance(kind, Name) or kind.name not in STORAGES:
        raise Refused("damaged pickle: a storage without a name or a class")
    entry = entries.get(f"{folder}data/{key}")
    if entry is None:
        raise Refused(f"damaged pickle, or cut short: the storage {key[:50]!r} is not there")
    dtype = STORAGES[kind.name]
    if _whole((count,))[0] * np.dtype(DTYPES[dtype]).itemsize > entry.size:
        raise Refused(f"storage {key!r} is to hold {count} numbers of {dtype}, and has {entry.size} bytes")
    return Storage(entry, dtype, count)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    """What torch._utils._rebuild_tensor_v2 describes, if it lies within its storage. Gradients and hooks are left out."""
    if not isinstance(storage, Storage):
        raise Refused("damaged pickle: a tensor without a storage")
    (offset,), shape, strides = _whole((offset,)), _whole(shape), _whole(strides)
    if len(shape) != len(strides) or not fits_numpy(shape):
        raise Refused(f"damaged pickle: no tensor has the shape {shape} and the strides {strides}")
    if offset + _span(shape, strides) > storage.count:
        raise Refused(
            f"a tensor of shape {shape}, strides {strides}, offset {offset} leaves its {storage.count} numbers"
        )
    if math.prod(shape) > storage.count:
        raise Refused(
            f"a tensor of shape {shape} repeats the {storage.count} numbers of its storage; save a copy of it"
        )
    strides = tuple(0 if n == 1 else step for n, step in zip(shape, strides, strict=True))  # never taken, so any number
    return Tensor(storage, offset, shape, strides)


def _span(shape: tuple[int, ...], strides: tuple[int, ...]) -> int:
    """How many numbers lie from the first of a tensor to the last, both included."""
    return 0 if 0 in shape else 1 + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))


def _read(source: Source, tensor: Tensor, order: str) -> np.ndarray:
    dtype = tensor.storage.dtype
    numbers = np.empty(_span(tensor.shape, tensor.strides), element(dtype, order))
    buffer = memoryview(numbers.view(np.uint8))
    zip_file.fill(source, tensor.storage.entry, tensor.offset * numbers.itemsize, buffer)
    numbers = native(numbers, dtype)
    if numbers.size == 0:
        return numbers.reshape(tensor.shape)
    steps = [step * numbers.itemsize for step in tensor.strides]
    view = np.lib.stride_tricks.as_strided(numbers, tensor.shape, steps)
    return numbers.reshape(tensor.shape) if view.flags.c_contiguous else view.copy()


class _Walk:
    """Divides nested containers into tensors by their names, and all else; counts, because containers can be shared."""

    def __init__(self) -> None:
        self.values, self.tensors = 0, {}

    def split(self, value: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
        if not isinstance(value, dict):
            raise Refused(f"it holds a {type(value).__name__}, where a dict of tensors by name is needed")
        plain = self.visit(value, "", 0)
        return self.tensors, plain or {}

    def visit(self, value: Any, path: str, depth: int) -> Any:
        """The value without its tensors, which are noted under `path`; None in place of what held nothing else."""
        self.values += 1
        if depth > MAX_DEPTH or self.values > MAX_VALUES or len(self.tensors) > MAX_TENSORS:
            raise Refused("its containers are nested too deep, or shared so often that they have no end")
        if len(path) > MAX_NAME:
            raise Refused(f"a name in it has more than {MAX_NAME} letters: {path[:100]!r}…")
        if isinstance(value, Tensor):
            if path in self.tensors:
                raise Refused(f"two tensors are called {path!r}")
            self.tensors[path] = value
            return None
        if isinstance(value, dict):
            items = {key: self.visit(v, f"{path}.{key}" if path else str(key), depth + 1) for key, v in value.items()}
            kept = {key: v for key, v in items.items() if v is not None or value[key] is None}
            return kept if kept or not value else None
        if isinstance(value, list | tuple):
            items = [self.visit(v, f"{path}.{i}", depth + 1) for i, v in enumerate(value)]
            kept = type(value)(v for v, old in zip(items, value, strict=True) if v is not None or old is None)
            return kept if kept or not value else None
        if value is None or isinstance(value, str | int | float | bytes | set):
            return value
        raise Refused(f"{path!r} is a {type(value).__name__}, which is neither a tensor nor a plain value")
