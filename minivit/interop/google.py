"""Google's Vision Transformers, as Flax names their weights: the ViT paper's and AugReg's, and big_vision's."""

import functools
import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np

from minivit.engine.errors import CheckpointError
from minivit.interop.preprocess import HALF
from minivit.interop.source import Stored
from minivit.interop.translation import Reading, Shapes, Translation, ratio, side_by_side, square

# What the names of the weights begin with: of an image and text model, of a checkpoint of training, or nothing.
PREFIXES = ("params/img/", "params/", "opt/target/img/", "opt/target/", "img/", "")
# The attention, second norm and MLP of a block, beside its LayerNorm_0. Early Flax numbered all modules of a block in one
# row, and the released files keep that; today it numbers each kind for itself.
RELEASED = ("MultiHeadDotProductAttention_1", "LayerNorm_2", "MlpBlock_3")
CURRENT = ("MultiHeadDotProductAttention_0", "LayerNorm_1", "MlpBlock_0")
# The ViT paper's code, big_vision, big_vision before 2022.
POSITIONS = ("Transformer/posembed_input/pos_embedding", "pos_embedding", "Transformer/pos_embedding")
ASSUMED = {  # what the weights cannot say
    "eps": "1e-6, the family's default",
    "mlp": "gelu_tanh, Flax's GELU",
}
VALUES = "values from −1 to 1, as this family usually has"

Axes = tuple[int, ...]


def recognises(shapes: Shapes, config: dict[str, Any] | None) -> bool:
    return prefix_before("Transformer/encoderblock", shapes) is not None


def prefix_before(beginning: str, names: Iterable[str]) -> str | None:
    """The first of PREFIXES that stands before this beginning of a name."""
    return next((p for p in PREFIXES if any(name.startswith(p + beginning) for name in names)), None)


class Flax(Reading):
    """The tensors of a file that Flax named, on their way into a Translation; what lies beside the model is left out."""

    def __init__(self, tensors: Mapping[str, Stored], prefix: str):
        super().__init__(tensors, prefix)
        around = prefix.removesuffix("img/")
        beside = {
            f"{around}txt/": "the text model",
            f"{around}t": "the temperature of the image-text loss",
            f"{around}b": "the bias of the image-text loss",
            "opt/": "the optimizer's state",
            "extra/": "the state of training",
        }
        for name in tensors:
            for key, why in beside.items():
                if (name == key or (key[-1] == "/" and name.startswith(key))) and not name.startswith(prefix):
                    self.ignored[name] = why

    def has(self, *beginnings: str) -> bool:
        """Whether there is a name that begins with one of these."""
        return any(name.startswith(beginnings) for name in self.names())

    def take(self, ours: str, *theirs: str, shape: Axes, make: Callable = side_by_side, depth: int = 0) -> None:
        """Our parameter is `make` of tensors of this shape; with `depth` they are stacks, and `{i}` in ours is the layer."""
        names = [ours.format(i=i) for i in range(depth)] if depth else [ours]
        for name in names:
            self.tensor(name, *theirs, make=partial(_take, shape, make))
        stored = [self.tensors.get(self.prefix + name) for name in theirs]
        if depth and all(tensor is not None and tensor.shape == shape for tensor in stored):
            whole = functools.cache(self.weights[ours.format(i=0)])  # read once; the layers are views of it
            self.weights |= {name: partial(_layer, whole, i) for i, name in enumerate(names)}

    def linear(self, ours: str, *theirs: str, rows: Axes, columns: Axes, depth: int = 0) -> None:
        """A Linear from kernels (*rows, *columns) and biases (columns), the columns of several side by side."""
        stack = (depth,) if depth else ()
        kernels, biases = ([f"{name}/{part}" for name in theirs] for part in ("kernel", "bias"))
        flat = partial(_flat, (*stack, math.prod(rows), math.prod(columns)))
        self.take(f"{ours}.weight", *kernels, shape=stack + rows + columns, make=flat, depth=depth)
        flat = partial(_flat, (*stack, math.prod(columns)))
        self.take(f"{ours}.bias", *biases, shape=stack + columns, make=flat, depth=depth)

    def norm(self, ours: str, theirs: str, dim: int, depth: int = 0) -> None:
        """A LayerNorm."""
        shape = (depth, dim) if depth else (dim,)
        self.take(f"{ours}.weight", f"{theirs}/scale", shape=shape, depth=depth)
        self.take(f"{ours}.bias", f"{theirs}/bias", shape=shape, depth=depth)

    def mlp(self, ours: str, theirs: str, dim: int, hidden: int, depth: int = 0) -> None:
        """Two Linears."""
        self.linear(f"{ours}.fc1", f"{theirs}/Dense_0", rows=(dim,), columns=(hidden,), depth=depth)
        self.linear(f"{ours}.fc2", f"{theirs}/Dense_1", rows=(hidden,), columns=(dim,), depth=depth)

    def head(self, dim: int) -> int:
        """The head, if there is one; gives the number of classes."""
        if not self.has("head/"):
            return 0
        classes = self.shape("head/kernel", 2)[1]
        self.linear("head", "head", rows=(dim,), columns=(classes,))
        return classes


