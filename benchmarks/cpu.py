"""Our training step and inference beside PyTorch, torch.compile, JAX and the bare matrix products, in one run.

    python -m benchmarks.cpu                                 every workload, against what is installed of the peers
    python -m benchmarks.cpu --only W1 W2 --rounds 15
    python -m benchmarks.cpu --variants default haswell one-core --peers torch torch.compile jax gemm --save

Each library has a process of its own; they take turns of a few steps, so that a slow minute hits all alike. Printed are
medians with quartiles, the median of the turn-by-turn ratios to PyTorch eager, whether the first losses agree, and the
peak memory (proportional set size, summed over a library's processes, sampled in steps that are not timed). Variants:
`default` takes OPENBLAS_CORETYPE out of the environment, as on a user's machine; `haswell` sets it; `one-core` pins
every library to one core. `--save` writes benchmarks/results/cpu-<date>.json, beside what
the same day's file holds already. Use a quiet machine; what counts are ratios.
"""

import argparse
import datetime
import importlib.util
import json
import os
import platform
import subprocess
import sys
import threading
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.workloads import WORKLOADS
from minivit.interop.safetensors import replacing
from minivit.training.report import blas, machine

LOSSES_AGREE, GRADIENTS_AGREE = 1e-5, 1e-4
PAUSE = 0.2  # seconds: idle threads of the library before spin for a while, in case more work comes
PACKAGE = {"processes": "numpy", "torch": "torch", "torch.compile": "torch", "jax": "jax", "gemm": "numpy"}
VARIANTS = {"default": {}, "haswell": {"OPENBLAS_CORETYPE": "Haswell"}, "one-core": {}}


class Child:
    """A library in its own process, with its own environment and cores."""

    def __init__(self, library: str, workload: str, variant: str = "default", fresh: bool = False):
        command = [sys.executable, "-m", "benchmarks.runners", library, workload, *(["fresh"] if fresh else [])]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS_")} | VARIANTS[variant]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
        pin = (lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})) if variant == "one-core" else None
        self.process = subprocess.Popen(command, preexec_fn=pin, **pipes)
        self._read()

    def _read(self) -> dict[str, Any]:
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"benchmarks.cpu: {' '.join(self.process.args[1:])} ended with code {self.process.wait()}")
        return json.loads(line)

    def ask(self, do: str, steps: int) -> dict[str, Any]:
        """Have it take some steps; returns their seconds and the first loss."""
        self.process.stdin.write(json.dumps({"do": do, "steps": steps}) + "\n")
        self.process.stdin.flush()
        return self._read()

    def memory(self) -> float | None:
        """Peak megabytes while it trains, sampled every few milliseconds; None where the system does not tell."""
        seen: list[float] = []
        done = threading.Event()

        def sample() -> None:
            while not done.is_set():
                seen.append(proportional_set_size(self.process.pid))
                time.sleep(0.005)

        try:
            proportional_set_size(self.process.pid)
        except OSError:
            return None
        watcher = threading.Thread(target=sample)
        watcher.start()
        self.ask("train", 5)
        done.set()
        watcher.join()
        return max(seen)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def proportional_set_size(pid: int) -> float:
    """Megabytes of a process and its children, shared pages divided among those that share them (Linux)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    own = next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return own + sum(proportional_set_size(int(child)) for child in children)


def measure(workload: str, variant: str, libraries: list[str], rounds: int, steps: int) -> dict[str, Any]:
    """Every library's seconds for training and inference, asked in turn."""
    children = {library: Child(library, workload, variant) for library in libraries}
    result: dict[str, Any] = {library: {"train": [], "infer": []} for library in libraries}
    try:
        for do in ("train", "infer"):
            for library, child in children.items():
                first = child.ask(do, 3)["first"]  # warm-up
                if do == "train":
                    result[library]["loss"] = first
            for _ in range(rounds):
                for library, child in children.items():
                    time.sleep(PAUSE)
                    result[library][do].append(float(np.median(child.ask(do, steps)["seconds"])))
        for library, child in children.items():
            result[library]["peak_mb"] = child.memory()
    finally:
        for child in children.values():
            child.close()
    if "torch" in libraries:
        child = Child("minivit", workload, variant)
        result["minivit"]["gradient_error"] = child.ask("gradients", 1)["error"]
        child.close()
    return result


