"""The PyTorch families through `load_pretrained`: the same logits, final tokens and last attention (see make_families.py)."""

import json
from pathlib import Path

import numpy as np
import pytest

import minivit as mv
from minivit.interop.stored import open_tensors

HERE = Path(__file__).parent
TABLE = json.loads((HERE / "families.json").read_text(encoding="utf-8"))
FAMILIES, PREPROCESS = TABLE["families"], TABLE["preprocess"]
TIMM = json.loads((HERE / "timm_families.json").read_text(encoding="utf-8"))["families"]
TOLERANCE = 2e-5  # times the largest reference value, where that is above 1


def load(name: str, **options) -> mv.nn.Module:
    entry = FAMILIES[name]
    return mv.load_pretrained(HERE / entry["path"], **{**entry["overrides"], **options})


def expected(name: str, size: int) -> dict[str, np.ndarray]:
    with np.load(HERE / FAMILIES[name]["expected"]) as file:
        return {key[2:]: file[key] for key in file if key.startswith(f"{size}.")}


def check(model: mv.nn.Module, reference: dict[str, np.ndarray]) -> None:
    trace = mv.trace(model, reference["images"])
    found = {"logits": trace.logits, "final": trace.final, "attention": trace.attention[-1]}
    for what, array in found.items():
        assert array.dtype == np.float32
        atol = TOLERANCE * max(1, np.abs(reference[what]).max())
        np.testing.assert_allclose(array, reference[what], rtol=0, atol=atol, err_msg=what)
    with mv.no_grad():  # without anybody looking on, which may take another way
        np.testing.assert_allclose(model(reference["images"]).numpy(), reference["logits"], rtol=0, atol=atol)


@pytest.mark.parametrize("name", FAMILIES)
def test_at_its_own_size(name):
    model = load(name)
    assert model.complaints == [] and not model.training
    check(model, expected(name, 0))


@pytest.mark.parametrize("name", [name for name, entry in FAMILIES.items() if entry["sizes"] > 1])
def test_at_another_size(name):
    reference = expected(name, 1)
    size = reference["images"].shape[1:3]
    check(load(name, image_size=size), reference)  # positions resized on loading
    if "simple" not in name:
        check(load(name), reference)  # and while it runs


@pytest.mark.parametrize("name", TIMM)
def test_the_other_golden_files_of_timm(name, tmp_path):
    config, path = TIMM[name]["config"], HERE / f"timm_{name}.safetensors"
    if name == "everything":  # 12 positions: of 2 × 6 patches, or of 3 × 3 and three tokens; config.json tells
        (tmp_path / "config.json").write_text('{"pretrained_cfg": {"input_size": [2, 8, 12]}}')
        (tmp_path / "model.safetensors").write_bytes(path.read_bytes())
        path = tmp_path
    said = {"eps": config.get("eps", 1e-6), "mlp": config.get("mlp", "gelu"), "num_heads": config["num_heads"]}
    own = tuple(config["image_size"]) if isinstance(config["image_size"], list) else config["image_size"]
    model = mv.load_pretrained(path, image_size=own if name in NO_SQUARE else None, **said)
    with np.load(HERE / f"timm_{name}.npz") as file:
        reference = {key: file[f"0.{key}"] for key in ("images", "logits", "attention")}
        deepest = file[f"0.tokens.{config['depth']}"]
        others = [(file[f"{i}.images"], file[f"{i}.logits"]) for i in range(1, TIMM[name]["sizes"])]
    reference["final"] = deepest if config.get("pool") == "mean" else model.norm(mv.Tensor(deepest)).numpy()
    check(model, reference)
    if model.source.family == "DINO":  # a ViT without a head is taken for DINO's, which resizes in another way
        assert name == "features" and others == []
    for images, logits in others:
        found = model(images).numpy()
        np.testing.assert_allclose(found, logits, rtol=0, atol=TOLERANCE * max(1, np.abs(logits).max()))


NO_SQUARE = ("non_square", "other_size", "no_positions")  # whose number of positions is no square, or 0


