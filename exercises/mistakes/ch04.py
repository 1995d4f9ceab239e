"""The usual mistakes in the exercises of chapter 04."""

import math

import numpy as np

from exercises.mistakes import mistake
from exercises.workshop import ch04

# ---- softmax


def _shares(most, total):
    """Softmax over arrays: exp(x − most(x)), divided by total(exp)."""

    def softmax(x):
        x = x.numpy()
        e = np.exp(x - most(x))
        return e / total(e)

    return softmax


def _row_most(x):
    return x.max(axis=-1, keepdims=True)


def _row_total(e):
    return e.sum(axis=-1, keepdims=True)


@mistake(
    "softmax",
    "Row 0 is NaN, row 1 is right. From which row came the maximum that you subtracted?",
)
def one_maximum_for_all_rows(x):
    return _shares(np.max, _row_total)(x)


@mistake(
    "softmax",
    "Row 0 is right, row 1 is NaN: exp(1000) is more than a float can hold, and inf/inf is no number. Shares depend on "
    "differences alone: what may be subtracted from a whole row?",
)
def no_maximum(x):
    return _shares(lambda x: 0, _row_total)(x)


@mistake(
    "softmax",
    "Row 1 holds a NaN: after you subtracted the row's smallest number, its largest is still 1000. Which number must become 0 "
    "so that no exponential can overflow?",
)
def minimum_subtracted(x):
    return _shares(lambda x: x.min(axis=-1, keepdims=True), _row_total)(x)


@mistake(
    "softmax",
    "Your columns sum to 1, your rows do not. A row holds one image's scores: among whom are its shares to be shared?",
)
def columns(x):
    return _shares(lambda x: x.max(axis=0), lambda e: e.sum(axis=0))(x)


@mistake(
    "softmax",
    "You took each row's maximum, as you should, but your columns sum to 1 and your rows do not. Does the sum run along the "
    "axis of the maximum?",
)
def maximum_of_rows_and_sum_of_columns(x):
    return _shares(_row_most, lambda e: e.sum(axis=0))(x)


@mistake(
    "softmax",
    "Tables are right; with three axes the shares run along the middle one. axis=1 is the last axis of a table alone: how do "
    "you name the last axis, however many there are?",
)
def second_axis(x):
    return _shares(lambda x: x.max(axis=1, keepdims=True), lambda e: e.sum(axis=1, keepdims=True))(x)


@mistake(
    "softmax",
    "All your values together sum to 1, where each row should. Is a row's share of the whole table asked for, or each "
    "entry's share of its row?",
)
def shares_of_everything(x):
    return _shares(_row_most, np.sum)(x)


@mistake(
    "softmax",
    "You took one maximum and one sum for the whole table, so that all its values together sum to 1. How many sums, and how "
    "many maxima, do two rows need?",
)
def one_maximum_and_one_sum(x):
    return _shares(np.max, np.sum)(x)


@mistake(
    "softmax",
    lambda found, expected, x: (
        f"One maximum for each row has shape {x.shape[:-1]}, and NumPy lays that along the columns of {x.shape}; in a square "
        "table it would not even complain. What keeps the axis that max takes away?"
    ),
)
def maximum_without_keepdims(x):
    return _shares(lambda x: x.max(axis=-1), _row_total)(x)


@mistake(
    "softmax",
    lambda found, expected, x: (
        f"One sum for each row has shape {x.shape[:-1]}, and NumPy lays that along the columns of {x.shape}; in a square "
        "table it would not even complain. What keeps the axis that sum takes away?"
    ),
)
def sum_without_keepdims(x):
    return _shares(_row_most, lambda e: e.sum(axis=-1))(x)


@mistake(
    "softmax",
    lambda found, expected, x: (
        f"Neither your maxima nor your sums keep their axis: their shape is {x.shape[:-1]}, beside {x.shape}. In a square "
        "table NumPy would not even complain. What leaves an axis of size 1 standing?"
    ),
)
def neither_keepdims(x):
    return _shares(lambda x: x.max(axis=-1), lambda e: e.sum(axis=-1))(x)


