"""The CUDA kernels: compiled for real where NVRTC is installed, run on the processor where there is a C++ compiler.

Neither needs a GPU. `pip install -r requirements-nvrtc.txt` brings NVRTC; g++ comes with the system.
On a machine with a GPU the whole suite runs over CuPy besides, kernels included (`python -m benchmarks.gpu`).
"""

import contextlib
import ctypes
import functools
import importlib.util
import inspect
import itertools
import os
from pathlib import Path

import numpy as np
import pytest
from cuda_on_cpu import COMPILER, DiffersOnGPU, RawKernel, all_kernels, build, cuda_on_cpu
from gradient_cases import CASES, check_gradient, check_manners, host, value_and_gradients
from twins import TWINS, check_twins

import minivit as mv
from minivit.engine import backend as backends
from minivit.engine import cublas, kernels
from minivit.engine.tensor import Tensor
from minivit.training.optim import clip_global_norm, global_norm

NAMES = {function.__name__.lstrip("_") for function in kernels.TWINS}
DTYPES = [np.float32, np.float64]

# --- compiled by NVRTC ------------------------------------------------------------------------------------------------


class Nvrtc:
    """NVIDIA's compiler, which needs no GPU."""

    def __init__(self, path):
        self.library = ctypes.CDLL(str(path))
        n = ctypes.c_int()
        self.library.nvrtcGetNumSupportedArchs(ctypes.byref(n))
        known = (ctypes.c_int * n.value)()
        self.library.nvrtcGetSupportedArchs(known)
        self.architectures = set(known)

    def compile(self, code, *options):
        """(status, log, PTX) with the options that CuPy 14 gives to its RawKernel."""
        options = [*options, "-std=c++17", "-ftz=true", "--device-as-default-execution-space"]
        options = [option.encode() for option in options]
        program = ctypes.c_void_p()
        self.library.nvrtcCreateProgram(ctypes.byref(program), code.encode(), b"kernel.cu", 0, None, None)
        status = self.library.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
        texts = [self._text(program, what) for what in ("ProgramLog", "PTX")]
        self.library.nvrtcDestroyProgram(ctypes.byref(program))
        return status, *texts

    def _text(self, program, what):
        size = ctypes.c_size_t()
        getattr(self.library, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
        text = ctypes.create_string_buffer(max(1, size.value))
        getattr(self.library, f"nvrtcGet{what}")(program, text)
        return text.value.decode()


@pytest.fixture(scope="module")
def nvrtc():
    found = importlib.util.find_spec("nvidia")
    folders = [Path(folder) for folder in found.submodule_search_locations] if found else []
    names = ("libnvrtc.so.*", "nvrtc64_*_0.dll")
    libraries = sorted(path for folder in folders for name in names for path in folder.rglob(name))
    if not libraries:
        pytest.skip("optional: no NVRTC; pip install -r requirements-nvrtc.txt")
    return Nvrtc(libraries[0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kernel", kernels.KERNELS.values(), ids=lambda k: k.name)
def test_compiles_for_every_architecture(nvrtc, kernel, dtype):
    architectures = sorted({70, 80, 90, 120} & nvrtc.architectures)
    assert architectures
    for number in architectures:  # sm_…: down to machine code
        status, log, _ = nvrtc.compile(kernel.code(dtype), f"-arch=sm_{number}")
        complaints = [line for line in log.splitlines() if "Architectures prior to" not in line]
        assert status == 0 and not any(complaints), f"sm_{number}: {log}"


@pytest.mark.parametrize("kernel", kernels.KERNELS.values(), ids=lambda k: k.name)
def test_float32_is_not_widened(nvrtc, kernel):
    """One constant without a cast would compute in double precision, 32 times slower on most GPUs."""
    status, log, ptx = nvrtc.compile(kernel.code(np.float32), "-arch=compute_80")
    assert status == 0, log
    assert (".f64" in ptx) == (kernel.name == "squares_all")  # whose sum is meant to be double
    assert f".entry {kernel.name}(" in ptx
    assert "atom." not in ptx and "red." not in ptx and "bar.sync" not in ptx and ".shared" not in ptx


def test_nvrtc_notices_what_is_wrong(nvrtc):
    code = kernels.gelu_erf.code(np.float32).replace("slope[i] =", "slop[i] =")
    status, log, _ = nvrtc.compile(code, "-arch=compute_80")
    assert status != 0 and 'identifier "slop" is undefined' in log


# --- run on the processor ---------------------------------------------------------------------------------------------


@pytest.fixture
def gpu(monkeypatch):
    if COMPILER is None or os.name == "nt":
        pytest.skip("optional: no C++ compiler (g++ or clang++) to run the kernels with")
    with cuda_on_cpu(monkeypatch) as gpu:
        yield gpu


def on_gpu(gpu, *arrays):
    return [gpu.xp.from_host(a) for a in arrays]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pair", [p for p in TWINS if p.op in NAMES], ids=str)
def test_twins_agree(pair, gpu, dtype):
    check_twins(pair, gpu.xp, dtype)
    assert gpu.launches or gpu.cublas.calls, "the portable form ran"


@pytest.mark.parametrize("case", [c for c in CASES if c.op in NAMES], ids=str)
def test_gradients_and_manners(case, gpu):
    check_gradient(case, gpu.xp)
    check_manners(case, gpu.xp, np.float32)


@pytest.mark.parametrize("pair", [p for p in TWINS if p.op in NAMES and "long" in p.label], ids=str)
def test_threads_may_take_their_turns_in_any_order(pair, gpu):
    """No order is promised on a GPU: another one must not change a bit."""

    def found(order):
        RawKernel.order = order
        value, gradients = value_and_gradients(
            pair.fused, on_gpu(gpu, *(a.astype(np.float32) for a in pair.arrays)), gpu.xp
        )
        return [value, *gradients]

    first = found(0)
    for order in (1, 2):
        for a, b in zip(first, found(order), strict=True):
            np.testing.assert_array_equal(a, b)


def test_twins_take_the_same_arguments():
    for function, twin in kernels.TWINS.items():
        assert inspect.signature(function) == inspect.signature(twin), function.__name__
        assert f"Twin of `fused.{function.__name__.lstrip('_')}`" in twin.__doc__


def test_other_number_types_take_the_portable_form(gpu):
    for case in (c for c in CASES if c.op in NAMES and c.op != "cross_entropy"):
        value_and_gradients(case.call, on_gpu(gpu, *(a.astype(np.float16) for a in case.arrays)), gpu.xp)
    assert not gpu.launches and not gpu.cublas.calls


def test_misuse_gives_the_portable_form_s_error(gpu):
    def ones(*shape):
        return Tensor(gpu.xp.ones(shape, np.float32))

    for call in (
        lambda: mv.linear(ones(2, 3), ones(4, 5)),
        lambda: mv.linear(ones(2, 3), ones(3, 5), ones(4)),
        lambda: mv.layer_norm(ones(2, 3), ones(4), ones(4)),
        lambda: mv.attention(ones(2, 3), ones(4, 5), ones(4, 5)),
        lambda: mv.fused.self_attention(ones(2, 3, 12), num_heads=5),
        lambda: mv.fused.self_attention(ones(2, 12), num_heads=2),
    ):
        with pytest.raises(mv.ShapeError):
            call()
    assert not gpu.launches and not gpu.cublas.calls


def test_an_operation_of_the_same_name_is_not_replaced(gpu):
    @mv.op
    def softmax(xp, x):
        return x * 7, lambda g: (g * 7,)

    try:
        np.testing.assert_array_equal(softmax(Tensor(gpu.xp.ones(3, np.float32))).numpy(), [7, 7, 7])
    finally:
        mv.engine.tensor.registry["softmax"] = mv.softmax


def test_kernels_can_be_turned_off(gpu, monkeypatch):
    monkeypatch.setattr(gpu.xp, "kernels", None)
    mv.softmax(Tensor(gpu.xp.ones((2, 3), np.float32)))
    assert not gpu.launches


def test_a_label_outside_the_classes_gives_nan_and_no_step(gpu):
    """On a GPU the portable form would wrap it around; the kernel cannot raise, but the loss tells."""
    logits = Tensor(gpu.xp.ones((2, 3), np.float32))
    for bad in (3, -1):
        assert np.isnan(mv.cross_entropy(logits, gpu.xp.from_host(np.array([1, bad]))).item())


def test_softmax_and_cross_entropy_leave_out_minus_infinity(gpu):
    x = np.array([[0.0, -np.inf, 0.0], [-np.inf, 5.0, -np.inf]], np.float32)
    y, (g,) = value_and_gradients(mv.softmax, on_gpu(gpu, x), gpu.xp)
    np.testing.assert_array_equal(y, [[0.5, 0, 0.5], [0, 1, 0]])
    assert (g[x == -np.inf] == 0).all() and np.isfinite(g).all()
    loss = mv.cross_entropy(Tensor(gpu.xp.from_host(x)), gpu.xp.from_host(np.array([0, 1])))
    np.testing.assert_allclose(loss.item(), np.log(2) / 2, rtol=1e-6)


def test_nan_stays_nan(gpu):
    x = np.zeros((1, 40), np.float32)
    x[0, 37] = np.nan
    (x,) = on_gpu(gpu, x)
    one, none = gpu.xp.ones(40, np.float32), gpu.xp.zeros(40, np.float32)
    for call in (mv.softmax, lambda x: mv.layer_norm(x, Tensor(one), Tensor(none))):
        assert np.isnan(call(Tensor(x)).numpy()).all()
    assert np.isnan(mv.cross_entropy(Tensor(x), gpu.xp.from_host(np.array([0]))).item())


# --- products ---------------------------------------------------------------------------------------------------------


def layouts(x):
    """The same values with other strides, and whether cuBLAS can read them as they are."""
    yield x.copy(), True
    yield np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2), True
    wide = np.zeros((*x.shape[:-2], x.shape[-2] + 2, x.shape[-1] + 3))
    wide[..., 1:-1, 2:-1] = x
    yield wide[..., 1:-1, 2:-1], True
    yield np.stack([x, x], axis=-1)[..., 0], min(x.shape[-2:]) == 1
    yield x[..., ::-1, :].copy()[..., ::-1, :], x.shape[-2] == 1


@pytest.mark.parametrize("lead", [(), (3,), (2, 3), (1, 3), (2, 1), (2, 3, 2)])
@pytest.mark.parametrize(("n", "k", "m"), [(2, 3, 4), (1, 3, 4), (2, 1, 4), (2, 3, 1), (1, 1, 1), (1, 3, 1)])
def test_products_of_any_layout(gpu, rng, lead, n, k, m):
    a, b = rng.standard_normal((*lead, n, k)), rng.standard_normal((*lead, k, m))
    for (x, plain_x), (y, plain_y) in itertools.product(layouts(a), layouts(b)):
        x, y = on_gpu(gpu, x, y)
        np.testing.assert_allclose(host(cublas.product(gpu.xp, x, y, scale=0.5)), 0.5 * (a @ b), rtol=1e-12, atol=1e-12)
        for z, plain in ((x, plain_x), (y, plain_y)):
            assert not plain or cublas._readable(gpu.xp, z) is z, "copied without need"


@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 0, 4), (2, 3, 0)])
def test_empty_products(gpu, shape):
    n, k, m = shape
    found = cublas.product(gpu.xp, gpu.xp.ones((5, n, k), np.float32), gpu.xp.ones((5, k, m), np.float32))
    np.testing.assert_array_equal(host(found), np.zeros((5, n, m)))
    assert not gpu.cublas.calls


