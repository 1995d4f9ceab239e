"""One training step: forward, backward, clip, update; the batch cut into shards that workers compute side by side."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minivit.engine import backend as backends
from minivit.engine import random
from minivit.engine.backend import Array
from minivit.engine.errors import ConfigError, NonFiniteError, ShapeError
from minivit.engine.fused import cross_entropy
from minivit.engine.tensor import Tensor, gradients
from minivit.nn.module import Module
from minivit.training.optim import Optimizer, clip_global_norm
from minivit.training.processes import Processes
from minivit.training.workers import Workers, cores, parts_by_work


class TrainStep:
    """`loss = step(images, labels)`: the mean loss over the batch, after one update of the model.

    The batch is cut into `shards · accumulate` parts, of which `workers` are computed at a time, each on one BLAS thread;
    gradients are weighted by the parts' sizes and summed in their order. `shards=None` cuts as many parts as the work is
    worth (`parts_by_work`; with `processes` at least two). The result depends on (seed, shards, accumulate), bit for bit,
    never on `workers`; `workers=1` is plain and serial. Workers are threads (BLAS's own where `shards=1`), or with
    `processes` forked processes (Linux), which small models need.
    Dropout and its kin draw from (seed, step, part). A loss that is not finite raises `NonFiniteError` and changes nothing.
    Use it as a context manager, or call `close()`, to end the workers.
    """

    def __init__(
        self,
        model: Module,
        optimizer: Optimizer,
        loss_fn: Callable[[Tensor, Any], Tensor] = cross_entropy,
        clip: float | None = None,
        accumulate: int = 1,
        shards: int | None = None,
        workers: int | None = None,
        processes: bool = False,
        seed: int = 0,
    ):
        if min(1 if n is None else n for n in (shards, accumulate, workers)) < 1:
            raise ConfigError(f"shards {shards}, accumulate {accumulate} and workers {workers} must be at least 1")
        self.model, self.optimizer, self.loss_fn, self.clip, self.seed = model, optimizer, loss_fn, clip, seed
        self.accumulate = accumulate
        on_gpu = optimizer.parameters[0].backend == "cupy"
        self.shards = 1 if on_gpu and shards is None else shards
        self.workers = (1 if on_gpu else cores()) if workers is None else workers
        self.norm: float | None = None  # of the last step's gradients, before clipping
        self.least = 2 if processes else 1
        self._workers = Processes(self.workers, model, optimizer.parameters) if processes else Workers(self.workers)

    def __call__(self, images: Any, labels: Any) -> float:
        if len(images) != len(labels):
            raise ShapeError(f"TrainStep: {len(images)} images but {len(labels)} labels")
        if not len(images):
            raise ShapeError("TrainStep: the batch is empty")
        shards = self.shards or max(self.least, parts_by_work(self.model, images))
        bounds = np.linspace(0, len(images), min(shards * self.accumulate, len(images)) + 1).round().astype(int)
        parts = [
            (self.optimizer.steps, i, images[a:b], labels[a:b], float(b - a) / len(images))
            for i, (a, b) in enumerate(zip(bounds, bounds[1:], strict=False))
        ]
        total, found = 0.0, None
        alone = self.workers if self.shards == 1 else 1  # who asks for one part leaves the cores to BLAS
        for loss, part in self._workers.map(self._part, parts, alone):  # in order, whoever was first
            total += loss
            found = part if found is None else [_add(a, b) for a, b in zip(found, part, strict=True)]
        if not math.isfinite(total):
            raise NonFiniteError(
                f"the loss is {total} at step {self.optimizer.steps}; nothing was changed. Lower the learning rate, or find "
                "the first bad value with `with mv.anomaly():` around one step"
            )
        if self.clip is not None:
            found, self.norm = clip_global_norm(found, self.clip)
        self.optimizer.step(found)
        return total

    def _part(
        self, step: int, number: int, images: Any, labels: Any, weight: float
    ) -> tuple[float, list[Array | None]]:
        """Weighted loss and gradients of one part of the batch; it may run in another process, so it changes nothing."""
        with random.drawing_from(random.stream(self.seed, "dropout", step, number)):
            loss = self.loss_fn(self.model(images), labels)
        xp = backends.backend_of(loss.data)
        by_leaf = gradients(loss, xp.full(loss.shape, weight, loss.dtype))
        found = [by_leaf.get(id(p), (None, None))[1] for p in self.optimizer.parameters]
        return weight * loss.item(), found

    def close(self) -> None:
        """End the workers."""
        self._workers.close()

    def __enter__(self) -> "TrainStep":
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()


def _add(a: Array | None, b: Array | None) -> Array | None:
    return a if b is None else b.copy() if a is None else a + b  # a copy, for b may be the slot of another process
