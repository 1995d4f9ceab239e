"""The studies of harmed images from end to end on models that nobody trained, and the rules of their verdicts."""

import dataclasses
import functools
import json

import numpy as np
import pytest

import minivit as mv
from minivit.data.dataset import standardise
from minivit.engine.errors import ConfigError
from minivit.studies import adversarial, corruptions, dct, fourier, locality, occlusion, report, robust, shuffle
from minivit.studies.report import DEPENDS, NOT_HERE, REPRODUCED, Config
from minivit.studies.robust import MATCHED

MODULES = {
    "locality": locality, "occlusion": occlusion, "shuffle": shuffle, "corruptions": corruptions, "fourier": fourier,
    "dct": dct, "adversarial": adversarial,
}  # fmt: skip


@functools.cache
def drawn(kind, seed):
    """A small model for digits with random weights; only its head is fitted, so that it knows something."""
    data = mv.data.load("digits")
    if kind.startswith("vit"):
        sizes = {"dim": 16, "depth": 2, "num_heads": 2, "positions": "none" if "no pos" in kind else "learned_sincos"}
        model = mv.create("vit_digits", seed=seed, **sizes)
    else:
        width = {} if kind == "linear" else {"width": 4}
        model = mv.create("linear" if kind == "linear" else "cnn", image_size=8, seed=seed, **width)
    model.meta = {"name": "digits", "class_names": list("0123456789"), "mean": list(data.mean), "std": list(data.std)}
    chosen = data.train[100 * seed : 100 * seed + 300]
    read = []
    head, model.eval().head.forward = model.head, lambda features: read.append(features) or features
    model(standardise(chosen.images, model.meta["mean"], model.meta["std"]))
    features = read[0].numpy()
    del head.forward
    targets = np.eye(10)[chosen.labels] - 0.1
    ridge = features.T @ features + 1e-1 * np.eye(features.shape[1])
    head.weight.data[...] = np.linalg.solve(ridge, features.T @ targets)
    return model


@pytest.fixture
def no_training(monkeypatch):
    def contestants(config, data, seed, kinds):
        return {kind: drawn(kind, seed) for kind in kinds}

    monkeypatch.setattr(robust, "contestants", contestants)
    monkeypatch.setattr(locality, "contestants", contestants)
    monkeypatch.setattr(occlusion, "SHARES", (0.0, 0.5, 0.9))
    monkeypatch.setattr(robust, "IMAGES", {"quick": 20})
    monkeypatch.setattr(fourier, "IMAGES", {"quick": 5})
    monkeypatch.setattr(adversarial, "IMAGES", {"quick": 8})
    monkeypatch.setattr(adversarial, "STEPS", {"quick": 1})
    monkeypatch.setattr(dct, "IMAGES", {"quick": 6})
    monkeypatch.setattr(dct, "STEPS", {"quick": 20})


@pytest.mark.parametrize("name", MODULES)
def test_from_run_to_figure(name, no_training, tmp_path):
    module = MODULES[name]
    result = module.run(Config(name, scale="quick", seeds=(0, 1), folder=str(tmp_path)))
    report.save(result, tmp_path / "result.json")
    again = report.load(tmp_path / "result.json")
    assert json.loads((tmp_path / "result.json").read_text())["rows"] == result.rows and again.rows
    alt = report.draw(module, again, tmp_path / "figure.png")
    assert 10 <= len(alt.split()) <= 60 and "nan" not in alt, alt
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert again.said.endswith(".") and again.finding.endswith(".") and again.paper.startswith("as reported: ")
    if name != "locality":
        assert "From 2 seeds: an illustration" in again.said
    if name == "locality":
        assert again.verdict == REPRODUCED  # it is exact, trained or not


