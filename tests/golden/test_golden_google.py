"""Google's random models, loaded here: the same logits, tokens and attention, and every tensor in its place (make_google.py)."""

import json
from pathlib import Path

import numpy as np
import pytest

import minivit as mv
from minivit.interop import pretrained
from minivit.interop.google import PREFIXES
from minivit.interop.pretrained import load_pretrained
from minivit.interop.source import Stored
from minivit.models.google_vit import GoogleViT

HERE = Path(__file__).parent
CASES = json.loads((HERE / "google_cases.json").read_text(encoding="utf-8"))["cases"]
VITS = [name for name in CASES if not name.startswith("mixer")]
FAMILY = {"vision_transformer": "Google ViT", "big_vision": "big_vision ViT"}
KEY_BIAS = "/key/bias"


def path(name):
    return HERE / f"google_{name}.npz"


def arrays(name):
    """The checkpoint; bfloat16, which NumPy reads as 2-byte voids, as float32."""
    with np.load(path(name)) as file:
        return {n: widened(a) for n, a in file.items()}


def widened(a):
    return (a.view(np.uint16).astype(np.uint32) << 16).view(np.float32) if a.dtype.kind == "V" else a


def load_arrays(monkeypatch, tensors, **options):
    """Load from memory, as if a file held these arrays."""
    stored = {n: Stored(n, a.shape, "F32", a.copy) for n, a in tensors.items()}
    monkeypatch.setattr(pretrained, "open_tensors", lambda path: (stored, {}))
    return load_pretrained("memory.npz", **options)


def own_size(name):
    """What has to be said of files that do not tell their image size: fixed positions, a grid that is no square."""
    said = CASES[name].get("positions") == "sincos2d" or name == "mixer_early"
    return {"image_size": tuple(CASES[name]["images"][0])} if said else {}


def expected(name, i):
    with np.load(HERE / f"google_{name}_expected.npz") as file:
        found = {n.partition(".")[2]: a for n, a in file.items() if n.startswith(f"{i}.")}
    return found.pop("images").astype(np.float32) / 32, found


def agrees(model, name, i):
    images, reference = expected(name, i)
    trace = mv.trace(model, images, keep=["logits", "final", "attention", "*pooling"] if "pooling" in reference else
                     ["logits", "final", "attention"])  # fmt: skip
    found = {"logits": trace.logits, "final": trace.final}
    found |= {"attention": trace.attention[-1]} if trace.attention else {}
    found |= {"pooling": trace.features["attn_pool.pooling"]} if "pooling" in reference else {}
    assert found.keys() == reference.keys()
    for what, a in reference.items():
        assert found[what].shape == a.shape and found[what].dtype == np.float32, what
        atol = 2e-5 * max(1, np.abs(a).max())
        np.testing.assert_allclose(found[what], a, rtol=0, atol=atol, err_msg=f"{name}: {what}")


# --- agreement --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_logits_tokens_and_attention(name):
    model = load_pretrained(path(name), **own_size(name))
    agrees(model, name, 0)
    assert not model.training
    family = "Google MLP-Mixer" if name.startswith("mixer") else FAMILY[CASES[name]["source"]]
    assert model.source.family == family


@pytest.mark.parametrize("name", VITS)
def test_another_size(name):
    size = tuple(CASES[name]["images"][1])
    model = load_pretrained(path(name), image_size=size)
    assert model.image_size == size
    agrees(model, name, 1)
    agrees(load_pretrained(path(name), **own_size(name)), name, 1)  # or resized for each image, as it comes


def test_the_other_gelu_would_be_seen():
    """Google's files in a model with the exact GELU, as other libraries load them, differ more than the tolerance."""
    images, reference = expected("token", 0)
    exact = load_pretrained(path("token"), mlp="gelu")
    assert np.abs(exact(images).numpy() - reference["logits"]).max() > 1e-4
    assert "as you said" in exact.source.assumed["mlp"]


