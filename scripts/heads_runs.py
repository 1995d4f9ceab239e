"""Chapter 07's long runs: two questions about one image, answered with 1 to 64 heads. `python -m scripts.heads_runs`

Writes book/assets/07_heads.json: for each number of heads, with and without positions, and each of five seeds, how many
per cent of 2,000 test images got the right colour of the twin and of the corner. About two minutes on one core.
"""

import json
from pathlib import Path

import numpy as np

import minivit as mv
from minivit.interop.safetensors import replacing

TARGET = Path(__file__).resolve().parent.parent / "book" / "assets" / "07_heads.json"
RUNS = [(1, True), (2, True), (4, True), (8, True), (16, True), (32, True), (64, True), (1, False), (2, False)]
SEEDS, STEPS, RATE, SIZE, WIDTH = 5, 400, 0.3, 64, 64


class Seeker(mv.nn.Module):
    """The chapter's model: patch 0 asks, a Linear reads two colours: (B, 16, 48) -> (B, 2, 4)."""

    def __init__(self, attention: mv.nn.Module, positions: bool):
        self.embed = mv.nn.Linear(48, WIDTH)
        start = 0.3 * mv.random.current().standard_normal((16, WIDTH))
        self.pos = mv.nn.Parameter(start) if positions else None
        self.attn = attention
        self.read = mv.nn.Linear(WIDTH, 8)

    def forward(self, patches: mv.Tensor) -> mv.Tensor:
        x = self.embed(patches)
        x = x if self.pos is None else x + self.pos
        return self.read(self.attn(x)[:, 0]).reshape(-1, 2, 4)


def prepare(split: mv.data.Split, mean: tuple, std: tuple) -> tuple[np.ndarray, np.ndarray]:
    """Patches (n, 16, 48) in float64; the colours of the twin and of patch 15, (n, 2)."""
    patches = mv.patchify(mv.data.standardise(split.images, mean, std), 4).astype(np.float64)
    return patches, np.stack([split.labels, split.extra["colours"][:, 15]], axis=1)


def run(heads: int, positions: bool, seed: int, data: mv.data.Dataset) -> list[float]:
    """Train once; per cent right on the test images for the two questions."""
    with mv.random.drawing_from(mv.random.stream(seed, "init")):
        model = Seeker(mv.nn.Attention(WIDTH, heads), positions).astype(np.float64)
    x, y = prepare(data.train, data.mean, data.std)
    rng = mv.random.stream(seed, "batches")
    for _ in range(STEPS):
        chosen = rng.integers(0, len(x), SIZE)
        logits = model(mv.Tensor(x[chosen])).reshape(-1, 4)
        model.zero_grad()
        mv.cross_entropy(logits, y[chosen].reshape(-1)).backward()
        for p in model.parameters():
            p.data -= RATE * p.grad
    x, y = prepare(data.test, data.mean, data.std)
    with mv.no_grad():
        right = model(mv.Tensor(x)).numpy().argmax(axis=2) == y
    return [round(100 * float(share), 1) for share in right.mean(axis=0)]


def main() -> None:
    data = mv.data.twin(n_train=8000, n_val=1, n_test=2000)
    results = []
    for heads, positions in RUNS:
        scores = [run(heads, positions, seed, data) for seed in range(SEEDS)]
        results.append({"heads": heads, "positions": positions, "twin and corner": scores})
        print(results[-1], flush=True)
    with replacing(TARGET) as file:
        lines = ",\n".join(json.dumps(result) for result in results)
        file.write(f"[\n{lines}\n]\n".encode())


if __name__ == "__main__":
    main()
