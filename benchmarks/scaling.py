"""How the cost grows: the attention core with tokens, the training step with batch size and width; a log–log plot.

    python -m benchmarks.scaling                  prints the table, writes benchmarks/results/scaling-<date>.{json,png}

The slope of the attention core over the top octave of tokens should be near 2, and the score matrix should take exactly
heads · T² · 4 bytes: both are checked, as REFERENCE §1 asks of the pixel-sequence argument.
"""

import argparse
import json
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import minivit as mv
from benchmarks.cpu import about
from minivit.engine.memory import keep_pages
from minivit.interop.safetensors import replacing

HEADS, HEAD_DIM = 2, 64
TOKENS = (64, 128, 256, 512, 1024, 2048, 4096)
BATCHES, WIDTHS = (8, 16, 32, 64, 128, 256), (32, 64, 128, 256, 512)
SLOPE = (1.7, 2.3)


def seconds(act: Callable[[], Any], rounds: int) -> float:
    """Median seconds of some rounds, after one that is not counted."""
    act()
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        act()
        taken.append(time.perf_counter() - start)
    return float(np.median(taken))


def attention_core(tokens: int, rounds: int) -> dict[str, Any]:
    """Seconds of forward and backward of one image's attention, and the bytes of its score matrix: predicted, found."""
    rng = np.random.default_rng(0)
    shape = (1, HEADS, tokens, HEAD_DIM)
    q, k, v = (mv.Tensor(rng.standard_normal(shape, np.float32), requires_grad=True) for _ in range(3))
    gradient = rng.standard_normal(shape, np.float32)
    predicted = HEADS * tokens * tokens * 4
    tracemalloc.start()
    y = mv.attention(q, k, v)
    found = [trace.size for trace in tracemalloc.take_snapshot().traces if trace.size == predicted]
    tracemalloc.stop()
    del y
    return {
        "tokens": tokens,
        "seconds": seconds(lambda: mv.attention(q, k, v).backward(gradient), rounds),
        "score_bytes_predicted": predicted,
        "score_bytes_allocated": found[0] if found else None,
    }


def training_step(batch: int, dim: int, rounds: int) -> float:
    """Seconds of one step of a depth-2 ViT on 28×28 images in 49 patches."""
    rng = np.random.default_rng(0)
    model = mv.ViT(image_size=28, patch_size=4, in_channels=1, num_classes=10, dim=dim, depth=2, num_heads=4)
    images, labels = rng.standard_normal((batch, 28, 28, 1), np.float32), rng.integers(0, 10, batch)
    with mv.TrainStep(model, mv.optim.AdamW(model.parameters())) as step:
        return seconds(lambda: step(images, labels), rounds)


def slope(x: list[float], y: list[float]) -> float:
    """d log y / d log x over the last two points."""
    return float(np.log(y[-1] / y[-2]) / np.log(x[-1] / x[-2]))


def plot(result: dict[str, Any], path: Path) -> None:
    """Three log–log panels, each with the line of its expected slope."""
    from matplotlib.figure import Figure

    from minivit import viz

    figure = Figure(figsize=(12, 4), layout="constrained")
    core = result["attention_core"]
    panels = [
        ("tokens T", [r["tokens"] for r in core], [r["seconds"] for r in core], 2, "attention core"),
        ("batch size", *zip(*result["batch"], strict=True), 1, "training step, D = 96"),
        ("width D", *zip(*result["width"], strict=True), 2, "training step, B = 32"),
    ]
    for axes, (label, x, y, expected, title) in zip(figure.subplots(1, 3), panels, strict=True):
        x, y = np.array(x, float), 1e3 * np.array(y)
        axes.loglog(x, y, "o-", color="#0072b2", label=f"measured, last slope {slope(list(x), list(y)):.2f}")
        axes.loglog(x, y[-1] * (x / x[-1]) ** expected, "--", color="#d55e00", label=f"slope {expected}")
        axes.set(xlabel=label, ylabel="milliseconds", title=title)
        axes.set_xticks(x, [f"{v:g}" for v in x])
        axes.minorticks_off()
        axes.legend()
    figure.title = "How the cost grows"
    figure.alt = (
        f"Three log-log plots of milliseconds. Attention core against 64 to 4,096 tokens: last slope {result['slope']:.2f}. "
        f"Training step against batch size: {slope(*map(list, zip(*result['batch'], strict=True))):.2f}; "
        f"against width: {slope(*map(list, zip(*result['width'], strict=True))):.2f}."
    )
    viz.save(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    keep_pages()  # as every training step does: fresh pages would be most of what is timed
    result: dict[str, Any] = {"about": about()}
    print(f"{'tokens':>8}{'ms':>10}{'score matrix, bytes':>22}")
    result["attention_core"] = []
    for tokens in TOKENS:
        measured = attention_core(tokens, args.rounds)
        result["attention_core"].append(measured)
        same = "as predicted" if measured["score_bytes_allocated"] == measured["score_bytes_predicted"] else "NOT FOUND"
        print(
            f"{tokens:>8}{1e3 * measured['seconds']:>10.2f}{measured['score_bytes_predicted']:>22,}  {same}", flush=True
        )
    core = result["attention_core"]
    result["slope"] = slope([r["tokens"] for r in core], [r["seconds"] for r in core])
    result["batch"] = [(b, training_step(b, 96, args.rounds)) for b in BATCHES]
    result["width"] = [(d, training_step(32, d, args.rounds)) for d in WIDTHS]
    for name in ("batch", "width"):
        print(f"{name}: " + ", ".join(f"{x}: {1e3 * y:.1f} ms" for x, y in result[name]))
    path = Path(__file__).parent / "results" / f"scaling-{result['about']['date']}"
    with replacing(path.with_suffix(".json")) as file:
        file.write((json.dumps(result, indent=1) + "\n").encode())
    plot(result, path.with_suffix(".png"))
    print(f"written to {path.relative_to(Path.cwd())}.json and .png")
    inside = SLOPE[0] <= result["slope"] <= SLOPE[1]
    exact = all(r["score_bytes_allocated"] == r["score_bytes_predicted"] for r in core)
    print(
        f"slope of the attention core over the top octave: {result['slope']:.2f} ({'inside' if inside else 'OUTSIDE'} {SLOPE})"
    )
    if not (inside and exact):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
