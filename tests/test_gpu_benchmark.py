"""The harness of benchmarks/gpu.py, on a GPU that is not there: its kernels and its cuBLAS run on the processor."""

import contextlib
import ctypes
import importlib
import json
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from fake_cupy import cupy as stand_in

from minivit.engine.backend import get_backend

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "engine"))  # for a run of this file alone
from cuda_on_cpu import COMPILER, cuda_on_cpu  # noqa: E402


def test_without_a_gpu_it_says_so():
    done = subprocess.run([sys.executable, "-m", "benchmarks.gpu"], capture_output=True, text=True, cwd=ROOT)
    try:
        get_backend("cupy")
    except Exception as error:
        assert done.returncode == 2
        assert done.stderr == f"benchmarks.gpu: {error}; nothing was measured\n"
        assert not done.stdout
    else:
        pytest.skip("there is a GPU here")


@pytest.fixture
def harness(monkeypatch):
    """benchmarks.gpu with one small workload, and a backend whose GPU is the processor."""
    if COMPILER is None:
        pytest.skip("optional: no C++ compiler (g++ or clang++) to run the kernels with")
    monkeypatch.syspath_prepend(str(ROOT))
    gpu = importlib.import_module("benchmarks.gpu")
    model = {
        "image_size": 8,
        "patch_size": 2,
        "in_channels": 1,
        "num_classes": 10,
        "dim": 24,
        "depth": 2,
        "num_heads": 3,
    }
    small = {"what": "small", "batch": 6, "model": model}
    monkeypatch.setattr(gpu.workloads, "WORKLOADS", {"W0": small, "W3": small})
    monkeypatch.setattr(gpu, "torch_with_cuda", lambda: False)
    monkeypatch.setattr(gpu, "kernel_cases", _smaller(gpu.kernel_cases))
    with cuda_on_cpu(monkeypatch) as device:
        yield types.SimpleNamespace(gpu=gpu, xp=device.xp, cublas=device.cublas, launches=device.launches)


def _smaller(cases):
    """The sizes of W3 take too long here."""
    names = ("clip", "adamw", "cross_entropy")

    def chosen(xp):
        assert set(cases(xp)) >= {f.__name__.lstrip("_") for f in xp.kernels.TWINS} - {"attention"}
        return {name: make for name, make in cases(xp).items() if name in names}

    return chosen


def test_the_whole_run(harness, capsys):
    results = {}
    harness.gpu.measure(harness.xp, ["W0"], 2, 1, results)
    found = results["agreement"]["W0"]
    assert found["agree"] and found["repeats_bit_for_bit"]
    assert 0 < found["gradients_apart"] < 1e-5 and found["loss_cpu"] > 1
    libraries = results["times"]["W0"]["libraries"]
    assert set(libraries) == {"minivit", "minivit, portable"} and results["times"]["W0"]["first_losses_agree"]
    assert all(len(f["train"]) == 2 and f["train_ms"] > 0 and f["infer_ms"] > 0 for f in libraries.values())
    assert set(results["kernels"]) == {"clip", "adamw", "cross_entropy"}
    assert all(f["kernels_us"] > 0 and f["portable_us"] > 0 for f in results["kernels"].values())
    assert results["kernels"]["clip"]["apart"] < 1e-6
    assert json.loads(json.dumps(results)) == results
    assert harness.xp.kernels is not None
    printed = capsys.readouterr().out
    assert "gradients" in printed and "CUDA graph through ctypes: " in printed and "adamw" in printed


def test_what_it_says_of_the_machine(harness):
    found = harness.gpu.about(harness.xp)
    assert found["gpu"] == "stand-in (NumPy)" and found["cupy"] and found["numpy"] == np.__version__
    assert json.loads(json.dumps(found)) == found


def test_the_suite_is_summed_up(harness, monkeypatch):
    output = "..F\nFAILED tests/a.py::b\n1 failed, 196 passed, 43 skipped in 25.86s\n"
    done = types.SimpleNamespace(stdout=output, returncode=1)
    monkeypatch.setattr(harness.gpu.subprocess, "run", lambda *args, **kwargs: done)
    found = harness.gpu.suite()
    assert found["code"] == 1 and found["failed"] == ["FAILED tests/a.py::b"]
    assert found["counts"] == {"failed": 1, "passed": 196, "skipped": 43}


