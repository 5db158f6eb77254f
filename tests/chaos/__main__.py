"""`make chaos`: every scenario of damage, and a table of the results."""

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.chaos import brokers, children, clients, databases, killing, lacking, messages, searching, starting, waiting
from tests.chaos.ground import Ground
from tests.chaos.report import Row, markdown

Scenario = tuple[str, Callable[[Ground, Row], None]]
SCENARIOS: dict[str, Scenario] = {
    "kill-sqlite": (
        "kill -9 of a worker and all its children, SQLite",
        partial(killing.kill_workers, kind="sqlite", kills=50),
    ),
    "kill-postgresql": (
        "kill -9 of a worker and all its children, PostgreSQL",
        partial(killing.kill_workers, kind="postgresql", kills=50),
    ),
    "steps-sqlite": (
        "kill -9 during races and rungs, checkpoints deleted and cut, SQLite",
        partial(searching.search_by_steps, kind="sqlite"),
    ),
    "steps-postgresql": (
        "the same, PostgreSQL",
        partial(searching.search_by_steps, kind="postgresql"),
    ),
    "steps-freeze": (
        "workers frozen past their lease during races and rungs, then thawed",
        partial(killing.freeze_workers, longest=0, searches=list(searching.list_searches(2000))),
    ),
    "steps-commit": (
        "a COMMIT whose response is lost during races and rungs",
        partial(databases.lose_commits, searches=list(searching.list_searches(300))),
    ),
    "children": ("the training process killed, or out of memory", children.lose_children),
    "wrong": ("training that raises", children.be_wrong),
    "lacking": ("one worker without the data, then no worker with it", lacking.lack_data),
    "freeze": ("a worker frozen past its lease, then thawed", killing.freeze_workers),
    "late": ("a result that arrives after the lease", killing.come_late),
    "hang": ("training that hangs without dying", children.hang),
    "stop": ("SIGTERM to a worker, idle and busy", killing.stop_workers),
    "redis": ("Redis flushed, killed, frozen, full, its clients cut", brokers.trouble),
    "deaf": ("a worker whose consumer has stopped receiving", brokers.deafen),
    "postgresql-killed": ("PostgreSQL killed and restarted", databases.kill),
    "postgresql-cut": ("PostgreSQL's connections cut", databases.cut),
    "postgresql-commit": ("a COMMIT whose response is lost", databases.lose_commits),
    "api": ("API killed in the middle of POSTs", clients.kill_api),
    "race-sqlite": ("8 processes race for one fit, SQLite", partial(starting.race, kind="sqlite")),
    "race-postgresql": ("8 processes race for one fit, PostgreSQL", partial(starting.race, kind="postgresql")),
    "start": ("8 processes start on an empty or older database, one killed", starting.start),
    "held": ("SQLite locked by a reader, then by a writer, for 55 s each", waiting.hold),
    "asleep": ("leases a minute older every 8 s, as after sleep", waiting.leap),
    "read-only": ("PostgreSQL read-only for 29 s", waiting.turn_read_only),
    "unreadable": ("a job with a stored spec that this version cannot read", waiting.leave_unreadable),
    "full": ("disk full (SQLite page limit)", databases.fill),
    "messages": ("duplicate, stray and pickle messages, a deleted job's", messages.confuse),
}


def main() -> int:
    """Run the chosen scenarios; 1 if a promise is broken."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    options.add_argument("--only", action="append", choices=SCENARIOS, metavar="NAME", help=", ".join(SCENARIOS))
    options.add_argument("--json", type=Path, metavar="FILE")
    options.add_argument("--seed", type=int, default=random.randrange(10**6))
    options.add_argument("--folder", type=Path, help="keeps databases and logs here")
    chosen = options.parse_args()
    print(f"seed {chosen.seed}", flush=True)
    random.seed(chosen.seed)
    with tempfile.TemporaryDirectory(prefix="tw-chaos-") as scratch, Ground(chosen.folder or Path(scratch)) as ground:
        rows = [run(name, ground) for name in chosen.only or SCENARIOS]
    print(f"\n{markdown(rows)}")
    if chosen.json:
        chosen.json.write_text(json.dumps([row.as_json() for row in rows], indent=1))
    return 0 if all(row.kept for row in rows) else 1


def run(name: str, ground: Ground) -> Row:
    """One row of the table."""
    damage, scenario = SCENARIOS[name]
    row = Row(damage)
    print(f"{time.strftime('%H:%M:%S')} {name}: {damage} ...", flush=True)
    start = time.monotonic()
    try:
        scenario(ground, row)
    except Exception as error:
        row.broken.append(f"{type(error).__name__}: {error}")
    row.seconds = time.monotonic() - start
    print(f"         {'kept' if row.kept else f'BROKEN {row.broken}'} after {row.seconds:.0f} s", flush=True)
    return row


if __name__ == "__main__":
    sys.exit(main())
