"""The worker's loop: claim, train and record, with a plain function as training."""

import logging
import math
import time
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine, create_engine, event, select, update
from sqlalchemy.exc import InternalError, OperationalError

from app.tuning.database import clock, reading, writing
from app.tuning.jobs import claims, outcomes, store, workers
from app.tuning.jobs.attempts import Finished, Lost, Result
from app.tuning.jobs.claims import Claim
from app.tuning.jobs.tables import Attempt, EpochRow, Fit, JobState, Outcome, State, Worker
from tests.support.ledger import Ledger, grid, scored
from worker import errors, faults, lease, runner
from worker.errors import DatasetUnavailable
from worker.lease import LeaseHeartbeat

EPOCH = {"epoch": 1, "loss": math.nan, "accuracy": 0.5, "val_loss": math.inf, "val_accuracy": 0.25, "seconds": 1.5}


class Process:
    """A training process that the test may ask to stop."""

    def __init__(self, asked: bool = False) -> None:
        self.asked = asked
        self.watched = 0

    def stopping(self) -> bool:
        return self.asked

    def watch(self, within: float) -> None:
        self.watched += 1

    def rest(self) -> None:
        self.watched = 0

    def pause(self, seconds: float) -> None:
        pass


def run(engine: Engine, train: runner.TrainFit, process: Process | None = None, most: int = 1) -> int:
    """Let a worker run the next fit, or several."""
    return runner.run_fits(engine, train, "w1", "m1", process or Process(), most)


def accurate(claim: Claim, heartbeat: LeaseHeartbeat) -> Result:
    """Training that returns a result at once."""
    return scored(0.5)


def raising(error: BaseException) -> runner.TrainFit:
    """Training that raises."""

    def train(claim: Claim, heartbeat: LeaseHeartbeat) -> Result:
        raise error

    return train


def first_fit(engine: Engine, job_id: UUID) -> Fit:
    """The fit that will be claimed first."""
    with reading(engine) as session:
        folds = select(Fit).where(Fit.job_id == job_id, Fit.fold.is_not(None))
        return session.scalars(folds.order_by(Fit.position)).first() or Fit()


def attempts(engine: Engine, fit: Fit) -> list[Outcome | None]:
    """The outcomes of a fit's attempts."""
    with reading(engine) as session:
        return list(session.scalars(select(Attempt.outcome).where(Attempt.fit_id == fit.id).order_by(Attempt.attempt)))


def test_a_worker_trains_a_job_to_its_end_and_then_finds_nothing(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(2))
    seen: list[tuple[int, int | None]] = []

    def train(claim: Claim, heartbeat: LeaseHeartbeat) -> Result:
        seen.append((claim.trial_number, claim.fold))
        assert claim.hyperparameters["optimizer"] == "adam"
        return scored(0.25 + claim.trial_number / 2)

    while run(engine, train):
        ledger.audit()
    assert seen == [(1, 0), (1, 1), (1, 2), (0, 0), (0, 1), (0, 2), (1, None)]
    job = ledger.job(job_id)
    assert (job.state, job.best_trial, job.best_accuracy) == (JobState.SUCCEEDED, 1, 0.75)


def test_a_worker_goes_from_fit_to_fit_and_from_job_to_job(engine: Engine) -> None:
    ledger = Ledger(engine)
    jobs = [ledger.post(grid(2, evaluation={"cv": 2, "refit": refit})) for refit in (True, False)]
    seen: list[UUID] = []

    def train(claim: Claim, heartbeat: LeaseHeartbeat) -> Result:
        ledger.audit()
        seen.append(claim.job_id)
        return scored(0.5)

    assert run(engine, train, most=3) == 3
    assert run(engine, train, most=50) == 6, "all that there are: two trials of two folds each, and a refit"
    ledger.audit()
    assert seen[:8] == jobs * 4, "by turns"
    assert [ledger.job(job_id).state for job_id in jobs] == [JobState.SUCCEEDED] * 2


