"""Draws book/assets/photo.png, the book's one photo: three balls on a chequered cloth, by tracing rays. Ours, no licence.

For each pixel a ray leaves the eye; where it meets a ball or the cloth, a second one asks whether the lamp is in sight.
A mirror ball sends its ray on once more. `python -m scripts.make_photo` (256×256, four rays a pixel; about a second).
"""

from pathlib import Path

import numpy as np
from PIL import Image

TARGET = Path(__file__).resolve().parent.parent / "book" / "assets" / "photo.png"
SIZE, RAYS = 256, 2  # pixels along a side; rays along a pixel's side
EYE, LAMP = np.array([0.0, 1.9, -5.2]), np.array([-4.0, 6.0, -4.0])
BALLS = (  # centre, radius, colour, share of mirror
    (np.array([-1.15, 0.9, 0.2]), 0.9, np.array([0.86, 0.22, 0.16]), 0.08),
    (np.array([1.0, 0.75, -0.35]), 0.75, np.array([0.92, 0.92, 0.95]), 0.75),
    (np.array([0.15, 0.42, -1.55]), 0.42, np.array([0.15, 0.55, 0.30]), 0.05),
)


def hits(start: np.ndarray, way: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far each ray goes and what it meets: −1 nothing, 0 the cloth, 1… the balls; (n, 3), (n, 3) -> (n,), (n,)."""
    far = np.where(way[:, 1] < -1e-6, -start[:, 1] / np.minimum(way[:, 1], -1e-6), np.inf)
    what = np.where(np.isfinite(far), 0, -1)
    for i, (centre, radius, _, _) in enumerate(BALLS, start=1):
        to = start - centre
        half = (to * way).sum(axis=1)
        inside = half**2 - (to * to).sum(axis=1) + radius**2
        distance = np.where(inside > 0, -half - np.sqrt(np.maximum(inside, 0)), np.inf)
        nearer = (distance > 1e-4) & (distance < far)
        far, what = np.where(nearer, distance, far), np.where(nearer, i, what)
    return far, what


def colours(start: np.ndarray, way: np.ndarray, mirrors: int = 1) -> np.ndarray:
    """The colour that each ray brings back, (n, 3) in [0, 1]."""
    far, what = hits(start, way)
    up = np.clip(way[:, 1:2], 0, 1)
    seen = (1 - up) * np.array([0.86, 0.84, 0.80]) + up * np.array([0.30, 0.45, 0.70])  # the wall behind
    place = start + np.where(np.isfinite(far), far, 0)[:, None] * way
    for i in range(len(BALLS) + 1):
        here = what == i
        if not here.any():
            continue
        at, ray = place[here], way[here]
        if i == 0:
            normal = np.broadcast_to(np.array([0.0, 1.0, 0.0]), at.shape)
            dark = (np.floor(at[:, 0] * 1.25) + np.floor(at[:, 2] * 1.25)) % 2 == 0
            colour, mirror = np.where(dark[:, None], np.array([0.16, 0.25, 0.42]), np.array([0.88, 0.84, 0.74])), 0.0
        else:
            centre, radius, colour, mirror = BALLS[i - 1]
            normal = (at - centre) / radius
        to_lamp = LAMP - at
        to_lamp /= np.linalg.norm(to_lamp, axis=1, keepdims=True)
        lit = (hits(at + 1e-3 * normal, to_lamp)[1] == -1)[:, None]
        bright = np.clip((normal * to_lamp).sum(axis=1, keepdims=True), 0, 1) * lit
        shown = colour * (0.30 + 0.75 * bright)
        away = ray - 2 * (ray * normal).sum(axis=1, keepdims=True) * normal
        shine = np.clip((away * to_lamp).sum(axis=1, keepdims=True), 0, 1) ** 60 * lit * (i > 0)
        if mirror and mirrors:
            shown = (1 - mirror) * shown + mirror * colours(at + 1e-3 * normal, away, mirrors - 1)
        haze = 1 - np.exp(-((far[here] / 14) ** 2))[:, None]  # squares too small for a pixel would flicker
        seen[here] = (1 - haze) * (shown + 0.5 * shine) + haze * seen[here]
    return np.clip(seen, 0, 1)


def photo() -> np.ndarray:
    """The picture as uint8 (SIZE, SIZE, 3)."""
    side = SIZE * RAYS
    across = (np.arange(side) + 0.5) / side - 0.5
    x, y = np.meshgrid(across, -across)
    way = np.stack([x, y - 0.21, np.full_like(x, 1.15)], axis=-1).reshape(-1, 3)
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    image = colours(np.broadcast_to(EYE, way.shape), way).reshape(SIZE, RAYS, SIZE, RAYS, 3).mean(axis=(1, 3))
    return np.round(255 * image ** (1 / 1.5)).astype(np.uint8)


if __name__ == "__main__":
    Image.fromarray(photo()).save(TARGET, optimize=True)
