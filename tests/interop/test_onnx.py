"""Exported graphs: what onnxruntime makes of them is what the model computes, for every model and every operation."""

import inspect
import json
import sys

import numpy as np
import pytest

import minivit as mv
from minivit.engine import backend as backends
from minivit.engine import ops
from minivit.engine.tensor import registry
from minivit.interop import onnx as export
from minivit.models.presets import MODELS
from minivit.nn.module import Module, Parameter

onnx = pytest.importorskip("onnx", reason="optional: the onnx package is not installed")
runtime = pytest.importorskip("onnxruntime", reason="optional: the onnxruntime package is not installed")

SIZES = {"image_size": 12, "patch_size": 4, "in_channels": 2, "num_classes": 5}
WIDE = SIZES | {"dim": 16, "depth": 2, "num_heads": 2}

# Every option of every model, and those that change the graph together.
VARIANTS = {
    "ViT": [
        {}, {"pool": "mean"}, {"registers": 2}, {"registers": 2, "pool": "mean"}, {"layer_scale": 0.1}, {"qk_norm": True},
        {"qkv_bias": False}, {"positions": "sincos", "position_base": 50.0}, {"positions": "none"}, {"rope": True},
        {"mlp": "swiglu"}, {"mlp": "gelu_tanh"}, {"eps": 0.1, "mlp_ratio": 1.0}, {"num_classes": 0}, {"depth": 0},
        {"image_size": (8, 12), "patch_size": (2, 4), "in_channels": 1},
        {"drop_path": 0.2, "patch_dropout": 0.3, "dropout": 0.1},
        {"registers": 1, "rope": True, "mlp": "swiglu", "pool": "mean", "layer_scale": 0.1, "qk_norm": True},
    ],
    "Hybrid": [{}, {"patch_size": 2, "pool": "mean", "image_size": (8, 12), "qk_norm": True}],
    "ForeignViT": [
        {"norm_pre": True}, {"patch_norm": True}, {"attention_dim": 12}, {"pool": "norm_mean", "position_resize": "dino"},
        {"pool": "tokens_mean"}, {"pool": "cls_mean"}, {"pool": "cls_dist", "registers": 1}, {"pool": "map"},
        {"pool": "map", "attention_dim": 12, "qk_norm": True, "registers": 2, "norm_pre": True},
    ],
    "GoogleViT": [{"pre_logits": 7}, {"pre_logits": 7, "pool": "map", "num_classes": 0, "mlp": "gelu_tanh"}],
    "Mixer": [{}, {"mlp": "gelu_tanh", "image_size": (8, 12)}, {"num_classes": 0, "drop_path": 0.1, "eps": 0.1}],
    "FNet": [
        {}, {"mixing": "grid", "image_size": (8, 12), "num_classes": 0}, {"mixing": "none", "positions": "none"},
        {"positions": "sincos", "position_base": 50.0, "mlp_ratio": 1.0, "eps": 0.1, "drop_path": 0.1},
    ],
    "ResNet": [{}, {"width": 8, "blocks_per_stage": 1, "image_size": (9, 14), "num_classes": 0}],
    "LinearClassifier": [{}],
    "SmallCNN": [{}, {"width": 8, "image_size": (9, 14)}],
}  # fmt: skip
CASES = [(kind, options) for kind, variants in VARIANTS.items() for options in variants]


def make(kind, options):
    """A small model in which every parameter is random."""
    sizes = WIDE if kind.endswith("ViT") or kind == "Hybrid" else SIZES
    if kind == "Mixer":
        sizes = SIZES | {"dim": 16, "depth": 2, "tokens_mlp_dim": 12, "channels_mlp_dim": 20}
    elif kind == "FNet":
        sizes = SIZES | {"dim": 16, "depth": 2}
    elif kind in ("LinearClassifier", "SmallCNN", "ResNet"):
        sizes = {k: v for k, v in SIZES.items() if k != "patch_size"}
    model, rng = MODELS[kind](**sizes | options), np.random.default_rng(1)
    model.load_state_dict(
        {n: a + 0.3 * rng.standard_normal(a.shape, np.float32) for n, a in model.state_dict().items()}
    )
    return model.eval()


def session(content):
    options = runtime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    return runtime.InferenceSession(content.SerializeToString(), options, providers=["CPUExecutionProvider"])


def close(found, expected):
    assert found.shape == expected.shape and found.dtype == expected.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize(("kind", "options"), CASES, ids=[f"{k}-{'-'.join(map(str, o)) or 'plain'}" for k, o in CASES])
