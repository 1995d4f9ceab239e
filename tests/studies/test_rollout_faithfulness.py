"""Maps against what truly matters: exact where the truth is built in, and both studies after a moment of training."""

import numpy as np
import pytest

import minivit as mv
from minivit import studies, viz
from minivit.engine.errors import ConfigError
from minivit.nn.module import Module, Parameter
from minivit.studies import faithfulness, report, rollout
from minivit.studies.report import Config

SIZES = {"image_size": 8, "patch_size": 4, "in_channels": 2, "num_classes": 3, "dim": 16, "depth": 2, "num_heads": 2}


class OnePatch(Module):
    """Answers by the mean of one patch of 4×4 pixels alone, and says nothing of the others."""

    patch_size = (4, 4)

    def __init__(self, where):
        self.where, self.weight = where, Parameter(np.array([[1.0, -1.0]], np.float32))

    def forward(self, images):
        row, column = divmod(self.where, images.shape[2] // 4)
        patch = self.as_input(images)[:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        return patch.mean(axis=(1, 2, 3)).reshape(-1, 1) @ self.weight


@pytest.fixture
def images(rng):
    return rng.random((6, 8, 8, 2), np.float32)


@pytest.fixture
def model(rng):
    vit = mv.ViT(**SIZES).eval()
    vit.head.weight.data += rng.standard_normal((16, 3), np.float32)
    for p in vit.parameters():
        p.data += 0.1 * rng.standard_normal(p.shape, np.float32)
    return vit


# ---------------------------------------------------------------- rollout


def test_rollout_of_attention_that_is_known():
    """Identity stays identity; uniform gives ½ⁿ to the token itself beyond the uniform share of the rest."""
    n = 5
    np.testing.assert_allclose(viz.rollout([np.eye(n)[None, None]] * 3)[0], np.eye(n), atol=1e-12)
    found = viz.rollout([np.full((1, 2, n, n), 1 / n)] * 3)[0]
    np.testing.assert_allclose(found, np.eye(n) / 8 + (1 - 1 / 8) / n, atol=1e-12)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-12)


def test_class_maps_are_the_row_of_the_token_that_answers(model, images):
    trace = mv.trace(model, images)
    maps = rollout.class_maps(model, images)
    np.testing.assert_allclose(maps["attention"], 5 * trace.attention[1].mean(axis=1)[:, 0, 1:], rtol=1e-5)
    steps = [0.5 * (a.mean(axis=1) + np.eye(5)) for a in trace.attention]
    np.testing.assert_allclose(maps["rollout"], 5 * (steps[1] @ steps[0])[:, 0, 1:], rtol=1e-5)
    pooled = mv.ViT(**SIZES, pool="mean").eval()
    by_hand = 4 * mv.trace(pooled, images).attention[1].mean(axis=(1, 2))
    np.testing.assert_allclose(rollout.class_maps(pooled, images)["attention"], by_hand, rtol=1e-5)
    with pytest.raises(ConfigError, match="no attention to look at"):
        rollout.class_maps(mv.create("fnet_digits"), np.zeros((1, 8, 8, 1), np.float32))


def test_cut_paints_over_whole_patches(images):
    removed = np.zeros((6, 4), bool)
    removed[:, 1] = True
    found = rollout.cut(images, removed, (4, 4), [7, 8])
    assert (found[:, :4, 4:] == [7, 8]).all()
    found[:, :4, 4:] = images[:, :4, 4:]
    assert np.array_equal(found, images) and found.dtype == np.float32


def test_by_removal_finds_the_one_patch_that_matters(images):
    chosen, falls = rollout.by_removal(OnePatch(2), images, 0.0)
    assert np.array_equal(chosen, np.tile(np.arange(4), (6, 1)))
    assert (falls[:, 2] > 0).all() and np.abs(np.delete(falls, 2, axis=1)).max() == 0
    mean = images[:, 4:, :4].mean(axis=(1, 2, 3)).astype(float)
    np.testing.assert_allclose(falls[:, 2], np.log(2) - np.log1p(np.exp(-2 * mean)), rtol=1e-5)
    chosen, falls = rollout.by_removal(OnePatch(2), images, 0.0, most=3)
    assert chosen.shape == falls.shape == (6, 3) and (np.diff(chosen) > 0).all()


def test_rank_correlation_by_hand():
    a = np.array([[1.0, 2, 3, 4], [1, 2, 3, 4], [1, 1, 2, 2], [5, 5, 5, 5]])
    b = np.array([[10.0, 20, 30, 99], [4, 3, 2, 1], [1, 2, 3, 4], [1, 2, 3, 4]])
    np.testing.assert_allclose(rollout.rank_correlation(a, b), [1, -1, 2 / 5**0.5, 0], atol=1e-12)


def test_the_verdict_of_rollout_needs_both_measures():
    others = ("attention", "untrained rollout", "average rollout")

    def rows(by_gradient):
        row = {f"{k}, {by}": 0.1 for k in others for by in ("removal", "gradient")}
        return [row | {"rollout, removal": 0.3, "rollout, gradient": g} for g in by_gradient]

    assert rollout.judge(rows([0.3, 0.4]))[0] == "reproduced"
    verdict, said = rollout.judge(rows([0.3, 0.0]))
    assert verdict == "not at this scale" and "rollout 0.15 ± 0.21, attention 0.10 ± 0.00" in said
    same = [row | {"average rollout, removal": 0.3} for row in rows([0.3, 0.4])]
    assert rollout.judge(same)[0] == "not at this scale"  # the same map for every image does as well


# ---------------------------------------------------------------- faithfulness


def test_orders():
    assert faithfulness.order(np.array([[0.1, 0.5, 0.1, 0.9]])).tolist() == [[3, 1, 0, 2]]
    centre = faithfulness.from_centre((3, 3), 2)
    assert centre.shape == (2, 9) and centre[0, 0] == 4 and set(centre[1, 1:5]) == {1, 3, 5, 7}


def test_answers_fall_exactly_where_the_one_patch_goes():
    images = np.ones((2, 8, 8, 1), np.float32) * np.array([1, -1], np.float32)[:, None, None, None]
    removal = np.tile([3, 2, 0, 1], (2, 1))
    black = np.array([-5.0])
    kept = faithfulness.kept_answers(OnePatch(2), images, removal, [0, 1, 2, 3], "black", black)
    assert kept.tolist() == [1, 1, 0.5, 0.5]  # black turns the bright one over
    kept = faithfulness.kept_answers(OnePatch(2), images, np.full((2, 1), 2), [0, 1], "mean", black)
    assert kept.tolist() == [1, 0.5]  # with a mean of 0, both logits are equal, and the first counts


def test_tokens_that_are_left_out_are_never_seen(rng, model, images):
    none = np.zeros((6, 4), bool)
    np.testing.assert_allclose(faithfulness.without_tokens(model, images, none, 4), model(images).numpy(), atol=1e-5)
    removed = none.copy()
    removed[np.arange(6), rng.integers(0, 4, 6)] = True
    found = faithfulness.without_tokens(model, images, removed)
    other = rollout.cut(images, removed, (4, 4), 9.0)
    np.testing.assert_allclose(faithfulness.without_tokens(model, other, removed), found, atol=1e-6)
    assert np.abs(found - model(images).numpy()).max() > 1e-3
    all_but_one = np.ones((6, 4), bool)
    all_but_one[:, 3] = False
    assert faithfulness.without_tokens(model, images, all_but_one).shape == (6, 3)


def test_two_tokens_of_equal_value_can_trade_all_their_attention():
    weights, values = np.array([0.6, 0.1, 0.3]), np.array([[1.0], [1.0], [5.0]])
    np.testing.assert_allclose(faithfulness.another_map(weights, values), [0, 0.7, 0.3], atol=1e-12)


def test_other_weights_give_the_same_output(rng):
    for t, d in ((17, 12), (40, 8)):
        weights = rng.dirichlet(np.ones(t))
        values = rng.standard_normal((t, d))
        found = faithfulness.another_map(weights, values)
        assert found.min() >= 0 and found.sum() == pytest.approx(1, abs=1e-12)
        np.testing.assert_allclose(found @ values, weights @ values, atol=1e-12)
        assert 0.5 * np.abs(found - weights).sum() > 0.05 and found[weights.argmax()] < weights.max()
    weights, values = rng.dirichlet(np.ones(9)), rng.standard_normal((9, 8))
    np.testing.assert_allclose(faithfulness.another_map(weights, values), weights)  # nothing is free


def test_two_maps_of_a_model(model, images):
    found = faithfulness.two_maps(model, images, count=20)
    assert found["output"] < 1e-5 and 0 <= found["moved"] <= 1 and found["moved_layer"] in (0, 1)


def rows(attention, average):
    """Three seeds in which both maps keep these shares, first and last, against controls at one half and `average`."""
    made = []
    for seed in range(3):
        for fill in ("black", "mean"):
            for way, sign in (("most first", 1), ("least first", -1)):
                areas = dict.fromkeys(("random", "centre", "untrained"), 0.5)
                areas |= dict.fromkeys(faithfulness.MAPS, 0.5 - sign * attention)
                areas |= {f"average {name}": 0.5 - sign * average for name in faithfulness.MAPS}
                made += [{"seed": seed, "order": k, "fill": fill, "way": way, "area": v} for k, v in areas.items()]
        made.append({"seed": seed, "order": None, "moved": 0.1, "output": 1e-7})
    return made


def test_the_verdict_of_faithfulness():
    verdict, said = faithfulness.judge(rows(0.3, 0.1))
    assert verdict == "reproduced" and "attention 0.20 ± 0.00 and 0.80 ± 0.00" in said
    assert faithfulness.judge(rows(0.3, 0.3))[0] == "not at this scale"  # no better than the same map for every image
    assert faithfulness.judge(rows(0.0, 0.0))[0] == "not at this scale"
    mixed = rows(0.3, 0.1)
    for row in mixed:
        if row["order"] == "attention":
            row["area"] = 0.5
    assert faithfulness.judge(mixed)[0].endswith("only: rollout, most first; rollout, least first")
    for row in mixed:
        if row["order"] == "rollout" and row["fill"] == "mean":
            row["area"] = 0.5
    assert "2 of 8 combinations" in faithfulness.judge(mixed)[0]


@pytest.mark.parametrize("module", [rollout, faithfulness])
def test_the_studies_after_a_moment_of_training(tmp_path, monkeypatch, module):
    name = module.__name__.rpartition(".")[2]
    small = {
        "data": "twin",
        "seeds": (0,),
        "images": 12,
        "pictures": 3,
        "steps": 4,
        "options": {"epochs": 1, "batch_size": 500},
    }
    monkeypatch.setitem(module.SCALES, "quick", small)
    result = studies.perform(Config(name, scale="quick", folder=str(tmp_path)))
    report.save(result, tmp_path / "result.json")
    _, alt = module.plot(report.load(tmp_path / "result.json"))
    assert 10 < len(alt.split()) <= 60
    (folder,) = (tmp_path / "study-models").iterdir()
    again = studies.perform(Config(name, scale="quick", checkpoints=(str(folder),)))
    assert again.rows[-1]["seed"] == 0
    module.plot(again)
