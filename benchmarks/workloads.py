"""The four models that every benchmark times, from a digit to an ImageNet image, and their inputs."""

from typing import Any

import numpy as np


def _workload(
    what: str, batch: int, side: int, patch: int, channels: int, classes: int, **sizes: Any
) -> dict[str, Any]:
    model = {"image_size": side, "patch_size": patch, "in_channels": channels, "num_classes": classes, **sizes}
    return {
        "what": f"{what}: {side}×{side}×{channels}, patch {patch}, {sizes}, B={batch}",
        "batch": batch,
        "model": model,
    }


WORKLOADS: dict[str, dict[str, Any]] = {
    "W1": _workload("digits", 128, 8, 2, 1, 10, dim=64, depth=4, num_heads=4, mlp_ratio=2.0),
    "W2": _workload("fashion", 128, 28, 4, 1, 10, dim=96, depth=6, num_heads=4, mlp_ratio=4.0),
    "W3": _workload("cifar", 64, 32, 4, 3, 10, dim=192, depth=6, num_heads=3, mlp_ratio=4.0),
    "W4": _workload("ViT-Ti/16", 8, 224, 16, 3, 1000, dim=192, depth=12, num_heads=3, mlp_ratio=4.0),
}
LEARNING_RATE, DECAY = 1e-3, 0.05


def build(name: str):
    """The minivit model of a workload, with a head that is not zero, so that the first loss says something."""
    import minivit as mv

    model = mv.ViT(**WORKLOADS[name]["model"])
    rng = np.random.default_rng(1)
    model.head.weight.data[...] = 0.02 * rng.standard_normal(model.head.weight.shape, np.float32)
    return model


def batch(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (B, H, W, C) float32 and labels (B,) int64, the same at every call."""
    spec, rng = WORKLOADS[name], np.random.default_rng(2)
    config = spec["model"]
    side, channels = config["image_size"], config["in_channels"]
    images = rng.standard_normal((spec["batch"], side, side, channels), np.float32)
    return images, rng.integers(0, config["num_classes"], spec["batch"])
