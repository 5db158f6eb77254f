"""What the cells of a CSV column are: numbers, categories, or neither."""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from app.intake.answers import Fault, quote
from app.intake.from_arrays import LARGEST_FLOAT32
from app.intake.limits import SHOWN_ERRORS

MISSING = frozenset({"", "NA", "NaN", "nan", "null", "NULL", "?"})
PIXELS_AS_WRITTEN = {str(pixel): pixel for pixel in range(256)}  # a look-up takes a third of the time of `float`
NUMERALS = b"0123456789+-.eE "


def parse_numbers(cells: Sequence[str]) -> NDArray[np.float64] | None:
    """The cells as decimal numbers that float32 can hold, or None if one is none.

    `float` alone would also take `1_000`, `inf`, and digits of other scripts.
    """
    if "".join(cells).encode().translate(None, NUMERALS):
        return None
    try:
        numbers = np.fromiter(map(float, cells), np.float64, len(cells))
    except ValueError:
        return None
    return numbers if (np.abs(numbers) <= LARGEST_FLOAT32).all() else None


def parse_pixels(cells: Sequence[str]) -> NDArray[np.float64] | None:
    """The cells as whole numbers from 0 to 255, or None if one is none."""
    with suppress(KeyError):
        return np.fromiter(map(PIXELS_AS_WRITTEN.__getitem__, cells), np.float64, len(cells))
    numbers = parse_numbers(cells)
    fits = numbers is not None and ((numbers >= 0) & (numbers <= 255) & (np.floor(numbers) == numbers)).all()
    return numbers if fits else None


@dataclass
class Profile:
    """What has been seen of a column. Of wrong cells the first ten are kept, with their rows."""

    name: str
    most: int  # different values that are kept; when there are more, `values` is None
    pixels: bool = False
    cells: int = 0
    numbers: int = 0
    missing: int = 0
    first_missing: int = 0  # row
    texts: list[tuple[int, str]] = field(default_factory=list)
    values: set[str] | None = field(default_factory=set)

    @property
    def present(self) -> int:
        return self.cells - self.missing

    @property
    def is_number(self) -> bool:
        """Whether it is meant to be numbers: at least half of its cells are."""
        return self.numbers * 2 >= self.present

    def add(self, rows: Sequence[int], cells: Sequence[str]) -> None:
        """Look at the column's next cells, which are in these rows."""
        self.cells += len(cells)
        if self.values is not None:
            self.values.update(cell.strip() for cell in set(cells))
            self.values = self.values if len(self.values) <= self.most + len(MISSING) else None
        parse = parse_pixels if self.pixels else parse_numbers
        if parse(cells) is not None:
            self.numbers += len(cells)
            return
        counts = Counter(cells)
        missing = {cell for cell in counts if cell.strip() in MISSING}
        texts = {cell for cell in counts if cell not in missing and parse([cell]) is None}
        self.missing += sum(counts[cell] for cell in missing)
        self.numbers += sum(counts[cell] for cell in counts if cell not in missing and cell not in texts)
        if missing and not self.first_missing:
            self.first_missing = next(row for row, cell in zip(rows, cells, strict=True) if cell in missing)
        if len(self.texts) < SHOWN_ERRORS:
            found = ((row, cell.strip()) for row, cell in zip(rows, cells, strict=True) if cell in texts)
            self.texts += islice(found, SHOWN_ERRORS - len(self.texts))

    def find_missing(self, remedy: str) -> list[Fault]:
        """One fault for all missing cells, at the first of them."""
        if not self.missing:
            return []
        many = f"{self.missing:,} of {self.cells:,} cells are missing, the first one here"
        message = f"{many if self.missing > 1 else 'the cell is missing'}: fill in a value, delete the row{remedy}"
        return [Fault(message, row=self.first_missing, column=self.name)]

    def find_texts(self, remedy: str) -> list[Fault]:
        """A fault for each of the first ten cells that are no numbers, for a column that should be numbers."""
        what = "whole number from 0 to 255" if self.pixels else "number"
        return [
            Fault(
                f"'{quote(cell)}' is no {what}, and {self.numbers:,} of {self.cells:,} cells are: mend it{remedy}",
                row=row,
                column=self.name,
            )
            for row, cell in self.texts
        ]

    def list_values(self) -> list[str] | None:
        """The different values, sorted, or None if there are more than `most`."""
        values = None if self.values is None else sorted(self.values - MISSING)
        return values if values is None or len(values) <= self.most else None