@mistake(
    "softmax",
    "Your Tensor of maxima lost an axis, and its numbers would be laid along the columns of {x.shape}. Which argument "
    "of max keeps an axis of size 1, so that every row meets its own maximum?",
)
def tensor_maximum_without_keepdims(x):
    e = (x - x.max(axis=-1)).exp()
    return e / e.sum(axis=-1, keepdims=True)


@mistake(
    "softmax",
    "Your Tensor of sums lost an axis, and its numbers would be laid along the columns of {x.shape}. Which argument of "
    "sum keeps an axis of size 1, so that every row is divided by its own sum?",
)
def tensor_sum_without_keepdims(x):
    e = (x - x.max(axis=-1, keepdims=True)).exp()
    return e / e.sum(axis=-1)


@mistake(
    "softmax",
    "The shares are right, but x itself has changed: `-=` writes into the array that the Tensor holds, and .numpy() is the "
    "same memory. What makes a new array instead?",
)
def changes_x(x):
    x = x.numpy()
    x -= _row_most(x)
    return np.exp(x) / _row_total(np.exp(x))


@mistake(
    "softmax",
    "Your rows do not sum to 1; the largest entry of each is exactly 1. The exponentials are there: what turns parts into "
    "shares?",
)
def never_divided(x):
    return np.exp(x.numpy() - _row_most(x.numpy()))


@mistake(
    "softmax",
    "Your values are negative: they are the logarithms of the shares. Which function leads back?",
)
def logarithm(x):
    shifted = x.numpy() - _row_most(x.numpy())
    return shifted - np.log(_row_total(np.exp(shifted)))


@mistake(
    "softmax",
    "x is a Tensor, and NumPy's functions, such as np.exp, take arrays only. A Tensor has operations of its own, or hands "
    "out its array: which of the two will you use?",
)
def numpy_on_a_tensor(x):
    return np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)


# ---- cross_entropy


def _softmax(logits, axis=1):
    e = np.exp(logits - logits.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def _log_softmax(logits, axis=1):
    shifted = logits - logits.max(axis=axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))


def _one_hot(logits, labels):
    return np.eye(logits.shape[1])[labels]


def _loss(logits, labels):
    return ch04.cross_entropy(logits, labels)[0]


def _gradient(logits, labels):
    return ch04.cross_entropy(logits, labels)[1]


@mistake(
    "cross_entropy",
    "Your loss is infinite: the softmax underflows to 0 before its logarithm is taken, while the answer is {expected[0]:g}. "
    "Write out log(eˣ/Σeˣ): which exponential need never be computed?",
)
def log_of_an_underflowed_softmax(logits, labels):
    p = _softmax(logits)
    return -np.log(p[np.arange(len(labels)), labels]).mean(), _gradient(logits, labels)


@mistake(
    "cross_entropy",
    "There is NaN in a batch whose logits reach 1000, where exp overflows. A constant added to a row changes no "
    "probability: which constant makes every exponential harmless?",
)
def no_maximum_subtracted(logits, labels):
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    rows = np.arange(len(labels))
    return -np.log(p[rows, labels]).mean(), (p - _one_hot(logits, labels)) / len(labels)


def _capped(small):
    """A small number inside the logarithm, which is no cure: it says what the largest loss is."""

    def words(found, expected, logits, labels):
        worst = -_log_softmax(logits)[np.arange(len(labels)), labels].min()
        return (
            f"An image here costs {worst:.4g}, but none of yours costs more than {-math.log(small):.1f}, as if there were "
            f"{small:g} in your logarithm. Can log softmax be had without a logarithm of a tiny number?"
        )

    def capped(logits, labels):
        p = _softmax(logits)[np.arange(len(labels)), labels]
        return -np.log(p + small).mean(), _gradient(logits, labels)

    mistake("cross_entropy", words, f"logarithm_of_a_sum_with_{small:g}")(capped)


