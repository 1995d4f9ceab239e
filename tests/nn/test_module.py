"""Module: names, modes, weights in and out, conversion of inputs, and messages for what was misspelt."""

import copy
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

import minivit as mv
from minivit.nn import LayerNorm, Linear, Sequential
from minivit.nn.module import evaluating


class Tower(mv.Module):
    """Every way of holding parts: a parameter, a module, a list, a tuple."""

    def __init__(self):
        self.scale = mv.Parameter(np.ones(3, np.float32))
        self.first = Linear(3, 3)
        self.layers = [Linear(3, 3, bias=False), Sequential(LayerNorm(3), Linear(3, 2))]
        self.pair = (Linear(3, 1, bias=False), Linear(1, 1, bias=False))
        self.frozen = mv.Parameter(np.zeros(4, np.float32), requires_grad=False)

    def forward(self, x):
        x = self.as_input(x)
        for layer in (self.first, *self.layers):
            x = layer(x * 1.0)
        return x


NAMES = [
    "scale", "frozen", "first.weight", "first.bias", "layers.0.weight", "layers.1.layers.0.weight",
    "layers.1.layers.0.bias", "layers.1.layers.1.weight", "layers.1.layers.1.bias", "pair.0.weight", "pair.1.weight",
]  # fmt: skip


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def test_parameters_have_dotted_names_in_the_order_of_assignment():
    tower = Tower()
    assert [name for name, _ in tower.named_parameters()] == NAMES
    assert list(tower.state_dict()) == NAMES
    assert [id(p) for p in tower.parameters()] == [id(p) for _, p in tower.named_parameters()]
    assert [name for name, _ in tower.named_modules()] == [
        "", "first", "layers.0", "layers.1", "layers.1.layers.0", "layers.1.layers.1", "pair.0", "pair.1"
    ]  # fmt: skip


def test_a_shared_parameter_counts_once():
    tower = Tower()
    tower.first.weight = tower.layers[0].weight
    names = [name for name, _ in tower.named_parameters()]
    assert "first.weight" in names and "layers.0.weight" not in names
    assert len(names) == len(NAMES) - 1


def test_num_parameters_leaves_out_what_is_frozen():
    assert Tower().num_parameters() == 3 + 12 + 9 + 6 + 8 + 3 + 1


def test_modes_reach_every_part():
    tower = Tower()
    assert tower.eval() is tower
    assert not any(m.training for _, m in tower.named_modules())
    tower.train()
    assert all(m.training for _, m in tower.named_modules())


def test_zero_grad_forgets_every_gradient():
    tower = Tower()
    tower(np.ones((2, 3))).sum().backward()
    assert tower.first.weight.grad is not None
    tower.zero_grad()
    assert all(p.grad is None for p in tower.parameters())


def test_repr_shows_the_tree_and_the_shapes():
    text = repr(Tower())
    assert text.splitlines() == [
        "Tower(scale (3,), frozen (4,))",
        "  first: Linear(weight (3, 3), bias (3,))",
        "  layers.0: Linear(weight (3, 3))",
        "  layers.1: Sequential()",
        "    layers.0: LayerNorm(weight (3,), bias (3,))",
        "    layers.1: Linear(weight (3, 2), bias (2,))",
        "  pair.0: Linear(weight (3, 1))",
        "  pair.1: Linear(weight (1, 1))",
    ]


def test_a_misspelt_attribute_is_corrected():
    tower = Tower()
    with pytest.raises(AttributeError, match="Tower has no 'frist'; did you mean 'first'?"):
        tower.frist  # noqa: B018
    with pytest.raises(AttributeError, match="did you mean 'state_dict'?"):
        tower.statedict()
    with pytest.raises(NotImplementedError, match="Module.forward"):
        mv.Module()(1)


def test_copies_and_pickles_are_whole_and_apart():
    tower = Tower()
    for other in (copy.deepcopy(tower), pickle.loads(pickle.dumps(tower))):
        assert list(other.state_dict()) == NAMES
        assert repr(other) == repr(tower)
        assert same(other.state_dict(), tower.state_dict())
        other.first.weight.data += 1
        assert not np.array_equal(other.first.weight.data, tower.first.weight.data)
        assert other.first.weight.layout == "linear"
        assert not other.frozen.requires_grad


def test_as_input_converts_plain_arrays_only():
    tower = Tower()
    x = np.ones((2, 3))
    assert tower.as_input(x).dtype == np.float32
    assert tower.as_input(x.tolist()).dtype == np.float32
    assert tower.as_input(x.astype(np.float16)).dtype == np.float32
    assert x.dtype == np.float64
    tensor = mv.Tensor(x)
    assert tower.as_input(tensor) is tensor
    assert tower.astype("float64").as_input(x.astype(np.float32)).dtype == np.float64
    for wrong in (np.ones((2, 3), np.uint8), np.ones((2, 3), bool), [[1, 2, 3]]):
        with pytest.raises(mv.DTypeError, match=r"Tower: the input holds .*astype\('float32'\) / 255"):
            tower.as_input(wrong)


def test_tensors_of_another_type_are_refused():
    with pytest.raises(mv.DTypeError, match="never changes a dtype silently"):
        Tower()(mv.Tensor(np.ones((2, 3))))