# --- every tensor -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_every_tensor_is_used_or_reported(name):
    model = load_pretrained(path(name), **own_size(name))
    tensors = arrays(name)
    ignored = model.source.ignored
    assert ignored.keys() <= tensors.keys()
    # Every number of the others is in the model, and no other: in the same place or elsewhere, which the outputs tell.
    theirs = np.sort(np.concatenate([a.ravel() for n, a in tensors.items() if n not in ignored]))
    ours = {n: p for n, p in model.state_dict().items() if dict(model.named_parameters())[n].requires_grad}
    if name == "tok_scan":  # the class token has no position, for which we have a row of zeros
        assert not ours["pos_embed"][:, 0].any()
        ours["pos_embed"] = ours["pos_embed"][:, 1:]
    assert np.array_equal(np.sort(np.concatenate([a.ravel() for a in ours.values()])), theirs)


def test_what_is_left_out_is_shown():
    model = load_pretrained(path("map"))
    assert model.source.ignored == {
        "params/txt/head/bias": "the text model",
        "params/t": "the temperature of the image-text loss",
        "params/b": "the bias of the image-text loss",
    }
    assert "the text model" in repr(model) and "gelu_tanh" in repr(model)
    assert load_pretrained(path("pre_logits")).source.ignored == {"opt/state/step": "the optimizer's state"}
    sincos = load_pretrained(path("sincos"), image_size=12).source.assumed
    assert sincos.keys() >= {"eps", "mlp", "pool", "positions", "image_size", "preprocess"}


@pytest.mark.parametrize("name", VITS)
def test_key_biases_by_value(name):
    """They cancel in the softmax, so that no output shows them."""
    state, tensors = load_pretrained(path(name), **own_size(name)).state_dict(), arrays(name)
    names = [n for n in tensors if n.endswith(KEY_BIAS)]
    stacked = [n for n in names if "encoderblock/" in n]
    for n in names:
        if "encoderblock" in n:
            layers = tensors[n] if stacked else [tensors[n]]
            first = 0 if stacked else int(n.partition("encoderblock_")[2][0])
            for i, bias in enumerate(layers, start=first):
                assert np.array_equal(state[f"blocks.{i}.attn.qkv.bias"][16:32], bias.ravel())
        else:
            assert np.array_equal(state["attn_pool.kv.bias"][:16], tensors[n].ravel())
    assert len(names) == (1 if stacked else 2) + (name == "map")


def test_token_biases_by_value():
    """The last bias of a Mixer's token MLP moves all channels of a token alike, and LayerNorm takes that out."""
    state, tensors = load_pretrained(path("mixer")).state_dict(), arrays("mixer")
    early = load_pretrained(path("mixer_early"), image_size=(8, 12)).state_dict(), arrays("mixer_early")
    for i in range(2):
        theirs = tensors[f"MixerBlock_{i}/token_mixing/Dense_1/bias"]
        assert np.array_equal(state[f"blocks.{i}.mlp_tokens.fc2.bias"], theirs)
        theirs = early[1][f"Mixer/encoderblock_{i}/token_mixing_phase_0/bias2"]
        assert np.array_equal(early[0][f"blocks.{i}.mlp_tokens.fc2.bias"], theirs.ravel())


# Without these a file is a whole file of another kind: without positions it has fixed ones (not so by the released names),
# without a class token a mean. `source.assumed` says so.
MAY_BE_ABSENT = {
    "tok_scan": {"params/cls", "params/pos_embedding"},
    "map": {"params/img/pos_embedding"},
    "before_2022": {"Transformer/pos_embedding"},
    "pre_logits": {"opt/target/Transformer/posembed_input/pos_embedding"},
}


@pytest.mark.parametrize("name", CASES)
def test_a_missing_tensor(monkeypatch, name):
    tensors = arrays(name)
    ignored = load_pretrained(path(name), **own_size(name)).source.ignored
    for lost in tensors.keys() - ignored.keys() - MAY_BE_ABSENT.get(name, set()):
        rest = {n: a for n, a in tensors.items() if n != lost}
        with pytest.raises(mv.CheckpointError, match="missing") as caught:
            load_arrays(monkeypatch, rest, **own_size(name))
        assert lost in str(caught.value)


def test_without_what_another_kind_does_without(monkeypatch):
    tensors = arrays("tok_scan")
    del tensors["params/cls"]
    assert "mean" in load_arrays(monkeypatch, tensors).source.assumed["pool"]
    del tensors["params/pos_embedding"]
    assert "sines" in load_arrays(monkeypatch, tensors).source.assumed["positions"]


