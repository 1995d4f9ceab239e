"""Hugging Face's ViT, DeiT and Dinov2, with and without a head, by the names on disk and by those in memory."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from minivit.engine.errors import CheckpointError
from minivit.interop.preprocess import HALF, IMAGENET
from minivit.interop.source import Stored
from minivit.interop.translation import (
    Reading,
    Shapes,
    Translation,
    place_prefix,
    plain_or_foreign,
    ratio,
    square,
    usual_heads,
)

# How the names of a model inside another begin; bare models have no prefix.
PREFIXES = {"vit.": "vit", "deit.": "deit", "dinov2.": "dinov2", "dinov2_with_registers.": "dinov2_with_registers"}
FAMILIES = {"vit": "ViT", "deit": "DeiT", "dinov2": "Dinov2", "dinov2_with_registers": "Dinov2WithRegisters"}
PATCHES = "embeddings.patch_embeddings.projection"
LAYERS = ("encoder.layer.{i}.", "layers.{i}.")  # the second in memory, since transformers 5

# Our modules of a block, and by which names files have them; several names in a tuple are joined side by side.
BLOCK = {
    "norm1": ["layernorm_before", "norm1"],
    "attn.qkv": [
        ("attention.attention.query", "attention.attention.key", "attention.attention.value"),
        ("attention.q_proj", "attention.k_proj", "attention.v_proj"),
    ],
    "attn.proj": ["attention.output.dense", "attention.o_proj"],
    "norm2": ["layernorm_after", "norm2"],
}
MLP = {"mlp.fc1": ["intermediate.dense", "mlp.fc1"], "mlp.fc2": ["output.dense", "mlp.fc2"]}
SWIGLU = {
    "mlp.w12": ["mlp.weights_in", ("mlp.gate_proj", "mlp.up_proj")],
    "mlp.w3": ["mlp.weights_out", "mlp.down_proj"],
}
TOKENS = {"deit": ("distillation_token",), "dinov2_with_registers": ("register_tokens",)}  # after the class token
SIZES = {"hidden_size": "dim", "num_hidden_layers": "depth", "num_channels": "in_channels"}
ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh"}
LEFT_OUT = {
    "*pooler.*": "the pooler, which no classifier reads",
    "*embeddings.mask_token": "stands for hidden patches in training only",
    "decoder.*": "the decoder, for guessing hidden patches",
}
# Of the published models; processors were written with them, so this is for files without one.
PREPROCESS = {
    "vit": {"resize": "exact", "crop_pct": 1, "interpolation": "bilinear", **HALF},
    "deit": {"resize": "exact", "crop_pct": Fraction(224, 256), "interpolation": "bicubic", **IMAGENET},
    "dinov2": {"size": (224, 224), "crop_pct": Fraction(224, 256), "interpolation": "bicubic", **IMAGENET},
}


def recognises(shapes: Shapes, config: dict[str, Any] | None) -> bool:
    return any(f"{p}{PATCHES}.weight" in shapes for p in (*PREFIXES, ""))


def translate(tensors: Mapping[str, Stored], config: dict[str, Any] | None) -> Translation:
    said, reading = config or {}, Reading(tensors)
    prefix = next(p for p in (*PREFIXES, "") if f"{p}{PATCHES}.weight" in tensors)
    model = model_type(reading, prefix, said)
    for pattern, why in LEFT_OUT.items():
        reading.leave(pattern, why)
    pool, classes = take_head(reading, model)
    embedding = take_embeddings(reading, prefix, model, pool, said)
    blocks = take_blocks(reading, prefix, embedding["dim"])
    reading.module("norm", f"{prefix}layernorm")
    settings, assumed = read_settings(said, model, embedding["dim"], swiglu=blocks["mlp"] == "swiglu")
    assumed["preprocess"] = "as the family's published models; there is no preprocessor_config.json"
    compare(said, embedding | blocks)
    resize = "timm" if model == "dinov2_with_registers" else "huggingface"
    arguments = {"num_classes": classes, "pool": pool, **embedding, **blocks, **settings, "position_resize": resize}
    kind, arguments = plain_or_foreign(arguments)
    return reading.translation(
        f"Hugging Face {FAMILIES[model]}",
        kind,
        arguments,
        assumed=assumed,
        preprocess={**PREPROCESS[model.removesuffix("_with_registers")], "floor_crop": True},
        labels=labels(said, classes),
    )


def model_type(reading: Reading, prefix: str, said: Mapping[str, Any]) -> str:
    """Which of the four models this is. Raises `CheckpointError` where config.json names a fifth."""
    model = said.get("model_type")
    if model is not None:
        if str(model) not in FAMILIES:
            raise CheckpointError(f"config.json: model_type {model!r} is not known here: {', '.join(FAMILIES)}")
        return model
    if prefix:
        return PREFIXES[prefix]
    if "embeddings.distillation_token" in reading:
        return "deit"
    if "embeddings.register_tokens" in reading:
        return "dinov2_with_registers"
    return "dinov2" if any(name.endswith("layer_scale1.lambda1") for name in reading.names()) else "vit"


def take_embeddings(reading: Reading, prefix: str, model: str, pool: str, said: Mapping[str, Any]) -> dict[str, Any]:
    """Take patches, prefix tokens and positions, of which DINOv2's registers have none; returns the sizes they decide."""
    dim, channels, p, q = reading.shape(f"{prefix}{PATCHES}.weight", 4)
    reading.module("patch_embed.proj", f"{prefix}{PATCHES}")
    embeddings = f"{prefix}embeddings."
    tokens = [f"{embeddings}{name}" for name in ("cls_token", *TOKENS.get(model, ()))]
    slots = 2 if model == "deit" else 1
    grid = square(reading.shape(f"{embeddings}position_embeddings", 3)[1] - slots)
    size = said.get("image_size") if grid is None else (grid[0] * p, grid[1] * q)
    place_prefix(reading, tokens, f"{embeddings}position_embeddings", slots, pool)
    return {
        "image_size": tuple(size) if isinstance(size, list) else size,
        "patch_size": (p, q),
        "in_channels": channels,
        "dim": dim,
        "registers": sum(reading.shape(name, 3)[1] for name in tokens) - 1,
    }


