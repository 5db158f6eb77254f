"""Messages to the user of `tunewell up`; one that cannot be written is dropped."""

import os
import sys
from contextlib import suppress
from typing import TextIO


def write_note(text: str, stream: TextIO | None = None) -> None:
    """Write a line to standard error or another stream, unbuffered: a buffered one would fail again at exit."""
    with suppress(AttributeError, OSError, ValueError):  # no stream, full disk, broken pipe, closed
        os.write((stream or sys.stderr).fileno(), f"{text}\n".encode(errors="replace"))
