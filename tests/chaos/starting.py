"""Many processes at once: racing for one fit, and starting on one database."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import text

from app.tuning.database import connect
from app.tuning.migrations import VERSION_TABLE, make_configuration, migrate, newest_revision
from tests.chaos.ground import Ground
from tests.chaos.report import Row
from tests.chaos.site import PROJECT
from tests.support import racing

PROCESSES = 8
ROUNDS = 1000


def race(ground: Ground, row: Row, kind: str, rounds: int = ROUNDS) -> None:
    """Eight processes claim the only fit of a job at the same moment, once for each of several jobs."""
    engine = connect(ground.new_database(kind))
    migrate(engine)
    run = racing.race(engine, rounds, PROCESSES)
    engine.dispose()
    row.count = rounds
    row.promise(run.winners == [1] * rounds, f"winners of a round: {sorted(set(run.winners))}")
    row.promise(run.recorded == run.winners and run.attempts == rounds, f"{sum(run.recorded)} of {rounds} recorded")
    row.promise(not run.errors, f"{len(run.errors)} errors, the first: {run.errors[:1]}")


def start(ground: Ground, row: Row, revisions: Sequence[str | None] = (None, "0001") * 2) -> None:
    """Eight processes migrate one database at once, and one of them is killed meanwhile."""
    for kind in ("sqlite", "postgresql"):
        for revision in revisions:
            database = ground.new_database(kind)
            if revision:
                _bring_to(database, revision)
            codes = _start_at_once(database, ground.new_folder())
            row.count += 1
            row.promise(codes.count(0) >= PROCESSES - 1, f"{kind} from {revision}: exit codes {codes}")
            version = _version(database)
            row.promise(version == newest_revision(), f"{kind} from {revision}: at {version}")


def _version(database: str) -> str | None:
    engine = connect(database)
    with engine.connect() as connection:
        version = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()
    engine.dispose()
    return version


def _bring_to(database: str, revision: str) -> None:
    from alembic import command

    engine = connect(database)
    with engine.execution_options(writes=True).begin() as connection:
        command.upgrade(make_configuration(connection), revision)
    engine.dispose()


def _start_at_once(database: str, folder: Path) -> list[int]:
    environment = {"PATH": "/usr/bin", "TUNEWELL_DATABASE_URL": database, "TUNEWELL_HOME": str(folder)}
    # Held until all have imported what they need, so that they meet at the database.
    code = f"import pathlib, time, alembic.command, app.tuning.migrations as m\nhere = pathlib.Path({str(folder)!r})\n"
    code += "(here / f'{__import__(\"os\").getpid()}.up').touch()\n"
    code += "while not (here / 'go').exists(): time.sleep(0.001)\n"
    code += "from runpy import run_module; run_module('app.tuning.migrations', run_name='__main__')"
    command = [sys.executable, "-c", code]
    starters = [
        subprocess.Popen(command, cwd=PROJECT, env=environment, stderr=subprocess.DEVNULL) for _ in range(PROCESSES)
    ]
    while len(list(folder.glob("*.up"))) < PROCESSES:
        time.sleep(0.05)
    (folder / "go").touch()
    time.sleep(random.uniform(0, 0.3))
    starters[0].send_signal(signal.SIGKILL)
    return [one.wait(180) for one in starters]
