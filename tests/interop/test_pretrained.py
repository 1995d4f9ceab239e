"""load_pretrained: what it recognises, what it says, what it refuses. Agreement with the libraries is in tests/golden."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import minivit as mv
from minivit.interop import preprocess, pretrained, safetensors
from minivit.interop.source import Stored
from minivit.interop.stored import open_tensors
from minivit.interop.translation import ratio, usual_heads
from minivit.models.foreign import ForeignViT
from minivit.models.presets import build
from minivit.nn import init
from minivit.nn.patches import RESIZES, resize_matrix

GOLDEN = Path(__file__).parent.parent / "golden"
TIMM = GOLDEN / "timm_cls.safetensors"
CASES = json.loads((GOLDEN / "families.json").read_text(encoding="utf-8"))["families"]


def golden(name, **options):
    return mv.load_pretrained(GOLDEN / CASES[name]["path"], **{**CASES[name]["overrides"], **options})


def rewritten(path, changes=None, source=TIMM, **options):
    """A copy of a safetensors file with some tensors changed (a function of the old one), added, or None: removed."""
    tensors, metadata = safetensors.read(source)
    for name, value in (changes or {}).items():
        value = value(tensors[name]) if callable(value) else value
        tensors[name] = value
    safetensors.write(path, {n: t for n, t in tensors.items() if t is not None}, metadata | options)
    return path


# ---------------------------------------------------------------- what it is


@pytest.mark.parametrize(
    ("name", "family", "kind"),
    [
        ("timm_pre_norm", "timm ViT", "ForeignViT"),
        ("timm_avg_with_class", "timm ViT", "ViT"),
        ("timm_deit_3", "timm ViT (DeiT-III)", "ViT"),
        ("timm_distilled", "timm ViT (DeiT, distilled)", "ForeignViT"),
        ("dino", "DINO", "ForeignViT"),
        ("dino_teacher", "DINO", "ForeignViT"),
        ("dino_student", "DINO", "ForeignViT"),
        ("deit", "DeiT", "ForeignViT"),
        ("deit_distilled", "DeiT", "ForeignViT"),
        ("deit_3", "DeiT-III", "ForeignViT"),
        ("hf_vit", "Hugging Face ViT", "ForeignViT"),
        ("hf_vit_bare_memory", "Hugging Face ViT", "ForeignViT"),
        ("hf_deit", "Hugging Face DeiT", "ForeignViT"),
        ("hf_dinov2_bare_memory", "Hugging Face Dinov2", "ForeignViT"),
        ("hf_dinov2_registers", "Hugging Face Dinov2WithRegisters", "ForeignViT"),
        ("hf_dinov2_registers_memory", "Hugging Face Dinov2WithRegisters", "ForeignViT"),
        ("lucidrains", "lucidrains ViT", "ForeignViT"),
        ("lucidrains_simple", "lucidrains SimpleViT", "ForeignViT"),
    ],
)
def test_families_are_told_apart_by_names_and_shapes(name, family, kind):
    model = golden(name)
    assert (model.source.family, type(model).__name__) == (family, kind)


def test_the_model_says_what_was_assumed_and_what_was_left_out():
    text = repr(golden("hf_vit_bare"))
    assert text.splitlines()[0] == f"Hugging Face ViT, from {GOLDEN / 'family_hf_vit_bare'}"
    assert "  assumed eps: 1e-12, from config.json\n" in text
    assert "  assumed mlp: gelu_tanh, from config.json\n" in text
    assert "  left out pooler.dense.bias, pooler.dense.weight: the pooler, which no classifier reads\n" in text
    assert "\nForeignViT(cls_token" in text

    text = repr(golden("dino"))
    assert "  assumed num_heads: 2, as you said\n" in text and "assumed position_resize: dino" in text
    assert "if timm wrote it, say position_resize='timm'" in text
    assert repr(mv.ViT(8, 4, dim=8, depth=0, num_heads=2)).startswith("ViT(")  # a model of one's own says nothing


def test_everything_in_a_file_of_a_training_is_loaded_or_shown():
    tensors, _ = open_tensors(GOLDEN / "family_dino_full.pth")
    model = golden("dino_teacher")
    for name in tensors:
        assert (name in model.source.ignored) == (not name.startswith("teacher.backbone.")), name
    reasons = {name.split(".")[0]: why for name, why in model.source.ignored.items()}
    assert reasons["student"] == "the student; part='student' loads it"
    assert reasons["teacher"] == "DINO's projection head, which is no classifier"
    assert reasons["optimizer"] == reasons["dino_loss"] == "of the training"
    assert model.config["num_classes"] == 0 and model.head is None  # `head.mlp` is no classifier
    shown = [line for line in str(model.source).splitlines() if "optimizer" in line]
    assert len(shown) == 1 and "more: of the training" in shown[0]


def test_an_incomplete_teacher_is_not_replaced_by_the_student(monkeypatch):
    tensors, said = open_tensors(GOLDEN / "family_dino_full.pth")
    del tensors["teacher.backbone.blocks.1.norm1.weight"]
    monkeypatch.setattr(pretrained, "open_tensors", lambda path: (tensors, said))
    with pytest.raises(mv.CheckpointError, match=r"missing: blocks.1.norm1.weight \(16,\)"):
        golden("dino_teacher")
    del tensors["teacher.backbone.blocks.0.attn.qkv.weight"]
    with pytest.raises(mv.CheckpointError, match="missing: .*qkv.weight"):
        golden("dino_teacher")
    assert golden("dino_student").complaints == []


@pytest.mark.parametrize("name", ["hf_vit", "hf_deit", "hf_dinov2_registers", "deit_3", "dino", "lucidrains"])
def test_prefix_tokens_are_missed(name, monkeypatch):
    """A model without one would be another model, whose outputs look as good."""
    tensors, said = open_tensors(GOLDEN / CASES[name]["path"])
    missing = {"hf_deit": "distillation_token", "hf_dinov2_registers": "register_tokens"}.get(name, "cls_token")
    (key,) = [key for key in tensors if key.endswith(missing)]
    del tensors[key]
    monkeypatch.setattr(pretrained, "open_tensors", lambda path: (tensors, said))
    with pytest.raises((mv.CheckpointError, mv.ConfigError), match=f"missing: .*{missing}|image_size cannot be read"):
        golden(name)


def test_a_part_that_is_not_there():
    with pytest.raises(
        mv.ConfigError, match="there is no part 'studnet'; did you mean 'student'.*parts are dino_loss, opt"
    ):
        golden("dino_teacher", part="studnet")


def test_labels_and_the_number_of_classes_from_the_weights():
    assert golden("hf_vit").source.labels == [f"kind of {i}" for i in range(5)]
    assert golden("hf_deit").config["num_classes"] == 2  # for which config.json holds no names
    assert golden("hf_deit").source.labels is None


# ---------------------------------------------------------------- what the weights cannot say


@pytest.mark.parametrize(
    ("name", "eps"),
    [("timm_pre_norm", 1e-6), ("dino", 1e-6), ("deit", 1e-6), ("hf_dinov2", 1e-6), ("hf_vit", 1e-12)]
    + [("hf_deit", 1e-3), ("lucidrains", 1e-5)],
)
def test_the_eps_of_each_family(name, eps):
    assert {module.eps for _, module in golden(name).named_modules() if isinstance(module, mv.nn.LayerNorm)} == {eps}


def test_families_in_memory_without_a_config_have_their_own_eps():
    for name, eps in (("hf_vit", 1e-12), ("hf_dinov2_registers", 1e-6)):
        model = mv.load_pretrained(GOLDEN / CASES[f"{name}_memory"]["path"], num_heads=2)
        assert model.norm.eps == eps and "the family's default" in model.source.assumed["eps"]


def test_gelu_by_family_and_by_config():
    assert not golden("hf_vit").blocks[0].mlp.tanh_gelu and not golden("timm_map").attn_pool.mlp.tanh_gelu
    assert golden("hf_vit_bare").blocks[0].mlp.tanh_gelu
    assert golden("dino", mlp="gelu_tanh").blocks[0].mlp.tanh_gelu


@pytest.mark.parametrize(
    ("dim", "heads"), [(192, 3), (384, 6), (768, 12), (1024, 16), (1280, 16), (1536, 24), (100, None)]
)
def test_the_heads_that_published_models_have(dim, heads):
    assert usual_heads(dim)[0] == heads


def test_what_cannot_be_known_must_be_said():
    with pytest.raises(mv.ConfigError, match=r"num_heads cannot be read from these weights; say num_heads=…"):
        mv.load_pretrained(TIMM)
    with pytest.raises(mv.ConfigError, match="image_size cannot be read"):
        mv.load_pretrained(GOLDEN / "timm_non_square.safetensors", num_heads=2)
    with pytest.raises(mv.ConfigError, match="image_size cannot be read"):
        mv.load_pretrained(GOLDEN / "family_lucidrains_simple.pt", num_heads=3)


def test_overrides():
    model = mv.load_pretrained(TIMM, num_heads=4, eps=1e-3, drop_path=0.1)
    assert model.blocks[0].attn.num_heads == 4 and model.norm.eps == 1e-3
    assert model.source.assumed["eps"] == "0.001, as you said"
    assert isinstance(model, mv.ViT) and not isinstance(model, ForeignViT)
    model = mv.load_pretrained(TIMM, num_heads=2, position_resize="dino")  # of which only ForeignViT knows
    assert isinstance(model, ForeignViT) and model.config["position_resize"] == "dino"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_head": 2}, "ViT has no argument 'num_head'; did you mean 'num_heads'"),
        ({"num_heads": 2, "epz": 2}, "ViT has no argument 'epz'; did you mean 'eps'"),
        (
            {"num_heads": 2, "position_resize": "bicubic"},
            "position_resize: unknown choice 'bicubic', choose one of timm",
        ),
        ({"num_heads": 3}, "dim 16 does not divide into num_heads 3"),
        ({"num_heads": 2, "image_size": 13}, "image_size 13×13 is not a whole number of 4×4 patches"),
        ({"num_heads": 2, "image_size": "large"}, "image_size 'large'"),
        ({"num_heads": 2, "image_size": (1, 2, 3)}, "must .*be a whole number or a pair"),
    ],
)
def test_overrides_that_cannot_be(options, message):
    with pytest.raises(mv.ConfigError, match=message):
        mv.load_pretrained(TIMM, **options)


@pytest.mark.parametrize("dim", [16, 192, 1152])
def test_the_ratio_of_any_width(dim):
    for hidden in range(1, 6 * dim, 7):
        assert int(dim * ratio(hidden, dim)) == hidden


# ---------------------------------------------------------------- what does not fit


def test_all_that_is_missing_unknown_or_misshaped_is_listed(tmp_path):
    changes = {
        "norm.wieght": np.ones(16, np.float32),
        "norm.weight": None,
        "blocks.1.mlp.fc2.bias": lambda old: old[:7],
        "blocks.0.attn.qkv.weight": lambda old: old.T.copy(),
        "extra.buffer": np.zeros(3, np.float32),
    }
    path = rewritten(tmp_path / "x.safetensors", changes)
    with pytest.raises(mv.CheckpointError) as error:
        mv.load_pretrained(path, num_heads=2)
    complaints = [
        "missing: norm.weight (16,)",
        "unknown: extra.buffer",
        "unknown: norm.wieght; did you mean 'norm.weight'?",
        "wrong shape: blocks.0.attn.qkv.weight gives (48, 16), the model needs (16, 48)",
        "wrong shape: blocks.1.mlp.fc2.bias gives (7,), the model needs (16,)",
    ]
    text = str(error.value)
    assert text.startswith(f"{path}: recognised as timm ViT, but these weights do not fit:")
    assert text.split("\n  ")[1:] == complaints

    model = mv.load_pretrained(path, num_heads=2, strict=False)
    assert model.complaints == complaints
    whole = mv.load_pretrained(TIMM, num_heads=2)
    assert np.all(model.norm.weight.numpy() == 1)  # what is missing keeps its first values
    assert np.array_equal(model.head.weight.numpy(), whole.head.weight.numpy())


def test_names_of_the_file_are_in_the_message(tmp_path):
    """Not ours, which the reader of that file has never seen."""
    folder = tmp_path / "vit"
    folder.mkdir()
    key = "vit.encoder.layer.1.attention.attention.key.bias"
    source = GOLDEN / "family_hf_vit"
    (folder / "config.json").write_bytes((source / "config.json").read_bytes())
    rewritten(folder / "model.safetensors", {key: None}, source / "model.safetensors")
    with pytest.raises(mv.CheckpointError, match=f"missing: .*query.bias, {key}, .*value.bias \\(48,\\)") as error:
        mv.load_pretrained(folder)
    assert "unknown" not in str(error.value)  # its neighbours are of a family, even if that is incomplete
    rewritten(folder / "model.safetensors", {"vit.encoder.layer.0.gate": np.ones(2)}, source / "model.safetensors")
    with pytest.raises(mv.CheckpointError, match=r"unknown: vit.encoder.layer.0.gate"):
        mv.load_pretrained(folder)


def test_a_head_of_another_size_can_be_begun_anew():
    with pytest.raises(mv.CheckpointError, match=r"wrong shape: head.bias gives \(5,\), the model needs \(10,\)"):
        mv.load_pretrained(TIMM, num_heads=2, num_classes=10)
    model = mv.load_pretrained(TIMM, num_heads=2, num_classes=10, strict=False)
    assert [c.split()[2] for c in model.complaints] == ["head.bias", "head.weight"]
    assert model(np.zeros((1, 12, 12, 3), np.float32)).shape == (1, 10)


def test_a_long_list_is_cut(tmp_path):
    path = rewritten(tmp_path / "x.safetensors", {f"more.{i}": np.zeros(1) for i in range(30)})
    with pytest.raises(mv.CheckpointError, match="… and 10 more$"):
        mv.load_pretrained(path, num_heads=2)


def test_sizes_that_no_model_has(tmp_path):
    path = rewritten(tmp_path / "x.safetensors", {"patch_embed.proj.weight": np.zeros((16, 0, 4, 4), np.float32)})
    with pytest.raises(mv.CheckpointError, match=r"patch_embed.proj.weight is \(16, 0, 4, 4\)"):
        mv.load_pretrained(path, num_heads=2)
    path = rewritten(tmp_path / "y.safetensors", {"cls_token": np.zeros(16, np.float32)})
    with pytest.raises(mv.CheckpointError, match=r"cls_token is \(16,\); 3 axes are needed"):
        mv.load_pretrained(path, num_heads=2)


def test_files_that_are_something_else(tmp_path):
    safetensors.write(tmp_path / "x", {"conv1.weight": np.zeros((8, 3, 3, 3), np.float32), "fc.bias": np.zeros(2)})
    with pytest.raises(mv.CheckpointError, match="no model that is known here: conv1.weight, fc.bias|.*fc.bias, conv1"):
        mv.load_pretrained(tmp_path / "x")
    safetensors.write(tmp_path / "empty", {})
    with pytest.raises(mv.CheckpointError, match="no model that is known here: there are none"):
        mv.load_pretrained(tmp_path / "empty")
    Image.new("RGB", (4, 4)).save(tmp_path / "picture.png")
    with pytest.raises(mv.CheckpointError, match="picture.png"):
        mv.load_pretrained(tmp_path / "picture.png")
    with pytest.raises(mv.CheckpointError, match="no such file"):
        mv.load_pretrained(tmp_path / "nothing.safetensors")
    with pytest.raises(mv.CheckpointError, match=str(tmp_path)):  # a folder without weights
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "config.json").write_text("{}")
        mv.load_pretrained(tmp_path / "folder")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "swin"}, "config.json: model_type 'swin' is not known here: vit, deit, dinov2"),
        ({"hidden_act": "quick_gelu"}, "hidden_act 'quick_gelu' is not known"),
        ({"layer_norm_eps": "small"}, "layer_norm_eps 'small' is not a number"),
        ({"num_hidden_layers": 12}, "config.json says num_hidden_layers 12; the weights are of 2"),
        ({"num_attention_heads": "2"}, "num_heads must be a whole number"),
        ({"num_attention_heads": 5}, "dim 16 does not divide into num_heads 5"),
    ],
)
def test_a_config_that_cannot_be(tmp_path, changes, message):
    folder = tmp_path / "vit"
    folder.mkdir()
    for file in (GOLDEN / "family_hf_vit").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises((mv.CheckpointError, mv.ConfigError), match=message):
        mv.load_pretrained(folder)


@pytest.mark.parametrize("said", [[], {"input_size": 3}, {"input_size": [3, "a", "b"]}, {"mean": 2}, {"crop_pct": "x"}])
def test_a_config_of_timm_that_cannot_be(tmp_path, said):
    (tmp_path / "config.json").write_text(json.dumps({"pretrained_cfg": said}))
    (tmp_path / "model.safetensors").write_bytes(TIMM.read_bytes())
    with pytest.raises((mv.CheckpointError, mv.ConfigError), match="config.json|crop_pct|mean"):
        mv.load_pretrained(tmp_path, num_heads=2)


def test_numbers_that_are_not_finite(tmp_path):
    def spoiled(old):
        old[3] = np.nan
        return old

    path = rewritten(tmp_path / "x.safetensors", {"norm.bias": spoiled})
    with pytest.raises(mv.CheckpointError, match="norm.bias"):
        mv.load_pretrained(path, num_heads=2)


def test_whole_numbers_are_no_weights(tmp_path):
    path = rewritten(tmp_path / "x.safetensors", {"head.weight": lambda old: (100 * old).astype(np.int8)})
    with pytest.raises(mv.CheckpointError, match="wrong type: head.weight holds int8, not floating-point numbers"):
        mv.load_pretrained(path, num_heads=2)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_number_types_become_float32(tmp_path, dtype):
    tensors, _ = safetensors.read(TIMM)
    safetensors.write(tmp_path / "x", {name: t.astype(dtype) for name, t in tensors.items()})
    model, whole = mv.load_pretrained(tmp_path / "x", num_heads=2), mv.load_pretrained(TIMM, num_heads=2)
    for name, p in model.named_parameters():
        expected = dict(whole.named_parameters())[name].numpy().astype(dtype).astype(np.float32)
        assert p.dtype == np.float32 and np.array_equal(p.numpy(), expected)
        assert p.data.flags.c_contiguous and p.data.flags.writeable and p.data.flags.aligned


# ---------------------------------------------------------------- sizes


def test_another_image_size_resizes_positions_and_crop():
    own = mv.load_pretrained(TIMM, num_heads=2)
    model = mv.load_pretrained(TIMM, (16, 8), num_heads=2)
    assert model.image_size == (16, 8) and model.grid == (4, 2) and model.preprocess.size == (16, 8)
    assert model.config["image_size"] == (16, 8)
    fixed, table = np.split(own.pos_embed.numpy(), [1], axis=1)
    assert np.array_equal(model.pos_embed.numpy()[:, :1], fixed)  # the class token's position is untouched
    down, across = resize_matrix(3, 4, "timm"), resize_matrix(3, 2, "timm")
    expected = np.einsum("Yy,Xx,byxd->bYXd", down, across, table.reshape(1, 3, 3, 16)).reshape(1, 8, 16)
    np.testing.assert_allclose(model.pos_embed.numpy()[:, 1:], expected, atol=1e-6)
    images = np.random.default_rng(0).random((2, 16, 8, 3), np.float32)
    np.testing.assert_allclose(model(images).numpy(), own(images).numpy(), atol=1e-6)
    assert np.array_equal(mv.load_pretrained(TIMM, 12, num_heads=2).pos_embed.numpy(), own.pos_embed.numpy())


def test_the_ways_to_resize_differ_by_more_than_rounding():
    rng = np.random.default_rng(0)
    table = 0.03 * rng.standard_normal((1, 9, 16)).astype(np.float32)
    for new in ((5, 5), (2, 2)):
        found = [mv.nn.resize_positions(table, (3, 3), new, mode) for mode in RESIZES]
        for i, a in enumerate(found):
            for b in found[:i]:
                assert np.abs(a - b).max() > 1e-4


@pytest.mark.parametrize("new", [(4, 4), (2, 5)])
def test_each_family_resizes_in_its_own_way(new):
    size = (4 * new[0], 4 * new[1])
    ways = {"timm_pre_norm": "timm", "dino": "dino", "deit": "huggingface", "hf_vit": "huggingface"}
    ways |= {"hf_dinov2": "huggingface", "hf_dinov2_registers": "timm"}
    for name, way in ways.items():
        model, resized = golden(name), golden(name, image_size=size)
        assert model.config.get("position_resize", "timm") == way
        table = model.pos_embed.numpy()[:, model.pos_prefix :]
        expected = mv.nn.resize_positions(table, (3, 3), new, way)
        np.testing.assert_allclose(resized.pos_embed.numpy()[:, model.pos_prefix :], expected, atol=1e-6, err_msg=name)


def test_computed_positions_are_computed_anew():
    model = golden("lucidrains_simple", image_size=(16, 8))
    assert not model.pos_embed.requires_grad
    np.testing.assert_array_equal(model.pos_embed.numpy()[0], mv.nn.sincos_2d(4, 2, 16))
    again = golden("lucidrains_simple", image_size=12)
    images = np.random.default_rng(0).random((1, 16, 8, 3), np.float32)
    np.testing.assert_allclose(again(images).numpy(), model(images).numpy(), atol=1e-6)


def test_prefix_tokens_and_positions_of_each_kind():
    """Where a token had a position that ours has not, it is added to the token; where ours has one more, it is zero."""
    tensors, _ = open_tensors(GOLDEN / "family_timm_register_positions.safetensors")
    model, table = golden("timm_register_positions"), tensors["pos_embed"].read()
    assert model.pos_prefix == 0 and np.array_equal(model.pos_embed.numpy(), table[:, 3:])
    np.testing.assert_array_equal(model.cls_token.numpy(), tensors["cls_token"].read() + table[:, :1])
    np.testing.assert_array_equal(model.reg_token.numpy(), tensors["reg_token"].read() + table[:, 1:3])

    tensors, _ = open_tensors(GOLDEN / "family_timm_deit_3.safetensors")  # a class token without a position
    model = golden("timm_deit_3")
    assert model.pos_prefix == 1 and not model.pos_embed.numpy()[:, 0].any()
    np.testing.assert_array_equal(model.pos_embed.numpy()[:, 1:], tensors["pos_embed"].read())

    tensors, _ = open_tensors(GOLDEN / "family_hf_dinov2_registers")  # registers come after the positions
    model = golden("hf_dinov2_registers")
    registers = tensors["dinov2_with_registers.embeddings.register_tokens"].read()
    assert np.array_equal(model.reg_token.numpy(), registers)


def test_two_heads_of_a_distilled_model():
    model = golden("deit_distilled")
    images = np.random.default_rng(0).random((2, 12, 12, 3), np.float32)
    final = mv.trace(model, images).final
    one, two = model.head(mv.Tensor(final[:, 0])).numpy(), model.head_dist(mv.Tensor(final[:, 1])).numpy()
    np.testing.assert_allclose(model(images).numpy(), (one + two) / 2, atol=1e-6)


def test_the_mean_of_all_tokens_of_an_old_lucidrains_file():
    model = golden("lucidrains", pool="tokens_mean")
    images = np.random.default_rng(0).random((2, 12, 12, 3), np.float32)
    final = mv.trace(model, images).final
    np.testing.assert_allclose(model(images).numpy(), model.head(mv.Tensor(final.mean(axis=1))).numpy(), atol=1e-6)
    assert final.shape[1] == 10


def test_a_missing_projection_is_not_taken_for_one_that_was_left_out(monkeypatch):
    assert mv.load_pretrained(GOLDEN / "family_lucidrains_one_head.pt").config["num_heads"] == 1
    tensors, said = open_tensors(GOLDEN / "family_lucidrains.pt")
    del tensors["transformer.layers.1.0.to_out.0.weight"]
    monkeypatch.setattr(pretrained, "open_tensors", lambda path: (tensors, said))
    with pytest.raises(mv.CheckpointError, match="missing: transformer.layers.1.0.to_out.0.weight"):
        golden("lucidrains")


@pytest.mark.parametrize("name", ["lucidrains", "lucidrains_mean"])
def test_tokens_with_a_leading_axis_as_older_versions_have_them(name, monkeypatch):
    tensors, said = open_tensors(GOLDEN / CASES[name]["path"])
    images = np.random.default_rng(0).random((2, 12, 12, 3), np.float32)
    expected = golden(name)(images).numpy()
    for key in ("cls_token", "pos_embedding"):
        old = tensors[key]
        tensors[key] = Stored(key, (1, *old.shape), old.dtype, lambda old=old: old.read()[None])
    monkeypatch.setattr(pretrained, "open_tensors", lambda path: (tensors, said))
    assert np.array_equal(golden(name)(images).numpy(), expected)


@pytest.mark.parametrize("registers", [False, True])
def test_dinov2_s_own_names(tmp_path, registers):
    """The names of its repository around the weights of transformers' model, whose outputs are recorded."""
    case = CASES["hf_dinov2_registers" if registers else "hf_dinov2"]
    tensors = {name.partition(".")[2]: t.read() for name, t in open_tensors(GOLDEN / case["path"])[0].items()}
    modules = {"norm1": "norm1", "norm2": "norm2", "attention.output.dense": "attn.proj", "mlp.fc1": "mlp.fc1"}
    modules |= {"mlp.fc2": "mlp.fc2"}
    renamed = {"norm.weight": tensors["layernorm.weight"], "norm.bias": tensors["layernorm.bias"]}
    for part in ("cls_token", "mask_token", "register_tokens"):
        if f"embeddings.{part}" in tensors:
            renamed[part] = tensors[f"embeddings.{part}"]
    renamed["pos_embed"] = tensors["embeddings.position_embeddings"]
    for part in ("weight", "bias"):
        renamed[f"patch_embed.proj.{part}"] = tensors[f"embeddings.patch_embeddings.projection.{part}"]
        for i in range(2):
            layer, block = f"encoder.layer.{i}.", f"blocks.{i}."
            for theirs, ours in modules.items():
                renamed[f"{block}{ours}.{part}"] = tensors[f"{layer}{theirs}.{part}"]
            if f"{layer}attention.attention.query.{part}" in tensors:
                three = [tensors[f"{layer}attention.attention.{k}.{part}"] for k in ("query", "key", "value")]
                renamed[f"{block}attn.qkv.{part}"] = np.concatenate(three)
            for k in (1, 2):
                renamed[f"{block}ls{k}.gamma"] = tensors[f"{layer}layer_scale{k}.lambda1"]
    safetensors.write(tmp_path / "dinov2.safetensors", renamed)
    model = mv.load_pretrained(tmp_path / "dinov2.safetensors", num_heads=2)
    assert model.source.family == "DINOv2" and "mask_token" in model.source.ignored
    assert model.config.get("position_resize", "timm") == ("timm" if registers else "dino")
    with np.load(GOLDEN / case["expected"]) as file:
        trace = mv.trace(model, file["0.images"])
        np.testing.assert_allclose(trace.final, file["0.final"], rtol=0, atol=2e-5 * np.abs(file["0.final"]).max())


