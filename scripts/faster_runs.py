"""The times that chapter 11 quotes: small experiments on one machine, and what each technique is worth to a whole step.

    python -m scripts.faster_runs              writes book/assets/11_times.json; about four minutes, on a quiet machine
    python -m scripts.faster_runs blocks       measures some parts again and keeps the others

Everything but `threads` and `techniques` runs on one BLAS thread. What is compared takes turns, and the median of
the turns is kept. Seconds belong to this machine; the chapter draws conclusions from ratios.
"""

import argparse
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

import minivit as mv
from benchmarks import workloads
from benchmarks.ablation import TECHNIQUES, ratios
from benchmarks.cpu import about
from minivit.engine.memory import keep_pages
from minivit.interop.safetensors import replacing
from minivit.training.workers import blas_threads

TARGET = Path(__file__).resolve().parent.parent / "book" / "assets" / "11_times.json"
COMMAND = "python -m scripts.faster_runs"
ABLATED = ("pages", "workers", "linear", "gelu", "layer_norm", "attention", "class")
ROWS, WIDTH, HIDDEN = 6400, 96, 384  # of a Linear in W2: 128 images of 50 tokens
Acts = dict[str, Callable[[], Any]]


def turns(acts: Acts, rounds: int = 15, least: float = 0.01) -> dict[str, float]:
    """Median seconds of each act; they take turns, each of them repeated until a turn lasts `least` seconds."""
    counts, seconds = {}, {name: [] for name in acts}
    for name, act in acts.items():
        act()
        start = time.perf_counter()
        act()
        counts[name] = max(1, round(least / max(1e-9, time.perf_counter() - start)))
    for _ in range(rounds):
        for name, act in acts.items():
            start = time.perf_counter()
            for _ in range(counts[name]):
                act()
            seconds[name].append((time.perf_counter() - start) / counts[name])
    return {name: float(np.median(taken)) for name, taken in seconds.items()}


