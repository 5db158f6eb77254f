"""Jobs are created, cancelled and deleted with their trials, fits, counters and keys."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import Engine, func, select, update
from sqlalchemy.exc import IntegrityError

from app.tuning.database import clock, reading, writing
from app.tuning.jobs import claims, outcomes, store
from app.tuning.jobs.attempts import Cancelled, Finished, Lost, Released, Unavailable
from app.tuning.jobs.tables import Attempt, EpochRow, Fit, IdempotencyKey, Job, JobState, Outcome, State, Trial
from app.tuning.search.candidates import draw_candidates
from tests.support.ledger import BROKEN, GONE, Ledger, grid, scored


def test_a_new_job_has_its_trials_fits_and_counters(engine: Engine) -> None:
    ledger, spec = Ledger(engine), grid(3, evaluation={"cv": 4}, limits={"max_parallel_fits": 2})
    job_id = ledger.post(spec)
    job = ledger.job(job_id)
    assert (job.state, job.version, job.max_parallel_fits) == (JobState.QUEUED, 1, 2)
    assert (job.trials_total, job.trials_queued) == (3, 3)
    assert (job.fits_total, job.fits_queued) == (13, 13)
    assert job.spec == spec.model_dump(mode="json")
    assert (job.started_at, job.ended_at, job.best_trial, job.environment, job.error) == (None,) * 5
    assert [trial.params for trial in ledger.trials(job_id)] == [one.params for one in draw_candidates(spec)]
    fits = ledger.fits(job_id)
    assert [(fit.trial_number, fit.fold) for fit in fits] == [
        *((n, k) for n in range(3) for k in range(4)),
        (None, None),
    ]
    assert fits[-1].position is None, "the refit waits for the best trial"
    assert all((fit.state, fit.attempt, fit.lost_attempts) == (State.QUEUED, 0, 0) for fit in fits)


def test_timestamps_are_utc_by_the_databases_clock(engine: Engine) -> None:
    ledger = Ledger(engine)
    created = ledger.job(ledger.post(grid(1))).created_at
    assert created.tzinfo is UTC
    assert abs(created - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("evaluation", "fits"),
    [({"cv": 2}, 7), ({"cv": 10, "refit": False}, 30), ({"validation_split": 0.25}, 4)],
    ids=["cv", "without refit", "holdout"],
)
def test_a_job_has_one_fit_per_fold_and_one_for_the_refit(
    sqlite_engine: Engine, evaluation: dict[str, float], fits: int
) -> None:
    ledger = Ledger(sqlite_engine)
    assert ledger.job(ledger.post(grid(3, evaluation=evaluation))).fits_total == fits


def test_the_cost_left_of_a_new_job_is_the_sum_of_its_fits(sqlite_engine: Engine) -> None:
    ledger = Ledger(sqlite_engine)
    for evaluation, share in (({"cv": 4}, 3 / 4 * 4), ({"validation_split": 0.25, "refit": True}, 0.75)):
        spec = grid(3, evaluation=evaluation)
        costs = [one.multiply_adds for one in draw_candidates(spec)]
        assert ledger.job(ledger.post(spec)).cost_left == pytest.approx(sum(costs) * share + max(costs))


def test_a_job_of_ten_thousand_trials_is_stored(sqlite_engine: Engine) -> None:
    search = {"num_neurons": list(range(1, 101)), "filters": list(range(1, 101))}
    spec = grid().model_copy(update={"search": grid().search.model_copy(update={"param_grid": search})})
    with writing(sqlite_engine) as session:
        job = store.insert_job(session, spec, draw_candidates(spec))
        assert session.scalar(select(func.count()).select_from(Fit)) == job.fits_total == 30_001
        assert session.scalar(select(func.count(Fit.position.distinct()))) == 30_000


def test_a_queued_job_is_cancelled_at_once(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(2))
    ledger.cancel(job_id)
    job = ledger.job(job_id)
    assert (job.state, job.trials_cancelled, job.fits_cancelled) == (JobState.CANCELLED, 2, 7)
    assert job.version == 2
    assert ledger.none_to_claim(job_id)


def test_a_cancelled_job_ends_when_its_running_fits_have_stopped(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(2))
    first, second, third = (ledger.claim(job_id) for _ in range(3))
    ledger.finish(first, 0.9)
    ledger.cancel(job_id)
    job = ledger.job(job_id)
    assert (job.state, job.fits_running, job.fits_cancelled, job.ended_at) == (JobState.CANCELLING, 2, 4, None)
    with reading(engine) as session:
        assert claims.job_state_if_held(session, second) == JobState.CANCELLING
    assert ledger.none_to_claim(job_id)
    assert ledger.do(outcomes.record, second, Cancelled())
    assert ledger.job(job_id).state == JobState.CANCELLING
    assert ledger.do(outcomes.record, third, Cancelled())
    job = ledger.job(job_id)
    assert (job.state, job.trials_cancelled, job.fits_succeeded) == (JobState.CANCELLED, 2, 1)
    assert [one.outcome for one in ledger.attempts(second.fit_id)] == [Outcome.CANCELLED]


def test_a_fit_that_succeeds_while_its_job_is_being_cancelled_is_kept(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(2, evaluation={"cv": 2}))
    held = [ledger.claim(job_id) for _ in range(2)]
    ledger.cancel(job_id)
    for claim in held:
        assert ledger.finish(claim, 0.75)
    job = ledger.job(job_id)
    assert (job.state, job.trials_succeeded, job.trials_cancelled) == (JobState.CANCELLED, 1, 1)
    assert (job.best_trial, job.best_accuracy) == (held[0].trial_number, 0.75)


@pytest.mark.parametrize("end", [Released(), Cancelled()], ids=["released", "stopped"])
def test_a_fit_released_while_its_job_is_being_cancelled_is_cancelled(
    engine: Engine, end: Released | Cancelled
) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(1))
    claim = ledger.claim(job_id)
    ledger.cancel(job_id)
    assert ledger.do(outcomes.record, claim, end)
    assert ledger.job(job_id).state == JobState.CANCELLED


@pytest.mark.parametrize("tries_before", [0, 2])
def test_a_job_being_cancelled_ends_when_its_last_worker_is_lost(engine: Engine, tries_before: int) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(1))
    for _ in range(tries_before):
        ledger.lose(ledger.claim(job_id))
    claim = ledger.claim(job_id)
    ledger.cancel(job_id)
    assert ledger.lose(claim)
    assert ledger.job(job_id).state == JobState.CANCELLED
    assert ledger.fit(claim.fit_id).state == State.CANCELLED
    assert ledger.attempts(claim.fit_id)[-1].outcome == Outcome.LOST


def test_the_refit_is_cancelled_too(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(1))
    ledger.finish_search(job_id, lambda *_: 0.9)
    refit = ledger.claim(job_id)
    ledger.cancel(job_id)
    assert ledger.job(job_id).state == JobState.CANCELLING
    assert ledger.do(outcomes.record, refit, Cancelled())
    assert ledger.job(job_id).state == JobState.CANCELLED


def test_every_change_that_a_client_sees_raises_the_version(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(1))
    seen = [ledger.job(job_id).version]
    claim = ledger.claim(job_id)
    seen.append(ledger.job(job_id).version)
    ledger.do(outcomes.record, claim, Released())
    seen.append(ledger.job(job_id).version)
    claim = ledger.claim(job_id)
    seen.append(ledger.job(job_id).version)
    ledger.finish(claim)
    seen.append(ledger.job(job_id).version)
    ledger.finish(claim)
    assert ledger.job(job_id).version == seen[-1], "nothing changed"
    ledger.cancel(job_id)
    seen.append(ledger.job(job_id).version)
    assert seen == sorted(set(seen))


def test_a_deleted_job_leaves_nothing(engine: Engine) -> None:
    ledger = Ledger(engine)
    kept, gone = ledger.post(grid(2)), ledger.post(grid(2))
    epoch = {"epoch": 1, "loss": 1.0, "accuracy": 0.5, "val_loss": None, "val_accuracy": None, "seconds": 0.1}
    for job_id in (kept, gone):
        ledger.do(outcomes.record, ledger.claim(job_id), Finished(scored(0.5), [epoch]))
    ledger.cancel(gone)
    ledger.remove(gone)
    with reading(engine) as session:
        assert session.scalars(select(Job.id)).all() == [kept]
        for table, rows in ((Trial, 2), (Fit, 7), (Attempt, 1), (EpochRow, 1)):
            assert session.scalar(select(func.count()).select_from(table)) == rows


def test_writes_to_a_deleted_job_change_nothing(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(1))
    claim = ledger.claim(job_id)
    ledger.cancel(job_id)
    ledger.do(outcomes.record, claim, Cancelled())
    ledger.remove(job_id)
    assert ledger.none_to_claim(job_id)
    assert not ledger.finish(claim)
    assert not ledger.fail(claim)
    assert not ledger.lose(claim)
    assert not ledger.do(claims.renew, claim, 15.0)
    assert not ledger.do(outcomes.record, claim, Released())
    assert not ledger.do(outcomes.record, claim, Cancelled())
    assert not ledger.do(outcomes.record, claim, Unavailable(BROKEN, "w1", "digits"))
    assert not ledger.do(claims.record_process_death, "m1", "w1", Lost(Outcome.LOST, GONE))
    with reading(engine) as session:
        assert claims.job_state_if_held(session, claim) is None
    assert ledger.do(store.lock_job, uuid4()) is None


def test_an_idempotency_key_keeps_its_first_response(engine: Engine) -> None:
    with writing(engine) as session:
        assert store.find_remembered(session, "once") is None
        store.remember(session, "once", "0" * 64, '{"id": "…"}')
    with reading(engine) as session:
        known = store.find_remembered(session, "once")
        assert known and (known.body_sha256, known.answer) == ("0" * 64, '{"id": "…"}')
    with pytest.raises(IntegrityError), writing(engine) as session:
        store.remember(session, "once", "1" * 64, "another")
    with reading(engine) as session:
        known = store.find_remembered(session, "once")
        assert known and known.body_sha256 == "0" * 64


def test_a_duplicate_key_rolls_its_job_back(engine: Engine) -> None:
    ledger, spec = Ledger(engine), grid(1)
    with writing(engine) as session:
        store.insert_job(session, spec, draw_candidates(spec))
        store.remember(session, "once", "0" * 64, "first")
    with pytest.raises(IntegrityError), writing(engine) as session:
        store.insert_job(session, spec, draw_candidates(spec))
        store.remember(session, "once", "0" * 64, "second")
    ledger.audit()
    with reading(engine) as session:
        assert session.scalar(select(func.count()).select_from(Job)) == 1


def test_idempotency_keys_are_deleted_after_a_day(engine: Engine) -> None:
    with writing(engine) as session:
        for key in ("old", "new"):
            store.remember(session, key, "0" * 64, "{}")
        age = {"old": 24 * 3600 + 60, "new": 24 * 3600 - 60}
        for key, seconds in age.items():
            aged = update(IdempotencyKey).where(IdempotencyKey.key == key)
            store.execute_change(session, aged.values(created_at=clock(-seconds)))
    with writing(engine) as session:
        store.forget_old_keys(session)
    with reading(engine) as session:
        assert session.scalars(select(IdempotencyKey.key)).all() == ["new"]
