"""Where the measurements that the documentation cites are stored."""

import sys
from pathlib import Path
from typing import Any

from benchmarks.machine import PROJECT

SHOWN = "docs/benchmarks"


def new_file(machine: dict[str, Any]) -> Path:
    """A file named by day and commit; ends the program if there are uncommitted changes."""
    if not machine["commit"] or machine["uncommitted_changes"]:
        sys.exit("--record: commit your changes first, so that the figures belong to a commit")
    day, commit = machine["date"][:10], machine["commit"][:7]
    taken = sum(1 for _ in (PROJECT / SHOWN).glob(f"{day}-{commit}*.json"))
    return PROJECT / SHOWN / f"{day}-{commit}{f'-{taken + 1}' if taken else ''}.json"
