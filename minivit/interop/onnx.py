"""A model as an ONNX graph: each operation that it uses becomes one node or a few, named after our modules."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from minivit.engine.errors import CheckpointError, ConfigError
from minivit.interop.recording import FUSED_ATTENTION, Recording, Ref, Shape
from minivit.interop.safetensors import replacing
from minivit.nn.module import Module

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

OPSET, IR_VERSION = 21, 10  # of 2024: the first whose GroupNormalization has a scale for each channel
END = 2**63 - 1  # where a slice without an end ends
LARGEST = 2**31 - 1  # bytes of one file


def export(model: Module, path: str | Path, attention: bool = False) -> list[str]:
    """Write a model to an ONNX file, complete or not at all; returns the names of its outputs.

    Input: `images` (batch, H, W, C) float32, prepared as in training, any number of them. Outputs: `logits` and, with
    `attention`, each layer's weights (batch, heads, T, T) under their name in a trace, such as `blocks.0.attn.attention`.
    Raises `ConfigError` without the `onnx` package, and for a model that is not a fixed graph of operations known here;
    `CheckpointError` where it cannot be written.
    """
    content = to_onnx(model, attention)
    if content.ByteSize() > LARGEST:
        raise CheckpointError(f"{path}: {content.ByteSize() / 1e9:.1f} GB are more than an ONNX file can hold (2 GB)")
    with replacing(path) as file:
        file.write(content.SerializeToString())
    return [output.name for output in content.graph.output]


def to_onnx(model: Module, attention: bool = False) -> "ModelProto":
    """What `export` writes, as an object of the `onnx` package."""
    _package()
    if any(p.dtype != np.float32 for p in model.parameters()):
        raise ConfigError("export: the parameters must be float32; convert them with model.astype('float32')")
    try:
        return _Graph(model).finished(attention)
    except ConfigError as error:
        raise ConfigError(f"export: {error}") from error


def _package() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise ConfigError("export: the onnx package is missing: pip install -r requirements-onnx.txt") from error
    return onnx


class _Graph:
    """The nodes and initializers of a recorded model; the rules below add to it."""

    def __init__(self, model: Module):
        self.model, self.recording = model, Recording(model)
        self.parameters = dict(model.named_parameters())
        self.nodes: dict[str, NodeProto] = {}  # by the tensor that each makes
        self.counts: Counter[str] = Counter()  # of the names asked for
        self.shapes: dict[str, Shape] = {}  # of tensors that are worth knowing
        self.initializers: dict[str, np.ndarray] = {}
        self.tensors: dict[Ref, str] = {("images", None): "images"}
        names = {("step", i): name for i, name in self.recording.names.items()}
        names |= {self.recording.result: "logits"}
        self.weights = {}  # step -> the name of the weights inside a fused attention
        for tap, ref in self.recording.attention.items():
            fused = ref[0] == "step" and self.recording.steps[ref[1]].op in FUSED_ATTENTION
            (self.weights if fused else names)[ref] = tap
        for i, step in enumerate(self.recording.steps):
            self.step, self.ref = step, ("step", i)
            if step.op not in RULES:
                raise ConfigError(f"{step.op} (in module {step.path!r}) has no translation into ONNX here")
            made = RULES[step.op](self, *step.operands, **step.settings)
            self.tensors[self.ref] = self.rename(made, names.get(self.ref, made), step.shape)

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node; returns the name of the tensor that it makes, which for now is its own: `blocks.0.mlp/Gelu`."""
        name = f"{self.step.path}/{kind}".lstrip("/")
        self.counts[name] += 1
        name += f"_{self.counts[name]}" if self.counts[name] > 1 else ""
        self.nodes[name] = _package().helper.make_node(kind, inputs, [name], name, **attributes)
        return name

    def rename(self, tensor: str, name: str, shape: Shape) -> str:
        """Give a tensor that was made just now another name, unless that is taken, and note its shape."""
        name = tensor if name in self.nodes else name
        self.nodes[name] = self.nodes.pop(tensor)
        self.nodes[name].output[0] = name
        self.shapes[name] = shape
        return name

    def tensor(self, ref: Ref) -> str:
        """The name of an operand; a parameter or a constant becomes an initializer when it is first asked for."""
        kind, which = ref
        if kind == "number":
            return self.initializer(f"number/{which:.9g}", np.array(which, np.float32))
        if kind == "parameter":
            return self.initializer(which, self.parameters[which].numpy())
        if kind == "constant":
            return self.initializer(f"constant/{which}", self.recording.constants[which])
        return self.tensors[ref]

    def initializer(self, name: str, values: np.ndarray) -> str:
        """A fixed tensor, stored once however often it is used."""
        self.initializers.setdefault(name, values)
        return name

    def ints(self, *values: int) -> str:
        """Whole numbers in a row, as shapes and axes are given."""
        return self.initializer("ints/" + "_".join(map(str, values)), np.array(values, np.int64))

    def finished(self, attention: bool) -> "ModelProto":
        """The graph with its inputs, outputs and metadata."""
        helper = _package().helper
        float32, taps = _package().TensorProto.FLOAT, self.recording.attention if attention else ()
        outputs = [helper.make_tensor_value_info(name, float32, self.shapes.pop(name)) for name in ("logits", *taps)]
        images = helper.make_tensor_value_info("images", float32, self.recording.shape(("images", None)))
        graph = helper.make_graph(
            list(self.nodes.values()),
            type(self.model).__name__,
            [images],
            outputs,
            [_package().numpy_helper.from_array(np.asarray(a, order="C"), n) for n, a in self.initializers.items()],
            value_info=[helper.make_tensor_value_info(name, float32, shape) for name, shape in self.shapes.items()],
        )
        made = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="minivit"
        )
        helper.set_model_props(made, {k: json.dumps(v, default=_plain) for k, v in self.about().items() if v})
        return made

    def about(self) -> dict[str, Any]:
        """What a user of the file must know besides: how images are prepared, what the classes are called."""
        prepare, source = getattr(self.model, "preprocess", None), self.model.source
        return {
            "model": type(self.model).__name__,
            "config": self.model.config,
            "data": self.model.meta,
            "preprocess": prepare and vars(prepare),
            "labels": source and source.labels,
        }


