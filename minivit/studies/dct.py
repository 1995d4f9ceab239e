"""DCT energy: in which frequencies the least change lies that makes a model err (Paul and Chen 2022).

Measures: the orthonormal DCT of images, the energy of a change by frequency, and its share in each band.
"""

import numpy as np


def dct_matrix(n: int) -> np.ndarray:
    """The orthonormal DCT-II: row k holds √(2/n) cos(π(2x + 1)k / 2n), row 0 divided by √2; float64 (n, n), CCᵀ = I."""
    k, x = np.indices((n, n))
    return np.cos(np.pi * (2 * x + 1) * k / (2 * n)) * np.where(k == 0, 1, 2**0.5) / n**0.5


def dct2(images: np.ndarray) -> np.ndarray:
    """The 2-D DCT of every channel, float64 (n, H, W, C); its squares sum to the images' squares (Parseval)."""
    down, across = dct_matrix(images.shape[1]), dct_matrix(images.shape[2])
    return np.einsum("ih,nhwc,jw->nijc", down, images.astype(float), across, optimize=True)


def energy(changes: np.ndarray) -> np.ndarray:
    """The squared coefficients, summed over channels, averaged over images: (n, H, W, C) -> (H, W), frequency 0 first."""
    return (dct2(changes) ** 2).sum(axis=-1).mean(axis=0)


def decibels(found: np.ndarray) -> np.ndarray:
    """10 log₁₀ of energies; −∞ where there is none."""
    with np.errstate(divide="ignore"):
        return 10 * np.log10(found)


def by_band(found: np.ndarray, bands: int = 4) -> np.ndarray:
    """How much of the energy (H, W) lies in bands of equal width, from low to high: (bands,), summing to 1.

    A coefficient (i, j) is in the band of max(i / H, j / W): squares round the corner of frequency 0.
    """
    i, j = np.indices(found.shape)
    band = (np.maximum(i / found.shape[0], j / found.shape[1]) * bands).astype(int)
    return np.bincount(band.ravel(), found.ravel(), minlength=bands) / found.sum()


def even_shares(h: int, w: int, bands: int = 4) -> np.ndarray:
    """What `by_band` gives for white noise: the share of all coefficients that lies in each band."""
    return by_band(np.ones((h, w)), bands)
