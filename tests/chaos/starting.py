"""Many processes at once: racing for one fit, and starting on one database."""

import multiprocessing
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, select, text

from app.tuning import claims, store
from app.tuning.database import connect, reading, writing
from app.tuning.migrations import configuration, migrate, newest
from app.tuning.search import candidates
from app.tuning.spec import JobSpec
from app.tuning.tables import Job
from tests.chaos.ground import Ground
from tests.chaos.report import Row
from tests.chaos.site import PROJECT

PROCESSES = 8
ROUNDS = 1000
ONE_FIT = {
    "search": {"strategy": "grid", "param_grid": {"num_neurons": [1]}},
    "evaluation": {"validation_split": 0.5, "refit": False},
    "dataset": {"name": "digits"},
}


def race(ground: Ground, row: Row, kind: str, rounds: int = ROUNDS) -> None:
    """Eight processes claim at the same moment where there is one fit; a job of one fit is made for each round."""
    database = ground.new_database(kind)
    engine = connect(database)
    migrate(engine)
    jobs = _one_fit_jobs(engine, rounds)
    spawn = multiprocessing.get_context("spawn")
    barrier, found = spawn.Barrier(PROCESSES), spawn.Queue()
    racers = [spawn.Process(target=_claim_all, args=(database, jobs, barrier, found)) for _ in range(PROCESSES)]
    for racer in racers:
        racer.start()
    results = [found.get(timeout=1200) for _ in racers]
    for racer in racers:
        racer.join()
    engine.dispose()
    winners = [job for won, _ in results for job in won]
    errors = [error for _, failed in results for error in failed]
    row.count += rounds
    row.promise(sorted(winners) == sorted(map(str, jobs)), f"{len(winners)} claims of {len(set(winners))} fits")
    row.promise(not errors, f"{len(errors)} errors, the first: {errors[:1]}")


def _one_fit_jobs(engine: Engine, count: int) -> list[str]:
    spec = JobSpec.model_validate(ONE_FIT)
    with writing(engine) as session:
        for _ in range(count):
            store.create(session, spec, candidates(spec))
    with reading(engine) as session:
        return [str(job) for job in session.scalars(select(Job.id))]


def _claim_all(database: str, jobs: list[str], barrier: Barrier, found: Any) -> None:
    from uuid import UUID

    engine = connect(database)
    won, failed = [], []
    for job in jobs:
        barrier.wait(120)
        try:
            with writing(engine) as session:
                if claims.claim(session, UUID(job), "racer", "message"):
                    won.append(job)
        except Exception as error:  # what a caller would see
            failed.append(f"{type(error).__name__}: {error}"[:200])
    found.put((won, failed))


def start(ground: Ground, row: Row, revisions: Sequence[str | None] = (None, "0001") * 2) -> None:
    """Eight processes bring one database to the newest schema at once, and one of them is killed on the way."""
    for kind in ("sqlite", "postgresql"):
        for revision in revisions:
            database = ground.new_database(kind)
            if revision:
                _bring_to(database, revision)
            codes = _start_at_once(database, ground.new_folder())
            row.count += 1
            row.promise(codes.count(0) >= PROCESSES - 1, f"{kind} from {revision}: exit codes {codes}")
            version = _version(database)
            row.promise(version == newest(), f"{kind} from {revision}: at {version}")


def _version(database: str) -> str | None:
    engine = connect(database)
    with engine.connect() as connection:
        version = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    engine.dispose()
    return version


def _bring_to(database: str, revision: str) -> None:
    from alembic import command

    engine = connect(database)
    with engine.execution_options(writes=True).begin() as connection:
        command.upgrade(configuration(connection), revision)
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
