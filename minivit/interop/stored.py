"""Open a file of weights, or a folder with one, whatever wrote it: the first bytes say what it is, not its name."""

import dataclasses
import json
import math
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from minivit.engine.errors import CheckpointError
from minivit.interop import npz, safetensors, torch_zip, zip_file
from minivit.interop.source import Source, Stored

# How files begin that are often taken for weights, what they are, and what to do.
WITH_TORCH = "convert it where PyTorch is installed: torch.save(torch.load(path, map_location='cpu', {}), new_path)"
SAFELY, UNSAFELY = WITH_TORCH.format("weights_only=True"), WITH_TORCH.format("weights_only=False")
OTHERS = [
    (rb"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19", "PyTorch's format from before version 1.6, which is a plain pickle",
     SAFELY),
    (rb"\x80[\x01-\x05]", "a plain pickle, which can execute anything",
     "it is not read; store its arrays with numpy.savez, or as safetensors"),
    (rb".{257}ustar", "a tar archive, as PyTorch wrote before version 0.1.10",
     f"loading it can execute anything, so only if you trust it, {UNSAFELY}"),
    (rb"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras, TensorFlow)", "read it with h5py and store its arrays with numpy.savez"),
    (rb"([\x81-\x8f]|\xde..|\xdf.{4})([\xa1-\xbf]|\xd9.|\xda..)[ -~]", "msgpack, as Flax writes it",
     "with flax: numpy.savez(path, **flatten_dict(msgpack_restore(data), sep='/'))"),
    (rb"\x08[\x01-\x20][\x12\x1a\"*2:B]", "an ONNX model, a program rather than a table of weights",
     "load the weights that it was exported from"),
    (rb"\x93NUMPY", "a single array", "store all of a model's arrays in one file with numpy.savez"),
    (rb"\x1f\x8b|\xfd7zXZ|BZh|\x28\xb5\x2f\xfd", "compressed", "unpack it first"),
    (rb"version https://git-lfs", "a Git LFS pointer, which stands for the weights",
     "fetch the file itself with git lfs pull"),
    (rb"(?i)\s*<(!doctype|html|\?xml)", "a web page, not the file that was meant to be downloaded", "download it again"),
    (rb"GGUF", "a GGUF file", "load the safetensors file that it was made from"),
    (rb"\s*[{\[]", "JSON, not weights", "give the folder that holds it and the weights"),
]  # fmt: skip
NAMES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
SUFFIXES = (".safetensors", ".npz", ".pth", ".pt", ".bin")
DESCRIPTIONS = {"config": "config.json", "preprocessor": "preprocessor_config.json"}
MAX_JSON = 1 << 25  # bytes


def open_tensors(path: str | Path, *, finite: bool = True) -> tuple[dict[str, Stored], dict[str, Any]]:
    """The tensors of a safetensors, npz or torch zip file by name, not yet read, and what else the file says.

    That is safetensors' metadata, or the plain values of a `.pth` (`epoch`, …). A folder is opened as Hugging Face lays it
    out, in one file or in shards; its `config.json` is then under "config", `preprocessor_config.json` under
    "preprocessor", both parsed. Reading a tensor that holds a NaN or an infinity raises `CheckpointError` unless
    `finite` is False. Raises `CheckpointError` for what is damaged, unknown, or would have to be executed.
    """
    tensors, metadata = _open_folder(Path(path)) if Path(path).is_dir() else _open_file(Path(path))
    if finite:
        tensors = {n: dataclasses.replace(t, read=partial(_read_finite, path, t)) for n, t in tensors.items()}
    return tensors, metadata


def _open_file(path: Path) -> tuple[dict[str, Stored], dict[str, Any]]:
    source = Source(path)
    start = source.read(0, min(source.size, 512))
    if not start:
        raise CheckpointError(f"{path}: the file is empty; was its download broken off?")
    if start.startswith(b"PK"):
        entries = zip_file.entries(source)
        if any(name.endswith("/data.pkl") for name in entries):
            return torch_zip.open_tensors(source, entries)
        return npz.open_tensors(source, entries), {}
    if start[8:9] == b"{" and start[7:8] == b"\0":  # no header has 2**56 bytes
        return safetensors.open_tensors(source)
    for beginning, kind, advice in OTHERS:
        if re.match(beginning, start, re.DOTALL):
            raise CheckpointError(f"{path}: this is {kind}; {advice}")
    raise CheckpointError(f"{path}: neither a safetensors file, nor .npz, nor a zip file of PyTorch's, or damaged")


def _open_folder(folder: Path) -> tuple[dict[str, Stored], dict[str, Any]]:
    file = _weights_in(folder)
    if file.name.endswith(".index.json"):
        tensors, metadata = _open_shards(folder, file), {}
    else:
        tensors, metadata = _open_file(file)
    found = {key: folder / name for key, name in DESCRIPTIONS.items() if (folder / name).is_file()}
    return tensors, metadata | {key: _json(file) for key, file in found.items()}


def _weights_in(folder: Path) -> Path:
    """The file with the weights: one of the usual names, or the only file that ends as such files do."""
    for name in NAMES:
        if (folder / name).is_file():
            return folder / name
    try:
        others = sorted(p for p in folder.iterdir() if p.suffix in SUFFIXES and p.is_file())
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot be read: {error.strerror or error}") from error
    if len(others) == 1:
        return others[0]
    if others:
        names = ", ".join(p.name for p in others[:10])
        raise CheckpointError(f"{folder}: which of these are the weights: {names}? Give the file instead of the folder")
    raise CheckpointError(f"{folder}: no weights in this folder: neither {', '.join(NAMES)} nor another of {SUFFIXES}")


def _open_shards(folder: Path, index: Path) -> dict[str, Stored]:
    """The tensors of all files that an index names; each must be where the index says, and nowhere else."""
    table = _json(index).get("weight_map")
    if not isinstance(table, dict) or not all(isinstance(file, str) for file in table.values()):
        raise CheckpointError(f"{index}: no `weight_map` from tensors to files")
    files = sorted(set(table.values()))
    for file in files:
        if Path(file).name != file or file in ("", "..") or "\\" in file:
            raise CheckpointError(f"{index}: {file[:200]!r} is not the name of a file in this folder")
    tensors: dict[str, Stored] = {}
    for file in files:
        shard, _ = _open_file(folder / file)
        for name in shard:
            if table.get(name) != file:
                raise CheckpointError(f"{index}: {file} holds {name!r}, which the index does not say")
        tensors |= shard
    if missing := [name for name in table if name not in tensors]:
        raise CheckpointError(f"{index}: {len(missing)} tensors are in none of its files, such as {missing[0]!r}")
    return {name: tensors[name] for name in table}


def _json(path: Path) -> dict[str, Any]:
    source = Source(path)
    if source.size > MAX_JSON:
        raise CheckpointError(f"{path}: {source.size} bytes are too many for a description of a model")
    try:
        table = json.loads(source.read(0, source.size))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not JSON: {error}") from error
    if not isinstance(table, dict):
        raise CheckpointError(f"{path}: not a table, but a {type(table).__name__}")
    return table


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
