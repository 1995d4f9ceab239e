"""DINO's and DINOv2's own files: a backbone by timm's names, alone or inside a checkpoint of the whole training."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from minivit.interop import timm
from minivit.interop.preprocess import IMAGENET
from minivit.interop.source import Stored
from minivit.interop.translation import Reading, Shapes, Translation, plain_or_foreign

# The teacher is what DINO publishes; the student, alone wrapped for several GPUs, is there for `part="student"`.
PREFIXES = (
    "teacher.backbone.",
    "teacher.module.backbone.",
    "student.module.backbone.",
    "student.backbone.",
    "module.backbone.",
    "backbone.",
)
OUTSIDE = {
    "student.": "the student; part='student' loads it",
    "teacher.": "DINO's projection head, which is no classifier",
    "head.": "DINO's projection head, which is no classifier",
    "module.head.": "DINO's projection head, which is no classifier",
    "optimizer.": "of the training",
    "dino_loss.": "of the training",
    "fp16_scaler.": "of the training",
}
NOT_DINO = ("fc_norm.weight", "attn_pool.latent", "norm_pre.weight", "reg_token", "dist_token", "head.weight")


def recognises(shapes: Shapes, config: dict[str, Any] | None) -> bool:
    if timm.find_prefix(shapes, PREFIXES) is not None:
        return True
    if config or timm.find_prefix(shapes, ("",)) is None:
        return False
    second = "mask_token" in shapes or "register_tokens" in shapes
    return second or (
        "cls_token" in shapes and "blocks.0.ls1.gamma" not in shapes and not shapes.keys() & set(NOT_DINO)
    )


def translate(tensors: Mapping[str, Stored], config: dict[str, Any] | None) -> Translation:
    reading = Reading(tensors, timm.find_prefix(tensors, (*PREFIXES, "")))
    reading.shape("cls_token", 3)
    reading.leave_outside(OUTSIDE)
    second = "mask_token" in reading or "register_tokens" in reading
    reading.leave("mask_token", "stands for hidden patches in training only")
    arguments, assumed = timm.take(reading, config or {})
    # DINOv2 with registers was trained and is run with antialiasing, which is timm's way.
    resize = "timm" if "register_tokens" in reading else "dino"
    assumed["position_resize"] = f"{resize}, as its source does"
    if not (second or reading.prefix):
        assumed["family"] = "DINO, for a plain ViT without a head; if timm wrote it, say position_resize='timm'"
    assumed["preprocess"] = "ImageNet's mean and std, shorter side 256, crop 224, as its source does"
    kind, arguments = plain_or_foreign(arguments | {"position_resize": resize})
    return reading.translation(
        "DINOv2" if second else "DINO",
        kind,
        arguments,
        assumed=assumed,
        preprocess={"crop_pct": Fraction(224, 256), "interpolation": "bicubic", **IMAGENET},
    )
