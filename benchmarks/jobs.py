"""Jobs for measurements: posted over HTTP, or written to a database, new or half done."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, ScalarSelect, case, func, select, update
from sqlalchemy.orm import Session

from app.tuning.database import clock, connect, writing
from app.tuning.jobs import store
from app.tuning.jobs.tables import Fit, Job, JobState, State, Trial
from app.tuning.migrations import migrate
from app.tuning.search.candidates import draw_candidates
from app.tuning.search.spec import JobSpec

YEAR = timedelta(days=365).total_seconds()


def spec(trials: int, cv: int = 3, **more: Any) -> dict[str, Any]:
    """A random search with so many trials on scikit-learn's digits."""
    distributions = {
        "learning_rate": {"distribution": "loguniform", "low": 0.0001, "high": 0.1},
        "dropout_rate": {"distribution": "uniform", "low": 0.1, "high": 0.4},
        "num_neurons": [128, 256, 512],
    }
    search = {"strategy": "random", "n_iter": trials, "param_distributions": distributions}
    return {
        "dataset": {"name": "digits"},
        "search": search,
        "evaluation": {"cv": cv},
        "limits": {"reuse": False},
        **more,
    }


def database(url: str) -> Engine:
    """The database on the newest schema."""
    engine = connect(url)
    migrate(engine)
    return engine


def create(engine: Engine, trials: int, cv: int = 3) -> UUID:
    """A job in the database, as a POST leaves it."""
    made = JobSpec.model_validate(spec(trials, cv))
    with writing(engine) as session:
        return store.insert_job(session, made, draw_candidates(made)).id


def part_done(engine: Engine, trials: int, ended: int) -> UUID:
    """A running job: so many of its trials have succeeded, the others run for a year; none is queued."""
    job_id = create(engine, trials)
    done = Trial.number < ended
    with writing(engine) as session:
        accuracy = 0.9 + (Trial.number * 7919) % 1000 / 20_000.0
        means = dict.fromkeys(("validation_score", "validation_accuracy"), accuracy)
        spreads = dict.fromkeys(("validation_score_std", "validation_accuracy_std"), 0.01)
        succeeded = {**means, **spreads, "fit_seconds": 3.0}
        mine = update(Trial).where(Trial.job_id == job_id).execution_options(synchronize_session=False)
        session.execute(mine.where(done).values(state=State.SUCCEEDED, **succeeded))
        session.execute(mine.where(~done).values(state=State.RUNNING))
        _run_fits(session, job_id, ended)
        _count(session, job_id, trials, ended)
    return job_id


def _run_fits(session: Session, job_id: UUID, done: int) -> None:
    over = Fit.trial_number < done
    ran = {"worker": "bench", "attempt": 1, "started_at": clock(-60), "lease_until": clock(YEAR)}
    state = case((over, State.SUCCEEDED.value), else_=State.RUNNING.value)
    mine = update(Fit).where(Fit.job_id == job_id).execution_options(synchronize_session=False)
    session.execute(mine.where(Fit.fold.is_not(None)).values(state=state, **ran))
    ended = {"score": 0.9, "accuracy": 0.9, "loss": 0.3, "fit_seconds": 1.0, "score_seconds": 0.1, "ended_at": clock(0)}
    session.execute(mine.where(over).values(lease_until=None, **ended))


def _count(session: Session, job_id: UUID, trials: int, ended: int) -> None:
    def fits(state: State) -> ScalarSelect[int]:
        return select(func.count()).where(Fit.job_id == job_id, Fit.state == state).scalar_subquery()

    best = (
        select(Trial).where(Trial.job_id == job_id).order_by(Trial.validation_score.desc().nulls_last(), Trial.number)
    )
    winner = session.scalars(best.limit(1)).one()
    trials_now = {"trials_queued": 0, "trials_succeeded": ended, "trials_running": trials - ended}
    fits_now = {f"fits_{state}": fits(state) for state in (State.QUEUED, State.RUNNING, State.SUCCEEDED)}
    score = winner.validation_score
    found = {"best_trial": winner.number, "best_score": score, "best_accuracy": score}
    times = {"started_at": clock(-60), "last_claim_at": clock(0), "seconds_done": 100.0, "cost_done": Job.cost_left / 2}
    values = {"state": JobState.RUNNING, "version": Job.version + 1, **trials_now, **fits_now, **found, **times}
    session.execute(update(Job).where(Job.id == job_id).values(values).execution_options(synchronize_session=False))
