"""From an image file to an array, whatever the file holds; and to another size."""

import os
import warnings
from pathlib import Path

import numpy as np

from minivit.data.dataset import to_float
from minivit.engine.errors import ConfigError, DataError, DTypeError, ShapeError

# Only formats that Pillow decodes by itself: some others (EPS, for one) start another program.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm")


def read_image(
    path: str | os.PathLike, *, size: tuple[int, int] | None = None, channels: int | None = None
) -> np.ndarray:
    """One image file as float32 (H, W, C) in [0, 1].

    `size` (height, width): scaled, then cropped round the middle where the proportions differ; None keeps the file's
    own. `channels` 1 (grey) or 3 (RGB); None keeps what the file has. The camera's orientation mark is obeyed,
    transparent parts become white, 16-bit values are rounded to 8. Raises DataError, naming the file, when it is missing,
    damaged, no image or too large (90 million pixels); ConfigError for an impossible size or channel count.
    """
    return to_float(read_pixels(path, size=size, channels=channels))


def read_pixels(
    path: str | os.PathLike, *, size: tuple[int, int] | None = None, channels: int | None = None
) -> np.ndarray:
    """The same as `read_image`, as uint8 (H, W, C) in 0…255."""
    from PIL import Image, ImageOps

    if channels not in (None, 1, 3):
        raise ConfigError(f"channels must be 1 (grey) or 3 (RGB), not {channels!r}")
    if size is not None and min(size) < 1:
        raise ConfigError(f"image size must be at least 1×1, not {size}")
    path = Path(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on odd but readable files
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=_FORMATS) as image:
                image = ImageOps.exif_transpose(image)
                image = _plain(image, channels, path)
                if size is not None:
                    image = ImageOps.fit(image, (size[1], size[0]), method=Image.Resampling.BICUBIC)
                pixels = np.array(image)
    except DataError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        limit = Image.MAX_IMAGE_PIXELS or 0
        raise DataError(f"{path} has more than {limit:,} pixels; make it smaller first") from None
    except Image.UnidentifiedImageError:
        what = "is empty" if path.stat().st_size == 0 else f"is not an image of a known kind ({', '.join(_FORMATS)})"
        raise DataError(f"{path} {what}") from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None
    except Exception as error:  # decoders meet damaged files with errors of every type
        raise DataError(f"cannot read {path}: the image is damaged ({type(error).__name__}: {error})") from None
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _plain(image, channels: int | None, path: Path):
    """A Pillow image in mode L or RGB, out of any mode."""
    from PIL import Image

    if image.mode == "F":
        raise DataError(f"{path} has floating-point pixels, whose range is unknown; save it as an 8-bit PNG")
    if image.mode.startswith("I"):  # 16 bits a pixel, though some versions of Pillow hold them in 32
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise DataError(f"{path} has pixels of more than 16 bits; save it as an 8-bit PNG")
        image = Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))
    grey = image.mode in ("1", "L", "LA", "La")
    if image.mode[-1] in "Aa" or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if channels is None:
        channels = 1 if grey else 3
    if channels == 1 and not grey:
        image = image.convert("RGB")
    return image.convert("L" if channels == 1 else "RGB")


def resize_images(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A batch (n, H, W, C), uint8 or float32, scaled to (n, height, width, C) of the same type; proportions may change.

    Linear interpolation; where the image shrinks, the filter widens with it, so that every pixel counts. Raises
    ShapeError, DTypeError or ConfigError for other arrays and sizes.
    """
    if images.ndim != 4:
        raise ShapeError(f"resize_images: expected images (n, H, W, C), not {images.shape}")
    if images.dtype not in (np.uint8, np.float32):
        raise DTypeError(f"resize_images: expected uint8 or float32, not {images.dtype}")
    if min(size) < 1:
        raise ConfigError(f"image size must be at least 1×1, not {size}")
    down = _weights(images.shape[1], size[0])  # (height, H)
    across = _weights(images.shape[2], size[1])  # (width, W)
    values = np.einsum("hH,nHWC->nhWC", down, images.astype(np.float32), optimize=True)
    values = np.einsum("wW,nhWC->nhwC", across, values, optimize=True)
    return np.rint(values).astype(np.uint8) if images.dtype == np.uint8 else values


def _weights(old: int, new: int) -> np.ndarray:
    """How much each of `old` pixels counts for each of `new` ones along one axis: float32 (new, old), rows sum to 1."""
    scale = old / new
    centres = (np.arange(new) + 0.5) * scale - 0.5
    distance = np.abs(centres[:, None] - np.arange(old)) / max(scale, 1)
    weights = np.maximum(0, 1 - distance)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