def test_as_input_moves_arrays_to_the_model(backend):
    tower = Tower()
    host = np.ones((2, 3))
    assert tower.as_input(host).backend == backend.name
    assert tower(host).backend == backend.name
    assert tower.to("numpy").as_input(backend.from_host(host)).backend == "numpy"


def test_to_moves_parameters_in_place(backend):
    tower = Tower().to("numpy")
    before, ids = tower.state_dict(), [id(p) for p in tower.parameters()]
    assert tower.to(backend.name) is tower
    assert {p.backend for p in tower.parameters()} == {backend.name}
    assert [id(p) for p in tower.parameters()] == ids
    after = tower.state_dict()
    assert all(type(a) is np.ndarray and np.array_equal(a, before[name]) for name, a in after.items())


def test_astype():
    tower = Tower()
    ids = [id(p) for p in tower.parameters()]
    assert tower.astype(np.float64) is tower
    assert {p.dtype for p in tower.parameters()} == {np.dtype("float64")}
    assert [id(p) for p in tower.parameters()] == ids
    assert tower(np.ones((1, 3), np.float32)).dtype == np.float64
    with pytest.raises(mv.DTypeError, match="not int64"):
        tower.astype("int64")


def test_state_dict_is_a_copy():
    tower = Tower()
    state = tower.state_dict()
    state["scale"][...] = 7
    assert (tower.scale.data == 1).all()


def test_load_state_dict_copies_in_place(backend):
    tower, other = Tower(), Tower()
    for p in other.parameters():
        p.data += 3
    arrays = [p.data for p in tower.parameters()]
    assert tower.load_state_dict(other.state_dict()) == []
    assert all(p.data is a for p, a in zip(tower.parameters(), arrays, strict=True))
    assert same(tower.state_dict(), other.state_dict())
    shuffled = dict(reversed(other.state_dict().items()))
    assert Tower().load_state_dict(shuffled) == []
    tensors = {name: mv.Tensor(a) for name, a in other.state_dict().items()}
    assert Tower().load_state_dict(tensors) == []


def test_load_state_dict_converts_between_floating_point_types():
    state = {name: a.astype(np.float64) for name, a in Tower().state_dict().items()}
    tower = Tower()
    tower.load_state_dict(state)
    assert {p.dtype for p in tower.parameters()} == {np.dtype("float32")}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda s: s.pop("first.bias"), r"missing: first.bias \(3,\)"),
        (lambda s: s.update({"first.wieght": s["scale"]}), "unknown: first.wieght; did you mean 'first.weight'?"),
        (
            lambda s: s.update({"first.bias": np.zeros(4, np.float32)}),
            r"wrong shape: first.bias is \(3,\) here, \(4,\) in the weights",
        ),
        (
            lambda s: s.update({"first.bias": np.zeros(3, np.int64)}),
            "wrong type: first.bias is float32 here, int64 in the weights",
        ),
    ],
)
def test_weights_that_do_not_fit(change, complaint):
    tower = Tower()
    before, state = tower.state_dict(), {name: a + 1 for name, a in tower.state_dict().items()}
    change(state)
    with pytest.raises(mv.CheckpointError, match=f"do not fit this Tower:\n  {complaint}"):
        tower.load_state_dict(state)
    assert same(tower.state_dict(), before)  # nothing half-loaded
    complaints = tower.load_state_dict(state, strict=False)
    assert len(complaints) == 1
    after = tower.state_dict()
    assert np.array_equal(after["scale"], state["scale"])  # what fits was loaded
    if "first.bias" in complaint:
        assert np.array_equal(after["first.bias"], before["first.bias"])


def test_complaints_are_all_counted_and_in_one_order():
    state = {f"stray.{i:02}": np.zeros(1, np.float32) for i in range(30)}
    with pytest.raises(mv.CheckpointError, match=r"… and 21 more") as error:
        Tower().load_state_dict(state)
    lines = str(error.value).splitlines()[1:-1]
    assert lines == sorted(lines) and len(lines) == 20
    complaints = Tower().load_state_dict(state, strict=False)
    assert complaints == sorted(complaints) and len(complaints) == 41


def test_the_order_of_parameters_does_not_depend_on_the_hash_seed():
    program = (
        "import minivit as mv; m = mv.ViT(image_size=8, patch_size=4, dim=8, depth=2, num_heads=2, registers=1, "
        "layer_scale=1.0, qk_norm=True); print(*m.state_dict()); print(sum(float(p.data.sum()) for p in m.parameters()))"
    )
    outputs = set()
    for seed in ("0", "1"):
        run = subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=True,
        )
        outputs.add(run.stdout)
    assert len(outputs) == 1
    assert outputs.pop().startswith(
        "cls_token reg_token pos_embed patch_embed.proj.weight patch_embed.proj.bias blocks.0"
    )


def test_evaluating_gives_each_module_its_mode_back():
    model = mv.nn.MLP(4, 8, dropout=0.5)
    model.train()
    model.fc1.eval()
    before = {name: module.training for name, module in model.named_modules()}
    with pytest.raises(KeyError), evaluating(model) as same:
        assert same is model and not any(module.training for _, module in model.named_modules())
        raise KeyError
    assert {name: module.training for name, module in model.named_modules()} == before and len(
        set(before.values())
    ) == 2
