"""CKA: the published fixture, its invariances, and that batches give what the whole gives."""

import numpy as np
import pytest

import minivit as mv
from minivit import studies
from minivit.engine.errors import ConfigError, ShapeError
from minivit.studies import cka as study
from minivit.studies import report
from minivit.studies.report import Config


@pytest.fixture
def fixture():
    """The one of the reference implementation: a legacy generator, so the same numbers everywhere."""
    legacy = np.random.RandomState(1337)
    x = legacy.randn(100, 10)
    return x, legacy.randn(100, 10) + x


def test_the_fixture_of_the_reference(fixture):
    x, y = fixture
    assert study.cka(x, y, debiased=False) == pytest.approx(0.5576133, abs=5e-8)
    assert study.cka(x, y) == pytest.approx(0.5134565, abs=5e-8)
    assert study.hsic(study.gram(x), study.gram(y)) == pytest.approx(9.895955787, abs=5e-10)


def test_unbiased_hsic_by_its_definition(fixture):
    """Song et al. 2007, equation 5, with its three terms."""
    k, other = (study.gram(a[:7]) * (1 - np.eye(7)) for a in fixture)
    m, one = 7, np.ones(7)
    terms = np.trace(k @ other) + (one @ k @ one) * (one @ other @ one) / ((m - 1) * (m - 2))
    terms -= 2 / (m - 2) * (one @ k @ other @ one)
    assert study.hsic(*(study.gram(a[:7]) for a in fixture)) == pytest.approx(terms / (m * (m - 3)), rel=1e-12)
    with pytest.raises(ShapeError, match="at least 4 images, got 3"):
        study.hsic(k[:3, :3], other[:3, :3])


@pytest.mark.parametrize("debiased", [True, False])
def test_what_changes_nothing_and_what_does(fixture, debiased):
    x, y = fixture
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((10, 10)))[0]
    value = study.cka(x, y, debiased)
    assert study.cka(x, x, debiased) == pytest.approx(1, abs=1e-12)
    assert study.cka(x @ turn, 7 * y, debiased) == pytest.approx(value, abs=1e-12)
    assert study.cka(x + 3, y - 5, debiased) == pytest.approx(value, abs=1e-9)
    assert study.cka(y, x, debiased) == pytest.approx(value, abs=1e-12)
    assert (
        abs(study.cka(x * np.arange(1, 11) ** 2, y, debiased) - value) > 0.05
    )  # each direction by a number of its own


def test_unbiased_means_nothing_for_noise(rng):
    x, y = rng.standard_normal((2, 60, 500))
    assert study.cka(x, y, debiased=False) > 0.8  # more features than images: the biased form sees likeness in noise
    assert abs(study.cka(x, y)) < 0.1


SIZES = {"image_size": 8, "patch_size": 4, "in_channels": 1, "num_classes": 3, "dim": 16, "depth": 2}


def test_batches_give_nearly_what_the_whole_gives(rng):
    images = rng.random((512, 8, 8, 1), np.float32)
    model = mv.ViT(**SIZES, num_heads=2)
    names = study.layers(model, images[:1])
    whole, parts = (study.vectors(model, images, names, batch) for batch in (512, 128))
    tables = [study.similarity(v, v) for v in (whole, parts)]
    assert np.abs(tables[0] - tables[1]).max() < 0.02
    np.testing.assert_allclose(np.diag(tables[1]), 1, atol=1e-12)
    trace = mv.trace(model, images)
    by_hand = study.cka(trace.features["blocks.0.norm1"], trace.features["blocks.1.mlp"])
    assert tables[0][names.index("blocks.0.norm1"), names.index("blocks.1.mlp")] == pytest.approx(by_hand, abs=1e-6)


def test_across_models_is_a_part_of_the_stacked_table(rng):
    images = rng.random((32, 8, 8, 1), np.float32)
    found = []
    for model in (mv.ViT(**SIZES, num_heads=2), mv.create("resnet_digits", width=4)):
        found.append(study.vectors(model, images, study.layers(model, images[:1]), 16))
    stacked = np.concatenate(found)
    n = len(found[0])
    np.testing.assert_allclose(study.similarity(*found), study.similarity(stacked, stacked)[:n, n:], atol=1e-12)


