"""The ViT's relatives at its budget: the same patches, width, depth and number of parameters, another way to mix tokens."""

from typing import Any

import minivit as mv
from minivit.data.dataset import Dataset
from minivit.engine.errors import ConfigError, did_you_mean
from minivit.training.recipes import recipe

RELATIVES = {  # name -> preset whose sizes are replaced, and what makes it what it is
    "mixer": ("mixer_s16_224", {}),
    "fnet": ("fnet_32", {"mixing": "tokens"}),
    "fnet, grid": ("fnet_32", {"mixing": "grid"}),
    "no mixing": ("fnet_32", {"mixing": "none"}),  # the control: each patch is alone until the mean
}


def sizes(name: str, data: Dataset) -> tuple[str, dict[str, Any]]:
    """The preset and its sizes with which a relative has as many parameters as the ViT of these data.

    Its MLP over the features takes up what attention's four matrices leave; the Mixer's token MLPs are half as wide as a
    token, as in the paper. Raises `ConfigError` for another name.
    """
    if name not in RELATIVES:
        raise ConfigError(
            f"unknown relative {name!r}, choose one of {', '.join(RELATIVES)}{did_you_mean(name, RELATIVES)}"
        )
    preset, own = RELATIVES[name]
    of_data = {"image_size": data.image_size, "in_channels": data.in_channels, "num_classes": data.num_classes}
    vit = mv.create(recipe(data.name)[0], **of_data)
    fixed = own | {key: vit.config[key] for key in ("patch_size", "dim", "depth")}
    if name == "mixer":
        fixed |= {"tokens_mlp_dim": vit.config["dim"] // 2}

        def widened(hidden: int) -> dict[str, Any]:
            return fixed | {"channels_mlp_dim": hidden}

    else:
        fixed |= {key: vit.config[key] for key in ("positions", "position_base")}

        def widened(hidden: int) -> dict[str, Any]:
            return fixed | {"mlp_ratio": (hidden + 0.5) / vit.config["dim"]}  # rounded down to `hidden`

    one, two = (mv.create(preset, **of_data, **widened(n)).num_parameters() for n in (1, 2))
    return preset, widened(max(1, round(1 + (vit.num_parameters() - one) / (two - one))))  # linear in the hidden width
