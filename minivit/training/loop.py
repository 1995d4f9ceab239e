"""The training loop: epochs of steps, with a progress bar, validation, checkpoints, and a resume that repeats every bit."""

import contextlib
import dataclasses
import functools
import json
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from minivit.data.dataset import Dataset, standardise, to_float
from minivit.data.splits import epoch_order
from minivit.engine import random
from minivit.engine.errors import CheckpointError, ConfigError, did_you_mean
from minivit.engine.fused import cross_entropy
from minivit.interop.safetensors import replacing
from minivit.nn.module import Module
from minivit.training import augment, checkpoint
from minivit.training.infer import evaluate
from minivit.training.optim import OPTIMIZERS, Optimizer
from minivit.training.schedule import warmup_cosine
from minivit.training.step import TrainStep

CHECKPOINT_SECONDS = 60.0  # within long epochs


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Everything that decides the result of a run, given the model and the data.

    `warmup` is a share of all steps; `clip` bounds the global gradient norm (0: off); `smoothing` is for labels; `augment`
    names joined by `+`; `mixup` and `cutmix` are their α (0: off; with both, each batch draws one); `ema` averages the
    weights with this decay (0: off); `accumulate` cuts each batch into that many parts; `patience` stops after so many
    epochs without a better validation loss and goes back to the best (0: off); `shards` (0: their default) and `processes`
    see `TrainStep`.
    """

    epochs: int = 100
    batch_size: int = 64
    lr: float = 2e-3
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.99)
    momentum: float = 0.9
    optimizer: str = "adamw"
    warmup: float = 0.1
    clip: float = 1.0
    smoothing: float = 0.0
    augment: str = "none"
    mixup: float = 0.0
    cutmix: float = 0.0
    ema: float = 0.0
    accumulate: int = 1
    patience: int = 0
    shards: int = 0
    processes: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("lr", "weight_decay", "clip", "mixup", "cutmix", "patience", "shards", "seed"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must not be negative, got {getattr(self, name)}")
        for name in ("ema", "smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 0 and below 1, got {getattr(self, name)}")
        if self.optimizer not in OPTIMIZERS:
            known = ", ".join(OPTIMIZERS)
            raise ConfigError(
                f"unknown optimizer {self.optimizer!r}; choose {known}{did_you_mean(self.optimizer, OPTIMIZERS)}"
            )
        augment.named(self.augment)

    @classmethod
    def of(cls, options: dict[str, Any]) -> "TrainConfig":
        """From keyword arguments. Raises `ConfigError` for one that does not exist."""
        known = [f.name for f in dataclasses.fields(cls)]
        for name in options:
            if name not in known:
                raise ConfigError(f"training has no option {name!r}{did_you_mean(name, known)}")
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in options.items()})


@dataclasses.dataclass
class FitResult:
    """What `fit` did: one dict for each finished epoch, the configuration, the steps taken, and whether Ctrl-C ended it."""

    history: list[dict[str, Any]]
    config: TrainConfig
    step: int
    interrupted: bool = False


def fit(
    model: Module,
    data: Dataset,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
    workers: int | None = None,
    **options: Any,
) -> FitResult:
    """Train a model on `data.train`, watching `data.val`; the options are the fields of `TrainConfig`.

    With `out`, the folder gets `checkpoint.safetensors` (after every epoch, every minute, and at Ctrl-C) and
    `metrics.jsonl` (one line for each epoch). `resume` goes on from that checkpoint and ends with the same weights, bit
    for bit, as a run that was never stopped. The result depends on the configuration, never on `workers`.
    Raises `ConfigError`, `CheckpointError`, and `NonFiniteError` where the loss is no longer a number.
    """
    folder = Path(out) if out is not None else None
    if resume and folder is None:
        raise ConfigError("resume=True needs out=…, the folder of the run")
    stored = _stored_state(folder) if resume else None
    config = TrainConfig.of(options if stored is None else stored["config"])
    if stored is not None:
        _same_options(options, config)
    model.meta = {
        "name": data.name,
        "class_names": list(data.class_names),
        "mean": list(data.mean),
        "std": list(data.std),
    }
    run = _Run(model, data, config, folder, workers)
    if stored is not None:
        run.restore()
    return run.go(progress)


def _stored_state(folder: Path) -> dict[str, Any] | None:
    """The state in the folder's checkpoint; None where the run was stopped before it wrote one."""
    path = folder / checkpoint.NAME
    if not path.exists():
        return None
    return checkpoint.training_state(path, checkpoint.safetensors.read(path)[1])


