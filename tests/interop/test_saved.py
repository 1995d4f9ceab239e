"""save and load: every model comes back bit for bit, and what does not fit says why."""

import json
from pathlib import Path

import numpy as np
import pytest

import minivit as mv
from minivit.interop import safetensors, saved
from minivit.nn import Conv2d, Linear

SIZES = {"image_size": 12, "patch_size": 4, "in_channels": 2, "num_classes": 5, "dim": 16, "depth": 2, "num_heads": 2}
TIMM, OURS = "pt", "minivit"

# What differs from SIZES, and the `format` that the file must claim.
VARIANTS = {
    "plain": ({}, TIMM),
    "mean": ({"pool": "mean"}, TIMM),
    "registers": ({"registers": 2}, TIMM),
    "registers_mean": ({"registers": 2, "pool": "mean"}, TIMM),
    "layer_scale": ({"layer_scale": 1e-5}, TIMM),
    "random_parts": ({"drop_path": 0.2, "patch_dropout": 0.3, "dropout": 0.1}, TIMM),  # they leave no trace in weights
    "qk_norm": ({"qk_norm": True}, TIMM),
    "no_bias": ({"qkv_bias": False}, TIMM),
    "sincos": ({"positions": "sincos", "position_base": 50.0}, TIMM),  # a table like any other
    "learned_sincos": ({"positions": "learned_sincos"}, TIMM),
    "no_positions": ({"positions": "none"}, TIMM),
    "non_square": ({"image_size": (8, 12), "patch_size": (2, 4)}, TIMM),
    "no_head": ({"num_classes": 0}, TIMM),
    "no_blocks": ({"depth": 0}, TIMM),
    "rope": ({"rope": True}, OURS),
    "swiglu": ({"mlp": "swiglu"}, OURS),
    "gelu_tanh": ({"mlp": "gelu_tanh"}, OURS),  # the names would fit, the numbers would not
    "eps": ({"eps": 1e-5}, OURS),
    "many": (
        {"registers": 1, "rope": True, "mlp": "swiglu", "pool": "mean", "layer_scale": 0.1, "qk_norm": True},
        OURS,
    ),
}


def randomised(model):
    rng = np.random.default_rng(1)
    state = {n: (a + rng.standard_normal(a.shape)).astype(a.dtype) for n, a in model.state_dict().items()}
    model.load_state_dict(state)
    return model


