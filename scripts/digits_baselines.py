"""What two models without any training loop reach on the digits, with writers mixed and with (probably) new writers.

`python -m scripts.digits_baselines` prints the numbers that `minivit data digits` quotes. Nothing is tuned.
"""

import numpy as np

import minivit as mv


def nearest_neighbours(data, k: int = 3) -> float:
    """Accuracy of the majority among the k nearest training images; a tie goes to the nearest of the tied."""
    x, test = (s.images.reshape(len(s), -1).astype(np.float64) for s in (data.train, data.test))
    distances = (test**2).sum(1)[:, None] - 2 * test @ x.T + (x**2).sum(1)
    votes = data.train.labels[np.argsort(distances, axis=1, kind="stable")[:, :k]]
    counts = (votes[:, :, None] == votes[:, None, :]).sum(axis=2)
    answers = votes[np.arange(len(votes)), counts.argmax(axis=1)]
    return float((answers == data.test.labels).mean())


def ridge(data, strength: float = 1.0) -> float:
    """Accuracy of least squares from pixels in [0, 1] (and a constant) to one-hot rows."""
    x, test = (np.hstack([s.images.reshape(len(s), -1) / 255, np.ones((len(s), 1))]) for s in (data.train, data.test))
    w = np.linalg.solve(x.T @ x + strength * np.eye(x.shape[1]), x.T @ np.eye(data.num_classes)[data.train.labels])
    return float(((test @ w).argmax(axis=1) == data.test.labels).mean())


if __name__ == "__main__":
    for split in ("mixed", "file-order"):
        data = mv.data.digits(split=split)
        print(f"{split}: 3 nearest neighbours {nearest_neighbours(data):.3%}, ridge regression {ridge(data):.3%}")