def test_recording_and_the_next_claim_are_one_transaction(engine: Engine) -> None:
    Ledger(engine).post(grid(2))
    commits: list[int] = []

    def train(claim: Claim, heartbeat: LeaseHeartbeat) -> Result:
        commits.append(0)
        return scored(0.5)

    event.listen(engine, "commit", lambda _: commits.append(1))
    assert run(engine, train, most=3) == 3
    assert commits[commits.index(0) :] == [0, 1, 0, 1, 0, 1]


def test_a_worker_that_is_asked_to_stop_claims_no_further_fit(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(2))
    process = Process()

    def train(claim: Claim, heartbeat: LeaseHeartbeat) -> Result:
        process.asked = True
        return scored(0.5)

    assert run(engine, train, process, most=50) == 1
    ledger.audit()
    assert (ledger.job(job_id).fits_succeeded, ledger.job(job_id).fits_running) == (1, 0)


@pytest.mark.parametrize("made", [True, False], ids=["made", "not made"])
def test_a_lost_response_to_the_commit_between_two_fits(engine: Engine, made: bool) -> None:
    """Whether or not it was made, the result is recorded once and no claimed fit is orphaned."""
    ledger = Ledger(engine)
    job_id = ledger.post(grid(2, evaluation={"cv": 2, "refit": False}))
    trained: list[int] = []

    def lose_the_response(connection: Connection) -> None:
        event.remove(engine, "commit", lose_the_response)
        if made:
            connection.connection.commit()
        raise OperationalError("COMMIT", None, Exception("connection lost"))

    def train(claim: Claim, heartbeat: LeaseHeartbeat) -> Result:
        ledger.audit()
        trained.append(claim.fit_id)
        if len(trained) == 1:
            event.listen(engine, "commit", lose_the_response)
        return scored(0.5)

    assert run(engine, train, most=50) == 4
    ledger.audit()
    assert ledger.job(job_id).state == JobState.SUCCEEDED
    assert len(set(trained)) == 4
    outcomes = [one.outcome for fit_id in trained for one in ledger.attempts(fit_id)]
    assert outcomes.count(Outcome.SUCCEEDED) == 4
    assert outcomes.count(Outcome.RELEASED) == made, "claimed in the transaction whose response was lost"


def test_no_worker_waits_for_a_locked_job_while_holding_another(postgres_engine: Engine) -> None:
    ledger = Ledger(postgres_engine)
    mine, other = (ledger.post(grid(2)) for _ in range(2))
    claimed = ledger.claim(mine)
    ledger.claim(mine)
    with writing(postgres_engine) as busy:
        assert store.lock_job(busy, other)
        with writing(postgres_engine) as session:
            assert outcomes.record(session, claimed, Finished(scored(0.5)))
            assert claims.claim_following(session, mine, "w1", "m1") is None, "it is the other's turn, which is locked"
    with writing(postgres_engine) as session:
        again = claims.claim_following(session, mine, "w1", "m1")
    assert again and again.job_id == other


def tensorflows(name: str) -> Exception:
    """An error like TensorFlow's, whose classes share a base class."""
    error: Exception = type(name, (type("OpError", (Exception,), {}),), {})("as the kernel told it")
    return error


@pytest.mark.parametrize(
    "error", [ValueError("shrunk to nothing"), FloatingPointError(), tensorflows("InvalidArgumentError")]
)
def test_errors_of_the_hyperparameters_are_results(sqlite_engine: Engine, error: Exception) -> None:
    job_id = Ledger(sqlite_engine).post(grid(1))
    assert run(sqlite_engine, raising(error))
    assert attempts(sqlite_engine, first_fit(sqlite_engine, job_id)) == [Outcome.FAILED]