@pytest.mark.parametrize("name", MODULES)
def test_on_weights_of_ones_own(name, no_training, tmp_path):
    """They answer for themselves: a model is right where it says what it says to the untouched picture."""
    mv.save(drawn("vit", 3), tmp_path / "mine.safetensors")
    module = MODULES[name]
    config = Config(name, scale="quick", checkpoints=(str(tmp_path / "mine.safetensors"),), folder=str(tmp_path))
    result = module.run(config)
    assert {row["model"] for row in result.rows if "model" in row} == {"mine.safetensors"}
    assert result.verdict == (REPRODUCED if name == "locality" else DEPENDS + robust.ALONE)
    assert 10 <= len(module.plot(result)[1].split()) <= 60


def test_images_alone_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="occlusion: there is no use for --images without --checkpoint"):
        occlusion.run(Config("occlusion", scale="quick", images=str(tmp_path)))


def test_weights_of_ones_own_are_shown_their_own_data(tmp_path):
    """At every scale: not the data set on which this study would have trained."""
    mv.save(drawn("vit", 3), tmp_path / "mine.safetensors")
    for scale in report.SCALES:
        config = Config("occlusion", scale=scale, checkpoints=(str(tmp_path / "mine.safetensors"),))
        (found,) = robust.subjects(robust.defaults(config), ())
        assert found.pixels.shape[1:] == (8, 8, 1)


def test_who_takes_part(tmp_path):
    """Trained, matched on validation accuracy, and found again; and the matched one is one of those that were tried."""
    data = mv.data.load("digits")
    data = dataclasses.replace(data, train=data.train[:64], val=data.val[:32], test=data.test[:16])
    config = Config("occlusion", data="digits", seeds=(0,), scale="quick", folder=str(tmp_path))
    tiny = {"quick": {"epochs": 4}}
    epochs = robust.epochs
    robust.epochs = lambda config, data: tiny[config.scale]
    try:
        found = robust.contestants(config, data, 0, ("vit", "cnn", MATCHED, "linear", "vit, no positions", "fnet"))
    finally:
        robust.epochs = epochs
    assert list(found) == ["vit", "cnn", MATCHED, "linear", "vit, no positions", "fnet"]
    assert found["vit, no positions"].pos_embed is None and found["vit"].pos_embed is not None
    assert type(found[MATCHED]).__name__ == "SmallCNN" and found["fnet"].config["mixing"] == "tokens"
    kept = [path.name.rpartition("-")[0] for path in sorted((tmp_path / "study-models").iterdir())]
    assert kept.count("cnn-digits-s0") == 3 and len(kept) == 7  # 4, 2 and 1 epochs


def test_who_knows_nothing_is_not_compared():
    pixels, labels = np.zeros((20, 8, 8, 1), np.float32), np.arange(20) % 10
    model = drawn("linear", 0)

    def told(accuracy):
        subject = robust.Subject("vit", 0, model, pixels, labels, 0.1)
        subject.clean = accuracy
        config = Config("occlusion", seeds=(0, 1, 2))
        return robust.conclude(config, [], lambda rows: (REPRODUCED, "Said."), "A.", "as reported: b", [subject])

    assert told(0.25).verdict == REPRODUCED and told(0.25).said == "Said. Untouched: vit 0.25 right."
    assert told(0.15).verdict == NOT_HERE and told(0.15).said.endswith("nothing is compared: vit.")


def test_quick_runs_see_few_images():
    config = Config("occlusion", data="twin", seeds=(0,), scale="quick")
    data = robust.loaded(config)
    assert len(data.train) == robust.QUICK_TRAIN and robust.epochs(config, data) == {"epochs": 8}
    assert robust.epochs(dataclasses.replace(config, scale="standard"), data) == {}


# ---------------------------------------------------------------- the rules


def two(value):
    return [value, value + 0.01]