def _plain(value: Any) -> Any:
    """NumPy's numbers and arrays, and fractions, as JSON has them."""
    return value.tolist() if hasattr(value, "tolist") else float(value)


# --- one rule for each operation ---------------------------------------------------------------------------------------

# operation -> f(graph, *operands, **settings), which returns the tensor that it made
RULES: dict[str, Callable[..., str]] = {}


def _rule(function: Callable) -> Callable:
    RULES[function.__name__.lstrip("_")] = function
    return function


def _same(kind: str) -> Callable[..., str]:
    """The rule of an operation that ONNX has with the same operands."""
    return lambda g, *operands: g.node(kind, *map(g.tensor, operands))


RULES |= {
    "add": _same("Add"), "subtract": _same("Sub"), "multiply": _same("Mul"), "divide": _same("Div"), "negative": _same("Neg"),
    "maximum": _same("Max"), "minimum": _same("Min"), "matmul": _same("MatMul"), "exp": _same("Exp"), "log": _same("Log"),
    "sqrt": _same("Sqrt"), "sin": _same("Sin"), "cos": _same("Cos"), "tanh": _same("Tanh"), "erf": _same("Erf"),
    "sigmoid": _same("Sigmoid"), "relu": _same("Relu"), "abs": _same("Abs"),
}  # fmt: skip


def _reduction(kind: str) -> Callable[..., str]:
    def rule(g: _Graph, x: Ref, axis: Any = None, keepdims: bool = False) -> str:
        return g.node(kind, g.tensor(x), g.ints(*_axes(g, x, axis)), keepdims=int(keepdims))

    return rule


def _axes(g: _Graph, x: Ref, axis: Any) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(len(g.recording.shape(x))))
    return (axis,) if isinstance(axis, int) else tuple(axis)


RULES |= {
    "sum": _reduction("ReduceSum"), "mean": _reduction("ReduceMean"), "max": _reduction("ReduceMax"),
    "min": _reduction("ReduceMin"),
}  # fmt: skip


@_rule
def _var(g: _Graph, x: Ref, axis: Any = None, keepdims: bool = False) -> str:
    """The biased variance: the mean of the squared distances from the mean."""
    axes = g.ints(*_axes(g, x, axis))
    centred = g.node("Sub", g.tensor(x), g.node("ReduceMean", g.tensor(x), axes, keepdims=1))
    return g.node("ReduceMean", g.node("Mul", centred, centred), axes, keepdims=int(keepdims))


@_rule
def _power(g: _Graph, x: Ref, exponent: float) -> str:
    return g.node("Pow", g.tensor(x), g.tensor(("number", exponent)))


@_rule
def _reshape(g: _Graph, x: Ref, shape: Any) -> str:
    return _reshaped(g, g.tensor(x), g.step.shape)


def _reshaped(g: _Graph, x: str, shape: Shape) -> str:
    """One axis may follow from the others: the one that depends on the batch."""
    lengths = [n if isinstance(n, int) else -1 for n in shape]
    if lengths.count(-1) > 1:
        raise ConfigError(f"a reshape in module {g.step.path!r} has more than one axis that depends on the batch")
    return g.node("Reshape", x, g.ints(*lengths))


