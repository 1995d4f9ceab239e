"""A training run in one file: weights, optimiser, averages and every number that a resume needs."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from minivit.engine.backend import backend_of
from minivit.engine.errors import CheckpointError
from minivit.interop import safetensors, saved
from minivit.nn.module import Module
from minivit.training.optim import Optimizer

NAME = "checkpoint.safetensors"


def write(
    path: str | Path,
    model: Module,
    state: dict[str, Any],
    optimizer: Optimizer | None = None,
    averages: dict[str, list] | None = None,
) -> None:
    """Store a run, complete or not at all. `state` is JSON; `averages` holds lists of arrays in the order of the parameters.

    `optimizer=None` is for a finished run, which needs none.
    """
    tensors = saved.to_file(model)
    if optimizer is not None:
        tensors |= {f"optimizer.{name}": a for name, a in optimizer.state_dict().items()}
    names = [name for name, _ in model.named_parameters()]
    for kind, arrays in (averages or {}).items():
        for name, p, a in zip(names, model.parameters(), arrays, strict=True):
            tensors[f"{kind}.{name}"] = saved.to_file_layout(backend_of(a).to_numpy(a), p.layout)
    metadata = saved.describe(model) | {"training": json.dumps(state)}
    if len(tensors) > len(names):
        metadata["format"] = "minivit"  # the averages and the optimiser have no place in timm's model
    safetensors.write(path, tensors, metadata)


def read(path: str | Path, model: Module, optimizer: Optimizer) -> tuple[dict[str, Any], dict[str, list]]:
    """Fill a model and an optimiser from a file; returns what else was stored: (state, averages).

    Raises `CheckpointError` where the file belongs to no training run or to another model.
    """
    tensors, metadata = safetensors.read(path)
    state = training_state(path, metadata)
    if metadata.get("config") != saved.describe(model)["config"]:
        raise CheckpointError(
            f"{path}: this run trains another model: {metadata.get('model')} {metadata.get('config')}"
        )
    groups: dict[str, dict[str, np.ndarray]] = {"": {}, "optimizer": {}, "ema": {}, "best": {}}
    for name, array in tensors.items():
        kind = name.partition(".")[0]
        kind = kind if f"{kind}." in saved.TRAINING_ONLY else ""
        groups[kind][name.removeprefix(f"{kind}.") if kind else name] = array
    saved.from_file(model, groups[""])
    if groups["optimizer"]:
        optimizer.load_state_dict(groups["optimizer"])
    averages = {}
    for kind in ("ema", "best"):
        if groups[kind]:
            averages[kind] = [
                backend_of(p.data).from_host(saved.from_file_layout(groups[kind][name], p.layout), p.dtype)
                for name, p in model.named_parameters()
            ]
    return state, averages


def training_state(path: str | Path, metadata: dict[str, str]) -> dict[str, Any]:
    """The JSON that `write` stored. Raises `CheckpointError` where there is none."""
    try:
        return json.loads(metadata["training"])
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: holds weights but no training run that could be resumed") from error
