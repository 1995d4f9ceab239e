"""Locality: a convolution is a matrix that is local and tied; a ViT starts with neither, beyond its patches.

Measures: the matrix of a convolution, how exactly a layer moves with its input, and which pixels reach one place.
"""

import contextlib
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from minivit.engine import backend as backends
from minivit.engine import ops
from minivit.engine.errors import ConfigError, ShapeError
from minivit.engine.tensor import Tensor, gradients
from minivit.nn.layers import GroupNorm
from minivit.nn.module import Module, tapped
from minivit.nn.patches import Size, pair


def conv_matrix(weight: np.ndarray, image_size: Size, stride: Size = 1, padding: Size = 0) -> np.ndarray:
    """The matrix M with x.reshape(B, −1) @ M = conv2d(x).reshape(B, −1): kernel (kh, kw, C, K) -> (H·W·C, h·w·K).

    Row (r, c, channel) and column (i, j, output) hold weight[r − i·s + p, c − j·s + p] where that lies in the kernel, else
    0: a Toeplitz matrix of blocks. Raises `ShapeError` where the kernel does not fit.
    """
    (h, w), (sh, sw), (ph, pw) = pair(image_size), pair(stride), pair(padding)
    kh, kw, channels, outputs = weight.shape
    rows, columns = (h + 2 * ph - kh) // sh + 1, (w + 2 * pw - kw) // sw + 1
    if min(rows, columns) < 1:
        raise ShapeError(f"conv_matrix: a {kh}×{kw} kernel does not fit a {h}×{w} image with padding {ph}×{pw}")
    matrix = np.zeros((h, w, channels, rows, columns, outputs), weight.dtype)
    for i, j, a, b in np.ndindex(rows, columns, kh, kw):
        r, c = i * sh + a - ph, j * sw + b - pw
        if 0 <= r < h and 0 <= c < w:
            matrix[r, c, :, i, j] = weight[a, b]
    return matrix.reshape(h * w * channels, rows * columns * outputs)


def weights_in(matrix: np.ndarray) -> dict[str, int]:
    """How many entries a layer's matrix has, how many are not 0, and how many different values those take."""
    used = matrix[matrix != 0]
    return {"entries": matrix.size, "nonzero": len(used), "different": len(np.unique(used))}