def take_blocks(reading: Reading, prefix: str, dim: int) -> dict[str, Any]:
    """Take every block; returns the arguments that they decide."""
    layer = next((prefix + names for names in LAYERS if reading.count(prefix + names)), prefix + LAYERS[0])
    depth, first = reading.count(layer), layer.format(i=0)
    swiglu = any(f"{first}{name}.weight" in reading for name in ("mlp.weights_out", "mlp.down_proj"))
    table = {ours: choose(reading, first, names) for ours, names in {**BLOCK, **(SWIGLU if swiglu else MLP)}.items()}
    qkv_bias, scaled = f"{first}{table['attn.qkv'][0]}.bias" in reading, f"{first}layer_scale1.lambda1" in reading
    for i in range(depth):
        layer_i = layer.format(i=i)
        for ours, names in table.items():
            theirs = (layer_i + name for name in names)
            reading.module(f"blocks.{i}.{ours}", *theirs, bias=qkv_bias or ours != "attn.qkv")
        for k in (1, 2) if scaled else ():
            reading.tensor(f"blocks.{i}.ls{k}.gamma", f"{layer_i}layer_scale{k}.lambda1")
    hidden = reading.shape(f"{first}{table['mlp.w3' if swiglu else 'mlp.fc2'][0]}.weight", 2)[1]
    return {
        "depth": depth,
        "mlp": "swiglu" if swiglu else "gelu",
        "mlp_ratio": hidden * 1.5 / dim if swiglu else ratio(hidden, dim),
        "qkv_bias": qkv_bias,
        "layer_scale": 1.0 if scaled else None,
    }


def compare(said: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Raises `CheckpointError` where config.json describes another model than the weights."""
    for theirs, ours in SIZES.items():
        if said.get(theirs, found[ours]) != found[ours]:
            raise CheckpointError(f"config.json says {theirs} {said[theirs]!r}; the weights are of {found[ours]}")


def read_settings(said: Mapping[str, Any], model: str, dim: int, swiglu: bool) -> tuple[dict[str, Any], dict[str, str]]:
    """What only config.json says, or else the family's default; and where each came from. Raises `CheckpointError`."""
    heads, why = usual_heads(dim)
    usual = {"layer_norm_eps": 1e-6 if model.startswith("dinov2") else 1e-12, "hidden_act": "gelu"}
    usual["num_attention_heads"] = heads
    found = {key: said.get(key, value) for key, value in usual.items()}
    if not isinstance(found["layer_norm_eps"], (int, float)):
        raise CheckpointError(f"config.json: layer_norm_eps {found['layer_norm_eps']!r} is not a number")
    if str(found["hidden_act"]) not in ACTIVATIONS and not swiglu:
        known = ", ".join(ACTIVATIONS)
        raise CheckpointError(f"config.json: hidden_act {found['hidden_act']!r} is not known here, only {known}")
    settings = {"eps": found["layer_norm_eps"], "num_heads": found["num_attention_heads"]}
    assumed = {ours: f"{settings[ours]}, from config.json" for ours in settings}
    if "layer_norm_eps" not in said:
        assumed["eps"] = f"{settings['eps']}, the family's default"
    if "num_attention_heads" not in said:
        assumed["num_heads"] = why
    if not swiglu:  # whose activation is always SiLU
        settings["mlp"] = ACTIVATIONS[found["hidden_act"]]
        assumed["mlp"] = f"{settings['mlp']}, {'from config.json' if 'hidden_act' in said else 'the default'}"
    return settings, assumed


def choose(reading: Reading, first: str, choices: list[str | tuple[str, ...]]) -> tuple[str, ...]:
    """Those names of a module that the first block has; the names on disk where it has none."""
    choices = [(names,) if isinstance(names, str) else names for names in choices]
    found = (names for names in choices if any(f"{first}{name}.weight" in reading for name in names))
    return next(found, choices[0])


def take_head(reading: Reading, model: str) -> tuple[str, int]:
    """Take the classifier; returns our `pool` and the number of classes, which config.json leaves out when it is 2."""
    if "cls_classifier.weight" in reading:
        reading.module("head", "cls_classifier")
        reading.module("head_dist", "distillation_classifier")
        return "cls_dist", reading.shape("cls_classifier.weight", 2)[0]
    if "classifier.weight" not in reading:
        return "cls", 0
    reading.module("head", "classifier")
    return "cls_mean" if model.startswith("dinov2") else "cls", reading.shape("classifier.weight", 2)[0]


def labels(said: Mapping[str, Any], classes: int) -> list[str] | None:
    """The names of the classes, if somebody gave them any."""
    names = said.get("id2label") or {}
    if len(names) != classes or not classes or all(str(v).startswith("LABEL_") for v in names.values()):
        return None
    return [str(names[key]) for key in sorted(names, key=int)]