for _small in (1e-15, 1e-12, 1e-10, 1e-9, 1e-8):
    _capped(_small)


@mistake(
    "cross_entropy",
    "Your loss is infinite in a batch whose logits reach 1000: the sum of exponentials overflows before its logarithm is "
    "taken. A constant added to a row changes no probability: which one makes every exponential harmless?",
)
def logarithm_of_an_overflowed_sum(logits, labels):
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    loss = -log_p[np.arange(len(labels)), labels].mean()
    return loss, (np.exp(log_p) - _one_hot(logits, labels)) / len(labels)


@mistake(
    "cross_entropy",
    "Image 0 is right, image 1 is infinite: its largest logit lies 995 below what you subtracted from it. From which image "
    "came that maximum?",
)
def one_maximum_for_all_images(logits, labels):
    shifted = logits - logits.max()
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    loss = -log_p[np.arange(len(labels)), labels].mean()
    return loss, (np.exp(log_p) - _one_hot(logits, labels)) / len(labels)


@mistake(
    "cross_entropy",
    lambda found, expected, logits, labels: (
        f"logits[:, labels] is ({len(labels)}, {len(labels)}): every image with everybody's label, in the loss and in the "
        "gradient. How do you ask for one entry of each row?"
    ),
)
def all_labels_of_all_rows(logits, labels):
    gradient = _softmax(logits)
    gradient[:, labels] -= 1
    return -_log_softmax(logits)[:, labels].mean(), gradient / len(labels)


@mistake(
    "cross_entropy",
    lambda found, expected, logits, labels: (
        f"Your gradient is right, your loss takes the mean of {len(labels)} × {len(labels)} numbers: [:, labels] pairs every "
        "image with everybody's label. How do you ask for one entry of each row?"
    ),
)
def all_labels_in_the_loss(logits, labels):
    return -_log_softmax(logits)[:, labels].mean(), _gradient(logits, labels)


@mistake(
    "cross_entropy",
    lambda found, expected, logits, labels: (
        f"Your loss is right. In your gradient each row loses 1 at everybody's label: [:, labels] takes whole columns. "
        f"There are {len(labels)} labels for {len(labels)} rows: how do they pair up one by one?"
    ),
)
def all_labels_in_the_gradient(logits, labels):
    gradient = _softmax(logits)
    gradient[:, labels] -= 1
    return _loss(logits, labels), gradient / len(labels)


@mistake(
    "cross_entropy",
    lambda found, expected, logits, labels: (
        f"Loss and gradient are {logits.shape[1]} times too small, and there are {logits.shape[1]} classes: that is a mean "
        "over all entries. How many numbers does one image add to the loss?"
    ),
)
def mean_over_all_entries(logits, labels):
    k = logits.shape[1]
    return _loss(logits, labels) / k, _gradient(logits, labels) / k


@mistake(
    "cross_entropy",
    lambda found, expected, logits, labels: (
        f"Your gradient is right; your loss is {logits.shape[1]} times too small, and there are {logits.shape[1]} classes. "
        "A mean over (B, K) counts the zeros too: over how many images is it to be taken?"
    ),
)
def loss_over_all_entries(logits, labels):
    return _loss(logits, labels) / logits.shape[1], _gradient(logits, labels)


@mistake(
    "cross_entropy",
    lambda found, expected, logits, labels: (
        f"Your loss is right; every gradient is {logits.shape[1]} times too small, and there are {logits.shape[1]} classes. "
        "The loss is a mean over images: by what is one image's p − y divided?"
    ),
)
def gradient_over_all_entries(logits, labels):
    return _loss(logits, labels), _gradient(logits, labels) / logits.shape[1]


@mistake(
    "cross_entropy",
    lambda found, expected, logits, labels: (
        f"Every gradient is {len(labels)} times too large, and the batch has {len(labels)} images. The loss is a mean: how "
        "much does one image count?"
    ),
)
def gradient_not_divided(logits, labels):
    return _loss(logits, labels), _gradient(logits, labels) * len(labels)


