"""Trains what chapter 10 shows but has no time to train: its classifier, its ablations, its comparison.

`python -m scripts.chapter_runs` writes book/assets/training_runs.json and book/assets/digits_vit.safetensors, in about twelve
minutes on one core. Names of parts (`classifier`, `ablation`, `lengths`, `rates`, `digits`, `twin`, `fashion-mnist`) do those
again and keep the others. Nothing is chosen here: the recipe is that of `minivit train`, tuned on validation images.
"""

import argparse
import dataclasses
import functools
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import minivit as mv
from minivit.data.dataset import Dataset, standardise, to_float
from minivit.engine import random
from minivit.engine.errors import NonFiniteError
from minivit.interop.safetensors import replacing
from minivit.training.augment import named, shift
from minivit.training.infer import evaluate
from minivit.training.recipes import recipe
from minivit.training.report import versions
from minivit.training.step import TrainStep
from minivit.training.workers import blas_threads

ASSETS = Path(__file__).resolve().parent.parent / "book" / "assets"
SEEDS = range(5)
EPOCHS = 30  # of an ablation run; the classifier itself gets the 150 of its recipe
RECIPE: dict[str, Any] = {
    "optimizer": "adamw",
    "rate": 3e-3,
    "schedule": "cosine",
    "warmup": 0.1,
    "weight_decay": 0.05,
    "clip": 1.0,
}
# In SGD the decay of a step is rate / (1 − momentum) · weight_decay, in AdamW rate · weight_decay: about the same with these.
SGD = {"optimizer": "sgd", "weight_decay": 5e-4}
ABLATIONS: dict[str, dict[str, Any]] = {  # what is different from the recipe
    "the recipe": {},
    "SGD with momentum": {**SGD, "rate": 0.1},  # the best of its rates by validation loss, see `rates`
    "SGD, AdamW's decay": {**SGD, "rate": 0.1, "weight_decay": 0.05},
    "no warm-up": {"warmup": 0.0},
    "constant rate": {"schedule": "constant"},
    "no weight decay": {"weight_decay": 0.0},
    "no clipping": {"clip": None},
    "no augmentation": {"augment": "none"},
    "shifts by ±1 pixel": {"augment": "shift"},
}
LENGTHS = {"epochs": 100, "seeds": range(3), "augment": ("none", "affine")}
RATES = {"adamw": [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1], "sgd": [1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0]}


def train(
    model: Any,
    data: Dataset,
    *,
    epochs: int,
    seed: int,
    optimizer: str,
    rate: float,
    schedule: str,
    warmup: float,
    weight_decay: float,
    clip: float | None,
    augment: str = "affine",
) -> Any:
    """The loop of `mv.fit`, bit for bit, without its comforts; and with a constant rate, which `mv.fit` does not offer."""
    model.meta = {"name": data.name, "class_names": list(data.class_names), "mean": data.mean, "std": data.std}
    if optimizer == "adamw":
        chosen = mv.optim.AdamW(model.parameters(), betas=(0.9, 0.99), weight_decay=weight_decay)
    else:
        chosen = mv.optim.SGD(model.parameters(), rate, momentum=0.9, weight_decay=weight_decay)
    per_epoch = math.ceil(len(data.train) / 64)
    rates = mv.schedule.warmup_cosine(rate, per_epoch * epochs, warmup, floor=rate if schedule == "constant" else 0.0)
    change = functools.partial(shift, pixels=1) if augment == "shift" else named(augment)
    model.train()
    with TrainStep(model, chosen, clip=clip, workers=1, seed=seed) as step:
        for epoch in range(epochs):
            for batch in mv.data.batches(len(data.train), 64, seed=seed, epoch=epoch):
                images = change(to_float(data.train.images[batch]), random.stream(seed, "augment", chosen.steps))
                chosen.lr = rates(chosen.steps)
                step(standardise(images, data.mean, data.std), data.train.labels[batch])
    return model.eval()


def scores(model: Any, data: Dataset) -> dict[str, float]:
    """Loss and accuracy on validation and test images."""
    found = {}
    for part in ("val", "test"):
        loss, accuracy = evaluate(model, data.parts[part])
        found |= {f"{part}_loss": round(loss, 4), f"{part}_accuracy": round(accuracy, 5)}
    return found


# --- the parts --------------------------------------------------------------------------------------------------------


