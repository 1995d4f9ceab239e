"""Optimisers against their equations written out in float64, and what they must never do."""

import numpy as np
import pytest

import minivit as mv
from minivit.nn import Parameter
from minivit.training.optim import clip_global_norm, global_norm
from minivit.training.schedule import warmup_cosine


def parameters(rng, dtype=np.float64):
    return [Parameter(rng.standard_normal(shape).astype(dtype)) for shape in ((4, 3), (3,), (1, 5, 3), (3, 3, 2, 2))]


def test_adamw_follows_its_equations(rng):
    lr, (b1, b2), eps, decay = 0.1, (0.9, 0.999), 1e-8, 0.3
    ps = parameters(rng)
    expected = [(p.data.copy(), 0 * p.data, 0 * p.data) for p in ps]
    optimizer = mv.optim.AdamW(ps, lr=lr, betas=(b1, b2), eps=eps, weight_decay=decay)
    for t in range(1, 4):
        gradients = [rng.standard_normal(p.shape) for p in ps]
        optimizer.step(gradients)
        for i, (g, (x, m, v)) in enumerate(zip(gradients, expected, strict=True)):
            m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
            shrink = (
                lr * decay if x.ndim in (2, 4) else 0.0
            )  # matrices and kernels decay; vectors, tokens, positions do not
            x = x - shrink * x - lr * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
            expected[i] = x, m, v
    for p, (x, _, _) in zip(ps, expected, strict=True):
        np.testing.assert_allclose(p.data, x, rtol=1e-12)


def test_first_adamw_step_has_the_length_of_the_learning_rate(rng):
    p = Parameter(np.zeros(5))
    mv.optim.AdamW([p], lr=0.01, betas=(0.9, 0.999)).step([rng.standard_normal(5) * 1e3])
    np.testing.assert_allclose(np.abs(p.data), 0.01, rtol=1e-6)  # without bias correction: 3.16 times as long


def test_sgd_with_momentum_and_decay(rng):
    ps = parameters(rng)
    expected = [(p.data.copy(), 0 * p.data) for p in ps]
    optimizer = mv.optim.SGD(ps, lr=0.1, momentum=0.8, weight_decay=0.01)
    for _ in range(3):
        gradients = [rng.standard_normal(p.shape) for p in ps]
        optimizer.step(gradients)
        for i, (g, (x, v)) in enumerate(zip(gradients, expected, strict=True)):
            v = 0.8 * v + g + (0.01 * x if x.ndim in (2, 4) else 0)
            expected[i] = x - 0.1 * v, v
    for p, (x, _) in zip(ps, expected, strict=True):
        np.testing.assert_allclose(p.data, x, rtol=1e-12)


@pytest.mark.parametrize("kind", [mv.optim.AdamW, mv.optim.SGD])
def test_updates_in_place_keeps_dtype_and_skips_what_has_no_gradient(kind, rng):
    ps = parameters(rng, np.float32)
    arrays, before = [p.data for p in ps], [p.data.copy() for p in ps]
    ps[0].grad = np.ones_like(ps[0].data)
    kind(ps, lr=0.1).step()
    assert all(p.data is a and a.dtype == np.float32 for p, a in zip(ps, arrays, strict=True))
    assert not np.array_equal(ps[0].data, before[0])
    assert all(np.array_equal(p.data, b) for p, b in zip(ps[1:], before[1:], strict=True))


def test_state_goes_out_and_comes_back(rng):
    ps = parameters(rng)
    first, second = (mv.optim.AdamW(ps, lr=0.1) for _ in range(2))
    first.step([rng.standard_normal(p.shape) for p in ps])
    second.load_state_dict(first.state_dict())
    assert second.steps == 1 and all(
        np.array_equal(a, b) for a, b in zip(first.state["v"], second.state["v"], strict=True)
    )
    with pytest.raises(mv.CheckpointError, match="does not fit these parameters"):
        mv.optim.AdamW(ps[:2], lr=0.1).load_state_dict(first.state_dict())


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda p: mv.optim.AdamW(mv.nn.Linear(2, 2)), r"write model.parameters\(\)"),
        (lambda p: mv.optim.AdamW([], lr=0.1), "no parameters to learn"),
        (lambda p: mv.optim.AdamW([p], lr=-1), "must not be negative"),
        (lambda p: mv.optim.AdamW([p], betas=(0.9, 1.0)), r"betas \(0.9, 1.0\) must lie in"),
        (lambda p: mv.optim.SGD([p], lr=0.1, momentum=1.5), "momentum 1.5 must lie in"),
    ],
)
def test_impossible_settings(make, text):
    with pytest.raises(mv.ConfigError, match=text):
        make(Parameter(np.zeros(2)))


def test_clipping_uses_one_norm_for_all_gradients():
    gradients = [np.array([3.0]), None, np.array([[4.0]])]
    assert global_norm(gradients) == 5.0
    clipped, norm = clip_global_norm(gradients, 1.0)
    assert norm == 5.0 and clipped[1] is None
    np.testing.assert_allclose([clipped[0][0], clipped[2][0, 0]], [0.6, 0.8], rtol=1e-5)
    untouched, _ = clip_global_norm(gradients, 10.0)
    assert untouched[0] is gradients[0]


def test_warmup_cosine():
    rate = warmup_cosine(2.0, steps=100, warmup=0.1)
    values = [rate(s) for s in range(100)]
    np.testing.assert_allclose(values[:10], np.arange(1, 11) * 0.2)  # a line, the first step not 0
    assert values[10] == 2.0 and all(a > b for a, b in zip(values[10:], values[11:], strict=False))
    assert rate(55) == pytest.approx(1.0) and 0 < values[-1] < 0.01 and rate(1000) == 0.0
    assert warmup_cosine(2.0, 100, floor=0.5)(10**6) == 0.5 and warmup_cosine(1.0, 10, warmup=0.0)(0) == 1.0
    with pytest.raises(mv.ConfigError, match="warmup 3"):
        warmup_cosine(1.0, 10, warmup=3)
