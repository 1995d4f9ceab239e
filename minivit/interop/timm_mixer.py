"""timm's MLP-Mixers, whose names are ours."""

from collections.abc import Mapping
from typing import Any

from minivit.interop.preprocess import HALF
from minivit.interop.source import Stored
from minivit.interop.timm import PREFIXES
from minivit.interop.translation import Reading, Shapes, Translation, square


def recognises(shapes: Shapes, config: dict[str, Any] | None) -> bool:
    return _prefix(shapes) is not None


def translate(tensors: Mapping[str, Stored], config: dict[str, Any] | None) -> Translation:
    reading = Reading(tensors, _prefix(tensors))
    dim, channels, p, q = reading.shape("stem.proj.weight", 4)
    tokens_hidden, n = reading.shape("blocks.0.mlp_tokens.fc1.weight", 2)
    said = {**(config or {}), **(config or {}).get("pretrained_cfg", {})}
    _, h, w = said.get("input_size", (0, 0, 0))
    grid = (h // p, w // q) if (h // p) * (w // q) == n else square(n)
    for name in reading.names():
        reading.tensor(name, name)
    arguments = {
        "image_size": (grid[0] * p, grid[1] * q) if grid else None,
        "patch_size": (p, q),
        "in_channels": channels,
        "num_classes": reading.shape("head.weight", 2)[0] if "head.weight" in reading or "head.bias" in reading else 0,
        "dim": dim,
        "depth": reading.count("blocks.{i}."),
        "tokens_mlp_dim": tokens_hidden,
        "channels_mlp_dim": reading.shape("blocks.0.mlp_channels.fc1.weight", 2)[0],
    }
    assumed = {"eps": "1e-6, the family's default", "mlp": "exact GELU, the family's default"}
    prepare = {"crop_pct": 0.875, "interpolation": "bicubic", **HALF}
    if "mean" not in said:
        assumed["preprocess"] = f"{prepare}, as this family usually has"
    prepare |= {key: said[key] for key in prepare if key in said}
    return reading.translation(
        "timm MLP-Mixer", "Mixer", arguments, assumed=assumed, preprocess=prepare, labels=said.get("label_names")
    )


def _prefix(names: Mapping[str, Any]) -> str | None:
    return next((p for p in PREFIXES if any(n.startswith(p + "blocks.0.mlp_tokens.") for n in names)), None)
