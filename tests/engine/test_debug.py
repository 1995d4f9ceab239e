"""The lamps: anomaly mode, the drawing of a graph, the profile, and gradcheck's report."""

import inspect
import re
import threading
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from gradient_cases import host

import minivit as mv
from minivit.engine.errors import ConfigError, DTypeError, GradientError, NonFiniteError, ShapeError
from minivit.engine.gradcheck import ELEMENTS
from minivit.engine.tensor import Tensor, no_grad, registry

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy warns of the very values we ask for


def leaf(xp, values, dtype=np.float32):
    return Tensor(xp.from_host(np.array(values, dtype)), requires_grad=True)


def line_below():
    """`at test_debug.py:N`, N being the line after the one that asks."""
    return f"at test_debug.py:{inspect.currentframe().f_back.f_lineno + 1}"


# --- anomaly mode -----------------------------------------------------------------------------------------------------


def test_the_first_nan_forward_is_named_with_its_line(backend):
    x = leaf(backend, [1.0, -1.0])
    with mv.anomaly(), pytest.raises(NonFiniteError) as caught:
        y = x * 2
        place = line_below()
        z = y.log()
        z.sum()
    assert str(caught.value) == f"log made the first NaN, {place}: all its operands were finite"


def test_an_infinity_is_called_infinity(backend):
    x = leaf(backend, [1.0, 0.0])
    with mv.anomaly(), pytest.raises(NonFiniteError, match="divide made the first infinity"):
        1 / x


@pytest.mark.parametrize("bad", ["tensor", "array", "number"])
def test_what_was_bad_already_is_said(backend, bad):
    x = leaf(backend, [1.0, 2.0])
    nan = np.array([np.nan, 0], np.float32)
    other = {"tensor": Tensor(backend.from_host(nan)), "array": backend.from_host(nan), "number": float("nan")}[bad]
    with mv.anomaly(), pytest.raises(NonFiniteError, match=r"add was given NaN in operand 1, (\(2,\)|nan), at test"):
        x + other


class Root(mv.Module):
    """√x, whose slope at 0 is infinite."""

    def forward(self, x):
        return x.sqrt()


class Wrapped(mv.Module):
    def __init__(self):
        self.inner = [Root()]

    def forward(self, x):
        return self.inner[0](x) * 3


def test_the_module_is_named(backend):
    with (
        mv.anomaly(),
        pytest.raises(NonFiniteError, match=r"sqrt made the first NaN, in module inner\.0, at test_debug"),
    ):
        Wrapped()(leaf(backend, [-1.0]))


def test_the_first_bad_gradient_names_operation_module_and_forward_line(backend):
    x = leaf(backend, [0.0, 1.0])
    with mv.anomaly():
        place = f"at test_debug.py:{inspect.getsourcelines(Root.forward)[1] + 1}"
        y = Wrapped()(x).sum()
        with pytest.raises(NonFiniteError) as caught:
            y.backward()
    assert str(caught.value) == (
        f"the gradient of operand 0 of sqrt is the first infinity; the forward pass made it in module inner.0, {place}"
    )
    assert x.grad is None


def test_a_graph_made_outside_is_still_watched_backward(backend):
    y = leaf(backend, [0.0]).sqrt().sum()
    with (
        mv.anomaly(),
        pytest.raises(NonFiniteError, match="sqrt is the first infinity; .* made it outside anomaly mode"),
    ):
        y.backward()


def test_a_model_inside_minivit_names_the_callers_line(backend):
    model = mv.ViT(image_size=4, patch_size=2, in_channels=1, num_classes=2, dim=4, depth=1, num_heads=1)
    model.blocks[0].norm2.weight.data[...] = np.inf
    images = backend.from_host(np.random.default_rng(0).standard_normal((1, 4, 4, 1)).astype(np.float32))
    with mv.anomaly(), pytest.raises(NonFiniteError) as caught:
        place = line_below()
        model(images)
    assert str(caught.value) == (
        "layer_norm was given infinity in operand 1, (4,) (parameter 'blocks.0.norm2.weight'), "
        f"in module blocks.0.norm2, {place}"
    )


def test_healthy_numbers_pass_and_nothing_lingers(backend):
    x, n = leaf(backend, 2.0), Tensor(backend.from_host(np.array([1, 2])))
    with mv.anomaly():
        y = (x * x * 0.5 + n.sum().astype("float32")).exp()
        y.backward()
    assert np.isfinite(host(x.grad))
    leaf(backend, [-1.0]).log()  # outside, nobody looks
    with no_grad(), mv.anomaly(), pytest.raises(NonFiniteError):
        leaf(backend, [-1.0]).log()
    leaf(backend, [-1.0]).log()


