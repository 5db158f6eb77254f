"""Keeps the API small: one heap for all threads, and what the imports left behind given back."""

import ctypes
import gc

M_ARENA_MAX = -8  # malloc.h


def spare() -> None:
    """Where malloc is glibc's, let threads share one arena and return free pages to the system."""
    gc.collect()
    gc.freeze()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim"):
        libc.mallopt(M_ARENA_MAX, 1)
        libc.malloc_trim(0)
