"""The workers that are there, the data that each of them lacks, and what each may claim therefore."""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import String, and_, bindparam, delete, exists, or_, select, update
from sqlalchemy.dialects.postgresql import insert  # SQLite's dialect writes its ON CONFLICT too
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased
from sqlalchemy.sql.elements import ColumnElement

from app.tuning.database import clock
from app.tuning.jobs.store import execute_change
from app.tuning.jobs.tables import Absence, Attempt, Fit, Job, Outcome, State, Worker

LACKS_SECONDS = 60.0  # until a worker looks again for data that it has not found
MAX_REST_SECONDS = 5.0
FORGIVEN_SECONDS = 60.0  # after a rest: then a fault is the first one again
OTHERS_FIRST_SECONDS = 60.0  # how long a lost fit is left to the other workers, all of them idle
LOSSES = (Outcome.LOST, Outcome.HUNG, Outcome.TIMED_OUT, Outcome.OUT_OF_MEMORY)

WorkerName = ColumnElement[str] | InstrumentedAttribute[str]
BY: ColumnElement[str] = bindparam("by", type_=String)  # the worker that asks
_Other = aliased(Worker)
_TheirFit = aliased(Fit)


def _lacks(worker: WorkerName, *since: ColumnElement[bool]) -> ColumnElement[bool]:
    """Whether this worker has looked for the job's data in vain, not long ago."""
    lately = Absence.noted_at.between(clock(-LACKS_SECONDS), clock(0))
    in_vain = exists().where(Absence.worker == worker, Absence.dataset == Job.dataset, lately, *since)
    return in_vain.correlate(Job, _Other)


_FOR_THIS_JOB = Absence.noted_at >= Job.created_at  # earlier, the data may not have been there yet
_ANOTHER_HAS = exists().where(_Other.name != BY, ~_lacks(_Other.name))
_ANOTHER_HAS_NOT_LOOKED = exists().where(_Other.name != BY, ~_lacks(_Other.name, _FOR_THIS_JOB))
# Somebody else may have the job's data: whoever trains a fit of it just now, or a worker that has yet to look.
_HOPE = or_(Job.fits_running > 0, _ANOTHER_HAS_NOT_LOOKED)
# A worker that lacks the data leaves them to those that have them. If there are none, it looks again, once for a job;
# where there is no hope, whoever looks in vain fails the job.
_LOOKS_AGAIN = and_(Job.fits_running == 0, ~_ANOTHER_HAS, or_(~_lacks(BY, _FOR_THIS_JOB), ~_ANOTHER_HAS_NOT_LOOKED))
MAY_CLAIM = (
    ~exists().where(Worker.name == BY, Worker.rests_until.between(clock(0), clock(MAX_REST_SECONDS))),
    or_(~_lacks(BY), _LOOKS_AGAIN),
)
_LOST_BY_ME = (Attempt.fit_id == Fit.id, Attempt.worker == BY, Attempt.outcome.in_(LOSSES))
_ABLE = (_Other.name != Attempt.worker, ~_lacks(_Other.name))
_AT_WORK = exists().where(_TheirFit.worker == _Other.name, _TheirFit.state == State.RUNNING)
_FOR_OTHERS = or_(Attempt.ended_at.between(clock(-OTHERS_FIRST_SECONDS), clock(0)), _AT_WORK)
# A fit that this worker has lost is left to another one: for a while, and for as long as that one is at work.
MAY_TRAIN = or_(Fit.lost_attempts == 0, ~exists().where(*_LOST_BY_ME, *_ABLE, _FOR_OTHERS))


class Present(NamedTuple):
    """A worker that is there, and the fit that it has claimed last if it is training."""

    worker: Worker
    fit: Fit | None


def note_presence(session: Session, name: str, device: str | None = None) -> None:
    """Note that this worker is there, and what it trains on if that is known."""
    seen = {"last_seen": clock(0), **({"device": device} if device else {})}
    here = insert(Worker).values(name=name, faults=0, started_at=clock(0), **seen)
    session.execute(here.on_conflict_do_update(index_elements=[Worker.name], set_=seen))


def list_present(session: Session) -> list[Present]:
    """The workers that are there, by their names."""
    running = select(Fit).where(Fit.state == State.RUNNING, Fit.worker.is_not(None)).order_by(Fit.started_at)
    fits = {fit.worker: fit for fit in session.scalars(running)}
    return [Present(one, fits.get(one.name)) for one in session.scalars(select(Worker).order_by(Worker.name))]


def list_last_seen(session: Session) -> list[tuple[str, datetime]]:
    """When each worker has given its last sign of life."""
    return [(name, seen) for name, seen in session.execute(select(Worker.name, Worker.last_seen))]


def remove_worker(session: Session, name: str, seen: datetime) -> bool:
    """Remove a worker; False if it has been seen since."""
    return bool(execute_change(session, delete(Worker).where(Worker.name == name, Worker.last_seen == seen)))


def note_absence(session: Session, name: str, dataset: str) -> None:
    """Note that this worker has not this data set, so that it claims no fit of it for a while."""
    note_presence(session, name)
    now = {"noted_at": clock(0)}
    noted = insert(Absence).values(worker=name, dataset=dataset, **now)
    session.execute(noted.on_conflict_do_update(index_elements=[Absence.worker, Absence.dataset], set_=now))


def may_be_trained(session: Session, job: Job, name: str) -> bool:
    """Whether anybody but this worker may have the job's data."""
    return bool(session.scalar(select(_HOPE).where(Job.id == job.id), {"by": name}))


def rest_worker(session: Session, name: str) -> None:
    """Claim nothing for a while, the longer the more faults of its machine this worker has seen in a row."""
    note_presence(session, name)
    recent = select(Worker.faults).where(Worker.name == name, Worker.rests_until > clock(-FORGIVEN_SECONDS))
    faults = (session.scalar(recent) or 0) + 1
    until = clock(min(MAX_REST_SECONDS, 2.0 ** min(faults - 1, 10)))
    execute_change(session, update(Worker).where(Worker.name == name).values(faults=faults, rests_until=until))
