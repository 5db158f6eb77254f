"""Folders for files that are being received or checked: in the home, each locked by the process that uses it."""

import fcntl
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.tuning.settings import settings

SPOOL_LOCK = "lock"
YOUNG_SECONDS = 60.0  # a folder is locked soon after it is made
RESERVED_BYTES = 2**30  # of the disk, which is the database's, too


@contextmanager
def open_spool() -> Iterator[Path]:
    """A new folder, which is gone afterwards; if this process is killed, housekeeping removes it."""
    spool = _spool_folder()
    spool.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=spool, ignore_cleanup_errors=True) as folder,
        (Path(folder) / SPOOL_LOCK).open("w") as lock,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield Path(folder)


def remove_abandoned_spools() -> None:
    """Remove the folders of processes that have been killed."""
    spool = _spool_folder()
    for folder in list(spool.iterdir()) if spool.is_dir() else ():
        try:
            if time.time() - folder.stat().st_mtime < YOUNG_SECONDS:
                continue
            with (folder / SPOOL_LOCK).open("r") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, FileNotFoundError, NotADirectoryError):
            continue  # in use, or just removed
        shutil.rmtree(folder, ignore_errors=True)


def has_space(wanted: int) -> bool:
    """Whether the disk holds so many bytes and the spare ones."""
    home = settings().home.absolute()
    home.mkdir(parents=True, exist_ok=True)
    return shutil.disk_usage(home).free > wanted + RESERVED_BYTES


def _spool_folder() -> Path:
    return settings().home.absolute() / "uploads"
