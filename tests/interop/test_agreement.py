"""The README's table: the command measures what it prints, covers every recorded model, and fails where one disagrees."""

import importlib.util
import json

import numpy as np
import pytest

import minivit as mv
from scripts import agreement

WITH_ONNX = all(importlib.util.find_spec(package) for package in ("onnx", "onnxruntime"))


@pytest.fixture(scope="module")
def rows():
    return agreement.measure()


def test_every_family_agrees(rows):
    for (family, library, container), row in rows.items():
        own, other, onnx = row.worst
        assert own <= agreement.TOLERANCE and (other or 0) <= agreement.TOLERANCE, (family, library, container)
        assert (onnx <= 1e-5) if WITH_ONNX else onnx is None


def test_every_recorded_model_is_measured(rows):
    recorded = sum(
        len(json.loads((agreement.GOLDEN / file).read_text(encoding="utf-8"))[key])
        for file, key in (
            ("timm_families.json", "families"),
            ("families.json", "families"),
            ("google_cases.json", "cases"),
        )
    )
    assert sum(row.models for row in rows.values()) == recorded  # one is left out, timm's Mixer is in no table
    families = {family for family, *_ in rows}
    for word in (
        "timm",
        "Google",
        "big_vision",
        "Mixer",
        "DeiT",
        "DeiT-III",
        "DINO",
        "Hugging Face",
        "lucidrains",
        "SimpleViT",
    ):
        assert any(word in family for family in families), word
    assert {container for *_, container in rows} == {"npz", "safetensors", "zip .pth", "folder"}


def test_the_table_says_what_was_not_done(rows):
    text = agreement.table(rows)
    assert text.count("\n| ") == len(rows) and "**not run on published weights**" in text
    assert all(line.count("|") == 8 for line in text.splitlines() if line.startswith("|"))


def test_a_wrong_weight_would_be_seen(monkeypatch, capsys):
    case = next(case for case in agreement.cases() if case.name == "google_token")
    model = mv.load_pretrained(case.path, **case.said)
    assert agreement.difference(model, case.references[0]) <= agreement.TOLERANCE
    model.blocks[1].norm2.bias.data[3] += 1e-3
    assert agreement.difference(model, case.references[0]) > agreement.TOLERANCE
    wrong = {"images": case.references[0]["images"], "logits": np.zeros((2, 4), np.float32)}
    assert agreement.difference(model, wrong) == float("inf")
    for worst, code in ((3e-5, 1), (1e-6, 0)):
        monkeypatch.setattr(
            agreement, "measure", lambda worst=worst: {("a", "b", "npz"): agreement.Row(1, [1e-7, worst, None])}
        )
        assert agreement.main() == code
    assert "| 1 | 1e-07 | 3e-05 | – |" in capsys.readouterr().out
