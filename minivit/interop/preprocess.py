"""From a picture to what a pretrained model was trained to see: resize, centre crop, mean and standard deviation."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from minivit.data import image_files
from minivit.engine.errors import ConfigError, did_you_mean

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}  # of DeiT, DINO and most others in PyTorch
HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}  # of Google's
RESIZES = ("shorter", "exact", "fit")
FILTERS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")


@dataclass
class Preprocess:
    """Call it with a Pillow image or the path of one: float32 (1, H, W, C), as the model's source prepared its images.

    `size`: (H, W) of the crop. `resize`: `shorter` brings the shorter side to size / crop_pct, `exact` both sides whatever
    the proportions were, then the middle is cut out; `fit` cuts first. `interpolation` is one of Pillow's. `floor_crop`:
    where the middle is half a pixel away, cut higher and further left; torchvision goes to the even side.
    Raises `ConfigError` for other settings, `DataError` for a file that is no image.
    """

    size: tuple[int, int]
    resize: str = "shorter"
    crop_pct: float | Fraction = 0.9
    interpolation: str = "bicubic"
    mean: Sequence[float] = IMAGENET["mean"]
    std: Sequence[float] = IMAGENET["std"]
    floor_crop: bool = False

    def __post_init__(self) -> None:
        for name, known in (("resize", RESIZES), ("interpolation", FILTERS)):
            value = getattr(self, name)
            if value not in known:
                raise ConfigError(
                    f"preprocess: unknown {name} {value!r}, choose one of {', '.join(known)}{did_you_mean(value, known)}"
                )
        try:
            sane = (
                len(self.mean) == len(self.std) and all(self.std) and all(map(math.isfinite, (*self.mean, *self.std)))
            )
            within = 0 < self.crop_pct <= 1
        except TypeError as error:
            raise ConfigError(f"preprocess: size, mean, std and crop_pct must be numbers: {error}") from error
        if not sane:
            raise ConfigError(f"preprocess: mean {self.mean} and std {self.std} must be as long, and std not 0")
        if not within:
            raise ConfigError(f"preprocess: crop_pct {self.crop_pct} must be above 0, at most 1")

    def __call__(self, image: Any) -> np.ndarray:
        from PIL import Image, ImageOps

        mode = {1: "L", 3: "RGB"}.get(len(self.mean))
        if mode is None:
            raise ConfigError(f"preprocess: a picture has 1 or 3 channels, this model reads {len(self.mean)}")
        if isinstance(image, (str, os.PathLike)):
            pixels = image_files.read_pixels(image, channels=len(self.mean))
            image = Image.fromarray(pixels[..., 0] if mode == "L" else pixels)
        if not isinstance(image, Image.Image):
            raise ConfigError(f"preprocess: give it a Pillow image or the path of one, not {type(image).__name__}")
        image, how = image.convert(mode), Image.Resampling[self.interpolation.upper()]
        h, w = self.size
        if self.resize == "fit":
            image = ImageOps.fit(image, (w, h), method=how)
        else:
            rows, columns = self.scaled(image.height, image.width)
            top, left = ((n // 2 if self.floor_crop else round(n / 2)) for n in (rows - h, columns - w))
            image = image.resize((columns, rows), how).crop((left, top, left + w, top + h))
        x = np.asarray(image, np.float32).reshape(1, h, w, -1) / np.float32(255)
        return (x - np.float32(self.mean)) / np.float32(self.std)

    def scaled(self, rows: int, columns: int) -> tuple[int, int]:
        """The size of a picture of rows × columns before the crop, rounded as the libraries round it."""
        h, w = (math.floor(n / self.crop_pct) for n in self.size)
        if self.resize == "exact":
            return h, w
        if h == w:  # torchvision's Resize
            short, long = sorted((rows, columns))
            other = int(h * long / short)
            return (h, other) if rows <= columns else (other, h)
        scale = min(rows / h, columns / w)  # timm's ResizeKeepRatio
        return round(rows / scale), round(columns / scale)


_PILLOW = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}


def from_huggingface(said: dict[str, Any]) -> dict[str, Any]:
    """The settings of a `preprocessor_config.json`, as arguments of `Preprocess`. Raises `ConfigError`."""
    try:
        size = said.get("size", 224)
        size = {"height": size, "width": size} if isinstance(size, int) else size
        exact = "height" in size
        scaled = (size["height"], size["width"]) if exact else (size["shortest_edge"],) * 2
        crop = said.get("crop_size", scaled) if said.get("do_center_crop") else scaled
        crop = (crop, crop) if isinstance(crop, int) else crop
        crop = (crop["height"], crop["width"]) if isinstance(crop, dict) else tuple(crop)
        return {
            "size": crop,
            "resize": "exact" if exact else "shorter",
            "crop_pct": Fraction(crop[0], scaled[0]),
            "interpolation": _PILLOW[said.get("resample", 2)],
            "mean": tuple(map(float, said["image_mean"])),
            "std": tuple(map(float, said["image_std"])),
            "floor_crop": True,
        }
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        raise ConfigError(f"preprocessor_config.json: cannot be understood: {error!r}") from error