def test_onnxruntime_gives_the_same(kind, options):
    model = make(kind, options)
    content = export.to_onnx(model, attention=True)
    onnx.checker.check_model(content, full_check=True)
    read = {name for node in content.graph.node for name in node.input} | {o.name for o in content.graph.output}
    made = [*(node.output[0] for node in content.graph.node), *(t.name for t in content.graph.initializer)]
    assert set(made) <= read and len(set(made)) == len(made)  # nothing is left over, nothing is there twice
    run, rng = session(content), np.random.default_rng(0)
    names = [output.name for output in run.get_outputs()]
    for batch in (1, 2, 3, 7):
        images = rng.random((batch, *model.image_size, model.config["in_channels"]), np.float32)
        trace = mv.trace(model, images)
        logits, *attention = run.run(None, {"images": images})
        close(logits, trace.logits)
        assert names == ["logits", *(f"blocks.{i}.attn.attention" for i in range(len(trace.attention)))]
        for found, expected in zip(attention, trace.attention, strict=True):
            close(found, expected)


def test_every_kind_of_model_and_every_option_is_among_the_cases():
    assert VARIANTS.keys() == MODELS.keys()
    sizes = {"image_size", "patch_size", "in_channels", "num_classes", "dim", "depth", "num_heads", "seed"}
    sizes |= {"tokens_mlp_dim", "channels_mlp_dim"}
    arguments = {kind: set(inspect.signature(model).parameters) for kind, model in MODELS.items()}
    for kind in MODELS:
        tried = {option for options in VARIANTS[kind] for option in options}
        again = arguments["ViT"] if kind in ("Hybrid", "ForeignViT") else set()  # tried in the ViT
        again = arguments["ForeignViT"] if kind == "GoogleViT" else again
        assert arguments[kind] - tried <= sizes | again, kind


# --- every rule -------------------------------------------------------------------------------------------------------


class Calls(Module):
    """A function as a model: (B, 2, 3, 4) -> an output; `w` (4,), `m` (4, 4) and `c` (3, 3, 4, 8) are its parameters."""

    def __init__(self, function):
        rng = np.random.default_rng(3)
        self.config, self.image_size, self.function = {"in_channels": 4}, (2, 3), function
        self.w = Parameter(rng.random(4, np.float32) + 0.5)
        self.m = Parameter(rng.standard_normal((4, 4), np.float32))
        self.c = Parameter(rng.standard_normal((3, 3, 4, 8), np.float32), layout="conv")

    def forward(self, x):
        return self.function(self, self.as_input(x))


def tokens(x):
    """(B, 2, 3, 4) -> (B, 6, 4)."""
    return x.reshape(x.shape[0], 6, 4)


RULE_CASES = {
    "add": lambda s, x: 1.5 + x + s.w, "subtract": lambda s, x: 1 - x - s.w, "multiply": lambda s, x: x * s.w * 2,
    "divide": lambda s, x: 1 / (x + 1) / s.w, "negative": lambda s, x: -x, "maximum": lambda s, x: ops.maximum(x, 0.5),
    "minimum": lambda s, x: ops.minimum(s.w, x), "matmul": lambda s, x: x @ s.m @ tokens(x).transpose(0, 2, 1)[:, None],
    "exp": lambda s, x: x.exp(), "log": lambda s, x: (x + 1).log(), "sqrt": lambda s, x: x.sqrt(), "sin": lambda s, x: ops.sin(x),
    "cos": lambda s, x: ops.cos(x), "tanh": lambda s, x: x.tanh(), "erf": lambda s, x: ops.erf(x - 0.5),
    "sigmoid": lambda s, x: ops.sigmoid(x - 0.5), "relu": lambda s, x: ops.relu(x - 0.5), "abs": lambda s, x: (x - 0.5).abs(),
    "sum": lambda s, x: x.sum(axis=(1, -1)), "mean": lambda s, x: x.mean(axis=2, keepdims=True),
    "max": lambda s, x: x.max(axis=-1), "min": lambda s, x: x.min(axis=(1, 2, 3)), "var": lambda s, x: x.var(axis=(1, 3)),
    "power": lambda s, x: (x + 1) ** -1.5 + x**2, "reshape": lambda s, x: x.reshape(-1, 3, 2, 4)[:, :, 1],
    "transpose": lambda s, x: x.transpose(0, -1, 2, 1) + x.T.T.transpose(0, 3, 2, 1),
    "broadcast_to": lambda s, x: x + ops.broadcast_to(s.w, shape=(2, 1, 4)) + ops.broadcast_to(s.w, shape=x.shape),
    "concatenate": lambda s, x: ops.concatenate([x, x * 2, x[:, :1]], axis=1),
    "stack": lambda s, x: ops.stack([x, x + 1], axis=2) + ops.stack([s.w, s.w], axis=-1)[0, 0],
    "pad": lambda s, x: ops.pad(x, widths=((0, 0), (1, 2), (0, 1), (0, 0))),
    "getitem": lambda s, x: x[..., -1, 1:-1][:, None, 1:, None] * s.w[::2] * s.m[1, 2] + x[:] [:, 0, 0, 0].mean(),
    "linear": lambda s, x: mv.linear(mv.linear(x, s.m), s.m, s.w), "softmax": lambda s, x: mv.softmax(x * s.w),
    "log_softmax": lambda s, x: mv.log_softmax(x), "gelu": lambda s, x: mv.gelu(x) + mv.gelu(4 * x - 3, approximate=True),
    "fft2_real": lambda s, x: ops.fft2_real(x) + ops.fft2_real(x, axes=(1, 2, 3)),
    "silu": lambda s, x: mv.silu(x - 0.5), "layer_norm": lambda s, x: mv.layer_norm(x, s.w, s.m[0], eps=0.01),
    "group_norm": lambda s, x: mv.fused.group_norm(x, s.w, s.m[0], groups=2, eps=0.01),
    "conv2d": lambda s, x: mv.conv2d(x, s.c, stride=(1, 2), padding=((2, 1), (0, 1))),
    "max_pool2d": lambda s, x: mv.max_pool2d(x, (2, 1), padding=(1, 0)), "avg_pool2d": lambda s, x: mv.avg_pool2d(x, 2, 1, 1),
    "attention": lambda s, x: mv.attention(tokens(x), tokens(x)[:, :4], tokens(x)[:, 2:, :3], scale=0.7),
    "self_attention": lambda s, x: mv.fused.self_attention(mv.linear(tokens(x), s.c[0, 0])[..., :6], num_heads=2),
}  # fmt: skip