@pytest.mark.parametrize("name", CASES)
def test_an_extra_tensor(monkeypatch, name):
    tensors = arrays(name)
    norm = next(n for n in tensors if n.endswith("norm/bias"))
    block = next(n for n in tensors if "LayerNorm_0/bias" in n and "MAPHead" not in n)
    for extra in (norm.replace("bias", "extra"), block.replace("bias", "extra"), "somewhere/else"):
        with pytest.raises(mv.CheckpointError, match=f"unknown: {extra}"):
            load_arrays(monkeypatch, {**tensors, extra: np.zeros(3, np.float32)}, **own_size(name))


@pytest.mark.parametrize("name", CASES)
def test_a_misshaped_tensor(monkeypatch, name):
    tensors = arrays(name)
    ignored = load_pretrained(path(name), **own_size(name)).source.ignored
    for wrong in tensors.keys() - ignored.keys():
        a = tensors[wrong]
        longer = np.concatenate([a, a[..., :1]], axis=-1)
        for shape in (longer, a.reshape(-1)[:-1], a[None]):
            if "_phase_0/" in wrong and shape.shape == a[None].shape:
                continue  # axes of length 1 are taken out of these
            with pytest.raises(mv.CheckpointError, match="wrong shape|missing") as caught:
                load_arrays(monkeypatch, {**tensors, wrong: shape}, **own_size(name))
            # Sizes are read from some kernels; what does not fit a wrong one is then named in its place.
            assert wrong in str(caught.value) or "kernel" in wrong
        if wrong.endswith(("query/kernel", "out/kernel")):  # as many numbers, in other axes
            for axes in ((0, 2, 1), (2, 1, 0)) if a.ndim == 3 else ((0, 1, 3, 2), (0, 3, 2, 1)):
                if a.transpose(axes).shape != a.shape:
                    with pytest.raises(mv.CheckpointError, match="wrong shape|unequal|query/kernel"):
                        load_arrays(monkeypatch, {**tensors, wrong: a.transpose(axes)}, **own_size(name))


def test_not_strict(monkeypatch):
    tensors = arrays("token")
    del tensors["Transformer/encoder_norm/bias"]
    wrong, extra = "Transformer/encoderblock_1/MultiHeadDotProductAttention_1/value/kernel", "head/extra"
    model = load_arrays(monkeypatch, {**tensors, wrong: tensors[wrong][:, :, :7], extra: np.zeros(1)}, strict=False)
    assert len(model.complaints) == 3
    assert [c.partition(":")[0] for c in model.complaints] == ["missing", "unknown", "wrong shape"]
    assert all(name in " ".join(model.complaints) for name in ("encoder_norm/bias", extra, wrong, "(16, 2, 7)"))
    assert np.isfinite(model(np.zeros((1, 12, 12, 3), np.float32)).numpy()).all()


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["token", "mixer", "mixer_early"])
@pytest.mark.parametrize("prefix", PREFIXES)
def test_prefixes(monkeypatch, name, prefix):
    beside = {"opt/state/step": np.ones(1)} if prefix else {}
    tensors = {prefix + n: a for n, a in arrays(name).items()} | beside
    model = load_arrays(monkeypatch, tensors, **own_size(name))
    agrees(model, name, 0)
    assert model.source.ignored.keys() == beside.keys()


def test_both_namings_of_a_block(monkeypatch):
    pairs = {"MultiHeadDotProductAttention_1": "MultiHeadDotProductAttention_0", "LayerNorm_2": "LayerNorm_1"}
    pairs["MlpBlock_3"] = "MlpBlock_0"
    tensors = arrays("token")
    assert any("MlpBlock_3" in n for n in tensors)
    for old, new in pairs.items():
        tensors = {n.replace(old, new): a for n, a in tensors.items()}
    agrees(load_arrays(monkeypatch, tensors), "token", 0)


def test_attention_pooling_without_a_name_of_its_own(monkeypatch):
    tensors = {n.replace("MAPHead_0/", ""): a for n, a in arrays("map").items()}
    agrees(load_arrays(monkeypatch, tensors), "map", 0)


def test_an_early_mixer_numbered_in_one_row(monkeypatch):
    tensors = arrays("mixer_early")
    for old, new in {"LayerNorm_1": "LayerNorm_2", "token_mixing_phase_0": "token_mixing_phase_1",
                     "channel_mixing_phase_0": "channel_mixing_phase_3"}.items():  # fmt: skip
        tensors = {n.replace(old, new): a for n, a in tensors.items()}
    agrees(load_arrays(monkeypatch, tensors, image_size=(8, 12)), "mixer_early", 0)