def start_up(libraries: list[str], rounds: int) -> dict[str, list[float]]:
    """Seconds from the start of Python to the end of the first W1 step, from each library's own random weights."""
    seconds: dict[str, list[float]] = {library: [] for library in libraries}
    for _ in range(rounds):
        for library in libraries:
            start = time.perf_counter()
            child = Child(library, "W1", fresh=True)
            child.ask("train", 1)
            seconds[library].append(time.perf_counter() - start)
            child.close()
    return seconds


def row(name: str, result: dict[str, Any]) -> str:
    """One line of the table."""
    own, peer, cells = result[name], result.get("torch"), []
    for do in ("train", "infer"):
        low, middle, high = np.percentile(1e3 * np.array(own[do]), [25, 50, 75])
        ratio = f"{np.median(np.array(own[do]) / np.array(peer[do])):6.2f}" if peer else "     –"
        cells.append(f"{middle:9.1f} ({low:.1f}–{high:.1f})".ljust(26) + ratio)
    memory = f"{own['peak_mb']:8.0f}" if own["peak_mb"] else "       –"
    share = f"{own['peak_mb'] / peer['peak_mb']:6.2f}" if peer and own["peak_mb"] and peer["peak_mb"] else "     –"
    return f"  {name:<14}{cells[0]}   {cells[1]}   {memory}{share}"


def check_losses(result: dict[str, Any]) -> str:
    """Lines that say how far first losses and gradients are apart; ends the run where they differ: no comparison then."""
    losses = {name: r["loss"] for name, r in result.items() if np.isfinite(r["loss"])}
    apart = max(losses.values()) - min(losses.values())
    if apart > LOSSES_AGREE * max(1.0, max(losses.values())):
        raise SystemExit(f"benchmarks.cpu: the libraries do not compute the same thing: first losses {losses}")
    line = f"  first losses differ by {apart:.1e}: {', '.join(f'{n} {v:.7f}' for n, v in losses.items())}"
    error = result["minivit"].get("gradient_error", 0.0)
    if error > GRADIENTS_AGREE:
        raise SystemExit(f"benchmarks.cpu: gradients are {error:.1e} from PyTorch's in float64")
    return f"{line}\n  gradients are {error:.1e} of their norm from PyTorch's in float64" if error else line


def about() -> dict[str, Any]:
    """What the figures depend on."""
    found = {name: version(name) for name in ("numpy", "torch", "jax") if importlib.util.find_spec(name)}
    environment = {k: v for k, v in os.environ.items() if k.startswith(("OPENBLAS", "OMP_", "MKL_"))}
    return {
        "date": datetime.date.today().isoformat(), "machine": machine(), "blas": blas(), "environment": environment,
        "versions": found | {"python": platform.python_version()},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=WORKLOADS, default=list(WORKLOADS), metavar="W")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each library")
    parser.add_argument("--steps", type=int, default=5, help="steps in a turn")
    parser.add_argument(
        "--peers", nargs="*", choices=PACKAGE, default=["torch"], help="those that are not installed are left out"
    )
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=["default"])
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/cpu-<date>.json")
    args = parser.parse_args()
    peers = [p for p in args.peers if importlib.util.find_spec(PACKAGE[p])]
    written: dict[str, Any] = {"about": about(), "rounds": args.rounds, "steps": args.steps, "results": {}}
    print(json.dumps(written["about"]))
    if missing := [p for p in args.peers if p not in peers]:
        print(f"not installed here, so left out: {', '.join(missing)}")
    for variant in args.variants:
        for workload in args.only:
            print(f"\n{workload}, {variant}: {WORKLOADS[workload]['what']}")
            print(f"  {'':<14}{'train step, ms (quartiles)':<26} ratio   {'inference, ms':<26} ratio    peak MB ratio")
            result = measure(workload, variant, ["minivit", *peers], args.rounds, args.steps)
            written["results"].setdefault(variant, {})[workload] = result
            for name in result:
                print(row(name, result), flush=True)
            print(check_losses(result))
    written["start_up"] = start_up(["minivit", *(p for p in peers if p not in ("gemm", "torch.compile"))], 3)
    print("\nfrom start to the first trained W1 step, s (median of 3):")
    print("  " + ", ".join(f"{name} {np.median(s):.2f}" for name, s in written["start_up"].items()))
    if args.save:
        path = Path(__file__).parent / "results" / f"cpu-{written['about']['date']}.json"
        if path.exists():  # what another run of the same day measured stays
            for variant, found in json.loads(path.read_text())["results"].items():
                written["results"][variant] = found | written["results"].get(variant, {})
        with replacing(path) as file:
            file.write((json.dumps(written, indent=1) + "\n").encode())
        print(f"written to {path.relative_to(Path.cwd())}")


if __name__ == "__main__":
    main()
