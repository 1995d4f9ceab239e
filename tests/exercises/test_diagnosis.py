"""Clues for mistakes that nobody listed: each found where it is, and none where it is not."""

import numpy as np
import pytest

from exercises.diagnosis import axis_names, clue, difference, equal

RNG = np.random.default_rng(0)
A = RNG.standard_normal((2, 3, 4))
SQUARE = RNG.standard_normal((3, 3))


@pytest.mark.parametrize(
    ("found", "expected", "said"),
    [
        (8 * A, A, "8 times too large. 8 is n"),
        (A / 4, A, "4 times too small. 4 is the size of axis 2 of x"),
        (A * 2, A, "2 times too large"),
        (A * np.sqrt(3), A, "the root of 3"),
        (-A, A, "wrong sign"),
        (A + 0.5, A, "0.5 too large"),
        (np.zeros_like(A), A, "All your values are 0"),
        (A[::-1], A, "axis 0 runs backwards"),
        (np.roll(A, 1, axis=2), A, "axis 2 is turned by 1"),
        (SQUARE.T, SQUARE, "axes [0, 1] are exchanged"),
        (A.transpose(1, 0, 2).reshape(A.shape), A, "order [1, 0, 2]"),
        (RNG.permutation(A.ravel()).reshape(A.shape), A, "not in its place"),
        (np.concatenate([A[:, :, 1:], A[:, :, :1] + 9], axis=2), A, "off by one along axis 2"),
        (A.transpose(2, 0, 1), A, "transposed: with its axes in the order [1, 2, 0]"),
        (A.reshape(6, 4), A, "only the shape is not: reshape it"),
        (A[:, :1].squeeze(1), A[:, :1], "keepdims"),
        (A, A.sum(axis=(0, 1)), "The sum of your result over axes [0, 1] would be right"),
        (A, A.mean(axis=1, keepdims=True), "The mean of your result over axis 1 would be right"),
        (A[0], np.broadcast_to(A[0], A.shape), "broadcast them"),
        (A[:, :-1], A, "Axis 1 has one entry too few"),
        (np.where(A > 1, np.nan, A), A, "There is nan in"),
        (A.round().astype(int) * 0 + np.trunc(10 * A).astype(int), 10 * A, "cuts the fractions off"),
        (A + 1e-4 * np.abs(A).max(), A, "0."),
        ((A, SQUARE), (SQUARE, A), "another order"),
        (A, (A, SQUARE), "It is right as value 1"),
        ((A, 3 * SQUARE), (A, SQUARE), "3 times too large"),
    ],
)
def test_a_clue(found, expected, said):
    x = np.ones((5, 3, 4))
    assert said in clue(found, expected, {"x": x, "n": 8})


def test_the_argument_handed_back():
    assert clue(A, A * A + 1, {"x": A}) == "Your result is the argument x, unchanged."
    assert "argument x, unchanged" in clue(A, A.sum() * np.ones(3), {"x": A})


def test_the_wrong_axis_reduced():
    x = RNG.standard_normal((3, 4))
    assert clue(x.max(axis=1), x.max(axis=0), {"x": x}) == "Axis 1 of x is gone; axis 0 should be."


def test_noise_gets_no_clue():
    for shape in ((2, 3, 4), (5,), ()):
        found, expected = RNG.standard_normal((2, *shape))
        assert clue(found, expected, {"x": A}) is None


@pytest.mark.parametrize(
    ("found", "expected"), [("a", A), (None, A), (object(), A), ({1}, {2}), (np.array(["a"]), A), ([], A)]
)
def test_what_holds_no_numbers_gets_none(found, expected):
    assert clue(found, expected, {}) is None and difference(found, expected)


def test_where_the_differences_are():
    wrong = A.copy()
    wrong[:, 1] += 1
    assert "all where the index of axis 1 (T) is 1" in difference(wrong, A, axes=["B", "T", "d"])
    wrong = A + 1
    wrong[:, 0] -= 1
    assert "none where the index of axis 1 is 0" in difference(wrong, A)
    assert "expected (2, 3, 4) (B, T, d)" in difference(A[0], A, axes=["B", "T", "d"])


def test_names_of_axes_are_read_from_docstrings():
    assert axis_names("Cut: (B, H, W, C) -> (B, N, P·P·C).") == ["B", "N", "P·P·C"]
    assert axis_names("Nothing said.") == [] and axis_names(None) == []


def test_rounding_is_no_difference():
    assert equal(A.astype(np.float32), A) and equal([1, 2], np.array([1.0, 2.0])) and equal(np.float64(2), 2)
    assert not equal(A * (1 + 1e-3), A) and not equal(True, 1.5) and not equal("a", "b")
