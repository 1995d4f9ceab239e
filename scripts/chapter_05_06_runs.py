"""The runs of chapters 05 and 06 that take longer than a reader waits: `python -m scripts.chapter_05_06_runs [05] [06]`.

Networks and training loops are taken out of the chapters' own scripts, so what is measured is what is shown. Writes
book/assets/05_runs.json and 06_runs.json, which the chapters load; one core, about ten minutes.
"""

import argparse
import ast
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

import minivit as mv

BOOK = Path(__file__).resolve().parent.parent / "book"
SEEDS = range(5)


def shown_in(chapter: str, *names: str) -> SimpleNamespace:
    """Functions and classes that a chapter's cells define."""
    nodes = ast.parse((BOOK / "src" / f"{chapter}.py").read_text(encoding="utf-8")).body
    wanted = [node for node in nodes if getattr(node, "name", None) in names]
    scope = {"np": np, "mv": mv}
    exec(compile(ast.Module(wanted, []), chapter, "exec"), scope)
    return SimpleNamespace(**{name: scope[name] for name in names})


def prepared(dataset: mv.data.Dataset) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Standardised float64 images and labels of each part."""
    return {
        name: (
            mv.data.standardise(part.images, dataset.mean, dataset.std).astype(np.float64),
            part.labels,
        )
        for name, part in dataset.parts.items()
    }


def patches() -> dict:
    """Chapter 05: the network that never compares two patches, with each of its two switches, before and after training."""
    shown, rows = shown_in("05_patches", "PatchReader", "train", "accuracy"), []
    splits = [("mixed", p, n) for n in (False, True) for p in (False, True)] + [("file-order", True, True)]
    for split, positions, nonlinear in splits:
        parts = prepared(mv.data.digits(split=split))
        for seed in SEEDS:
            model = started(shown.PatchReader, seed, positions=positions, nonlinear=nonlinear)
            before = shown.accuracy(model, *parts["test"])
            shown.train(model, *parts["train"], seed=seed)
            after = {part: round(100 * shown.accuracy(model, *parts[part]), 1) for part in ("train", "test")}
            rows.append(
                {"split": split, "positions": positions, "nonlinear": nonlinear, "seed": seed,
                 "before": round(100 * before, 1), **after}
            )  # fmt: skip
            print(rows[-1], flush=True)
    return {"runs": rows}


def attention() -> dict:
    """Chapter 06: find my twin, by a network that compares no patches and by one head; then one head with and without √d."""
    shown = shown_in("06_attention", "PatchReader", "OneHead", "train", "right", "table")
    twin, rows = mv.data.twin(), []
    parts, where = prepared(twin), twin.test.extra["twin"]

    def right(model: mv.nn.Module) -> float:
        return round(100 * shown.right(model, *parts["test"]), 2)

    for network, epochs in (("PatchReader", 10), ("OneHead", 3)):
        for seed in SEEDS:
            model = started(getattr(shown, network), seed)
            before = right(model)
            shown.train(model, *parts["train"], epochs=epochs, seed=seed)
            row = {
                "network": network,
                "epochs": epochs,
                "seed": seed,
                "before": before,
                "test": right(model),
            }
            if network == "OneHead":
                shares = shown.table(model, parts["test"][0])
                row["peak on twin"] = round(100 * float((shares.argmax(axis=1) == where).mean()), 1)
            rows.append(row)
            print(rows[-1], flush=True)
    for unit, rates in ((True, (0.01, 0.03, 0.1, 0.3)), (False, (0.03, 0.1))):
        for rate in rates:
            for divided in (True, False):
                for seed in SEEDS:
                    model = started(
                        shown.OneHead,
                        seed,
                        dim=64,
                        unit=unit,
                        scale=None if divided else 1.0,
                    )
                    curve = [right(model)]
                    for batch in steps_of(parts, seed, epochs=3, size=64, steps=25):
                        shown.train(model, *batch, epochs=1, seed=seed, rate=rate)
                        curve.append(right(model))
                    rows.append(
                        {
                            "unit": unit,
                            "rate": rate,
                            "divided": divided,
                            "seed": seed,
                            "curve": curve,
                        }
                    )
                    print(rows[-1], flush=True)
    return {"every": 25, "runs": rows}


def started(network: type, seed: int, **options: Any) -> mv.nn.Module:
    """A network in float64, its first weights drawn from the seed."""
    with mv.random.drawing_from(mv.random.stream(seed, "init")):
        return network(**options).astype(np.float64)


def steps_of(parts: dict, seed: int, epochs: int, size: int, steps: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The training images in pieces of `steps` batches, in a new order each epoch: the curve is looked at between them."""
    x, y = parts["train"]
    for epoch in range(epochs):
        order = mv.data.epoch_order(len(x), seed, epoch)
        for start in range(0, len(x), steps * size):
            yield (
                x[order[start : start + steps * size]],
                y[order[start : start + steps * size]],
            )


def main(arguments: list[str] | None = None) -> int:
    """Make the runs asked for and write them."""
    parser = argparse.ArgumentParser(prog="python -m scripts.chapter_05_06_runs", description=__doc__.splitlines()[0])
    parser.add_argument("chapters", nargs="*", help="05, 06; both without")
    makers = {"05": patches, "06": attention}
    for chapter in parser.parse_args(arguments).chapters or makers:
        found = {
            "command": f"python -m scripts.chapter_05_06_runs {chapter}",
            "numpy": np.__version__,
            **makers[chapter](),
        }
        lines = ",\n".join(json.dumps(row) for row in found.pop("runs"))
        head = json.dumps(found)[:-1]
        (BOOK / "assets" / f"{chapter}_runs.json").write_text(f'{head}, "runs": [\n{lines}\n]}}\n', encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
