"""timm's random Vision Transformers, loaded here: the same logits, tokens, attention and gradients (see make_timm.py)."""

import json
from pathlib import Path

import numpy as np
import pytest

import minivit as mv
from minivit.interop import safetensors, saved
from minivit.nn import init

HERE = Path(__file__).parent
FAMILIES = json.loads((HERE / "timm_families.json").read_text(encoding="utf-8"))["families"]
NAMES = json.loads((HERE / "timm_names.json").read_text(encoding="utf-8"))["models"]
TOLERANCE = 2e-5  # REFERENCE values are float32; correct code agrees to about 1e-6


def load(name: str) -> tuple[mv.ViT, dict[str, np.ndarray]]:
    config = {k: tuple(v) if isinstance(v, list) else v for k, v in FAMILIES[name]["config"].items()}
    model = mv.ViT(**config)
    assert saved.from_file(model, safetensors.read(HERE / f"timm_{name}.safetensors")[0]) == []
    with np.load(HERE / f"timm_{name}.npz") as file:
        return model.eval(), dict(file)


def close(found: np.ndarray, expected: np.ndarray, what: str) -> None:
    assert found.shape == expected.shape, what
    assert found.dtype == np.float32, what
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE, err_msg=what)


def gradients(model: mv.ViT, images: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """By timm's names, in timm's layout."""
    model.zero_grad()
    mv.cross_entropy(model(images), labels).backward()
    return {name: saved.to_file_layout(p.grad, p.layout) for name, p in model.named_parameters()}


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_tokens_attention_and_gradients(name):
    model, expected = load(name)
    trace = mv.trace(model, expected["0.images"])
    close(trace.logits, expected["0.logits"], "logits")
    tokens = [expected[f"0.tokens.{i}"] for i in range(model.config["depth"] + 1)]
    assert len(trace.tokens) == len(tokens)
    for i, (found, token) in enumerate(zip(trace.tokens, tokens, strict=True)):
        close(found, token, f"tokens {i}")
    close(trace.attention[-1], expected["0.attention"], "attention of the last block")
    found = gradients(model, expected["0.images"], expected["0.labels"])
    recorded = {k.removeprefix("0.grad."): v for k, v in expected.items() if k.startswith("0.grad.")}
    assert found.keys() == recorded.keys()
    for key, gradient in recorded.items():
        close(found[key], gradient, f"gradient of {key}")


@pytest.mark.parametrize(("name", "i"), [(n, i) for n, f in FAMILIES.items() for i in range(1, f["sizes"])])
def test_images_of_another_size(name, i):
    model, expected = load(name)
    images = expected[f"{i}.images"]
    trace = mv.trace(model, images)
    close(trace.tokens[0], expected[f"{i}.tokens.0"], "tokens with resized positions")
    close(trace.logits, expected[f"{i}.logits"], "logits")
    found = gradients(model, images, expected[f"{i}.labels"])
    close(found["pos_embed"], expected[f"{i}.grad.pos_embed"], "gradient through the resizing")


@pytest.mark.parametrize("name", FAMILIES)
def test_what_we_save_has_the_names_shapes_and_values_of_the_file_that_timm_wrote(name, tmp_path):
    model, _ = load(name)
    mv.save(model, tmp_path / "ours.safetensors")
    ours, metadata = safetensors.read(tmp_path / "ours.safetensors")
    theirs, _ = safetensors.read(HERE / f"timm_{name}.safetensors")
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        assert ours[key].shape == value.shape
        assert np.array_equal(ours[key], value), key
    assert metadata["format"] == FAMILIES[name]["format"]


@pytest.mark.parametrize("name", NAMES)
def test_presets_have_timm_s_names_and_shapes(name, monkeypatch):
    monkeypatch.setattr(init, "truncated_normal", lambda *shape, std: np.zeros(shape, np.float32))  # no numbers needed
    model = mv.create(name)
    found = {key: list(saved.to_file_layout(p.data, p.layout).shape) for key, p in model.named_parameters()}
    assert found == NAMES[name]
