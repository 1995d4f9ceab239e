"""Published weights on the command line: every recorded family is described, looked into, converted and exported."""

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_cli import call, refused, verify

import minivit as mv
from minivit.interop import safetensors
from scripts import agreement

CASES = {case.name: case for case in agreement.cases()}
NOT_IN_TIMM = {  # name of a recorded model -> what timm has no word for
    "hf_dinov2": "a head that reads the class token beside the mean",
    "hf_dinov2_registers": "a head that reads the class token beside the mean",
    "hf_dinov2_registers_memory": "a head that reads the class token beside the mean",
    "google_pre_logits": "a hidden layer before the head (pre_logits)",
    "google_sincos": "a hidden layer before the head (pre_logits)",
    "lucidrains": "norms around the patch matrix", "lucidrains_mean": "norms around the patch matrix",
    "lucidrains_one_head": "norms around the patch matrix", "lucidrains_simple": "norms around the patch matrix",
}  # fmt: skip
LOOKED_AT = (  # each kind of pooling, prefix and network once
    "google_token", "google_map", "google_mixer", "google_sincos", "timm_avg_with_class", "timm_map", "deit_distilled",
    "dino_teacher", "hf_dinov2_registers", "lucidrains_mean",
)  # fmt: skip


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch, rng):
    """Each test in an empty folder but for a photo and a grey one, with none of the variables that change commands."""
    monkeypatch.chdir(tmp_path)
    for name in ("MINIVIT_DEBUG", "MINIVIT_DATA", "MINIVIT_BACKEND"):
        monkeypatch.delenv(name, raising=False)
    Image.fromarray(rng.integers(0, 255, (40, 60, 3), dtype=np.uint8)).save("photo.jpg")


def said(name):
    """A case's file and the options that say what its weights cannot."""
    case = CASES[name]
    options = [f"{k}={json.dumps(v) if not isinstance(v, str) else v}" for k, v in case.said.items()]
    return [case.path, *(word for option in options for word in ("--set", option))]


# ---------------------------------------------------------------- info


@pytest.mark.parametrize("name", CASES)
def test_info_about_every_family(capsys, name):
    model = mv.load_pretrained(CASES[name].path, **CASES[name].said)
    code, out, err = call(capsys, "info", *said(name))
    assert code == 0 and err == ""
    lines = {line.partition("  ")[0].strip(): line.partition("  ")[2].strip() for line in out.splitlines()}
    assert lines["family"] == model.source.family and lines["model"] == type(model).__name__
    assert lines["parameters"] == f"{model.num_parameters():,}" and "every parameter was found" in lines["agreement"]
    for key, why in model.source.assumed.items():
        assert f"{key} " in out and str(why) in out
    for tensor, why in list(model.source.ignored.items())[:1]:
        assert tensor in out and why in out
    assert "mean" in out and f"{model.config['dim']}" in out


def test_info_lists_what_does_not_fit(capsys):
    tensors, _ = safetensors.read(CASES["timm_cls"].path)
    tensors["blocks.0.attn.extra"] = tensors.pop("norm.weight")
    tensors["head.bias"] = tensors["head.bias"][:-1]
    safetensors.write("broken.safetensors", tensors)
    code, out, _ = call(capsys, "info", "broken.safetensors", "--set", "num_heads=2")
    assert code == 0 and "agreement" not in out
    for words in (
        "does not fit",
        "unknown: blocks.0.attn.extra",
        "missing: norm.weight (16,)",
        "wrong shape: head.bias",
    ):
        assert words in out
    assert "unknown: blocks.0.attn.extra" in refused(
        capsys, "look", "broken.safetensors", "photo.jpg", "--set", "num_heads=2"
    )


def test_a_folder_as_hugging_face_lays_it_out(capsys):
    code, out, _ = call(capsys, "info", CASES["hf_vit"].path)
    assert code == 0 and "from config.json" in out
    code, out, _ = call(capsys, "predict", CASES["hf_vit"].path, "photo.jpg")
    assert code == 0 and out.count("%") == 3


# ---------------------------------------------------------------- predict, eval, look


def test_predict_sees_what_the_source_s_preparation_gives(capsys):
    case = CASES["google_token"]
    model = mv.load_pretrained(case.path, **case.said)
    logits = model(model.preprocess("photo.jpg")).numpy()[0]
    shares = np.exp(logits) / np.exp(logits).sum()
    code, out, err = call(capsys, "predict", *said("google_token"), "photo.jpg", "--json")
    assert code == 0 and err == ""
    best = json.loads(out)[0]["top"][0]
    assert best["class"] == f"class {shares.argmax()}" and best["probability"] == pytest.approx(shares.max(), abs=1e-5)


