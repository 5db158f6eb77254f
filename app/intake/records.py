"""Reads the records of a CSV file, plain or compressed, within bounds of line, cell and file."""

import csv
import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from app.intake.answers import Fault, Rejected, reject
from app.intake.limits import CELL_CHARACTERS, DECODED_BYTES, LINE_BYTES

DELIMITERS = ",;\t"  # the first of those that cut the header into most cells
UNREADABLE_GZIP = (gzip.BadGzipFile, zlib.error, EOFError)


class TextLines:
    """The lines of a text; counts them from 1, their bytes, and those of the record that is being read."""

    def __init__(self, source: BinaryIO) -> None:
        self.source = source
        self.number = 0
        self.bytes = 0
        self.record_row = 1
        self.record_bytes = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        try:
            line = self.source.readline(LINE_BYTES + 1)
        except UNREADABLE_GZIP as error:
            raise reject(f"the gzip file is damaged or cut off after line {self.number}: {error}") from error
        if not line:
            raise StopIteration
        self.number += 1
        self.bytes += len(line)
        self.record_bytes += len(line)
        if self.record_bytes > LINE_BYTES:
            raise self.reject_record(
                f"the row is longer than {LINE_BYTES:,} bytes: is a quote or the end of a line missing?"
            )
        if self.bytes > DECODED_BYTES:
            raise reject(f"the text is longer than {DECODED_BYTES:,} bytes: send fewer rows", status=413)
        return self._decode(line)

    def _decode(self, line: bytes) -> str:
        try:
            return line.decode("utf-8-sig" if self.number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise self.reject(f"byte {error.start + 1} of the line is not UTF-8: save the file as UTF-8") from error

    def reject(self, message: str) -> Rejected:
        """The exception for a fault of the line that was read last."""
        return Rejected(Fault(message, row=self.number))

    def reject_record(self, message: str) -> Rejected:
        """The exception for a fault of the record that is being read, such as an open quote: where it begins."""
        return Rejected(Fault(message, row=self.record_row))


@contextmanager
def open_lines(file: Path) -> Iterator[TextLines]:
    """The file's lines, inflated if it is a gzip file, and cells bounded meanwhile."""
    with file.open("rb") as source:
        zipped = source.read(2) == b"\x1f\x8b"
    before = csv.field_size_limit(CELL_CHARACTERS)
    try:
        with cast(BinaryIO, gzip.open(file) if zipped else file.open("rb")) as source:
            yield TextLines(source)
    finally:
        csv.field_size_limit(before)


def find_delimiter(file: Path) -> str:
    """Comma, semicolon or tab, by the header's line."""
    with open_lines(file) as lines:
        first = next(lines, "")
    return max(DELIMITERS, key=lambda delimiter: _count_cells(first, delimiter))


def _count_cells(line: str, delimiter: str) -> int:
    return sum(piece.count(delimiter) for piece in line.split('"')[::2])  # what is not between quotes


def read_records(lines: TextLines, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Each record with its row: the line on which it begins, as an editor counts. Empty lines are left out.

    Raises:
        Rejected: a line, a cell, a quote or the encoding is wrong.
    """
    reader = csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=True)
    while True:
        lines.record_bytes, lines.record_row = 0, lines.number + 1
        try:
            record = next(reader, None)
        except csv.Error as error:
            raise lines.reject_record(_explain(error)) from error
        if record is None:
            return
        if record and record != [""]:
            yield lines.record_row, record


def _explain(error: csv.Error) -> str:
    if "field limit" in str(error):
        return f"a cell is longer than {CELL_CHARACTERS:,} characters: is a quote missing?"
    if "new-line" in str(error):
        return "a line ends in a carriage return alone: end lines with a line feed"
    return f"this is not CSV: {error}"
