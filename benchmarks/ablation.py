"""What each technique is worth: the step with one of them switched off, against the step with all, in turn in one run.

    python -m benchmarks.ablation                 the table for W1 and W2
    python -m benchmarks.ablation --only W3 --rounds 15

A technique that is worth less than 5 % on every workload does not belong in the library.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable

import numpy as np

from benchmarks.cpu import PAUSE, Child, about
from benchmarks.workloads import WORKLOADS


def no_keep_pages() -> None:
    from minivit.training import workers

    workers.keep_pages = lambda: False


def one_worker() -> None:
    from minivit.training import step

    step.cores = lambda: 1


def whole_batch_two_blas_threads() -> None:
    """One part, and BLAS left to use every core inside each product."""
    from minivit.training import step

    step.parts_by_work = lambda model, images: 1
    by_parts = step.Workers.map
    step.Workers.map = lambda workers, function, parts, alone=1: by_parts(workers, function, parts, 2)


def composed(name: str) -> Callable[[], None]:
    """The readable form of one operation instead of the fused one."""

    def switch() -> None:
        from minivit.engine import composed, fused

        setattr(fused, name, getattr(composed, name))

    return switch


def composed_attention() -> None:
    from minivit.engine import composed, fused

    fused.attention, fused.self_attention = composed.attention, composed.self_attention


def erf_gelu() -> None:
    """GELU in one operation, but through a separate erf instead of Φ in place."""
    from minivit.engine.backend import NumpyBackend
    from minivit.engine.erf import erf

    def normal_cdf(x, squared, out):
        out[...] = 0.5 * (1 + erf(x * 0.5**0.5))

    NumpyBackend.normal_cdf = staticmethod(normal_cdf)


def always_shifted() -> None:
    """The largest score of each row found and taken off before every exp."""
    from minivit.engine.backend import NumpyBackend

    NumpyBackend.shift_for_exp = lambda self, x: x.max(axis=-1, keepdims=True)


def always_two_parts() -> None:
    """Two parts on two threads, however small the work."""
    from minivit.training import step

    step.parts_by_work = lambda model, images: 2


def no_products_for_sums() -> None:
    from minivit.engine.backend import NumpyBackend

    NumpyBackend.row_sum = lambda self, x: x.sum(axis=-1, keepdims=True)
    NumpyBackend.row_dot = lambda self, x, y: (x * y).sum(axis=-1, keepdims=True)
    NumpyBackend.column_sum = lambda self, x: x.sum(axis=0)


def whole_last_block() -> None:
    from minivit.models import vit

    vit.listening = lambda: True


TECHNIQUES: dict[str, tuple[str, Callable[[], None]]] = {
    "pages": ("the allocator keeps its pages", no_keep_pages),
    "workers": ("parts of the batch side by side", one_worker),
    "parts": ("threads over parts, not inside BLAS", whole_batch_two_blas_threads),
    "size": ("parts by the size of the work, not always two", always_two_parts),
    "linear": ("Linear as one product of matrices", composed("linear")),
    "gelu": ("fused GELU", composed("gelu")),
    "cdf": ("… with Φ as tanh of a polynomial, in place", erf_gelu),
    "layer_norm": ("fused LayerNorm", composed("layer_norm")),
    "attention": ("fused attention over strided views", composed_attention),
    "shift": ("softmax shifted only where exp needs it", always_shifted),
    "sums": ("sums of rows and columns as products", no_products_for_sums),
    "class": ("last block for the class token alone", whole_last_block),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=WORKLOADS, default=["W1", "W2"], metavar="W")
    parser.add_argument("--techniques", nargs="+", choices=TECHNIQUES, default=list(TECHNIQUES), metavar="T")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=5)
    args = parser.parse_args()
    print(json.dumps(about()))
    print("\nhow many times as long a training step takes without it (median of turns, quartiles)\n")
    print(f"{'':<46}" + "".join(f"{w:>24}" for w in args.only))
    for key in args.techniques:
        what, cells = TECHNIQUES[key][0], []
        for workload in args.only:
            low, middle, high = ratios(key, workload, args.rounds, args.steps)
            cells.append(f"{middle:.2f}× ({low:.2f}–{high:.2f})".rjust(24))
        print(f"{what:<46}{''.join(cells)}", flush=True)


def ratios(key: str, workload: str, rounds: int, steps: int) -> tuple[float, float, float]:
    """Quartiles of seconds without the technique over seconds with it."""
    without, full = Child(f"without:{key}", workload), Child("minivit", workload)
    try:
        found = []
        for turn in range(rounds + 1):
            pair = []
            for child in (without, full):
                time.sleep(PAUSE)
                pair.append(np.median(child.ask("train", steps)["seconds"]))
            if turn:  # the first is a warm-up
                found.append(pair[0] / pair[1])
    finally:
        without.close()
        full.close()
    low, middle, high = np.percentile(found, [25, 50, 75])
    return low, middle, high


if __name__ == "__main__":
    sys.exit(main())
