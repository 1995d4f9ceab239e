"""A trained model at work: logits, probabilities and accuracy of many images, every core used."""

import contextlib
from typing import Any

import numpy as np

from minivit.data.dataset import Split, standardise
from minivit.engine.errors import ConfigError
from minivit.engine.fused import cross_entropy, softmax
from minivit.engine.tensor import Tensor, no_grad
from minivit.nn.module import Module, evaluating
from minivit.training.workers import Workers, cores, parts_by_work


def prepare(images: np.ndarray, meta: dict[str, Any] | None) -> np.ndarray:
    """Images (n, H, W, C), bytes or float32 in [0, 1], standardised as the model's training data were.

    Raises `ConfigError` for a model that was never trained here and so has no `meta`.
    """
    if meta is None:
        raise ConfigError(
            "this model does not know how its images are standardised: train it with mv.fit, or set "
            "model.meta = {'mean': [...], 'std': [...]}"
        )
    return standardise(images, meta["mean"], meta["std"])


def infer(model: Module, images: Any, batch_size: int | None = None, workers: int | None = None) -> np.ndarray:
    """Logits (n, K) of model-ready images (n, H, W, C), in eval mode and without gradients, a batch on each worker.

    `batch_size=None` makes batches that are worth a worker's while. They do not depend on `workers` (by default all
    cores), so neither does the result.
    """
    size = batch_size or -(-len(images) // (1 if len(images) < 2 else parts_by_work(model, images))) or 1
    parts = [(images[i : i + size],) for i in range(0, max(1, len(images)), size)]

    def part(batch: Any) -> np.ndarray:
        with no_grad():
            return model(batch).numpy()

    on_gpu = next(model.named_parameters())[1].backend == "cupy"
    pool = Workers((1 if on_gpu else cores()) if workers is None else workers)
    with evaluating(model), contextlib.closing(pool):
        return np.concatenate(list(pool.map(part, parts, alone=pool.count if len(images) == 1 else 1)))


def predict(model: Module, images: np.ndarray, batch_size: int | None = None) -> np.ndarray:
    """Class probabilities (n, K) of images (n, H, W, C), bytes or float32 in [0, 1]."""
    return softmax(Tensor(infer(model, prepare(images, model.meta), batch_size))).numpy()


def evaluate(model: Module, split: Split, batch_size: int | None = None) -> tuple[float, float]:
    """Mean cross-entropy and accuracy over a part of a data set."""
    scores = infer(model, prepare(split.images, model.meta), batch_size)
    with no_grad():
        loss = cross_entropy(Tensor(scores), split.labels).item()
    return loss, float((scores.argmax(axis=1) == split.labels).mean())
