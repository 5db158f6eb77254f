"""What can be watched: a job, a trial's epochs, the newest jobs. A topic knows what it has read of the database."""

import json
from functools import cached_property
from typing import NamedTuple, Protocol
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.api.schemas.jobs import JobResponse
from app.api.schemas.results import EpochResponse
from app.tuning.jobs.columns import write_trial_columns
from app.tuning.jobs.queries import find_best_params
from app.tuning.jobs.tables import ENDED_JOB, EpochRow, Fit, Job

NEWEST_JOBS = 20
Shown = dict[int, tuple[int, int]]  # by fit: the attempt and its last epoch that a stream has sent


class Topic(Protocol):
    """A subject of streams."""

    @property
    def key(self) -> tuple[object, ...]:
        """What it is about: streams with equal keys share a topic."""

    def refresh(self, session: Session) -> bool:
        """Read what has changed; False if nothing has."""


class Seen:
    """A job's row and its best hyperparameters: its JSON is made when the reading is over, which holds up writers."""

    def __init__(self, session: Session, job: Job) -> None:
        self._row = job
        self._best_params = find_best_params(session, [job]).get(job.id)
        self.version = job.version
        self.ended = job.state in ENDED_JOB

    @cached_property
    def text(self) -> str:
        """The Job as JSON."""
        return JobResponse.of(self._row, self._best_params).model_dump_json()


class News(NamedTuple):
    """A job as it is, and its trials that have changed after a version, as JSON; empty if there are none."""

    job: Seen
    since: int
    trials: str


class JobTopic:
    """One job."""

    def __init__(self, job_id: UUID) -> None:
        self._job_id = job_id
        self.key = ("job", job_id)
        self.news: News | None = None  # none yet
        self.deleted = False

    def reaches(self, version: int) -> bool:
        """Whether it has been read, with all that has changed after this version."""
        return self.deleted or (self.news is not None and self.news.since <= version)

    def refresh(self, session: Session) -> bool:
        version = session.scalar(select(Job.version).where(Job.id == self._job_id))
        if self.news and version == self.news.job.version:
            return False
        self.read_since(session, self.news.job.version if self.news else 0)
        return True

    def read_since(self, session: Session, since: int) -> None:
        """Read the job as it is, and what has changed of it after this version."""
        job = session.get(Job, self._job_id)
        if job is None:
            self.deleted = True
            return
        trials = write_trial_columns(session, job, since)
        self.news = News(Seen(session, job), since, "" if '"number":[]' in trials else trials)


class _Curve:
    """The epochs of an attempt at a fit."""

    def __init__(self, fold: int | None, bracket: int, iter: int, attempt: int) -> None:
        self.place = {"fold": fold, "bracket": bracket, "iter": iter, "attempt": attempt}
        self.attempt = attempt
        self.epochs: list[EpochResponse] = []

    @property
    def last(self) -> int:
        """The number of the last epoch."""
        return self.epochs[-1].epoch if self.epochs else 0


class EpochsTopic:
    """The epochs of one trial, which training writes without raising the job's version."""

    def __init__(self, job_id: UUID, trial: int) -> None:
        self._mine = (Fit.job_id == job_id, Fit.trial_number == trial, Fit.attempt > 0)
        self._trial = trial
        self.key = ("epochs", job_id, trial)
        self._curves: dict[int, _Curve] = {}
        self.is_read = False

    def refresh(self, session: Session) -> bool:
        changed, self.is_read = False, True
        columns = (Fit.id, Fit.fold, Fit.bracket, Fit.iter, Fit.attempt)
        for fit, fold, bracket, iter, attempt in session.execute(select(*columns).where(*self._mine).order_by(Fit.id)):
            curve = self._curves.get(fit)
            if curve is None or curve.attempt != attempt:
                curve = self._curves[fit] = _Curve(fold, bracket, iter, attempt)
            later = select(EpochRow).where(EpochRow.fit_id == fit, EpochRow.epoch > curve.last)
            new = [EpochResponse.model_validate(row) for row in session.scalars(later.order_by(EpochRow.epoch))]
            curve.epochs += new
            changed = changed or bool(new)
        return changed

    def write_beyond(self, shown: Shown) -> str:
        """The epochs that a stream has not shown yet, as JSON, and shown from now on; empty if there are none."""
        fits = []
        for fit, curve in list(self._curves.items()):
            attempt, last = shown.get(fit, (0, 0))
            last = last if attempt == curve.attempt else 0
            if new := [epoch for epoch in curve.epochs if epoch.epoch > last]:
                fits.append({"fit": fit, **curve.place, "epochs": [epoch.model_dump() for epoch in new]})
                shown[fit] = (curve.attempt, new[-1].epoch)
        return json.dumps({"trial": self._trial, "fits": fits}) if fits else ""


class JobsTopic:
    """The newest jobs."""

    key = ("jobs",)

    def __init__(self) -> None:
        self.jobs: dict[UUID, Seen] = {}  # newest first
        self.deleted: set[UUID] = set()
        self.is_read = False

    def refresh(self, session: Session) -> bool:
        newest = select(Job.id, Job.version).order_by(Job.created_at.desc(), Job.id.desc()).limit(NEWEST_JOBS)
        versions = {row.id: row.version for row in session.execute(newest)}
        self.is_read = True
        if list(versions.items()) == [(job_id, job.version) for job_id, job in self.jobs.items()]:
            return False
        missing = self.jobs.keys() - versions
        self.deleted |= missing - set(session.scalars(select(Job.id).where(Job.id.in_(missing))))
        self.jobs = {job_id: self._read(session, job_id, version) for job_id, version in versions.items()}
        return True

    def _read(self, session: Session, job_id: UUID, version: int) -> Seen:
        known = self.jobs.get(job_id)
        return known if known and known.version == version else Seen(session, session.get_one(Job, job_id))
