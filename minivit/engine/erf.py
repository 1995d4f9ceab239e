"""The error function, which NumPy does not have and GELU needs.

float32 and float16: erf(x) = tanh(x·P(x²)), seven coefficients, within 2e-7.
float64: erf(x) = 1 − t·exp(−x²)·P(u) with t = 2/(2+x), twenty coefficients, within 1e-15.
`scripts/fit_erf.py` derives both sets.
"""

import math

import numpy as np

SINGLE = (
    1.128379705476471,
    0.10276548140809721,
    -0.00018438366271353787,
    -0.000625719474988138,
    8.971247529636842e-05,
    -5.985653548622253e-06,
    1.589564727077088e-07,
)
DOUBLE = (
    0.6056598670867837,
    0.31210421352944584,
    0.08378961740950927,
    0.002515716718940716,
    -0.004181821078234093,
    -0.00015549034030009454,
    0.00030702902731324564,
    -2.3350375549724285e-05,
    -2.2309977946948752e-05,
    6.55218614969663e-06,
    6.095218189792986e-07,
    -8.174235288155387e-07,
    1.7347945364878977e-07,
    3.421323844529719e-08,
    -3.156976145716569e-08,
    7.223825160338869e-09,
    1.5773371857429013e-09,
    -1.4135924062197975e-09,
    1.2480332157560228e-10,
    8.029444566122133e-11,
)
CDF = tuple(c * math.sqrt(0.5) * 0.5**k for k, c in enumerate(SINGLE))  # the polynomial of erf(x/√2), in x²
SATURATED = 4.3  # beyond it a float32 erf is ±1, which the tanh here reaches too


def horner(coefficients: tuple[float, ...], x: np.ndarray) -> np.ndarray:
    """The polynomial c₀ + c₁x + c₂x² + …, elementwise, in the dtype of `x`."""
    total = x * coefficients[-1]
    for c in coefficients[-2:0:-1]:
        total += c
        total *= x
    total += coefficients[0]
    return total


def erf(x: np.ndarray) -> np.ndarray:
    """erf(x) = 2/√π ∫₀ˣ exp(−t²) dt, elementwise, in the dtype of `x`."""
    if x.dtype == np.float16:
        return erf(x.astype(np.float32)).astype(np.float16)
    if x.dtype == np.float32:
        size = np.minimum(np.abs(x), np.float32(SATURATED))
        return np.copysign(np.tanh(size * horner(SINGLE, size * size)), x)
    size = np.minimum(np.abs(x), 6.0)  # erf(6) differs from 1 by 2e-17
    t = 2.0 / (2.0 + size)
    tail = t * np.exp(-size * size) * horner(DOUBLE, t * (8.0 / 3.0) - (5.0 / 3.0))  # t in [1/4, 1] to [-1, 1]
    return np.copysign(1.0 - tail, x)


def normal_cdf(x: np.ndarray, squared: np.ndarray, out: np.ndarray) -> None:
    """Φ(x) = ½ (1 + erf(x/√2)) into `out`, given x²: in float32 fourteen passes over memory that is in the cache.

    Beyond |x| = 5.5 the polynomial keeps growing, so tanh saturates there without a clip.
    """
    if x.dtype != np.float32:
        out[...] = 0.5 * (1 + erf(x * math.sqrt(0.5)))
        return
    with np.errstate(over="ignore"):  # from |x| = 2,000 on: ±∞, whose tanh is ±1
        np.multiply(squared, CDF[-1], out=out)
        for c in CDF[-2:0:-1]:
            out += c
            out *= squared
        out += CDF[0]
        out *= x
    np.tanh(out, out=out)
    out *= 0.5
    out += 0.5