def equivariance_error(
    layer: Callable[[Any], Tensor], images: np.ndarray, shift: tuple[int, int], stride: int = 1, border: int = 0
) -> float:
    """How far a layer is from moving along with its input: the largest difference, relative to the largest response.

    `layer` maps images (B, H, W, C) to (B, h, w, K) with h = H / stride. The image is rolled by `shift` pixels; what comes
    out is compared with what came out before, rolled by shift / stride, leaving out `border` places on each side. Where
    that is no whole number, the best of the neighbouring whole shifts counts.
    """
    before, after = (layer(x).numpy() for x in (images, np.roll(images, shift, axis=(1, 2))))
    h, w = before.shape[1:3]
    if min(h, w) <= 2 * border:
        raise ShapeError(f"equivariance_error: a border of {border} leaves nothing of {h}×{w} places")
    inner = slice(border, h - border), slice(border, w - border)
    rows, columns = ({s // stride, -(-s // stride)} for s in shift)
    moved = (np.roll(before, (r, c), axis=(1, 2)) for r in rows for c in columns)
    return float(min(np.abs((after - m)[:, *inner]).max() for m in moved) / np.abs(before).max())


def fields_in_theory(layers: Sequence[tuple[int, int]]) -> list[int]:
    """The side of each layer's receptive field, r_l = r_{l−1} + (K − 1) · (product of earlier strides); (K, stride) each."""
    sides, side, jump = [], 1, 1
    for size, stride in layers:
        side, jump = side + (size - 1) * jump, jump * stride
        sides.append(side)
    return sides


def field(
    model: Module,
    images: Any,
    name: str,
    place: tuple[int, int] | None = None,
    grid: tuple[int, int] | None = None,
    draws: int = 4,
    fixed_statistics: bool = True,
) -> np.ndarray:
    """The effective receptive field: how strongly each pixel moves one place of a module's output, (H, W), summing to 1.

    The place (row, column; by default the middle) is in a map (B, h, w, K) or among the patch tokens (B, T, D) of a
    `grid`. Each pixel's value is ‖∂ place / ∂ pixel‖², over channels and images, estimated with random signs (`draws` per
    image; Luo et al. 2016 take one); a 0 is exact. `fixed_statistics` takes GroupNorm's means and variances as
    constants: computed from the whole image, they let every pixel reach every place a little. `name` is dotted, as in
    `mv.trace`. Raises `ConfigError` for a module or place that is not there.
    """
    x = Tensor(model.as_input(images).data, requires_grad=True)
    found: list[Tensor] = []
    mode = model.training
    model.eval()
    try:
        with _fixed(model) if fixed_statistics else contextlib.nullcontext(), tapped(_catcher(name, found)):
            model(x)
    finally:
        model.train(mode)
    if not found:
        raise ConfigError(f"field: the model has no module {name!r}")
    y = found[0]
    at = _at(y.shape, place, grid)
    rng, total = np.random.default_rng(0), 0
    seed = np.zeros(y.shape, y.dtype)
    for _ in range(draws):
        seed[at] = rng.choice([-1, 1], seed[at].shape)
        found_gradients = gradients(y, backends.backend_of(y.data).from_host(seed), retain_graph=True)
        total = total + (backends.to_numpy(found_gradients[id(x)][1]).astype(float) ** 2).sum(axis=(0, 3))
    return total / total.sum()


def share_within(energy: np.ndarray, side: int, centre: tuple[float, float]) -> float:
    """How much of a field (H, W) that sums to 1 lies in the square of this side round the centre (row, column)."""
    rows, columns = np.indices(energy.shape)
    inside = np.maximum(np.abs(rows - centre[0]), np.abs(columns - centre[1])) <= side / 2
    return float(energy[inside].sum())


def side_of(energy: np.ndarray, centre: tuple[float, float], share: float = 0.95) -> float:
    """The side of the smallest square round the centre that holds this share of a field (H, W)."""
    rows, columns = np.indices(energy.shape)
    distance = np.maximum(np.abs(rows - centre[0]), np.abs(columns - centre[1]))
    shells = np.unique(distance)
    held = [energy[distance <= shell].sum() for shell in shells]
    return float(2 * shells[np.searchsorted(held, share * held[-1])] + 1)


def _catcher(name: str, found: list[Tensor]) -> Callable[[str, Callable[[], Tensor]], None]:
    def receive(path: str, make: Callable[[], Tensor]) -> None:
        if path == name and not found:
            found.append(make())

    return receive


def _at(shape: tuple[int, ...], place: tuple[int, int] | None, grid: tuple[int, int] | None) -> tuple:
    """The index of one place of an output, for every image."""
    rows, columns = shape[1:3] if len(shape) == 4 else (grid or (0, 0))
    row, column = place or (rows // 2, columns // 2)
    if len(shape) not in (3, 4) or not (0 <= row < rows and 0 <= column < columns):
        raise ConfigError(f"field: no place ({row}, {column}) in an output of shape {shape} with grid {grid}")
    return (
        (slice(None), row, column)
        if len(shape) == 4
        else (slice(None), shape[1] - rows * columns + row * columns + column)
    )


@contextlib.contextmanager
def _fixed(model: Module) -> Iterator[None]:
    """Inside, every GroupNorm scales by the mean and variance it finds, but passes no gradient through them."""
    norms = [module for _, module in model.named_modules() if isinstance(module, GroupNorm)]
    for norm in norms:
        object.__setattr__(norm, "forward", types.MethodType(_with_fixed_statistics, norm))
    try:
        yield
    finally:
        for norm in norms:
            object.__delattr__(norm, "forward")


def _with_fixed_statistics(norm: GroupNorm, x: Tensor) -> Tensor:
    b, h, w, channels = x.shape
    parts = x.detach().data.reshape(b, h * w, norm.groups, channels // norm.groups)
    mean, variance = parts.mean(axis=(1, 3), keepdims=True), parts.var(axis=(1, 3), keepdims=True)
    spread = (b, 1, norm.groups, channels // norm.groups)
    xp = backends.backend_of(x.data)
    mean, scale = (
        Tensor(xp.broadcast_to(a, spread).reshape(b, 1, 1, channels)) for a in (mean, (variance + norm.eps) ** -0.5)
    )
    return ops.multiply(x - mean, scale) * norm.weight + norm.bias
