"""Chapter 08's longer runs: three questions, one layer, and six blocks with a part missing. `python -m scripts.block_runs`

Writes book/assets/08_runs.json: for each kind of model and each seed, how many per cent of the test images got the right
colour of the twin, colour of the corner, and answer to "are the two the same?". In float32; about eight minutes on one core.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

import minivit as mv
from minivit.interop.safetensors import replacing

TARGET = Path(__file__).resolve().parent.parent / "book" / "assets" / "08_runs.json"
WIDTH, HEADS, HIDDEN, DEPTH, SIZE = 64, 4, 128, 6, 64
QUESTIONS = slice(0, 4), slice(4, 8), slice(8, 10)  # of the ten numbers that the model says

Step = Callable[[mv.nn.Block, mv.Tensor], mv.Tensor]


def add(part: Callable, x: mv.Tensor) -> mv.Tensor:
    return x + part(x)


WAYS: dict[str, Step] = {  # those of the chapter
    "whole": lambda b, x: b(x),
    "no residual": lambda b, x: b.mlp(b.norm2(b.attn(b.norm1(x)))),
    "no norm": lambda b, x: add(b.mlp, add(b.attn, x)),
    "post-norm": lambda b, x: b.norm2(add(b.mlp, b.norm1(add(b.attn, x)))),
    "no attention": lambda b, x: x + b.mlp(b.norm2(x)),
    "no MLP": lambda b, x: x + b.attn(b.norm1(x)),
    "no GELU": lambda b, x: add(lambda y: b.mlp.fc2(b.mlp.fc1(b.norm2(y))), x + b.attn(b.norm1(x))),
}
SHALLOW: dict[str, Step] = {
    "attention": lambda b, x: b.attn(x),
    "attention, MLP without GELU": lambda b, x: b.mlp.fc2(b.mlp.fc1(b.attn(x))),
    "attention, MLP": lambda b, x: b.mlp(b.attn(x)),
}


class Reader(mv.nn.Module):
    """The chapter's model: (B, 16, 48) -> (B, 10). `last`: a norm before the reading, as in a ViT."""

    def __init__(self, step: Step, depth: int, heads: int, last: bool):
        self.step = step
        self.embed = mv.nn.Linear(48, WIDTH)
        self.pos = mv.nn.Parameter(0.3 * mv.random.current().standard_normal((16, WIDTH)))
        self.read = mv.nn.Linear(WIDTH, 10)
        self.blocks = [mv.nn.Block(WIDTH, heads, HIDDEN / WIDTH) for _ in range(depth)]
        self.norm = mv.nn.LayerNorm(WIDTH) if last else None

    def forward(self, patches: mv.Tensor) -> mv.Tensor:
        x = self.embed(patches) + self.pos
        for block in self.blocks:
            x = self.step(block, x)
        return self.read(x[:, 0] if self.norm is None else self.norm(x[:, 0]))


def prepare(split: mv.data.Split, mean: tuple, std: tuple) -> tuple[np.ndarray, np.ndarray]:
    """As many images with equal colours as with unequal ones: patches (n, 16, 48) in float32, answers (n, 3)."""
    corner, where = split.extra["colours"][:, 15], split.extra["twin"]
    yes = np.flatnonzero((corner == split.labels) & (where != 15))
    no = np.flatnonzero(corner != split.labels)[: len(yes)]
    chosen = np.sort(np.concatenate([yes, no]))
    answers = np.stack([split.labels, corner, corner == split.labels], axis=1)[chosen]
    images = mv.data.standardise(split.images[chosen], mean, std)
    return mv.patchify(images, 4).astype(np.float32), answers.astype(np.int64)


def run(make: Callable[[], Reader], seed: int, steps: int, rate: float, data: mv.data.Dataset) -> list[float] | None:
    """Train once; per cent right on the test images for the three questions, or None where numbers became none."""
    with mv.random.drawing_from(mv.random.stream(seed, "init")):
        model = make().astype(np.float32)
    x, y = prepare(data.train, data.mean, data.std)
    rng = mv.random.stream(seed, "batches")
    for _ in range(steps):
        i = rng.integers(0, len(x), SIZE)
        logits = model(mv.Tensor(x[i]))
        model.zero_grad()
        loss = sum(mv.cross_entropy(logits[:, q], y[i, k]) for k, q in enumerate(QUESTIONS))
        if not np.isfinite(loss.item()):
            return None
        loss.backward()
        for p in model.parameters():
            if p.grad is not None:  # a part that is missing is not learned
                p.data -= np.float32(rate) * p.grad
    x, y = prepare(data.test, data.mean, data.std)
    with mv.no_grad():
        logits = model(mv.Tensor(x)).numpy()
    said = np.stack([logits[:, q].argmax(axis=1) for q in QUESTIONS], axis=1)
    return [round(100 * float(share), 1) for share in (said == y).mean(axis=0)]


def main() -> None:
    data = mv.data.twin(n_train=16000, n_val=1, n_test=4000)
    kinds = [(name, 1, lambda step=step: Reader(step, 1, 2, last=False), 5, 400, 0.2) for name, step in SHALLOW.items()]
    kinds += [
        (name, DEPTH, lambda step=step, name=name: Reader(step, DEPTH, HEADS, last="norm" not in name), 3, 500, 0.1)
        for name, step in WAYS.items()
    ]
    results = []
    for name, depth, make, seeds, steps, rate in kinds:
        with np.errstate(all="ignore"):  # numbers that become none are a result here
            scores = [run(make, seed, steps, rate, data) for seed in range(seeds)]
        results.append({"kind": name, "depth": depth, "steps": steps, "rate": rate, "right": scores})
        print(results[-1], flush=True)
    with replacing(TARGET) as file:
        lines = ",\n".join(json.dumps(result) for result in results)
        file.write(f"[\n{lines}\n]\n".encode())


if __name__ == "__main__":
    main()