# ---------------------------------------------------------------- pictures


@pytest.fixture
def picture():
    pixels = np.random.default_rng(1).integers(0, 256, (45, 63, 3), np.uint8)
    return Image.fromarray(pixels)


def normalised(image, mean, std):
    return ((np.asarray(image, np.float32) / 255 - np.float32(mean)) / np.float32(std))[None]


def test_shorter_side_then_the_middle(picture):
    prepare = mv.load_pretrained(TIMM, num_heads=2).preprocess  # timm's default: 12 / 0.9 = 13
    resized = picture.resize((18, 13), Image.Resampling.BICUBIC)  # 13 · 63 / 45 = 18.2
    expected = normalised(resized.crop((3, 0, 15, 12)), [0.5] * 3, [0.5] * 3)  # half of 6; half of 1, to the even side
    found = prepare(picture)
    assert found.dtype == np.float32 and found.shape == (1, 12, 12, 3)
    np.testing.assert_array_equal(found, expected)


def test_the_whole_picture_squeezed(picture):
    prepare = golden("hf_vit_memory").preprocess  # without a config: 0.5 and bilinear, as Google's
    expected = normalised(picture.resize((12, 12), Image.Resampling.BILINEAR), [0.5] * 3, [0.5] * 3)
    np.testing.assert_array_equal(prepare(picture), expected)


