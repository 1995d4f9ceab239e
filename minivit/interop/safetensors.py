"""The safetensors format: an 8-byte length, a JSON header, then the raw bytes of each tensor, little-endian.

Nothing in such a file can be executed, and a reader can check every byte range before it touches one.
"""

import contextlib
import json
import math
import os
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np

from minivit.engine.errors import CheckpointError
from minivit.interop.source import DTYPES, NAMES, Source, Stored, element, fits_numpy, native

MAX_HEADER = 1 << 25  # bytes; the format allows three times as many, and a tensor needs about 100


def write(path: str | Path, tensors: dict[str, np.ndarray], metadata: dict[str, str] | None = None) -> None:
    """Write arrays and text to a file that is complete or not there: a temporary file is synced, then renamed.

    Raises `CheckpointError` for a name, dtype or text that the format cannot hold, and where nothing can be written.
    """
    for key, text in (metadata or {}).items():
        if not isinstance(key, str) or not isinstance(text, str):
            raise CheckpointError(f"{path}: metadata {key!r} is {type(text).__name__}; safetensors holds text only")
    if "__metadata__" in tensors:
        raise CheckpointError(f"{path}: a tensor cannot be called '__metadata__' in a safetensors file")
    arrays = {name: np.ascontiguousarray(value).reshape(np.shape(value)) for name, value in tensors.items()}
    header: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    offset, order = 0, sorted(arrays, key=lambda name: -arrays[name].itemsize)  # so that each begins at a multiple of
    for name in order:  # its element's size: other readers map the file and look at the bytes where they lie
        array = arrays[name]
        dtype = array.dtype.newbyteorder("=")
        if dtype not in NAMES:
            raise CheckpointError(f"{path}: tensor {name!r} has dtype {array.dtype}, which safetensors cannot hold")
        arrays[name] = array.astype(dtype.newbyteorder("<"), copy=False)
        header[name] = {
            "dtype": NAMES[dtype],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8 bytes
    with replacing(path) as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for name in order:
            file.write(arrays[name].data.cast("B") if arrays[name].size else b"")


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[IO[bytes]]:
    """`with replacing(path) as file`: a temporary binary file that takes the name `path` only when all was written.

    Raises `CheckpointError` where the system refuses (no permission, a full disk, a folder of that name).
    """
    path, temporary = Path(path), None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:50]}.", suffix=".tmp")
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def read(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays (bfloat16 widened to float32) and the metadata of a file. Raises `CheckpointError` for a damaged one."""
    tensors, metadata = open_tensors(Source(path))
    return {name: tensor.read() for name, tensor in tensors.items()}, metadata


def open_tensors(source: Source) -> tuple[dict[str, Stored], dict[str, str]]:
    """The tensors of a file, not yet read, and its metadata. Raises `CheckpointError` for a damaged one."""
    path, size = source.path, source.size
    length = int.from_bytes(source.read(0, min(8, size)), "little")
    if size < 8 or length > min(size - 8, MAX_HEADER):
        raise CheckpointError(f"{path}: not a safetensors file, or cut short (header of {length} bytes in {size})")
    try:
        header = json.loads(source.read(8, length), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged header: {error}") from error
    metadata = _check_header(path, header, size - 8 - length)
    stored = {}
    for name, entry in header.items():
        shape, dtype, begin = tuple(entry["shape"]), entry["dtype"], 8 + length + entry["data_offsets"][0]
        stored[name] = Stored(name, shape, dtype, partial(_read_tensor, source, shape, dtype, begin))
    return stored, metadata


def _read_tensor(source: Source, shape: tuple[int, ...], dtype: str, begin: int) -> np.ndarray:
    array = np.empty(shape, element(dtype))
    source.fill(begin, memoryview(array.reshape(-1).view(np.uint8)))
    return native(array, dtype)


def _unique(pairs: list) -> dict:
    """A JSON object as a dict; the same key twice is an error, not a silent overwrite."""
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a name appears twice")
    return table


def _check_header(path: Path, header: dict, available: int) -> dict[str, str]:
    """Take the metadata out of a header and check the rest: the tensors fill the file, one after the other."""
    if not isinstance(header, dict):
        raise CheckpointError(f"{path}: damaged header: not a table of tensors")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise CheckpointError(f"{path}: damaged header: its metadata are not a table of texts")
    spans = []
    for name, entry in header.items():
        try:
            kind, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
            sane = isinstance(shape, list) and all(type(n) is int and 0 <= n < 2**63 for n in [*shape, begin, end])
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path}: damaged entry for tensor {name!r}") from error
        if not isinstance(kind, str) or kind not in DTYPES:
            kind = kind[:50] if isinstance(kind, str) else type(kind).__name__
            raise CheckpointError(
                f"{path}: tensor {name!r} has dtype {kind!r}, which is not one of {', '.join(DTYPES)}"
            )
        if not sane or len(shape) > 16:
            raise CheckpointError(f"{path}: tensor {name!r}: damaged shape or byte range")
        if end - begin != math.prod(shape) * np.dtype(DTYPES[kind]).itemsize:
            raise CheckpointError(f"{path}: tensor {name!r}: shape {shape} of {kind} is not {end - begin} bytes")
        if not fits_numpy(shape):
            raise CheckpointError(f"{path}: damaged header: tensor {name!r}: no array can have the shape {shape}")
        if end > available:
            raise CheckpointError(f"{path}: cut short: tensor {name!r} ends at byte {end}, the file has {available}")
        spans.append((begin, end, name))
    spans.sort()
    for (begin, _, name), (_, before, _) in zip(spans, [(0, 0, ""), *spans], strict=False):
        if begin != before:
            raise CheckpointError(
                f"{path}: tensor {name!r} begins at byte {begin}, where the one before ends at {before}"
            )
    if available != (spans[-1][1] if spans else 0):
        raise CheckpointError(f"{path}: there are bytes behind the last tensor that belong to none")
    return metadata