@pytest.mark.parametrize(("b", "heads", "calls"), [(8, 3, 3), (2, 3, 2), (1, 3, 1), (8, 1, 1)])
def test_heads_take_few_calls_and_no_copies(gpu, rng, b, heads, calls, monkeypatch):
    """One call for all images with one head, or all heads with one image, whichever are fewer."""

    def refused(*args):
        raise AssertionError("copied")

    t, d = 5, 4
    packed = rng.standard_normal((b, t, 3 * heads * d))
    (x,) = on_gpu(gpu, packed)
    monkeypatch.setattr(gpu.xp, "ascontiguousarray", refused)
    leaf = Tensor(x, requires_grad=True)
    y = mv.fused.self_attention(leaf, num_heads=heads)
    assert len(gpu.cublas.calls) == 2 * calls
    y.backward(gpu.xp.from_host(np.ones(y.shape)))
    assert len(gpu.cublas.calls) == 6 * calls


def test_results_are_written_between_others(gpu, rng):
    """Products write where they are told to, between the columns of other heads, and nowhere else."""
    a, b = rng.standard_normal((4, 2, 5)), rng.standard_normal((4, 5, 3))
    (out,) = on_gpu(gpu, np.full((4, 2, 7), np.nan))
    cublas.product(gpu.xp, *on_gpu(gpu, a, b), out=out[..., 2:5])
    np.testing.assert_allclose(host(out)[..., 2:5], a @ b)
    assert np.isnan(host(out)[..., [0, 1, 5, 6]]).all()


