"""The figures: what they say in words, that nothing overlaps or leaves the page, and the arithmetic behind the maps."""

import io
import subprocess
import sys
from itertools import combinations

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from minivit import data, viz
from minivit.engine.errors import CheckpointError, ConfigError, DataError, ShapeError


def weights(rng, *shape):
    """Random attention: positive, rows summing to 1."""
    a = rng.random(shape) ** 3 + 1e-3
    return a / a.sum(axis=-1, keepdims=True)


def history(epochs):
    return [
        {"epoch": i + 1, "train_loss": 2.3 / (i + 1), "val_loss": 2.0 / (i + 1), "val_accuracy": 1 - 0.9 / (i + 1)}
        for i in range(epochs)
    ]


def faults(fig):
    """What is wrong with a page: text outside it, or two texts on top of each other."""
    fig.canvas.draw()
    page, unseen = fig.bbox, set()  # labels of ticks beyond the ends of an axis are there but never drawn
    for axis in (axis for ax in fig.axes for axis in (ax.xaxis, ax.yaxis)):
        low, high = sorted(axis.get_view_interval())
        ticks = [t for t in axis.get_major_ticks() if not low <= t.get_loc() <= high]
        unseen |= {label for t in ticks for label in (t.label1, t.label2)}
    found = []
    boxes = []
    for text in fig.findobj(Text):
        box = text.get_window_extent()
        if text in unseen or not text.get_text().strip() or not text.get_visible() or box.width == 0:
            continue
        if box.x0 < page.x0 - 1 or box.x1 > page.x1 + 1 or box.y0 < page.y0 - 1 or box.y1 > page.y1 + 1:
            found.append(f"outside: {text.get_text()!r}")
        if text.get_fontsize() < 7.5:
            found.append(f"tiny: {text.get_text()!r} at {text.get_fontsize()}")
        boxes.append((text.get_text(), box.padded(-1)))
    found += [f"{a!r} over {b!r}" for (a, one), (b, other) in combinations(boxes, 2) if one.overlaps(other)]
    return found


def digits_answers(rng, n=40, sure=2.0):
    d = data.load("digits")
    logits = rng.normal(size=(n, 10)) + sure * np.eye(10)[d.test.labels[:n]]
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return d.test.images[:n], shares, d.test.labels[:n], d.class_names


@pytest.fixture(scope="module")
def figures():
    """One figure of every kind and of every awkward shape, by name."""
    rng = np.random.default_rng(0)
    photo = rng.random((48, 24, 3)).astype(np.float32)
    tall = [weights(rng, 3, 33, 33) for _ in range(2)]  # 8×4 patches and a class token
    images = rng.random((5, 12, 12, 1)).astype(np.float32)
    long_names = tuple(f"a class with a very long name {i} $x_" for i in range(10))
    pixels, shares, labels, names = digits_answers(rng)
    many = weights(rng, 12, 10, 10)
    return {
        "curves": viz.learning_curves(history(100), title="digits, ViT", note="A note."),
        "one epoch": viz.learning_curves(history(1)),
        "predictions": viz.predictions(pixels, shares, labels, names),
        "no mistakes": viz.predictions(pixels[:3], np.eye(10)[labels[:3]], labels[:3], names),
        "long names": viz.predictions(pixels, shares, labels, long_names),
        "class attention": viz.class_attention(
            images, weights(rng, 5, 2, 10, 10), (3, 3), captions=["a", "b"] * 2 + ["c"]
        ),
        "with untrained": viz.class_attention(
            images,
            weights(rng, 5, 2, 10, 10),
            (3, 3),
            untrained=weights(rng, 5, 2, 10, 10),
            captions=list(long_names[:5]),
        ),
        "mean pooling": viz.class_attention(images[:1], weights(rng, 1, 2, 9, 9), (3, 3), query="mean", prefix=0),
        "look": viz.look(
            photo, tall, (8, 4), answers=[("ship", 0.9), ("a class with a very long name", 0.1)], title="x.png"
        ),
        "look at a patch": viz.look(photo, tall, (8, 4), query=(7, 3), layers=[1], heads=[0, 2], title="x" * 90),
        "look, mean pooling": viz.look(images[0], [many[:, 1:, 1:]] * 2, (3, 3), query="mean", prefix=0),
        "look, many heads": viz.look(images[0], [many] * 12, (3, 3)),
        "look, pooling": viz.look(
            rng.random((4, 30, 1)),
            [many] * 2,
            (3, 3),
            query="mean",
            pooling=weights(rng, len(many), 1, 10),
            note="a " * 30,
        ),
        "influence": viz.influence(
            photo,
            rng.random((8, 4)),
            kind="Mixer",
            answers=[("ship", 0.9), ("a class with a long name", 0.1)],
            title="x.png",
        ),
        "influence, features": viz.influence(rng.random((5, 50, 3)), np.zeros((1, 10)), title="y" * 90),
        "contact sheet": viz.contact_sheet(data.load("digits")),
        "contact sheet, long names": viz.contact_sheet(data.twin(n_train=30, n_val=2, n_test=2), per_class=3),
    }