def _below_zeros(table: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros_like(table[:, :1]), table], axis=1)


def _take(shape: Axes, make: Callable, *arrays: np.ndarray) -> np.ndarray:
    for array in arrays:
        if array.shape != shape:  # given as it is, so that no parameter has its shape; `fill` then says so
            return array if array.ndim == len(shape) else array[None]
    return make(*arrays)


def _layer(whole: Callable[[], np.ndarray], i: int) -> np.ndarray:
    return whole()[i]


def _flat(shape: Axes, *arrays: np.ndarray) -> np.ndarray:
    return side_by_side(*(array.reshape(shape) for array in arrays))


def translate(tensors: Mapping[str, Stored], config: dict[str, Any] | None) -> Translation:
    flax = Flax(tensors, prefix_before("Transformer/encoderblock", tensors))
    if flax.has("conv_root/"):
        raise CheckpointError("these are the weights of a hybrid with a ResNet before the ViT, which is not known here")
    p, q, channels, dim = flax.shape("embedding/kernel", 4)
    arguments = {"patch_size": (p, q), "in_channels": channels, "dim": dim, "position_resize": "google"}
    arguments |= {"mlp": "gelu_tanh", "eps": 1e-6}
    assumed = dict(ASSUMED)
    flax.linear("patch_embed.proj", "embedding", rows=(p, q, channels), columns=(dim,))
    arguments |= _blocks(flax, dim)
    # A missing table of positions is missed only where the other names are those of files that always have one.
    google = POSITIONS[0] in flax or flax.has(*(f"Transformer/encoderblock_0/{name}" for name in RELEASED))
    arguments |= _tokens(flax, dim, (p, q), google, assumed)
    flax.norm("norm", "Transformer/encoder_norm", dim)
    if arguments["pool"] == "map":
        _map_head(flax, dim, arguments["num_heads"], int(dim * arguments["mlp_ratio"]))
    kind, features = "ForeignViT", dim
    if flax.has("pre_logits/"):
        kind, features = "GoogleViT", flax.shape("pre_logits/kernel", 2)[1]
        flax.linear("pre_logits", "pre_logits", rows=(dim,), columns=(features,))
        arguments["pre_logits"] = features
    arguments["num_classes"] = flax.head(features)
    family = "Google ViT" if google else "big_vision ViT"
    prepare, assumed["preprocess"] = preprocessing(whole=google or flax.prefix.endswith("img/"))
    return flax.translation(family, kind, arguments, assumed=assumed, preprocess=prepare)


