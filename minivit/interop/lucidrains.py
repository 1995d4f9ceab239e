"""ViT and SimpleViT of lucidrains' vit-pytorch."""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from minivit.interop.preprocess import IMAGENET
from minivit.interop.source import Stored
from minivit.interop.translation import Reading, Shapes, Translation, place_prefix, plain_or_foreign, ratio, square

MODULES = {
    "patch_embed.norm_in": "to_patch_embedding.1",
    "patch_embed.proj": "to_patch_embedding.2",
    "patch_embed.norm_out": "to_patch_embedding.3",
    "blocks.{i}.norm1": "transformer.layers.{i}.0.norm",
    "blocks.{i}.norm2": "transformer.layers.{i}.1.net.0",
    "blocks.{i}.mlp.fc1": "transformer.layers.{i}.1.net.1",
    "norm": "transformer.norm",
}
VIT = {"blocks.{i}.mlp.fc2": "transformer.layers.{i}.1.net.4"}
SIMPLE = {"blocks.{i}.mlp.fc2": "transformer.layers.{i}.1.net.3"}


def recognises(shapes: Shapes, config: dict[str, Any] | None) -> bool:
    return "to_patch_embedding.2.weight" in shapes and "transformer.layers.0.0.to_qkv.weight" in shapes


def translate(tensors: Mapping[str, Stored], config: dict[str, Any] | None) -> Translation:
    reading = Reading(tensors)
    simple = "cls_token" not in reading and "pos_embedding" not in reading
    depth = reading.count("transformer.layers.{i}.")
    dim, numbers = reading.shape("to_patch_embedding.2.weight", 2)
    inner = reading.shape("transformer.layers.0.0.to_qkv.weight", 2)[0] // 3
    hidden = reading.shape("transformer.layers.0.1.net.1.weight", 2)[0]
    head = "linear_head" if simple else "mlp_head"
    classes = reading.shape(f"{head}.weight", 2)[0] if f"{head}.weight" in reading else 0
    reading.modules(MODULES | (SIMPLE if simple else VIT) | ({"head": head} if classes else {}), depth)
    for i in range(depth):
        reading.module(f"blocks.{i}.attn.qkv", f"transformer.layers.{i}.0.to_qkv", bias=False)
    projected = take_projections(reading, depth, dim, simple)

    tokens, slots, grid = [], 0, None
    if "pos_embedding" in reading:
        slots = math.prod(reading.tensors["cls_token"].shape) // dim if "cls_token" in reading else 0
        if slots:
            tokens = ["cls_token"]
        else:
            reading.leave("cls_token", "has no rows: the patches are averaged")
        grid = square(reading.tensors["pos_embedding"].shape[-2] - slots)
        place_prefix(reading, tokens, "pos_embedding", slots, "cls")
    patch, channels = patches(numbers)
    heads = inner // 64 if inner % 64 == 0 else None
    assumed = {
        "eps": "1e-5, the library's default",
        "mlp": "exact GELU, as in the library",
        "num_heads": f"{heads}, each 64 wide, the library's default",
        "patch_size": f"{patch}, square, of {channels} channels",
        "preprocess": "ImageNet's mean and std, crop_pct 0.875; the library has no preparation of its own",
    }
    if not projected:
        heads = 1
        assumed["num_heads"] = "1, since the attention has no projection"
    if simple:
        assumed["positions"] = "computed sines and cosines, as in SimpleViT, for any image size"
    else:
        assumed["position_resize"] = "timm; the library cannot resize positions"
    if slots:
        assumed["pool"] = "cls; an old file may be of a model that averaged all tokens: say pool='tokens_mean'"
    kind, arguments = plain_or_foreign(
        {
            "image_size": (grid[0] * patch, grid[1] * patch) if grid and patch else None,
            "patch_size": patch,
            "in_channels": channels,
            "num_classes": classes,
            "dim": dim,
            "depth": depth,
            "num_heads": heads,
            "mlp_ratio": ratio(hidden, dim),
            "pool": "cls" if slots else "norm_mean",
            "positions": "sincos" if simple else "learned",
            "qkv_bias": False,
            "eps": 1e-5,
            "patch_norm": True,
            "attention_dim": None if inner == dim else inner,
        }
    )
    return reading.translation(
        "lucidrains SimpleViT" if simple else "lucidrains ViT",
        kind,
        arguments,
        assumed=assumed,
        preprocess={"crop_pct": 0.875, "interpolation": "bicubic", **IMAGENET},
    )


def take_projections(reading: Reading, depth: int, dim: int, simple: bool) -> bool:
    """The attention's last Linears, without a bias in SimpleViT; False where they are left out, as they are for one head."""
    projected = any(".to_out." in name for name in reading.names())
    for i in range(depth):
        ours, theirs = f"blocks.{i}.attn.proj", f"transformer.layers.{i}.0.to_out"
        if projected:
            reading.module(ours, theirs if simple else f"{theirs}.0", bias=not simple)
        else:
            reading.weights[f"{ours}.weight"] = partial(np.eye, dim, dtype=np.float32)
        if simple or not projected:
            reading.zeros(f"{ours}.bias", dim)
    return projected


def patches(numbers: int) -> tuple[int | None, int | None]:
    """The side and the channels of square patches of so many numbers: of 3 channels if that works out, else of 1."""
    for channels in (3, 1):
        if numbers % channels == 0 and (side := square(numbers // channels)):
            return side[0], channels
    return None, None
