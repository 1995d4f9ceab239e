"""What every container of weights gives: tensors that are described at once, and read when asked for."""

import math
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minivit.engine.errors import CheckpointError

# The number types by safetensors' names; bfloat16, which NumPy lacks, is read as 16 bits and widened.
DTYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16, "I64": np.int64, "I32": np.int32,
    "I16": np.int16, "I8": np.int8, "U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip
NAMES = {np.dtype(value): key for key, value in DTYPES.items() if key != "BF16"}


@dataclass
class Stored:
    """One tensor of a file: its name, shape and number type (a key of `DTYPES`) are known before anything is read.

    `read()` gives a new array in the machine's byte order, bfloat16 as float32, all other types as they are stored; it
    reads this tensor alone. It raises `CheckpointError` where the file is damaged.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], np.ndarray]


class Source:
    """A file that stays open as long as one of its tensors is known: replaced meanwhile, it is still read as it was.

    Raises `CheckpointError` where there is no such file, or the system refuses. Not for several threads at once.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            if not stat.S_ISREG(self.path.stat().st_mode):  # opening a pipe would wait for its other end
                raise CheckpointError(f"{path}: cannot be read: it is not a file")
            self.file = open(self.path, "rb", buffering=0)  # noqa: SIM115
            self.size = os.fstat(self.file.fileno()).st_size
        except FileNotFoundError as error:
            raise CheckpointError(f"{path}: no such file") from error
        except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
            raise _refused(path, error) from error

    def __del__(self) -> None:
        if hasattr(self, "file"):
            self.file.close()

    def fill(self, begin: int, buffer: memoryview) -> None:
        """Read as many bytes as `buffer` holds, from the byte `begin` on. Raises `CheckpointError` where the file ends."""
        if not 0 <= begin <= self.size - len(buffer):
            raise CheckpointError(f"{self.path}: cut short: {len(buffer)} bytes at {begin} of {self.size}")
        try:
            self.file.seek(begin)
            while buffer:
                count = self.file.readinto(buffer)
                if not count:
                    raise CheckpointError(f"{self.path}: cut short: {len(buffer)} bytes are missing")
                buffer = buffer[count:]
        except OSError as error:
            raise _refused(self.path, error) from error

    def read(self, begin: int, size: int) -> bytes:
        """`size` bytes from the byte `begin` on; for small pieces, since the file may be larger than the memory."""
        if not 0 <= begin <= self.size - size:
            raise CheckpointError(f"{self.path}: cut short: {size} bytes at {begin} of {self.size}")
        data = bytearray(size)
        self.fill(begin, memoryview(data))
        return bytes(data)


def _refused(path: str | Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}")


def element(dtype: str, order: str = "<") -> np.dtype:
    """The NumPy type of one stored number; `order` is "<" or ">", as the file has it."""
    return np.dtype(DTYPES[dtype]).newbyteorder(order)


def native(array: np.ndarray, dtype: str) -> np.ndarray:
    """Stored numbers in the machine's byte order, bfloat16 widened to float32; no copy where none is needed."""
    if dtype == "BF16":  # the upper half of a float32
        return np.left_shift(array, 16, dtype=np.uint32).view(np.float32)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def fits_numpy(shape: list[int] | tuple[int, ...]) -> bool:
    """Whether an array can have this shape; NumPy counts bytes in 63 bits, also where one axis is 0."""
    return len(shape) <= 16 and min(shape, default=0) >= 0 and math.prod(n or 1 for n in shape) < 2**60