@pytest.mark.parametrize("name", FAMILIES)
def test_what_no_output_shows_is_checked_by_value(name):
    """A key's bias shifts all logits of a query alike, and softmax forgets it; a mask token is never seen."""
    tensors, _ = open_tensors(HERE / FAMILIES[name]["path"])
    model, checked = load(name), 0
    state = model.state_dict()
    for key, tensor in tensors.items():
        if key in model.source.ignored:
            continue
        block = next((int(part) for part in key.split(".") if part.isdecimal()), None)
        if key.endswith((".key.bias", ".k_proj.bias")):
            bias = tensor.read()
        elif key.endswith("qkv.bias"):
            bias = np.split(tensor.read(), 3)[1]
        else:
            continue
        np.testing.assert_array_equal(np.split(state[f"blocks.{block}.attn.qkv.bias"], 3)[1], bias)
        checked += 1
    assert checked == (2 if model.config["qkv_bias"] else 0)
    if "attn_pool.kv.bias" in tensors:
        np.testing.assert_array_equal(state["attn_pool.kv.bias"], tensors["attn_pool.kv.bias"].read())
    unseen = {key for key in tensors if "mask_token" in key or "pooler" in key}
    assert unseen <= model.source.ignored.keys()


@pytest.mark.parametrize("name", FAMILIES)
def test_no_number_of_a_file_is_lost(name):
    """Every value of every tensor that is loaded is somewhere in the model, except where positions were folded."""
    tensors, _ = open_tensors(HERE / FAMILIES[name]["path"])
    model = load(name)
    folded = ("token", "tokens", "pos_embed", "position_embeddings", "pos_embedding")
    kept = [
        t.read().ravel() for key, t in tensors.items() if key not in model.source.ignored and not key.endswith(folded)
    ]
    ours = [p.numpy().ravel() for key, p in model.named_parameters() if not key.endswith(folded)]
    assert np.setdiff1d(np.concatenate(kept), np.concatenate(ours)).size == 0
    assert not set(np.setdiff1d(np.concatenate(ours), np.concatenate(kept))) - {
        0,
        1,
    }  # biases and a projection left out


@pytest.mark.parametrize("name", ["k_norm", "q_norm"])
def test_norms_of_queries_and_keys_by_value(name):
    path = HERE / "timm_qk_norm.safetensors"
    model, (tensors, _) = mv.load_pretrained(path), open_tensors(path)
    assert model.config["num_heads"] == 4  # from the width of the norms
    for part in ("weight", "bias"):
        ours = model.state_dict()[f"blocks.1.attn.{name}.{part}"]
        np.testing.assert_array_equal(ours, tensors[f"blocks.1.attn.{name}.{part}"].read())


@pytest.fixture(scope="module")
def prepared():
    from PIL import Image

    with np.load(HERE / "families_preprocess.npz") as file:
        arrays = dict(file)
    return Image.fromarray(arrays["picture"]), arrays


@pytest.mark.parametrize("name", PREPROCESS)
def test_pictures_are_prepared_as_timm_prepares_them(name, prepared, tmp_path):
    image, arrays = prepared
    said = PREPROCESS[name]
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"architecture": "vit", "pretrained_cfg": said}))
    (folder / "model.safetensors").write_bytes((HERE / "timm_cls.safetensors").read_bytes())
    size = said["input_size"][1:]
    prepare = mv.load_pretrained(folder, num_heads=2).preprocess
    prepare.size = tuple(size)
    from PIL import Image

    for picture, key in ((image, name), (image.transpose(Image.Transpose.ROTATE_90), f"{name}.turned")):
        found = prepare(picture)
        assert found.shape == (1, *size, 3) and found.dtype == np.float32
        np.testing.assert_allclose(found[0], arrays[key], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["hf_vit", "hf_deit", "hf_dinov2"])
def test_pictures_are_prepared_as_transformers_prepares_them(name, prepared, tmp_path):
    image, arrays = prepared
    prepare = load(name).preprocess
    np.testing.assert_allclose(prepare(image)[0], arrays[name], rtol=0, atol=1e-6)
    image.save(tmp_path / "picture.png")
    assert np.array_equal(prepare(tmp_path / "picture.png"), prepare(image))