@mistake(
    "cross_entropy",
    lambda found, expected, logits, labels: (
        f"Loss and gradient are {len(labels)} times too large, and the batch has {len(labels)} images. They fit each other: "
        "is the loss a sum or a mean?"
    ),
)
def sum_for_mean(logits, labels):
    return _loss(logits, labels) * len(labels), _gradient(logits, labels) * len(labels)


@mistake(
    "cross_entropy",
    lambda found, expected, logits, labels: (
        f"Your gradient is right; your loss is {len(labels)} times too large, and the batch has {len(labels)} images. Is the "
        "loss a sum over them?"
    ),
)
def loss_not_divided(logits, labels):
    return _loss(logits, labels) * len(labels), _gradient(logits, labels)


@mistake(
    "cross_entropy",
    "Your loss is right, and your gradient's rows sum to more than 0: no logit would be pushed up by it. A constant added to "
    "a row changes nothing, so what must each row sum to?",
)
def the_label_not_subtracted(logits, labels):
    return _loss(logits, labels), _softmax(logits) / len(labels)


@mistake(
    "cross_entropy",
    "Your loss is right, and every gradient has the wrong sign. When the right class's logit grows, which way does the loss go?",
)
def y_minus_p(logits, labels):
    return _loss(logits, labels), -_gradient(logits, labels)


@mistake(
    "cross_entropy",
    "Your loss is negative, {found[0]:.4g}. Probabilities lie below 1: what sign has a logarithm of one, and what sign should "
    "a cost have?",
)
def sign_of_the_loss(logits, labels):
    return -_loss(logits, labels), _gradient(logits, labels)


@mistake(
    "cross_entropy",
    "Your gradient is that of the probabilities, −1/p at the label and 0 elsewhere. The logits come before them: what does a "
    "larger logit take from the other classes?",
)
def gradient_of_the_probabilities(logits, labels):
    y = _one_hot(logits, labels)
    return _loss(logits, labels), -y / _softmax(logits) / len(labels)


@mistake(
    "cross_entropy",
    "Your probabilities sum to 1 down each column: every class is shared among the images. Does an image care which others "
    "are in its batch?",
)
def softmax_over_the_batch(logits, labels):
    loss = -_log_softmax(logits, axis=0)[np.arange(len(labels)), labels].mean()
    return loss, (_softmax(logits, axis=0) - _one_hot(logits, labels)) / len(labels)


@mistake(
    "cross_entropy",
    "Loss and gradient are right, but the caller's logits are no longer what they were: `-=` writes into the array that it is "
    "given. What makes a new one?",
)
def changes_the_logits(logits, labels):
    found = ch04.cross_entropy(logits, labels)
    logits -= logits.max(axis=1, keepdims=True)
    return found


# ---- first_loss: the listing as it is, repairs of one half, repairs that break something else


def _first_loss(first, second):
    """The listing with another spread for each of the two matrices."""

    def first_loss(rng, features, hidden, classes):
        w1 = rng.standard_normal((features, hidden)) * first(features, hidden, classes)
        w2 = rng.standard_normal((hidden, classes)) * second(features, hidden, classes)
        return w1, w2

    return first_loss


@mistake(
    "first_loss",
    "Nothing has changed yet: a hidden unit adds up {features} products and a logit {hidden}, each weight as large as 1. How "
    "does the spread of a sum grow with the number of its terms?",
)
def as_it_stands(rng, features, hidden, classes):
    return ch04.listing_first_loss(rng, features, hidden, classes)


@mistake(
    "first_loss",
    "The hidden units are tame now, but each logit is still a sum of {hidden} of them with weights as large as 1. What you "
    "did for w1's {features} inputs, who does it for the second matrix?",
)
def second_matrix_forgotten(rng, features, hidden, classes):
    return _first_loss(lambda f, h, k: f**-0.5, lambda f, h, k: 1)(rng, features, hidden, classes)