@pytest.mark.parametrize("name", ["dino", "deit"])
def test_imagenet_s_colours_for_dino_and_deit(picture, name):
    prepare = golden(name, image_size=(12, 12)).preprocess  # 12 · 256 / 224 = 13.7
    resized = picture.resize((18, 13), Image.Resampling.BICUBIC)
    expected = normalised(resized.crop((3, 0, 15, 12)), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    np.testing.assert_array_equal(prepare(picture), expected)


def test_a_crop_that_differs_from_the_model_s_size():
    """DINOv2 has positions for 518 pixels and is shown 224."""
    model = mv.load_pretrained(GOLDEN / "family_hf_dinov2_bare")
    assert model.image_size == (12, 12) and model.preprocess.size == (224, 224)
    model = mv.load_pretrained(GOLDEN / "family_hf_dinov2_bare", image_size=16)
    assert model.image_size == (16, 16) and model.preprocess.size == (16, 16)


def test_a_crop_that_is_not_square(picture):
    prepare = mv.load_pretrained(TIMM, image_size=(12, 24), num_heads=2).preprocess
    assert prepare(picture).shape == (1, 12, 24, 3)
    resized = picture.resize((26, 19), Image.Resampling.BICUBIC)  # covers 13 × 26: 63 / 26 is less than 45 / 13
    expected = normalised(resized.crop((1, 4, 25, 16)), [0.5] * 3, [0.5] * 3)
    np.testing.assert_array_equal(prepare(picture), expected)


def test_paths_palettes_and_grey_pictures(tmp_path, picture):
    prepare = golden("hf_vit").preprocess
    picture.save(tmp_path / "x.png")
    assert np.array_equal(prepare(tmp_path / "x.png"), prepare(picture))
    assert np.array_equal(prepare(str(tmp_path / "x.png")), prepare(picture))
    grey = picture.convert("L")
    assert np.array_equal(prepare(grey), prepare(grey.convert("RGB")))
    assert prepare(picture.convert("P")).shape == (1, 12, 12, 3)
    one = mv.load_pretrained(GOLDEN / "timm_avg.safetensors", num_heads=2).preprocess  # a model of one channel
    assert one.mean == (0.5,) and one(picture).shape == (1, 12, 12, 1)


def test_pictures_that_cannot_be_prepared(tmp_path):
    prepare = golden("hf_vit").preprocess
    with pytest.raises(mv.DataError, match="no such file|cannot read"):
        prepare(tmp_path / "nothing.png")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(mv.DataError, match="is not an image"):
        prepare(tmp_path / "text.png")
    with pytest.raises(mv.ConfigError, match="Pillow image or the path of one, not ndarray"):
        prepare(np.zeros((3, 3)))
    two = mv.load_pretrained(GOLDEN / "timm_registers.safetensors", num_heads=2).preprocess
    with pytest.raises(mv.ConfigError, match="this model reads 2"):
        two(Image.new("RGB", (20, 20)))


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"size": 224, "do_center_crop": False, "resample": 3}, {"size": (224, 224), "resize": "exact", "crop_pct": 1}),
        (
            {"size": {"shortest_edge": 256}, "crop_size": 224, "do_center_crop": True},
            {"size": (224, 224), "crop_pct": 7 / 8},
        ),
        ({"size": {"height": 8, "width": 6}}, {"size": (8, 6), "interpolation": "bilinear"}),
    ],
)
def test_settings_of_hugging_face(said, expected):
    found = preprocess.from_huggingface({"image_mean": [0.5] * 3, "image_std": [0.5] * 3, **said})
    assert {key: found[key] for key in expected} == expected
    preprocess.Preprocess(**found)


