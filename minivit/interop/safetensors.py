"""The safetensors format: an 8-byte length, a JSON header, then the raw bytes of each tensor, little-endian.

Nothing in such a file can be executed, and a reader can check every byte range before it touches one.
"""

import json
import math
import os
import tempfile
from pathlib import Path

import numpy as np

from minivit.engine.errors import CheckpointError

DTYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16, "I64": np.int64, "I32": np.int32,
    "I16": np.int16, "I8": np.int8, "U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip
NAMES = {np.dtype(value): key for key, value in DTYPES.items() if key != "BF16"}
MAX_HEADER = 100_000_000  # bytes; the format's own limit


def write(path: str | Path, tensors: dict[str, np.ndarray], metadata: dict[str, str] | None = None) -> None:
    """Write arrays and text to a file that is complete or not there: a temporary file is synced, then renamed."""
    header: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    arrays, offset = [], 0
    for name, value in tensors.items():
        array = np.ascontiguousarray(value).reshape(np.shape(value))
        if array.dtype not in NAMES:
            raise CheckpointError(f"{path}: tensor {name!r} has dtype {array.dtype}, which safetensors cannot hold")
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        end = offset + array.nbytes
        header[name] = {"dtype": NAMES[array.dtype], "shape": list(array.shape), "data_offsets": [offset, end]}
        arrays.append(array)
        offset = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8 bytes
    with replacing(path) as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for array in arrays:
            file.write(array.data.cast("B") if array.size else b"")


class replacing:
    """`with replacing(path) as file`: a temporary binary file that takes the name `path` only when all was written."""

    def __init__(self, path: str | Path):
        self.path = Path(path)

    def __enter__(self):
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle, self.temporary = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.", suffix=".tmp")
        except OSError as error:
            raise CheckpointError(f"{self.path}: cannot write here: {error.strerror or error}") from error
        self.file = os.fdopen(handle, "wb")
        return self.file

    def __exit__(self, kind, error, trace):
        try:
            if kind is None:
                self.file.flush()
                os.fsync(self.file.fileno())
            self.file.close()
            if kind is None:
                os.chmod(self.temporary, 0o666 & ~_umask())
                os.replace(self.temporary, self.path)
        finally:
            if os.path.exists(self.temporary):
                os.unlink(self.temporary)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def read(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays (bfloat16 widened to float32) and the metadata of a file. Raises `CheckpointError` for a damaged one."""
    path = Path(path)
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, MAX_HEADER):
                raise CheckpointError(
                    f"{path}: not a safetensors file, or cut short (header of {length} bytes in {size})"
                )
            header = json.loads(file.read(length), object_pairs_hook=_unique)
            if not isinstance(header, dict):
                raise CheckpointError(f"{path}: damaged header: not a table of tensors")
            metadata = header.pop("__metadata__", {})
            _check_ranges(path, header, size - 8 - length)
            tensors = {}
            for name, entry in header.items():
                begin, end = entry["data_offsets"]
                file.seek(8 + length + begin)
                array = np.frombuffer(
                    bytearray(file.read(end - begin)), np.dtype(DTYPES[entry["dtype"]]).newbyteorder("<")
                )
                if entry["dtype"] == "BF16":  # the upper half of a float32
                    array = (array.astype(np.uint32) << 16).view(np.float32)
                tensors[name] = array.astype(array.dtype.newbyteorder("="), copy=False).reshape(entry["shape"])
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path}: damaged header: {error}") from error
    return tensors, metadata


def _unique(pairs: list) -> dict:
    """A JSON object as a dict; the same key twice is an error, not a silent overwrite."""
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a name appears twice")
    return table


def _check_ranges(path: Path, header: dict, available: int) -> None:
    """Every tensor has a known dtype, a sane shape and its own bytes, all of them inside the file."""
    spans = []
    for name, entry in header.items():
        try:
            dtype, shape, (begin, end) = DTYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
            whole = all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in [*shape, begin, end])
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path}: damaged entry for tensor {name!r}") from error
        if not whole or len(shape) > 16 or end - begin != math.prod(shape) * np.dtype(dtype).itemsize:
            raise CheckpointError(
                f"{path}: tensor {name!r}: shape {shape} of {entry['dtype']} is not {end - begin} bytes"
            )
        if end > available:
            raise CheckpointError(f"{path}: cut short: tensor {name!r} ends at byte {end}, the file has {available}")
        spans.append((begin, end, name))
    spans.sort()
    for (_, end, first), (begin, _, second) in zip(spans, spans[1:], strict=False):
        if begin < end:
            raise CheckpointError(f"{path}: tensors {first!r} and {second!r} overlap")