@mistake(
    "first_loss",
    "The second matrix is tame now, but it receives hidden units that add up {features} products with weights as large as 1. "
    "What you did for w2, who does it for the first matrix?",
)
def first_matrix_forgotten(rng, features, hidden, classes):
    return _first_loss(lambda f, h, k: 1, lambda f, h, k: h**-0.5)(rng, features, hidden, classes)


@mistake(
    "first_loss",
    "You divide each matrix by the root of its number of columns. A unit's spread grows with the terms that it adds up: is "
    "that w1's {hidden} columns, or the other number?",
)
def outputs_counted_for_inputs(rng, features, hidden, classes):
    return _first_loss(lambda f, h, k: h**-0.5, lambda f, h, k: k**-0.5)(rng, features, hidden, classes)


@mistake(
    "first_loss",
    "Your weights have grown: both matrices are multiplied by the root of their number of inputs. A sum of {features} terms "
    "is too large already: in which direction should they be scaled?",
)
def multiplied_for_divided(rng, features, hidden, classes):
    return _first_loss(lambda f, h, k: f**0.5, lambda f, h, k: h**0.5)(rng, features, hidden, classes)


@mistake(
    "first_loss",
    "All weights are 0. The first loss is perfect, and so it stays: with every hidden unit at 0, which gradient would ever "
    "reach w1?",
)
def all_zero(rng, features, hidden, classes):
    return np.zeros((features, hidden)), np.zeros((hidden, classes))


@mistake(
    "first_loss",
    "The loss is right, but w1 is 0: all hidden units are 0 for every image and receive the same gradient. What lets them "
    "become different from one another?",
)
def first_matrix_zero(rng, features, hidden, classes):
    drawn = ch04.first_loss(rng, features, hidden, classes)
    return np.zeros((features, hidden)), drawn[1]


@mistake(
    "first_loss",
    "All your weights are positive now, drawn between 0 and 1: every hidden unit and every logit is a large sum without a "
    "minus. What do weights of both signs do to a sum of {features} terms?",
)
def drawn_between_0_and_1(rng, features, hidden, classes):
    return rng.random((features, hidden)), rng.random((hidden, classes))


@mistake(
    "first_loss",
    "All weights of w1 are the same number, so all {hidden} hidden units are one unit {hidden} times. They will receive the "
    "same gradient: what tells them apart?",
)
def first_matrix_of_one_number(rng, features, hidden, classes):
    drawn = ch04.first_loss(rng, features, hidden, classes)
    return np.full((features, hidden), 1 / features), drawn[1]


# ---- training_bug: the listing as it is, half repairs, repairs that break something else


def _training(statistics=None, *, collect=False, test=None, average=True):
    """Softmax regression with other statistics, a gradient that is collected, or a test set treated otherwise."""

    def training_bug(train_x, train_y, test_x, classes, steps, rate):
        mean, std = (statistics or _of_training)(train_x, test_x)
        x, target = (train_x - mean) / std, np.eye(classes)[train_y]
        weight, gradient = np.zeros((x.shape[1], classes)), np.zeros((x.shape[1], classes))
        for _ in range(steps):
            step = x.T @ (_softmax(x @ weight) - target) / (len(x) if average else 1)
            gradient = gradient + step if collect else step
            weight -= rate * gradient
        return weight, (test or (lambda test_x, mean, std: (test_x - mean) / std))(test_x, mean, std)

    return training_bug


def _spread(x):
    return x.mean(axis=0), x.std(axis=0) + 1e-6


def _of_training(train_x, test_x):
    return _spread(train_x)


def _of_both(train_x, test_x):
    return _spread(np.concatenate([train_x, test_x]))


def _training_mistake(name, sentence, function):
    mistake("training_bug", sentence, name)(function)


