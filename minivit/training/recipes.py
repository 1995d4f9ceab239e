"""What `minivit train` does when it is told no more than the data set: a model and its training options."""

from typing import Any

# Tuned on validation accuracy alone, for two cores.
RECIPES: dict[str, tuple[str, dict[str, Any]]] = {
    "digits": ("vit_digits", {"epochs": 150, "lr": 3e-3, "augment": "affine"}),
    "mnist": ("vit_28", {"epochs": 10, "lr": 2e-3, "augment": "affine"}),
    "fashion-mnist": ("vit_28", {"epochs": 10, "lr": 2e-3, "augment": "flip"}),
    "shapes": ("vit_shapes", {"epochs": 20, "lr": 1e-3, "augment": "flip"}),
    "twin": ("vit_twin", {"epochs": 10, "lr": 2e-3, "augment": "none"}),
    "cifar10": ("vit_32", {"epochs": 20, "lr": 1e-3, "augment": "flip+shift"}),
    "cifar100": ("vit_32", {"epochs": 20, "lr": 1e-3, "augment": "flip+shift"}),
    "folder": ("vit_32", {"epochs": 50, "lr": 1e-3, "augment": "flip+shift"}),
}
COMMON = {"batch_size": 64, "weight_decay": 0.05, "betas": (0.9, 0.99), "warmup": 0.1, "clip": 1.0}
# What these need instead of a Transformer's options.
BASELINES = {"linear": {"lr": 1e-3}, **dict.fromkeys(("cnn", "resnet_digits", "resnet_32"), {"lr": 3e-3})}


def recipe(data_name: str, model: str | None = None) -> tuple[str, dict[str, Any]]:
    """The default model of a data set, or the given one, and the options of `fit` for it; an unknown set gets a folder's."""
    default, options = RECIPES.get(data_name, RECIPES["folder"])
    model = model or default
    return model, {**COMMON, **options, **BASELINES.get(model, {})}