@_rule
def _transpose(g: _Graph, x: Ref, axes: Any = None) -> str:
    n = len(g.step.shape)
    return g.node("Transpose", g.tensor(x), perm=[a % n for a in axes] if axes else list(reversed(range(n))))


@_rule
def _broadcast_to(g: _Graph, x: Ref, shape: Any) -> str:
    if None in g.step.shape:
        raise ConfigError(f"a broadcast in module {g.step.path!r} depends on the batch in more than its batch axis")
    if "batch" not in g.step.shape:
        return g.node("Expand", g.tensor(x), g.ints(*g.step.shape))
    parts = [g.node("Shape", "images", start=0, end=1) if n == "batch" else g.ints(n) for n in g.step.shape]
    return g.node("Expand", g.tensor(x), g.node("Concat", *parts, axis=0))


@_rule
def _concatenate(g: _Graph, *arrays: Ref, axis: int = 0) -> str:
    return g.node("Concat", *map(g.tensor, arrays), axis=axis)


@_rule
def _stack(g: _Graph, *arrays: Ref, axis: int = 0) -> str:
    return g.node("Concat", *(g.node("Unsqueeze", g.tensor(a), g.ints(axis)) for a in arrays), axis=axis)


@_rule
def _pad(g: _Graph, x: Ref, widths: Any) -> str:
    return g.node("Pad", g.tensor(x), g.ints(*(before for before, _ in widths), *(after for _, after in widths)))


@_rule
def _getitem(g: _Graph, x: Ref, index: Any) -> str:
    """Slices with positive steps, whole numbers and new axes."""
    parts = list(index) if isinstance(index, tuple) else [index]
    if not all(isinstance(i, (int, slice, type(None), type(Ellipsis))) for i in parts):
        raise ConfigError(f"an index that is an array (in module {g.step.path!r}) has no translation into ONNX here")
    rest = [slice(None)] * (len(g.recording.shape(x)) - sum(isinstance(i, (int, slice)) for i in parts))
    at = parts.index(...) if ... in parts else len(parts)
    parts = [*parts[:at], *rest, *parts[at + 1 :]]
    axes = list(enumerate(i for i in parts if i is not None))
    cuts = [
        (i.start or 0, END if i.stop is None else i.stop, axis, i.step or 1)
        for axis, i in axes
        if isinstance(i, slice) and i != slice(None)
    ]
    y = g.tensor(x)
    if cuts:
        y = g.node("Slice", y, *(g.ints(*values) for values in zip(*cuts, strict=True)))
    for axis, i in reversed(axes):
        if isinstance(i, int):
            y = _at(g, y, i, axis)
    new = [axis for axis, i in enumerate(i for i in parts if not isinstance(i, int)) if i is None]
    if new:
        y = g.node("Unsqueeze", y, g.ints(*new))
    return g.node("Identity", y) if y == g.tensor(x) else y


def _at(g: _Graph, x: str, i: int, axis: int) -> str:
    """Place i of an axis, which disappears."""
    return g.node("Gather", x, g.initializer(f"int/{i}", np.array(i, np.int64)), axis=axis)


@_rule
def _linear(g: _Graph, x: Ref, weight: Ref, *bias: Ref) -> str:
    y = g.node("MatMul", g.tensor(x), g.tensor(weight))
    return g.node("Add", y, g.tensor(bias[0])) if bias else y


@_rule
def _softmax(g: _Graph, x: Ref) -> str:
    return g.node("Softmax", g.tensor(x), axis=-1)


@_rule
def _log_softmax(g: _Graph, x: Ref) -> str:
    return g.node("LogSoftmax", g.tensor(x), axis=-1)


@_rule
def _gelu(g: _Graph, x: Ref, approximate: bool = False) -> str:
    return g.node("Gelu", g.tensor(x), approximate="tanh" if approximate else "none")


@_rule
def _fft2_real(g: _Graph, x: Ref, axes: tuple[int, ...] = (-2, -1)) -> str:
    """Axis after axis a product with cosines and one with sines: ONNX's own transform takes one axis and complex numbers."""
    shape = g.recording.shape(x)
    letters = "abcdefgh"[: len(shape)]

    def along(axis: int, tensor: str, wave: str) -> str:
        n, letter = shape[axis], letters[axis]
        angles = 2 * np.pi * (np.outer(np.arange(n), np.arange(n)) % n) / n
        table = g.initializer(f"{wave}/{n}", (np.cos if wave == "cosines" else np.sin)(angles).astype(np.float32))
        return g.node("Einsum", tensor, table, equation=f"{letters},{letter}z->{letters.replace(letter, 'z')}")

    real, imaginary = g.tensor(x), ""  # of (real + i·imaginary)(cosines − i·sines)
    for i, axis in enumerate(axes):
        new = along(axis, real, "cosines")
        if imaginary:
            new = g.node("Add", new, along(axis, imaginary, "sines"))
        if i + 1 < len(axes):
            turned = along(axis, real, "sines")
            plain = along(axis, imaginary, "cosines") if imaginary else ""
            imaginary = g.node("Sub", plain, turned) if plain else g.node("Neg", turned)
        real = new
    return real