@pytest.mark.parametrize(
    "said",
    [{}, {"image_mean": [0.5] * 3}, {"size": "x"}, {"size": {"side": 3}}, {"resample": 9}, {"image_std": ["a"]}],
)
def test_settings_of_hugging_face_that_cannot_be(said):
    said = (
        said if said in ({}, {"image_mean": [0.5] * 3}) else {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, **said}
    )
    with pytest.raises(mv.ConfigError, match="preprocessor_config.json"):
        preprocess.from_huggingface(said)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"resize": "shortest"},
            "unknown resize 'shortest', choose one of shorter, exact, fit; did you mean 'shorter'",
        ),
        ({"interpolation": "cubic"}, "unknown interpolation 'cubic'"),
        ({"crop_pct": 0}, "crop_pct 0"),
        ({"std": (0, 1, 1)}, "std not 0"),
        ({"mean": (0.5,)}, "must be as long"),
    ],
)
def test_preparation_that_cannot_be(options, message):
    with pytest.raises(mv.ConfigError, match=message):
        preprocess.Preprocess((12, 12), **options)


# ---------------------------------------------------------------- our own files, memory


@pytest.mark.parametrize("options", [{}, {"registers": 2, "layer_scale": 1e-4, "mlp": "swiglu", "rope": True}])
def test_files_of_our_own(tmp_path, options):
    model = mv.ViT(12, 4, 3, 5, 16, 2, 2, seed=3, **options).eval()
    model.meta = {"name": "digits", "class_names": list("abcde"), "mean": [0.1] * 3, "std": [0.2] * 3}
    mv.save(model, tmp_path / "x.safetensors")
    again = mv.load_pretrained(tmp_path / "x.safetensors")
    assert again.source.family == "minivit" and type(again) is mv.ViT and again.meta == model.meta
    for name, p in model.named_parameters():
        assert np.array_equal(again.state_dict()[name], p.numpy())
    assert again.source.labels == list("abcde") and again.preprocess.mean == (0.1,) * 3
    images = np.random.default_rng(0).random((1, 16, 12, 3), np.float32)
    larger = mv.load_pretrained(tmp_path / "x.safetensors", image_size=(16, 12))
    np.testing.assert_allclose(larger(images).numpy(), model(images).numpy(), atol=1e-6)
    assert mv.load_pretrained(tmp_path / "x.safetensors", eps=0.1).blocks[0].norm1.eps == 0.1
    with pytest.raises(mv.ConfigError, match="no argument 'depht'; did you mean 'depth'"):
        mv.load_pretrained(tmp_path / "x.safetensors", depht=3)


