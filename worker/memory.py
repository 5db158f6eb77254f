"""How much memory this process may use, and how it returns memory to the system."""

import ctypes
import gc
import os
import resource
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

# A container's limit in both versions of cgroups; "max" or an impossibly large number means none.
_CONTAINER = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


@lru_cache(maxsize=1)
def get_limit() -> int:
    """Bytes: the least of the process's own limit, its container's, and one core's share of the machine."""
    return min(_limits())


def release() -> None:
    """Collect garbage and, with glibc's malloc, return freed memory to the system."""
    gc.collect()  # graphs are full of cycles, and Python does not know how much memory they hold
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def _limits() -> Iterator[int]:
    yield os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // (os.cpu_count() or 1)
    for own in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
        soft, _ = resource.getrlimit(own)
        if soft != resource.RLIM_INFINITY:
            yield soft
    for file in _CONTAINER:
        with suppress(OSError, ValueError):
            yield int(file.read_text())
