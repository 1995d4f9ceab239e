"""What we save is what timm loads: recorded names, shapes and calls (see tests/golden/make_timm.py), and clear refusals."""

import ast
import json
from pathlib import Path

import numpy as np
import pytest

import minivit as mv
from minivit.interop import safetensors, saved
from minivit.interop.timm_out import is_plain, timm_call, what_timm_lacks
from minivit.models.presets import build

HELD = json.loads((Path(__file__).parent.parent / "golden" / "timm_holds.json").read_text(encoding="utf-8"))["models"]
SIZES = {"image_size": 12, "patch_size": 4, "in_channels": 2, "num_classes": 5, "dim": 16, "depth": 2, "num_heads": 2}


def make(kind, config):
    """A model in which every parameter is random, but for the patch bias that timm leaves out before `norm_pre`."""
    model, rng = build(kind, config), np.random.default_rng(1)
    for p in model.parameters():
        p.data += rng.standard_normal(p.shape, np.float32)
    if config.get("norm_pre"):
        model.patch_embed.proj.bias.data[...] = 0
    return model.eval()


@pytest.mark.parametrize("name", HELD)
def test_names_shapes_and_the_call_are_those_that_timm_took(tmp_path, name):
    held = HELD[name]
    model = make(held["kind"], held["config"])
    mv.save(model, tmp_path / "x")
    tensors, metadata = safetensors.read(tmp_path / "x")
    assert {n: list(a.shape) for n, a in tensors.items()} == held["shapes"]
    assert metadata["timm"] == timm_call(model) == held["timm"] and metadata["format"] == held["format"]
    assert (
        is_plain(model)
        == (held["format"] == "pt")
        == (held["config"].get("mlp", "gelu") == "gelu" and "eps" not in held["config"])
    )
    ast.parse(held["timm"], mode="eval")


@pytest.mark.parametrize("name", HELD)
def test_what_was_saved_comes_back_bit_for_bit(tmp_path, rng, name):
    model = make(HELD[name]["kind"], HELD[name]["config"])
    mv.save(model, tmp_path / "x")
    again, state = mv.load(tmp_path / "x"), model.state_dict()
    assert again.config == model.config and type(again) is type(model)
    assert all(np.array_equal(a, state[n]) and a.dtype == state[n].dtype for n, a in again.state_dict().items())
    pretrained = mv.load_pretrained(tmp_path / "x")
    assert pretrained.config == model.config and pretrained.complaints == []
    assert all(np.array_equal(a, state[n]) for n, a in pretrained.state_dict().items())
    images = rng.random((2, *model.image_size, 2), np.float32)
    assert np.array_equal(again(images).numpy(), model(images).numpy())


def test_a_distilled_model_s_tensors_by_value():
    model = make("ForeignViT", SIZES | {"pool": "cls_dist", "registers": 1})
    file = saved.to_file(model)
    assert np.array_equal(file["dist_token"], model.reg_token.numpy()) and "reg_token" not in file
    assert not file["pos_embed"][:, :2].any() and np.array_equal(file["pos_embed"][:, 2:], model.pos_embed.numpy())
    assert np.array_equal(file["head_dist.weight"], model.head_dist.weight.numpy().T)


def test_swiglu_is_packed_as_in_timm():
    model = make("ViT", SIZES | {"mlp": "swiglu"})
    file = saved.to_file(model)
    assert np.array_equal(file["blocks.1.mlp.fc1.weight"], model.blocks[1].mlp.w12.weight.numpy().T)
    assert np.array_equal(file["blocks.1.mlp.fc2.bias"], model.blocks[1].mlp.w3.bias.numpy())
    assert not any("w12" in name or "w3" in name for name in file)


def test_files_from_before_swiglu_was_renamed_still_load(tmp_path):
    model = make("ViT", SIZES | {"mlp": "swiglu"})
    old = {n: saved.to_file_layout(p.numpy(), p.layout) for n, p in model.named_parameters()}
    safetensors.write(tmp_path / "x", old, saved.describe(model))
    assert np.array_equal(
        mv.load(tmp_path / "x").blocks[0].mlp.w12.weight.numpy(), model.blocks[0].mlp.w12.weight.numpy()
    )


@pytest.mark.parametrize(("kind", "config", "reasons"), [
    ("ViT", {"rope": True}, ["rotary positions"]),
    ("ForeignViT", {"patch_norm": True, "pool": "cls_mean"},
     ["norms around the patch matrix", "a head that reads the class token beside the mean of the patches"]),
    ("ForeignViT", {"attention_dim": 12}, ["attention 12 wide in a model 16 wide"]),
    ("ForeignViT", {"pool": "cls_dist", "registers": 3, "positions": "none"},
     ["register tokens beside a distillation token", "a distillation token without positions"]),
    ("Hybrid", {}, ["a convolutional stem"]),
])  # fmt: skip
def test_what_timm_cannot_express_is_named(kind, config, reasons):
    model = build(kind, SIZES | config)
    assert what_timm_lacks(model) == reasons and not is_plain(model)
    with pytest.raises(mv.ConfigError, match=f"timm cannot express this {kind}: {'; '.join(reasons)}"):
        timm_call(model)


@pytest.mark.parametrize("kind", ["linear", "cnn"])
def test_the_baselines_are_not_in_timm(kind):
    with pytest.raises(mv.ConfigError, match="it has no such network"):
        timm_call(mv.create(kind))


def test_a_patch_bias_before_norm_pre_is_not_lost(tmp_path):
    model = make("ForeignViT", SIZES | {"norm_pre": True})
    model.patch_embed.proj.bias.data[3] = 0.5
    assert what_timm_lacks(model) == ["a bias of the patch matrix before norm_pre"]
    mv.save(model, tmp_path / "x")
    assert np.array_equal(mv.load(tmp_path / "x").patch_embed.proj.bias.numpy(), model.patch_embed.proj.bias.numpy())


def test_where_a_model_came_from_and_how_it_sees_comes_along(tmp_path):
    from fractions import Fraction

    from minivit.interop.preprocess import Preprocess
    from minivit.interop.translation import Origin

    model = make("ViT", SIZES | {"in_channels": 3})
    model.preprocess = Preprocess((12, 12), crop_pct=Fraction(7, 8), mean=(0.25,) * 3)
    model.source = Origin("/somewhere/else", "some family", {"eps": "1e-6, because"}, {"mask": "why"}, ["a", "b"])
    mv.save(model, tmp_path / "x")
    assert "/somewhere" not in (tmp_path / "x").read_bytes().decode("latin-1")
    again = mv.load(tmp_path / "x")
    assert again.preprocess == Preprocess((12, 12), crop_pct=0.875, mean=(0.25,) * 3)
    assert vars(again.source) == vars(model.source) | {"file": str(tmp_path / "x")}


@pytest.mark.parametrize(
    "damage", [{"preprocess": "{}"}, {"preprocess": '{"size": 3}'}, {"source": '{"a": 1}'}, {"source": "3"}]
)
def test_damaged_descriptions_are_refused(tmp_path, damage):
    model = make("ViT", SIZES)
    safetensors.write(tmp_path / "x", saved.to_file(model), saved.describe(model) | damage)
    with pytest.raises(mv.CheckpointError, match="its configuration makes no model"):
        mv.load(tmp_path / "x")
