"""load_pretrained: open a published checkpoint, whoever wrote it, as a model that computes the same."""

import contextlib
import inspect
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from minivit.engine import backend as backends
from minivit.engine.errors import CheckpointError, ConfigError, did_you_mean
from minivit.interop import timm
from minivit.interop.preprocess import Preprocess, from_huggingface
from minivit.interop.stored import open_tensors
from minivit.interop.translation import Make, Origin, Translation
from minivit.models.presets import MODELS, build
from minivit.nn import init
from minivit.nn.module import Module
from minivit.nn.patches import Size, pair, resize_positions

FAMILIES = (timm,)  # the first that recognises a file's names translates it


def load_pretrained(
    path: str | Path, image_size: Size | None = None, *, strict: bool = True, **overrides: Any
) -> Module:
    """The model in a published file, or in a folder with `config.json` and weights; float32, in eval mode.

    `image_size` changes the model's size; its positions are resized as the source resizes them. `overrides` replace what
    the weights cannot say (`eps=1e-5`, `mlp="gelu_tanh"`, `num_heads=6`, …). `model.preprocess(image)` prepares an image,
    `model.source` says where it came from and what was assumed. With `strict=False` what fits is loaded, the rest keeps
    its first values, and `model.complaints` lists what did not. Raises `CheckpointError` naming every tensor that is
    missing, unknown or misshaped, or where nothing is recognised; `ConfigError` for an argument that the model has not.
    """
    tensors, said = open_tensors(path)
    translation = translate(path, tensors, said.get("config"))
    own = translation.config["image_size"] or image_size
    asked = {"image_size": image_size} if image_size is not None else {"image_size": own}
    config = complete(path, translation, {**overrides, **asked})
    with init.blank() if strict else contextlib.nullcontext():
        try:
            model = build(translation.kind, config)
        except (MemoryError, ArithmeticError) as error:
            raise CheckpointError(f"{path}: its sizes make no model: {error}") from error
    resize_to(model, translation, own)
    model.complaints = fill(model, tensors, translation)
    if strict and model.complaints:
        raise CheckpointError(report(path, translation, model.complaints))
    assumed = {k: why for k, why in translation.assumed.items() if k not in overrides}
    assumed |= {k: f"{v!r}, as you said" for k, v in overrides.items()}
    model.source = Origin(str(path), translation.family, assumed, translation.ignored, translation.labels)
    prepare = {"size": pair(config["image_size"]), **translation.preprocess}
    if image_size is not None:
        prepare["size"] = pair(image_size)
    model.preprocess = Preprocess(**prepare)
    return model.eval()


def translate(path: str | Path, tensors: dict, config: dict[str, Any] | None) -> Translation:
    """The file's content in our words. Raises `CheckpointError` where no family has such names."""
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    for family in FAMILIES:
        if family.recognises(shapes, config):
            try:
                translation = family.translate(tensors, config)
            except CheckpointError as error:
                raise CheckpointError(f"{path}: {error}") from error
            prepared = Path(path) / "preprocessor_config.json"
            if prepared.is_file():
                translation.preprocess = from_huggingface(json.loads(prepared.read_text(encoding="utf-8")))
            return translation
    shown = ", ".join(list(shapes)[:4]) + (f", … ({len(shapes)} tensors)" if len(shapes) > 4 else "")
    raise CheckpointError(f"{path}: these are the weights of no model that is known here: {shown or 'there are none'}")


def complete(path: str | Path, translation: Translation, given: dict[str, Any]) -> dict[str, Any]:
    """The constructor's arguments, with those the user gave. Raises `ConfigError` where one is unknown or still missing."""
    known = inspect.signature(MODELS[translation.kind]).parameters
    for argument in given:
        if argument not in known:
            raise ConfigError(f"{translation.kind} has no argument {argument!r}{did_you_mean(argument, known)}")
    config = translation.config | given
    for argument in ("num_heads", "image_size", "patch_size"):
        if argument in known and config.get(argument, 1) is None:
            raise ConfigError(f"{path}: {argument} cannot be read from these weights; say {argument}=…")
    return config


def resize_to(model: Module, translation: Translation, own: Size) -> None:
    """Make the positions fit a model of another image size than the file's own."""
    if "pos_embed" not in translation.weights or not hasattr(model, "grid"):
        return
    (h, w), (p, q) = pair(own), model.patch_size
    if (h // p, w // q) != model.grid:
        make, mode = translation.weights["pos_embed"], model.config.get("position_resize", "timm")
        translation.weights["pos_embed"] = partial(_resized, make, model.pos_prefix, (h // p, w // q), model.grid, mode)


def _resized(make: Make, prefix: int, old: tuple[int, int], new: tuple[int, int], mode: str) -> np.ndarray:
    table = make().astype(np.float32)
    if table.ndim != 3 or table.shape[1] != prefix + old[0] * old[1]:
        return table  # of a shape that `fill` will complain of
    return np.concatenate([table[:, :prefix], resize_positions(table[:, prefix:], old, new, mode)], axis=1)


def fill(model: Module, tensors: dict, translation: Translation) -> list[str]:
    """Give every parameter its array, one at a time; returns what is missing, unknown or of another shape."""
    own, origin = dict(model.named_parameters()), translation.origin
    behind = {name: ours for ours, names in origin.items() for name in names}
    complaints = [
        f"unknown: {name}{did_you_mean(name, tensors.keys() - {name})}"
        for name in tensors
        if name not in translation.ignored and (name not in translation.used or behind.get(name, name) not in own)
    ]
    for name, p in own.items():
        theirs = ", ".join(origin.get(name, (name,)))
        if name not in translation.weights:
            if p.requires_grad:  # a fixed table was made with the model
                complaints.append(f"missing: {theirs} {p.shape}")
            continue
        array = translation.weights[name]()
        if array.shape != p.shape:
            complaints.append(f"wrong shape: {theirs} gives {array.shape}, the model needs {p.shape}")
        else:  # bound, not copied, so that the model's own arrays are never written to and need no memory
            p.data = backends.backend_of(p.data).from_host(np.ascontiguousarray(array, np.float32))
    return sorted(complaints)


def report(path: str | Path, translation: Translation, complaints: list[str]) -> str:
    """All complaints as one message; a long list is cut."""
    shown = "\n  ".join(complaints[:20])
    more = f"\n  … and {len(complaints) - 20} more" if len(complaints) > 20 else ""
    return f"{path}: recognised as {translation.family}, but these weights do not fit:\n  {shown}{more}"
