"""Trains what chapter 00 shows but has no time to train: one ViT with its division by √d and without, from five seeds.

`python -m scripts.start_runs` writes book/assets/00_runs.json in a few minutes. The recipe is that of `minivit train`, for 30
epochs in place of 150; the two models of a seed begin with the same weights and see the same images in the same order.
"""

import json
from pathlib import Path
from typing import Any

import minivit as mv
from minivit.interop.safetensors import replacing
from minivit.training.recipes import recipe
from minivit.training.report import versions

TARGET = Path(__file__).resolve().parent.parent / "book" / "assets" / "00_runs.json"
SEEDS = range(5)


class Forgetful(mv.nn.Module):
    """An attention layer's weights, used without the division by √d: (B, T, D) -> (B, T, D)."""

    def __init__(self, attention: mv.nn.Attention):
        self.qkv, self.proj, self.num_heads = attention.qkv, attention.proj, attention.num_heads

    def forward(self, x: mv.Tensor, *_: Any) -> mv.Tensor:
        q, k, v = (mv.composed.split_heads(part, self.num_heads) for part in mv.split(self.qkv(x), 3, axis=-1))
        return self.proj(mv.composed.merge_heads(mv.attention(q, k, v, scale=1.0)))


def accuracy(forgetful: bool, seed: int) -> float:
    """The share of test images that one run reads."""
    digits, (preset, options) = mv.data.digits(), recipe("digits")
    model = mv.create(preset, pool="mean", seed=seed)
    for block in model.blocks if forgetful else ():
        block.attn = Forgetful(block.attn)
    mv.fit(model, digits, seed=seed, progress=False, workers=1, **(options | {"epochs": 30}))
    return round(mv.evaluate(model, digits.test)[1], 5)


def main() -> None:
    """Do all runs and write them down."""
    found = {name: [accuracy(name == "faulty", seed) for seed in SEEDS] for name in ("right", "faulty")}
    content = {"command": "python -m scripts.start_runs", "versions": versions(), "test_accuracy": found}
    with replacing(TARGET) as file:
        file.write((json.dumps(content, indent=1) + "\n").encode())
    print(found)


if __name__ == "__main__":
    main()