def test_the_rule_of_occlusion():
    def rows(**higher):
        """The ViT keeps 0.5 where it is ahead, else 0.3; the others 0.4."""
        return [
            {"model": m, "seed": s, "grid": g, "drop": "random", "fill": f, "share": share,
             "retained": (0.5 if (g, f) in higher["won"] else 0.3) if m == "vit" else 0.4}
            for m in ("vit", "cnn", MATCHED) for s in (0, 1) for g in ("aligned", "offset") for f in occlusion.FILLS
            for share in occlusion.SHARES
        ]  # fmt: skip

    everything = {(g, f) for g in ("aligned", "offset") for f in occlusion.FILLS}
    assert occlusion.judge(rows(won=everything))[0] == REPRODUCED
    assert occlusion.judge(rows(won=set()))[0] == NOT_HERE
    own = {("aligned", "black"), ("aligned", "mean")}
    assert occlusion.judge(rows(won=own))[0] == DEPENDS + "the grid (aligned only)"
    fill = {("aligned", "mean"), ("offset", "mean")}
    assert occlusion.judge(rows(won=fill))[0] == DEPENDS + "the fill (mean only)"
    both = DEPENDS + "the grid (aligned only) and the fill (black only)"
    assert occlusion.judge(rows(won={("aligned", "black")}))[0] == both
    assert occlusion.judge(rows(won=everything - {("offset", "black")}))[0] == DEPENDS + "grid and fill together"


def test_accuracy_by_what_is_left_of_the_object():
    objects = np.zeros((4, 4, 4), bool)
    objects[:, :2, :2] = True
    dropped = np.zeros((4, 4, 4), bool)
    dropped[1, 0, :2], dropped[2, :2, :2], dropped[3, 0, 0] = (
        True,
        True,
        True,
    )  # left: all, half, nothing, three quarters
    counts = occlusion._counted(np.array([True, True, False, False]), objects, dropped)
    assert counts["right by visible"].tolist() == [0, 0, 1, 1] and counts["images by visible"].tolist() == [1, 0, 1, 2]
    rows = [{"model": "vit", "fill": "mean", **counts}, {"model": "vit", "fill": "black", **counts}]
    np.testing.assert_array_equal(occlusion.by_visible(rows, "vit", fill="mean"), [0, np.nan, 1, 0.5])
    assert occlusion.by_visible([{"model": "vit"}], "vit") == [] and occlusion._counted(None, None, dropped) == {}


def test_the_rule_of_shuffle():
    def rows(won):
        return [
            {"model": m, "seed": s, "side": side, "grid": g, "whole patches": whole,
             "retained": (0.5 if (g, whole) in won else 0.3) if m == "vit" else 0.4}
            for m in ("vit", "cnn", MATCHED) for s in (0, 1) for side, whole in ((2, True), (3, False), (4, True))
            for g in ("aligned", "offset")
        ]  # fmt: skip

    kinds = {("aligned", True), ("offset", True), ("aligned", False)}
    assert shuffle.judge(rows(kinds))[0] == REPRODUCED and shuffle.judge(rows(set()))[0] == NOT_HERE
    assert shuffle.judge(rows({("aligned", True)}))[0] == DEPENDS + "the grid (whole patches only)"


def test_the_rule_of_corruptions():
    def rows(won):
        return [
            {"model": m, "seed": s, "family": family, "corruption": name, "severity": level, "accuracy": 0.5,
             "retained": (0.5 if family in won else 0.3) if m == "vit" else 0.4}
            for m in ("vit", "cnn", MATCHED) for s in (0, 1) for name, family in corruptions.FAMILY.items()
            for level in corruptions.SEVERITIES
        ]  # fmt: skip

    assert corruptions.judge(rows(set(corruptions.CORRUPTIONS)))[0] == REPRODUCED
    assert corruptions.judge(rows(set()))[0] == NOT_HERE
    words = "the family: ViT ahead in noise and blur, CNN in digital and weather and geometry"
    assert corruptions.judge(rows({"noise", "blur"}))[0] == DEPENDS + words
    assert "errors are 1.00 of the CNN's" in corruptions.judge(rows(set()))[1]
    assert corruptions.corruption_error([0.1, 0.2], [0.2, 0.4]) == pytest.approx(0.5)


