"""How much memory this process may take, and how it lets go of it."""

import ctypes
import gc
import os
import resource
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

# A container's limit, of both versions of cgroups; "max", or a number beyond all machines, is none.
_CONTAINER = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


@lru_cache(maxsize=1)
def limit() -> int:
    """Bytes: the process's own limit, its container's, or its core's share of the machine, whichever is least."""
    return min(_limits())


def let_go() -> None:
    """Free what nothing refers to any more, and return it to the system where malloc is glibc's."""
    gc.collect()  # Graphs are full of cycles, and Python does not see how large what they hold is.
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
