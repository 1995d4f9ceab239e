"""Chapter 08's long runs: twelve blocks deep, with one part removed at a time. `python -m scripts.block_runs`

Writes book/assets/08_block.json: for each variant and each of three seeds, how many per cent of the test images got the
right colour of the twin, colour of the corner, and answer to "are the two the same?". About ten minutes on one core.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

import minivit as mv
from minivit.interop.safetensors import replacing

TARGET = Path(__file__).resolve().parent.parent / "book" / "assets" / "08_block.json"
VARIANTS = (
    "whole",
    "no residual",
    "no norm",
    "post-norm",
    "no attention",
    "no MLP",
    "no GELU",
)
SEEDS, STEPS, RATE, SIZE, WIDTH, HEADS, DEPTH = 3, 400, 0.05, 64, 64, 4, 12


class Stack(mv.nn.Module):
    """The chapter's model, `DEPTH` blocks deep: (B, 16, 48) -> (B, 10), two colours of four and a yes or no."""

    def __init__(self, variant: str):
        self.variant = variant
        self.embed = mv.nn.Linear(48, WIDTH)
        self.pos = mv.nn.Parameter(
            0.3 * mv.random.current().standard_normal((16, WIDTH))
        )
        self.blocks = [mv.nn.Block(WIDTH, HEADS, mlp_ratio=2) for _ in range(DEPTH)]
        self.norm = mv.nn.LayerNorm(WIDTH)
        self.read = mv.nn.Linear(WIDTH, 10)

    def forward(self, patches: mv.Tensor) -> mv.Tensor:
        x = self.embed(patches) + self.pos
        for block in self.blocks:
            x = self.step(block, x)
        x = x if self.variant in ("no norm", "post-norm") else self.norm(x)
        return self.read(x[:, 0])

    def step(self, block: mv.nn.Block, x: mv.Tensor) -> mv.Tensor:
        """One block with a part removed or moved."""
        bare = self.variant == "no norm"
        norm1, norm2 = (as_it_is, as_it_is) if bare else (block.norm1, block.norm2)
        attend: Callable = nothing if self.variant == "no attention" else block.attn
        think: Callable = nothing if self.variant == "no MLP" else block.mlp
        if self.variant == "no GELU":
            think = linear_mlp(block.mlp)
        if self.variant == "no residual":
            return think(norm2(attend(norm1(x))))
        if self.variant == "post-norm":
            x = norm1(x + attend(x))
            return norm2(x + think(x))
        x = x + attend(norm1(x))
        return x + think(norm2(x))


def as_it_is(x: mv.Tensor) -> mv.Tensor:
    return x


def nothing(x: mv.Tensor) -> mv.Tensor:
    return x * 0


def linear_mlp(mlp: mv.nn.MLP) -> Callable:
    return lambda x: mlp.fc2(mlp.fc1(x))


def prepare(
    split: mv.data.Split, mean: tuple, std: tuple
) -> tuple[np.ndarray, np.ndarray]:
    """Images in which the two colours agree, and as many in which they do not: patches (n, 16, 48), answers (n, 3)."""
    corner = split.extra["colours"][:, 15]
    agree, differ = (np.flatnonzero(rows) for rows in (
        (corner == split.labels) & (split.extra["twin"] != 15), corner != split.labels))  # fmt: skip
    n = min(len(agree), len(differ))
    chosen = np.sort(np.concatenate([agree[:n], differ[:n]]))
    patches = mv.patchify(
        mv.data.standardise(split.images[chosen], mean, std), 4
    ).astype(np.float64)
    answers = np.stack([split.labels, corner, corner == split.labels], axis=1)
    return patches, answers[chosen].astype(np.int64)


PARTS = (
    slice(0, 4),
    slice(4, 8),
    slice(8, 10),
)  # of the logits, for the three questions


def run(variant: str, seed: int, data: mv.data.Dataset) -> list[float]:
    """Train once; per cent right on the test images for the three questions."""
    with mv.random.drawing_from(mv.random.stream(seed, "init")):
        model = Stack(variant).astype(np.float64)
    x, y = prepare(data.train, data.mean, data.std)
    rng = mv.random.stream(seed, "batches")
    for _ in range(STEPS):
        i = rng.integers(0, len(x), SIZE)
        logits = model(mv.Tensor(x[i]))
        model.zero_grad()
        sum(
            mv.cross_entropy(logits[:, part], y[i, k]) for k, part in enumerate(PARTS)
        ).backward()
        for p in model.parameters():
            if p.grad is not None:
                p.data -= RATE * p.grad
    x, y = prepare(data.test, data.mean, data.std)
    with mv.no_grad():
        logits = model(mv.Tensor(x)).numpy()
    return [
        round(100 * float((logits[:, part].argmax(axis=1) == y[:, k]).mean()), 1)
        for k, part in enumerate(PARTS)
    ]


def main() -> None:
    data = mv.data.twin(n_train=16000, n_val=1, n_test=4000)
    results = []
    for variant in VARIANTS:
        with np.errstate(
            all="ignore"
        ):  # a run may end in numbers that are none; that is the result
            scores = [run(variant, seed, data) for seed in range(SEEDS)]
        results.append({"variant": variant, "twin, corner, same": scores})
        print(results[-1], flush=True)
    with replacing(TARGET) as file:
        lines = ",\n".join(json.dumps(result) for result in results)
        file.write(f"[\n{lines}\n]\n".encode())


if __name__ == "__main__":
    main()
