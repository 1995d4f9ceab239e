"""The loop: one seed gives one run, stopped or not; options do what they say; mistakes are named."""

import json
import os
import signal

import numpy as np
import pytest

import minivit as mv
from minivit.data.dataset import Dataset, Split
from minivit.training import loop

OPTIONS = {
    "epochs": 2,
    "batch_size": 32,
    "augment": "affine+erase",
    "ema": 0.9,
    "mixup": 0.2,
    "cutmix": 1.0,
    "patience": 5,
}


@pytest.fixture(scope="module")
def data():
    digits = mv.data.load("digits")
    parts = {"train": digits.train[:100], "val": digits.val[:40], "test": digits.test[:40]}
    text = {"class_names": digits.class_names, "description": "", "source": "", "license": ""}
    return Dataset(name="digits", **parts, **text)


def model(**options):
    return mv.create("vit_digits", dim=8, depth=2, seed=3, **options)


def run(data, folder=None, **options):
    net = model(drop_path=0.1, patch_dropout=0.2)
    result = mv.fit(net, data, out=folder, progress=False, **{**OPTIONS, **options})
    return net.state_dict(), result


def same(a, b):
    return all(np.array_equal(a[name], b[name]) for name in a)


def test_one_seed_one_run(data):
    first, result = run(data, workers=1)
    assert same(first, run(data, workers=2)[0])
    assert not same(first, run(data, seed=1)[0])
    assert [line["epoch"] for line in result.history] == [1, 2] and result.step == 8 and not result.interrupted


@pytest.mark.parametrize("at", [0, 1, 3, 4, 6])
def test_ctrl_c_saves_and_a_resume_ends_with_the_same_bits(at, data, tmp_path, monkeypatch):
    expected, _ = run(data)
    one_step = loop._Run._one_step

    def interrupted(self):
        if self.step == at:
            os.kill(os.getpid(), signal.SIGINT)
        return one_step(self)

    with monkeypatch.context() as patch:
        patch.setattr(loop._Run, "_one_step", interrupted)
        _, result = run(data, tmp_path)
    assert result.interrupted and result.step == at + 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    net = mv.load(tmp_path / "checkpoint.safetensors")
    result = mv.fit(net, data, out=tmp_path, resume=True, progress=False)
    assert same(net.state_dict(), expected) and not result.interrupted and len(result.history) == 2


def test_what_a_run_leaves_behind(data, tmp_path):
    weights, result = run(data, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == result.history
    assert set(lines[0]) == {
        "epoch", "step", "lr", "train_loss", "val_loss", "val_accuracy", "images_per_second", "seconds",
    }  # fmt: skip
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint.safetensors", "metrics.jsonl"]
    net = mv.load(tmp_path / "checkpoint.safetensors")
    assert same(net.state_dict(), weights) and net.meta["name"] == "digits" and len(net.meta["class_names"]) == 10
    again = mv.fit(net, data, out=tmp_path, resume=True, progress=False)  # already finished: nothing to do
    assert again.step == result.step and same(net.state_dict(), weights)


def test_early_stopping_goes_back_to_the_best(data):
    net = model()
    result = mv.fit(
        net, data, progress=False, epochs=40, batch_size=50, lr=0.3, patience=2
    )  # far too fast: it must get worse
    losses = [line["val_loss"] for line in result.history]
    assert len(losses) < 40 and len(losses) - 1 - int(np.argmin(losses)) == 2
    assert mv.evaluate(net, data.val)[0] == pytest.approx(min(losses), rel=1e-5)


def test_averaged_weights_are_what_a_finished_run_keeps(data):
    plain, averaged = run(data, ema=0.0, patience=0)[0], run(data, patience=0)[0]
    assert not same(plain, averaged)


def test_it_learns(data):
    net = model()
    with pytest.raises(mv.ConfigError, match="does not know how its images are standardised"):
        mv.evaluate(net, data.train)
    net.meta = {"mean": data.mean, "std": data.std}
    before = mv.evaluate(net, data.train)
    assert before[0] == pytest.approx(np.log(10), abs=1e-6)
    mv.fit(net, data, progress=False, epochs=40, batch_size=20, lr=0.01)
    assert mv.evaluate(net, data.train)[1] > 0.6


def test_predict_gives_probabilities(data):
    net = model()
    net.meta = {"mean": data.mean, "std": data.std}
    p = mv.predict(net, data.test.images, batch_size=7)
    assert p.shape == (40, 10) and net.training
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"epoch": 3}, "no option 'epoch'; did you mean 'epochs'"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"lr": -1}, "lr must not be negative"),
        ({"ema": 1.0}, "ema must be at least 0 and below 1"),
        ({"optimizer": "adam"}, "unknown optimizer 'adam'; choose adamw, sgd; did you mean 'adamw'"),
        ({"augment": "rotate"}, "unknown augmentation 'rotate'"),
        ({"resume": True}, "resume=True needs out="),
    ],
)
def test_mistakes_are_named(options, text, data):
    with pytest.raises(mv.ConfigError, match=text):
        mv.fit(model(), data, progress=False, **options)


def test_a_resume_cannot_change_its_mind(data, tmp_path):
    run(data, tmp_path)
    with pytest.raises(mv.ConfigError, match="started with lr=0.002; it cannot be resumed with lr=0.1"):
        mv.fit(model(drop_path=0.1, patch_dropout=0.2), data, out=tmp_path, resume=True, progress=False, lr=0.1)
    with pytest.raises(mv.CheckpointError, match="this run trains another model"):
        mv.fit(model(), data, out=tmp_path, resume=True, progress=False)
    other = Dataset("digits", data.train[:64], data.val, data.test, data.class_names, "", "", "")
    with pytest.raises(mv.CheckpointError, match="this run trains on"):
        mv.fit(model(drop_path=0.1, patch_dropout=0.2), other, out=tmp_path, resume=True, progress=False)
    mv.save(model(), tmp_path / "checkpoint.safetensors")
    with pytest.raises(mv.CheckpointError, match="no training run that could be resumed"):
        mv.fit(model(), data, out=tmp_path, resume=True, progress=False)


def test_a_run_that_diverges_says_so_and_keeps_its_checkpoint(data, tmp_path):
    bad = Split(data.train.images, data.train.labels)
    net = model()
    net.head.bias.data[0] = np.inf
    with pytest.raises(mv.NonFiniteError, match="Lower the learning rate"), np.errstate(all="ignore"):
        mv.fit(
            net, Dataset("digits", bad, data.val, data.test, data.class_names, "", "", ""), out=tmp_path, progress=False
        )
    assert (tmp_path / "checkpoint.safetensors").exists()
