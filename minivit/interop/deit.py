"""DeiT's and DeiT-III's own checkpoints: timm's names under `model`."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from minivit.interop import timm
from minivit.interop.preprocess import IMAGENET
from minivit.interop.source import Stored
from minivit.interop.translation import Reading, Shapes, Translation, plain_or_foreign

PREFIXES = ("model.", "model.module.", "model_ema.")


def recognises(shapes: Shapes, config: dict[str, Any] | None) -> bool:
    prefix = timm.find_prefix(shapes, (*PREFIXES, ""))
    return prefix in PREFIXES or (prefix == "" and "blocks.0.gamma_1" in shapes)


def translate(tensors: Mapping[str, Stored], config: dict[str, Any] | None) -> Translation:
    reading = Reading(tensors, timm.find_prefix(tensors, (*PREFIXES, "")))
    reading.leave_outside(
        {"optimizer.": "of the training", "model_ema.": "the average of the weights; part='model_ema' loads it"}
    )
    reading.shape("cls_token", 3)
    arguments, assumed = timm.take(reading, config or {})
    third = timm.is_deit_3(reading, config or {})
    crop = 1.0 if third else Fraction(224, 256)
    assumed["preprocess"] = f"ImageNet's mean and std, crop_pct {float(crop)}, as DeiT was evaluated"
    assumed["position_resize"] = "huggingface (plain bicubic), as DeiT's fine-tuning does it"
    kind, arguments = plain_or_foreign(arguments | {"position_resize": "huggingface"})
    return reading.translation(
        "DeiT-III" if third else "DeiT",
        kind,
        arguments,
        assumed=assumed,
        preprocess={"crop_pct": crop, "interpolation": "bicubic", **IMAGENET},
    )
