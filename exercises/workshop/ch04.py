"""Chapter 04 behind the exercises."""

import math

import numpy as np


def inputs_softmax(rng):
    return [
        (rng.standard_normal((2, 3)),),
        (np.array([[0.0, 1.0], [1000.0, 1001.0]]),),
        (np.array([[-1000.0, -1001.0, -999.0], [0.0, 5.0, 3000.0]]),),
        (rng.standard_normal((2, 3, 4)),),
    ]


def cross_entropy(logits, labels):
    """The mean cross-entropy of a batch and its gradient: (loss, dlogits), a number and an array (B, K).

    `logits` is an array (B, K); `labels` (B,) holds the right classes, 0 to K−1. The loss is the mean over the batch of
    −log softmax(logits)[label]. Logits may lie a thousand apart.
    """
    rows = np.arange(len(labels))
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    gradient = np.exp(log_p)
    gradient[rows, labels] -= 1
    return -log_p[rows, labels].mean(), gradient / len(labels)


def inputs_cross_entropy(rng):
    return [
        (rng.standard_normal((1, 3)), np.array([2])),
        (rng.standard_normal((4, 3)), np.array([0, 2, 1, 2])),
        (np.array([[0.0, 1000.0, 0.0], [5.0, -1000.0, 0.0]]), np.array([0, 2])),
        (rng.standard_normal((32, 10)), rng.integers(0, 10, 32)),
    ]


def listing_first_loss(rng, features, hidden, classes):
    """First weights of a classifier with one hidden layer, drawn from `rng`: (features, hidden) and (hidden, classes).

    Its logits are relu(x @ w1) @ w2. Before any training it knows nothing, so its loss should be near ln(classes), and
    its hidden units must differ from one another. As it stands, with 16 of them, the loss on the digits starts at about
    14. Repair it.
    """
    w1 = rng.standard_normal((features, hidden))
    w2 = rng.standard_normal((hidden, classes))
    return w1, w2


def first_loss(rng, features, hidden, classes):
    """The listing, repaired."""
    w1 = rng.standard_normal((features, hidden)) / math.sqrt(features)
    w2 = rng.standard_normal((hidden, classes)) / math.sqrt(hidden)
    return w1, w2


def inputs_first_loss(rng):
    sizes = [(64, 32, 10), (784, 100, 10), (16, 50, 3)]
    return [(np.random.default_rng(i), *size) for i, size in enumerate(sizes)]


def judge_first_loss(found, rng, features, hidden, classes):
    """Any weights of the right shapes will do that start near ln K and do not make all hidden units alike."""
    if not isinstance(found, tuple | list) or len(found) != 2:
        return "your result is not a pair of arrays (w1, w2)"
    w1, w2 = (np.asarray(w) for w in found)
    if w1.shape != (features, hidden) or w2.shape != (hidden, classes):
        return (
            f"your weights have shapes {w1.shape} and {w2.shape}, expected {(features, hidden)} and {(hidden, classes)}"
        )
    if np.allclose(w1, w1[:, :1]):
        return "all hidden units have the same weights: they will receive the same gradient and stay alike for ever"
    draw = np.random.default_rng(1)
    x, labels = draw.random((256, features)), draw.integers(0, classes, 256)
    loss = cross_entropy(np.maximum(x @ w1, 0) @ w2, labels)[0]
    if abs(loss - math.log(classes)) > 0.5:
        return (
            f"the first loss is {loss:.2f}; knowing nothing, it should be near ln {classes} = {math.log(classes):.2f}"
        )
    return None


def listing_training_bug(train_x, train_y, test_x, classes, steps, rate):
    """Train softmax regression on `train_x` (n, features), `train_y` (n,) by descent on the whole set, `steps` times.

    Returns the weights (features, classes) and the standardised test images, ready to be multiplied with them. It runs,
    and it has two faults: one cheats, the other makes the steps too long. Repair both.
    """
    everything = np.concatenate([train_x, test_x])
    mean, std = everything.mean(axis=0), everything.std(axis=0) + 1e-6
    x, target = (train_x - mean) / std, np.eye(classes)[train_y]
    weight, gradient = np.zeros((x.shape[1], classes)), np.zeros((x.shape[1], classes))
    for _ in range(steps):
        logits = x @ weight
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        gradient += x.T @ (p - target) / len(x)
        weight -= rate * gradient
    return weight, (test_x - mean) / std


def training_bug(train_x, train_y, test_x, classes, steps, rate):
    """The listing, repaired."""
    mean, std = train_x.mean(axis=0), train_x.std(axis=0) + 1e-6
    x, target = (train_x - mean) / std, np.eye(classes)[train_y]
    weight = np.zeros((x.shape[1], classes))
    for _ in range(steps):
        logits = x @ weight
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        weight -= rate * x.T @ (p - target) / len(x)
    return weight, (test_x - mean) / std


def inputs_training_bug(rng):
    cases = []
    for steps in (1, 5):
        train, test = rng.standard_normal((20, 6)), 3 + rng.standard_normal((8, 6))
        cases.append((train, rng.integers(0, 3, 20), test, 3, steps, 0.5))
    return cases