@pytest.mark.parametrize(("value", "mode"), [(None, 0), ("0", 0), ("1", cublas.TF32_TENSOR_OP_MATH)])
def test_tf32_is_a_choice(gpu, monkeypatch, value, mode):
    monkeypatch.delenv("CUPY_TF32", raising=False)
    if value is not None:
        monkeypatch.setenv("CUPY_TF32", value)
    one = gpu.xp.ones((2, 2), np.float32)
    cublas.product(gpu.xp, one, one)
    assert gpu.cublas.mode == mode


def test_products_can_go_through_another_library(gpu):
    other = type(gpu.cublas)()
    one = gpu.xp.ones((2, 2), np.float32)
    with cublas.through(other, 5):
        cublas.product(gpu.xp, one, one)
    cublas.product(gpu.xp, one, one)
    assert len(other.calls) == len(gpu.cublas.calls) == 1


# --- all parameters at once -------------------------------------------------------------------------------------------

SHAPES = [(4, 3), (3,), (1, 5, 3), (3, 3, 2, 2), (70, 33), (1,), (2048,)]  # (70, 33) and (2048,): more than one chunk


def parameters(dtype, backend):
    rng = np.random.default_rng(3)
    return [mv.nn.Parameter(backend.from_host(rng.standard_normal(s).astype(dtype))) for s in SHAPES]