def test_the_same_error_before_training_is_not_a_result(sqlite_engine: Engine) -> None:
    job_id = Ledger(sqlite_engine).post(grid(1))

    def train(claim: Claim, heartbeat: LeaseHeartbeat) -> Result:
        with faults.preparing():
            raise ValueError("the folds cannot be cut")

    assert run(sqlite_engine, train)
    assert attempts(sqlite_engine, first_fit(sqlite_engine, job_id)) == [Outcome.LOST]


def test_after_a_fault_of_its_machine_a_worker_rests_and_another_goes_on(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(2))
    ledger.do(workers.note_presence, "w2")
    assert run(engine, raising(OSError(5, "Input/output error")), most=50) == 1
    assert runner.run_fits(engine, accurate, "w2", "m2", Process(), 50) == 7
    job = ledger.job(job_id)
    assert (job.state, job.fits_succeeded) == (JobState.SUCCEEDED, 7)


def test_a_fit_is_released_at_no_cost_if_the_worker_lacks_its_data(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(2))
    ledger.do(workers.note_presence, "w2")
    assert run(engine, raising(DatasetUnavailable("put mnist.npz there")), most=50) == 1
    ledger.audit()
    fit = first_fit(engine, job_id)
    assert (fit.state, fit.lost_attempts) == (State.QUEUED, 0)
    assert [one.error and one.error["message"] for one in ledger.attempts(fit.id)] == ["put mnist.npz there"]
    assert runner.run_fits(engine, accurate, "w2", "m2", Process(), 50) == 7
    assert ledger.job(job_id).state == JobState.SUCCEEDED


def test_an_exception_is_a_failed_fit_with_its_reason(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(1))
    assert run(engine, raising(ValueError("half a pair \ud800, a NUL \0 and " + "much " * 2000)))
    fit = first_fit(engine, job_id)
    assert fit.state == State.FAILED and fit.error
    assert fit.error["type"] == "ValueError"
    assert fit.error["message"].startswith("half a pair ?, a NUL  and much")
    assert fit.error["traceback"].rstrip().endswith("much"), "a long traceback keeps its end"
    assert len(str(fit.error).encode()) <= 4096
    assert attempts(engine, fit) == [Outcome.FAILED]


def test_the_epochs_before_an_exception_are_kept(engine: Engine) -> None:
    job_id = Ledger(engine).post(grid(1))

    def train(claim: Claim, heartbeat: LeaseHeartbeat) -> Result:
        heartbeat.epoch({"epoch": 1, "loss": math.inf, "accuracy": 0.1, "seconds": 1.0})
        raise ValueError("the loss is not finite")

    assert run(engine, train)
    with reading(engine) as session:
        epochs = session.scalars(select(EpochRow).where(EpochRow.fit_id == first_fit(engine, job_id).id)).all()
    assert [(one.epoch, one.loss, one.accuracy) for one in epochs] == [(1, None, 0.1)]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (MemoryError("no more"), Outcome.OUT_OF_MEMORY),
        (errors.TimedOut("too long"), Outcome.TIMED_OUT),
        (PermissionError(13, "Permission denied"), Outcome.LOST),
        (ModuleNotFoundError("No module named 'jax'"), Outcome.LOST),
        (InternalError("SELECT 1", None, Exception("read-only")), Outcome.LOST),
        (tensorflows("UnknownError"), Outcome.LOST),
        (tensorflows("ResourceExhaustedError"), Outcome.OUT_OF_MEMORY),
    ],
)
def test_lost_attempts_are_retried_three_attempts_in_all(engine: Engine, error: Exception, outcome: Outcome) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(1, limits={"max_parallel_fits": 1}))
    for _ in range(3):
        assert run(engine, raising(error))
        ledger.audit()
        ledger.do(store.execute_change, update(Worker).values(rests_until=None))
    fit = first_fit(engine, job_id)
    assert fit.state == State.FAILED and fit.error
    assert fit.error["message"] == f"given up after 3 lost attempts, the last one: {error}"
    assert attempts(engine, fit) == [outcome] * 3


