"""Position similarity and patch filters where the answer is known, and the whole study on a few digits."""

import numpy as np
import pytest

import minivit as mv
from minivit import studies
from minivit.engine.errors import ConfigError, ShapeError
from minivit.nn.patches import sincos_2d
from minivit.studies import positions as study
from minivit.studies import report
from minivit.studies.attention_distance import pair_distances
from minivit.studies.report import Config


def test_similarity_is_the_cosine(rng):
    p = rng.standard_normal((6, 8)).astype(np.float32)
    expected = [[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in p.astype(float)] for a in p.astype(float)]
    np.testing.assert_allclose(study.similarity(p), expected, atol=1e-12)
    np.testing.assert_allclose(study.similarity(p + 100, centre=True), study.similarity(p, centre=True), atol=1e-4)
    assert study.similarity(np.zeros((3, 4))).max() == 0


def test_nearness_of_maps_that_are_known(rng):
    grid = (4, 5)
    d = pair_distances(grid)
    assert study.nearness(-d, grid) == pytest.approx(1) and study.nearness(d, grid) == pytest.approx(-1)
    assert study.nearness(np.ones_like(d), grid) == 0
    assert abs(study.nearness(study.similarity(rng.standard_normal((20, 400))), grid)) < 0.2
    assert study.nearness(study.similarity(sincos_2d(8, 8, 48, 100.0)), (8, 8)) > 0.3  # there before any training
    with pytest.raises(ShapeError, match="do not fit a grid of 4×4"):
        study.nearness(d, (4, 4))


def test_rows_and_columns_against_the_rest():
    grid = (6, 6)
    row, column = np.divmod(np.arange(36), 6)
    line = ((row[:, None] == row) | (column[:, None] == column)).astype(float)
    assert study.line_advantage(0.3 * line - pair_distances(grid), grid) == pytest.approx(0.3)
    assert study.line_advantage(np.zeros((16, 16)), (4, 4)) is None  # no two pairs to compare


def test_tiles_are_the_paper_s():
    table = np.arange(36).reshape(6, 6)
    sheet = study.tiles(table, (2, 3))
    assert sheet.shape == (4, 9)
    np.testing.assert_array_equal(sheet[2:, 3:6], table[1 * 3 + 1].reshape(2, 3))  # the patch in row 1, column 1


def test_filters_are_principal_components(rng):
    basis = np.linalg.qr(rng.standard_normal((12, 3)))[0]
    weight = basis @ np.diag([9, 3, 1]) @ np.linalg.qr(rng.standard_normal((50, 3)))[0].T
    found = study.patch_filters(weight - weight.mean(axis=1, keepdims=True), (2, 2), 3)
    assert found.shape == (3, 2, 2, 3) and found.min() == 0 and found.max() == 1
    flat = found.reshape(3, -1)
    for one, expected in zip(flat, basis.T, strict=True):
        assert abs(np.corrcoef(one, expected)[0, 1]) == pytest.approx(1, abs=0.03)


def test_positions_of_patches_alone():
    model = mv.create("vit_digits", positions="learned", seed=1)
    assert study.of_model(model).shape == (16, 48)
    np.testing.assert_array_equal(study.of_model(model), model.pos_embed.numpy()[0, 1:])
    assert study.of_model(mv.create("vit_digits", pool="mean")).shape == (16, 48)
    for model in (mv.create("vit_digits", positions="none"), mv.create("resnet_digits")):
        with pytest.raises(ConfigError, match="no position embeddings"):
            study.of_model(model)


def rows(near, without, start="learned", before=0.0):
    made = []
    for seed, (a, b) in enumerate(zip(near, without, strict=True)):
        row = {"seed": seed, "state": "trained", "nearness": a, "line_advantage": None, "start": start, "accuracy": 0.9}
        made += [row, {**row, "state": "untrained", "nearness": before}, {"seed": seed, "state": "none", "accuracy": b}]
    return made


def test_the_verdict_has_two_halves():
    verdict, said = study.judge(rows([0.5, 0.4], [0.7, 0.8]))
    assert verdict == "reproduced" and "0.45 ± 0.07 after training, 0.00 ± 0.00 before" in said
    assert "15.0 ± 7.1 points" in said
    assert study.judge(rows([0.5, 0.2], [0.7, 0.8]))[0].startswith("depends on the half: positions are needed")
    assert study.judge(rows([0.5, 0.4], [0.7, 0.95]))[0].endswith("accuracy does not need it")
    assert study.judge(rows([0.1, 0.1], [0.7, 0.95]))[0] == "not at this scale"
    assert study.judge(rows([0.5, 0.5], [0.7, 0.8], before=0.3))[0].startswith("depends on")
    assert study.judge_map(rows([0.5], [0.5], "learned_sincos", 0.5))[0].startswith("depends on the start")


def test_the_study_on_a_few_digits(tmp_path, monkeypatch):
    monkeypatch.setitem(study.SCALES, "quick", {"data": "digits", "seeds": (0, 1), "options": {"epochs": 1}})
    result = studies.perform(Config("positions", scale="quick", folder=str(tmp_path)))
    assert [r["state"] for r in result.rows] == ["trained", "untrained", "none"] * 2
    assert abs(result.rows[1]["nearness"]) < 0.3
    report.save(result, tmp_path / "result.json")
    _, alt = study.plot(report.load(tmp_path / "result.json"))
    assert len(alt.split()) <= 60
    mv.save(mv.create("vit_digits"), tmp_path / "own.safetensors")
    again = studies.perform(Config("positions", checkpoints=(str(tmp_path / "own.safetensors"),)))
    assert again.verdict.startswith("depends on the start")
    study.plot(again)
    mv.save(mv.create("hybrid_32"), tmp_path / "hybrid.safetensors")
    study.plot(studies.perform(Config("positions", checkpoints=(str(tmp_path / "hybrid.safetensors"),))))