def test_the_layers_of_each_kind_of_model(rng):
    image = rng.random((1, 8, 8, 1), np.float32)
    expected = {
        "vit": ["blocks.0.norm1", "blocks.0.attn", "blocks.0.norm2", "blocks.0.mlp", "blocks.0", "blocks.1.norm1"],
        "resnet": ["conv1", "norm1", "act1", "layers.0.conv1", "layers.0.norm1", "layers.0.act1", "layers.0.conv2"],
        "cnn": ["convs.0", "norms.0", "convs.1", "norms.1", "convs.2", "norms.2"],
        "fnet": ["blocks.0.norm1", "blocks.0.mix", "blocks.0.norm2", "blocks.0.mlp", "blocks.0"],
    }
    models = {
        "vit": mv.ViT(**SIZES, num_heads=2),
        "resnet": mv.create("resnet_digits"),
        "fnet": mv.create("fnet_digits"),
    }
    models["cnn"] = mv.create("cnn", image_size=8)
    for kind, model in models.items():
        names = study.layers(model, image)
        assert names[: len(expected[kind])] == expected[kind] and "head" not in names and len(set(names)) == len(names)
        assert study.vectors(model, np.repeat(image, 4, axis=0), names, 4).shape == (len(names), 16)
    names = study.layers(models["resnet"], image)
    assert names[-1] == "layers.5" and "layers.2.downsample" in names and len(names) == 3 + 6 * 6 + 2 * 2
    assert study.layers(mv.create("linear", image_size=8), image) == []


def test_too_few_images(rng):
    with pytest.raises(ConfigError, match="100 images do not fill a batch of 128"):
        study.vectors(mv.ViT(**SIZES, num_heads=2), rng.random((100, 8, 8, 1), np.float32), ["blocks.0"])


def test_low_high_takes_the_outer_thirds():
    table = np.zeros((9, 9))
    table[:3, 6:] = 0.5
    assert study.low_high(table) == 0.5 and study.low_high(np.ones((2, 2))) == 1


def rows(vit, resnet):
    made = []
    for seed, values in enumerate(zip(vit, resnet, strict=True)):
        for kind, value in zip(("ViT", "ResNet"), values, strict=True):
            row = {"seed": seed, "model": kind, "state": "trained", "accuracy": 0.9, "low_high": value}
            made += [row, {**row, "state": "untrained", "accuracy": None, "low_high": 0.95}]
    return made


def test_the_verdict_needs_every_seed():
    verdict, said = study.judge(rows([0.8, 0.7], [0.5, 0.4]))
    assert verdict == "reproduced" and "ViT 0.75 ± 0.07, ResNet 0.45 ± 0.07; untrained 0.95 ± 0.00" in said
    assert "training lowered the ViT's and lowered the ResNet's" in said
    assert study.judge(rows([0.8, 0.4], [0.5, 0.41]))[0] == "not at this scale"
    assert study.judge(rows([0.50, 0.51], [0.49, 0.50]))[0] == "not at this scale"


def test_the_study_on_a_few_digits(tmp_path, monkeypatch):
    small = {"seeds": (0,), "images": 64, "vit_options": {"epochs": 1}, "resnet_options": {"epochs": 1}}
    monkeypatch.setitem(study.SCALES, "quick", study.SCALES["quick"] | small)
    result = studies.perform(Config("cka", scale="quick", folder=str(tmp_path)))
    assert [(r["model"], r["state"]) for r in result.rows] == [
        ("ViT", "trained"), ("ViT", "untrained"), ("ResNet", "trained"), ("ResNet", "untrained"), ("ViT × ResNet", "trained"),
    ]  # fmt: skip
    assert np.array(result.rows[-1]["map"]).shape == (15, 43)
    report.save(result, tmp_path / "result.json")
    fig, alt = study.plot(report.load(tmp_path / "result.json"))
    assert len(alt.split()) <= 60 and "ViT untrained" in alt
    # checkpoints: one has nothing to be compared with, two do
    files = [str(next((tmp_path / "study-models").glob(f"{kind}-*"))) for kind in ("vit", "resnet_digits")]
    one = studies.perform(Config("cka", scale="quick", checkpoints=tuple(files[:1])))
    assert one.verdict.startswith("depends on a second model") and one.rows[0]["low_high"] == pytest.approx(
        result.rows[0]["low_high"], abs=1e-6
    )
    two = studies.perform(Config("cka", scale="quick", checkpoints=tuple(files)))
    assert two.verdict in ("reproduced", "not at this scale")
    study.plot(two)
