"""Attention distance: exact for attention that is known, and the whole study on a few digits."""

import numpy as np
import pytest

import minivit as mv
from minivit import studies
from minivit.engine.errors import ConfigError, ShapeError
from minivit.studies import attention_distance as study
from minivit.studies import report
from minivit.studies.report import Config


def attention(rows, prefix=0):
    """One head's weights among patches, (1, 1, T, T), with a prefix that takes half of every row."""
    n = len(rows)
    full = np.zeros((1, 1, prefix + n, prefix + n))
    full[0, 0, prefix:, prefix:] = rows / (2 if prefix else 1)
    full[..., :prefix] = 0.5 / max(1, prefix)
    return full


@pytest.mark.parametrize(
    ("g", "p", "expected"), [(14, 16, 116.49), (8, 4, 16.546), (7, 4, 14.438), (16, 16, 133.22), (8, 8, 33.092)]
)
def test_uniform_attention_gives_the_table(g, p, expected):
    n = g * g
    assert study.uniform_distance((g, g), p) == pytest.approx(expected, abs=0.005)
    found = study.attention_distance(attention(np.full((n, n), 1 / n), 1), (g, g), p)
    assert found.shape == (1, 1) and found[0, 0] == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize("prefix", [0, 1, 5])
def test_identity_attention_has_no_distance(prefix):
    assert study.attention_distance(attention(np.eye(12), prefix), (3, 4), 16, prefix)[0, 0] == 0


def test_a_window_of_3_by_3_by_hand():
    """Inside (4 + 4√2)/9, at an edge (3 + 2√2)/6, in a corner (2 + √2)/4 patches."""
    d = study.pair_distances((5, 5))
    window = (d < 1.5) / (d < 1.5).sum(axis=1, keepdims=True)
    inside, edge, corner = (4 + 4 * 2**0.5) / 9, (3 + 2 * 2**0.5) / 6, (2 + 2**0.5) / 4
    expected = (9 * inside + 12 * edge + 4 * corner) / 25
    assert study.attention_distance(attention(window), (5, 5), 4, 0)[0, 0] == pytest.approx(4 * expected)


def test_what_goes_to_the_class_token_counts_only_if_asked():
    uniform = np.full((12, 12), 1 / 12)
    kept = study.attention_distance(attention(uniform, 2), (3, 4), 1, 2)
    counted = study.attention_distance(attention(uniform, 2), (3, 4), 1, 2, renormalise=False)
    np.testing.assert_allclose(counted, kept / 2)


def test_oblong_patches_and_grids():
    one_right = np.roll(np.eye(6), 1, axis=1)  # each patch looks at the next, row by row
    expected = (4 * 5 + 2 * np.hypot(3, 10)) / 6  # four within a row; two at its end, to the start of another
    assert study.attention_distance(attention(one_right), (2, 3), (3, 5), 0)[0, 0] == pytest.approx(expected)


def test_offsets_tell_the_neighbour_from_the_self():
    d = study.pair_distances((3, 3))
    right = np.eye(9, k=1) * (d == 1)
    right += np.diag(1 - right.sum(axis=1))  # at the right edge, itself
    found = study.by_offset(attention(right), (3, 3), 0)[0, 0]
    assert (
        found.shape == (5, 5)
        and found[2, 3] == 1
        and found[2, 2] == pytest.approx(1 / 3)
        and found.sum() == found[2].sum()
    )
    uniform = study.by_offset(attention(np.full((9, 9), 1 / 9)), (3, 3), 0)
    np.testing.assert_allclose(uniform, 1 / 9)


def test_a_wrong_grid_is_refused():
    with pytest.raises(ShapeError, match="12 tokens are not 1 in front of 3×4"):
        study.attention_distance(attention(np.eye(12)), (3, 4), 1, 1)


def test_of_model_reads_any_model_with_attention(rng):
    sizes = {
        "image_size": (8, 12),
        "patch_size": 4,
        "in_channels": 1,
        "num_classes": 3,
        "dim": 16,
        "depth": 2,
        "num_heads": 2,
    }
    images = rng.random((5, 8, 12, 1), np.float32)
    for model in (mv.ViT(**sizes), mv.ViT(**sizes, pool="mean", registers=2), mv.create("hybrid_32", **sizes)):
        near, offsets = study.of_model(model.eval(), images, batch_size=2)
        trace = mv.trace(model, images)
        by_hand = study.attention_distance(trace.attention[1], (2, 3), 4, model.num_prefix).mean(axis=0)
        np.testing.assert_allclose(near[1] * study.uniform_distance((2, 3), 4), by_hand, rtol=1e-5)
        assert near.shape == (2, 2) and offsets.shape == (2, 2, 3, 5) and np.abs(near - 1).max() < 0.1
    for model in (mv.create("resnet_digits"), mv.create("fnet_digits")):
        with pytest.raises(ConfigError, match="no patches|no attention"):
            study.of_model(model, rng.random((1, 8, 8, 1), np.float32))


def rows(*distances):
    made = [{"seed": i, "state": "trained", "distance": d} for i, d in enumerate(distances)]
    return made + [{**row, "state": "untrained", "distance": [[1.0, 1.0]] * 2} for row in made]


def test_the_verdict_needs_every_seed():
    near, far, flat = [[0.5, 1.0], [0.95, 1.0]], [[0.9, 0.9], [0.97, 0.98]], [[0.9, 1.0], [0.9, 1.0]]
    assert study.judge(rows(near, near))[0] == "reproduced"
    assert (
        study.judge(rows(far, near))[0] == "depends on the half: distance grows with depth, near heads there are none"
    )
    assert study.judge(rows(near, [[0.5, 1.0], [0.6, 0.7]]))[0].endswith("growth with depth not")
    verdict, said = study.judge(rows(flat, flat))
    assert verdict == "not at this scale" and "0.90 ± 0.00" in said and "0.10 ± 0.00 (untrained 0.00 ± 0.00)" in said


def test_the_study_on_a_few_digits(tmp_path, monkeypatch):
    monkeypatch.setitem(study.SCALES["quick"], "options", {"epochs": 1})
    result = studies.perform(Config("attention-distance", seeds=(0, 1), scale="quick", folder=str(tmp_path)))
    assert [(r["seed"], r["state"]) for r in result.rows] == [
        (0, "trained"),
        (0, "untrained"),
        (1, "trained"),
        (1, "untrained"),
    ]
    assert np.array(result.rows[0]["distance"]).shape == (3, 4) and np.array(result.rows[0]["offsets"]).shape == (7, 7)
    report.save(result, tmp_path / "result.json")
    fig, alt = study.plot(report.load(tmp_path / "result.json"))
    assert len(alt.split()) <= 60 and len(fig.axes) == 3
    # the same weights, as a checkpoint of the user's
    (folder,) = (tmp_path / "study-models").glob("vit-digits-s1-*")
    again = studies.perform(Config("attention-distance", scale="quick", checkpoints=(str(folder),)))
    np.testing.assert_allclose(again.rows[0]["distance"], result.rows[2]["distance"], rtol=1e-6)