def _blocks(flax: Flax, dim: int) -> dict[str, Any]:
    """The encoder's blocks, one after another or stacked along a first axis; gives depth, heads and MLP ratio."""
    stacked = flax.has("Transformer/encoderblock/")
    theirs = "Transformer/encoderblock/" if stacked else "Transformer/encoderblock_{i}/"
    attention, norm2, mlp = RELEASED if flax.has(*(theirs.format(i=0) + name for name in RELEASED)) else CURRENT
    query = f"{theirs.format(i=0)}{attention}/query/kernel"
    *depth, width, heads, d = flax.shape(query, 3 + stacked)
    if width != dim or heads * d != dim:
        raise CheckpointError(
            f"wrong shape: {flax.prefix + query} is {(*depth, width, heads, d)}, but {dim} are embedded"
        )
    hidden = flax.shape(f"{theirs.format(i=0)}{mlp}/Dense_0/kernel", 2 + stacked)[-1]
    depth = depth[0] if stacked else flax.count("Transformer/encoderblock_{i}/")
    for i in [None] if stacked else range(depth):
        a, b, stack = ("blocks.{i}.", theirs, depth) if stacked else (f"blocks.{i}.", theirs.format(i=i), 0)
        flax.norm(f"{a}norm1", f"{b}LayerNorm_0", dim, stack)
        three = [f"{b}{attention}/{name}" for name in ("query", "key", "value")]
        flax.linear(f"{a}attn.qkv", *three, rows=(dim,), columns=(heads, d), depth=stack)
        flax.linear(f"{a}attn.proj", f"{b}{attention}/out", rows=(heads, d), columns=(dim,), depth=stack)
        flax.norm(f"{a}norm2", f"{b}{norm2}", dim, stack)
        flax.mlp(f"{a}mlp", f"{b}{mlp}", dim, hidden, stack)
    return {"depth": depth, "num_heads": heads, "mlp_ratio": ratio(hidden, dim)}


def _tokens(flax: Flax, dim: int, patch: Axes, google: bool, assumed: dict[str, str]) -> dict[str, Any]:
    """Class token and positions; gives the arguments that they decide.

    The ViT paper's code gives the class token a position, as big_vision did at first; today it has none, or one of zeros.
    """
    pool = "map" if flax.has("MAPHead_0/", "probe") else "cls" if "cls" in flax else "norm_mean"
    name = next((name for name in POSITIONS if name in flax), POSITIONS[0] if google else None)
    if name is None:
        positions, grid = "sincos", None if 224 % patch[0] or 224 % patch[1] else (224 // patch[0], 224 // patch[1])
        assumed["positions"] = "sines and cosines, as the file has none"
        assumed["image_size"] = "224, the family's default; such positions are computed for every size"
    else:
        positions, length = "learned", flax.shape(name, 3)[1]
        if pool == "norm_mean" and not square(length) and square(length - 1):
            pool = "cls"  # which is missing, and will be missed
        slots = int(pool == "cls" and (name == POSITIONS[0] or square(length - 1) is not None))
        make, grid = (_below_zeros if pool == "cls" and not slots else side_by_side), square(length - slots)
        flax.take("pos_embed", name, shape=(1, length, dim), make=make)
    if pool == "cls":
        flax.take("cls_token", "cls", shape=(1, 1, dim))
    elif pool == "norm_mean":
        assumed["pool"] = "norm_mean, the mean after the last norm, as there is neither a class token nor a probe"
    image_size = (grid[0] * patch[0], grid[1] * patch[1]) if grid else None
    return {"pool": pool, "positions": positions, "image_size": image_size}


def _map_head(flax: Flax, dim: int, heads: int, hidden: int) -> None:
    """Attention pooling; early files have its parts at the top."""
    theirs, split = "MAPHead_0/" if flax.has("MAPHead_0/") else "", (heads, dim // heads)
    attention = f"{theirs}MultiHeadDotProductAttention_0"
    flax.take("attn_pool.latent", f"{theirs}probe", shape=(1, 1, dim))
    flax.linear("attn_pool.q", f"{attention}/query", rows=(dim,), columns=split)
    flax.linear("attn_pool.kv", f"{attention}/key", f"{attention}/value", rows=(dim,), columns=split)
    flax.linear("attn_pool.proj", f"{attention}/out", rows=split, columns=(dim,))
    flax.norm("attn_pool.norm", f"{theirs}LayerNorm_0", dim)
    flax.mlp("attn_pool.mlp", f"{theirs}MlpBlock_0", dim, hidden)


def preprocessing(whole: bool) -> tuple[dict[str, Any], str]:
    """The whole picture squeezed into a square (the ViT paper's code, SigLIP), or its middle (big_vision); and in words."""
    if whole:
        return {"resize": "exact", "crop_pct": 1.0, "interpolation": "bilinear", **HALF}, f"the whole picture, {VALUES}"
    return {"resize": "shorter", "crop_pct": 7 / 8, "interpolation": "box", **HALF}, f"the middle 7/8, {VALUES}"
