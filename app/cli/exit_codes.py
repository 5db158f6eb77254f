"""Keeps exit codes true where the output's reader has gone or its disk is full."""

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
PIPE_CLOSED = 141  # what a shell reports of a program that SIGPIPE ended, as `head` does to most


class Notes:
    """A stream for people: what cannot be written to it is dropped and decides nothing."""

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
    """Commands whose exit code never says that a job failed when only their output was lost."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        sys.stderr = cast(TextIO, Notes(sys.stderr or _nowhere()))
        sys.stdout = sys.stdout or _nowhere()  # closed by the caller, who wants the exit code alone
        return super().main(*args, **kwargs)

    def make_context(self, *args: Any, **kwargs: Any) -> Any:  # prints --help
        with _complete_output():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        with _complete_output():
            return super().invoke(ctx)


@contextmanager
def _complete_output() -> Iterator[None]:
    """Flush stdout while a failure can still be told; afterwards the interpreter would make it exit code 120."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except OSError as error:
        if error.filename is not None:  # not of a write
            raise
        _discard_output()
        if error.errno == errno.EPIPE:
            raise typer.Exit(PIPE_CLOSED) from None
        print(f"The output could not be written: {error.strerror}", file=sys.stderr)
        raise typer.Exit(OUTPUT_LOST) from None


def _discard_output() -> None:
    """Send what stdout still holds nowhere, so that it does not fail once more."""
    with suppress(OSError):
        os.dup2(_nowhere().fileno(), sys.stdout.fileno())


def _nowhere() -> TextIO:
    return Path(os.devnull).open("w")
