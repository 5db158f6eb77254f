"""The results of a measurement: rows of one table, printed and written as JSON."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

COLUMNS = ("part", "figure", "value", "ratio", "to", "note")


@dataclass(frozen=True)
class Row:
    """One figure: a value and, for a ratio, what is compared."""

    part: str
    figure: str
    value: float | None = None
    unit: str = ""
    ratio: float | None = None
    to: str = ""
    note: str = ""
    failed: bool = False
    details: Any = None  # for the JSON alone


@dataclass(frozen=True)
class Size:
    """How much is measured: everything for the record, or just enough to see that it works."""

    quick: bool

    def of(self, full: int, quick: int) -> int:
        """Choose the number for this size."""
        return quick if self.quick else full


def missing(part: str, what: str) -> Row:
    """The row of something that cannot be measured here."""
    return Row(part, what, note=f"not measured: {what} is not installed")


def write(file: Path, machine: dict[str, Any], rows: Sequence[Row]) -> None:
    """Write all rows as JSON."""
    file.parent.mkdir(parents=True, exist_ok=True)
    found = [{name: value for name, value in asdict(row).items() if value not in (None, "")} for row in rows]
    file.write_text(json.dumps({"machine": machine, "rows": found}, indent=1, default=str) + "\n")


def show(rows: Sequence[Row]) -> None:
    """Print the table, at full width if the output is not a terminal."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    table = Table(*COLUMNS[:2], pad_edge=False)
    for name in COLUMNS[2:4]:
        table.add_column(name, justify="right", no_wrap=True)
    for name in COLUMNS[4:]:
        table.add_column(name)
    for cells in _lines(rows):
        table.add_row(*cells)
    console.print(table, markup=False)


def _lines(rows: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    before = ""
    for row in rows:
        part = row.part if row.part != before else ""
        before = row.part
        ratio = "" if row.ratio is None else f"{row.ratio:.3g}"
        yield part, row.figure, _value(row), ratio, row.to, row.note


def _value(row: Row) -> str:
    if row.value is None:
        return "FAILED" if row.failed else ""
    digits = f"{row.value:,.0f}" if abs(row.value) >= 1000 else f"{row.value:.3g}"
    return f"{digits} {row.unit}".strip()