def test_the_rule_of_fourier_and_of_the_dct():
    def rings(vit, cnn, matched):
        values = {"vit": two(vit), "cnn": two(cnn), MATCHED: two(matched)}
        return [
            {"model": m, "seed": s, "rings": [0.1, 0.1, 0.1, v[s]], "clean error": 0.1}
            for m, v in values.items()
            for s in (0, 1)
        ]

    assert fourier.judge(rings(0.1, 0.3, 0.2))[0] == REPRODUCED and fourier.judge(rings(0.3, 0.3, 0.2))[0] == NOT_HERE
    assert (
        fourier.judge(rings(0.2, 0.3, 0.1))[0]
        == DEPENDS + "clean accuracy: the ViT leads only a CNN trained to the end"
    )
    assert fourier.judge(rings(0.2, 0.1, 0.3))[0].endswith("stopped early")

    def even(vit, cnn, matched):
        values = {"vit": two(vit), "cnn": two(cnn), MATCHED: two(matched)}
        return [
            {"model": m, "seed": s, "evenness": v[s], "bands": [0.25] * 4, "length": 1.0}
            for m, v in values.items()
            for s in (0, 1)
        ]

    assert dct.judge(even(0.5, 0.3, 0.2))[0] == REPRODUCED and dct.judge(even(0.2, 0.3, 0.3))[0] == NOT_HERE
    assert dct.judge(even(0.3, 0.2, 0.4))[0] == DEPENDS + "how long the CNN was trained"


def test_the_rule_of_adversarial():
    def rows(vit, cnn, matched, told=()):
        values = {"vit": two(vit), "cnn": two(cnn), MATCHED: two(matched)}
        found = [
            {"part": "pgd", "model": m, "seed": s, "radius": r, "retained": v[s]}
            for m, v in values.items() for s in (0, 1) for r in adversarial.RADII
        ]  # fmt: skip
        found += [{"part": "masking", "model": m, "seed": 0, "suspicions": ["x"] if m in told else []} for m in values]
        hard = {"part": "hard set", "judge": "cnn", "model": "vit", "seed": 0, "images": 3, "accuracy": 1 / 3}
        return [*found, hard]

    assert (
        adversarial.judge(rows(0.5, 0.4, 0.3))[0] == REPRODUCED
        and adversarial.judge(rows(0.3, 0.4, 0.3))[0] == NOT_HERE
    )
    assert adversarial.judge(rows(0.4, 0.3, 0.5))[0] == DEPENDS + "the CNN's clean accuracy"
    verdict, said = adversarial.judge(rows(0.5, 0.4, 0.3, told=("vit",)))
    assert verdict == DEPENDS + "the attack: a gradient may be hidden" and "signs of a hidden gradient in vit" in said
    assert adversarial.judge(rows(0.5, 0.4, 0.3, told=("linear",)))[0] == REPRODUCED
    assert "images that every other cnn gets wrong the vit is right in 0.33" in said


def test_a_hard_set_is_never_chosen_by_the_model_that_is_asked():
    rng = np.random.default_rng(0)
    pixels = rng.random((30, 8, 8, 1)).astype(np.float32)
    labels = rng.integers(0, 10, 30)
    found = [
        robust.Subject(name, seed, drawn(name, seed), pixels, labels, 0.1)
        for name in ("vit", "cnn")
        for seed in (0, 1, 2)
    ]
    rows = adversarial._hard(found)
    assert len(rows) == 2 * 6
    for row in rows:
        others = [s for s in found if s.name == row["judge"] and s.seed != row["seed"]]
        wrong = np.logical_and.reduce([robust.logits(s.model, pixels).argmax(1) != labels for s in others])
        assert len(others) == 2 and row["images"] == wrong.sum()
    assert adversarial._hard(found[:1]) == []  # one seed: none other to judge
