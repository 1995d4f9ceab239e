"""Mistakes that students make in the exercises of chapter 10; and answers that are right in another way."""

import math

import numpy as np
import pytest

import minivit as mv
from exercises.checking import examine
from exercises.manifest import exercise


def adamw(p, gradients, lr, betas, eps, weight_decay, *, fault=""):
    """AdamW with one thing wrong."""
    b1, b2 = betas
    m, v = np.zeros_like(p), np.zeros_like(p)
    for t, g in enumerate(gradients, start=0 if fault == "counter from 0" else 1):
        g = g + weight_decay * p if fault == "decay in the gradient" else g
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        if fault == "state forgotten":
            m, v = (1 - b1) * g, (1 - b2) * g * g
        full = (1, 1) if fault == "no bias correction" else (1 - b1**t, 1 - b2**t)
        m_hat, v_hat = m / full[0], v / full[1]
        size = np.sqrt(v_hat + eps) if fault == "eps inside the root" else np.sqrt(v_hat) + eps
        kept = 1 if fault == "decay in the gradient" else 1 - lr * weight_decay
        p = (p - lr * m_hat / size) * kept if fault == "decay after the step" else p * kept - lr * m_hat / size
    return p


FAULTS = [
    "no bias correction", "decay in the gradient", "eps inside the root", "decay after the step", "state forgotten",
]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_adamw_with_a_fault(fault):
    outcome = examine(exercise("adamw"), lambda *given: adamw(*given, fault=fault))
    assert outcome.status == "wrong" and "entry" in outcome.message


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_adamw_that_counts_from_0_divides_by_0():
    assert "is nan" in examine(exercise("adamw"), lambda *given: adamw(*given, fault="counter from 0")).message


def test_adamw_that_changes_the_parameter_is_told_so():
    def in_place(p, *rest):
        p -= 1
        return p

    assert "changes its argument p" in examine(exercise("adamw"), in_place).message


def test_adamw_right_in_other_ways():
    def by_the_library(p, gradients, lr, betas, eps, weight_decay):
        parameter = mv.nn.Parameter(p.copy())
        optimizer = mv.optim.AdamW([parameter], lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
        for g in gradients:
            optimizer.step([g])
        return parameter.data

    assert examine(exercise("adamw"), adamw).passed
    assert examine(exercise("adamw"), by_the_library).passed


def norm_of(gradients):
    return math.sqrt(sum(float((g * g).sum()) for g in gradients if g is not None))


def scaled(gradients, factors):
    return [None if g is None else g * f for g, f in zip(gradients, factors, strict=True)]


def each_alone(gradients, limit):
    norms = [norm_of([g]) for g in gradients]
    return scaled(gradients, [min(1, limit / n) if n else 1 for n in norms]), norm_of(gradients)


def always(gradients, limit):
    return scaled(gradients, [limit / norm_of(gradients)] * len(gradients)), norm_of(gradients)


def values(gradients, limit):
    return [None if g is None else np.clip(g, -limit, limit) for g in gradients], norm_of(gradients)


def the_norm_afterwards(gradients, limit):
    found = scaled(gradients, [min(1, limit / norm_of(gradients))] * len(gradients))
    return found, norm_of(found)


@pytest.mark.parametrize("mistake", [each_alone, always, values, the_norm_afterwards])
def test_clipping_with_a_fault(mistake):
    assert examine(exercise("clip_global_norm"), mistake).status == "wrong"


def test_clipping_without_the_small_constant_passes():
    def plain(gradients, limit):
        return scaled(gradients, [min(1, limit / norm_of(gradients))] * len(gradients)), norm_of(gradients)

    assert examine(exercise("clip_global_norm"), plain).passed