NAMES = [
    "curves", "one epoch", "predictions", "no mistakes", "long names", "class attention", "with untrained", "mean pooling",
    "look", "look at a patch", "look, mean pooling", "look, many heads", "look, pooling", "influence",
    "influence, features", "contact sheet", "contact sheet, long names",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_is_readable_and_described(figures, name):
    fig = figures[name]
    assert faults(fig) == []
    words = fig.alt.split()
    assert 10 < len(words) <= 61
    assert any(c.isdigit() for c in fig.alt)
    assert not fig.alt.lower().startswith("image of")
    picture = Image.open(io.BytesIO(viz.png(fig, dpi=40)))
    assert picture.info["Description"] == fig.alt
    assert picture.info["Title"] == fig.title


def test_the_fixture_names_every_figure(figures):
    assert list(figures) == NAMES


# ---------------------------------------------------------------- what the words say


def test_learning_curves_say_where_they_end_and_what_was_best():
    rows = history(4)
    rows[2]["val_accuracy"] = 0.95
    alt = viz.learning_curves(rows).alt
    for number in ("epochs 1 to 4", "0.575", "0.500", "77.5 %", "best 95.0 % after epoch 3"):
        assert number in alt


def test_learning_curves_without_validation():
    alt = viz.learning_curves([{"epoch": 1, "train_loss": 0.25}]).alt
    assert "0.250" in alt and "nan" not in alt


def test_learning_curves_need_an_epoch():
    with pytest.raises(DataError, match="empty"):
        viz.learning_curves([])


def test_predictions_begin_with_the_surest_mistake(rng):
    images, shares, labels, names = digits_answers(rng)
    said, wrong = shares.argmax(axis=1), shares.argmax(axis=1) != labels
    fig = viz.predictions(images, shares, labels, names, count=8)
    titles = [t.get_text() for t in fig.findobj(Text) if t.get_text()[:1] in ("✗", "✓")]
    first = max(np.flatnonzero(wrong), key=lambda i: shares[i].max())
    assert titles[0] == f"✗ {names[said[first]]} ({100 * shares[first].max():.0f} %)"
    marks = "".join(t[0] for t in titles)
    assert marks == ("✗" * wrong.sum() + "✓" * 8)[:8]
    assert f"{wrong.sum()} of 40 answers are wrong" in fig.alt
    right = [int(t.split("(")[1].split(" ")[0]) for t in titles if t[0] == "✓"]
    assert right == sorted(right)  # the least sure first


def test_predictions_check_their_shapes(rng):
    images, shares, labels, names = digits_answers(rng)
    with pytest.raises(ShapeError, match=r"\(40, 10\)"):
        viz.predictions(images, shares[:, :9], labels, names)


def test_class_attention_says_the_extremes(rng):
    a = np.full((2, 1, 5, 5), 0.2)
    a[0, 0, 0] = [0.1, 0.6, 0.1, 0.1, 0.1]
    fig = viz.class_attention(rng.random((2, 4, 4, 1)), a, (2, 2), untrained=np.full((2, 1, 5, 5), 0.2))
    assert "Largest 3.0×, smallest 0.50×; before training 1.0× and 1.00×" in fig.alt


def test_look_names_the_strongest_head_and_the_answer(rng):
    quiet = np.full((2, 5, 5), 0.2)
    loud = quiet.copy()
    loud[1, 0] = [0.1, 0.1, 0.1, 0.1, 0.6]
    alt = viz.look(rng.random((4, 4, 1)), [quiet, loud], (2, 2), answers=[("cat", 0.87)]).alt
    assert "(layer 1, head 1) at 3.0×" in alt
    assert "cat, 87 %" in alt
    assert "row 1, column 1" in alt


def test_look_says_who_asks(rng):
    attention = [weights(rng, 2, 4, 4)]
    image = rng.random((4, 4, 1))
    assert viz.look(image, attention, (2, 2), query="mean", prefix=0).title.startswith(
        "Where the average patch looks in the"
    )
    assert "averaged over all patches" in viz.look(image, attention, (2, 2), query="mean", prefix=0).title
    asking = viz.look(image, attention, (2, 2), query=(1, 0), prefix=0, title="a.png")
    assert asking.title == "Where the patch in row 1, column 0 looks in a.png"
    framed = [ax for ax in asking.axes if ax.patches and ax.images]
    assert len(framed) == 4 and all(
        p.get_xy() == (-0.5, 1.5) for ax in framed for p in ax.patches
    )  # photo, 2 heads, mean


def test_pooling_has_its_own_row(rng):
    even, sharp = np.full((1, 5, 5), 0.2), np.array([[[0.1, 0.0, 0.0, 0.9, 0.0]]])
    alt = viz.look(rng.random((4, 4, 1)), [even], (2, 2), prefix=1, query="mean", pooling=sharp).alt
    assert "2×2 attention maps" in alt and "(pooling, head 0) at 4.5×" in alt


def test_influence_says_where_it_peaks(rng):
    figure = viz.influence(
        rng.random((4, 6, 3)), np.array([[1.0, 0.5], [0.5, 2.0]]), kind="Mixer", answers=[("cat", 0.87)]
    )
    assert "peaks at 2.0× in row 1, column 1" in figure.alt and "cat, 87 %" in figure.alt
    assert "a Mixer has no attention" in figure.title


# ---------------------------------------------------------------- the arithmetic


def test_rollout_of_two_layers_by_hand():
    one = np.array([[[[0.5, 0.5], [0.0, 1.0]]]])
    two = np.array([[[[0.0, 1.0], [1.0, 0.0]]]])
    # ½(A + I) = [[.75 .25] [0 1]] and [[.5 .5] [.5 .5]]; the later layer stands on the left
    expected = np.array([[0.5, 0.5], [0.5, 0.5]]) @ np.array([[0.75, 0.25], [0.0, 1.0]])
    np.testing.assert_allclose(viz.rollout([one, two])[0], expected)
    assert not np.allclose(viz.rollout([two, one])[0], expected)


def test_rollout_takes_the_mean_over_heads_and_keeps_rows_at_one(rng):
    layers = [weights(rng, 3, 4, 6, 6) for _ in range(5)]
    rolled = viz.rollout(layers)
    assert rolled.shape == (3, 6, 6)
    np.testing.assert_allclose(rolled.sum(axis=-1), 1)
    np.testing.assert_allclose(viz.rollout([a.mean(axis=1, keepdims=True) for a in layers]), rolled)


def test_rollout_needs_attention():
    with pytest.raises(ConfigError, match="no attention"):
        viz.rollout([])


@pytest.mark.parametrize(("query", "row"), [("class", 0), ((0, 0), 2), ((1, 2), 7)])
def test_over_patches_reads_one_row_relative_to_uniform(rng, query, row):
    a = weights(rng, 2, 3, 8, 8)  # a class token, a register, 2×3 patches
    np.testing.assert_allclose(
        viz.over_patches(a, (2, 3), query=query, prefix=2), 8 * a[:, :, row, 2:].reshape(2, 3, 2, 3)
    )


def test_over_patches_mean_and_uniform(rng):
    a = weights(rng, 7, 7)
    np.testing.assert_allclose(
        viz.over_patches(a, (2, 3), query="mean").ravel(), 7 * a[1:].mean(axis=0)[1:], rtol=1e-12
    )
    np.testing.assert_allclose(viz.over_patches(np.full((7, 7), 1 / 7), (2, 3)), 1)


def test_over_patches_refuses_what_is_not_there(rng):
    with pytest.raises(ShapeError, match="8 tokens"):
        viz.over_patches(weights(rng, 8, 8), (2, 3))
    with pytest.raises(ConfigError, match="rows 0 to 1 and columns 0 to 2"):
        viz.over_patches(weights(rng, 7, 7), (2, 3), query=(2, 0))
    with pytest.raises(ConfigError, match="class token"):
        viz.over_patches(weights(rng, 6, 6), (2, 3), prefix=0)


@pytest.mark.parametrize(
    ("choice", "message"), [({"layers": [2]}, "no layer 2.*0 to 1"), ({"heads": [-1]}, "no head -1")]
)
def test_look_refuses_layers_and_heads_that_are_not_there(rng, choice, message):
    with pytest.raises(ConfigError, match=message):
        viz.look(rng.random((4, 4, 1)), [weights(rng, 3, 5, 5)] * 2, (2, 2), **choice)


def test_look_needs_attention(rng):
    with pytest.raises(ConfigError, match="no attention"):
        viz.look(rng.random((4, 4, 1)), [], (2, 2))


def test_a_patch_is_drawn_where_it_is(rng):
    """The one patch that is attended to is the brightest place of its map."""
    a = np.full((1, 10, 10), 0.01)
    a[0, 0, 1 + 5] = 0.91  # row 1, column 2 of 3×3
    fig = viz.look(np.zeros((9, 9, 1)), [a], (3, 3))
    maps = [i.get_array() for ax in fig.axes for i in ax.get_images() if i.get_array().shape == (9, 9, 3)]
    head = maps[2].sum(axis=-1)  # after the photo and the rollout
    assert head[3:6, 6:9].min() > head[:3].max()
    assert np.unique(head[3:6, 6:9]).size == 1


# ---------------------------------------------------------------- files


def test_save_is_whole_or_not_at_all(figures, tmp_path):
    path = viz.save(figures["one epoch"], tmp_path / "new folder" / "a.png", dpi=30)
    assert [p.name for p in path.parent.iterdir()] == ["a.png"]
    with Image.open(path) as picture:
        picture.verify()
    with pytest.raises(CheckpointError, match=r"a\.png"):
        viz.save(figures["one epoch"], path / "below a file.png", dpi=30)


def test_the_same_figure_is_the_same_bytes(rng):
    rows = history(3)
    assert viz.png(viz.learning_curves(rows)) == viz.png(viz.learning_curves(rows))


def test_no_pyplot_and_no_matplotlib_before_it_is_needed():
    code = (
        "import sys, minivit.viz as viz; assert 'matplotlib' not in sys.modules;"
        "viz.png(viz.learning_curves([{'epoch': 1, 'train_loss': 1.0}]));"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_class_names_in_any_script_are_no_formula_and_no_warning(rng):
    images, shares, labels, _ = digits_answers(rng, n=4, sure=0)
    names = ["$\\frac{", "猫", "$a$", "_b_", "a\nb", "%s", "{}", "<i>", "é", ""]
    assert viz.png(viz.predictions(images, shares, labels, names), dpi=30)


def test_show_publishes_the_words_beside_the_picture(figures, monkeypatch):
    shown = []
    display = type(sys)("IPython.display")
    display.display = lambda bundle, raw: shown.append((bundle, raw))
    monkeypatch.setitem(sys.modules, "IPython", type(sys)("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    fig = viz.learning_curves(history(2))
    viz.show(fig, alt="Two lines.")
    [(bundle, raw)] = shown
    assert raw and bundle["text/plain"] == "Two lines." and bundle["image/png"].startswith(b"\x89PNG")


def test_show_takes_any_figure_but_none_without_words(monkeypatch):
    shown = []
    display = type(sys)("IPython.display")
    display.display = lambda bundle, raw: shown.append(bundle)
    monkeypatch.setitem(sys.modules, "IPython", type(sys)("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    from matplotlib.figure import Figure

    with pytest.raises(ConfigError, match="alt text"):
        viz.show(Figure())
    with pytest.raises(ConfigError, match="not 61"):
        viz.show(Figure(), alt="word " * 61)
    viz.show(Figure(), alt="One\n  line.")
    assert shown[0]["text/plain"] == "One line."


def test_pictures_side_by_side(figures, rng):
    fig = viz.pictures(rng.random((5, 8, 8)), [f"row {i}" for i in range(5)], columns=3, title="Five")
    assert fig.alt == "5 pictures of 8×8 pixels: row 0, row 1, row 2, row 3, row 4." and not faults(fig)
    assert len(fig.axes) == 5
    assert viz.pictures([np.zeros((4, 6, 3), np.uint8)]).alt == "A picture of 4×6 pixels."
