"""Parts of a batch side by side: how many, on threads with one BLAS thread each, and results in order."""

import contextvars
import functools
import os
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import threadpoolctl

from minivit.engine import random
from minivit.engine.memory import keep_pages
from minivit.engine.tensor import no_grad, watchers
from minivit.nn.module import Module, evaluating, tapped

WORTH_SHARING = 8_000_000  # values that a batch makes; below, threads would mostly wait for each other's Python
PART_VALUES = 16_000_000  # that each of many parts makes; larger ones need more memory, smaller ones more time


def cores() -> int:
    """How many processor cores this program may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def blas_threads(count: int) -> Any:
    """Inside `with blas_threads(n):`, products use that many threads; afterwards as many as before."""
    return _blas().limit(limits=count)


@functools.cache
def _blas() -> threadpoolctl.ThreadpoolController:
    """The BLAS libraries of this process; finding them takes milliseconds."""
    return threadpoolctl.ThreadpoolController().select(user_api="blas")


class Workers:
    """`map` computes `function(*part)` for each part, `count` at a time; one worker is plain and serial.

    NumPy lets other threads run while it computes. Each part has one BLAS thread: two products side by side are faster
    than one product cut in two (W2's step takes 1.42 times as long then, and 1.57 times with one worker), and on a busy
    machine BLAS's own threads wait in vain for each other. `close` ends the threads.
    """

    def __init__(self, count: int):
        keep_pages()
        self.count = count
        self._pool: ThreadPoolExecutor | None = None

    def map(self, function: Callable[..., Any], parts: Iterable[tuple], alone: int = 1) -> Iterator[Any]:
        """The results in the order of the parts; an exception in one of them is raised here.

        A part that is the only one has `alone` BLAS threads.
        """
        parts = list(parts)
        with blas_threads(alone if len(parts) == 1 else 1):
            if self.count == 1 or len(parts) == 1:
                for part in parts:
                    yield function(*part)
                return
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.count, thread_name_prefix="minivit")
            # a worker sees this thread's context (anomaly mode, profiler), but changes a copy of its own
            waiting = deque(self._pool.submit(contextvars.copy_context().run, function, *part) for part in parts)
            try:
                while waiting:
                    yield waiting.popleft().result()  # and forget it: nobody else keeps what one part made
            finally:
                for future in waiting:
                    future.cancel()

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None


def parts_by_work(model: Module, images: Any) -> int:
    """Into how many parts to cut a batch: one if it is not worth sharing, else two or 4, 8, … of `PART_VALUES` or more.

    It depends on the model and the batch alone, never on the machine, so that results do not either.
    """
    values = len(images) * values_per_image(model, images)
    if values < WORTH_SHARING:
        return 1
    many = max(1, values // PART_VALUES)
    return max(2, 1 << (many.bit_length() - 1))


def values_per_image(model: Module, images: Any) -> int:
    """How many values the operations of a model make from one image, found by counting them once for each size."""
    known = _values.setdefault(model, {})
    if images.shape[1:] not in known:
        count = _Count()
        token = watchers.set((count,))
        try:
            with evaluating(model), no_grad(), tapped(None), random.drawing_from(np.random.default_rng(0)):
                model(images[:1])
        finally:
            watchers.reset(token)
        known[images.shape[1:]] = count.values
    return known[images.shape[1:]]


_values: weakref.WeakKeyDictionary[Module, dict[tuple[int, ...], int]] = weakref.WeakKeyDictionary()


class _Count:
    """A watcher that adds up how many values operations make."""

    values = 0

    def forward(self, name: str, operands: tuple, static: dict, compute: Callable) -> tuple:
        value, vjp = compute()
        self.values += value.size
        return value, vjp
