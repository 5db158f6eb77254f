"""Locks among the processes of one host."""

import fcntl
import time
from collections.abc import Callable
from typing import TextIO

# Called while training waits or loads: with the seconds within which it is called again, or without for a lease's.
Alive = Callable[..., None]


def acquire(lock: TextIO, alive: Alive) -> bool:
    """Acquire the lock; return whether another process held it before.

    `alive` is called every second and may raise to end the wait.
    """
    waited = False
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return waited
        except BlockingIOError:
            waited = True
            alive()
            time.sleep(1)
