"""Parts of a batch side by side: threads, each with one BLAS thread, and results in order."""

import contextvars
import functools
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import threadpoolctl

from minivit.engine.memory import keep_pages


def cores() -> int:
    """How many processor cores this program may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def _blas() -> threadpoolctl.ThreadpoolController:
    """The BLAS libraries of this process; finding them takes milliseconds."""
    return threadpoolctl.ThreadpoolController().select(user_api="blas")


class Workers:
    """`map` computes `function(*part)` for each part, `count` at a time; one worker is plain and serial.

    NumPy lets other threads run while it computes. Each part has one BLAS thread: two products side by side are faster
    than one product cut in two, and their sums do not depend on how many threads there were. `close` ends the threads.
    """

    def __init__(self, count: int):
        keep_pages()
        self.count = count
        self._pool: ThreadPoolExecutor | None = None

    def map(self, function: Callable[..., Any], parts: Iterable[tuple]) -> list[Any]:
        """The results in the order of the parts; an exception in one of them is raised here."""
        parts = list(parts)
        with _blas().limit(limits=1):
            if self.count == 1 or len(parts) == 1:
                return [function(*part) for part in parts]
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.count, thread_name_prefix="minivit")
            # a worker sees this thread's context (anomaly mode, profiler), but changes a copy of its own
            waiting = [self._pool.submit(contextvars.copy_context().run, function, *part) for part in parts]
            return [future.result() for future in waiting]

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()