@pytest.mark.parametrize("name", export.RULES)
def test_every_rule(name):
    used = []
    model = Calls(RULE_CASES[name])
    content = export.to_onnx(model)
    onnx.checker.check_model(content, full_check=True)
    run = session(content)
    for batch in (1, 2, 5):
        images = np.random.default_rng(batch).random((batch, 2, 3, 4), np.float32)
        close(run.run(None, {"images": images})[0], model(images).numpy())
        used.append(model(images).shape)
    assert name in {step.op for step in export.Recording(model).steps} and name in registry


@pytest.mark.parametrize(
    "name", ["linear", "softmax", "log_softmax", "layer_norm", "group_norm", "gelu", "silu", "attention"]
)
def test_composed_forms_are_translated_too(name, rng):
    composed = {
        "linear": lambda s, x: mv.composed.linear(x, s.m, s.w), "softmax": lambda s, x: mv.composed.softmax(x),
        "log_softmax": lambda s, x: mv.composed.log_softmax(x), "gelu": lambda s, x: mv.composed.gelu(x),
        "layer_norm": lambda s, x: mv.composed.layer_norm(x, s.w, s.m[0]), "silu": lambda s, x: mv.composed.silu(x),
        "group_norm": lambda s, x: mv.composed.group_norm(x, s.w, s.m[0], groups=2),
        "attention": lambda s, x: mv.composed.self_attention(mv.linear(tokens(x), s.c[0, 0])[..., :6], 2),
    }  # fmt: skip
    model = Calls(composed[name])
    images = rng.random((3, 2, 3, 4), np.float32)
    close(session(export.to_onnx(model)).run(None, {"images": images})[0], model(images).numpy())


# --- the file ---------------------------------------------------------------------------------------------------------


def test_names_follow_our_modules_and_each_weight_is_stored_once(tmp_path):
    model = make("ViT", {"registers": 2, "layer_scale": 0.1})
    assert export.export(model, tmp_path / "m.onnx") == ["logits"]
    graph = onnx.load(tmp_path / "m.onnx").graph
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    state = model.state_dict()
    assert len(stored) == len(graph.initializer) and state.keys() <= stored.keys()
    assert all(np.array_equal(stored[name], state[name]) for name in state)
    assert sum(a.size for name, a in stored.items() if name not in state) < 100  # shapes and a few numbers
    modules = {name for name, _ in model.named_modules()}
    assert len({node.name for node in graph.node}) == len(graph.node)
    for node in graph.node:
        where = node.name.rpartition("/")[0]
        assert where in modules and node.output[0] in (node.name, where, f"{where}.attention", "logits")
    made = {node.output[0]: node.op_type for node in graph.node}
    assert made["blocks.1.attn.qkv"] == "Add" and made["blocks.1.attn.attention"] == "Softmax"
    assert made["blocks.0.norm2"] == "LayerNormalization" and made["blocks.0.mlp/Gelu"] == "Gelu"
    shapes = {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in graph.value_info}
    assert shapes["blocks.0"] == ["batch", 12, 16] and shapes["blocks.0.attn.attention"] == ["batch", 2, 12, 12]


