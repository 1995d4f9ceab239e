"""Our models in timm: the call that builds the same network there, and the few tensors that it names otherwise."""

import math
from typing import Any

import numpy as np

from minivit.engine.errors import ConfigError
from minivit.nn.module import Module

Tensors = dict[str, np.ndarray]

VITS = ("ViT", "ForeignViT")
NOT_IN_TIMM = {"Hybrid": "a convolutional stem", "GoogleViT": "a hidden layer before the head (pre_logits)"}


def timm_call(model: Module) -> str:
    """The Python expression that builds this network in timm, so that it loads what `save` wrote, with strict=True.

    It needs `import functools, timm, torch`. Raises `ConfigError` naming all that timm cannot express.
    """
    kind, config = type(model).__name__, getattr(model, "config", {})
    reasons = what_timm_lacks(model)
    if reasons:
        raise ConfigError(f"timm cannot express this {kind}: {'; '.join(reasons)}")
    sizes = {"img_size": config["image_size"], "patch_size": config["patch_size"], "in_chans": config["in_channels"]}
    sizes |= {"num_classes": config["num_classes"], "embed_dim": config["dim"]}
    if kind == "Mixer":
        ratios = tuple(_ratio(config[name], config["dim"]) for name in ("tokens_mlp_dim", "channels_mlp_dim"))
        return _written(
            "timm.models.MlpMixer", sizes | {"num_blocks": config["depth"], "mlp_ratio": ratios} | _parts(config)
        )
    sizes |= {"depth": config["depth"], "num_heads": config["num_heads"], "mlp_ratio": config["mlp_ratio"]}
    two = config["pool"] == "cls_dist"
    return _written(
        "timm.models.deit.VisionTransformerDistilled" if two else "timm.models.VisionTransformer",
        sizes | _pooling(config) | _options(config) | _parts(config),
    )


def what_timm_lacks(model: Module) -> list[str]:
    """What of a model timm has no word for, in half-sentences; empty where it has one for everything."""
    kind, config = type(model).__name__, getattr(model, "config", {})
    if kind == "Mixer":
        return []
    if kind not in VITS:
        return [NOT_IN_TIMM.get(kind, "it has no such network")]
    pool, dim, width = config["pool"], config["dim"], config.get("attention_dim") or config["dim"]
    lacking = {
        "rotary positions": config.get("rope"),
        "norms around the patch matrix": config.get("patch_norm"),
        f"attention {width} wide in a model {dim} wide": width != dim,
        "a head that reads the class token beside the mean of the patches": pool == "cls_mean",
        "register tokens beside a distillation token": pool == "cls_dist" and config["registers"] > 1,
        "a distillation token without positions": pool == "cls_dist" and config["positions"] == "none",
        "a bias of the patch matrix before norm_pre": config.get("norm_pre")
        and model.patch_embed.proj.bias.numpy().any(),
    }
    return [reason for reason, found in lacking.items() if found]


def is_plain(model: Module) -> bool:
    """Whether timm's default parts (exact GELU, LayerNorm ε = 1e-6) compute the same."""
    return not what_timm_lacks(model) and not _parts(model.config)


def _pooling(config: dict[str, Any]) -> dict[str, Any]:
    """timm's words for our `pool` and for the tokens in front."""
    pool = config["pool"]
    table = {
        "mean": {"global_pool": "avg"},
        "norm_mean": {"global_pool": "avg", "fc_norm": False},
        "tokens_mean": {"global_pool": "avg", "fc_norm": False, "pool_include_prefix": True},
        "map": {"global_pool": "map"},
    }
    words = table.get(pool, {}) | ({} if pool.startswith("cls") or pool == "tokens_mean" else {"class_token": False})
    if config["registers"] and pool != "cls_dist":
        words |= {"reg_tokens": config["registers"], "no_embed_class": True}
    return words


def _options(config: dict[str, Any]) -> dict[str, Any]:
    given = {
        "qkv_bias": config["qkv_bias"] or False,
        "qk_norm": config["qk_norm"],
        "init_values": config["layer_scale"],
        "pos_embed": "none" if config["positions"] == "none" else "learn",
        "pre_norm": config.get("norm_pre", False),
    }
    usual = {"qkv_bias": True, "qk_norm": False, "init_values": None, "pos_embed": "learn", "pre_norm": False}
    return {k: v for k, v in given.items() if v != usual[k]}


