"""load_pretrained: open a published checkpoint, whoever wrote it, as a model that computes the same."""

import contextlib
import inspect
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from minivit.engine import backend as backends
from minivit.engine.errors import CheckpointError, ConfigError, did_you_mean
from minivit.interop import deit, dino, google, google_mixer, huggingface, lucidrains, own, timm, timm_mixer
from minivit.interop.preprocess import Preprocess, from_huggingface
from minivit.interop.source import Stored
from minivit.interop.stored import open_tensors
from minivit.interop.translation import Make, Origin, Translation
from minivit.models.foreign import FOREIGN
from minivit.models.presets import MODELS, build
from minivit.nn import init
from minivit.nn.module import Module
from minivit.nn.patches import Size, pair, resize_positions

# The first that recognises a file's names translates it.
FAMILIES = (huggingface, lucidrains, dino, deit, timm, timm_mixer, google, google_mixer)


def load_pretrained(
    path: str | Path, image_size: Size | None = None, *, strict: bool = True, part: str | None = None, **overrides: Any
) -> Module:
    """The model in a published file, or in a folder with `config.json` and weights; float32, in eval mode.

    `image_size` changes the model's size; its positions are resized as the source resizes them. `overrides` replace what
    the weights cannot say (`eps=1e-5`, `mlp="gelu_tanh"`, `num_heads=6`, …). `part` loads one of several models in a file,
    by the first word of its names (`part="student"`). `model.preprocess(image)` prepares an image, `model.source` says
    where the model came from and what was assumed. With `strict=False` what fits is loaded, the rest keeps its first
    values, and `model.complaints` lists what did not. Raises `CheckpointError` naming every tensor that is missing,
    unknown or misshaped, or where nothing is recognised; `ConfigError` for an argument that the model has not.
    """
    tensors, said = open_tensors(path)
    translation = translate(path, tensors, said, part, image_size)
    file_size = translation.config.get("image_size") or image_size
    config = complete(path, translation, overrides, file_size if image_size is None else image_size)
    with init.blank() if strict else contextlib.nullcontext():
        try:
            model = build(translation.kind, config)
        except (TypeError, MemoryError, ArithmeticError) as error:
            raise CheckpointError(f"{path}: its sizes make no model: {error}") from error
    resize_to(model, translation, file_size)
    model.complaints = fill(model, tensors, translation)
    if strict and model.complaints:
        raise CheckpointError(report(path, translation, model.complaints))
    assumed = {k: why for k, why in translation.assumed.items() if k not in overrides}
    assumed |= {k: f"{v!r}, as you said" for k, v in overrides.items()}
    model.source = Origin(str(path), translation.family, assumed, translation.ignored, translation.labels)
    model.meta = translation.meta
    model.preprocess = preparation(model, translation.preprocess, image_size)
    return model.eval()


def translate(
    path: str | Path,
    tensors: dict[str, Stored],
    said: dict[str, Any],
    part: str | None = None,
    image_size: Size | None = None,
) -> Translation:
    """The file's content in our words. Raises `CheckpointError` where no family has such names."""
    if own.recognises(said):
        return own.translate(path, tensors, said)
    config = said.get("config") if isinstance(said.get("config"), dict) else None
    others: dict[str, str] = {}
    if part is not None:
        others = {name: f"part={part!r} was asked for" for name in tensors if not name.startswith(f"{part}.")}
        tensors = {name: tensor for name, tensor in tensors.items() if name not in others}
        if not tensors:
            parts = sorted({name.partition(".")[0] for name in others})
            raise ConfigError(
                f"{path}: there is no part {part!r}{did_you_mean(part, parts)}; parts are {', '.join(parts)}"
            )
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    family = next((family for family in FAMILIES if family.recognises(shapes, config)), None)
    if family is None:
        shown = ", ".join(list(shapes)[:4]) + (f", … ({len(shapes)} tensors)" if len(shapes) > 4 else "")
        raise CheckpointError(
            f"{path}: these are the weights of no model that is known here: {shown or 'there are none'}"
        )
    asked = {} if image_size is None else {"asked_size": pair(image_size)}
    try:
        translation = family.translate(tensors, {**(config or {}), **asked})
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        what = "config.json" if config else "tensors"
        raise CheckpointError(f"{path}: its {what} cannot be understood: {error!r}") from error
    translation.ignored |= others
    if "preprocessor" in said:
        translation.preprocess = from_huggingface(said["preprocessor"])
        translation.assumed.pop("preprocess", None)
    return translation


