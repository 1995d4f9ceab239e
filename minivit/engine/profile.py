"""Where the time goes: seconds, calls and bytes of each operation, forward and backward, and peak memory."""

import contextlib
import threading
import time
from collections.abc import Iterator

from minivit.engine import backend as backends
from minivit.engine.tensor import watchers


class Profile:
    """What `profile()` collected: `rows[(operation, direction)] = [calls, seconds, bytes]`."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], list[float]] = {}
        self.seconds = 0.0
        self._lock = threading.Lock()

    def _add(self, key: tuple[str, str], seconds: float, size: int) -> None:
        with self._lock:
            row = self.rows.setdefault(key, [0, 0.0, 0])
            row[0] += 1
            row[1] += seconds
            row[2] += size

    def forward(self, name, operands, static, compute):
        start = time.perf_counter()
        value, vjp = compute()
        backends.backend_of(value).synchronize()
        self._add((name, "forward"), time.perf_counter() - start, value.nbytes)
        return value, vjp

    def recorded(self, node) -> None:
        pass

    def backward(self, node, vjp):
        start = time.perf_counter()
        contributions = vjp()
        arrays = [g for g in contributions if g is not None]
        if arrays:
            backends.backend_of(arrays[0]).synchronize()
        self._add((node.name, "backward"), time.perf_counter() - start, sum(g.nbytes for g in arrays))
        return contributions

    def table(self) -> str:
        """The rows as text, slowest first, with what was spent outside operations and the peak memory."""
        inside = sum(row[1] for row in self.rows.values())
        total = max(self.seconds, inside) or 1e-12
        lines = [f"{'operation':<18}{'direction':<10}{'calls':>8}{'ms':>10}{'share':>8}{'MB made':>10}"]
        for (name, direction), (calls, seconds, size) in sorted(self.rows.items(), key=lambda item: -item[1][1]):
            share = 100 * seconds / total
            lines.append(f"{name:<18}{direction:<10}{calls:>8}{1e3 * seconds:>10.1f}{share:>7.1f}%{size / 1e6:>10.1f}")
        if self.seconds > inside:
            rest = self.seconds - inside
            lines.append(f"{'(everything else)':<28}{'':>8}{1e3 * rest:>10.1f}{100 * rest / total:>7.1f}%")
        peak = backends.default_backend().memory()
        if peak is not None:
            lines.append(f"peak memory of the process: {peak / 1e6:.0f} MB")
        return "\n".join(lines)


@contextlib.contextmanager
def profile() -> Iterator[Profile]:
    """Collect a `Profile` of the operations inside. Workers run in their own threads: seconds add up over them."""
    collected = Profile()
    token = watchers.set((*watchers.get(), collected))
    start = time.perf_counter()
    try:
        yield collected
    finally:
        collected.seconds = time.perf_counter() - start
        watchers.reset(token)
