"""A full disk: SQLite may not grow beyond the number of pages in a file, in every process that calls this."""

import os
import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.pool import Pool

UNLIMITED = 2**30


def limit() -> None:
    """Limit each of this process's connections; the file may change while it runs."""
    if folder := os.environ.get("CHAOS_FOLDER"):
        event.listen(Pool, "checkout", lambda connection, *_: _hold(connection, Path(folder) / "pages"))


def _hold(connection: Any, file: Path) -> None:
    if isinstance(connection, sqlite3.Connection):
        pages = int(file.read_text()) if file.exists() else UNLIMITED
        connection.execute(f"PRAGMA max_page_count = {pages}")
