"""Where the numbers in minivit/engine/erf.py come from. Needs mpmath; prints the coefficients and the largest errors.

float32: erf(x) = tanh(x·P(x²)); P is fitted to atanh(erf(x))/x, weighted by how much tanh feels an error.
float64: erf(x) = 1 − t·exp(−x²)·P(u), t = 2/(2+x), u the position of t in [1/4, 1] scaled to [−1, 1] (x in [0, 6]).
"""

import math

import mpmath as mp
import numpy as np

mp.mp.dps = 50


def fit_single(degree: int = 6, reach: float = 3.92, points: int = 400) -> np.ndarray:
    nodes = np.cos(np.pi * (np.arange(points) + 0.5) / points)
    x = reach * np.sqrt((nodes + 1) / 2)
    target = np.array([float(mp.atanh(mp.erf(mp.mpf(v))) / v) for v in x])
    felt = np.array([float(v * (1 - mp.erf(v) ** 2)) for v in x]) + 1e-9
    powers, weight = np.vander(x**2, degree + 1, increasing=True), felt.copy()
    for _ in range(60):  # Lawson: raise the weight where the error is largest, until it is level
        coefficients, *_ = np.linalg.lstsq(powers * weight[:, None], target * weight, rcond=None)
        error = np.abs((powers @ coefficients - target) * felt)
        weight *= np.sqrt(0.5 + error / error.max())
        weight /= weight.max()
    return coefficients


def fit_double(terms: int = 20) -> np.ndarray:
    nodes = [mp.cos(mp.pi * (2 * k + 1) / (2 * terms)) for k in range(terms)]

    def target(u: mp.mpf) -> mp.mpf:
        t = (u + 1) / 2 * mp.mpf(0.75) + mp.mpf(0.25)
        x = 2 / t - 2
        return mp.erfc(x) * mp.exp(x * x) / t

    values = [target(u) for u in nodes]
    chebyshev = [
        2 / mp.mpf(terms) * sum(v * mp.cos(mp.pi * j * (2 * k + 1) / (2 * terms)) for k, v in enumerate(values))
        for j in range(terms)
    ]
    chebyshev[0] /= 2
    return np.polynomial.chebyshev.cheb2poly([float(c) for c in chebyshev])


if __name__ == "__main__":
    from minivit.engine.erf import erf

    print("SINGLE =", fit_single().tolist())
    print("DOUBLE =", fit_double().tolist())
    grid = np.linspace(-7, 7, 200_001)
    exact = np.array([math.erf(v) for v in grid])
    single = grid.astype(np.float32)
    exact_single = np.array([math.erf(float(v)) for v in single])
    print("largest error, float64:", np.abs(erf(grid) - exact).max())
    print("largest error, float32:", np.abs(erf(single) - exact_single).max())