def test_anomaly_mode_is_of_one_thread():
    x, ended = Tensor([-1.0]), []
    with mv.anomaly():
        thread = threading.Thread(target=lambda: ended.append(np.isnan(x.log().item())))
        thread.start()
        thread.join()
    assert ended == [True]


# --- the drawing ------------------------------------------------------------------------------------------------------

SVG = "{http://www.w3.org/2000/svg}"


def test_the_drawing_is_well_formed_and_complete(backend):
    x, w = leaf(backend, np.ones((2, 3))), leaf(backend, np.ones((3, 4)))
    w.name = "weight<1> & more"
    y = (x @ w).tanh() * (x @ w)
    drawing = mv.debug.draw(y)
    root = ElementTree.fromstring(drawing.svg)
    assert root.tag == f"{SVG}svg"
    texts = [t.text for t in root.iter(f"{SVG}text")]
    assert texts.count("matmul") == 2
    assert {"tanh", "multiply", "leaf", "weight<1> & more", "(2, 4)", "(2, 3)"} <= set(texts)
    assert len(list(root.iter(f"{SVG}rect"))) == 6  # 4 operations, 2 leaves
    assert len(list(root.iter(f"{SVG}line"))) == 7  # 2 for each matmul and multiply, 1 for tanh
    assert drawing.alt == "Graph of 4 operations and 2 leaves, ending in multiply (2, 4)."
    assert repr(drawing) == drawing.alt
    assert drawing._repr_svg_() == drawing.svg


def test_boxes_stay_inside_and_apart(backend):
    x = leaf(backend, [1.0])
    drawing = mv.debug.draw(x.exp() * x.tanh() + x * 2)
    root = ElementTree.fromstring(drawing.svg)
    boxes = [[float(r.get(k)) for k in ("x", "y", "width", "height")] for r in root.iter(f"{SVG}rect")]
    for i, (x1, y1, w1, h1) in enumerate(boxes):
        assert x1 >= 0
        assert y1 >= 0
        assert x1 + w1 <= float(root.get("width"))
        assert y1 + h1 <= float(root.get("height"))
        for x2, y2, w2, h2 in boxes[:i]:
            assert x1 + w1 <= x2 or x2 + w2 <= x1 or y1 + h1 <= y2 or y2 + h2 <= y1


def test_a_leaf_and_a_constant_can_be_drawn(tmp_path):
    drawing = mv.debug.draw(Tensor([1.0, 2.0]))
    assert drawing.alt == "Graph of 0 operations and 1 leaves, ending in a leaf (2,)."
    drawing.save(tmp_path / "leaf.svg")
    assert ElementTree.parse(tmp_path / "leaf.svg").getroot().tag == f"{SVG}svg"


def test_a_large_graph_is_refused_before_it_fills_the_screen(backend):
    x = leaf(backend, [1.0])
    y = x
    for _ in range(250):
        y = y * 2
    with pytest.raises(ConfigError, match="more than 200; draw a smaller part, or raise max_nodes"):
        mv.debug.draw(y)
    assert "250 operations" in mv.debug.draw(y, max_nodes=300).alt


# --- the profile ------------------------------------------------------------------------------------------------------


def test_the_profile_counts_calls_and_bytes(backend):
    x, w = leaf(backend, np.ones((10, 20))), leaf(backend, np.ones((20, 30)))
    with mv.profile() as profile:
        y = (mv.linear(x, w) * 2).sum() * 0.5
        y.backward()
    calls = {key: row[0] for key, row in profile.rows.items()}
    assert calls == {
        (op, way): n for way in ("forward", "backward") for op, n in [("linear", 1), ("multiply", 2), ("sum", 1)]
    }
    assert profile.rows["linear", "forward"][2] == 10 * 30 * 4
    assert profile.rows["linear", "backward"][2] == (10 * 20 + 20 * 30) * 4
    assert all(row[1] >= 0 for row in profile.rows.values())
    assert profile.seconds >= sum(row[1] for row in profile.rows.values())


def test_the_profile_is_a_table(backend):
    with mv.profile() as profile:
        leaf(backend, np.ones((10, 20))).exp().sum().backward()
    head, *lines = profile.table().splitlines()
    assert head.split() == ["operation", "direction", "calls", "ms", "share", "MB", "made"]
    rows = [line.split() for line in lines if re.match(r"(exp|sum) ", line)]
    assert sorted(r[:3] for r in rows) == sorted(
        [op, way, "1"] for op in ("exp", "sum") for way in ("forward", "backward")
    )
    assert [float(r[3]) for r in rows] == sorted((float(r[3]) for r in rows), reverse=True)
    assert any(line.startswith("(everything else)") for line in lines)
    shares = [float(s) for s in re.findall(r"([\d.]+)%", profile.table())]
    assert abs(sum(shares) - 100) < 1
    assert lines[-1].startswith("peak memory of the process: ")


