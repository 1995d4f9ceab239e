"""What minivit does on a GPU: the suite, agreement with the CPU, and times against PyTorch eager on the same GPU.

    python -m benchmarks.gpu                      everything; writes benchmarks/results/gpu-<date>.json
    python -m benchmarks.gpu --only W3 --no-suite

Needs `requirements-gpu.txt`, and for the comparison a PyTorch with CUDA. Without a GPU it says so and ends with code 2.
Times are medians over turns that the libraries take one after the other, each step waited for. `CUPY_TF32=1` lets float32
products use TF32, in PyTorch as in minivit.

**CUDA graphs.** A training step is some hundred launches, each of which costs the processor more than it costs the GPU;
a graph would launch them all at once. CuPy can record one (`Stream.begin_capture`), but not with a matrix product in it:
its `cublas.setStream`, which every product calls, raises NotImplementedError while a stream is recorded (issue 6290, open;
read in its source and still so in 14.2). The refusal is CuPy's, not cuBLAS's: NVIDIA documents that nearly all of cuBLAS
can be recorded. So there is a way round: `CapturableCublas` below calls the library that CuPy has loaded through ctypes,
with a handle that is bound to the stream once and a workspace that it need not allocate, and
`minivit.engine.cublas.through` sends minivit's products there. What else a recording forbids, the step does not do: forward
and backward never wait for a number, labels are on the GPU already, `concatenate` of at most 8 arrays copies no pointers,
and all memory comes from a pool of its own that was filled by rehearsals and that nobody else uses. AdamW stays outside,
for a recorded launch keeps its arguments, and the rate and the step change; so a step is one graph, one wait for the loss
and one more launch. `attempt_graph` tries it both ways and notes what happened, in error text or in time.
"""

import argparse
import contextlib
import ctypes
import datetime
import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import minivit as mv
from benchmarks import runners, workloads
from minivit.engine import backend as backends
from minivit.engine import cublas
from minivit.engine.tensor import Tensor, gradients
from minivit.interop.safetensors import replacing
from minivit.training.report import machine

AGREE = 1e-4  # relative, in float32
WORKSPACE = 32 << 20  # bytes: what NVIDIA recommends for the largest of its GPUs
SEEDS = {"model": 0, "head": 1, "batch": 2, "kernels": 3}  # of benchmarks/workloads.py, and of this file


class OnGPU:
    """This library on a GPU, used as `mv.fit` uses it, from data that are there already."""

    def __init__(self, name: str, xp: backends.Backend):
        self.xp, self.model = xp, workloads.build(name).to(xp.name)
        self.images, self.labels = (xp.from_host(a) for a in workloads.batch(name))
        self.optimizer = mv.optim.AdamW(
            self.model.parameters(), lr=workloads.LEARNING_RATE, betas=(0.9, 0.999), weight_decay=workloads.DECAY
        )
        self.step = mv.TrainStep(self.model, self.optimizer, shards=1)

    def train(self) -> float:
        loss = self.step(self.images, self.labels)
        self.xp.synchronize()
        return loss

    def infer(self) -> None:
        with mv.no_grad():
            self.model(self.images)
        self.xp.synchronize()

    def mode(self, training: bool) -> None:
        self.model.train(training)

    def compute(self) -> list[Any]:
        """The loss and the gradient of every parameter, as arrays that nobody has waited for."""
        loss = mv.cross_entropy(self.model(Tensor(self.images)), self.labels)
        found = gradients(loss)
        return [loss.data, *(found[id(p)][1] for p in self.optimizer.parameters)]


class Portable(OnGPU):
    """The same without the CUDA kernels of minivit: CuPy's own, one for each step of arithmetic."""

    def train(self) -> float:
        with without_kernels(self.xp):
            return super().train()

    def infer(self) -> None:
        with without_kernels(self.xp):
            super().infer()