@pytest.mark.parametrize("name", ["hf_dinov2_bare", "lucidrains_mean", "deit_distilled", "timm_map", "timm_pre_norm"])
def test_what_came_from_elsewhere_can_be_saved_and_opened_again(tmp_path, name):
    model = golden(name)
    mv.save(model, tmp_path / "x.safetensors")
    images = np.random.default_rng(0).random((1, 16, 12, 3), np.float32)
    for again in (mv.load(tmp_path / "x.safetensors"), mv.load_pretrained(tmp_path / "x.safetensors")):
        assert again.config == model.config and type(again) is type(model)
        assert np.array_equal(again(images).numpy(), model(images).numpy())


def test_other_models_of_our_own(tmp_path):
    for kind, sizes in (("SmallCNN", {}), ("LinearClassifier", {"image_size": 12})):
        model = build(kind, sizes)
        mv.save(model, tmp_path / kind)
        again = mv.load_pretrained(tmp_path / kind)
        assert type(again) is type(model)
        for key, value in model.state_dict().items():
            assert np.array_equal(again.state_dict()[key], value)


def test_averaged_weights_of_a_training_run(tmp_path):
    model = mv.ViT(12, 4, 3, 5, 16, 1, 2).eval()
    mv.save(model, tmp_path / "x")
    tensors, metadata = safetensors.read(tmp_path / "x")
    averaged = {f"ema.{name}": t + 1 for name, t in tensors.items()} | {"optimizer.0.m": np.zeros(3, np.float32)}
    safetensors.write(tmp_path / "run", tensors | averaged, metadata)
    again, loaded = mv.load_pretrained(tmp_path / "run"), mv.load(tmp_path / "run")
    for name, p in again.named_parameters():
        assert np.array_equal(p.numpy(), loaded.state_dict()[name])
    assert again.source.ignored["optimizer.0.m"] == "of the training"
    assert again.source.ignored["norm.bias"].startswith("the weights of the last step")


