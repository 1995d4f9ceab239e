"""What a student reads after a mistake: each misuse with its class of error and its text, which says what to do.

`[…]` in an expected text stands for anything.
"""

import re
from dataclasses import dataclass

import numpy as np
import pytest

import minivit as mv
from minivit.engine import errors, fused
from minivit.engine.tensor import Tensor

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@dataclass(frozen=True)
class Misuse:
    label: str
    call: object
    error: type
    text: str

    def __str__(self):
        return self.label.replace(" ", "-")


def t(*shape, dtype=np.float32):
    return Tensor(np.ones(shape, dtype), requires_grad=True)


def far(*shape):
    """A tensor on the other backend."""
    return t(*shape).to("fake_cupy")


def vit(**changes):
    sizes = {"image_size": 8, "patch_size": 4, "in_channels": 1, "num_classes": 3, "dim": 8, "depth": 1, "num_heads": 2}
    return mv.ViT(**sizes | changes)


def images(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


def labels(*values, dtype=np.int64):
    return np.array(values, dtype)


def twice(y):
    y.backward()
    y.backward()


def set_first(x):
    x[0] = 1


def poisoned():
    model = vit()
    model.blocks[0].attn.qkv.weight.data[0, 0] = np.nan
    with mv.anomaly():
        model(images(1, 8, 8, 1))


def slope_of_a_root_at_zero():
    with mv.anomaly():
        (t(2) - 1).sqrt().sum().backward()


def renamed(old, new):
    state = vit().state_dict()
    state[new] = state.pop(old)
    return state


def saved_then_loaded(path, **changes):
    mv.save(vit(), path)
    vit(**changes).load_state_dict(mv.load(path).state_dict())


def cut_short(path):
    mv.save(vit(), path)
    path.write_bytes(path.read_bytes()[:3000])
    mv.load(path)


FITTING = "weights are (in, out), so a transposed weight or a wrong width is likely"

# fmt: off
MISUSES = [Misuse(*row) for row in [
    # --- shapes
    ("matmul of widths that differ", lambda: t(2, 3) @ t(4, 5), mv.ShapeError,
     "matmul: cannot combine (2, 3) and (4, 5): the last axis of the first (3) must equal the rows of the second (4); "
     + FITTING),
    ("matmul of batches that differ", lambda: t(2, 4, 3) @ t(5, 3, 2), mv.ShapeError,
     "matmul: cannot combine (2, 4, 3) and (5, 3, 2): the leading axes (2,) and (5,) must be equal or 1"),
    ("matmul with a number", lambda: t(2, 3) @ 2.0, mv.ShapeError,
     "matmul: cannot combine (2, 3) and 2.0: both must have an axis to multiply along; to multiply by a number, write *"),
    ("add without keepdims", lambda: t(2, 3) - t(2, 3).mean(axis=1), mv.ShapeError,
     "subtract: cannot combine (2, 3) and (2,): they broadcast only where lengths are equal or 1 (axis -1: 3 against 2); "
     "a keepdims=True or a reshape may be missing"),
    ("where with a short condition", lambda: mv.where(np.array([True, False]), t(3), t(3)), mv.ShapeError,
     "where: cannot combine (3,) and (3,) with condition=(2,): the condition (2,) must broadcast with both"),
    ("comparison of lengths that differ", lambda: t(2) < t(3), mv.ShapeError, "less: cannot compare (2,) with (3,)"),
    ("linear in a module", lambda: vit().blocks[0].mlp.fc1(t(2, 5)), mv.ShapeError,
     "linear: cannot combine (2, 5) and (8, 32) (parameter 'fc1.weight') and (32,) (parameter 'fc1.bias'), in module 'fc1': "
     "the last axis of x (5) must equal the rows of the weight (8); " + FITTING),
    ("tokens of the wrong width", lambda: vit().blocks[0](t(1, 5, 6)), mv.ShapeError,
     "layer_norm: cannot combine (1, 5, 6) and (8,) (parameter 'blocks.0.norm1.weight') and (8,) (parameter "
     "'blocks.0.norm1.bias'), in module 'blocks.0.norm1': weight and bias must be as long as the last axis of x (6)"),
    ("bias of the wrong length", lambda: mv.linear(t(2, 3), t(3, 4), t(5)), mv.ShapeError,
     "linear: cannot combine (2, 3) and (3, 4) and (5,): the bias (5,) must be as long as the weight has columns (4)"),
    ("bias that would broadcast", lambda: mv.linear(t(2, 3), t(3, 4), t(1)), mv.ShapeError,
     "linear: […] the bias (1,) must be as long as the weight has columns (4)"),
    ("layer norm with numbers", lambda: mv.layer_norm(t(2, 3), 1.0, 0.0), mv.ShapeError,
     "layer_norm: operand 1 is the number 1.0, where an array is needed"),
    ("group norm of channels that do not divide", lambda: mv.fused.group_norm(t(2, 3, 5), t(5), t(5), groups=2), mv.ShapeError,
     "group_norm: cannot combine (2, 3, 5) and (5,) and (5,) with groups=2: x must be (B, …, C) with C a multiple of 2 groups, "
     "weight and bias as long as C"),
    ("attention of widths that differ", lambda: mv.attention(t(2, 3, 4), t(2, 3, 5), t(2, 3, 4)), mv.ShapeError,
     "attention: queries (2, 3, 4), keys (2, 3, 5) and values (2, 3, 4) do not fit: (…, T, d), (…, S, d), (…, S, e)"),
    ("heads that do not divide the width", lambda: fused.self_attention(t(2, 3, 15), num_heads=2), mv.ShapeError,
     "self_attention: 15 columns are not q | k | v of 2 equal heads"),
    ("reshape to another size", lambda: t(2, 3).reshape(4, -1), mv.ShapeError,
     "reshape: cannot be done to (2, 3) with shape=(4, -1): its lengths must multiply to the 6 values there are; "
     "one of them may be -1, and is then worked out"),
    ("transpose with an axis twice", lambda: t(2, 3).transpose(0, 0), mv.ShapeError,
     "transpose: axes (0, 0) must name each of the 2 axes of (2, 3) once"),
    ("an axis that is not there", lambda: t(2, 3).mean(axis=2), mv.ShapeError,
     "mean: axis 2 does not exist in a tensor of 2 axes"),
    ("concatenate of heights that differ", lambda: mv.concatenate([t(2, 3), t(2, 4)]), mv.ShapeError,
     "concatenate: cannot combine (2, 3) and (2, 4): the shapes must agree except along the joined axis"),
    ("concatenate along an axis too many", lambda: mv.concatenate([t(2, 3), t(2, 3)], axis=2), mv.ShapeError,
     "concatenate: cannot combine (2, 3) and (2, 3) with axis=2: axis 2 does not exist in tensors of 2 axes"),
    ("concatenate of nothing", lambda: mv.concatenate([]), mv.ShapeError,
     "concatenate: cannot be done to nothing: at least one tensor is needed"),
    ("stack of shapes that differ", lambda: mv.stack([t(2), t(3)]), mv.ShapeError,
     "stack: cannot combine (2,) and (3,): the shapes must agree"),
    ("split that does not come out even", lambda: mv.split(t(2, 5), 2, axis=1), mv.ShapeError,
     "split: axis 1 of (2, 5) has length 5, which is not cut evenly into 2"),
    ("pad with too few pairs", lambda: mv.pad(t(2, 5), widths=[(1, 1)]), mv.ShapeError,
     "pad: widths must be 2 pairs, one for each axis of (2, 5); got 1"),
    ("broadcast that would cut", lambda: mv.broadcast_to(t(2, 5), shape=(3, 5)), mv.ShapeError,
     "broadcast_to: cannot be done to (2, 5) with shape=(3, 5): only axes of length 1 can be repeated, and new axes come in "
     "front"),
    ("index out of bounds", lambda: t(2, 3)[:, 7], mv.ShapeError,
     "getitem: cannot be done to (2, 3) with index=(:, 7): index 7 is out of bounds for axis 1 with size 3"),
    ("too many indices", lambda: t(2, 3)[0, 0, 0], mv.ShapeError,
     "getitem: cannot be done to (2, 3) with index=(0, 0, 0): too many indices for array[…]2-dimensional, but 3 were indexed"),
    ("mask of another length", lambda: t(3)[np.array([True, False])], mv.ShapeError,
     "getitem: cannot be done to (3,) with index=(2,): boolean index did not match[…]"),
    ("convolution of other channels", lambda: mv.conv2d(t(1, 8, 8, 3), t(3, 3, 1, 4)), mv.ShapeError,
     "conv2d: images (1, 8, 8, 3) and kernel (3, 3, 1, 4) must be (B, H, W, C) and (kh, kw, C, K), of one C"),
    ("kernel larger than the image", lambda: mv.conv2d(t(1, 2, 2, 1), t(3, 3, 1, 4)), mv.ShapeError,
     "conv2d: a window of 3×3 does not fit into the (padded) image of 2×2"),
    ("stride of 0", lambda: mv.conv2d(t(1, 2, 2, 1), t(1, 1, 1, 4), stride=0), mv.ShapeError,
     "conv2d: a window of 1×1 with stride 0×0: all four must be at least 1"),
    ("pooling one image", lambda: mv.max_pool2d(t(4, 4, 1), 2), mv.ShapeError,
     "max_pool2d: images must be (B, H, W, C), got (4, 4, 1)"),
    ("pooling windows that see nothing", lambda: mv.max_pool2d(t(1, 4, 4, 1), 2, padding=2), mv.ShapeError,
     "max_pool2d: padding ((2, 2), (2, 2)) must be smaller than the window (2, 2), which would see nothing"),
    ("ragged list", lambda: Tensor([[1, 2], [3]]), mv.ShapeError,
     "cannot make a tensor of this list: its rows have different lengths"),
    ("item of many", lambda: t(2).item(), mv.ShapeError, "item(): needs a tensor with one value, this one has shape (2,)"),
    ("length of a number", lambda: len(Tensor(1.0)), mv.ShapeError, "len(): a tensor of shape () has no length"),
    ("truth of many", lambda: bool(t(2) > 0), mv.ShapeError,
     "a tensor of shape (2,) is neither true nor false: reduce it to one value first, as in (a == b).min() for all or "
     ".max() for any"),
    # --- kinds of numbers
    ("two precisions", lambda: t(2) + t(2, dtype=np.float64), mv.DTypeError,
     "add: operand 0 (2,) is float32, operand 1 (2,) is float64; convert one with .astype(...): minivit never changes a dtype "
     "silently"),
    ("whole numbers divided", lambda: Tensor(labels(1, 2)) / 2, mv.DTypeError,
     "divide: whole numbers would become float64; convert with .astype('float32') first"),
    ("softmax of whole numbers", lambda: mv.softmax(Tensor(labels(1, 2))), mv.DTypeError,
     "softmax: whole numbers would become float64; convert with .astype('float32') first"),
    ("gradient of whole numbers", lambda: Tensor(labels(1, 2), requires_grad=True), mv.DTypeError,
     "requires_grad=True needs floating-point numbers, got int64"),
    ("index of floats", lambda: t(3)[t(2)], mv.DTypeError,
     "getitem: the index holds float32; an index holds integers (.astype('int64')) or booleans"),
    ("a tensor of words", lambda: Tensor(["one", "two"]), mv.DTypeError,
     "cannot make a tensor of ['one', 'two']: real numbers are needed"),
    ("a tensor of None", lambda: t(2) + None, mv.DTypeError, "cannot make a tensor of None: real numbers are needed"),
    ("complex numbers", lambda: Tensor(np.array([1j])), mv.DTypeError,
     "cannot make a tensor of complex128 values: real numbers are needed"),
    ("a tensor of tensors", lambda: Tensor([t(2), t(2)]), mv.DTypeError,
     "cannot make a tensor of a list of Tensors: join them with mv.stack or mv.concatenate"),
    ("a tensor as exponent", lambda: t(2) ** t(2), mv.DTypeError,
     "power: the exponent must be a Python number, got Tensor"),
    ("gradcheck in float32", lambda: mv.gradcheck(lambda x: x, images(2)), mv.DTypeError,
     "gradcheck: array 0 is float32; small differences need float64: .astype('float64')"),
    # --- places
    ("two backends", lambda: t(2) + far(2), mv.DeviceError,
     "add: operand 0 (2,) is on numpy, operand 1 (2,) is on fake_cupy; move one with .to(...), or the whole model with "
     "model.to(...)"),
    ("an index from elsewhere", lambda: far(3)[np.array([0])], mv.DeviceError,
     "getitem: the tensor is on fake_cupy, the index on numpy"),
    ("labels from elsewhere", lambda: mv.cross_entropy(t(2, 2), far(2, 2)), mv.DeviceError,
     "cross_entropy: the logits are on numpy, the labels on fake_cupy; move one with .to(...)"),
    ("numpy.asarray", lambda: np.asarray(t(2)), mv.DeviceError,
     "a Tensor is not converted to NumPy silently: write tensor.numpy() (or .detach().numpy())"),
    ("numpy.sum", lambda: np.sum(t(2)), mv.DeviceError,
     "np.sum does not take Tensors: use tensor.sum(…), or pass tensor.numpy()"),
    ("numpy.concatenate", lambda: np.concatenate([t(2), t(2)]), mv.DeviceError,
     "np.concatenate does not take Tensors: use mv.concatenate(…), or pass tensor.numpy()"),
    ("unknown backend", lambda: mv.use("coppy"), mv.ConfigError,
     "unknown backend 'coppy': choose 'numpy' or 'cupy'; did you mean 'cupy'?"),
    # --- names
    ("misspelt attribute of a Tensor", lambda: t(2).requires_gard, AttributeError,
     "a Tensor has no attribute 'requires_gard'; did you mean 'requires_grad'?"),
    ("function used as a method", lambda: t(2).sin(), AttributeError,
     "a Tensor has no attribute 'sin'; it is a function: mv.ops.sin(tensor)"),
    ("misspelt attribute assigned", lambda: setattr(t(2), "gard", 1), AttributeError,
     "'Tensor' object has no attribute 'gard'"),
    ("assignment to a part", lambda: set_first(t(2)), TypeError, "'Tensor' object does not support item assignment"),
    ("misspelt attribute of a module", lambda: vit().blcoks, AttributeError, "ViT has no 'blcoks'; did you mean 'blocks'?"),
    ("misspelt name of minivit", lambda: mv.sofmax, AttributeError, "minivit has no 'sofmax'; did you mean 'softmax'?"),
    ("misspelt preset", lambda: mv.create("vit_digit"), mv.ConfigError,
     "unknown model 'vit_digit'; choose one of […]; did you mean 'vit_digits'?"),
    ("misspelt constructor argument", lambda: mv.create("vit_digits", detph=3), mv.ConfigError,
     "ViT has no argument 'detph'; did you mean 'depth'?"),
    ("misspelt choice", lambda: vit(pool="maen"), mv.ConfigError,
     "pool: unknown choice 'maen', choose one of cls, mean; did you mean 'mean'?"),
    ("a setting that an operation does not have", lambda: mv.softmax(t(2, 2), axis=0), mv.ConfigError,
     "softmax has no setting 'axis'; it has none"),
    ("a misspelt setting", lambda: mv.layer_norm(t(2, 3), t(3), t(3), epsilon=1e-5), mv.ConfigError,
     "layer_norm has no setting 'epsilon'; its settings, given by name, are eps=…; did you mean 'eps'?"),
    ("a setting without its name", lambda: mv.roll(t(2, 2), 1, 0), mv.ConfigError,
     "roll takes 1 tensor, got 3 operands; its settings, given by name, are shift=…, axis=…"),
    # --- gradients
    ("second backward", lambda: twice(t(2).sum()), mv.GraphError,
     "backward(): this graph was already used (at sum); run the forward pass again, or call backward(retain_graph=True) the "
     "first time"),
    ("backward on many values", lambda: t(2, 3).exp().backward(), mv.GraphError,
     "backward(): the result has shape (2, 3), not one value; reduce it (.sum(), .mean()), or pass gradient=... of that shape"),
    ("backward without a graph", lambda: Tensor(1.0).backward(), mv.GraphError,
     "backward(): nothing here requires a gradient; was it computed under no_grad(), detached, or from plain arrays?"),
    ("backward with a gradient of another shape", lambda: t(2).backward([1, 2, 3]), mv.ShapeError,
     "backward(gradient=…): the gradient has shape (3,), the result (2,)"),
    ("backward with a gradient of another dtype", lambda: t(2).backward(np.ones(2)), mv.DTypeError,
     "backward(gradient=…): the gradient is float64, the result float32"),
    ("second derivative", lambda: t().backward(create_graph=True), mv.GraphError,
     "backward(create_graph=True): this engine has first derivatives only (no gradient of a gradient)"),
    ("moving the middle of a graph", lambda: (t(2) * 2).to("fake_cupy"), mv.GraphError,
     "to('fake_cupy') would cut the graph here: move its leaves instead, or detach() first"),
    ("NaN forward in anomaly mode", poisoned, mv.NonFiniteError,
     "getitem was given NaN in operand 0, (8, 24) (parameter 'blocks.0.attn.qkv.weight'), in module blocks.0.attn.qkv, "
     "at test_messages.py:[…]"),
    ("infinity backward in anomaly mode", slope_of_a_root_at_zero, mv.NonFiniteError,
     "the gradient of operand 0 of sqrt is the first infinity; the forward pass made it at test_messages.py:[…]"),
    # --- labels and images
    ("label outside the classes", lambda: mv.cross_entropy(t(2, 3), labels(0, 3)), mv.ShapeError,
     "cross_entropy: label 3 is outside the 3 classes 0…2"),
    ("too many labels", lambda: mv.cross_entropy(t(2, 3), labels(0, 1, 2)), mv.ShapeError,
     "cross_entropy: logits (2, 3) need labels (2,) of class indices or (2, 3) of probabilities, got (3,)"),
    ("labels of floats", lambda: mv.cross_entropy(t(2, 3), images(2)), mv.DTypeError,
     "cross_entropy: class indices must be integers: labels.astype('int64'); got float32"),
    ("logits without a batch", lambda: mv.cross_entropy(t(3), labels(0)), mv.ShapeError,
     "cross_entropy: logits must be (B, K), got (3,)"),
    ("images of bytes", lambda: vit()(images(2, 8, 8, 1, dtype=np.uint8)), mv.DTypeError,
     "ViT: the input holds uint8; scale it to floating-point numbers first, for example images.astype('float32') / 255"),
    ("images of other channels", lambda: vit()(images(2, 8, 8, 3)), mv.ShapeError,
     "images must be (B, H, W, 1), got (2, 8, 8, 3); channels come last, and a single image needs a batch axis: image[None]"),
    ("an image without a batch axis", lambda: vit()(images(8, 8, 1)), mv.ShapeError,
     "images must be (B, H, W, 1), got (8, 8, 1); channels come last, and a single image needs a batch axis: image[None]"),
    ("images that patches do not tile", lambda: vit()(images(1, 9, 8, 1)), mv.ShapeError,
     "patchify: a 9×8 image is not a whole number of 4×4 patches; crop or pad it first"),
    ("a model that patches do not tile", lambda: vit(patch_size=3), mv.ConfigError,
     "image_size 8×8 is not a whole number of 3×3 patches; change image_size or patch_size"),
    ("a width that heads do not divide", lambda: vit(num_heads=3), mv.ConfigError, "[…]dim 8[…]3[…]"),
    # --- weights
    ("weights of another size", lambda path: saved_then_loaded(path, dim=16), mv.CheckpointError,
     "these weights do not fit this ViT:\n  wrong shape: blocks.0.attn.proj.bias is (16,) here, (8,) in the weights\n[…]"),
    ("weights with a misspelt name", lambda: vit().load_state_dict(renamed("head.bias", "haed.bias")), mv.CheckpointError,
     "these weights do not fit this ViT:\n  missing: head.bias (3,)\n  unknown: haed.bias; did you mean 'head.bias'?"),
    ("weights cut short", cut_short, mv.CheckpointError, "[…]weights.safetensors: cut short: tensor '[…]"),
    ("weights that are not there", lambda path: mv.load(path), mv.CheckpointError, "[…]weights.safetensors: no such file"),
]]
# fmt: on


@pytest.mark.parametrize("misuse", MISUSES, ids=str)
def test_message(misuse, tmp_path):
    call = misuse.call
    with pytest.raises(misuse.error) as caught:
        call(tmp_path / "weights.safetensors") if "path" in call.__code__.co_varnames[
            : call.__code__.co_argcount
        ] else call()
    pattern = ".*".join(map(re.escape, misuse.text.split("[…]")))
    assert re.fullmatch(pattern, str(caught.value), re.DOTALL), f"the message is now:\n{caught.value}"
    if misuse.error not in (AttributeError, TypeError):
        assert isinstance(caught.value, mv.MinivitError)


def test_there_are_enough():
    assert len(MISUSES) >= 25
    assert len({m.label for m in MISUSES}) == len(MISUSES)


@pytest.mark.parametrize(
    ("name", "text"),
    [("detph", "; did you mean 'depth'?"), ("colour", ""), (3, ""), ("", ""), ("Depth", "; did you mean 'depth'?")],
)
def test_did_you_mean(name, text):
    assert errors.did_you_mean(name, ["depth", "dim", "num_heads"]) == text


def test_every_error_is_also_an_ordinary_one():
    """Who knows Python but not minivit catches ValueError, TypeError and the like."""
    for kind, ordinary in {
        mv.ShapeError: ValueError, mv.DTypeError: TypeError, mv.DeviceError: TypeError, mv.GraphError: RuntimeError,
        mv.NonFiniteError: ArithmeticError, mv.GradientError: AssertionError, mv.ConfigError: ValueError,
        mv.CheckpointError: ValueError, mv.DataError: ValueError,
    }.items():  # fmt: skip
        assert issubclass(kind, mv.MinivitError)
        assert issubclass(kind, ordinary)


def test_faults_in_minivit_are_not_dressed_up():
    """An error that no misuse explains passes as it is."""

    @mv.op
    def broken(xp, x):
        return x.no_such_thing, None

    try:
        with pytest.raises(AttributeError, match="no_such_thing"):
            broken(t(2))
    finally:
        from minivit.engine.tensor import registry

        del registry["broken"]
