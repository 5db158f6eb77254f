"""Notes to whoever watches `tunewell up`: one that cannot be written decides nothing."""

import os
import sys
from contextlib import suppress
from typing import TextIO


def write_note(text: str, stream: TextIO | None = None) -> None:
    """Write a line to standard error, or to another stream: past its buffer, which would fail once more at the exit."""
    with suppress(AttributeError, OSError, ValueError):  # no such stream, a full disk, nobody reads, closed
        os.write((stream or sys.stderr).fileno(), f"{text}\n".encode(errors="replace"))
