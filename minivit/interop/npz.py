"""NumPy's `.npz`: a zip archive of `.npy` files, each a short header and then the numbers. Objects are never unpickled."""

import math
import re
from functools import partial

import numpy as np

from minivit.engine.errors import CheckpointError
from minivit.interop import zip_file
from minivit.interop.source import DTYPES, NAMES, Source, Stored, element, fits_numpy, native

# The header is the text of a Python dict. Only this form of it is read, so nothing has to be evaluated.
HEADER = re.compile(
    r"\{\s*'descr':\s*'([<>|=]?)(\w+)',\s*'fortran_order':\s*(True|False),\s*'shape':\s*\(([\d, ]*)\),?\s*\}\s*"
)
MAX_HEADER = 10_000  # bytes; NumPy's own limit
KINDS = {dtype.str[1:]: name for dtype, name in NAMES.items()} | {"V2": "BF16"}  # NumPy cannot name bfloat16


def open_tensors(source: Source, entries: dict[str, zip_file.Entry]) -> dict[str, Stored]:
    """The arrays of an archive, not yet read; 2-byte voids are bfloat16. Raises `CheckpointError`."""
    stored = {}
    for entry in entries.values():
        if not entry.name.endswith(".npy"):
            raise CheckpointError(
                f"{source.path}: {entry.name!r} is not an array of NumPy's; what wrote this zip file?"
            )
        name = entry.name.removesuffix(".npy")
        stored[name] = _describe(source, entry, name)
    return stored


def _describe(source: Source, entry: zip_file.Entry, name: str) -> Stored:
    """What the header of one `.npy` file says, checked against the bytes behind it."""
    where = f"{source.path}: array {name!r}"
    start = _peek(source, entry, 0, 12)
    version, width = start[6], 2 if start[6] == 1 else 4
    if start[:6] != b"\x93NUMPY" or version not in (1, 2, 3):
        raise CheckpointError(f"{where} does not begin as a .npy file does")
    length = int.from_bytes(start[8 : 8 + width], "little")
    if length > MAX_HEADER:
        raise CheckpointError(f"{where} has a header of {length} bytes; a plain array's is about 118")
    begin = 8 + width + length
    text = _peek(source, entry, 8 + width, length).decode("latin1")
    found = HEADER.fullmatch(text)
    if "'|O'" in text:
        raise CheckpointError(f"{where} holds Python objects, which would have to be executed to be read; refused")
    if found is None:
        raise CheckpointError(f"{where}: its header is not that of a plain array: {text[:100].strip()!r}")
    order, kind, fortran, axes = found.groups()
    if kind not in KINDS:
        raise CheckpointError(f"{where} has the number type {kind!r}, which no weight has")
    axes = axes.replace(" ", "").removesuffix(",")
    if not re.fullmatch(r"(\d{1,18}(,\d{1,18})*)?", axes):
        raise CheckpointError(f"{where} has a damaged shape: ({axes[:100]})")
    shape, dtype = tuple(int(n) for n in axes.split(",") if n), KINDS[kind]
    if not fits_numpy(shape) or math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize != entry.size - begin:
        raise CheckpointError(f"{where}: shape {shape} of {dtype} is not {entry.size - begin} bytes")
    numbers = element(dtype, ">" if order == ">" else "<")
    return Stored(name, shape, dtype, partial(_read, source, entry, begin, numbers, fortran == "True", shape, dtype))


def _peek(source: Source, entry: zip_file.Entry, skip: int, size: int) -> bytes:
    data = bytearray(size)
    zip_file.fill(source, entry, skip, memoryview(data))
    return bytes(data)


def _read(
    source: Source, entry: zip_file.Entry, begin: int, numbers: np.dtype, fortran: bool, shape: tuple, dtype: str
) -> np.ndarray:
    array = np.empty(math.prod(shape), numbers)
    zip_file.fill(source, entry, begin, memoryview(array.view(np.uint8)))
    array = native(array, dtype)
    return np.asarray(array.reshape(shape[::-1]).T, order="C") if fortran else array.reshape(shape)
