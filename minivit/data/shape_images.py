"""`shapes`: figures on a ground, drawn by formula, so that every pixel's membership and both textures are known."""

import numpy as np

from minivit.data.dataset import Dataset, Split
from minivit.engine.errors import ConfigError
from minivit.engine.random import stream

SIZE = 24
CLASS_NAMES = ("disc", "ring", "square", "triangle", "cross", "star", "crescent", "hourglass")
TEXTURE_NAMES = ("plain", "stripes", "chequers", "dots")
_PIECE = 2048  # images drawn at once: bounds the memory, changes no pixel

_DESCRIPTION = """\
shapes: 24×24 RGB pixels, 8 figures (disc, ring, square, triangle, cross, star, crescent, hourglass) of radius 6.5 to
10.5 pixels, turned by up to ±0.4 rad, wholly inside the image, before two stray strokes and a ground. Figure and ground
each wear one of 4 textures (plain, stripes, chequers, dots), drawn independently of the class. One of them is bright
(0.62–0.85), the other dark (0.15–0.38), at random, so that no single pixel tells anything; noise of standard deviation
0.04. extra["mask"] (n, 24, 24) says exactly which pixels are the figure; extra["figure_texture"] and
extra["ground_texture"] (n,) name the textures by number. A linear classifier stays near chance (12.5 %).
Made by a program from a seed; training, validation and test images are drawn independently.
"""


def shapes(*, n_train: int = 16000, n_val: int = 2000, n_test: int = 2000, seed: int = 0) -> Dataset:
    """Drawn figures: uint8 images (n, 24, 24, 3), labels 0…7, exact masks and independent textures in `extra`.

    The first images of a longer set are those of a shorter one. One seed gives the same images on one machine; another
    machine's sines may differ in the last bit and so, rarely, in a pixel. Raises ConfigError for sizes below 1.
    """
    sizes = {"train": n_train, "val": n_val, "test": n_test}
    for part, n in sizes.items():
        if n < 1:
            raise ConfigError(f"shapes: n_{part} must be at least 1, not {n}")
    parts = {
        part: _draw(n, stream(seed, f"shapes {part}"), stream(seed, f"shapes noise {part}"))
        for part, n in sizes.items()
    }
    return Dataset(
        name="shapes",
        **parts,
        class_names=CLASS_NAMES,
        description=_DESCRIPTION,
        source=f"made by minivit, seed {seed}",
        license="MIT, as minivit itself",
    )


def _draw(n: int, rng: np.random.Generator, noise: np.random.Generator) -> Split:
    chance = rng.random((n, 34), dtype=np.float32)  # one row for each image
    labels = (chance[:, 0] * len(CLASS_NAMES)).astype(np.int64)
    figure_texture = (chance[:, 1] * len(TEXTURE_NAMES)).astype(np.int64)
    ground_texture = (chance[:, 2] * len(TEXTURE_NAMES)).astype(np.int64)
    images = np.empty((n, SIZE, SIZE, 3), dtype=np.uint8)
    mask = np.empty((n, SIZE, SIZE), dtype=bool)
    for start in range(0, n, _PIECE):
        piece = slice(start, start + _PIECE)
        u = chance[piece, 3:, None, None]  # (m, 31, 1, 1): each number meets its image's pixels
        mask[piece] = _figure(labels[piece], u[:, 0:4])
        scene = _scene(mask[piece], figure_texture[piece], ground_texture[piece], u[:, 4:])
        scene += 0.04 * noise.standard_normal(scene.shape, dtype=np.float32)
        images[piece] = np.rint(255 * scene.clip(0, 1))
    extra = {"mask": mask, "figure_texture": figure_texture, "ground_texture": ground_texture}
    return Split(images, labels, extra)


def _grid() -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of the pixel centres, from the middle of the image, in pixels: x (1, W) rightwards, y (H, 1) down."""
    line = np.arange(SIZE, dtype=np.float32) - (SIZE - 1) / 2
    return line[None, :], line[:, None]


def _figure(labels: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Which pixels each figure covers, bool (m, H, W): those whose centre lies inside it."""
    x, y = _grid()
    radius = 6.5 + 4 * u[:, 0]
    angle = 0.8 * u[:, 1] - 0.4
    room = SIZE / 2 - radius  # how far the centre can move with the figure still inside
    dx = (x - room * (2 * u[:, 2] - 1)) / radius
    dy = (y - room * (2 * u[:, 3] - 1)) / radius
    a = np.cos(angle) * dx + np.sin(angle) * dy  # in the figure's own frame, where its radius is 1
    b = np.cos(angle) * dy - np.sin(angle) * dx
    mask = np.empty(a.shape, dtype=bool)
    for label, name in enumerate(CLASS_NAMES):
        chosen = labels == label
        mask[chosen] = _inside(name, a[chosen], b[chosen])
    return mask