def test_a_model_trained_further_here_sees_as_it_was_trained_here(capsys):
    model = mv.load_pretrained(CASES["google_token"].path)
    model.meta = {"name": "mine", "class_names": list("abcde"), "mean": [0.1, 0.2, 0.3], "std": [0.3, 0.2, 0.1]}
    mv.save(model, "m.safetensors")
    code, out, _ = call(capsys, "predict", "m.safetensors", "photo.jpg", "--json")
    shares = mv.predict(model, mv.data.read_image("photo.jpg", size=(12, 12), channels=3)[None])[0]
    best = json.loads(out)[0]["top"][0]
    assert code == 0 and best["class"] == "abcde"[shares.argmax()]
    assert best["probability"] == pytest.approx(shares.max(), abs=1e-6)


def test_names_of_classes_come_from_config_json(capsys):
    _, out, _ = call(capsys, "predict", CASES["hf_dinov2"].path, "photo.jpg")
    assert "kind of" in out


@pytest.mark.parametrize("name", LOOKED_AT)
def test_look_into_every_kind(capsys, name):
    model = mv.load_pretrained(CASES[name].path, **CASES[name].said)
    small = ["--set", "image_size=[8,12]"] if name.startswith("hf") else []  # its published size would take long
    code, out, err = call(capsys, "look", *said(name), *small, "photo.jpg", "-o", "x.png")
    assert code == 0 and err == ""
    verify("x.png")
    with Image.open("x.png") as picture:
        title = picture.info["Title"]
    if name == "google_mixer":
        assert "a Mixer has no attention" in title
    elif model.pool.startswith("cls"):
        assert title == "Where the class token looks in photo.jpg"
    else:
        assert "attention averaged over all patches" in title
    if name == "google_map":
        assert "3×3 attention maps" in out  # two layers and the pooling; two heads and their mean
    if model.config["num_classes"]:
        assert "Answer: " in out


def test_look_chooses_layers_and_patches(capsys):
    argv = ["look", *said("google_gap"), "photo.jpg", "--layer", 1, "--head", 0, "--patch", "2,0", "-o", "x.png"]
    code, out, _ = call(capsys, *argv)
    assert code == 0 and "1×2 attention maps" in out and "row 2, column 0" in out
    assert "layers 0 to 1" in refused(capsys, "look", *said("google_gap"), "photo.jpg", "--layer", 7)
    assert "rows 0 to 2" in refused(capsys, "look", *said("google_gap"), "photo.jpg", "--patch", "3,0")
    assert "leave out --layer" in refused(capsys, "look", CASES["google_mixer"].path, "photo.jpg", "--patch", "1,1")


def test_look_shows_the_picture_that_the_model_sees(capsys, monkeypatch):
    from minivit import viz

    seen = []
    real = viz.look
    monkeypatch.setattr(
        viz, "look", lambda image, *args, **options: seen.append(image) or real(image, *args, **options)
    )
    assert call(capsys, "look", *said("google_token"), "photo.jpg", "-o", "x.png")[0] == 0
    model = mv.load_pretrained(CASES["google_token"].path)
    expected = model.preprocess("photo.jpg")[0] * 0.5 + 0.5
    np.testing.assert_allclose(seen[0], expected, atol=1e-6)
    assert seen[0].min() >= 0 and seen[0].max() <= 1


# ---------------------------------------------------------------- convert


@pytest.mark.parametrize("name", CASES)
def test_convert_every_family(capsys, name):
    case = CASES[name]
    if name in NOT_IN_TIMM:
        assert NOT_IN_TIMM[name] in refused(capsys, "convert", *said(name), "out.safetensors")
        assert not Path("out.safetensors").exists()
        return
    code, out, err = call(capsys, "convert", *said(name), "out.safetensors")
    assert code == 0 and "timm.models." in out and "strict=True" in out
    model, again = mv.load_pretrained(case.path, **case.said), mv.load("out.safetensors")
    assert ("build it as shown" in err) == (model.config["mlp"] != "gelu" or model.config["eps"] != 1e-6)
    images = case.references[0]["images"]
    assert np.array_equal(model(images).numpy(), again(images).numpy())
    assert again.preprocess == model.preprocess and again.source.family == model.source.family
    assert call(capsys, "info", "out.safetensors")[0] == 0


def test_every_refusal_is_among_the_cases():
    assert NOT_IN_TIMM.keys() <= CASES.keys() and set(LOOKED_AT) <= CASES.keys()