class TorchOnGPU(runners.Torch):
    """PyTorch, eager, on the same GPU."""

    def __init__(self, name: str, xp: backends.Backend):
        super().__init__(name)
        tf32 = int(os.environ.get("CUPY_TF32", "0")) > 0
        self.torch.backends.cuda.matmul.allow_tf32 = self.torch.backends.cudnn.allow_tf32 = tf32
        self.model.cuda()  # in place: the optimiser keeps its parameters
        self.images, self.labels = self.images.cuda(), self.labels.cuda()

    def train(self) -> float:
        loss = super().train()
        self.torch.cuda.synchronize()
        return loss

    def infer(self) -> None:
        super().infer()
        self.torch.cuda.synchronize()


@contextlib.contextmanager
def without_kernels(xp: backends.Backend) -> Iterator[None]:
    """Inside, every operation runs in its portable form."""
    kernels, xp.kernels = xp.kernels, None
    try:
        yield
    finally:
        xp.kernels = kernels


def torch_with_cuda() -> bool:
    """Whether there is a PyTorch here that can use the GPU."""
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()


def about(xp: backends.Backend) -> dict[str, Any]:
    """The machine, the GPU, and every version that matters."""
    runtime = xp.module.cuda.runtime
    device = runtime.getDeviceProperties(runtime.getDevice())
    found = {
        "machine": machine(),
        "gpu": device["name"].decode(),
        "compute_capability": f"{device['major']}.{device['minor']}",
        "gpu_memory_gib": round(device["totalGlobalMem"] / 2**30, 1),
        "driver_cuda": runtime.driverGetVersion(),
        "runtime_cuda": runtime.runtimeGetVersion(),
        "driver": driver(),
        "cupy": xp.module.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "minivit": mv.__version__,
        "tf32": os.environ.get("CUPY_TF32", "0"),
        "seeds": SEEDS,
    }
    if torch_with_cuda():
        torch = sys.modules["torch"]
        found["torch"], found["torch_cuda"] = torch.__version__, torch.version.cuda
    return found


def driver() -> str | None:
    """The version of NVIDIA's driver, where its tool is installed."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")[0]
    return None


def suite() -> dict[str, Any]:
    """The test-suite, which runs over CuPy where there is a GPU."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "pytest"], capture_output=True, text=True)
    lines = done.stdout.strip().splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    counts = {
        word: int(n) for n, word in re.findall(r"(\d+) (passed|failed|skipped|errors?)\b", lines[-1] if lines else "")
    }
    seconds = time.perf_counter() - start
    return {"code": done.returncode, "counts": counts, "failed": failed, "seconds": seconds, "last": lines[-1:]}


def agreement(name: str, xp: backends.Backend) -> dict[str, Any]:
    """Loss and gradients of a workload here and on the CPU, and whether the GPU repeats its own bit for bit."""
    here, there = OnGPU(name, backends.get_backend("numpy")), OnGPU(name, xp)
    expected = here.compute()
    found = [backends.to_numpy(a) for a in there.compute()]
    again = [backends.to_numpy(a) for a in there.compute()]
    names = ["loss", *(n for n, p in here.model.named_parameters() if p.requires_grad)]
    apart = [relative(a, b) for a, b in zip(found, expected, strict=True)]
    worst = int(np.argmax(apart))
    return {
        "loss_cpu": float(expected[0]),
        "loss_gpu": float(found[0]),
        "loss_apart": apart[0],
        "gradients_apart": max(apart[1:]),
        "worst": names[worst],
        "agree": bool(max(apart) <= AGREE),
        "repeats_bit_for_bit": all(np.array_equal(a, b) for a, b in zip(found, again, strict=True)),
    }