def test_training_beyond_its_timeout_stops_at_the_next_report(engine: Engine) -> None:
    job_id = Ledger(engine).post(grid(1, limits={"fit_timeout_seconds": 1e-9}))
    assert run(engine, accurate)
    assert attempts(engine, first_fit(engine, job_id)) == [Outcome.TIMED_OUT]


def test_a_data_set_that_no_worker_has_fails_the_job(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(2))
    assert run(engine, raising(DatasetUnavailable("put mnist.npz there")))
    ledger.audit()
    job = ledger.job(job_id)
    assert job.state == JobState.FAILED and job.error
    assert (job.error["type"], job.error["message"]) == ("DatasetUnavailable", "put mnist.npz there")
    assert not run(engine, accurate)


def test_reports_in_quick_succession_query_the_database_once(engine: Engine) -> None:
    Ledger(engine).post(grid(1))
    asked: list[str] = []

    def train(claim: Claim, heartbeat: LeaseHeartbeat) -> Result:
        time.sleep(lease.LOOK_SECONDS)
        event.listen(engine, "before_cursor_execute", lambda *said: asked.append(said[2]))
        for _ in range(10):
            heartbeat.report()
        assert len(asked) == 1
        return scored(0.5)

    assert run(engine, train)
    assert len(asked) > 1


def test_a_cancellation_stops_training_at_the_next_query(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(1))

    def train(claim: Claim, heartbeat: LeaseHeartbeat) -> Result:
        heartbeat.report()
        with writing(engine) as session:
            job = store.lock_job(session, job_id)
            assert job
            outcomes.cancel_job(session, job)
        time.sleep(lease.LOOK_SECONDS)
        heartbeat.report()
        raise AssertionError("it went on")

    assert run(engine, train)
    ledger.audit()
    assert ledger.job(job_id).state == JobState.CANCELLED
    assert attempts(engine, first_fit(engine, job_id)) == [Outcome.CANCELLED]


def test_a_worker_that_is_asked_to_stop_releases_its_fit_at_no_cost(engine: Engine) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(1))
    process = Process()

    def train(claim: Claim, heartbeat: LeaseHeartbeat) -> Result:
        heartbeat.epoch(EPOCH)
        heartbeat.report()
        process.asked = True
        heartbeat.report()
        raise AssertionError("it went on")

    assert run(engine, train, process)
    ledger.audit()
    fit = first_fit(engine, job_id)
    assert (fit.state, fit.attempt, fit.lost_attempts, fit.worker) == (State.QUEUED, 1, 0, None)
    assert attempts(engine, fit) == [Outcome.RELEASED]
    with reading(engine) as session:
        assert session.scalars(select(EpochRow)).all() == []


def test_an_epoch_is_written_with_the_next_report_and_nan_as_null(engine: Engine) -> None:
    Ledger(engine).post(grid(1))
    rows: list[EpochRow] = []

    def train(claim: Claim, heartbeat: LeaseHeartbeat) -> Result:
        heartbeat.epoch(EPOCH)
        heartbeat.report()
        with reading(engine) as session:
            rows.extend(session.scalars(select(EpochRow)).all())
        heartbeat.epoch(EPOCH | {"epoch": 2})
        return scored(0.5)

    assert run(engine, train)
    assert [(row.epoch, row.loss, row.accuracy, row.val_loss) for row in rows] == [(1, None, 0.5, None)]
    with reading(engine) as session:
        assert session.scalars(select(EpochRow.epoch).order_by(EpochRow.epoch)).all() == [1, 2]


