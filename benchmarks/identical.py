"""How many of ten runs of a search with one seed give the same table (1: each its own), with Tunewell and Optuna.

Tunewell claims and records in a real database, on 1, 2 and 4 workers, with a look-up in place of training and fits that
end in a random order.
"""

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Engine

from app.tuning.database import reading, writing
from app.tuning.jobs import claims, outcomes, queries, store
from app.tuning.jobs.attempts import Finished, Result
from app.tuning.jobs.births import find_birth
from app.tuning.jobs.claims import Claim
from app.tuning.jobs.tables import Job, JobState, Trial
from app.tuning.search.candidates import draw_candidates
from benchmarks import jobs, optuna_table, replay, table
from benchmarks.rows import Row, Size

PART = "strategies.identical"
SEED = 0
WORKERS = (1, 2, 4)
SEARCHES = {"halving": 357, "hyperband": 357, "hyperband by tpe": 357, "tpe": 1071}  # epochs of each fold
STUDIES = dict(zip(optuna_table.WAYS, (1071, 357), strict=True))


class Run(NamedTuple):
    """The row of a job's best trial, and all that the job has found, but for times."""

    row: int
    table: str


def measure(size: Size) -> Iterator[Row]:
    """Measure Tunewell's strategies, then Optuna's."""
    runs = size.of(10, 3)
    recorded = table.load()
    for name, budget in SEARCHES.items():
        [search] = replay.make_searches(budget)[name]
        found = [run_service(search, recorded, WORKERS[run % len(WORKERS)], run) for run in range(runs)]
        how = f"on {', '.join(map(str, WORKERS))} workers in turns, fits ending in a random order"
        yield _row(f"{name}, {budget} epochs", [one.table for one in found], how)
    for way, budget in STUDIES.items():
        studies = optuna_table.run_studies(way, budget, [SEED] * runs)
        rows = len({one.row for one in studies})
        note = f"two processes, whatever the numbers of the trials; {rows} best candidates"
        yield _row(f"Optuna's {way}, {budget} epochs", [str(one.table) for one in studies], note)


def _row(title: str, tables: list[str], note: str) -> Row:
    [(_, most)] = Counter(tables).most_common(1)
    note = f"{len(set(tables))} different tables; {note}"
    return Row(PART, f"identical tables: {title}", most, f"of {len(tables)}", note=note)


def run_service(search: replay.Search, recorded: table.Table, workers: int, order_seed: int) -> Run:
    """A job as claimed and recorded by so many workers."""
    spec = table.make_spec(search, random_state=SEED, limits={"reuse": False})
    order = random.Random(order_seed)
    with TemporaryDirectory() as folder:
        engine = jobs.database(f"sqlite:///{Path(folder) / 'bench.db'}")
        with writing(engine) as session:
            job_id = store.insert_job(session, spec, draw_candidates(spec)).id
        held: list[Claim] = []
        while _fill(engine, job_id, held, workers):
            _record(engine, held.pop(order.randrange(len(held))), recorded)
        with reading(engine) as session:
            job = session.get_one(Job, job_id)
            assert job.state == JobState.SUCCEEDED
            results = queries.build_cv_results(session, job)
            shown = {name: column for name, column in results.items() if "time" not in name}
            assert job.best_trial is not None
            best = session.get_one(Trial, (job_id, job.best_trial))
            found = Run(table.find_row(best.params), str([shown, job.best_trial, job.best_accuracy, job.rungs]))
        engine.dispose()
    return found


def _fill(engine: Engine, job_id: UUID, held: list[Claim], workers: int) -> list[Claim]:
    """Let each worker hold a fit, if there is one."""
    while len(held) < workers:
        with writing(engine) as session:
            claim = claims.claim(session, job_id, "bench", "bench")
        if claim:
            held.append(claim)
        elif not _propose(engine):
            break
    return held


def _propose(engine: Engine) -> bool:
    from worker.proposals import propose_candidate

    with reading(engine) as session:
        birth = find_birth(session)
    if birth is None:
        return False
    candidate = propose_candidate(birth)
    with writing(engine) as session:
        return outcomes.record_birth(session, birth.job_id, birth.number, candidate)


def _record(engine: Engine, claim: Claim, recorded: table.Table) -> None:
    assert claim.fold is not None
    epochs = int(claim.hyperparameters["epochs"])
    accuracy = recorded.accuracy(table.find_row(claim.params), claim.fold, epochs)
    with writing(engine) as session:
        outcomes.record(session, claim, Finished(Result(accuracy, 1 - accuracy, 1.0, 0.1, {"tunewell": "bench"})))