def same(a, b):
    return list(a) == list(b) and all(a[k].dtype == b[k].dtype and np.array_equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_vit_comes_back(tmp_path, rng, name):
    options, form = VARIANTS[name]
    model = randomised(mv.ViT(**SIZES | options))
    path = tmp_path / "model.safetensors"
    mv.save(model, path)
    again = mv.load(path)
    assert type(again) is mv.ViT and again.config == model.config and again.meta is None
    assert same(again.state_dict(), model.state_dict())
    assert not any(m.training for _, m in again.named_modules())
    assert [p.requires_grad for p in again.parameters()] == [p.requires_grad for p in model.parameters()]
    images = rng.random((2, *model.image_size, 2), np.float32)
    assert np.array_equal(again(images).numpy(), model.eval()(images).numpy())
    metadata = safetensors.read(path)[1]
    assert metadata["format"] == form and metadata["model"] == "ViT"
    assert set(metadata) == {"format", "model", "config"} | ({"timm"} if not options.get("rope") else set())


def test_every_option_of_the_vit_is_among_the_variants():
    tried = {option for options, _ in VARIANTS.values() for option in options}
    assert set(mv.ViT(**SIZES).config) - tried == set(SIZES) - {"image_size", "patch_size", "num_classes", "depth"} | {
        "mlp_ratio",
        "seed",
    }


@pytest.mark.parametrize("kind", ["linear", "cnn"])
def test_baselines_come_back(tmp_path, rng, kind):
    model = randomised(mv.create(kind, image_size=(12, 8), in_channels=2, num_classes=5))
    mv.save(model, tmp_path / "x")
    again = mv.load(tmp_path / "x")
    assert type(again) is type(model) and same(again.state_dict(), model.state_dict())
    images = rng.random((2, 12, 8, 2), np.float32)
    assert np.array_equal(again(images).numpy(), model(images).numpy())
    assert safetensors.read(tmp_path / "x")[1]["format"] == "minivit"


def test_the_layout_of_the_file_is_timm_s(tmp_path):
    model = randomised(mv.ViT(**SIZES | {"patch_size": (2, 4)}))
    mv.save(model, tmp_path / "x")
    stored, own = safetensors.read(tmp_path / "x")[0], model.state_dict()
    patch = stored["patch_embed.proj.weight"]
    assert patch.shape == (16, 2, 2, 4)
    for d, c, i, j in np.ndindex(patch.shape):
        assert patch[d, c, i, j] == own["patch_embed.proj.weight"][(i * 4 + j) * 2 + c, d]
    assert np.array_equal(stored["blocks.0.attn.qkv.weight"], own["blocks.0.attn.qkv.weight"].T)
    assert np.array_equal(stored["head.weight"], own["head.weight"].T)
    for name in ("cls_token", "pos_embed", "norm.weight", "blocks.1.mlp.fc2.bias"):
        assert np.array_equal(stored[name], own[name])
    kernel = randomised(Conv2d(2, 5, 3)).weight
    file = saved.to_file_layout(kernel.data, kernel.layout)
    assert file.shape == (5, 2, 3, 3) and file[4, 1, 0, 2] == kernel.data[0, 2, 1, 4]
    assert np.array_equal(saved.from_file_layout(file, kernel.layout), kernel.data)


def test_patches_of_another_form_do_not_pass_for_ours():
    """2×8 pixels are as many as 4×4, and four grey ones as many as a four-channel one."""
    for other in ({"patch_size": (2, 8), "image_size": (8, 32)}, {"patch_size": 2, "in_channels": 8, "image_size": 8}):
        model = mv.ViT(**SIZES | {"image_size": 16, "positions": "none"})
        foreign = mv.ViT(**SIZES | {"positions": "none"} | other)
        with pytest.raises(mv.CheckpointError, match="wrong shape: patch_embed.proj.weight"):
            saved.from_file(model, saved.to_file(foreign))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_number_types_are_kept(tmp_path, dtype):
    model = randomised(mv.ViT(**SIZES).astype(dtype))
    mv.save(model, tmp_path / "x")
    assert {a.dtype for a in safetensors.read(tmp_path / "x")[0].values()} == {np.dtype(dtype)}
    assert same(mv.load(tmp_path / "x").state_dict(), model.state_dict())


def test_what_was_learned_about_the_data_comes_along(tmp_path):
    model = mv.ViT(**SIZES | {"image_size": np.int64(12)})
    model.meta = {"name": "digits", "class_names": ["é", "b"], "mean": np.float32(0.5), "std": np.array([0.25, 0.5])}
    mv.save(model, tmp_path / "x")
    again = mv.load(tmp_path / "x")
    assert again.meta == {"name": "digits", "class_names": ["é", "b"], "mean": 0.5, "std": [0.25, 0.5]}
    assert again.config["image_size"] == 12


def test_saving_over_backends(backend, tmp_path, rng):
    model = randomised(mv.ViT(**SIZES).to(backend.name))
    mv.save(model, tmp_path / "x")
    again = mv.load(tmp_path / "x")
    assert {p.backend for p in again.parameters()} == {backend.name}
    assert same(again.state_dict(), model.state_dict())


def test_averaged_weights_are_the_model(tmp_path):
    model = randomised(mv.ViT(**SIZES))
    weights = saved.to_file(model)
    tensors = {n: a + 1 for n, a in weights.items()} | {f"ema.{n}": a for n, a in weights.items()}
    tensors |= {"optimizer.steps": np.array(3), "best.norm.weight": np.zeros(16, np.float32)}
    safetensors.write(tmp_path / "x", tensors, saved.describe(model))
    assert same(mv.load(tmp_path / "x").state_dict(), model.state_dict())


# --- what does not fit ------------------------------------------------------------------------------------------------


def rewritten(path, **changes):
    """The file of a model with some of its metadata changed (None: removed)."""
    mv.save(mv.ViT(**SIZES), path)
    tensors, metadata = safetensors.read(path)
    metadata = {k: v for k, v in (metadata | changes).items() if v is not None}
    safetensors.write(path, tensors, metadata)
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config": None}, "no minivit configuration in its metadata; was it saved by another library?"),
        ({"model": None}, "no minivit configuration"),
        ({"model": "Vit"}, "unknown kind of model 'Vit'.*did you mean 'ViT'"),
        ({"config": "{"}, "its configuration makes no model"),
        ({"config": "[1]"}, "its configuration makes no model: it is not a table of arguments"),
        ({"config": "null"}, "it is not a table"),
        ({"config": "[" * 100_000}, "its configuration makes no model"),
        ({"config": json.dumps(SIZES | {"dimm": 3})}, "ViT has no argument 'dimm'; did you mean 'dim'?"),
        ({"config": json.dumps(SIZES | {"dim": "16"})}, "dim must be a whole number"),
        ({"config": json.dumps(SIZES | {"dim": None})}, "dim must be a whole number"),
        ({"config": json.dumps(SIZES | {"image_size": [12, 12, 12]})}, "must each be a whole number or a pair"),
        ({"config": json.dumps(SIZES | {"layer_scale": "small"})}, "its configuration makes no model"),
        ({"config": json.dumps(SIZES | {"drop_path": 3})}, "is not a rate"),
        (
            {"config": json.dumps(SIZES | {"num_classes": 4})},
            r"x: these weights do not fit this ViT:\n  wrong shape: head",
        ),
        ({"config": json.dumps(SIZES | {"depth": 1})}, "unknown: blocks.1.attn.proj.bias"),
        ({"config": json.dumps(SIZES | {"depth": 3})}, "missing: blocks.2.attn.proj.bias"),
        ({"data": "{"}, "its configuration makes no model"),
    ],
)
def test_files_that_make_no_model(tmp_path, changes, message):
    path = rewritten(tmp_path / "x", **changes)
    with pytest.raises(mv.CheckpointError, match=message) as error:
        mv.load(path)
    assert str(path) in str(error.value)


