"""The exercises: skeletons are fresh and fail, the reference passes, usual mistakes and bad answers are told what they are."""

import math
import os

import numpy as np
import pytest

import minivit as mv
from exercises import manifest, skeletons
from exercises.checking import examine
from exercises.diagnosis import difference
from exercises.manifest import exercise, exercises
from exercises.workshop import ch02, ch03, ch04, ch05, ch06
from minivit.engine import composed
from minivit.engine.errors import ConfigError

TASKS = list(exercises().values())
every_exercise = pytest.mark.parametrize("task", TASKS, ids=lambda task: task.id)


def from_skeleton(task):
    """The function of the text that the manifest makes, whatever a reader has written into the file."""
    scope = {}
    exec(compile(skeletons.skeleton(task.chapter), f"ch{task.chapter:02}.py", "exec"), scope)
    return scope[task.id]


@pytest.mark.parametrize("chapter", skeletons.chapters())
def test_skeletons_are_fresh(chapter):
    now = skeletons.path(chapter).read_text(encoding="utf-8")
    if not os.environ.get("CI") and skeletons.solved(skeletons.path(chapter)):
        return  # somebody works on the exercises here; what is committed is unsolved
    assert now == skeletons.skeleton(chapter), "run: python -m exercises skeletons"


@every_exercise
def test_the_skeleton_fails(task):
    outcome = examine(task, from_skeleton(task))
    assert outcome.status == ("wrong" if task.repairs else "not written yet")


@every_exercise
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_reference_passes(task, seed):
    assert examine(task, task.answer, seed).status == "passed"


@every_exercise
def test_inputs_are_the_same_each_time_and_others_with_another_seed(task):
    draw = getattr(task.workshop, f"inputs_{task.id}")
    arrays = [
        [a for args in draw(np.random.default_rng(s)) for a in args if isinstance(a, np.ndarray)] for s in (0, 0, 1)
    ]
    assert all(np.array_equal(a, b) for a, b in zip(*arrays[:2], strict=True))
    random = task.id not in ("shapes", "sincos_2d", "first_loss") and arrays[0]
    assert not random or any(not np.array_equal(a, b) for a, b in zip(arrays[0], arrays[2], strict=True))


def test_the_answers_of_the_workshop_are_what_the_library_does(rng):
    logits, labels = rng.standard_normal((5, 4)), rng.integers(0, 4, 5)
    x = mv.Tensor(logits, requires_grad=True)
    loss = composed.cross_entropy(x, labels)
    loss.backward()
    ours = ch04.cross_entropy(logits, labels)
    assert math.isclose(ours[0], loss.item()) and np.allclose(ours[1], x.grad)

    a, b = (mv.Tensor(rng.standard_normal(s), requires_grad=True) for s in ((2, 5, 3), (3, 4)))
    g = rng.standard_normal((2, 5, 4))
    (a @ b).backward(g)
    assert all(np.allclose(*pair) for pair in zip(ch03.matmul_vjp(g, a.data, b.data), (a.grad, b.grad), strict=True))

    index = np.array([1, 1, 3])
    x, g = mv.Tensor(rng.standard_normal((4, 2)), requires_grad=True), rng.standard_normal((3, 2))
    x[index].backward(g)
    assert np.allclose(ch03.take_vjp(g, x.data, index), x.grad)

    images, kernel = rng.random((2, 6, 9, 3)), rng.random((3, 3, 3, 5))
    assert np.allclose(ch05.conv_is_patchify(images, kernel), mv.conv2d(images, kernel, stride=3).numpy())

    q, k, v = (mv.Tensor(rng.standard_normal(s), requires_grad=True) for s in ((2, 3, 4), (2, 5, 4), (2, 5, 6)))
    g = rng.standard_normal((2, 3, 6))
    composed.attention(q, k, v).backward(g)
    ours = ch06.attention_vjp(g, q.data, k.data, v.data)
    assert all(np.allclose(a, x.grad) for a, x in zip(ours, (q, k, v), strict=True))

    x, *weights = rng.standard_normal((2, 5, 6)), *rng.standard_normal((3, 6, 4))
    one_head = mv.attention(*(x @ w for w in weights)).numpy()
    assert np.allclose(ch06.attention_bug(x, *weights), one_head)


def test_gradients_of_a_graph_by_hand():
    x, y = ch02.Node(3.0), ch02.Node(2.0)
    square = ch02._times(x, x)
    root = ch02._plus(ch02._times(square, y), x)  # x²y + x
    assert ch02.backward(ch02.topo_order(root)) == {x: 13.0, y: 9.0}


# --- mistakes that students make --------------------------------------------------------------------------------------


def rows_of_the_image(images, patch_size):
    b, h, w, c = images.shape
    return images.reshape(b, -1, patch_size * patch_size * c)