@pytest.mark.parametrize(("dtype", "close"), [(np.float32, 2e-6), (np.float64, 1e-14)])
def test_adamw_in_one_launch(gpu, dtype, close):
    rng = np.random.default_rng(4)
    here = backends.get_backend("numpy")
    ours, theirs = ([*parameters(dtype, b)] for b in (gpu.xp, here))
    options = {"lr": 0.01, "betas": (0.9, 0.99), "weight_decay": 0.3}
    a, b = mv.optim.AdamW(ours, **options), mv.optim.AdamW(theirs, **options)
    arrays = [p.data for p in ours]
    for step in range(3):
        gradients = [rng.standard_normal(s).astype(dtype) for s in SHAPES]
        gradients[1 if step == 1 else 5] = None
        a.step([None if g is None else gpu.xp.from_host(g) for g in gradients])
        b.step(gradients)
    assert gpu.launches == 3 * ["adamw_all"]
    for p, q, array in zip(ours, theirs, arrays, strict=True):
        assert p.data is array
        np.testing.assert_allclose(host(p.data), q.data, rtol=close, atol=close)
    for name, value in a.state_dict().items():
        np.testing.assert_allclose(value, b.state_dict()[name], rtol=close, atol=close)


def test_adamw_writes_nowhere_else(gpu):
    """Its arrays are known to the kernel by address alone: neighbours in memory must stay as they are."""
    whole = [gpu.xp.from_host(np.full(4000, 9, np.float32)) for _ in range(4)]
    inside = [a[200:1301] for a in whole]
    numbers = {"lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.1, "steps": 1}
    assert kernels.adamw(gpu.xp, *([a] for a in inside), [True], **numbers)
    for i, a in enumerate(whole):
        assert (host(a[:200]) == 9).all() and (host(a[1301:]) == 9).all()
        assert (host(a[200:1301]) == 9).all() == (i == 1)  # the gradient alone is left as it is


def test_what_does_not_fit_one_launch_goes_one_by_one(gpu):
    ps = parameters(np.float32, gpu.xp)
    ps[0].data = ps[0].data.astype(np.float64)
    optimizer = mv.optim.AdamW(ps, lr=0.1)
    optimizer.step([p.data * 0 + 1 for p in ps])
    assert global_norm([p.data for p in ps]) > 0
    assert not gpu.launches
    with pytest.raises(ValueError):
        mv.optim.AdamW(ps[1:2], lr=0.1).step([gpu.xp.ones(2, np.float32)])
    assert not gpu.launches


@pytest.mark.parametrize(("dtype", "close"), [(np.float32, 1e-6), (np.float64, 1e-14)])
@pytest.mark.parametrize("limit", [0.5, 1e9])
def test_clipping_in_three_launches(gpu, dtype, close, limit):
    rng = np.random.default_rng(4)
    gradients = [rng.standard_normal(s).astype(dtype) for s in SHAPES]
    gradients[2], gradients[4] = None, gradients[4].T
    expected, norm = clip_global_norm(gradients, limit)
    there = [None if g is None else gpu.xp.from_host(np.ascontiguousarray(g)) for g in gradients]
    there[4] = gpu.xp.from_host(np.ascontiguousarray(gradients[4].T)).T
    kept = [None if g is None else host(g).copy() for g in there]
    clipped, found = clip_global_norm(there, limit)
    np.testing.assert_allclose(found, norm, rtol=close)
    assert gpu.launches == ["squares_all", "sum_columns"] + ["scale_all"] * (limit < 1)
    for a, b, g, k in zip(clipped, expected, there, kept, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_allclose(host(a), b, rtol=close, atol=close)
            np.testing.assert_array_equal(host(g), k)  # what was given is left as it was


def test_the_norm_of_many_numbers_takes_few_chunks(gpu):
    chunks, length = kernels._chunks(gpu.xp, (10_000_000, 7, 0, 90_000_001))
    table = host(chunks)
    assert len(table) < 4200 and length % 32 == 0
    sizes = np.array([10_000_000, 7, 0, 90_000_001])
    covered = np.minimum(length, sizes[table[:, 0]] - table[:, 1])
    np.testing.assert_array_equal(np.bincount(table[:, 0], covered, 4), sizes)


# --- together ---------------------------------------------------------------------------------------------------------


def small_vit(backend, mlp="gelu"):
    model = mv.ViT(image_size=8, patch_size=2, in_channels=1, num_classes=5, dim=24, depth=2, num_heads=3, mlp=mlp)
    model.head.weight.data[...] = 0.1 * np.random.default_rng(1).standard_normal(model.head.weight.shape)
    return model.to(backend)


@pytest.mark.parametrize("mlp", ["gelu", "gelu_tanh"])
def test_a_whole_step_agrees_with_numpy(gpu, rng, mlp):
    images, labels = rng.standard_normal((6, 8, 8, 1), np.float32), rng.integers(0, 5, 6)
    found = {}
    for name in ("numpy", gpu.xp.name):
        model = small_vit(name, mlp)
        step = mv.TrainStep(model, mv.optim.AdamW(model.parameters(), lr=1e-3), clip=0.1, shards=1, workers=1)
        losses = [step(images, labels) for _ in range(3)]
        found[name] = losses, step.norm, model.state_dict()
    (losses, norm, state), (ours, our_norm, our_state) = found.values()
    np.testing.assert_allclose(ours, losses, rtol=1e-5)
    np.testing.assert_allclose(our_norm, norm, rtol=1e-4)
    for name, value in state.items():
        np.testing.assert_allclose(our_state[name], value, rtol=1e-3, atol=1e-4, err_msg=name)
    gelu = {"gelu": "gelu_erf", "gelu_tanh": "gelu_tanh"}[mlp]
    assert set(gpu.launches) == set(kernels.KERNELS) - ({"gelu_erf", "gelu_tanh"} - {gelu})


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_gradients_of_a_whole_model_agree_with_numpy(gpu, rng, smoothing):
    images, labels = rng.standard_normal((6, 8, 8, 1), np.float32), rng.integers(0, 5, 6)
    found = []
    for name in ("numpy", gpu.xp.name):
        model = small_vit(name)
        loss = mv.cross_entropy(model(images), labels, smoothing=smoothing)
        loss.backward()
        found.append([loss.numpy(), *(host(p.grad) for p in model.parameters())])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-4 * np.abs(a).max())


# --- the checks can fail ----------------------------------------------------------------------------------------------

FAULTS = [
    ("gelu_erf", "0.70710678118654752440", "0.7", "gelu"),
    ("gelu_erf", "if (i >= n) return;", "", "gelu"),
    ("gelu_tanh", "3 * c * a", "c * a", "gelu"),
    ("softmax_rows", "total = warp_sum(total);", "", "softmax"),
    ("softmax_rows", "exp(x[j] - peak)", "exp(x[j])", "softmax"),
    ("softmax_rows", "row >= rows", "row > rows", "softmax"),
    ("softmax_rows", "if (row >= rows) return;", "if (row >= rows || lane >= width) return;", "softmax"),
    ("softmax_rows_vjp", "(g[j] - along)", "g[j]", "softmax"),
    ("softmax_rows_vjp", "scale * y[j]", "y[j]", "self_attention"),
    ("layer_norm_rows", "/ width + eps)", "/ width) + eps", "layer_norm"),
    ("layer_norm_rows", "mean[row] = centre", "mean[row] = 0", "layer_norm"),
    ("layer_norm_dx", "- sum -", "-", "layer_norm"),
    ("layer_norm_slabs", "row < end", "row < end - 1", "layer_norm"),
    ("layer_norm_slabs", "(slab + 1) * slab_rows < rows ?", "true ?", "layer_norm"),
    ("column_slabs", "slab * slab_rows >= rows", "slab * slab_rows > rows + 64", "linear"),
    ("sum_columns", "sum = warp_sum(sum);", "", "layer_norm"),
    ("cross_entropy_rows", "smoothing / width", "smoothing / (width - 1)", "cross_entropy"),
    ("cross_entropy_rows", "mass * log(total)", "log(total)", "cross_entropy"),
    ("cross_entropy_vjp", "/ rows;", ";", "cross_entropy"),
    ("cross_entropy_vjp", "kept[rows + row]", "kept[row + 1]", "cross_entropy"),
]  # fmt: skip


ADAMW_FAULTS = [
    ("adamw_all", "fresh2 * g * g", "fresh2 * g"),
    ("adamw_all", "t.flag ?", "true ?"),
    ("adamw_all", "/ root", ""),
    ("adamw_all", "length < t.size ?", "length > t.size ?"),
]


@functools.cache
def faulty_kernels():
    """All faults in one compilation."""
    codes = {}
    for name, right, wrong, *_ in FAULTS + ADAMW_FAULTS:
        kernel = kernels.KERNELS[name]
        assert right in kernel.source, f"{name} holds no {right!r} any more: plant it elsewhere"
        for dtype in DTYPES:
            codes[name, right, wrong, dtype] = kernel.code(dtype).replace(right, wrong)
    built = build(*dict.fromkeys(codes.values()))
    return {key: built[code] for key, code in codes.items()}


def plant(monkeypatch, name, right, wrong):
    kernel = kernels.KERNELS[name]
    monkeypatch.setattr(kernel, "_compiled", {})
    built = dict(all_kernels())
    for dtype in DTYPES:
        built[kernel.code(dtype)] = faulty_kernels()[name, right, wrong, dtype]
    monkeypatch.setattr(RawKernel, "built", built)


@pytest.mark.parametrize(("name", "right", "wrong", "op"), FAULTS, ids=[f"{f[0]}-{i}" for i, f in enumerate(FAULTS)])
def test_a_fault_in_a_kernel_is_caught(gpu, monkeypatch, name, right, wrong, op):
    plant(monkeypatch, name, right, wrong)
    checks = [lambda c=c: check_gradient(c, gpu.xp) for c in CASES if c.op == op]
    checks += [lambda p=p, d=d: check_twins(p, gpu.xp, d) for d in DTYPES for p in TWINS if p.op == op]
    with pytest.raises((AssertionError, mv.GradientError)):
        for check in checks:
            check()
    assert name in gpu.launches


@pytest.mark.parametrize(("name", "right", "wrong"), ADAMW_FAULTS)
def test_a_fault_in_adamw_is_caught(gpu, monkeypatch, name, right, wrong):
    plant(monkeypatch, name, right, wrong)
    with pytest.raises(AssertionError):
        test_adamw_writes_nowhere_else(gpu)
        gpu.launches.clear()
        test_adamw_in_one_launch(gpu, np.float32, 2e-6)


def test_wrong_launches_are_caught(gpu):
    x = gpu.xp.ones((4, 6), np.float32)
    for arguments in (
        (x, x),  # too few
        (x, x, 4, 6, 1.0),  # too many
        (x, x, 4.0, 6),  # a float for an Index
        (x, gpu.xp.ones((4, 6), np.float64), 4, 6),  # another number type
        (x.T, x, 4, 6),  # strided
        (x, x[:2], 4, 6),  # too small: a write beyond the end
    ):
        with contextlib.ExitStack() as stack:
            stack.enter_context(pytest.raises(DiffersOnGPU))
            kernels.softmax_rows(gpu.xp, np.dtype(np.float32), 128, *arguments)