_training_mistake(
    "as_it_stands_now",
    "Both faults are there. Mean and deviation know the test images, which are to be unknown until the end; and `gradient +=` "
    "remembers. How many steps old is the oldest part of the last step?",
    ch04.listing_training_bug,
)
_training_mistake(
    "still_collecting",
    "The cheating has stopped, and one step is right; after {steps} steps the weights have gone too far. What does `gradient` "
    "hold at the beginning of the second step?",
    _training(collect=True),
)
_training_mistake(
    "still_cheating",
    "The steps are right now, but the mean of your training data is not 0: it has looked at {test_x.shape[0]} images that it "
    "must not know. Whose mean is it?",
    _training(_of_both),
)
_training_mistake(
    "test_by_its_own_statistics",
    "Your weights are right. The test images have mean 0, each feature by itself, as if they came as one known set: which "
    "mean and deviation did the weights learn with?",
    _training(test=lambda test_x, mean, std: (test_x - _spread(test_x)[0]) / _spread(test_x)[1]),
)
_training_mistake(
    "test_as_it_came",
    "Your weights are right, and the test images are untouched. The weights have learnt on standardised features: what must "
    "happen to any image that is multiplied with them?",
    _training(test=lambda test_x, mean, std: test_x),
)
_training_mistake(
    "collecting_and_test_by_itself",
    "The training data are clean, but two things are left: the test images are standardised by themselves, and after the "
    "first step the gradient still holds the earlier ones. Which lines do that?",
    _training(collect=True, test=lambda test_x, mean, std: (test_x - _spread(test_x)[0]) / _spread(test_x)[1]),
)
_training_mistake(
    "half_a_leak",
    "The mean is the training set's own now, but the deviation is not. One of two numbers still knows the test images: where "
    "is each of them computed?",
    _training(lambda train_x, test_x: (train_x.mean(axis=0), _of_both(train_x, test_x)[1])),
)
_training_mistake(
    "statistics_of_the_test_images",
    "Now everything is standardised by the test images, which is the fault the other way round. Which of the two sets may a "
    "model know before the end?",
    _training(lambda train_x, test_x: _spread(test_x)),
)
_training_mistake(
    "nothing_standardised",
    "The features come out as they went in: without a mean and a deviation nobody can cheat, but standardised images are "
    "asked for. Which images may they be taken from?",
    _training(lambda train_x, test_x: (0.0, 1.0)),
)
_training_mistake(
    "one_number_for_all_features",
    "You took one mean and one deviation of the whole table; the listing had one of each for every feature. Along which axis "
    "do the images lie?",
    _training(lambda train_x, test_x: (train_x.mean(), train_x.std() + 1e-6)),
)
_training_mistake(
    "sum_over_images",
    "Your first step is {train_x.shape[0]} times too long, and there are {train_x.shape[0]} images. That was in order before: "
    "which division has gone?",
    _training(average=False),
)
_training_mistake(
    "updated_once",
    "Your weights are those after a single step. Zeroing the gradient is right; what else has to happen in every one of the "
    "{steps} rounds?",
    lambda train_x, train_y, test_x, classes, steps, rate: ch04.training_bug(
        train_x, train_y, test_x, classes, 1, rate
    ),
)
_training_mistake(
    "rate_shared_among_steps",
    "With one step yours is right; with {steps} the steps have become too short. The sum in `gradient` made them long: is it "
    "better to divide by their number, or not to add them up?",
    lambda train_x, train_y, test_x, classes, steps, rate: _training()(
        train_x, train_y, test_x, classes, steps, rate / steps
    ),
)
_training_mistake(
    "collected_and_averaged",
    "With one step yours is right; after that you follow the mean of all gradients so far. The old ones were measured at "
    "weights that are gone: which of them still says where down is?",
    lambda train_x, train_y, test_x, classes, steps, rate: _averaging(train_x, train_y, test_x, classes, steps, rate),
)


def _averaging(train_x, train_y, test_x, classes, steps, rate):
    mean, std = _spread(train_x)
    x, target = (train_x - mean) / std, np.eye(classes)[train_y]
    weight = gradient = np.zeros((x.shape[1], classes))
    for step in range(1, steps + 1):
        gradient = gradient + x.T @ (_softmax(x @ weight) - target) / len(x)
        weight = weight - rate * gradient / step
    return weight, (test_x - mean) / std
