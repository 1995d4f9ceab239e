"""timm's Vision Transformers, whose names are ours; and what DINO and DeiT, which began as copies of timm, share with it."""

from collections.abc import Mapping
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

PREFIXES = ("", "state_dict.", "module.", "state_dict.module.")
# Tokens as they precede the patches; the last is DINOv2's name for registers.
TOKENS = ("cls_token", "dist_token", "reg_token", "register_tokens")
POOLS = {"avg": "norm_mean", "token": "cls", "map": "map", "": "cls"}  # where the norm comes before the pooling
# What other names a block may have: LayerScale in DeiT-III's own files, a SwiGLU that is packed into an MLP.
GAMMAS = {"gamma_1": "ls1.gamma", "gamma_2": "ls2.gamma"}
PACKED = {"mlp.fc1.weight": "mlp.w12.weight", "mlp.fc1.bias": "mlp.w12.bias"}
PACKED |= {"mlp.fc2.weight": "mlp.w3.weight", "mlp.fc2.bias": "mlp.w3.bias"}


def recognises(shapes: Shapes, config: dict[str, Any] | None) -> bool:
    return find_prefix(shapes, PREFIXES) is not None


def translate(tensors: Mapping[str, Stored], config: dict[str, Any] | None) -> Translation:
    reading = Reading(tensors, find_prefix(tensors, PREFIXES))
    config = config or {}
    said = {**config, **config.get("pretrained_cfg", {}), **config.get("model_args", {})}
    arguments, assumed = take(reading, said)
    third = is_deit_3(reading, said)
    deit = third or arguments["pool"] == "cls_dist"
    family = "timm ViT" + (" (DeiT-III)" if third else " (DeiT, distilled)" if deit else "")
    usual = {"crop_pct": 1.0 if third else 0.9, "interpolation": "bicubic", **(IMAGENET if deit else HALF)}
    prepare = {key: said[key] for key in usual if key in said}
    if "mean" not in prepare:
        assumed["preprocess"] = f"mean {usual['mean']}, crop_pct {usual['crop_pct']}, as this family usually has"
    if said.get("crop_mode") == "squash":
        prepare["resize"] = "exact"
    kind, arguments = plain_or_foreign(arguments)
    return reading.translation(
        family, kind, arguments, assumed=assumed, preprocess=usual | prepare, labels=said.get("label_names")
    )


def find_prefix(names: Mapping[str, Any], prefixes: tuple[str, ...]) -> str | None:
    """The first prefix under which there is any block of a ViT by timm's names: of several models in a file the first,
    even if parts of it are lost, so that another does not pass for it."""
    blocks = [name for name in names if name.endswith(".attn.qkv.weight")]
    return next((p for p in prefixes if any(name.startswith(f"{p}blocks.") for name in blocks)), None)


def is_deit_3(reading: Reading, said: Mapping[str, Any]) -> bool:
    """LayerScale and a lone class token without a position: of the published models only DeiT-III is like that."""
    tokens, slots, _ = layout(reading, said)
    return tokens == ["cls_token"] and "pos_embed" in reading and not slots and has(reading, "ls1.gamma", "gamma_1")


def has(reading: Reading, *parts: str) -> bool:
    """Whether the first block has one of these."""
    return any(f"blocks.0.{part}" in reading for part in parts)


