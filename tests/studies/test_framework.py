"""What every study shares: what it is asked, what it answers, what it keeps, and the command that runs it."""

import dataclasses
import json
import types

import numpy as np
import pytest

import minivit as mv
from minivit import studies
from minivit.__main__ import main
from minivit.engine.errors import ConfigError, DataError
from minivit.studies import report, subjects
from minivit.studies.report import Config, Result, answer

FEW = {"epochs": 1, "batch_size": 64, "progress": False}


def found(config, **parts):
    told = {"finding": "A finding.", "paper": "as reported: 1 (somewhere)", "rows": [{"seed": 0, "value": 0.5}]}
    return answer(config, **(told | {"verdict": "reproduced", "said": "0.5 here."} | parts))


@pytest.fixture
def digits():
    """A few digits, under their own name."""
    data = mv.data.load("digits")
    return dataclasses.replace(data, train=data.train[:128], val=data.val[:32], test=data.test[:32])


@pytest.fixture
def fake(monkeypatch):
    """A study that trains nothing, known to the command; what it was asked is kept in `asked`."""
    module = types.ModuleType("minivit.studies.fake_one")
    module.asked = []

    def run(config):
        module.asked.append(config)
        mv.data.load(config.data or "digits")
        return found(config)

    def plot(result):
        from minivit import viz

        return viz.pictures([np.zeros((4, 4))]), f"A picture of {result.rows[0]['value']}."

    module.run, module.plot = run, plot
    monkeypatch.setitem(studies.STUDIES, "fake-one", "does the command work?")
    monkeypatch.setitem(__import__("sys").modules, "minivit.studies.fake_one", module)
    return module


# ---------------------------------------------------------------- Config, Result


def test_a_result_survives_its_file_with_numpy_inside(tmp_path):
    rows = [{"map": np.eye(2, dtype=np.float32), "mean": np.float64(0.25), "n": np.int64(3), "none": np.nan}]
    result = found(Config("fake-one", seeds=(1, 2)), rows=rows)
    report.save(result, tmp_path / "deep" / "result.json")
    assert report.load(tmp_path / "deep" / "result.json") == result
    assert result.rows == [{"map": [[1.0, 0.0], [0.0, 1.0]], "mean": 0.25, "n": 3, "none": None}]
    assert result.config["seeds"] == [1, 2] and "folder" not in result.config
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["result.json"]


def test_fewer_than_three_seeds_are_no_finding():
    assert found(Config("a", seeds=(0, 1, 2))).said == found(Config("a", checkpoints=("x",))).said == "0.5 here."
    assert found(Config("a", seeds=(4,))).said.endswith("From 1 seed: an illustration; a finding takes three.")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"study": "x"}', "\x00"])
def test_a_damaged_result_is_named(tmp_path, text):
    path = tmp_path / "result.json"
    path.write_text(text)
    with pytest.raises(DataError, match="result.json: not the result of a study"):
        report.load(path)
    with pytest.raises(DataError, match="there is no such result"):
        report.load(tmp_path / "none.json")


def test_only_three_kinds_of_verdict():
    for verdict in ("reproduced", "not at this scale", "depends on the fill"):
        assert found(Config("a"), verdict=verdict).verdict == verdict
    for verdict in ("failed", "depends on ", ""):
        with pytest.raises(ConfigError, match="verdict"):
            found(Config("a"), verdict=verdict)


def test_config_refuses_what_it_cannot_mean():
    with pytest.raises(ConfigError, match="did you mean 'quick'"):
        Config("a", scale="qick")
    for seeds in ((), (1, 1), (-1,)):
        with pytest.raises(ConfigError, match="seeds must be different"):
            Config("a", seeds=seeds)
    with pytest.raises(ConfigError, match="a: there is no use for --checkpoint in this study"):
        Config("a", checkpoints=("x",)).refuse("images", "checkpoints")
    with pytest.raises(ConfigError, match="a: there is no use for --images in this study"):
        Config("a", checkpoints=("x",), images="y").refuse("images")
    Config("a").refuse("images", "checkpoints", "data")


def test_defaults_fill_only_what_was_not_asked():
    config = Config("a", seeds=(0,)).with_defaults(seeds=(1, 2), data="digits")
    assert config.seeds == (0,) and config.data == "digits"


