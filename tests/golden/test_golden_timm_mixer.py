"""timm's random MLP-Mixer, loaded here: the same logits and tokens, and a file that timm could read back (make_timm_mixer.py)."""

from pathlib import Path

import numpy as np
import pytest

import minivit as mv
from minivit.interop import pretrained, safetensors
from minivit.interop.pretrained import load_pretrained
from minivit.interop.source import Stored

HERE = Path(__file__).parent
FILE = HERE / "timm_mixer.safetensors"


def load_arrays(monkeypatch, tensors, config=None, **options):
    stored = {n: Stored(n, a.shape, "F32", a.copy) for n, a in tensors.items()}
    monkeypatch.setattr(pretrained, "open_tensors", lambda path: (stored, {"config": config} if config else {}))
    return load_pretrained("memory.safetensors", **options)


def agrees(model):
    with np.load(HERE / "timm_mixer_expected.npz") as file:
        trace = mv.trace(model, file["images"])
        for found, reference in ((trace.logits, file["logits"]), (trace.final, file["final"])):
            assert found.shape == reference.shape and found.dtype == np.float32
            np.testing.assert_allclose(found, reference, rtol=0, atol=2e-5 * max(1, np.abs(reference).max()))


def test_logits_and_tokens():
    model = load_pretrained(FILE)
    agrees(model)
    assert type(model).__name__ == "Mixer" and model.source.family == "timm MLP-Mixer"
    assert model.config["tokens_mlp_dim"] == 8 and model.config["channels_mlp_dim"] == 20 and model.grid == (3, 3)
    assert model.preprocess.crop_pct == 0.875 and model.preprocess.interpolation == "bicubic"


@pytest.mark.parametrize("prefix", ["", "state_dict.", "module."])
def test_prefixes(monkeypatch, prefix):
    agrees(load_arrays(monkeypatch, {prefix + n: a for n, a in safetensors.read(FILE)[0].items()}))


def test_what_we_save_has_the_names_shapes_and_values_of_timms_file(tmp_path):
    mv.save(load_pretrained(FILE), tmp_path / "ours.safetensors")
    ours, theirs = (safetensors.read(p)[0] for p in (tmp_path / "ours.safetensors", FILE))
    assert ours.keys() == theirs.keys()
    assert all(ours[name].shape == a.shape and np.array_equal(ours[name], a) for name, a in theirs.items())


def test_each_tensor_is_needed(monkeypatch):
    tensors = safetensors.read(FILE)[0]
    for name, a in tensors.items():
        with pytest.raises(mv.CheckpointError, match=name):
            load_arrays(monkeypatch, {n: b for n, b in tensors.items() if n != name})
        with pytest.raises(mv.CheckpointError, match="wrong shape"):
            load_arrays(monkeypatch, {**tensors, name: np.concatenate([a, a[:1]])})
    with pytest.raises(mv.CheckpointError, match="unknown: blocks.2.extra"):
        load_arrays(monkeypatch, tensors | {"blocks.2.extra": np.zeros(3)})


def test_config_json(monkeypatch):
    """timm's settings win over the family's; a grid that is no square can be read from them."""
    tensors = safetensors.read(FILE)[0]
    said = {"pretrained_cfg": {"input_size": [3, 4, 36], "mean": [0.1, 0.2, 0.3], "crop_pct": 1.0}}
    model = load_arrays(monkeypatch, tensors, said)
    assert model.grid == (1, 9) and list(model.preprocess.mean) == [0.1, 0.2, 0.3] and model.preprocess.crop_pct == 1
    assert "preprocess" not in model.source.assumed