def preparation(model: Module, settings: dict[str, Any], image_size: Size | None) -> Preprocess:
    """How to prepare an image for this model; colours are averaged where it sees grey."""
    size = {"size": pair(image_size)} if image_size is not None else {}
    prepare = Preprocess(**{"size": pair(model.image_size), **settings, **size})
    channels = model.config.get("in_channels", 3)
    if len(prepare.mean) != channels:
        prepare.mean, prepare.std = ((sum(v) / len(v),) * channels for v in (prepare.mean, prepare.std))
    return prepare


def complete(
    path: str | Path, translation: Translation, overrides: dict[str, Any], image_size: Size | None
) -> dict[str, Any]:
    """The constructor's arguments, with those the user gave. Raises `ConfigError` where one is unknown or still missing."""
    known = inspect.signature(MODELS[translation.kind]).parameters
    if translation.kind == "ViT" and overrides.keys() & FOREIGN.keys():
        translation.kind, known = "ForeignViT", inspect.signature(MODELS["ForeignViT"]).parameters
    for argument in overrides:
        if argument not in known:
            raise ConfigError(f"{translation.kind} has no argument {argument!r}{did_you_mean(argument, known)}")
    config = translation.config | overrides | ({"image_size": image_size} if "image_size" in known else {})
    for argument in ("image_size", "patch_size", "in_channels", "num_heads"):
        if argument in known and config.get(argument, 0) is None:
            why = " (its positions are of no square)" if argument == "image_size" else ""
            raise ConfigError(
                f"{path}: {argument} cannot be read from these weights{why}; say {argument}=… "
                f"(on the command line: --set {argument}=…)"
            )
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
    absent = {*behind, *own} - tensors.keys()
    complaints = [
        f"unknown: {name}{did_you_mean(name, absent)}"
        for name in tensors
        if name not in translation.ignored and (name not in translation.used or behind.get(name, name) not in own)
    ]
    for name, p in own.items():
        theirs = ", ".join(origin.get(name, (name,)))
        if name not in translation.weights:
            if p.requires_grad:  # a fixed table was made with the model
                complaints.append(f"missing: {theirs} {p.shape}")
            continue
        try:
            array = translation.weights[name]()
        except CheckpointError:
            raise
        except (ValueError, IndexError) as error:  # several tensors that cannot be joined
            complaints.append(f"wrong shape: {theirs} give no {p.shape}: {error}")
            continue
        if array.shape != p.shape:
            complaints.append(f"wrong shape: {theirs} gives {array.shape}, the model needs {p.shape}")
        elif array.dtype.kind != "f":
            complaints.append(f"wrong type: {theirs} holds {array.dtype}, not floating-point numbers")
        else:  # bound, not copied, so that the model's own arrays are never written to and need no memory
            array = array.astype(np.float32, copy=False)  # before it is laid out anew, which is slow for other types
            p.data = backends.backend_of(p.data).from_host(np.ascontiguousarray(array))
    return sorted(complaints)


def report(path: str | Path, translation: Translation, complaints: list[str]) -> str:
    """All complaints as one message; a long list is cut."""
    shown = "\n  ".join(complaints[:20])
    more = f"\n  … and {len(complaints) - 20} more" if len(complaints) > 20 else ""
    return f"{path}: recognised as {translation.family}, but these weights do not fit:\n  {shown}{more}"
