"""Save a model and load it again: one safetensors file with timm's names and layout, the configuration in its metadata."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from minivit.engine.errors import CheckpointError, ConfigError
from minivit.interop import safetensors
from minivit.interop.preprocess import Preprocess
from minivit.interop.timm_out import from_timm, is_plain, timm_call, to_timm, what_timm_lacks
from minivit.models.presets import build
from minivit.nn import init
from minivit.nn.module import Module


def to_file_layout(array: np.ndarray, layout: Any) -> np.ndarray:
    """Our axes to those of PyTorch: (in, out) -> (out, in); a patch matrix -> (D, C, P, P); a kernel -> (out, in, kh, kw)."""
    if layout == "linear":
        return array.T
    if layout == "conv":
        return array.transpose(3, 2, 0, 1)
    if layout is not None:
        _, p, q, c = layout
        return array.reshape(p, q, c, -1).transpose(3, 2, 0, 1)
    return array


def from_file_layout(array: np.ndarray, layout: Any) -> np.ndarray:
    """The inverse of `to_file_layout`."""
    if layout == "linear" and array.ndim == 2:
        return array.T
    if layout == "conv" and array.ndim == 4:
        return array.transpose(2, 3, 1, 0)
    if layout is not None and layout[0] == "patch" and array.ndim == 4:
        _, p, q, c = layout
        if array.shape[1:] == (c, p, q):  # 2×8 pixels are as many as 4×4, and must not pass for them
            return array.transpose(2, 3, 1, 0).reshape(-1, array.shape[0])
    return array


def to_file(model: Module) -> dict[str, np.ndarray]:
    """Every parameter in timm's layout, by timm's name where it has one."""
    state = model.state_dict()
    return to_timm(model, {name: to_file_layout(state[name], p.layout) for name, p in model.named_parameters()})


def from_file(model: Module, tensors: dict[str, np.ndarray], strict: bool = True) -> list[str]:
    """Load what `to_file` gave; returns and raises as `Module.load_state_dict` does."""
    layouts, tensors = {name: p.layout for name, p in model.named_parameters()}, from_timm(model, tensors)
    return model.load_state_dict({n: from_file_layout(a, layouts.get(n)) for n, a in tensors.items()}, strict)


def describe(model: Module) -> dict[str, str]:
    """The metadata that rebuilds a model: its class and its constructor's arguments. `format` is `pt` only where timm's
    default parts compute the same; `timm` is the call that builds the network there, wherever timm can express it.
    """
    kind, config = type(model).__name__, getattr(model, "config", None)
    if config is None:
        raise CheckpointError(
            f"{kind} keeps no `config` of its constructor's arguments, so it could not be loaded again"
        )
    metadata = {"format": "pt" if is_plain(model) else "minivit", "model": kind, "config": _json(config)}
    metadata |= {} if what_timm_lacks(model) else {"timm": timm_call(model)}
    prepare, source = getattr(model, "preprocess", None), model.source
    told = {"data": model.meta, "preprocess": prepare and vars(prepare)}
    told |= {"source": source and {k: v for k, v in vars(source).items() if k != "file"}}
    return metadata | {k: _json(v) for k, v in told.items() if v}


def _json(table: dict) -> str:
    # NumPy's numbers and arrays; fractions
    return json.dumps(table, default=lambda value: value.tolist() if hasattr(value, "tolist") else float(value))


def save(model: Module, path: str | Path) -> None:
    """Write a model to one safetensors file, complete or not at all. Raises `CheckpointError`."""
    safetensors.write(path, to_file(model), describe(model))


def load(path: str | Path) -> Module:
    """The model that `save`, or a training run, wrote, with its number type; in eval mode. Raises `CheckpointError`."""
    tensors, metadata = safetensors.read(path)
    model = rebuild(path, metadata)
    weights = {n: a for n, a in tensors.items() if not n.startswith(TRAINING_ONLY)}
    best = {n.removeprefix("ema."): a for n, a in tensors.items() if n.startswith("ema.")}
    weights = best or weights  # where a run kept averaged weights, they are the model
    dtypes = {a.dtype for a in weights.values()}
    if len(dtypes) == 1 and (dtype := dtypes.pop()).kind == "f":
        model.astype(dtype)
    try:
        from_file(model, weights)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return model.eval()


def rebuild(path: str | Path, metadata: dict[str, str]) -> Module:
    """A model of the class and sizes that a file's metadata names, its weights still 0. Raises `CheckpointError`."""
    if "model" not in metadata or "config" not in metadata:
        raise CheckpointError(f"{path}: no minivit configuration in its metadata; was it saved by another library?")
    try:
        config = json.loads(metadata["config"])
        if not isinstance(config, dict):
            raise ConfigError("it is not a table of arguments")
        with init.blank():
            model = build(metadata["model"], config)
        model.meta = json.loads(metadata["data"]) if "data" in metadata else None
        if "preprocess" in metadata:
            said = json.loads(metadata["preprocess"])
            h, w = said["size"]
            model.preprocess = Preprocess(
                **{k: tuple(v) if isinstance(v, list) else v for k, v in said.items()} | {"size": (h, w)}
            )
        if "source" in metadata:
            from minivit.interop.translation import Origin  # which itself needs the layouts above

            model.source = Origin(str(path), **json.loads(metadata["source"]))
        return model
    except (TypeError, KeyError, ValueError, ArithmeticError, MemoryError, RecursionError) as error:
        raise CheckpointError(f"{path}: its configuration makes no model: {error}") from error


TRAINING_ONLY = ("optimizer.", "ema.", "best.")  # what a training run stores beside the weights
