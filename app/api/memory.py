"""Keeps the API small: one heap for all threads, and one large job at a time."""

import ctypes
import gc
from contextlib import AbstractContextManager, nullcontext
from threading import Lock

M_ARENA_MAX = -8  # malloc.h
LARGE = 500  # trials; a job of ten thousand takes 10 MB while it is made
_one_large = Lock()


def spare() -> None:
    """Where malloc is glibc's, let threads share one arena and return free pages to the system."""
    gc.collect()
    gc.freeze()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim"):
        libc.mallopt(M_ARENA_MAX, 1)
        libc.malloc_trim(0)


def room(trials: int) -> AbstractContextManager[object]:
    """Make a job of so many trials in it: large ones one after the other, as each would only wait for the other."""
    return _one_large if trials >= LARGE else nullcontext()
