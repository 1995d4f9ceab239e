"""The floor under any step: its matrix products alone, with the shapes and layouts that minivit gives to BLAS."""

from collections.abc import Callable

import numpy as np

from benchmarks.workloads import WORKLOADS
from minivit.training.workers import Workers, cores

PARTS = 2  # of the batch, side by side: larger products than minivit's own parts have


def products(name: str, training: bool) -> Callable[[], None]:
    """A function that computes every product of one step (forward, and backward if `training`) of a workload once."""
    spec = WORKLOADS[name]
    parts = [_part(spec["model"], spec["batch"] // PARTS, training) for _ in range(PARTS)]
    workers = Workers(min(PARTS, cores()))
    return lambda: list(workers.map(lambda part: part(), [(part,) for part in parts]))[0]


def _part(config: dict, batch: int, training: bool) -> Callable[[], None]:
    dim, heads, classes = config["dim"], config["num_heads"], config["num_classes"]
    tokens = (config["image_size"] // config["patch_size"]) ** 2 + 1
    pixels = config["patch_size"] ** 2 * config["in_channels"]
    hidden = int(dim * config["mlp_ratio"])
    rng = np.random.default_rng(0)

    def array(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, np.float32)

    def linear(rows: int, inside: int, outside: int, first: bool = False) -> Callable[[], None]:
        x, w, g = array(rows, inside), array(inside, outside), array(rows, outside)
        y, dx, dw = array(rows, outside), array(rows, inside), array(inside, outside)

        def run() -> None:
            np.matmul(x, w, out=y)
            if training:
                np.matmul(x.T, g, out=dw)
                if not first:
                    np.matmul(g, w.T, out=dx)

        return run

    def attention(asking: int) -> Callable[[], None]:
        def views(packed: np.ndarray, n: int) -> np.ndarray:
            return packed.reshape(batch, tokens, n, heads, dim // heads).transpose(2, 0, 3, 1, 4)

        (q, k, v), (dq, dk, dv) = views(array(batch, tokens, 3 * dim), 3), views(array(batch, tokens, 3 * dim), 3)
        (y,), (g,) = views(array(batch, tokens, dim), 1), views(array(batch, tokens, dim), 1)
        q, dq, y, g = q[:, :, :asking], dq[:, :, :asking], y[:, :, :asking], g[:, :, :asking]
        a, da = array(batch, heads, asking, tokens), array(batch, heads, asking, tokens)

        def run() -> None:
            np.matmul(q, k.swapaxes(-1, -2), out=a)
            np.matmul(a, v, out=y)
            if training:
                np.matmul(a.swapaxes(-1, -2), g, out=dv)
                np.matmul(g, v.swapaxes(-1, -2), out=da)
                np.matmul(da, k, out=dq)
                np.matmul(da.swapaxes(-1, -2), q, out=dk)

        return run

    rows = batch * tokens
    block = [linear(rows, dim, 3 * dim), attention(tokens), linear(rows, dim, dim), linear(rows, dim, hidden)]
    block.append(linear(rows, hidden, dim))
    # of the last block only the class token is computed, from everyone's keys and values
    last = [linear(batch, dim, dim), linear(rows, dim, 2 * dim), attention(1), linear(batch, dim, dim)]
    last += [linear(batch, dim, hidden), linear(batch, hidden, dim)]
    embed, head = linear(batch * (tokens - 1), pixels, dim, first=True), linear(batch, dim, classes)

    def run() -> None:
        embed()
        for product in block * (config["depth"] - 1) + last:
            product()
        head()

    return run