def _inside(name: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Whether the point (a right, b down) lies in the figure of radius 1 round the origin."""
    square = np.maximum(np.abs(a), np.abs(b))
    if name == "disc":
        return a * a + b * b < 0.85
    if name == "ring":
        r2 = a * a + b * b
        return (r2 < 1) & (r2 > 0.3)
    if name == "square":
        return square < 0.74
    if name == "triangle":
        return (b < 0.55) & (1.8 * np.abs(a) - b < 0.95)
    if name == "cross":
        return (square < 0.92) & (np.minimum(np.abs(a), np.abs(b)) < 0.3)
    if name == "star":
        # Fold the five points into half of one: between a tip at angle 0, radius 1, and a notch at π/5, radius 0.45.
        turn = 2 * np.pi / 5
        folded = np.abs((np.arctan2(a, -b) + turn / 2) % turn - turn / 2)
        r = np.sqrt(a * a + b * b)
        along, across = r * np.cos(folded), r * np.sin(folded)
        notch_along, notch_across = 0.45 * np.cos(turn / 2), 0.45 * np.sin(turn / 2)
        return notch_across * (1 - along) > (1 - notch_along) * across
    if name == "crescent":
        return (a * a + b * b < 1) & ((a - 0.5) ** 2 + b * b > 0.62)
    return (np.abs(b) < 0.9) & (np.abs(a) < np.abs(b) + 0.08) & (square < 0.9)  # hourglass


def _scene(mask: np.ndarray, figure_texture: np.ndarray, ground_texture: np.ndarray, u: np.ndarray) -> np.ndarray:
    """The picture without noise, float32 (m, H, W, 3)."""
    bright = 0.62 + 0.23 * u[:, 0]
    dark = 0.15 + 0.23 * u[:, 1]
    figure_is_bright = u[:, 2] < 0.5
    figure = _tinted(np.where(figure_is_bright, bright, dark), u[:, 3:6])
    ground = _tinted(np.where(figure_is_bright, dark, bright), u[:, 6:9])
    figure = figure + 0.1 * _texture(figure_texture, u[:, 9:12])[..., None]
    ground = ground + 0.1 * _texture(ground_texture, u[:, 12:15])[..., None]
    for stroke in (u[:, 15:21], u[:, 21:27]):
        # A stroke lies behind the figure and is as bright as it, so that brightness alone does not find the figure.
        level = np.where(figure_is_bright, 0.62 + 0.23 * stroke[:, 5], 0.15 + 0.23 * stroke[:, 5])[..., None]
        ground = np.where(_stroke(stroke)[..., None], level, ground)
    return np.where(mask[..., None], figure, ground)


def _tinted(level: np.ndarray, u: np.ndarray) -> np.ndarray:
    """A slight colour round a grey level (m, 1, 1), whose mean stays that level: (m, 1, 1, 3)."""
    tint = np.moveaxis(u, 1, -1)  # (m, 3, 1, 1) -> (m, 1, 1, 3)
    return level[..., None] + 0.15 * (tint - tint.mean(axis=-1, keepdims=True))


def _texture(which: np.ndarray, u: np.ndarray) -> np.ndarray:
    """A pattern of -1 and 1 (0 where plain), about four pixels to a period, turned and shifted at random: (m, H, W)."""
    x, y = _grid()
    angle = np.pi * u[:, 0]
    wave = 2 * np.pi / 4
    first = np.sin(wave * (np.cos(angle) * x + np.sin(angle) * y) + 2 * np.pi * u[:, 1])
    second = np.sin(wave * (np.cos(angle) * y - np.sin(angle) * x) + 2 * np.pi * u[:, 2])
    which = which[:, None, None]
    dots = np.where(first + second > 0.8, 1, -0.35)
    return np.where(
        which == 1, np.sign(first), np.where(which == 2, np.sign(first * second), np.where(which == 3, dots, 0))
    )


def _stroke(u: np.ndarray) -> np.ndarray:
    """Which pixels a straight stroke covers, 8 to 16 pixels long and about 1.6 wide: bool (m, H, W)."""
    x, y = _grid()
    angle = np.pi * u[:, 0]
    dx, dy = x - 10 * (2 * u[:, 1] - 1), y - 10 * (2 * u[:, 2] - 1)
    along = np.cos(angle) * dx + np.sin(angle) * dy
    across = np.cos(angle) * dy - np.sin(angle) * dx
    return (np.abs(across) < 0.8) & (np.abs(along) < 4 + 4 * u[:, 3])