def classifier() -> dict[str, Any]:
    """The recipe of `minivit train`, seed 0, with its whole history."""
    data = mv.data.digits()
    preset, options = recipe("digits")
    model = mv.create(preset, seed=0)
    history = mv.fit(model, data, seed=0, progress=False, workers=1, **options).history
    mv.save(model, ASSETS / "digits_vit.safetensors")
    kept = ("epoch", "train_loss", "val_loss", "val_accuracy")
    rows = [{key: row[key] if key == "epoch" else round(row[key], 4) for key in kept} for row in history]
    return {"preset": preset, "options": options, **scores(model, data), "history": rows}


def small_vit(seed: int) -> Any:
    """What the ablations train: the classifier with two blocks instead of three."""
    return mv.create("vit_digits", depth=2, seed=seed)


def ablation() -> dict[str, Any]:
    """Each thing left out, with the same seeds, so that runs can be compared in pairs."""
    data = mv.data.digits()
    runs = {}
    for name, changes in ABLATIONS.items():
        runs[name] = [
            scores(train(small_vit(s), data, epochs=EPOCHS, seed=s, **{**RECIPE, **changes}), data) for s in SEEDS
        ]
        print(f"  {name}: {[run['test_accuracy'] for run in runs[name]]}", flush=True)
    return {"epochs": EPOCHS, "seeds": list(SEEDS), "changes": ABLATIONS, "runs": runs}


def lengths() -> dict[str, Any]:
    """With and without augmentation once more, for three times as long."""
    data, epochs = mv.data.digits(), LENGTHS["epochs"]
    runs = {}
    for augment in LENGTHS["augment"]:
        runs[augment] = [
            scores(train(small_vit(s), data, epochs=epochs, seed=s, **{**RECIPE, "augment": augment}), data)
            for s in LENGTHS["seeds"]
        ]
        print(f"  {augment}: {[run['test_accuracy'] for run in runs[augment]]}", flush=True)
    return {"epochs": epochs, "seeds": list(LENGTHS["seeds"]), "runs": runs}


def rates() -> dict[str, Any]:
    """The same model with one learning rate after another."""
    data = mv.data.digits()
    runs: dict[str, list] = {}
    for optimizer, tried in RATES.items():
        runs[optimizer] = []
        for rate in tried:
            options = {**RECIPE, **(SGD if optimizer == "sgd" else {}), "rate": rate}
            try:
                found = scores(train(small_vit(0), data, epochs=EPOCHS, seed=0, **options), data)
            except NonFiniteError:
                found = None
            runs[optimizer].append({"rate": rate, "scores": found})
            print(f"  {optimizer} {rate}: {found}", flush=True)
    return {"epochs": EPOCHS, "seed": 0, "runs": runs}


class Silence(mv.nn.Module):
    """What stands in the place of attention: it adds nothing."""

    def forward(self, x: mv.Tensor, *_: Any) -> mv.Tensor:
        return x * 0


def without_attention(preset: str, seed: int) -> mv.ViT:
    """The same ViT (mean pooling) with silent attention; its MLPs are twice as wide, which makes up the parameters."""
    ratio = 2 * mv.presets[preset]["mlp_ratio"]
    model = mv.create(preset, pool="mean", mlp_ratio=ratio, seed=seed)
    for block in model.blocks:
        block.attn = Silence()
    return model


TASKS: dict[str, dict[str, Any]] = {
    "digits": {"preset": "vit_digits", "rate": 3e-3, "epochs": 40, "seeds": range(3), "augment": "affine"},
    "twin": {"preset": "vit_twin", "rate": 2e-3, "epochs": 5, "seeds": range(3), "augment": "none"},
    "fashion-mnist": {"preset": "vit_28", "rate": 2e-3, "epochs": 6, "seeds": range(1), "augment": "flip"},
}


def compare(name: str, preset: str, rate: float, epochs: int, seeds: range, augment: str) -> dict[str, Any]:
    """Six ways to read the same images; the networks, but for the linear one, take the same steps on the same copies."""
    data = mv.data.load(name)
    if name == "fashion-mnist":  # ten minutes do not suffice for fifty thousand
        data = dataclasses.replace(data, train=data.train[:10_000], val=data.val[:1_000])
    shape = {"image_size": data.image_size, "in_channels": data.in_channels, "num_classes": data.num_classes}
    vit = functools.partial(mv.create, preset, pool="mean")
    makes: dict[str, tuple[Callable, float]] = {
        "ViT": (vit, rate),
        "ViT without attention": (functools.partial(without_attention, preset), rate),
        "CNN": (functools.partial(mv.create, "cnn", **shape), 3e-3),
        "linear": (functools.partial(mv.create, "linear", **shape), 3e-3),
    }
    found: dict[str, Any] = {}
    for model_name, (make, peak) in makes.items():
        runs = []
        for seed in seeds:
            model = make(seed=seed)
            change = "none" if model_name == "linear" else augment  # copies only harm a template
            train(model, data, epochs=epochs, seed=seed, **{**RECIPE, "rate": peak, "augment": change})
            runs.append(scores(model, data)["test_accuracy"])
        found[model_name] = {"parameters": model.num_parameters(), "test_accuracy": runs}
        print(f"  {name}, {model_name}: {runs}", flush=True)
    for model_name, answer in (("3 nearest neighbours", neighbours), ("SVM", svm)):
        runs = [round(answer(data), 5)]
        found[model_name] = {"parameters": None, "test_accuracy": runs}
        print(f"  {name}, {model_name}: {runs}", flush=True)
    sizes = {"train": len(data.train), "test": len(data.test)}
    return {"epochs": epochs, "augment": augment, "seeds": list(seeds), "images": sizes, "models": found}


