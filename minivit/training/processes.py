"""Parts of a batch in forked processes, which no interpreter lock holds up; an option, on Linux only.

On W1, whose operations are so short that threads wait for each other, a step takes three quarters of the time; on W2 to
W4 a few hundredths less than with threads (benchmarks/cpu.py).

Each worker but the first is a copy of this process. Parameters live in memory that all of them share, so an update is
seen by everyone at once; each worker writes its gradients into a shared slot of its own. The rest travels through pipes.
The memory has no name and a worker leaves at the end of its pipe, so a killed parent leaves nothing behind.
"""

import math
import mmap
import multiprocessing
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from minivit.engine.errors import ConfigError, WorkerError
from minivit.engine.tensor import watchers
from minivit.nn.module import Module, Parameter
from minivit.training.workers import Workers, blas_threads


class Processes(Workers):
    """`map` as with `Workers`, for `function(*part) -> (loss, gradients)` of these parameters of a model.

    The workers are forked at the first call, and again when the model's modes or arrays were exchanged since.
    Raises `ConfigError` where there is no Linux or the model is on a GPU, `WorkerError` where a worker died.
    """

    def __init__(self, count: int, model: Module, parameters: list[Parameter]):
        if sys.platform != "linux":
            raise ConfigError(f"processes=True needs Linux, this is {sys.platform}; leave it out to use threads")
        if any(p.backend != "numpy" for p in parameters):
            raise ConfigError("processes=True is for models in ordinary memory, this one is on a GPU; leave it out")
        super().__init__(count)
        self.model, self.parameters = model, parameters
        self._children: list[tuple[Any, Any, list[np.ndarray]]] = []  # process, pipe, gradients
        self._forked_with: tuple[list[bool], list[np.ndarray]] | None = None  # modes and arrays
        self._running: object | None = None  # the call that waits for answers

    def map(self, function: Callable[..., Any], parts: Iterable[tuple], alone: int = 1) -> Iterator[Any]:
        """The results in the order of the parts, which are computed in rounds of `count`."""
        parts = list(parts)
        if self.count == 1 or len(parts) == 1 or watchers.get():  # who watches must see every operation
            yield from super().map(function, parts, alone)
            return
        if self._running is not None or not self._as_forked():
            self.close()  # an answer to an earlier call may still be under way, or the workers know other arrays
            self._fork(function, min(self.count, len(parts)) - 1)
        self._running = running = object()
        try:
            size = len(self._children) + 1
            for start in range(0, len(parts), size):
                here, *there = parts[start : start + size]
                busy = self._children[: len(there)]
                for (process, pipe, _), part in zip(busy, there, strict=True):
                    _answered(process, pipe.send, part)
                with blas_threads(1):
                    yield function(*here)
                for process, pipe, slots in busy:
                    yield _unpacked(_answered(process, pipe.recv), slots)
            self._running = running = None
        finally:
            if running is not None and self._running is running:
                self.close()

    def _as_forked(self) -> bool:
        """Whether the workers' model still is this one: the same modes, parameters in the same memory."""
        modes, arrays = self._modes(), [p.data for p in self.parameters]
        return self._forked_with is not None and (
            modes == self._forked_with[0] and all(a is b for a, b in zip(arrays, self._forked_with[1], strict=True))
        )

    def _modes(self) -> list[bool]:
        return [module.training for _, module in self.model.named_modules()]

    def _fork(self, function: Callable[..., Any], count: int) -> None:
        for p, shared in zip(self.parameters, _shared_arrays(self.parameters), strict=True):
            shared[...] = p.data
            p.data = shared
        fork = multiprocessing.get_context("fork")
        for _ in range(count):
            ours, theirs = fork.Pipe()
            slots = _shared_arrays(self.parameters)
            inherited = [ours, *(pipe for _, pipe, _ in self._children)]  # open here, they would hide our end from it
            process = fork.Process(target=_serve, args=(function, theirs, slots, inherited), daemon=True)
            with warnings.catch_warnings():  # Python warns of locks that other threads hold; a worker only computes
                warnings.simplefilter("ignore", DeprecationWarning)
                process.start()
            theirs.close()
            self._children.append((process, ours, slots))
        self._forked_with = self._modes(), [p.data for p in self.parameters]

    def close(self) -> None:
        """End the workers, even in the middle of a part."""
        for process, pipe, _ in self._children:
            process.kill()
            process.join()
            pipe.close()
        self._children, self._forked_with, self._running = [], None, None
        super().close()


def _shared_arrays(like: list[Parameter]) -> list[np.ndarray]:
    """Arrays shaped as these, in memory that forked processes share and that has no name to be left behind."""
    starts = np.cumsum([0, *(-(-p.data.nbytes // 64) * 64 for p in like)])
    memory = mmap.mmap(-1, max(1, int(starts[-1])))
    return [
        np.frombuffer(memory, p.dtype, math.prod(p.shape), int(start)).reshape(p.shape)
        for p, start in zip(like, starts, strict=False)
    ]


def _serve(function: Callable[..., Any], pipe: Any, slots: list[np.ndarray], inherited: list) -> None:
    """A worker's life: a part comes in, a loss goes out, gradients go to the slots; until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then closes the pipe
    for other in inherited:
        other.close()
    with blas_threads(1):
        while True:
            try:
                part = pipe.recv()
                pipe.send(_packed(function, part, slots))
            except (EOFError, OSError):  # the parent is gone
                return


def _packed(function: Callable[..., Any], part: tuple, slots: list[np.ndarray]) -> tuple:
    """What a part came to: (loss, which gradients there are), or the exception that it ended in and where."""
    try:
        loss, gradients = function(*part)
        for slot, g in zip(slots, gradients, strict=True):
            if g is not None:
                slot[...] = g
        return loss, [g is not None for g in gradients]
    except Exception as error:
        return error, "".join(traceback.format_exception(error))


def _unpacked(answer: tuple, slots: list[np.ndarray]) -> tuple[float, list[np.ndarray | None]]:
    loss, present = answer
    if isinstance(loss, Exception):
        loss.add_note(f"in a worker process:\n{present}")
        raise loss
    return loss, [slot if there else None for slot, there in zip(slots, present, strict=True)]


def _answered(process: Any, act: Callable[..., Any], *message: Any) -> Any:
    """What a pipe says, or a `WorkerError` where nobody is at its other end any more."""
    try:
        return act(*message)
    except (EOFError, OSError) as error:
        process.join(1)
        raise WorkerError(
            f"a worker process ended ({process.name}, exit code {process.exitcode}; −9 means killed, perhaps for want of "
            "memory); nothing was changed, and the next step starts another"
        ) from error