def _same_options(options: dict[str, Any], config: TrainConfig) -> None:
    """A resumed run keeps its configuration: raises `ConfigError` where an option says otherwise."""
    asked = dataclasses.asdict(TrainConfig.of({**dataclasses.asdict(config), **options}))
    for name, value in dataclasses.asdict(config).items():
        if asked[name] != value:
            raise ConfigError(
                f"this run was started with {name}={value}; it cannot be resumed with {name}={asked[name]}"
            )


class _Run:
    """The state of one training run between two steps."""

    def __init__(self, model: Module, data: Dataset, config: TrainConfig, folder: Path | None, workers: int | None):
        self.model, self.data, self.config, self.folder = model, data, config, folder
        self.per_epoch = -(-len(data.train) // config.batch_size)
        self.total = self.per_epoch * config.epochs
        decay = {"weight_decay": config.weight_decay}
        extra = {"betas": config.betas} if config.optimizer == "adamw" else {"momentum": config.momentum}
        self.optimizer: Optimizer = OPTIMIZERS[config.optimizer](model.parameters(), config.lr, **extra, **decay)
        self.rate = warmup_cosine(config.lr, self.total, config.warmup)
        self.augment = augment.named(config.augment)
        loss = functools.partial(cross_entropy, smoothing=config.smoothing)
        self.train_step = TrainStep(
            model,
            self.optimizer,
            loss,
            config.clip or None,
            config.accumulate,
            config.shards or None,
            workers,
            config.processes,
            config.seed,
        )
        self.step, self.loss_sum, self.seconds, self.finished = 0, 0.0, 0.0, False
        self.history: list[dict[str, Any]] = []
        self.best_loss, self.stale = float("inf"), 0
        self.averages: dict[str, list] = {"ema": self._copy()} if config.ema else {}

    def restore(self) -> None:
        """Go back to what the checkpoint holds."""
        path = self.folder / checkpoint.NAME
        state, self.averages = checkpoint.read(path, self.model, self.optimizer)
        if state["data"] != [self.data.name, len(self.data.train)]:
            raise CheckpointError(
                f"{path}: this run trains on {state['data']}, not {[self.data.name, len(self.data.train)]}"
            )
        self.step, self.loss_sum, self.history = state["step"], state["loss_sum"], state["history"]
        self.best_loss, self.stale = state["best_loss"] or float("inf"), state["stale"]
        self.seconds, self.finished = state["seconds"], state["finished"]

    def save(self) -> None:
        """Write the checkpoint and the metrics, each complete or not at all."""
        if self.folder is None:
            return
        state = {
            "config": dataclasses.asdict(self.config),
            "data": [self.data.name, len(self.data.train)],
            "step": self.step,
            "loss_sum": self.loss_sum,
            "history": self.history,
            "best_loss": self.best_loss if np.isfinite(self.best_loss) else None,
            "stale": self.stale,
            "seconds": self.seconds,
            "finished": self.finished,
        }
        optimizer = None if self.finished else self.optimizer
        checkpoint.write(self.folder / checkpoint.NAME, self.model, state, optimizer, self.averages)
        with replacing(self.folder / "metrics.jsonl") as file:
            file.write("".join(json.dumps(line) + "\n" for line in self.history).encode())

    def go(self, progress: bool) -> FitResult:
        """Take the remaining steps."""
        if self.folder is not None:
            for leftover in self.folder.glob(".*.tmp"):  # of a run that was killed while it wrote
                leftover.unlink()
        if self.step == 0:
            self.save()
        self.model.train()
        last_save, begun, earlier = time.monotonic(), time.monotonic(), self.seconds
        bar = tqdm(
            total=self.config.epochs * len(self.data.train),
            initial=self._images_seen(),
            unit="img",
            unit_scale=True,
            disable=None if progress else True,  # None: only where standard error is a terminal
            dynamic_ncols=True,
            file=sys.stderr,
        )
        with self.train_step, bar, _interrupts() as stop:
            while self.step < self.total and not self.finished and not stop.is_set():
                n, loss = self._one_step()
                self.seconds = earlier + time.monotonic() - begun
                bar.update(n)
                if self.step % self.per_epoch == 0:
                    self._end_epoch()
                    self.save()
                    last_save = time.monotonic()
                elif time.monotonic() - last_save > CHECKPOINT_SECONDS:
                    self.save()
                    last_save = time.monotonic()
                bar.set_postfix(self._shown(loss), refresh=False)
            interrupted = self.step < self.total and not self.finished
            if not interrupted and not self.finished:
                self._finish()
            self.save()
        self.model.eval()
        return FitResult(self.history, self.config, self.step, interrupted)

    def _one_step(self) -> tuple[int, float]:
        """One batch; its images, order and changes depend on (seed, step) alone."""
        epoch, at = divmod(self.step, self.per_epoch)
        seed, size = self.config.seed, self.config.batch_size
        order = _order(len(self.data.train), seed, epoch)[at * size : (at + 1) * size]
        images, labels = to_float(self.data.train.images[order]), self.data.train.labels[order]
        rng = random.stream(seed, "augment", self.step)
        images, labels = self._mix(self.augment(images, rng), labels, rng)
        self.optimizer.lr = self.rate(self.step)
        loss = self.train_step(self.model.as_input(standardise(images, self.data.mean, self.data.std)).data, labels)
        self.step += 1
        self.loss_sum += loss * len(order)
        if "ema" in self.averages:
            decay = min(self.config.ema, (1 + self.step) / (10 + self.step))  # a young average follows fast
            for average, p in zip(self.averages["ema"], self.model.parameters(), strict=True):
                average += (1 - decay) * (p.data - average)
        return len(order), loss

    def _mix(self, images: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        mixup, cutmix = self.config.mixup, self.config.cutmix
        if not mixup and not cutmix:
            return images, labels
        if mixup and (not cutmix or rng.random() < 0.5):
            return augment.mixup(images, labels, rng, mixup, self.data.num_classes)
        return augment.cutmix(images, labels, rng, cutmix, self.data.num_classes)

    def _end_epoch(self) -> None:
        """Validate, note the metrics, and decide whether to stop early."""
        line = {
            "epoch": self.step // self.per_epoch,
            "step": self.step,
            "lr": self.optimizer.lr,
            "train_loss": self.loss_sum / len(self.data.train),
        }
        if len(self.data.val):
            with self._averaged():
                line["val_loss"], line["val_accuracy"] = evaluate(self.model, self.data.val)
            self.model.train()
        line["images_per_second"] = self._images_seen() / max(self.seconds, 1e-9)
        line["seconds"] = self.seconds
        self.history.append(line)
        self.loss_sum = 0.0
        if self.config.patience and "val_loss" in line:
            if line["val_loss"] < self.best_loss:
                self.best_loss, self.stale = line["val_loss"], 0
                self.averages["best"] = [a.copy() for a in self.averages.get("ema", [])] or self._copy()
            else:
                self.stale += 1
                if self.stale >= self.config.patience:
                    self._finish()

    def _finish(self) -> None:
        """The model becomes its best, or its average, where there is one; the optimiser is no longer needed."""
        for kind in ("best", "ema"):
            if kind in self.averages:
                self._assign(self.averages[kind])
                break
        self.averages, self.finished = {}, True

    def _copy(self) -> list:
        return [p.data.copy() for p in self.model.parameters()]

    def _assign(self, arrays: list) -> None:
        for p, a in zip(self.model.parameters(), arrays, strict=True):
            p.data[...] = a

    @contextlib.contextmanager
    def _averaged(self) -> Iterator[None]:
        """Inside, the model has its averaged weights, if it keeps any."""
        if "ema" not in self.averages:
            yield
            return
        current = self._copy()
        self._assign(self.averages["ema"])
        try:
            yield
        finally:
            self._assign(current)

    def _images_seen(self) -> int:
        epochs, steps = divmod(self.step, self.per_epoch)
        return epochs * len(self.data.train) + steps * self.config.batch_size

    def _shown(self, loss: float) -> dict[str, str]:
        last = self.history[-1] if self.history else {}
        accuracy = f"{100 * last['val_accuracy']:.1f}%" if "val_accuracy" in last else "–"
        return {
            "epoch": f"{-(-self.step // self.per_epoch)}/{self.config.epochs}",
            "loss": f"{loss:.3f}",
            "val": accuracy,
        }


@functools.lru_cache(maxsize=2)
def _order(n: int, seed: int, epoch: int) -> np.ndarray:
    return epoch_order(n, seed, epoch)


@contextlib.contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """Inside, the first Ctrl-C sets the event, so that the step in hand is finished; a second one stops at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    previous = signal.getsignal(signal.SIGINT)

    def note(number: int, frame: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    signal.signal(signal.SIGINT, note)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, previous)