def test_spread_and_pairs():
    assert report.spread([1.0]) == "1.00" and report.spread([1, 2, 3], 1) == "2.0 ± 1.0"
    assert report.paired([1, 2, 3], [0, 2, 1]) == (1.0, 1.0) and report.paired([1], [0]) == (1.0, 0.0)
    assert report.steady([0.3, 0.4], [0.1, 0.2], 0.1) and not report.steady([0.3, 0.4], [0.1, 0.2], 0.3)
    assert not report.steady([0.9, 0.1], [0.1, 0.2], 0.1)  # one seed contradicts


# ---------------------------------------------------------------- models


def test_a_trained_model_is_kept_and_found_again(tmp_path, digits):
    config = Config("a", folder=str(tmp_path))
    first = subjects.trained(config, "vit", digits, 0, sizes={"depth": 1, "dim": 16}, epochs=1)
    stored = list((tmp_path / "study-models").iterdir())
    assert [p.name.rpartition("-")[0] for p in stored] == ["vit-digits-s0"] and not first.training
    stamp = (stored[0] / "metrics.jsonl").read_text()
    with subjects.earlier_training() as earlier:
        again = subjects.trained(config, "vit", digits, 0, sizes={"depth": 1, "dim": 16}, epochs=1)
    assert (stored[0] / "metrics.jsonl").read_text() == stamp  # nothing was trained again
    assert earlier == [json.loads(stamp.splitlines()[-1])["seconds"]]
    for a, b in zip(first.parameters(), again.parameters(), strict=True):
        assert np.array_equal(a.data, b.data)
    other = dataclasses.replace(digits, train=digits.train[:64])
    subjects.trained(config, "vit", digits, 1, sizes={"depth": 1, "dim": 16}, epochs=1)
    subjects.trained(config, "vit", other, 0, sizes={"depth": 1, "dim": 16}, epochs=1)
    subjects.trained(config, "vit", digits, 0, sizes={"depth": 1, "dim": 16}, epochs=1, lr=1e-4)
    assert len(list((tmp_path / "study-models").iterdir())) == 4