def array(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def profile(name: str = "W2", steps: int = 7) -> dict[str, Any]:
    """Seconds of each operation in one training step, by its forward and its backward, and of all the rest."""
    model, (images, labels) = workloads.build(name), workloads.batch(name)
    found: list[dict[str, float]] = []
    with mv.TrainStep(model, mv.optim.AdamW(model.parameters()), workers=1) as step:
        for _ in range(steps + 2):
            with mv.profile() as seen:
                step(images, labels)
            rows = {f"{op} {way}": row[1] for (op, way), row in seen.rows.items()}
            found.append(rows | {"everything else": seen.seconds - sum(rows.values())})
    return {key: float(np.median([rows[key] for rows in found[2:]])) for key in found[-1]}


def products() -> dict[str, Any]:
    """The same multiplications as one product and as many; and the rate of square products."""
    x, w = array(ROWS, WIDTH), array(WIDTH, 3 * WIDTH)
    narrow = [np.ascontiguousarray(w[:, i : i + 6]) for i in range(0, 3 * WIDTH, 6)]
    images = x.reshape(128, 50, WIDTH)
    ways = turns(
        {
            "one product": lambda: x @ w,
            "48 products of 6 columns": lambda: [x @ part for part in narrow],
            "128 products, one an image": lambda: images @ w,
        }
    )
    square = {}
    for n in (2**k for k in range(2, 12)):
        a, b = array(n, n), array(n, n)
        square[n] = 2 * n**3 / turns({"a": lambda a=a, b=b: a @ b}, rounds=9)["a"] / 1e9
    return {"ways": ways, "gflops": square}


def gelus() -> dict[str, float]:
    """Nanoseconds for each number of one GELU, forward, written in several ways."""
    x, c = array(ROWS, HIDDEN), np.float32(np.sqrt(2 / np.pi))
    y, t = np.empty_like(x), np.empty_like(x)

    def in_place() -> None:
        np.multiply(x, x, out=t)
        np.multiply(t, 0.044715, out=t)
        np.add(t, 1, out=t)
        np.multiply(t, x, out=t)
        np.multiply(t, c, out=t)
        np.tanh(t, out=t)
        np.add(t, 1, out=t)
        np.multiply(x, 0.5, out=y)
        np.multiply(y, t, out=y)

    tensor = mv.Tensor(x)
    with mv.no_grad():
        found = turns(
            {
                "x**3": lambda: 0.5 * x * (1 + np.tanh(c * (x + 0.044715 * x**3))),
                "x*x*x": lambda: 0.5 * x * (1 + np.tanh(c * (x + 0.044715 * (x * x * x)))),
                "in place": in_place,
                "composed": lambda: mv.composed.gelu(tensor),
                "fused": lambda: mv.gelu(tensor),
            }
        )
    return {name: 1e9 * taken / x.size for name, taken in found.items()}


def blocks() -> dict[int, float]:
    """Nanoseconds for each number of six cheap steps over 8 million numbers, done block by block."""
    x = array(1 << 23)
    y = np.empty_like(x)

    def run(size: int) -> None:
        for i in range(0, len(x), size):
            a, b = x[i : i + size], y[i : i + size]
            np.multiply(a, a, out=b)
            np.add(b, 1, out=b)
            np.multiply(b, a, out=b)
            np.subtract(b, 3, out=b)
            np.multiply(b, b, out=b)
            np.add(b, a, out=b)

    found = turns({str(1 << k): lambda k=k: run(1 << k) for k in range(7, 24, 2)}, rounds=9)
    return {int(size): 1e9 * taken / len(x) for size, taken in found.items()}


def threads() -> dict[str, float]:
    """Two halves of an MLP's work (two products and a GELU) one after the other, with BLAS's threads, side by side."""
    x, w1, w2 = array(2, ROWS // 2, WIDTH), array(WIDTH, HIDDEN), array(HIDDEN, WIDTH)

    def half(part: np.ndarray) -> Any:
        with mv.no_grad():
            return mv.gelu(mv.Tensor(part @ w1)).data @ w2

    pool = ThreadPoolExecutor(2)
    found = {}
    for _ in range(9):
        with blas_threads(1):
            serial = turns({"serial": lambda: [half(part) for part in x]}, rounds=1)
            side = turns({"side by side": lambda: list(pool.map(half, x))}, rounds=1)
        with blas_threads(2):
            inside = turns({"threads of BLAS": lambda: half(x.reshape(-1, WIDTH))}, rounds=1)
        for name, taken in (serial | side | inside).items():
            found.setdefault(name, []).append(taken)
    pool.shutdown()
    return {name: float(np.median(taken)) for name, taken in found.items()}


def forward(name: str = "W1") -> dict[int, float]:
    """Seconds of a forward pass without gradients, for each batch size."""
    model, (images, _) = workloads.build(name).eval(), workloads.batch(name)
    images = np.concatenate([images] * 4)
    with mv.no_grad():
        found = turns({str(1 << k): lambda k=k: model(images[: 1 << k]) for k in range(10)}, rounds=9)
    return {int(size): taken for size, taken in found.items()}


def techniques() -> dict[str, Any]:
    """How many times as long a training step takes without each, quartiles (benchmarks.ablation)."""
    return {
        key: {"what": TECHNIQUES[key][0], **{w: ratios(key, w, rounds=5, steps=3) for w in ("W1", "W2")}}
        for key in ABLATED
    }


PARTS = {part.__name__: part for part in (profile, products, gelus, blocks, forward, threads, techniques)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all)")
    names = parser.parse_args().parts or list(PARTS)
    keep_pages()
    for name in names:
        with blas_threads(1):  # `threads` and the other processes of `techniques` choose for themselves
            found = PARTS[name]()
        print(name, found, flush=True)
        before = json.loads(TARGET.read_text(encoding="utf-8")) if TARGET.exists() else {}
        whole = {**before, "command": COMMAND, "about": about(), name: found}
        with replacing(TARGET) as file:
            file.write((json.dumps(whole, indent=1, ensure_ascii=False) + "\n").encode())


if __name__ == "__main__":
    main()
