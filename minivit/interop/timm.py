"""timm's Vision Transformers, whose names are ours."""

from collections.abc import Mapping
from typing import Any

from minivit.interop.preprocess import HALF
from minivit.interop.source import Stored
from minivit.interop.translation import Reading, Shapes, Translation, place_prefix, ratio, square, usual_heads

PREFIXES = ("", "state_dict.", "model.")
PREFIX_TOKENS = ("cls_token", "dist_token", "reg_token")


def recognises(shapes: Shapes, config: dict[str, Any] | None) -> bool:
    return any(
        len(shapes.get(f"{p}patch_embed.proj.weight", ())) == 4 and f"{p}blocks.0.attn.qkv.weight" in shapes
        for p in PREFIXES
    )


def translate(tensors: Mapping[str, Stored], config: dict[str, Any] | None) -> Translation:
    prefix = next(p for p in PREFIXES if f"{p}blocks.0.attn.qkv.weight" in tensors)
    reading = Reading(tensors, prefix)
    said = (config or {}).get("pretrained_cfg", {})
    arguments, assumed = read_arguments(reading, said)
    for name in reading.names():
        if name not in (*PREFIX_TOKENS, "pos_embed"):
            reading.tensor(name, name)
    kind = "ViT" if arguments["pool"] in ("cls", "mean") else "ForeignViT"
    return reading.translation("timm ViT", kind, arguments, assumed=assumed, preprocess=preprocessing(said))


def read_arguments(reading: Reading, said: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The constructor's arguments as the shapes tell them, and what they do not tell; prefix tokens and positions given."""
    dim, channels, p, q = reading.shape("patch_embed.proj.weight", 4)
    hidden, _ = reading.shape("blocks.0.mlp.fc1.weight", 2)
    tokens = [name for name in PREFIX_TOKENS if name in reading]
    pool = "mean" if "fc_norm.weight" in reading else "cls" if "cls_token" in tokens else "norm_mean"
    number = sum(reading.shape(name, 3)[1] for name in tokens)
    heads, why = usual_heads(dim)
    assumed = {"eps": "1e-6, the family's default", "mlp": "exact GELU, the family's default", "num_heads": why}
    if "blocks.0.attn.q_norm.weight" in reading:
        heads = dim // reading.shape("blocks.0.attn.q_norm.weight", 1)[0]
        del assumed["num_heads"]
    grid, slots = None, 0
    if "pos_embed" in reading:
        _, length, _ = reading.shape("pos_embed", 3)
        # Register tokens have no positions in timm's published models; a class token without them usually has one.
        choices = [0, number] if "reg_token" in tokens else [number, 0]
        slots = next((s for s in choices if square(length - s)), choices[0])
        grid = square(length - slots)
    place_prefix(reading, tokens, "pos_embed" if "pos_embed" in reading else None, slots, pool)
    arguments = {
        "image_size": (grid[0] * p, grid[1] * q) if grid else None,
        "patch_size": (p, q),
        "in_channels": channels,
        "num_classes": reading.shape("head.weight", 2)[0] if "head.weight" in reading else 0,
        "dim": dim,
        "depth": reading.count("blocks.{i}."),
        "num_heads": heads,
        "mlp_ratio": ratio(hidden, dim),
        "pool": pool,
        "positions": "learned" if "pos_embed" in reading else "none",
        "registers": number - (pool == "cls"),
        "layer_scale": 1.0 if "blocks.0.ls1.gamma" in reading else None,
        "qkv_bias": "blocks.0.attn.qkv.bias" in reading,
        "qk_norm": "blocks.0.attn.q_norm.weight" in reading,
    }
    return arguments, assumed


def preprocessing(said: dict[str, Any]) -> dict[str, Any]:
    """timm's settings, from the `pretrained_cfg` of its config.json or the default of its ViTs."""
    mean, std = said.get("mean", HALF["mean"]), said.get("std", HALF["std"])
    return {
        "crop_pct": said.get("crop_pct", 0.9),
        "interpolation": said.get("interpolation", "bicubic"),
        "mean": mean,
        "std": std,
    }