def last_use_only(order):
    gradients = {order[-1]: 1.0}
    for node in reversed(order):
        for parent, slope in zip(node.parents, node.slopes, strict=True):
            gradients[parent] = gradients[node] * slope
    return {node: gradients[node] for node in order if not node.parents}


def copied_tiles(image, size):
    return ch01_tiles(image, size).copy()


def ch01_tiles(image, size):
    return exercise("tiles_view").answer(image, size)


def nudges_and_forgets(f, x, eps=1e-4):
    for i in np.ndindex(x.shape):
        x[i] += eps
    return x


MISTAKES = [
    ("shapes", lambda: [(3, 4)] * 5, "has 5 values, expected 6"),
    ("tiles_view", copied_tiles, "they are a copy"),
    ("numerical_grad", nudges_and_forgets, "changes its argument x"),
    ("topo_order", lambda root: [root, *root.parents], "was made from"),
    ("topo_order", lambda root: [*root.parents, root], "more than once"),  # the square's one parent is there twice
    ("topo_order", lambda root: [root], "take part"),
    ("topo_order", lambda root: 3, "not a list of nodes"),
    ("backward", last_use_only, "is used 2 times"),
    ("backward", lambda order: dict.fromkeys(order, 1.0), "not leaves"),
    ("backward", lambda order: {}, "lacks"),
    ("unbroadcast", lambda g, shape: g, "has shape"),
    ("cross_entropy", lambda logits, labels: (0.0, logits), "value 1 of your result"),
    ("first_loss", lambda rng, f, h, k: (np.zeros((f, h)), np.zeros((h, k))), "all hidden units"),
    ("patchify", rows_of_the_image, "entry [0, 0, 12]"),
    ("patchify", lambda images, patch_size: "patches", "of type str"),
    ("patchify", lambda images, patch_size: 1 / 0, "stopped with ZeroDivisionError"),
    ("conv_is_patchify", lambda images, kernel: None, "returns nothing"),
    ("two_maps_one_output", lambda weights, v: weights[0], "has shape"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "mistake", "words"), MISTAKES)
def test_a_mistake_is_found_and_named(name, mistake, words):
    outcome = examine(exercise(name), mistake)
    assert not outcome.passed and words in outcome.message, outcome.message


def test_another_way_to_write_it_passes():
    def by_loop(images, patch_size):
        b, h, w, c = images.shape
        cuts = [
            images[:, i : i + patch_size, j : j + patch_size].reshape(b, -1)
            for i in range(0, h, patch_size)
            for j in range(0, w, patch_size)
        ]
        return np.stack(cuts, axis=1).astype(np.float32)

    assert examine(exercise("patchify"), by_loop).passed
    assert examine(exercise("softmax"), mv.softmax).passed
    assert examine(exercise("attention"), mv.attention).passed


def test_a_hidden_answer_stays_hidden():
    message = examine(exercise("shapes"), lambda: [(3, 4), (9, 9)] + ["error"] * 4).message
    assert "(9, 9)" in message or "[9, 9]" in message
    assert "expected" not in message


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (1.0, 1.0 + 1e-9),
        (np.ones(3, np.float32), [1, 1, 1]),
        ((1, "a"), (1, "a")),
        ({"b"}, {"b"}),
        ([(2, 3)], [(2, 3)]),
    ],
)
def test_equal_results(found, expected):
    assert difference(found, expected) is None


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (math.nan, 1.0),
        (np.ones(3), np.ones((3, 1))),
        (object(), 1.0),
        ("a", 1.0),
        ([[1], [2, 3]], np.ones(2)),
        ((1,), 3),
    ],
)
def test_different_results_are_described(found, expected):
    assert difference(found, expected)


# --- the files that readers fill in -----------------------------------------------------------------------------------


def test_work_is_kept_when_skeletons_are_made_again(tmp_path, monkeypatch):
    monkeypatch.setattr(skeletons, "FOLDER", tmp_path)
    assert "written" in skeletons.write(5) and "unchanged" in skeletons.write(5)
    file = tmp_path / "ch05.py"
    mine = file.read_text(encoding="utf-8").replace("raise NotImplementedError", "return 1", 1)
    file.write_text(mine, encoding="utf-8")
    assert "kept" in skeletons.write(5) and file.read_text(encoding="utf-8") == mine
    assert "written" in skeletons.write(5, overwrite=True) and file.read_text(encoding="utf-8") != mine


def test_a_misspelt_key_of_the_manifest_raises(tmp_path, monkeypatch):
    (tmp_path / "manifest.toml").write_text('[x]\nchapter = 1\ntitel = "y"\nstars = 1\nminutes = 1\n')
    monkeypatch.setattr(manifest, "FOLDER", tmp_path)
    with pytest.raises(ConfigError, match="titel"):
        manifest.exercises.__wrapped__()