def test_a_stack_of_blocks_is_read_once(monkeypatch):
    reads, tensors = [], arrays("tok_scan")

    def stored(n, a):
        return Stored(n, a.shape, "F32", lambda: reads.append(n) or a.copy())

    monkeypatch.setattr(pretrained, "open_tensors", lambda path: ({n: stored(n, a) for n, a in tensors.items()}, {}))
    model = load_pretrained("memory.npz")
    assert sorted(reads) == sorted(tensors)
    first, second = (block.norm1.bias.data for block in model.blocks)
    assert first.base is second.base and not np.shares_memory(first, second)  # two views of one array


def test_hybrids_are_refused(monkeypatch):
    with pytest.raises(mv.CheckpointError, match="hybrid with a ResNet"):
        load_arrays(monkeypatch, arrays("token") | {"conv_root/kernel": np.zeros((7, 7, 3, 64))})


# --- sizes ------------------------------------------------------------------------------------------------------------


def test_heads_come_from_the_query_and_the_mlp_from_its_kernel():
    assert load_pretrained(path("gap")).config["num_heads"] == 4
    config = load_pretrained(path("token")).config
    assert config["num_heads"] == 2 and int(config["dim"] * config["mlp_ratio"]) == 20


def test_a_grid_that_is_no_square_has_to_be_said(monkeypatch):
    with pytest.raises(mv.ConfigError, match="image_size cannot be read"):
        load_pretrained(path("mixer_early"))
    tensors = arrays("token")
    table = "Transformer/posembed_input/pos_embedding"
    tensors[table] = tensors[table][:, :7]
    with pytest.raises(mv.ConfigError, match="image_size cannot be read"):
        load_arrays(monkeypatch, tensors)
    model = load_arrays(monkeypatch, tensors, image_size=(8, 12))
    assert model.grid == (2, 3) and np.array_equal(model.state_dict()["pos_embed"], tensors[table])


def test_a_mixer_of_another_size_is_refused():
    with pytest.raises(
        mv.CheckpointError, match=r"wrong shape: MixerBlock_0/token_mixing/Dense_0/kernel gives \(9, 10\)"
    ):
        load_pretrained(path("mixer"), image_size=20)


# --- around the model -------------------------------------------------------------------------------------------------


def test_preprocessing(tmp_path):
    from PIL import Image

    picture = Image.new("RGB", (40, 20), (255, 0, 128))
    for name in CASES:
        model = load_pretrained(path(name), **own_size(name))
        x = model.preprocess(picture)
        assert x.shape == (1, *CASES[name]["images"][0], 3) and x.dtype == np.float32
        np.testing.assert_allclose(x[0, 0, 0], [1, -1, 128 / 127.5 - 1], atol=1e-6)
        middle = CASES[name]["source"] == "big_vision" and name != "map"
        assert (model.preprocess.resize, model.preprocess.crop_pct) == (("shorter", 7 / 8) if middle else ("exact", 1))


@pytest.mark.parametrize("name", CASES)
def test_saved_as_our_own(name, tmp_path):
    model = load_pretrained(path(name), **own_size(name))
    mv.save(model, tmp_path / "model.safetensors")
    again = mv.load(tmp_path / "model.safetensors")
    assert type(again) is type(model)
    agrees(again, name, 0)


def test_google_vit():
    import inspect

    sizes = {"image_size": 8, "patch_size": 4, "dim": 8, "depth": 1, "num_heads": 2, "num_classes": 3}
    model = GoogleViT(**sizes, pre_logits=6)
    assert model.config.keys() == inspect.signature(GoogleViT).parameters.keys()
    assert mv.create("vit_tiny_patch16_224").config.keys() < model.config.keys() | {"rope"}
    images = np.random.default_rng(0).random((2, 8, 8, 3), np.float32)
    assert model(images).shape == (2, 3) and GoogleViT(**sizes | {"num_classes": 0}, pre_logits=6)(images).shape == (
        2,
        6,
    )
    model(images).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    for wrong in ({"pre_logits": 0}, {"pool": "cls_mean"}):
        with pytest.raises(mv.ConfigError, match="pre_logits"):
            GoogleViT(**sizes, **wrong)