def take(reading: Reading, said: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Take every tensor of a file with timm's names; returns the arguments of a ForeignViT and what had to be assumed.

    `said` may hold `input_size` (C, H, W), `global_pool` and `num_heads`; `asked_size` is the user's (H, W). Raises
    `CheckpointError`.
    """
    dim, channels, p, q = reading.shape("patch_embed.proj.weight", 4)
    tokens, slots, grid = layout(reading, said)
    pool = find_pool(reading, tokens, said)
    place_prefix(reading, tokens, "pos_embed" if "pos_embed" in reading else None, slots, pool)
    hidden, swiglu = take_modules(reading, dim)
    depth = reading.count("blocks.{i}.")
    heads, why = usual_heads(dim)
    assumed = {"eps": "1e-6, the family's default", "mlp": "exact GELU, the family's default", "num_heads": why}
    if grid and "input_size" not in said and grid[0] == grid[1]:
        assumed["image_size"] = f"{grid[0] * p}×{grid[1] * q}, as many patches down as across"
    if pool == "norm_mean":
        assumed["pool"] = "the mean of the patches after the norm; there is no class token"
    if "num_heads" in said:
        heads, assumed["num_heads"] = said["num_heads"], f"{said['num_heads']}, from config.json"
    if has(reading, "attn.q_norm.weight"):
        heads = max(1, dim // reading.shape("blocks.0.attn.q_norm.weight", 1)[0])
        del assumed["num_heads"]
    if swiglu:
        del assumed["mlp"]
    if absent := zeros_for_biases(reading, depth, dim, hidden, swiglu):
        assumed["biases"] = f"0 for {', '.join(absent)}: the file has none"
    arguments = {
        "image_size": (grid[0] * p, grid[1] * q) if grid else None,
        "patch_size": (p, q),
        "in_channels": channels,
        "num_classes": reading.shape("head.weight", 2)[0] if "head.weight" in reading else 0,
        "dim": dim,
        "depth": depth,
        "num_heads": heads,
        "mlp_ratio": hidden * 1.5 / dim if swiglu else ratio(hidden, dim),
        "pool": pool,
        "positions": "learned" if "pos_embed" in reading else "none",
        "registers": sum(reading.shape(name, 3)[1] for name in tokens) - pool.startswith("cls"),
        "layer_scale": 1.0 if has(reading, "ls1.gamma", "gamma_1") else None,
        "qkv_bias": has(reading, "attn.qkv.bias"),
        "qk_norm": has(reading, "attn.q_norm.weight"),
        "norm_pre": "norm_pre.weight" in reading,
        "mlp": "swiglu" if swiglu else "gelu",
    }
    return arguments, assumed


def layout(reading: Reading, said: Mapping[str, Any]) -> tuple[list[str], int, tuple[int, int] | None]:
    """The prefix tokens in order, how many rows of the positions are theirs, and the grid of the others, if it is known."""
    tokens = [name for name in TOKENS if name in reading]
    if "pos_embed" not in reading:
        return tokens, 0, None
    number, length = sum(reading.shape(name, 3)[1] for name in tokens), reading.shape("pos_embed", 3)[1]
    # DINOv2's registers come after the positions; timm's usually have none, and then the class token has none either.
    choices = [1] if "register_tokens" in tokens else [0, number] if "reg_token" in tokens else [number, 0]
    _, _, p, q = reading.shape("patch_embed.proj.weight", 4)
    told, asked = said.get("input_size", (0, 0, 0))[1:], said.get("asked_size", (0, 0))
    for size in (told, None, asked):  # what the user asks for may be the file's own size, where no square would do
        for slots in choices:
            grid = (size[0] // p, size[1] // q) if size else square(length - slots)
            if grid and grid[0] * grid[1] == length - slots:
                return tokens, slots, grid
    return tokens, choices[0], None


def find_pool(reading: Reading, tokens: list[str], said: Mapping[str, Any]) -> str:
    """Our `pool`. The names tell: `fc_norm` follows a mean, `attn_pool` asks, otherwise there is a class token or a mean."""
    if "head_dist.weight" in reading:
        return "cls_dist"
    if "fc_norm.weight" in reading:
        return "mean"
    if "attn_pool.latent" in reading:
        return "map"
    if "cls_token" not in tokens:
        return "norm_mean"
    if said.get("global_pool", "token") not in POOLS:
        raise CheckpointError(f"config.json: global_pool {said['global_pool']!r} is not known here: {', '.join(POOLS)}")
    return POOLS[said.get("global_pool", "token")]


def take_modules(reading: Reading, dim: int) -> tuple[int, bool]:
    """Take all but prefix tokens and positions under their own names; returns the MLP's width, and whether it is a SwiGLU."""
    if has(reading, "mlp.w3.weight"):
        inner, swiglu = reading.shape("blocks.0.mlp.w3.weight", 2)[1], True
    else:
        inner = reading.shape("blocks.0.mlp.fc2.weight", 2)[1]
        swiglu = reading.shape("blocks.0.mlp.fc1.weight", 2)[0] == 2 * inner
    renamed = GAMMAS | (PACKED if swiglu else {})
    for name in reading.names():
        block, i, part = (*name.split(".", 2), "", "")[:3]
        if block == "blocks" and part in renamed:
            reading.tensor(f"blocks.{i}.{renamed[part]}", name)
        elif name not in (*TOKENS, "pos_embed"):
            reading.tensor(name, name)
    return inner, swiglu


def zeros_for_biases(reading: Reading, depth: int, dim: int, hidden: int, swiglu: bool) -> list[str]:
    """Where a file does without a bias that our modules have (timm's `proj_bias=False`, `pre_norm`), it is 0; says which."""
    widths = {"attn.proj.bias": dim, "mlp.fc1.bias": hidden, "mlp.fc2.bias": dim}
    if swiglu:
        widths = {"attn.proj.bias": dim, "mlp.w12.bias": 2 * hidden, "mlp.w3.bias": dim}
    absent = [part for part in widths if not any(f"blocks.{i}.{part}" in reading.weights for i in range(depth))]
    for part in absent:
        for i in range(depth):
            reading.zeros(f"blocks.{i}.{part}", widths[part])
    if "norm_pre.weight" in reading and "patch_embed.proj.bias" not in reading:
        reading.zeros("patch_embed.proj.bias", dim)
        absent.append("patch_embed.proj.bias")
    return absent