@pytest.mark.parametrize(
    ("train", "said", "outcome"),
    [
        (accurate, "fit ended", "succeeded"),
        (raising(ValueError("not finite")), "fit failed", "failed"),
        (raising(errors.WorkerStopping()), "fit released", "released"),
        (raising(errors.JobCancelled()), "fit cancelled", "cancelled"),
        (raising(errors.TimedOut("too long")), "fit lost", "timed_out"),
        (raising(MemoryError()), "fit lost", "out_of_memory"),
    ],
)
def test_the_outcome_of_a_fit_is_logged(
    sqlite_engine: Engine, caplog: pytest.LogCaptureFixture, train: runner.TrainFit, said: str, outcome: str
) -> None:
    Ledger(sqlite_engine).post(grid(1))
    with caplog.at_level(logging.INFO, logger="tunewell.worker"):
        assert run(sqlite_engine, train)
    assert [record.message for record in caplog.records] == ["fit started", said]
    assert vars(caplog.records[-1])["outcome"] == outcome


def lost_meanwhile(engine: Engine) -> runner.TrainFit:
    """Training whose fit is claimed by another worker before it ends."""

    def train(claim: Claim, heartbeat: LeaseHeartbeat) -> Result:
        with writing(engine) as session:
            session.execute(update(Fit).where(Fit.id == claim.fit_id).values(lease_until=clock(-1)))
            assert outcomes.record(
                session, claim, Lost(Outcome.LOST, {"type": "L", "message": "late", "traceback": None})
            )
        return scored(0.125)

    return train


def test_a_late_result_is_rejected_and_logged(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    ledger = Ledger(engine)
    job_id = ledger.post(grid(1))
    with caplog.at_level(logging.WARNING, logger="tunewell.worker"):
        assert run(engine, lost_meanwhile(engine))
    ledger.audit()
    assert [record.message for record in caplog.records] == ["late result rejected"]
    fit = first_fit(engine, job_id)
    assert (fit.state, fit.accuracy) == (State.QUEUED, None)


def test_training_that_reports_too_late_stops_and_writes_nothing(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = Ledger(engine).post(grid(1))

    def train(claim: Claim, heartbeat: LeaseHeartbeat) -> Result:
        lost_meanwhile(engine)(claim, heartbeat)
        time.sleep(lease.LOOK_SECONDS)
        heartbeat.report()
        raise AssertionError("it went on")

    assert run(engine, train)
    assert "no longer this attempt's" in caplog.text
    assert first_fit(engine, job_id).state == State.QUEUED


def test_reports_arm_the_watchdog_and_it_is_disarmed_between_fits(engine: Engine) -> None:
    Ledger(engine).post(grid(1))
    process = Process()
    wound: list[int] = []

    def train(claim: Claim, heartbeat: LeaseHeartbeat) -> Result:
        heartbeat.report(60.0)
        wound.append(process.watched)
        return scored(0.5)

    assert run(engine, train, process)
    assert (wound, process.watched) == ([1], 0)


def test_the_lease_is_renewed_during_an_announced_long_call(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "LEASE_SECONDS", 2.0)
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.2)
    job_id = Ledger(engine).post(grid(1))
    left: list[float] = []

    def seconds_left() -> float:
        with reading(engine) as session:
            until, now = session.execute(select(Fit.lease_until, clock(0)).where(Fit.state == State.RUNNING)).one()
        return float((until - now).total_seconds())

    def train(claim: Claim, heartbeat: LeaseHeartbeat) -> Result:
        for within in (60.0, 2.0):
            heartbeat.report(within)
            time.sleep(1.2)
            left.append(seconds_left())
        return scored(0.5)

    assert run(engine, train)
    assert first_fit(engine, job_id).state == State.SUCCEEDED
    assert left[0] > 1.2 > left[1], "a dead process is known by its lease, however long it had announced to be silent"


def test_a_result_waits_for_a_database_that_is_away() -> None:
    tries: list[int] = []

    def record(_: object) -> bool:
        tries.append(1)
        if len(tries) < 3:
            raise OperationalError("COMMIT", None, Exception("connection lost"))
        return True

    assert runner.commit_with_retries(create_engine("sqlite://"), record)
    assert len(tries) == 3
