"""The rows of the table that `make chaos` ends with."""

from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any


@dataclass
class Row:
    """What a scenario did and observed, and which promises were broken."""

    damage: str
    count: int = 0  # kills, cuts, posts, rounds: what the damage counts
    reclaims: list[float] = field(default_factory=list)  # seconds from the damage to the fit's next attempt
    rejected: int = 0  # late results
    differences: int = 0  # cells, from the clean run
    notes: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    seconds: float = 0.0
    patience: float = 1.0  # times that much may be taken; more than 1 where the machine does much else

    def promise(self, kept: bool, otherwise: str) -> None:
        """Note a broken promise, unless it was kept."""
        if not kept:
            self.broken.append(otherwise)

    def promise_within(self, most: float, seconds: float, what: str) -> None:
        """Note a broken promise if this took too long."""
        self.promise(seconds <= most * self.patience, f"{what} after {seconds:.1f} s")

    @property
    def kept(self) -> bool:
        return not self.broken and not self.differences

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def cells(self) -> list[str]:
        """The cells of the row, as printed."""
        times = f"{median(self.reclaims):.1f}, {max(self.reclaims):.1f}" if self.reclaims else ""
        counts = [str(len(self.reclaims) or ""), times, str(self.rejected or ""), str(self.differences)]
        return [self.damage, str(self.count), *counts, "kept" if self.kept else "BROKEN"]


HEAD = ["damage", "times", "fits claimed again", "after s (median, max)", "late rejected", "differences", "promises"]


def markdown(rows: list[Row]) -> str:
    """All rows as a table, followed by notes."""
    lines = [HEAD, ["---"] * len(HEAD), *(row.cells() for row in rows)]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    notes = [f"- {row.damage}: {note}" for row in rows for note in row.notes]
    broken = [f"- BROKEN, {row.damage}: {what}" for row in rows for what in row.broken]
    return "\n".join([table, "", *notes, *broken])
