"""Train-step and inference time of our ViT, and of PyTorch where it is installed, taken in turn in one run.

    python -m benchmarks.cpu                      all workloads
    python -m benchmarks.cpu --only W1 W2 --rounds 10
    python -m benchmarks.cpu --peers torch torch.compile

Prints medians with quartiles, the ratio to PyTorch eager, whether the first losses agree, and each process's peak
resident memory; writes the same to `--out FILE` as JSON. Use a quiet machine; what counts are ratios.
"""

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.workloads import WORKLOADS
from minivit.interop.safetensors import replacing
from minivit.training.report import blas, machine

LOSSES_AGREE = 1e-5


class Child:
    """A library in its own process."""

    def __init__(self, library: str, workload: str):
        command = [sys.executable, "-m", "benchmarks.runners", library, workload]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
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
        """Peak resident megabytes, where the system tells them (Linux)."""
        try:
            status = Path(f"/proc/{self.process.pid}/status").read_text()
        except OSError:
            return None
        peak = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
        return int(peak[0]) / 1024 if peak else None

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def measure(workload: str, libraries: list[str], rounds: int, steps: int) -> dict[str, Any]:
    """Every library's seconds for training and inference, asked in turn, so that a slow minute hits all alike."""
    children = {library: Child(library, workload) for library in libraries}
    result: dict[str, Any] = {library: {"train": [], "infer": []} for library in libraries}
    try:
        for do in ("train", "infer"):
            for library, child in children.items():
                first = child.ask(do, 3)["first"]  # warm-up
                if do == "train":
                    result[library]["loss"] = first
            for _ in range(rounds):
                for library, child in children.items():
                    result[library][do].append(float(np.median(child.ask(do, steps)["seconds"])))
        for library, child in children.items():
            result[library]["peak_mb"] = child.memory()
    finally:
        for child in children.values():
            child.close()
    return result


def row(name: str, result: dict[str, Any], against: str) -> str:
    """One line of the table."""
    own, peer, cells = result[name], result.get(against), []
    for do in ("train", "infer"):
        seconds = 1e3 * np.array(own[do])
        low, middle, high = np.percentile(seconds, [25, 50, 75])
        ratio = f"{np.median(np.array(own[do]) / np.array(peer[do])):6.2f}" if peer else "     –"
        cells.append(f"{middle:9.1f} ({low:.1f}–{high:.1f})".ljust(26) + ratio)
    memory = f"{own['peak_mb']:8.0f}" if own["peak_mb"] else "       –"
    return f"  {name:<14}{cells[0]}   {cells[1]}   {memory}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=WORKLOADS, default=list(WORKLOADS), metavar="W")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each library")
    parser.add_argument("--steps", type=int, default=5, help="steps in a turn")
    parser.add_argument("--peers", nargs="*", default=["torch"], help="torch, torch.compile")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    args = parser.parse_args()
    peers = [p for p in args.peers if importlib.util.find_spec(p.partition(".")[0])]
    about = {"machine": machine(), "blas": blas(), "numpy": np.__version__, "python": platform.python_version()}
    about["environment"] = {k: v for k, v in os.environ.items() if k.startswith(("OPENBLAS", "OMP_", "MKL_"))}
    if peers:
        about["torch"] = importlib.import_module("torch").__version__
    print(json.dumps(about))
    if not peers:
        print("PyTorch is not installed here, so only minivit is timed")
    results = {}
    for workload in args.only:
        print(f"\n{workload}: {WORKLOADS[workload]['what']}")
        print(f"  {'':<14}{'train step, ms (quartiles)':<26}{'ratio':>6}   {'inference, ms':<26}{'ratio':>6}   peak MB")
        results[workload] = result = measure(workload, ["minivit", *peers], args.rounds, args.steps)
        for name in result:
            print(row(name, result, "torch"), flush=True)
        losses = {name: r["loss"] for name, r in result.items()}
        apart = max(losses.values()) - min(losses.values())
        print(f"  first losses differ by {apart:.1e}: {', '.join(f'{n} {v:.7f}' for n, v in losses.items())}")
        if apart > LOSSES_AGREE * max(1.0, max(losses.values())):
            raise SystemExit("the libraries do not compute the same thing: no comparison")
    if args.out:
        with replacing(args.out) as file:
            file.write(json.dumps({"about": about, "results": results}, indent=1).encode())


if __name__ == "__main__":
    main()