# --- two classifiers without a gradient -------------------------------------------------------------------------------


def _pixels(data: Dataset) -> list[np.ndarray]:
    """Training and test images as rows in [0, 1], float32."""
    return [to_float(split.images).reshape(len(split), -1) for split in (data.train, data.test)]


def _squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.maximum((a**2).sum(1)[:, None] - 2 * a @ b.T + (b**2).sum(1), 0)  # (n, m)


def neighbours(data: Dataset, k: int = 3) -> float:
    """Accuracy of the majority among the k nearest training images; a tie goes to the nearest of the tied."""
    train_x, test_x = _pixels(data)
    right = 0
    for start in range(0, len(test_x), 1000):
        distances = _squared_distances(test_x[start : start + 1000], train_x)
        nearest = np.argpartition(distances, k, axis=1)[:, :k]
        order = np.take_along_axis(distances, nearest, axis=1).argsort(axis=1, kind="stable")
        votes = data.train.labels[np.take_along_axis(nearest, order, axis=1)]  # (n, k), nearest first
        counts = (votes[:, :, None] == votes[:, None, :]).sum(axis=2)
        answers = votes[np.arange(len(votes)), counts.argmax(axis=1)]
        right += int((answers == data.test.labels[start : start + 1000]).sum())
    return right / len(test_x)


def svm(data: Dataset, c: float = 10.0, passes: int = 20) -> float:
    """Accuracy of a support vector machine, one class against the rest, with a Gaussian kernel and no constant.

    Solved by dual coordinate ascent (Shalev-Shwartz and Zhang 2013): each image in turn takes its best weight in [0, C].
    The kernel's width is 1 / (features · variance), as scikit-learn chooses it.
    """
    train_x, test_x = _pixels(data)
    width = 1 / (train_x.shape[1] * train_x.var())
    kernel = np.exp(-width * _squared_distances(train_x, train_x))
    sign = np.where(np.eye(data.num_classes)[data.train.labels] > 0, 1, -1).astype(np.float32)  # (n, K)
    weight = np.zeros_like(sign)  # of each training image for each class, in [0, C] times the sign
    rng = random.stream(0, "svm")
    for _ in range(passes):
        for i in rng.permutation(len(train_x)):
            margin = sign[i] * (kernel[i] @ weight)
            own = weight[i] * sign[i]
            weight[i] = np.clip(own + 1 - margin, 0, c) * sign[i]  # the kernel of an image with itself is 1
    right = 0
    for start in range(0, len(test_x), 1000):
        values = np.exp(-width * _squared_distances(test_x[start : start + 1000], train_x)) @ weight
        right += int((values.argmax(axis=1) == data.test.labels[start : start + 1000]).sum())
    return right / len(test_x)


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    **{part.__name__: part for part in (classifier, ablation, lengths, rates)},
    **{name: functools.partial(compare, name, **task) for name, task in TASKS.items()},
}


def main() -> None:
    """Do the parts asked for, and write them beside those that were there."""
    parser = argparse.ArgumentParser(prog="python -m scripts.chapter_runs", description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help=f"some of {', '.join(PARTS)}; all without")
    chosen = parser.parse_args().parts or list(PARTS)
    ASSETS.mkdir(parents=True, exist_ok=True)
    path = ASSETS / "training_runs.json"
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    results["command"], results["versions"] = ("python -m scripts.chapter_runs", versions())
    with blas_threads(1):
        for name in chosen:
            print(name, flush=True)
            begun = time.process_time()
            results[name] = {**PARTS[name](), "processor_seconds": round(time.process_time() - begun)}
            with replacing(path) as file:
                file.write((json.dumps(results, indent=1, ensure_ascii=False) + "\n").encode())


if __name__ == "__main__":
    main()