@_rule
def _silu(g: _Graph, x: Ref) -> str:
    return g.node("Mul", g.tensor(x), g.node("Sigmoid", g.tensor(x)))


@_rule
def _layer_norm(g: _Graph, x: Ref, weight: Ref, bias: Ref, eps: float = 1e-6) -> str:
    return g.node("LayerNormalization", *map(g.tensor, (x, weight, bias)), axis=-1, epsilon=eps)


@_rule
def _group_norm(g: _Graph, x: Ref, weight: Ref, bias: Ref, groups: int, eps: float = 1e-5) -> str:
    y = _channels_first(g, g.tensor(x), g.step.shape)
    y = g.node("GroupNormalization", y, g.tensor(weight), g.tensor(bias), num_groups=groups, epsilon=eps)
    return _channels_last(g, y, g.step.shape)


def _channels_first(g: _Graph, x: str, shape: Shape) -> str:
    return g.node("Transpose", x, perm=[0, len(shape) - 1, *range(1, len(shape) - 1)])


def _channels_last(g: _Graph, x: str, shape: Shape) -> str:
    return g.node("Transpose", x, perm=[0, *range(2, len(shape)), 1])


@_rule
def _conv2d(g: _Graph, x: Ref, weight: Ref, stride: Any, padding: Any) -> str:
    kernel = g.node("Transpose", g.tensor(weight), perm=[3, 2, 0, 1])  # (kh, kw, in, out) -> (out, in, kh, kw)
    return _over_windows(g, "Conv", x, kernel, strides=stride, pads=_margins(padding))


@_rule
def _max_pool2d(g: _Graph, x: Ref, size: Any, stride: Any, padding: Any) -> str:
    return _over_windows(g, "MaxPool", x, kernel_shape=size, strides=stride, pads=_margins(padding))


@_rule
def _avg_pool2d(g: _Graph, x: Ref, size: Any, stride: Any, padding: Any) -> str:
    settings = {"kernel_shape": size, "strides": stride, "pads": _margins(padding), "count_include_pad": 1}
    return _over_windows(g, "AveragePool", x, **settings)


def _over_windows(g: _Graph, kind: str, x: Ref, *more: str, **settings: Any) -> str:
    y = g.node(kind, _channels_first(g, g.tensor(x), g.step.shape), *more, **settings)
    return _channels_last(g, y, g.step.shape)


def _margins(padding: Any) -> list[int]:
    """((top, bottom), (left, right)) -> [top, left, bottom, right]."""
    (top, bottom), (left, right) = padding
    return [top, left, bottom, right]


@_rule
def _attention(g: _Graph, q: Ref, k: Ref, v: Ref, scale: float) -> str:
    shape = g.recording.shape(q)
    keys = g.node("Transpose", g.tensor(k), perm=[*range(len(shape) - 2), len(shape) - 1, len(shape) - 2])
    return _attend(g, g.tensor(q), keys, g.tensor(v), scale, (*shape[:-1], g.recording.shape(k)[-2]))


@_rule
def _self_attention(g: _Graph, qkv: Ref, num_heads: int) -> str:
    b, t, width = g.step.shape
    d = width // num_heads
    x = _reshaped(g, g.tensor(qkv), (b, t, 3, num_heads, d))
    x = g.node("Transpose", x, perm=[2, 0, 3, 1, 4])  # (3, B, heads, T, d)
    q, k, v = (_at(g, x, i, 0) for i in range(3))
    y = _attend(g, q, g.node("Transpose", k, perm=[0, 1, 3, 2]), v, d**-0.5, (b, num_heads, t, t))
    return _reshaped(g, g.node("Transpose", y, perm=[0, 2, 1, 3]), (b, t, width))


def _attend(g: _Graph, q: str, k: str, v: str, scale: float, shape: Shape) -> str:
    """softmax(q k · scale) v, `k` turned already, the weights under the name of their tap."""
    scores = g.node("MatMul", g.node("Mul", q, g.tensor(("number", scale))), k)
    weights = g.node("Softmax", scores, axis=-1)
    return g.node("MatMul", g.rename(weights, g.weights.get(g.ref, weights), shape), v)