def test_a_converted_file_is_read_by_the_family_of_timm_too(capsys):
    """Without our metadata, as timm itself would write it."""
    assert call(capsys, "convert", *said("google_token"), "out.safetensors")[0] == 0
    safetensors.write("bare.safetensors", safetensors.read("out.safetensors")[0])
    model = mv.load_pretrained("bare.safetensors", num_heads=2, mlp="gelu_tanh")
    reference = CASES["google_token"].references[0]
    assert model.source.family == "timm ViT" and agreement.difference(model, reference) < agreement.TOLERANCE


def test_convert_resizes_positions_as_the_source_does(capsys):
    argv = ["convert", *said("google_token"), "--set", "image_size=20", "big.safetensors"]
    assert call(capsys, *argv)[0] == 0
    model = mv.load("big.safetensors")
    assert model.image_size == (20, 20) and agreement.difference(model, CASES["google_token"].references[1]) < 2e-5


def test_convert_a_run_of_ours_and_refuse_to_overwrite_it(capsys):
    model = mv.create("vit_digits", dim=16, depth=1)
    mv.save(model, "run/checkpoint.safetensors")
    code, out, err = call(capsys, "convert", "run", "out.safetensors")
    assert code == 0 and err == "" and "minivit -> timm" in out
    before = Path("run/checkpoint.safetensors").read_bytes()
    assert "name another" in refused(capsys, "convert", "run", "run/checkpoint.safetensors")
    assert Path("run/checkpoint.safetensors").read_bytes() == before
    mv.save(mv.create("hybrid_32"), "hybrid.safetensors")
    assert "a convolutional stem" in refused(capsys, "convert", "hybrid.safetensors", "x.safetensors")


# ---------------------------------------------------------------- export


@pytest.mark.skipif(importlib.util.find_spec("onnx") is None, reason="optional: the onnx package is not installed")
def test_export_from_a_run_and_from_published_weights(capsys):
    mv.save(mv.create("vit_digits", dim=16, depth=1).astype("float64"), "m.safetensors")
    code, out, err = call(capsys, "export", "m.safetensors", "m.onnx", "--attention")
    assert code == 0 and "8×8 grey" in out and "blocks.0.attn.attention" in out and "exported as float32" in err
    code, out, err = call(capsys, "export", *said("google_token"), "g.onnx")
    assert code == 0 and err == "" and "minus 0.5, 0.5, 0.5" in out and out.count("logits") == 1
    runtime = pytest.importorskip("onnxruntime", reason="optional: the onnxruntime package is not installed")
    reference = CASES["google_token"].references[0]
    session = runtime.InferenceSession("g.onnx", providers=["CPUExecutionProvider"])
    found = session.run(None, {"images": reference["images"]})[0]
    np.testing.assert_allclose(found, reference["logits"], rtol=0, atol=1e-5)


def test_export_without_the_package(capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    assert "requirements-onnx.txt" in refused(capsys, "export", *said("google_token"), "g.onnx")
    assert not Path("g.onnx").exists()


# ---------------------------------------------------------------- what is wrong


@pytest.mark.parametrize(("argv", "words"), [
    (["info", "GOOGLE", "--set", "num_heads"], ["'num_heads' is not NAME=VALUE"]),
    (["info", "GOOGLE", "--set", "num_head=3"], ["no argument 'num_head'", "'num_heads'"]),
    (["look", "GOOGLE", "photo.jpg", "--set", "num_heads=5"], ["dim 16", "num_heads 5"]),
    (["look", "GOOGLE", "photo.jpg", "--set", "image_size=13"], ["13×13", "4×4"]),
    (["look", "GOOGLE", "nowhere.jpg"], ["nowhere.jpg"]),
    (["predict", "DINO", "photo.jpg", "--set", "num_heads=2"], ["no classes", "features only"]),
    (["eval", "GOOGLE"], ["--data"]),
    (["convert", "GOOGLE"], ["OUT", "required"]),
    (["convert", "empty", "x"], ["empty", "checkpoint.safetensors", "config.json"]),
    (["export", "nowhere", "x"], ["nowhere does not exist"]),
    (["convert", "photo.jpg", "x"], ["photo.jpg"]),
    (["convrt", "a", "b"], ["'convert'"]),
])  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(capsys, argv, words):
    Path("empty").mkdir()
    paths = {"GOOGLE": CASES["google_token"].path, "DINO": CASES["dino"].path}
    line = refused(capsys, *[paths.get(word, word) for word in argv])
    assert all(word in line for word in words), line


def test_a_copy_under_another_name_is_the_same(capsys):
    """The first bytes say what a file is, not its name."""
    shutil.copy(CASES["google_token"].path, "weights.txt")
    assert call(capsys, "info", "weights.txt")[0] == 0