class _Code(str):
    """Text that is written without quotes."""

    __repr__ = str.__str__


def _parts(config: dict[str, Any]) -> dict[str, Any]:
    """The parts that timm must be told of because its default ones compute something else."""
    parts: dict[str, Any] = {}
    if config["mlp"] == "gelu_tanh":
        parts["act_layer"] = _Code("timm.layers.GELUTanh")
    if config["mlp"] == "swiglu":
        hidden = -(-int(config["dim"] * config["mlp_ratio"] * 2 / 3) // 8) * 8
        parts |= {"mlp_layer": _Code("timm.layers.SwiGLUPacked"), "act_layer": _Code("torch.nn.SiLU")}
        parts["mlp_ratio"] = _ratio(2 * hidden, config["dim"])
    if config["eps"] != 1e-6:
        parts["norm_layer"] = _Code(f"functools.partial(torch.nn.LayerNorm, eps={config['eps']!r})")
    return parts


def _ratio(hidden: int, dim: int) -> float:
    """The number for which `int(dim * ratio)` is `hidden`."""
    ratio = hidden / dim
    return ratio if int(dim * ratio) == hidden else math.nextafter(ratio, math.inf)


def _written(function: str, arguments: dict[str, Any]) -> str:
    return f"{function}({', '.join(f'{k}={v!r}' for k, v in arguments.items())})"


# --- names ------------------------------------------------------------------------------------------------------------


def to_timm(model: Module, tensors: Tensors) -> Tensors:
    """Tensors by our names -> by timm's, where they differ: a distillation token, SwiGLU, a patch matrix before norm_pre."""
    if type(model).__name__ not in VITS:
        return tensors
    config, found = model.config, {_renamed(name, SWIGLU): array for name, array in tensors.items()}
    if _has_distillation(config) and "pos_embed" in found:
        found["dist_token"] = found.pop("reg_token")
        table = found["pos_embed"]  # the rows of both tokens are in the tokens already
        found["pos_embed"] = np.concatenate([np.zeros_like(table[:, :1]).repeat(2, axis=1), table], axis=1)
    if left_out(model) and not found["patch_embed.proj.bias"].any():
        del found["patch_embed.proj.bias"]
    return found


def from_timm(model: Module, tensors: Tensors) -> Tensors:
    """The inverse of `to_timm`; other tensors as they are."""
    found = {our_name(model, name): our_rows(model, name, array) for name, array in tensors.items()}
    if left_out(model):
        found.setdefault("patch_embed.proj.bias", np.zeros_like(model.patch_embed.proj.bias.numpy()))
    return found


def our_name(model: Module, name: str) -> str:
    """Our name of a tensor in a file that `save` wrote."""
    if type(model).__name__ not in VITS:
        return name
    if model.config["mlp"] == "swiglu":
        name = _renamed(name, {theirs: ours for ours, theirs in SWIGLU.items()})
    return "reg_token" if name == "dist_token" and _has_distillation(model.config) else name


def our_rows(model: Module, name: str, array: np.ndarray) -> np.ndarray:
    """A tensor without the two rows that `to_timm` put in front of the positions."""
    if name != "pos_embed" or type(model).__name__ not in VITS or not _has_distillation(model.config):
        return array
    return array[:, 2:] if array.ndim == 3 and array.shape[1] == model.pos_embed.shape[1] + 2 else array


def left_out(model: Module) -> bool:
    """Whether `to_timm` may have left the bias of the patch matrix out, which is 0 then."""
    return type(model).__name__ in VITS and bool(model.config.get("norm_pre"))


SWIGLU = {".mlp.w12.": ".mlp.fc1.", ".mlp.w3.": ".mlp.fc2."}


def _renamed(name: str, table: dict[str, str]) -> str:
    for old, new in table.items():
        name = name.replace(old, new)
    return name


def _has_distillation(config: dict[str, Any]) -> bool:
    return config["pool"] == "cls_dist" and config["registers"] == 1