def test_a_file_of_timm_alone_is_recognised_as_such():
    with pytest.raises(mv.CheckpointError, match="was it saved by another library"):
        mv.load(Path(__file__).parent.parent / "golden" / "timm_cls.safetensors")


def test_weights_of_another_size_name_every_difference(tmp_path):
    small, large = mv.ViT(**SIZES), mv.ViT(**SIZES | {"dim": 32})
    with pytest.raises(mv.CheckpointError) as error:
        saved.from_file(large, saved.to_file(small))
    text = str(error.value)
    assert "wrong shape: blocks.0.attn.qkv.weight is (32, 96) here, (16, 48) in the weights" in text
    assert "and 11 more" in text


def test_a_misspelt_name_is_corrected_and_reported_when_not_strict():
    model = mv.ViT(**SIZES)
    tensors = saved.to_file(randomised(mv.ViT(**SIZES)))
    tensors["norm.wieght"] = tensors.pop("norm.weight")
    with pytest.raises(mv.CheckpointError, match="unknown: norm.wieght; did you mean 'norm.weight'?"):
        saved.from_file(model, tensors)
    complaints = saved.from_file(model, tensors, strict=False)
    assert complaints == ["missing: norm.weight (16,)", "unknown: norm.wieght; did you mean 'norm.weight'?"]
    assert np.array_equal(model.head.weight.data, tensors["head.weight"].T)


def test_a_model_without_a_config_cannot_be_saved(tmp_path):
    with pytest.raises(mv.CheckpointError, match="Linear keeps no `config`"):
        mv.save(Linear(2, 3), tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_saving_to_an_impossible_place(tmp_path):
    with pytest.raises(mv.CheckpointError, match="cannot be written"):
        mv.save(mv.ViT(**SIZES), tmp_path)


@pytest.mark.parametrize("cut", [0, 5, 8, 100, 2000, -1])
def test_a_file_that_was_cut_short(tmp_path, cut):
    path = tmp_path / "x"
    mv.save(mv.ViT(**SIZES), path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(mv.CheckpointError, match="cut short"):
        mv.load(path)
