"""Exercises of chapter 04. Fill them in, then: python -m exercises check softmax

★ softmax, 10 minutes: Softmax that survives large numbers
★★ cross_entropy, 20 minutes: Cross-entropy and its gradient, p − y
★ first_loss, 8 minutes: A loss that starts at 14: repair it
★★ training_bug, 15 minutes: Two faults in a training loop

Made from manifest.toml by `python -m exercises skeletons`.
"""

import numpy as np

import minivit as mv


def softmax(x):
    """exp(xᵢ) / Σⱼ exp(xⱼ) along the last axis; subtracting the row's maximum changes nothing and avoids overflow."""
    raise NotImplementedError


def cross_entropy(logits, labels):
    """The mean cross-entropy of a batch and its gradient: (loss, dlogits), a number and an array (B, K).

    `logits` is an array (B, K); `labels` (B,) holds the right classes, 0 to K−1. The loss is the mean over the batch of
    −log softmax(logits)[label]. Logits may lie a thousand apart.
    """
    raise NotImplementedError


def first_loss(rng, features, hidden, classes):
    """First weights of a classifier with one hidden layer, drawn from `rng`: (features, hidden) and (hidden, classes).

    Its logits are relu(x @ w1) @ w2. Before any training it knows nothing, so its loss should be near ln(classes), and
    its hidden units must differ from one another. As it stands, with 16 of them, the loss on the digits starts at about
    14. Repair it.
    """
    w1 = rng.standard_normal((features, hidden))
    w2 = rng.standard_normal((hidden, classes))
    return w1, w2


def training_bug(train_x, train_y, test_x, classes, steps, rate):
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
