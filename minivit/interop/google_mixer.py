"""Google's MLP-Mixers, as Flax names their weights."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from minivit.engine.errors import CheckpointError
from minivit.interop.google import ASSUMED, Axes, Flax, prefix_before, preprocessing
from minivit.interop.source import Stored
from minivit.interop.translation import Shapes, Translation, square

BLOCKS = "MixerBlock_"  # of the released files
EARLY = "Mixer/encoderblock_"  # of big_vision's first; the matrices of an MLP are kernel1 and kernel2 there
# The second norm and the two MLPs of a block, beside its LayerNorm_0. Those of early files are numbered in one row, or each
# kind for itself.
RELEASED = ("LayerNorm_1", "token_mixing", "channel_mixing")
IN_ONE_ROW = ("LayerNorm_2", "token_mixing_phase_1", "channel_mixing_phase_3")
EACH_KIND = ("LayerNorm_1", "token_mixing_phase_0", "channel_mixing_phase_0")


def recognises(shapes: Shapes, config: dict[str, Any] | None) -> bool:
    return any(prefix_before(block, shapes) is not None for block in (BLOCKS, EARLY))


def translate(tensors: Mapping[str, Stored], config: dict[str, Any] | None) -> Translation:
    early = prefix_before(BLOCKS, tensors) is None
    block = EARLY if early else BLOCKS
    flax = Flax(tensors, prefix_before(block, tensors))
    stem, last = ("embedding", "Mixer/encoder_norm") if early else ("stem", "pre_head_layer_norm")
    norm2, *mixings = RELEASED
    if early:
        norm2, *mixings = IN_ONE_ROW if flax.has(*(f"{block}0/{name}" for name in IN_ONE_ROW)) else EACH_KIND
    p, q, channels, dim = flax.shape(f"{stem}/kernel", 4)
    n, tokens_hidden = _widths(flax, f"{block}0/{mixings[0]}", early)
    _, channels_hidden = _widths(flax, f"{block}0/{mixings[1]}", early)
    grid, depth = square(n), flax.count(block + "{i}/")
    flax.linear("stem.proj", stem, rows=(p, q, channels), columns=(dim,))
    for i in range(depth):
        ours, theirs = f"blocks.{i}.", f"{block}{i}/"
        flax.norm(f"{ours}norm1", f"{theirs}LayerNorm_0", dim)
        flax.norm(f"{ours}norm2", f"{theirs}{norm2}", dim)
        mlp = _early_mlp if early else Flax.mlp
        mlp(flax, f"{ours}mlp_tokens", f"{theirs}{mixings[0]}", n, tokens_hidden)
        mlp(flax, f"{ours}mlp_channels", f"{theirs}{mixings[1]}", dim, channels_hidden)
    flax.norm("norm", last, dim)
    arguments = {
        "image_size": (grid[0] * p, grid[1] * q) if grid else None,
        "patch_size": (p, q),
        "in_channels": channels,
        "num_classes": flax.head(dim),
        "dim": dim,
        "depth": depth,
        "tokens_mlp_dim": tokens_hidden,
        "channels_mlp_dim": channels_hidden,
        "mlp": "gelu_tanh",
        "eps": 1e-6,
    }
    prepare, words = preprocessing(whole=not early)
    assumed = ASSUMED | {"preprocess": words}
    return flax.translation("Google MLP-Mixer", "Mixer", arguments, assumed=assumed, preprocess=prepare)


def _widths(flax: Flax, mlp: str, early: bool) -> Axes:
    """What goes into the first matrix of an MLP and what comes out."""
    if not early:
        return flax.shape(f"{mlp}/Dense_0/kernel", 2)
    name = flax.prefix + f"{mlp}/kernel1"
    shape = flax.tensors[name].shape if name in flax.tensors else ()
    if len(_without_ones(shape)) != 2 or 0 in shape:
        raise CheckpointError(
            f"missing or of a wrong shape: {name} {shape}, which the sizes of the model are read from"
        )
    return _without_ones(shape)


def _early_mlp(flax: Flax, ours: str, theirs: str, dim: int, hidden: int) -> None:
    """Two Linears whose arrays may have axes of length 1 besides."""
    for i, (rows, columns) in enumerate([(dim, hidden), (hidden, dim)], start=1):
        flax.tensor(f"{ours}.fc{i}.weight", f"{theirs}/kernel{i}", make=partial(_squeezed, (rows, columns)))
        flax.tensor(f"{ours}.fc{i}.bias", f"{theirs}/bias{i}", make=partial(_squeezed, (columns,)))


def _squeezed(shape: Axes, array: np.ndarray) -> np.ndarray:
    return array.reshape(shape) if _without_ones(array.shape) == _without_ones(shape) else array


def _without_ones(shape: Axes) -> Axes:
    return tuple(n for n in shape if n != 1)