def test_an_interrupted_training_goes_on(tmp_path, digits, monkeypatch):
    config, sizes = Config("a", folder=str(tmp_path)), {"depth": 1, "dim": 16}
    whole = subjects.trained(
        dataclasses.replace(config, folder=str(tmp_path / "whole")), "vit", digits, 0, sizes, epochs=2
    )
    step = mv.TrainStep.__call__
    calls = []

    def interrupted(self, *args):
        calls.append(1)
        if len(calls) == 3:
            import signal

            signal.raise_signal(signal.SIGINT)
        return step(self, *args)

    monkeypatch.setattr(mv.TrainStep, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        subjects.trained(config, "vit", digits, 0, sizes, epochs=2)
    finished = subjects.trained(config, "vit", digits, 0, sizes, epochs=2)
    for a, b in zip(whole.parameters(), finished.parameters(), strict=True):
        assert np.array_equal(a.data, b.data)


def test_untrained_twin_has_the_same_start(digits):
    model, twin = (subjects.untrained("vit", digits, 3) for _ in range(2))
    assert not model.training and model.meta["class_names"] == [str(i) for i in range(10)]
    assert model.image_size == (8, 8) and model.config["seed"] == 3
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        assert np.array_equal(a.data, b.data)


# ---------------------------------------------------------------- the user's own weights and pictures


def test_weights_and_pictures_of_the_user(tmp_path, digits):
    from PIL import Image

    model = subjects.untrained("vit", digits, 0)
    mv.save(model, tmp_path / "own.safetensors")
    folder = tmp_path / "pictures" / "deeper"
    folder.mkdir(parents=True)
    for i in range(3):
        Image.fromarray(np.full((20, 30), 80 * i, np.uint8)).save(folder / f"{i}.png")
    (folder / "notes.txt").write_text("no picture")
    config = Config("a", checkpoints=(str(tmp_path / "own.safetensors"),), images=str(tmp_path / "pictures"))
    (opened,) = subjects.opened(config)
    images = subjects.pictures(config, opened, 2)
    assert images.shape == (2, 8, 8, 1) and images.dtype == np.float32
    assert images[0].max() < images[1].min()
    assert subjects.pictures(dataclasses.replace(config, images=None), opened, 5).shape == (5, 8, 8, 1)  # of the digits
    with pytest.raises(ConfigError, match="the model reads"):
        subjects.pictures(dataclasses.replace(config, images=None, data="twin"), opened, 5)
    opened.meta = None
    with pytest.raises(ConfigError, match="name a folder with --images"):
        subjects.pictures(dataclasses.replace(config, images=None), opened, 5)
    with pytest.raises(DataError, match="there is no such folder"):
        subjects.pictures(dataclasses.replace(config, images="nowhere"), opened, 5)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        subjects.pictures(dataclasses.replace(config, images=str(tmp_path / "empty")), opened, 5)
    with pytest.raises(ConfigError, match="does not exist"):
        subjects.opened(Config("a", checkpoints=("nothing.safetensors",)))
    with pytest.raises(ConfigError, match="no use for --seeds with --checkpoint"):
        subjects.opened(dataclasses.replace(config, seeds=(0,)))


def test_weights_that_a_study_cannot_look_at_are_named(tmp_path, digits):
    mv.save(subjects.untrained("linear", digits, 0), tmp_path / "linear.safetensors")
    for name in ("locality", "attention-distance", "cka", "positions", "rollout", "faithfulness"):
        with pytest.raises(ConfigError, match="LinearClassifier has n"):
            studies.study(name).run(Config(name, scale="quick", checkpoints=(str(tmp_path / "linear.safetensors"),)))


def test_weights_that_say_nothing_of_their_images_are_prepared_as_elsewhere(tmp_path, digits):
    """By ½, which is noted as assumed; a model made here must say."""
    model = subjects.untrained("vit", digits, 0)
    model.meta = None
    with pytest.raises(ConfigError, match="does not know how its images are standardised"):
        subjects.preparation(model)
    mv.save(model, tmp_path / "own.safetensors")
    (opened,) = subjects.opened(Config("a", checkpoints=(str(tmp_path / "own.safetensors"),)))
    assert subjects.preparation(opened) == (0.5, 0.5) and "preprocess" in opened.source.assumed


# ---------------------------------------------------------------- the command


def call(capsys, *argv):
    capsys.readouterr()
    code = main(["study", *map(str, argv)])
    return code, *capsys.readouterr()


def test_the_command_lists_the_studies(capsys, fake):
    code, out, _ = call(capsys)
    assert code == 0 and "fake-one             does the command work?\n" in out
    for name in studies.STUDIES:
        assert f"{name} " in out


def test_the_command_prints_the_verdict_and_writes_both_files(capsys, fake, tmp_path):
    from PIL import Image

    code, out, err = call(capsys, "fake-one", "--quick", "--seeds", 3, 4, "--out", tmp_path / "r")
    assert code == 0 and err == ""
    assert (
        "verdict  reproduced\n" in out
        and "here     0.5 here. From 2 seeds: an illustration; a finding takes three.\n" in out
        and "paper    as reported: 1" in out
    )
    assert fake.asked[0].scale == "quick" and fake.asked[0].seeds == (3, 4)
    result = report.load(tmp_path / "r" / "study-fake-one" / "result.json")
    assert isinstance(result, Result) and result.machine["cores"] >= 1 and result.seconds >= 0
    assert result.command == "minivit study fake-one --seeds 3 4 --quick"
    with Image.open(tmp_path / "r" / "study-fake-one" / "figure.png") as picture:
        assert picture.info["Description"] == "A picture of 0.5."


@pytest.mark.parametrize(
    "argv, words",
    [
        (["fake-oen"], "unknown study 'fake-oen'; did you mean 'fake-one'?"),
        (["fake-one", "--data", "digit"], "unknown data set 'digit'; did you mean 'digits'?"),
        (["fake-one", "--quick", "--full"], "choose one of --quick and --full"),
        (["fake-one", "--seeds", "one"], "'one' is not a whole number"),
        (["fake-one", "--seeds", "1", "1"], "seeds must be different"),
        (["fake-one", "--checkpoint", "nothing"], "nothing does not exist"),
        (["fake-one", "--images", "."], "there is no use for --images without --checkpoint"),
        (["fake-one", "--set", "a=1"], "there is no use for --set without --checkpoint"),
        (["fake-one", "--out", __file__], "is a file; name a folder"),
        (["fake-one", "--qick"], "unknown option '--qick'; did you mean '--quick'?"),
    ],
)
def test_the_command_refuses_in_one_line(capsys, fake, argv, words):
    code, _, err = call(capsys, *argv)
    assert code == 2 and words in err and err.count("\n") == 1


def test_every_study_in_the_table_has_its_file():
    for name in studies.STUDIES:
        module = studies.study(name)
        assert callable(module.run) and callable(module.plot) and module.__doc__
