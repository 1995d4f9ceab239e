"""The relatives have the ViT's budget, and the verdict on them follows its rule."""

import dataclasses

import pytest

import minivit as mv
from minivit.engine.errors import ConfigError, DataError
from minivit.studies import mixer_fnet, relatives, report
from minivit.studies.report import DEPENDS, NOT_HERE, REPRODUCED, Config


@pytest.mark.parametrize("name", ["digits", "twin", "shapes"])
def test_relatives_have_as_many_parameters_and_the_same_patches(name):
    options = {"n_train": 1, "n_val": 1, "n_test": 1} if name != "digits" else {}
    data = mv.data.load(name, **options)
    vit = mv.create(f"vit_{name}")
    for relative in relatives.RELATIVES:
        preset, sizes = relatives.sizes(relative, data)
        h, _ = data.image_size
        model = mv.create(preset, image_size=h, in_channels=data.in_channels, num_classes=data.num_classes, **sizes)
        unit = len(model.blocks) * (2 * model.config["dim"] + 1)  # parameters of one more hidden feature
        assert abs(model.num_parameters() - vit.num_parameters()) <= unit / 2 < 0.01 * vit.num_parameters()
        if relative == "mixer":
            assert model.blocks[0].mlp_tokens.fc1.weight.shape == (
                model.grid[0] * model.grid[1],
                vit.config["dim"] // 2,
            )
        assert (
            model.grid == vit.grid and len(model.blocks) == len(vit.blocks) and model.config["dim"] == vit.config["dim"]
        )
    assert model.config["mixing"] == "none"


def test_an_unknown_relative_is_named():
    with pytest.raises(ConfigError, match="did you mean 'fnet'"):
        relatives.sizes("fnett", mv.data.load("digits"))


def rows(data="digits", chance=0.1, **accuracies):
    names = {"grid": "fnet, grid", "none": "no mixing"}
    return [
        {"data": data, "model": names.get(m, m), "seed": s, "accuracy": a, "chance": chance}
        for m, values in accuracies.items()
        for s, a in enumerate(values)
    ]


def test_the_rule():
    good = {"vit": [0.9, 0.9], "mixer": [0.85, 0.8], "fnet": [0.5, 0.8], "grid": [0.8, 0.5], "none": [0.5, 0.5]}
    verdict, said = mixer_fnet.judge(rows(**good))
    assert verdict == REPRODUCED and "digits: vit 90.0 ± 0.0, mixer 82.5 ± 3.5" in said and "less than ten" not in said
    assert mixer_fnet.judge(rows(**good | {"mixer": [0.85, 0.7]}))[0] == NOT_HERE  # under 80 % above chance in one seed
    assert mixer_fnet.judge(rows(**good | {"none": [0.5, 0.8]}))[0] == NOT_HERE  # mixing is worth nothing in one seed
    verdict, said = mixer_fnet.judge(rows(**good) + rows("twin", 0.25, **good | {"mixer": [0.3, 0.3]}))
    assert verdict == DEPENDS + "the task: so on digits"
    flat = good | {"none": [0.85, 0.85]}
    assert "On twin a ViT gains less than ten points" in mixer_fnet.judge(rows(**good) + rows("twin", **flat))[1]


def test_missing_data_are_said():
    found = rows(vit=[0.9], mixer=[0.9], fnet=[0.9], grid=[0.9], none=[0.5])
    assert "not here: mnist." in mixer_fnet.judge([*found, {"data": "mnist", "model": None, "missing": "?"}])[1]


def test_the_times_of_mixing():
    found = mixer_fnet.mixing_seconds(16, dim=8, heads=2, repeats=1)
    assert set(found) == {"attention", "fourier"} and min(found.values()) > 0
    rows_ = [
        {"data": None, "model": None, "tokens": t, "attention": 2.0, "fourier": f} for t, f in ((64, 3.0), (256, 1.0))
    ]
    found = rows(vit=[0.9], mixer=[0.9], fnet=[0.9], grid=[0.9], none=[0.5])
    assert "faster than attention from 256 tokens on" in mixer_fnet.judge([*found, *rows_])[1]
    assert "faster than attention" not in mixer_fnet.judge([*found, *rows_[:1]])[1]


def test_from_run_to_figure(monkeypatch, tmp_path):
    data = mv.data.load("digits")
    model = mv.create("linear", image_size=8, in_channels=1, num_classes=10)
    mv.fit(model, data, progress=False, epochs=2, lr=1e-2)
    monkeypatch.setattr(mixer_fnet, "contestants", lambda config, data, seed, kinds: dict.fromkeys(kinds, model))
    monkeypatch.setattr(mixer_fnet, "DATA", {"standard": ("digits", "mnist")})
    monkeypatch.setattr(mixer_fnet, "TOKENS", (16, 32))
    config = Config("mixer-fnet", seeds=(0, 1), folder=str(tmp_path))
    real = mixer_fnet.loaded

    def loaded(config):
        if config.data == "mnist":
            raise DataError("mnist: no files")
        return real(config)

    monkeypatch.setattr(mixer_fnet, "loaded", loaded)
    result = mixer_fnet.run(config)
    assert [r["model"] for r in result.rows if r["model"]] == [*mixer_fnet.MODELS["standard"]] * 2
    assert result.verdict == NOT_HERE and "not here: mnist." in result.said and "From 2 seeds" in result.said
    report.save(result, tmp_path / "result.json")
    alt = report.draw(mixer_fnet, report.load(tmp_path / "result.json"), tmp_path / "figure.png")
    assert 10 <= len(alt.split()) <= 60 and "chance 10" in alt
    with pytest.raises(DataError, match="no files"):  # asked for, it is not left out
        mixer_fnet.run(dataclasses.replace(config, data="mnist"))
    with pytest.raises(ConfigError, match="no use for --checkpoint"):
        mixer_fnet.run(dataclasses.replace(config, checkpoints=("x",)))
