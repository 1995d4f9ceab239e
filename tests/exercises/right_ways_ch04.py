"""Chapter 04, solved in other ways."""

import math

import numpy as np
from right_ways import right

import minivit as mv


@right("softmax")
def softmax_row_by_row(x):
    rows = x.numpy().reshape(-1, x.shape[-1])
    return np.stack([np.exp(r - r.max()) / np.exp(r - r.max()).sum() for r in rows]).reshape(x.shape)


@right("softmax")
def softmax_by_differences(x):
    x = x.numpy()
    return 1 / np.exp(x[..., None, :] - x[..., :, None]).sum(axis=-1)


@right("softmax")
def softmax_out_of_its_logarithm(x):
    x = x.numpy().astype(np.float32)
    shifted = x - np.max(x, axis=-1, keepdims=True)
    return np.exp(shifted - np.log(np.einsum("...i->...", np.exp(shifted)))[..., None])


@right("softmax")
def softmax_of_tensors(x):
    e = mv.exp(x - x.max(axis=x.ndim - 1, keepdims=True))
    return e * (1 / e.sum(axis=-1, keepdims=True))


@right("softmax")
def softmax_with_the_axis_put_back(x):
    x = x.numpy()
    e = np.exp(x - x.max(axis=-1)[..., np.newaxis])
    return (e.swapaxes(0, -1) / e.sum(axis=-1).swapaxes(0, -1)).swapaxes(0, -1)


@right("cross_entropy")
def image_by_image(logits, labels):
    loss, gradient = 0.0, np.zeros_like(logits)
    for i, (row, label) in enumerate(zip(logits, labels, strict=True)):
        total = math.fsum(math.exp(z - max(row)) for z in row)
        loss += max(row) + math.log(total) - row[label]
        for k, z in enumerate(row):
            gradient[i, k] = math.exp(z - max(row)) / total - (k == label)
    return loss / len(labels), gradient / len(labels)


@right("cross_entropy")
def with_one_hot_rows(logits, labels):
    y = np.eye(logits.shape[1])[labels]
    most = logits.max(1)
    log_sum = most + np.log(np.exp(logits - most[:, None]).sum(1))
    loss = np.mean(log_sum - (y * logits).sum(1))
    return loss, (np.exp(logits - log_sum[:, None]) - y) * (1 / len(y))


@right("cross_entropy")
def by_einsum(logits, labels):
    y = (labels[:, None] == np.arange(logits.shape[1])).astype(float)
    log_p = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    return [-np.einsum("bk,bk->", y, log_p) / len(y), np.divide(np.exp(log_p) - y, len(y))]


@right("cross_entropy")
def by_the_librarys_softmax(logits, labels):
    p = mv.softmax(mv.Tensor(logits)).numpy().copy()
    loss = np.logaddexp.reduce(logits, axis=1) - np.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
    p[np.arange(len(p)), labels] -= 1
    return loss.sum() / len(p), p / len(p)


@right("first_loss")
def drawn_with_that_spread(rng, features, hidden, classes):
    w1 = rng.normal(0, features**-0.5, (features, hidden))
    return [w1, rng.normal(scale=hidden**-0.5, size=(hidden, classes)).astype(np.float32)]


@right("first_loss")
def divided_by_the_inputs(rng, features, hidden, classes):
    return rng.standard_normal((features, hidden)) / features, rng.standard_normal((hidden, classes)) / hidden


@right("first_loss")
def uniform_with_both_signs(rng, features, hidden, classes):
    def matrix(inputs, outputs):
        return rng.uniform(-1, 1, (inputs, outputs)) * math.sqrt(3 / inputs)

    return matrix(features, hidden), matrix(hidden, classes)


@right("first_loss")
def last_matrix_zero(rng, features, hidden, classes):
    return math.sqrt(2 / features) * rng.standard_normal((features, hidden)), np.zeros((hidden, classes))


@right("first_loss")
def small_throughout(rng, features, hidden, classes):
    return 0.02 * rng.standard_normal((features, hidden)), 0.02 * rng.standard_normal((hidden, classes))


@right("training_bug")
def gradient_filled_with_zeros(train_x, train_y, test_x, classes, steps, rate):
    mean, std = np.mean(train_x, axis=0), np.std(train_x, axis=0) + 1e-6
    x, test = [(images - mean) / std for images in (train_x, test_x)]
    weight, gradient = np.zeros((x.shape[1], classes)), np.zeros((x.shape[1], classes))
    for _ in range(steps):
        gradient *= 0
        logits = x @ weight
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        p[np.arange(len(x)), train_y] -= 1
        gradient += x.T @ p / len(x)
        weight -= rate * gradient
    return weight, test


@right("training_bug")
def image_by_image_as_well(train_x, train_y, test_x, classes, steps, rate):
    mean, std = train_x.mean(axis=0), train_x.std(axis=0) + 1e-6
    weight = np.zeros((train_x.shape[1], classes))
    for _ in range(steps):
        gradient = np.zeros_like(weight)
        for image, label in zip((train_x - mean) / std, train_y, strict=True):
            p = np.exp(image @ weight) / np.exp(image @ weight).sum()
            gradient += np.outer(image, p - np.eye(classes)[label])
        weight = weight - rate / len(train_x) * gradient
    return [weight, np.divide(test_x - mean, std)]


@right("training_bug")
def by_einsum_and_the_tape(train_x, train_y, test_x, classes, steps, rate):
    def standardised(images):
        return (images - train_x.mean(axis=0)) / (train_x.std(axis=0) + 1e-6)

    x, weight = mv.Tensor(standardised(train_x)), np.zeros((train_x.shape[1], classes))
    for _ in range(steps):
        leaf = mv.Tensor(weight, requires_grad=True)
        mv.cross_entropy(x @ leaf, train_y).backward()
        weight = weight - rate * leaf.grad
    return weight, standardised(test_x)
