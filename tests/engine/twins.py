"""Each fused operation beside its composed twin, and the check that they agree."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from gradient_cases import there, value_and_gradients

from minivit.engine import composed, fused


@dataclass(frozen=True)
class Twins:
    """The same formula twice, and the arrays to try it on."""

    op: str
    label: str
    fused: Callable
    composed: Callable
    arrays: tuple

    def __str__(self):
        return f"{self.op}-{self.label}"


TWINS: list[Twins] = []
_rng = np.random.default_rng(21)


def twins(op, label, *shapes, call=lambda f, *xs: f(*xs), size=1.0):
    """`call(f, *tensors)` for f = fused.<op> and f = composed.<op>."""
    arrays = tuple(size * _rng.standard_normal(s) if isinstance(s, tuple) else s for s in shapes)
    fast, plain = getattr(fused, op), getattr(composed, op)
    TWINS.append(Twins(op, label, lambda *xs: call(fast, *xs), lambda *xs: call(plain, *xs), arrays))


twins("linear", "batch", (3, 5, 8), (8, 6), (6,))
twins("linear", "no-bias", (7, 8), (8, 6))
twins("linear", "vector", (8,), (8, 6), (6,))
for op in ("softmax", "log_softmax"):
    twins(op, "rows", (3, 4, 7))
    twins(op, "long", (301, 65))
    twins(op, "one-column", (3, 1))
    twins(op, "far-apart", (4, 6), size=300.0)
    twins(op, "huge", (4, 6), size=3000.0)
for top in (709.0, 88.0):  # exp of one is a float64 (float32), the sum of seven is not
    twins("softmax", f"at-the-top-{top:.0f}", top - np.arange(28.0).reshape(4, 7) / 8)
for exact in (True, False):
    name = "erf" if exact else "tanh"
    twins("gelu", name, (3, 4, 7), call=lambda f, x, e=exact: f(x, approximate=not e))
    twins("gelu", f"{name}-long", (70_001,), call=lambda f, x, e=exact: f(x, approximate=not e))
    twins("gelu", f"{name}-view", (5, 6), call=lambda f, x, e=exact: f(x.T, approximate=not e))
    twins("gelu", f"{name}-far", (40,), size=30.0, call=lambda f, x, e=exact: f(x, approximate=not e))
twins("silu", "matrix", (3, 7))
twins("silu", "far", (40,), size=30.0)
twins("layer_norm", "tokens", (2, 5, 8), (8,), (8,))
twins("layer_norm", "long", (701, 96), (96,), (96,))
twins("layer_norm", "view", (8, 5), (8,), (8,), call=lambda f, x, w, b: f(x.T, w, b))
twins("layer_norm", "large-eps", (4, 6), (6,), (6,), call=lambda f, x, w, b: f(x, w, b, eps=0.3))
for groups in (1, 2, 6):
    twins("group_norm", f"{groups}", (3, 4, 5, 6), (6,), (6,), call=lambda f, x, w, b, n=groups: f(x, w, b, groups=n))
twins("layer_norm", "small-values", (4, 6), (6,), (6,), size=1e-3)
twins("attention", "heads", (2, 3, 5, 4), (2, 3, 5, 4), (2, 3, 5, 4))
twins("attention", "cross", (2, 5, 4), (2, 7, 4), (2, 7, 3))
twins("attention", "scale", (5, 4), (7, 4), (7, 3), call=lambda f, q, k, v: f(q, k, v, scale=0.7))
twins("attention", "sharp", (5, 4), (7, 4), (7, 3), size=3.0)
twins("self_attention", "four-heads", (2, 6, 3 * 16), call=lambda f, x: f(x, num_heads=4))
twins("self_attention", "one-head", (2, 6, 3 * 16), call=lambda f, x: f(x, num_heads=1))
twins("self_attention", "long", (3, 65, 3 * 32), call=lambda f, x: f(x, num_heads=2))

INDICES = np.array([3, 0, 6, 6, 1])
ROWS = np.random.default_rng(1).dirichlet(np.ones(7), 5)
for label, labels in [("indices", INDICES), ("rows", ROWS)]:
    for smoothing in (0.0, 0.1):
        twins(
            "cross_entropy",
            f"{label}-{smoothing}",
            (5, 7),
            call=lambda f, x, y=labels, s=smoothing: f(x, there(x, y), smoothing=s),
        )
twins("cross_entropy", "far-apart", (5, 7), size=300.0, call=lambda f, x: f(x, there(x, INDICES)))


def check_twins(pair, xp, dtype=np.float64):
    """Value and gradients of the fused form in `dtype` against the composed form in float64."""
    close = {np.float64: 1e-12, np.float32: 4e-6}[dtype]
    exact_value, exact = value_and_gradients(pair.composed, [xp.from_host(a) for a in pair.arrays], xp)
    value, found = value_and_gradients(pair.fused, [xp.from_host(a.astype(dtype)) for a in pair.arrays], xp)
    for what, got, wanted in zip(["value", *range(len(found))], [value, *found], [exact_value, *exact], strict=True):
        assert got.dtype == dtype, f"{pair}: {got.dtype} from {dtype}"
        # Relative to the largest entry: rounding in a sum is that of its largest terms.
        np.testing.assert_allclose(
            got, wanted, rtol=close, atol=close * np.abs(wanted).max(initial=1), err_msg=f"{pair}, {what}"
        )