def test_the_profile_ends_with_its_block_and_nests():
    x = Tensor([1.0])
    with mv.profile() as outer:
        x.exp()
        with mv.profile() as inner:
            x.tanh()
    x.log()
    assert set(outer.rows) == {("exp", "forward"), ("tanh", "forward")}
    assert set(inner.rows) == {("tanh", "forward")}
    assert "operation" in mv.profile.__wrapped__.__globals__["Profile"]().table()  # empty, and still a table


def test_anomaly_and_profile_together(backend):
    x = leaf(backend, [1.0, 2.0])
    with mv.profile() as profile, mv.anomaly():
        x.exp().sum().backward()
    assert ("exp", "backward") in profile.rows


# --- gradcheck --------------------------------------------------------------------------------------------------------


def test_gradcheck_reports_each_array(backend):
    report = mv.gradcheck(lambda a, b: a @ b, *(backend.from_host(np.ones(s)) for s in [(2, 3), (3, 2)]))
    lines = report.splitlines()
    assert len(lines) == 2
    assert re.fullmatch(r"array 0 \(2, 3\): ok, worst at \(\d, \d\): gradient \S+, small steps say \S+", lines[0])
    assert lines[1].startswith("array 1 (3, 2): ok, ")


@pytest.fixture
def wrong():
    """x³ whose gradient is said to be 2x² (instead of 3x²)."""

    @mv.op
    def wrong_cube(xp, x):
        return x * x * x, lambda g: (2 * g * x * x,)

    yield wrong_cube
    del registry["wrong_cube"]


def test_gradcheck_says_where_and_by_which_factor(wrong):
    with pytest.raises(GradientError) as caught:
        mv.gradcheck(lambda a, b: (a * wrong(b)).sum(), np.ones(2), np.array([1.0, 2.0]))
    lines = str(caught.value).splitlines()
    assert lines[0] == "gradcheck: the gradient is wrong"
    assert lines[1].startswith("array 0 (2,): ok")
    assert re.fullmatch(
        r"array 1 \(2,\): WRONG, worst at \(\d,\): gradient \S+, small steps say \S+ \(ratio 0\.6667\)", lines[2]
    )


@pytest.mark.parametrize("value", [2.0, [2.0, 3.0], np.array(2.0), np.float64(2)])
def test_gradcheck_of_numbers_and_lists(wrong, value):
    mv.gradcheck(lambda x: x * x * x, value)
    with pytest.raises(GradientError):
        mv.gradcheck(wrong, value)


def test_gradcheck_in_random_directions_when_there_are_many(wrong):
    many = np.linspace(0.5, 1.5, ELEMENTS + 1)
    assert "random direction" in mv.gradcheck(lambda x: x.exp(), many)
    with pytest.raises(GradientError, match="random direction"):
        mv.gradcheck(wrong, many)


def test_gradcheck_does_not_call_nan_right():
    with pytest.raises(GradientError, match="gradient nan, small steps say nan"):
        mv.gradcheck(lambda x: x.sqrt(), np.array([-1.0, 4.0]))


def test_gradcheck_notices_a_gradient_that_stops():
    with pytest.raises(GradientError, match=r"array 1 \(2,\): WRONG, .* gradient 0,"):
        mv.gradcheck(lambda a, b: a * b.detach(), np.ones(2), np.ones(2))


def test_mistakes_cannot_cancel():
    """Each row of a softmax sums to 1: without random weights, any gradient that sums to 0 would pass."""
    original = mv.softmax

    @mv.op
    def flat_softmax(xp, x):
        return original.__wrapped__(xp, x)[0], lambda g: (0 * g,)

    try:
        with pytest.raises(GradientError):
            mv.gradcheck(flat_softmax, np.array([[1.0, 2.0, 4.0]]))
    finally:
        del registry["flat_softmax"]


def test_gradcheck_wants_float64_and_changes_nothing(backend):
    x = backend.from_host(np.array([1.0, 2.0]))
    mv.gradcheck(lambda x: x.exp(), x)
    np.testing.assert_array_equal(host(x), [1, 2])
    with pytest.raises(DTypeError, match=r"array 0 is float32; small differences need float64: \.astype\('float64'\)"):
        mv.gradcheck(lambda x: x.exp(), x.astype(np.float32))
    with pytest.raises(ShapeError):
        mv.gradcheck(lambda a, b: a + b, np.ones(2), np.ones(3))
