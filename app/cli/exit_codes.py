"""Keeps exit codes meaningful when the reader of the output is gone or its disk is full."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO, cast

import typer
from typer.core import TyperGroup

OUTPUT_LOST = 4
PIPE_CLOSED = 141  # what a shell reports for a program ended by SIGPIPE


class Notes:
    """A stream for messages: what cannot be written is dropped without an error."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Commands(TyperGroup):
    """Commands with exit codes of their own for lost output, apart from those for failed jobs."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        sys.stderr = cast(TextIO, Notes(sys.stderr or _open_devnull()))
        sys.stdout = sys.stdout or _open_devnull()  # None where the caller closed it
        return super().main(*args, **kwargs)

    def make_context(self, *args: Any, **kwargs: Any) -> Any:  # prints --help
        with _complete_output():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        with _complete_output():
            return super().invoke(ctx)


@contextmanager
def _complete_output() -> Iterator[None]:
    """Flush stdout while a failure can still be reported; later the interpreter would exit with code 120."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except OSError as error:
        if error.filename is not None:  # not a write
            raise
        _discard_output()
        if error.errno == errno.EPIPE:
            raise typer.Exit(PIPE_CLOSED) from None
        print(f"The output could not be written: {error.strerror}", file=sys.stderr)
        raise typer.Exit(OUTPUT_LOST) from None


def _discard_output() -> None:
    """Discard what stdout still buffers, so that flushing it at exit does not fail again."""
    with suppress(OSError):
        os.dup2(_open_devnull().fileno(), sys.stdout.fileno())


def _open_devnull() -> TextIO:
    return Path(os.devnull).open("w")
