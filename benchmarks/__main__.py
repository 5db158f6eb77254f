"""`python -m benchmarks`: runs the chosen parts, prints one table and writes it as JSON."""

import argparse
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from app.tuning.settings import settings
from benchmarks import machine, record
from benchmarks.rows import Row, Size, show, write

PARTS = {  # each a module with a `measure`, imported when its turn comes
    "search": "search",
    "step": "epochs",
    "networks": "networks",
    "estimators": "estimators",
    "system.fixed": "fixed",
    "system.gaps": "gaps",
    "system.accepting": "accepting",
    "system.polling": "polling",
    "strategies.regret": "strategies",
    "strategies.identical": "identical",
    "strategies.deciding": "deciding",
    "strategies.checkpoints": "checkpointing",
    "strategies.live": "live",
    "strategies.long": "long_grid",
    "page": "page",
    "page.streams": "streams",
    "throughput.workers": "scaling",
    "throughput.claims": "claimants",
}


def main() -> int:
    """Run the chosen parts; 1 if anything could not be measured."""
    given = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped
    found_on = machine.describe()
    warned = machine.warning(found_on)
    file: Path = record.new_file(found_on) if given.record else given.json
    if warned:
        print(warned, file=sys.stderr)
    rows: list[Row] = []
    for name, module in PARTS.items():
        if not given.only or any(name == one or name.startswith(f"{one}.") for one in given.only):
            began = time.monotonic()
            print(f"{name} ...", end=" ", file=sys.stderr, flush=True)
            for row in _measured(name, module, Size(given.quick)):
                rows.append(row)  # and written at once: who ends a long part keeps what it has found
                write(file, {**found_on, "quick": given.quick, "warning": warned}, rows)
            print(f"{time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    show(rows)
    print(f"{found_on['processor']}, {found_on['cores']} cores. Written to {file}.")
    if warned:
        print(warned)
    return 1 if any(row.failed for row in rows) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="NAME",
        help=f"some of {', '.join(PARTS)}, or `system` or `strategies` for their parts",
    )
    parser.add_argument("--json", type=Path, default=settings().home / "bench.json", metavar="FILE")
    parser.add_argument("--record", action="store_true", help=f"write a new file in {record.SHOWN}, to be committed")
    parser.add_argument("--quick", action="store_true", help="little of everything; peers' times are scaled up")
    given = parser.parse_args()
    for one in given.only or ():
        if not any(name == one or name.startswith(f"{one}.") for name in PARTS):
            parser.error(f"there is no {one!r}: {', '.join(PARTS)}")
    if given.record and given.quick:
        parser.error("--record is for full measurements: leave --quick out")
    return given


def _measured(name: str, module: str, size: Size) -> Iterator[Row]:
    """The part's rows; if it fails, the rows so far and one with the reason."""
    try:
        yield from import_module(f"benchmarks.{module}").measure(size)
    except Exception as error:
        traceback.print_exc()
        yield Row(name, "", note=f"failed: {type(error).__name__}: {error}", failed=True)


if __name__ == "__main__":
    sys.exit(main())
