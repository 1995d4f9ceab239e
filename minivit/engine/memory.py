"""Keep the memory that a step frees, so that the next step need not ask the system for it, page by page."""

import ctypes
import functools

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # names and numbers of glibc's malloc.h
GIGABYTE = 1 << 30


@functools.cache
def keep_pages() -> bool:
    """Tell the C library's allocator to reuse large blocks; False where it cannot be told (only glibc, on Linux, can).

    A training step makes and drops the same arrays every time. By default glibc returns them to the system at once and
    the kernel hands out fresh, zeroed pages: one fault for every 4 KiB, thousands in every step. Without this, a step takes
    1.3 times as long on W1, 1.1 on W2 and W3 (benchmarks/ablation.py, which measures every such figure).
    Workers share one arena, which keeps what any of them frees.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return all([mallopt(M_MMAP_THRESHOLD, GIGABYTE), mallopt(M_TRIM_THRESHOLD, GIGABYTE), mallopt(M_ARENA_MAX, 1)])
