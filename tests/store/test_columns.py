"""Trials and attempts as columns: who asks for what has changed gets all of it, whatever has happened."""

import json
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine

from app.tuning.database import reading
from app.tuning.jobs import claims, control, outcomes, store
from app.tuning.jobs.attempts import Lost
from app.tuning.jobs.columns import write_attempt_columns, write_trial_columns
from app.tuning.jobs.extending import extend_job
from app.tuning.jobs.tables import Job, Outcome
from app.tuning.search.candidates import draw_candidates
from app.tuning.search.extension import Extension, extend_spec
from app.tuning.search.spec import JobSpec
from tests.support.ledger import GONE, Ledger, grid, spec
from tests.support.mirror import Mirror

RATES = {"learning_rate": [0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.09]}
HALVING: dict[str, Any] = {"strategy": "halving_grid", "param_grid": RATES, "max_resources": 9, "factor": 3}
JOBS: dict[str, JobSpec] = {
    "grid": grid(4, evaluation={"cv": 2}),
    "race": grid(6, evaluation={"cv": 3, "race": {"method": "lossless"}}),
    "rungs": spec(HALVING, evaluation={"cv": 2}),
    "too many failures": grid(4, evaluation={"cv": 2}, limits={"max_failed_trials": 0}),
}


def read(engine: Engine, job_id: UUID, what: Any, since: int = 0) -> dict[str, Any]:
    with reading(engine) as session:
        columns: dict[str, Any] = json.loads(what(session, session.get_one(Job, job_id), since))
    return columns


@pytest.mark.parametrize("kind", JOBS)
def test_a_client_that_asks_for_changes_has_everything(engine: Engine, kind: str) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(JOBS[kind])
    mirror = Mirror(engine, job_id)
    mirror.look()
    number = 0
    while claim := ledger.do(claims.claim, job_id, f"w{number % 2}", f"m{number}"):
        mirror.look()
        number += 1
        if number == 4:
            ledger.lose(claim)
        elif kind == "too many failures" and number > 4:
            ledger.fail(claim)
        else:
            ledger.finish(claim, number % 5 / 10)
        mirror.look()
    assert number > 4


def test_extending_and_retrying_are_changes_too(engine: Engine) -> None:
    ledger = Ledger(engine)
    was = spec({"strategy": "grid", "param_grid": {"num_neurons": [8, 32]}}, evaluation={"cv": 2})
    job_id = ledger.post(was)
    mirror = Mirror(engine, job_id)
    ledger.finish_search(job_id, lambda trial, fold: None if (trial, fold) == (1, 0) else 0.5)
    ledger.finish(ledger.claim(job_id))
    mirror.look()
    ledger.do(lambda session: control.retry_failed_fits(session, store.lock_job(session, job_id)))  # type: ignore[arg-type]
    mirror.look()
    ledger.finish(ledger.claim(job_id), 0.75)
    ledger.finish(ledger.claim(job_id), 0.75)
    mirror.look()
    wider = extend_spec(was, Extension(param_grid={"num_neurons": [8, 16, 32]}))
    candidates = draw_candidates(wider)
    ledger.do(lambda session: extend_job(session, store.lock_job(session, job_id), was, wider, candidates))  # type: ignore[arg-type]
    mirror.look()
    assert read(engine, job_id, write_trial_columns)["params"] == {"num_neurons": [8, 16, 32]}


def test_cancelled_trials_have_changed(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(3))
    held, mirror = ledger.claim(job_id), Mirror(engine, job_id)
    mirror.look()
    ledger.cancel(job_id)
    mirror.look()
    ledger.finish(held)
    mirror.look()
    assert read(engine, job_id, write_trial_columns)["state"] == ["cancelled", "cancelled", "cancelled"]


def test_only_what_has_changed_is_shown(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(5, evaluation={"validation_split": 0.5}))
    ledger.finish(ledger.claim(job_id))
    version = read(engine, job_id, write_trial_columns)["version"]
    assert version == ledger.job(job_id).version
    assert read(engine, job_id, write_trial_columns, version)["number"] == []
    ledger.finish(ledger.claim(job_id), 0.25)
    assert read(engine, job_id, write_trial_columns, version)["number"] == [3]
    assert read(engine, job_id, write_attempt_columns, version)["trial"] == [3]


def test_every_attempt_is_shown_with_its_end(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(1, evaluation={"validation_split": 0.5}))
    ledger.lose(ledger.claim(job_id, "w1"), Outcome.TIMED_OUT)
    held = ledger.claim(job_id, "w2")
    columns = read(engine, job_id, write_attempt_columns)
    start, end = columns.pop("start"), columns.pop("end")
    assert columns.pop("fit") == [held.fit_id] * 2
    assert columns == {
        "version": 4,
        "trial": [0, 0],
        "fold": [0, 0],
        "bracket": [0, 0],
        "iter": [0, 0],
        "worker": ["w1", "w2"],
        "attempt": [1, 2],
        "outcome": ["timed_out", None],
        "reason": ["no sign of life", None],
    }
    assert start[0].endswith("Z") and start[0] <= end[0] <= start[1] and end[1] is None
    ledger.finish(held)
    assert read(engine, job_id, write_attempt_columns)["outcome"] == ["timed_out", "succeeded"]


def test_a_reason_that_comes_later_is_a_change(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(1))
    ledger.lose(ledger.claim(job_id, "w1", "m1"))
    mirror = Mirror(engine, job_id)
    mirror.look()
    before = ledger.job(job_id)
    ledger.do(claims.record_process_death, "m1", "w1", Lost(Outcome.OUT_OF_MEMORY, GONE | {"message": "killed"}))
    mirror.look()
    assert ledger.job(job_id).version > before.version
    columns = read(engine, job_id, write_attempt_columns)
    assert (columns["outcome"], columns["reason"]) == (["out_of_memory"], ["killed"])


def test_ranks_and_hyperparameters_are_those_of_the_trials(engine: Engine) -> None:
    ledger = Ledger(engine)
    searched = [{"num_neurons": [8]}, {"learning_rate": [0.1, 0.2]}]
    job_id = ledger.post(
        spec({"strategy": "grid", "param_grid": searched}, evaluation={"validation_split": 0.5, "refit": False})
    )
    ledger.finish_search(job_id, lambda trial, fold: [0.5, 0.75, 0.75][trial])
    columns = read(engine, job_id, write_trial_columns)
    assert columns["rank"] == [3, 1, 1]
    assert columns["params"] == {"num_neurons": [8, None, None], "learning_rate": [None, 0.1, 0.2]}
    assert columns["n_resources"] == [None, None, None]


def test_an_ended_job_keeps_the_moment_of_its_end(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(1, evaluation={"validation_split": 0.5, "refit": False}))
    ledger.finish(ledger.claim(job_id))
    ended = ledger.job(job_id).ended_at
    ledger.do(lambda session: outcomes.change_job(store.lock_job(session, job_id)))  # type: ignore[arg-type]
    assert ledger.job(job_id).ended_at == ended