def test_the_file_says_what_the_model_is_and_how_images_are_prepared(tmp_path):
    model = make("ViT", {"image_size": np.int64(12)})
    model.meta = {"name": "digits", "class_names": list("abcde"), "mean": [0.5, 0.5], "std": np.array([0.25, 0.5])}
    export.export(model, tmp_path / "m.onnx")
    said = {p.key: json.loads(p.value) for p in onnx.load(tmp_path / "m.onnx").metadata_props}
    assert said["model"] == "ViT" and said["config"]["dim"] == 16 and said["data"]["std"] == [0.25, 0.5]


def test_modes_are_restored_and_nothing_random_is_left(rng):
    model = make("ViT", {"dropout": 0.5, "drop_path": 0.5, "patch_dropout": 0.5}).train()
    model.blocks[0].eval()
    modes = [module.training for _, module in model.named_modules()]
    content = export.to_onnx(model)
    assert modes == [module.training for _, module in model.named_modules()] and False in modes
    images = rng.random((2, 12, 12, 2), np.float32)
    close(session(content).run(None, {"images": images})[0], model.eval()(images).numpy())


def test_a_model_on_a_gpu_gives_the_same_file(backend):
    model = make("ViT", {"qk_norm": True, "rope": True})
    expected = export.to_onnx(model.to("numpy")).SerializeToString()
    assert export.to_onnx(model.to(backend.name)).SerializeToString() == expected


# --- what cannot be exported ------------------------------------------------------------------------------------------


def test_without_the_package_one_line_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(mv.ConfigError, match="pip install -r requirements-onnx.txt"):
        export.export(make("LinearClassifier", {}), tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def drawn_outside(self, x):
    return x + mv.Tensor(x.numpy() * 2)


def grows_with_the_batch(self, x):
    return x * mv.Tensor(np.arange(x.shape[0], dtype=np.float32).reshape(-1, 1, 1, 1))


def only_for_one(self, x):
    return x + 1 if x.shape[0] == 1 else x * 2


def longer_for_two(self, x):
    return x + 1 if x.shape[0] == 1 else x + 1 + 1


@pytest.mark.parametrize(("function", "message"), [
    (lambda s, x: ops.flip(x, axis=1), r"export: flip \(in module ''\) has no translation into ONNX"),
    (lambda s, x: x[:, np.array([0, 1])], "an index that is an array"),
    (lambda s, x: s.w, "computes nothing with minivit's operations"),
    (drawn_outside, "an operand of add in module '' depends on the images or on the batch size"),
    (grows_with_the_batch, "an operand of multiply in module '' depends on the images or on the batch size"),
    (only_for_one, "add in module '' does something else for another batch size"),
    (longer_for_two, "uses other operations for another batch size"),
    (lambda s, x: x[: x.shape[0] // 2 + 1], "getitem in module '' does something else for another batch size"),
    (lambda s, x: x * x.shape[0], "multiply in module '' does something else"),
    (lambda s, x: ops.broadcast_to(s.w, shape=(2 * x.shape[0], 4)), "broadcast in module '' depends on the batch"),
    (lambda s, x: x.transpose(1, 0, 2, 3).reshape(2, -1)[:, None] @ x[:1].reshape(1, 24, 1)[:, : 12 * x.shape[0]], "getitem"),
])  # fmt: skip
def test_what_is_no_fixed_graph_is_refused(function, message):
    with pytest.raises(mv.ConfigError, match=message):
        export.to_onnx(Calls(function))


def test_other_number_types_are_refused():
    with pytest.raises(mv.ConfigError, match="float32; convert them with model.astype"):
        export.to_onnx(make("ViT", {}).astype("float64"))


def test_nothing_half_written_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "LARGEST", 1000)
    with pytest.raises(mv.CheckpointError, match="more than an ONNX file can hold"):
        export.export(make("ViT", {}), tmp_path / "m.onnx")
    monkeypatch.undo()
    with pytest.raises(mv.CheckpointError, match="cannot be written"):
        export.export(make("ViT", {}), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_watching_ends_with_the_recording():
    model = make("LinearClassifier", {})
    with pytest.raises(mv.ConfigError):
        export.to_onnx(Calls(drawn_outside))
    export.to_onnx(model)
    from minivit.engine.tensor import watchers

    assert watchers.get() == () and backends.default_backend().name == "numpy"
