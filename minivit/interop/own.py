"""minivit's own files, as another family: what `mv.save` or a training run wrote."""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from minivit.interop import saved, timm_out
from minivit.interop.source import Stored
from minivit.interop.translation import Translation
from minivit.nn.module import Module


def recognises(said: Mapping[str, Any]) -> bool:
    """Whether a file's metadata are ours; `config` is text there, and a table where it came from a folder's config.json."""
    return "model" in said and isinstance(said.get("config"), str)


def translate(path: str | Path, tensors: Mapping[str, Stored], said: Mapping[str, Any]) -> Translation:
    """The weights of a model or, where a run kept averaged weights, those. Raises `CheckpointError`."""
    model = saved.rebuild(path, said)
    layouts = {name: p.layout for name, p in model.named_parameters()}
    prefix = "ema." if any(name.startswith("ema.") for name in tensors) else ""
    weights, origin, ignored = {}, {}, {}
    for name, tensor in tensors.items():
        if prefix and not name.startswith((prefix, "optimizer.", "best.")):
            ignored[name] = "the weights of the last step; those averaged over the training are loaded"
        elif name.startswith(saved.TRAINING_ONLY) and not name.startswith(prefix or "\0"):
            ignored[name] = "of the training"
        else:
            ours = timm_out.our_name(model, name.removeprefix(prefix))
            weights[ours] = partial(_made, model, ours, tensor, layouts.get(ours))
            origin[ours] = (name,)
    if timm_out.left_out(model) and "patch_embed.proj.bias" not in weights:
        weights["patch_embed.proj.bias"] = partial(np.zeros, model.config["dim"], np.float32)
    meta, before = model.meta or {}, model.source  # what was known of the file that it was made from
    assumed = dict(before.assumed) if before else {}
    prepare = json.loads(said["preprocess"]) if "preprocess" in said else {"resize": "fit"}
    if "preprocess" not in said and not {"mean", "std"} <= meta.keys():
        assumed["preprocess"] = "mean and std 0.5; the file does not say"
    if "preprocess" not in said:
        channels = getattr(model, "config", {}).get("in_channels", 3)
        prepare |= {key: tuple(meta.get(key, [0.5] * channels)) for key in ("mean", "std")}
    return Translation(
        before.family if before else "minivit",
        said["model"],
        dict(model.config),
        weights,
        {name for names in origin.values() for name in names},
        ignored,
        assumed,
        prepare,
        labels=meta.get("class_names") or (before and before.labels),
        meta=model.meta,
        origin=origin,
    )


def _made(model: Module, ours: str, tensor: Stored, layout: Any) -> np.ndarray:
    return saved.from_file_layout(timm_out.our_rows(model, ours, tensor.read()), layout)
