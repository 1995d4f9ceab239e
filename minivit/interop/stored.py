"""Open a file of weights, or a folder with one, whatever wrote it: the first bytes say what it is, not its name."""

import dataclasses
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from minivit.engine.errors import CheckpointError
from minivit.interop import safetensors
from minivit.interop.source import Source, Stored


def open_tensors(path: str | Path, *, finite: bool = True) -> tuple[dict[str, Stored], dict[str, Any]]:
    """The tensors of a file or folder by name, not yet read, and what else it says.

    That is safetensors' metadata, the plain values of a `.pth` (`epoch`, …) and a folder's `config.json` under "config".
    Reading a tensor that holds a NaN or an infinity raises `CheckpointError`, unless `finite` is False. Raises
    `CheckpointError` for whatever is damaged, not of a kind that is known, or would have to be executed.
    """
    tensors, metadata = _open_file(path)
    if finite:
        tensors = {n: dataclasses.replace(t, read=partial(_read_finite, path, t)) for n, t in tensors.items()}
    return tensors, metadata


def _open_file(path: str | Path) -> tuple[dict[str, Stored], dict[str, Any]]:
    return safetensors.open_tensors(Source(path))


def _read_finite(path: str | Path, tensor: Stored) -> np.ndarray:
    array = tensor.read()
    if array.dtype.kind == "f" and array.size:
        with np.errstate(invalid="ignore"):
            extremes = float(array.min()), float(array.max())  # both are NaN if one element is
        if not all(map(math.isfinite, extremes)):
            count = int(array.size - np.isfinite(array).sum())
            raise CheckpointError(
                f"{path}: tensor {tensor.name!r} has {count} of {array.size} numbers that are NaN or infinite; "
                "was the training that wrote it still sound?"
            )
    return array
