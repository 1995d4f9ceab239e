"""Exact facts of attacks: inside their ball, along the true gradient, and what a hidden gradient looks like."""

import math

import numpy as np
import pytest

import minivit as mv
from minivit.engine.errors import ConfigError
from minivit.studies import adversarial
from minivit.studies.robust import logits

META = {"mean": [0.4, 0.5], "std": [0.25, 0.2]}


def randomised(model, scale=0.3):
    rng = np.random.default_rng(1)
    model.load_state_dict({n: a + scale * rng.standard_normal(a.shape) for n, a in model.state_dict().items()})
    model.meta = META
    return model.eval()


@pytest.fixture
def vit():
    return randomised(mv.ViT(8, 4, 2, 5, dim=8, depth=2, num_heads=2).astype("float64"))


@pytest.fixture
def linear():
    return randomised(mv.create("linear", image_size=8, in_channels=2, num_classes=5).astype("float64"))


@pytest.fixture
def pixels(rng):
    return rng.random((12, 8, 8, 2))


@pytest.fixture
def labels(rng):
    return rng.integers(0, 5, 12)


def losses(model, pixels, labels):
    said = logits(model, pixels)
    return np.log(np.exp(said).sum(axis=1)) - said[np.arange(len(said)), labels]


@pytest.mark.parametrize("kind", ["vit", "linear"])
def test_the_gradient_is_that_of_each_image_alone(kind, pixels, labels, request, rng):
    """Against differences of the loss, through the standardising; and no image's depends on the batch."""
    model = request.getfixturevalue(kind)
    slope = adversarial.loss_gradient(model, pixels, labels)
    direction = rng.standard_normal(pixels.shape)
    h = 1e-6
    difference = losses(model, pixels + h * direction, labels) - losses(model, pixels - h * direction, labels)
    np.testing.assert_allclose((slope * direction).sum(axis=(1, 2, 3)), difference / (2 * h), rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(adversarial.loss_gradient(model, pixels[3:4], labels[3:4]), slope[3:4], rtol=1e-9)
    assert all(p.grad is None for p in model.parameters())


def test_batches_change_nothing(vit, pixels, labels, monkeypatch):
    whole = adversarial.loss_gradient(vit, pixels, labels)
    monkeypatch.setattr(adversarial, "BATCH", 5)
    np.testing.assert_allclose(adversarial.loss_gradient(vit, pixels, labels), whole, rtol=1e-9)


def test_fgsm_is_one_step_of_pgd_over_the_whole_radius(vit, pixels, labels):
    slope = adversarial.loss_gradient(vit, pixels, labels)
    expected = np.clip(pixels + 0.1 * np.sign(slope), 0, 1)
    np.testing.assert_array_equal(adversarial.fgsm(vit, pixels, labels, 0.1), expected)
    np.testing.assert_array_equal(adversarial.pgd(vit, pixels, labels, 0.1, steps=1, step_size=0.1), expected)


@pytest.mark.parametrize("steps", [1, 4, 20])
@pytest.mark.parametrize("start", [None, 0])
@pytest.mark.parametrize("radius", [0.0, 0.03, 0.5])
def test_pgd_stays_in_its_ball_and_in_the_image(vit, pixels, labels, radius, start, steps):
    rng = None if start is None else np.random.default_rng(start)
    pixels = pixels.astype(np.float32)
    found = adversarial.pgd(vit, pixels, labels, radius, steps, rng=rng)
    assert found.dtype == np.float32 and np.abs(found - pixels).max() <= radius + 1e-7
    assert found.min() >= 0 and found.max() <= 1
    if radius:
        assert losses(vit, found, labels).mean() > losses(vit, pixels, labels).mean()


def test_more_steps_find_more(vit, pixels, labels):
    """With steps of one size the mean loss does not fall, up to the radius and beyond."""
    found = [pixels, *(adversarial.pgd(vit, pixels, labels, 0.05, n, step_size=0.01) for n in (1, 2, 3, 5, 10))]
    means = [losses(vit, x, labels).mean() for x in found]
    assert (np.diff(means) > -1e-3).all() and means[5] > means[1] > means[0]


def test_against_a_linear_model_the_best_step_is_known(linear, pixels):
    """Two classes: the margin falls by radius · Σ|w₀ − w₁| / std, and PGD cannot do better than FGSM."""
    linear.head.weight.data[:, 2:] = 0
    linear.head.bias.data[2:] = -1e3
    inner, labels = 0.3 + 0.4 * pixels, np.zeros(12, int)  # no pixel reaches 0 or 1
    margin = np.subtract(*logits(linear, inner).T[:2])
    w = linear.head.weight.data.reshape(8, 8, 2, 5)
    worst = margin - 0.02 * (np.abs(w[..., 0] - w[..., 1]) / META["std"]).sum()
    for found in (adversarial.fgsm(linear, inner, labels, 0.02), adversarial.pgd(linear, inner, labels, 0.02, 10)):
        np.testing.assert_allclose(np.subtract(*logits(linear, found).T[:2]), worst, rtol=1e-6)


def test_deepfool_is_exact_for_a_linear_model(linear, pixels):
    """The distance to the nearest of four planes, |f_k − f_0| / ‖w_k − w_0‖, and no more than the overshoot beyond."""
    changes = adversarial.deepfool(linear, pixels)
    said = logits(linear, pixels)
    own = said.argmax(axis=1)
    w = linear.head.weight.data.reshape(8, 8, 2, 5) / np.array(META["std"])[:, None]
    gap = said.max(axis=1, keepdims=True) - said  # (n, 5)
    length = np.sqrt(((w[..., None] - w[..., None, :]) ** 2).sum(axis=(0, 1, 2)))  # (5, 5)
    distance = np.where(gap > 0, gap / np.where(length[own] > 0, length[own], 1), np.inf).min(axis=1)
    np.testing.assert_allclose(np.sqrt((changes**2).sum(axis=(1, 2, 3))), 1.02 * (distance + 1e-4), rtol=1e-6)
    assert (logits(linear, pixels + changes).argmax(axis=1) != own).all()


def test_deepfool_crosses_a_boundary_that_is_not_flat(vit, pixels):
    changes = adversarial.deepfool(vit, pixels)
    own = logits(vit, pixels).argmax(axis=1)
    assert (logits(vit, pixels + changes).argmax(axis=1) != own).all()
    assert (logits(vit, pixels + 0.9 * changes).argmax(axis=1) == own).mean() > 0.5  # and stops near it


def test_bad_numbers_are_refused(vit, pixels, labels):
    with pytest.raises(ConfigError, match="radius -1 must not be negative"):
        adversarial.pgd(vit, pixels, labels, -1)
    with pytest.raises(ConfigError, match="steps 0 at least 1"):
        adversarial.pgd(vit, pixels, labels, 0.1, 0)


# ---------------------------------------------------------------- masking


class Hidden(mv.Module):
    """Another model's logits, a million times as large and in float32: the answers stay, the gradients vanish."""

    def __init__(self, model):
        self.inner, self.meta = model, model.meta

    def forward(self, x):
        return self.inner(x) * 1e6


def test_a_hidden_gradient_is_suspected_and_an_honest_one_is_not(linear, rng):
    linear.astype("float32")
    pixels = rng.random((60, 8, 8, 2)).astype(np.float32)
    own = logits(linear, pixels).argmax(axis=1)
    against = [adversarial.pgd(linear, pixels, own, 0.1)]
    honest = adversarial.masking(linear, pixels, own, 0.1)
    assert honest["clean"] == 1 and honest["pgd"] <= honest["fgsm"] < honest["random"] and honest["wide"] == 0
    assert honest["dead"] == 0 and math.isnan(honest["transfer"])
    assert adversarial.suspicions(honest, chance=0.2) == []
    hidden = adversarial.masking(Hidden(linear), pixels, own, 0.1, against)
    assert hidden["dead"] > 0.9 and hidden["pgd"] > 0.5 > hidden["transfer"]
    found = adversarial.suspicions(hidden, chance=0.2)
    assert len(found) >= 3 and "many images have no gradient at all" in found
    assert "images made against another model do more harm" in found


def test_a_hard_set_is_what_every_judge_gets_wrong():
    said = [np.eye(3)[[0, 1, 2, 0]], np.eye(3)[[1, 1, 1, 0]]]
    labels = np.array([2, 1, 1, 1])
    np.testing.assert_array_equal(adversarial.hard_set(said, labels), [0, 3])  # the second one knows image 2
    np.testing.assert_array_equal(adversarial.hard_set(said[:1], np.array([0, 1, 2, 1])), [3])