def test_no_random_number_is_drawn(monkeypatch):
    monkeypatch.setattr(init.random, "current", lambda: pytest.fail("a random number was asked for"))
    golden("timm_map")
    with init.blank():
        model = mv.ViT(12, 4, 3, 5, 16, 2, 2, layer_scale=1.0, registers=1)
    assert not any(p.numpy().any() for p in model.parameters() if p.requires_grad)
    with pytest.raises(BaseException, match="random number"):
        mv.ViT(12, 4, 3, 5, 16, 2, 2)


MEASURE = """
import sys
import minivit as mv
import minivit.interop.pretrained

def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))

before = peak()
model = mv.load_pretrained(sys.argv[1])
print((peak() - before) * 1024)
"""


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="optional: the system does not tell a process's peak"
)
def test_loading_takes_little_more_memory_than_the_weights(tmp_path):
    with init.blank():
        model = mv.ViT(64, 16, dim=512, depth=12, num_heads=8, num_classes=100)
    state = {name: np.float32(0.01) * np.ones(p.shape, np.float32) for name, p in model.named_parameters()}
    layouts = {name: p.layout for name, p in model.named_parameters()}
    from minivit.interop.saved import to_file_layout

    path = tmp_path / "x.safetensors"
    safetensors.write(path, {name: to_file_layout(a, layouts[name]) for name, a in state.items()})
    done = subprocess.run([sys.executable, "-c", MEASURE, path], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1.2 * path.stat().st_size
    assert math.isclose(path.stat().st_size, 4 * sum(a.size for a in state.values()), rel_tol=0.01)