def relative(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference, against the largest number."""
    return float(np.abs(a - b).max() / max(np.abs(b).max(), np.finfo(np.float32).tiny))


def times(name: str, xp: backends.Backend, rounds: int, steps: int) -> dict[str, Any]:
    """Every library's seconds for training and inference, asked in turn; the first losses; the ratios to PyTorch."""
    kinds = {"minivit": OnGPU, "minivit, portable": Portable} | ({"torch": TorchOnGPU} if torch_with_cuda() else {})
    libraries = {kind: make(name, xp) for kind, make in kinds.items()}
    result: dict[str, Any] = {kind: {"first_loss": None, "train": [], "infer": []} for kind in libraries}
    for do in ("train", "infer"):
        for kind, library in libraries.items():
            library.mode(do == "train")
            losses = [getattr(library, do)() for _ in range(5)]  # compiles what is not compiled yet
            if do == "train":
                result[kind]["first_loss"] = losses[0]
        for _ in range(rounds):
            for kind, library in libraries.items():
                result[kind][do].append(median_seconds(getattr(library, do), steps))
    for found in result.values():
        found["train_ms"], found["infer_ms"] = (1e3 * float(np.median(found[do])) for do in ("train", "infer"))
        if "torch" in result:
            for do in ("train", "infer"):
                ratios = np.array(found[do]) / np.array(result["torch"][do])
                found[f"{do}_ratio_to_torch"] = float(np.median(ratios))
    losses = [found["first_loss"] for found in result.values()]
    return {"libraries": result, "first_losses_agree": bool(np.ptp(losses) <= AGREE * max(losses))}


def median_seconds(act: Callable[[], Any], steps: int) -> float:
    seconds = []
    for _ in range(steps):
        start = time.perf_counter()
        act()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


Act = Callable[[], list[Any]]


def kernel_cases(xp: backends.Backend) -> dict[str, Callable[[], Act]]:
    """Makers of each operation that has a CUDA twin, forward and backward, at the sizes of W3."""
    rng = np.random.default_rng(SEEDS["kernels"])

    def array(*shape: int) -> Any:
        return xp.from_host(rng.standard_normal(shape, np.float32))

    def both(call: Callable, *shapes: tuple[int, ...]) -> Callable[[], Act]:
        def make() -> Act:
            arrays = [array(*shape) for shape in shapes]
            g = array(*call(*map(Tensor, arrays)).shape)

            def act() -> list[Any]:
                leaves = [Tensor(a, requires_grad=True) for a in arrays]
                y = call(*leaves)
                found = gradients(y, g)
                return [y.data, *(found[id(leaf)][1] for leaf in leaves)]

            return act

        return make

    def weights() -> list[Any]:
        return [array(*p.shape) for p in workloads.build("W3").parameters()]

    def clip() -> Act:
        changes = weights()
        return lambda: mv.optim.clip_global_norm(changes, 1.0)[0]

    def adamw() -> Act:
        changes, optimizer = weights(), mv.optim.AdamW([mv.nn.Parameter(w) for w in weights()])
        return lambda: optimizer.step(changes) or []

    labels = xp.from_host(rng.integers(0, 1000, 256))
    return {
        "gelu": both(mv.gelu, (64, 65, 768)),
        "gelu_tanh": both(lambda x: mv.gelu(x, approximate=True), (64, 65, 768)),
        "softmax": both(mv.softmax, (64, 3, 65, 65)),
        "layer_norm": both(mv.layer_norm, (64, 65, 192), (192,), (192,)),
        "linear": both(mv.linear, (64, 65, 192), (192, 768), (768,)),
        "self_attention": both(lambda x: mv.fused.self_attention(x, num_heads=3), (64, 65, 576)),
        "cross_entropy": both(lambda x: mv.cross_entropy(x, labels, smoothing=0.1), (256, 1000)),
        "clip": clip,
        "adamw": adamw,
    }


def kernel_times(xp: backends.Backend, rounds: int, steps: int) -> dict[str, Any]:
    """Microseconds of each operation with and without its kernels, in turn, and how far the results are apart."""
    results = {}
    for name, make in kernel_cases(xp).items():
        waited = _waited(xp, make())
        ours = [backends.to_numpy(a) for a in waited()]
        with without_kernels(xp):
            portable = [backends.to_numpy(a) for a in waited()]
        seconds: dict[str, list[float]] = {"kernels": [], "portable": []}
        for _ in range(rounds):
            seconds["kernels"].append(median_seconds(waited, steps))
            with without_kernels(xp):
                seconds["portable"].append(median_seconds(waited, steps))
        found = {f"{kind}_us": 1e6 * float(np.median(s)) for kind, s in seconds.items()}
        found["apart"] = max([relative(a, b) for a, b in zip(ours, portable, strict=True)], default=None)
        results[name] = found
    return results


def _waited(xp: backends.Backend, act: Act) -> Act:
    def both() -> list[Any]:
        found = act()
        xp.synchronize()
        return found

    return both


class CapturableCublas:
    """cuBLAS called through ctypes, on one stream, with a handle and a workspace of its own: it can be recorded."""

    CUBLAS_OP_N, CUBLAS_OP_T = 0, 1

    def __init__(self, library: ctypes.CDLL, stream: int, workspace: int, size: int):
        self.library = library
        handle = ctypes.c_void_p()
        self._call("cublasCreate_v2", ctypes.byref(handle))
        self.handle = handle.value
        self._call("cublasSetStream_v2", handle, ctypes.c_void_p(stream))
        # after the stream, for a new stream takes the workspace away again
        self._call("cublasSetWorkspace_v2", handle, ctypes.c_void_p(workspace), ctypes.c_size_t(size))
        if int(os.environ.get("CUPY_TF32", "0")) > 0:
            self._call("cublasSetMathMode", handle, ctypes.c_int(cublas.TF32_TENSOR_OP_MATH))
        integer, pointer, step = ctypes.c_int, ctypes.c_void_p, ctypes.c_longlong
        start = [pointer, *[integer] * 5, pointer]  # handle, two operations, m, n, k, α
        plain = [*start, pointer, integer, pointer, integer, pointer, pointer, integer]
        stack = [*start, *[pointer, integer, step] * 2, pointer, pointer, integer, step, integer]
        self.sgemm, self.dgemm = (self._bound(f"cublas{c}gemm_v2", plain) for c in "SD")
        names = (f"cublas{c}gemmStridedBatched" for c in "SD")
        self.sgemmStridedBatched, self.dgemmStridedBatched = (self._bound(name, stack) for name in names)

    def _call(self, name: str, *arguments: Any) -> None:
        _check(name, getattr(self.library, name)(*arguments))

    def _bound(self, name: str, kinds: list) -> Callable[..., None]:
        function = getattr(self.library, name)
        function.argtypes, function.restype = kinds, ctypes.c_int
        return lambda *arguments: _check(name, function(*arguments))

    def close(self) -> None:
        """Give the handle back."""
        self._call("cublasDestroy_v2", ctypes.c_void_p(self.handle))


def _check(name: str, status: int) -> None:
    if status:
        raise RuntimeError(f"{name} returned status {status} of cublasStatus_t")


def loaded_cublas() -> ctypes.CDLL:
    """The cuBLAS that CuPy has loaded."""
    pathfinder = importlib.import_module("cuda.pathfinder")  # comes with CuPy
    return ctypes.CDLL(pathfinder.load_nvidia_dynamic_lib("cublas").abs_path)


def attempt_graph(name: str, xp: backends.Backend, steps: int) -> dict[str, Any]:
    """Record forward and backward as a CUDA graph, first with CuPy's cuBLAS, then round it: what happened."""
    cupy = xp.module
    return {
        "through CuPy's cuBLAS": _noted(lambda: _graph(name, xp, steps, lambda stream: contextlib.nullcontext())),
        "through ctypes": _noted(lambda: _graph(name, xp, steps, lambda stream: _round_cupy(cupy, stream))),
    }


def _noted(act: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return {"captured": True, **act()}
    except Exception as error:  # whatever it is, it is the finding
        first = error
        while first.__context__ is not None:  # ending a broken recording raises once more
            first = first.__context__
        return {"captured": False, "error": f"{type(first).__name__}: {first}"}


@contextlib.contextmanager
def _round_cupy(cupy: Any, stream: Any) -> Iterator[None]:
    workspace = cupy.empty(WORKSPACE, np.uint8)
    library = CapturableCublas(loaded_cublas(), stream.ptr, workspace.data.ptr, WORKSPACE)
    try:
        with cublas.through(library, library.handle):
            yield
    finally:
        stream.synchronize()
        library.close()


def _graph(name: str, xp: backends.Backend, steps: int, products: Callable[[Any], Any]) -> dict[str, Any]:
    cupy = xp.module
    stream, pool = cupy.cuda.Stream(non_blocking=True), cupy.cuda.MemoryPool()
    with cupy.cuda.using_allocator(pool.malloc), stream, products(stream):
        library = OnGPU(name, xp)
        for _ in range(3):  # rehearsals: compile, and fill the pool
            expected = [a.copy() for a in library.compute()]
        stream.synchronize()
        stream.begin_capture()
        try:
            found = library.compute()
        finally:
            graph = stream.end_capture()
        graph.launch(stream)
        stream.synchronize()
        apart = max(relative(a.get(), b.get()) for a, b in zip(found, expected, strict=True))

        def step() -> float:
            graph.launch(stream)
            loss = found[0].item()
            library.optimizer.step(found[1:])
            stream.synchronize()
            return loss

        losses = [step() for _ in range(3)]
        seconds = median_seconds(step, steps)
    return {
        "apart_from_eager": apart,
        "losses": losses,
        "loss_falls": losses[-1] < losses[0],
        "train_ms": 1e3 * seconds,
    }


def row(name: str, found: dict[str, Any]) -> str:
    """One line of the table."""
    cells = []
    for do in ("train", "infer"):
        ratio = found.get(f"{do}_ratio_to_torch")
        cells.append(f"{found[f'{do}_ms']:9.2f}" + (f"{ratio:7.2f}" if ratio is not None else "      –"))
    return f"  {name:<20}{cells[0]}   {cells[1]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only", nargs="+", choices=workloads.WORKLOADS, default=list(workloads.WORKLOADS), metavar="W"
    )
    parser.add_argument("--rounds", type=int, default=7, help="turns of each library")
    parser.add_argument("--steps", type=int, default=20, help="steps in a turn")
    parser.add_argument("--no-suite", action="store_true", help="leave the test-suite out")
    parser.add_argument("--out", type=Path, help="where the figures go, as JSON")
    args = parser.parse_args()
    try:
        xp = backends.get_backend("cupy")
    except mv.DeviceError as error:
        print(f"benchmarks.gpu: {error}; nothing was measured", file=sys.stderr)
        return 2
    today = datetime.date.today().isoformat()
    out = args.out or Path(__file__).parent / "results" / f"gpu-{today}.json"
    results: dict[str, Any] = {"date": today, "about": about(xp)}
    print(json.dumps(results["about"]))
    measure(xp, args.only, args.rounds, args.steps, results)
    if not args.no_suite:
        results["suite"] = suite()
        print(f"test-suite: {' '.join(results['suite']['last'])}")
    with replacing(out) as file:
        file.write(json.dumps(results, indent=1).encode())
    print(f"written to {out}")
    agree = all(found["agree"] for found in results["agreement"].values())
    return 0 if agree and not results.get("suite", {}).get("code") else 1


def measure(xp: backends.Backend, names: list[str], rounds: int, steps: int, results: dict[str, Any]) -> None:
    """Fill in every figure, and print it as it comes."""
    for part in ("agreement", "times", "graph"):
        results[part] = {}
    for name in names:
        print(f"\n{name}: {workloads.WORKLOADS[name]['what']}")
        found = results["agreement"][name] = agreement(name, xp)
        print(
            f"  CPU and GPU: loss {found['loss_apart']:.1e} apart, gradients {found['gradients_apart']:.1e} "
            f"(worst: {found['worst']}); repeats bit for bit: {found['repeats_bit_for_bit']}"
        )
        timed = results["times"][name] = times(name, xp, rounds, steps)
        print(f"  {'':<20}{'train, ms':>9}  ratio   {'infer, ms':>9}  ratio")
        for library, figures in timed["libraries"].items():
            print(row(library, figures), flush=True)
        results["graph"][name] = attempt_graph(name, xp, steps)
        for how, outcome in results["graph"][name].items():
            text = f"{outcome['train_ms']:.2f} ms a step" if outcome["captured"] else outcome["error"]
            print(f"  CUDA graph {how}: {text}", flush=True)
    print(f"\n  {'operation, forward and backward':<32}{'kernels, µs':>12}{'portable, µs':>14}")
    results["kernels"] = kernel_times(xp, rounds, steps)
    for name, found in results["kernels"].items():
        print(f"  {name:<32}{found['kernels_us']:12.0f}{found['portable_us']:14.0f}")


if __name__ == "__main__":
    sys.exit(main())