def test_agreement_can_fail(harness, monkeypatch):
    make = harness.gpu.OnGPU

    def skewed(name, xp):
        library = make(name, xp)
        if xp.name != "numpy":
            library.model.head.weight.data[0, 0] += 0.01
        return library

    monkeypatch.setattr(harness.gpu, "OnGPU", skewed)
    assert not harness.gpu.agreement("W0", harness.xp)["agree"]


class _Recorder:
    """A stream that refuses cuBLAS while it records, as CuPy's does; it "records" by computing, so a launch is nothing."""

    recording = False
    ptr = 7

    def __init__(self, non_blocking):
        assert non_blocking

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def synchronize(self):
        assert not _Recorder.recording

    def begin_capture(self):
        _Recorder.recording = True

    def end_capture(self):
        _Recorder.recording = False
        return types.SimpleNamespace(launch=lambda stream: None)


@pytest.fixture
def with_graphs(harness, monkeypatch, tmp_path):
    """A GPU that can record, CuPy's refusal, and cuBLAS as a library of its own."""
    library = tmp_path / "libcublas.so"
    source = ROOT / "tests" / "engine" / "cublas_on_cpu.cpp"
    subprocess.run([COMPILER, "-O1", "-shared", "-fPIC", source, "-o", library], check=True)
    loaded = ctypes.CDLL(str(library))
    monkeypatch.setattr(harness.gpu, "loaded_cublas", lambda: loaded)
    allowed = type(harness.cublas).sgemm

    def refusing(self, *arguments):
        if _Recorder.recording:
            raise NotImplementedError("calling cuBLAS API during stream capture is currently unsupported")
        allowed(self, *arguments)

    monkeypatch.setattr(type(harness.cublas), "sgemm", refusing)
    for name, value in {"Stream": _Recorder, "MemoryPool": lambda: types.SimpleNamespace(malloc=None)}.items():
        monkeypatch.setitem(vars(stand_in.cuda), name, value)
    monkeypatch.setitem(vars(stand_in.cuda), "using_allocator", lambda malloc: contextlib.nullcontext())
    return loaded


def test_graphs(harness, with_graphs):
    found = harness.gpu.attempt_graph("W0", harness.xp, 2)
    refused, recorded = found.values()
    assert refused == {
        "captured": False,
        "error": "NotImplementedError: calling cuBLAS API during stream capture is currently unsupported",
    }
    assert recorded["captured"], recorded
    assert recorded["apart_from_eager"] == 0
    assert recorded["train_ms"] > 0
    assert with_graphs.products_done() > 4 * 30  # rehearsals and the recording


@pytest.mark.parametrize("tf32", ["0", "1"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_through_ctypes(harness, with_graphs, dtype, tf32, rng, monkeypatch):
    """Every argument arrives where NVIDIA's header has it: many shapes, all steps different."""
    monkeypatch.setenv("CUPY_TF32", tf32)
    cublas = importlib.import_module("minivit.engine.cublas")
    library = harness.gpu.CapturableCublas(with_graphs, 7, 1 << 40, 1 << 20)
    for lead in ((), (4,), (2, 3)):
        a = rng.standard_normal((*lead, 2, 5)).astype(dtype)
        b = rng.standard_normal((*lead, 7, 5)).astype(dtype)
        x, y = harness.xp.from_host(a), harness.xp.from_host(b).swapaxes(-1, -2)
        with cublas.through(library, library.handle):
            found = cublas.product(harness.xp, x, y, scale=2.0)
        np.testing.assert_allclose(found.get(), 2 * a @ b.swapaxes(-1, -2), rtol=1e-5, atol=1e-6)
    library.close()


def test_an_error_of_cublas_is_an_error(harness, with_graphs):
    with pytest.raises(RuntimeError, match="cublasSgemm_v2 returned status 1"):
        library = harness.gpu.CapturableCublas(with_graphs, 7, 0, 0)
        library.sgemm(library.handle, 0, 0, 1, 1, 1, 0, 0, 1, 0, 1, 0, 0, 1)
