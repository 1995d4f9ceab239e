"""The PyTorch families through `load_pretrained`: the same logits, final tokens and last attention (see make_families.py)."""

import json
from pathlib import Path

import numpy as np
import pytest

import minivit as mv

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
