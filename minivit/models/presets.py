"""Named sizes: the paper's, and small ones for a laptop."""

import inspect
from typing import Any

from minivit.engine.errors import ConfigError, did_you_mean
from minivit.models.baselines import LinearClassifier, SmallCNN
from minivit.models.fnet import FNet
from minivit.models.foreign import ForeignViT
from minivit.models.google_vit import GoogleViT
from minivit.models.hybrid import Hybrid
from minivit.models.mixer import Mixer
from minivit.models.resnet import ResNet
from minivit.models.vit import ViT
from minivit.nn.module import Module

_PLAIN = {"mlp_ratio": 2.0, "positions": "learned_sincos", "position_base": 100.0}
_SMALL = {"num_heads": 4, **_PLAIN}

presets: dict[str, dict[str, Any]] = {  # `model` is a key of MODELS; where it is not given, a ViT
    "vit_tiny_patch16_224": {"dim": 192, "depth": 12, "num_heads": 3},
    "vit_small_patch16_224": {"dim": 384, "depth": 12, "num_heads": 6},
    "vit_base_patch16_224": {"dim": 768, "depth": 12, "num_heads": 12},
    "vit_large_patch16_224": {"dim": 1024, "depth": 24, "num_heads": 16},
    "mixer_s16_224": {"model": "Mixer", "dim": 512, "depth": 8, "tokens_mlp_dim": 256, "channels_mlp_dim": 2048},
    "mixer_b16_224": {"model": "Mixer", "dim": 768, "depth": 12, "tokens_mlp_dim": 384, "channels_mlp_dim": 3072},
    "vit_digits": {
        "image_size": 8,
        "patch_size": 2,
        "in_channels": 1,
        "num_classes": 10,
        "dim": 48,
        "depth": 3,
        **_SMALL,
    },
    "vit_28": {"image_size": 28, "patch_size": 7, "in_channels": 1, "num_classes": 10, "dim": 64, "depth": 4, **_SMALL},
    "vit_32": {"image_size": 32, "patch_size": 4, "in_channels": 3, "num_classes": 10, "dim": 96, "depth": 6, **_SMALL},
    "hybrid_32": {
        "model": "Hybrid",
        "image_size": 32,
        "patch_size": 4,
        "in_channels": 3,
        "num_classes": 10,
        "dim": 96,
        "depth": 6,
        **_SMALL,
    },
    "fnet_32": {
        "model": "FNet",
        "image_size": 32,
        "patch_size": 4,
        "in_channels": 3,
        "num_classes": 10,
        "dim": 96,
        "depth": 6,
        **_PLAIN,
    },
    "resnet_32": {"model": "ResNet", "image_size": 32, "in_channels": 3, "num_classes": 10, "width": 16},
    "fnet_digits": {
        "model": "FNet",
        "image_size": 8,
        "patch_size": 2,
        "in_channels": 1,
        "num_classes": 10,
        "dim": 48,
        "depth": 3,
        **_PLAIN,
    },
    "resnet_digits": {"model": "ResNet", "image_size": 8, "in_channels": 1, "num_classes": 10, "width": 8},
    "vit_shapes": {
        "image_size": 24,
        "patch_size": 4,
        "in_channels": 3,
        "num_classes": 8,
        "dim": 64,
        "depth": 4,
        **_SMALL,
    },
    "vit_twin": {
        "image_size": 16,
        "patch_size": 4,
        "in_channels": 3,
        "num_classes": 4,
        "dim": 48,
        "depth": 2,
        **_SMALL,
    },
}

MODELS: dict[str, type[Module]] = {
    "ViT": ViT,
    "ForeignViT": ForeignViT,
    "GoogleViT": GoogleViT,
    "Hybrid": Hybrid,
    "Mixer": Mixer,
    "FNet": FNet,
    "ResNet": ResNet,
    "LinearClassifier": LinearClassifier,
    "SmallCNN": SmallCNN,
}
BASELINES = {"linear": LinearClassifier, "cnn": SmallCNN}


def create(name: str, **overrides: Any) -> Module:
    """A model by preset name (`mv.presets`), or `"linear"` or `"cnn"`, with any constructor argument overridden.

    Raises `ConfigError` for an unknown name or argument.
    """
    if name in presets:
        sizes = {**presets[name], **overrides}
        return build(sizes.pop("model", "ViT"), sizes)
    if name in BASELINES:
        return build(BASELINES[name].__name__, overrides)
    known = [*presets, *BASELINES]
    raise ConfigError(f"unknown model {name!r}; choose one of {', '.join(known)}{did_you_mean(name, known)}")


def build(kind: str, config: dict[str, Any]) -> Module:
    """A model of a known class from its constructor's arguments. Raises `ConfigError`."""
    if kind not in MODELS:
        raise ConfigError(f"unknown kind of model {kind!r}; known are {', '.join(MODELS)}{did_you_mean(kind, MODELS)}")

    known = inspect.signature(MODELS[kind]).parameters
    for argument in config:
        if argument not in known:
            raise ConfigError(f"{kind} has no argument {argument!r}{did_you_mean(argument, known)}")
    return MODELS[kind](**{k: tuple(v) if isinstance(v, list) else v for k, v in config.items()})
