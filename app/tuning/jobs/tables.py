"""The tables: a job has trials and perhaps rungs with places, a trial has fits, a fit has attempts and epochs."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
    TypeDecorator,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class JobState(StrEnum):
    QUEUED = "queued"  # nothing of it has been claimed yet
    RUNNING = "running"  # from its first claim on
    PAUSED = "paused"  # nothing more is claimed, and what runs is given back, until a client resumes it
    CANCELLING = "cancelling"  # nothing more is claimed; some fits have yet to stop
    SUCCEEDED = "succeeded"  # every trial has ended, at least one has succeeded, and so has the refit if asked for
    FAILED = "failed"  # no trial succeeded, too many failed, the refit failed, or the data set cannot be had
    CANCELLED = "cancelled"  # a client asked for it


class State(StrEnum):
    """Of a trial and of a fit."""

    QUEUED = "queued"  # waits to be claimed
    RUNNING = "running"  # a fit: claimed, with a lease; a trial: one of its fits has been claimed
    SUCCEEDED = "succeeded"  # its score is known
    FAILED = "failed"  # its error is known; a trial fails with any of its folds
    CANCELLED = "cancelled"  # its job ended without it, or the trial that it would have been for lost a race or a rung
    PRUNED = "pruned"  # a trial: it lost a race or a rung


class Origin(StrEnum):
    """Where a trial's candidate is from."""

    SEARCH = "search"  # the grid, or drawn at random
    GIVEN = "given"  # `points_to_evaluate`
    STARTUP = "startup"  # drawn at random, before there is anything to learn from
    MODEL = "model"


class Outcome(StrEnum):
    """How an attempt at a fit ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"  # the training itself raised: not tried again
    LOST = "lost"  # no sign of life within the lease, or the training process died
    HUNG = "hung"  # alive, but without progress
    TIMED_OUT = "timed_out"  # longer than the job's fit_timeout_seconds
    OUT_OF_MEMORY = "out_of_memory"
    RELEASED = "released"  # given back by a worker that was asked to stop, or that has not the data
    CANCELLED = "cancelled"


ENDED_JOB = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)
ACTIVE_JOB = (JobState.QUEUED, JobState.RUNNING)


class Utc(TypeDecorator[datetime]):
    """A moment with its zone, in UTC; SQLite keeps no zones, so that it is told."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


class Table(DeclarativeBase):
    type_annotation_map = {  # noqa: RUF012
        datetime: Utc(),
        dict[str, Any]: JSON(none_as_null=True),
        list[dict[str, Any]]: JSON(none_as_null=True),
        list[list[int]]: JSON(none_as_null=True),
        str: String(255),
        JobState: String(16),
        State: String(16),
        Outcome: String(16),
        Origin: String(16),
    }


class Job(Table):
    """One search, with counters so that polling reads a row however many trials there are."""

    __tablename__ = "jobs"
    __table_args__ = (Index("ix_jobs_state", "state", "created_at", "id"), Index("ix_jobs_newest", "created_at", "id"))

    id: Mapped[UUID] = mapped_column(primary_key=True)
    state: Mapped[JobState] = mapped_column(default=JobState.QUEUED)
    version: Mapped[int] = mapped_column(default=1)  # raised by every change that a client can see
    spec: Mapped[dict[str, Any]]
    dataset: Mapped[str] = mapped_column(server_default="")  # its name; empty where an older version wrote the job
    dataset_sha256: Mapped[str | None] = mapped_column(String(64), index=True)  # null for a built-in data set
    name: Mapped[str | None]  # these three can be changed; the spec says what was posted
    labels: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    note: Mapped[str] = mapped_column(Text, server_default="")
    edit_version: Mapped[int] = mapped_column(server_default="1")  # in which one of these three last changed
    max_parallel_fits: Mapped[int | None]
    trials_total: Mapped[int]
    trials_queued: Mapped[int]
    trials_running: Mapped[int] = mapped_column(default=0)
    trials_succeeded: Mapped[int] = mapped_column(default=0)
    trials_failed: Mapped[int] = mapped_column(default=0)
    trials_cancelled: Mapped[int] = mapped_column(default=0)
    trials_pruned: Mapped[int] = mapped_column(default=0)
    fits_total: Mapped[int]
    fits_queued: Mapped[int]
    fits_running: Mapped[int] = mapped_column(default=0)
    fits_succeeded: Mapped[int] = mapped_column(default=0)
    fits_failed: Mapped[int] = mapped_column(default=0)
    fits_cancelled: Mapped[int] = mapped_column(default=0)
    cost_left: Mapped[float]  # multiply-adds yet to be trained
    cost_done: Mapped[float] = mapped_column(default=0.0)  # those of the fits that succeeded, and their seconds
    seconds_done: Mapped[float] = mapped_column(default=0.0)
    parallel_fits: Mapped[int] = mapped_column(default=0)  # that were running after the last claim
    rungs: Mapped[list[dict[str, Any]] | None]  # of a search that has any: `Rung`, and its state
    unborn: Mapped[int] = mapped_column(default=0)  # trials whose hyperparameters a model has yet to propose
    warm_points: Mapped[list[dict[str, Any]] | None] = mapped_column(deferred=True)  # params, score
    skipped: Mapped[int] = mapped_column(default=0)  # forbidden points left out, or drawn again
    epochs_trained: Mapped[int] = mapped_column(default=0)  # by the attempts that succeeded
    epochs_reused: Mapped[int] = mapped_column(default=0)  # that these did not have to train
    irreproducible: Mapped[str | None] = mapped_column(Text)  # why another run might give another table
    selection: Mapped[dict[str, Any] | None]  # what is known of the winner besides: tied trials, corrected accuracy
    saved_model: Mapped[dict[str, Any] | None] = mapped_column(deferred=True)  # of the refit: `SavedModel`
    best_trial: Mapped[int | None]
    best_score: Mapped[float | None]
    best_accuracy: Mapped[float | None]  # null where there are no classes, like all accuracies
    environment: Mapped[dict[str, Any] | None]  # of what trained the winner
    error: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    last_claim_at: Mapped[datetime | None]


class Trial(Table):
    """One candidate.

    Trials and fits are written with their job and deleted after it, so they have no foreign keys: checking these,
    row by row, took PostgreSQL as long as writing the rows.
    """

    __tablename__ = "trials"
    __table_args__ = (
        Index("ix_trials_score", "job_id", "validation_score", "number"),
        Index("ix_trials_rank", "job_id", "n_resources", "validation_score"),
        Index("ix_trials_state", "job_id", "state", "number"),
        Index("ix_trials_version", "job_id", "version"),
    )

    job_id: Mapped[UUID] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[State] = mapped_column(default=State.QUEUED)
    params: Mapped[dict[str, Any]]
    cost: Mapped[float]  # multiply-adds of training it on all samples, with all resources
    origin: Mapped[Origin] = mapped_column(default=Origin.SEARCH)
    bracket: Mapped[int] = mapped_column(default=0)
    iter: Mapped[int] = mapped_column(default=0)  # the highest rung that it has ended in, the first until then
    n_resources: Mapped[int] = mapped_column(default=0)  # of that rung; 0 in a search without rungs
    validation_score: Mapped[float | None]  # in that rung
    validation_score_std: Mapped[float | None]
    validation_accuracy: Mapped[float | None]
    validation_accuracy_std: Mapped[float | None]
    fit_seconds: Mapped[float | None]  # of all its folds together
    error: Mapped[dict[str, Any] | None]
    version: Mapped[int] = mapped_column(default=1)  # of the job, in which it last changed


class Fit(Table):
    """One training of a trial on a fold; of the winner on everything where `fold` is null."""

    __tablename__ = "fits"
    __table_args__ = (
        Index("ix_fits_trial", "job_id", "trial_number"),
        Index("ix_fits_claim", "job_id", "state", "position"),
        Index("ix_fits_lease", "state", "lease_until"),
        Index("ix_fits_key", "key"),
    )

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    job_id: Mapped[UUID]
    trial_number: Mapped[int | None]  # of the refit and in a higher rung null until it is known
    fold: Mapped[int | None]
    bracket: Mapped[int] = mapped_column(default=0)
    iter: Mapped[int] = mapped_column(default=0)  # of the rung
    n_resources: Mapped[int | None]  # the rung's
    # The order of claiming: expensive fits first, so that no long one is left to the end; null: not to be claimed yet.
    position: Mapped[int | None]
    state: Mapped[State] = mapped_column(default=State.QUEUED)
    attempt: Mapped[int] = mapped_column(default=0)  # raised by each claim: the fence against late results
    lost_attempts: Mapped[int] = mapped_column(default=0)  # those that count towards giving up
    lease_until: Mapped[datetime | None]
    doubted_at: Mapped[datetime | None]  # when housekeeping last missed a renewal
    worker: Mapped[str | None]
    score: Mapped[float | None]  # by the job's scoring
    accuracy: Mapped[float | None]
    loss: Mapped[float | None]
    confusion: Mapped[list[list[int]] | None]  # of a refit: test samples by their true class and the predicted one
    fit_seconds: Mapped[float | None]
    score_seconds: Mapped[float | None]
    hits: Mapped[bytes | None] = mapped_column(deferred=True)  # a bit a scored row, 1 if classified rightly
    key: Mapped[str | None] = mapped_column(String(64))  # of what was trained: equal keys, equal results
    cached: Mapped[bool] = mapped_column(default=False)  # the result is that of an equal fit
    resumed_from: Mapped[int | None]  # the epoch of the checkpoint that it went on from
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    error: Mapped[dict[str, Any] | None]

    @property
    def is_refit(self) -> bool:
        """Whether it trains the best trial on everything."""
        return self.fold is None


class Place(Table):
    """A candidate in a rung: a row of the results of a search that has rungs."""

    __tablename__ = "places"

    job_id: Mapped[UUID] = mapped_column(primary_key=True)
    bracket: Mapped[int] = mapped_column(primary_key=True)
    iter: Mapped[int] = mapped_column(primary_key=True)
    trial_number: Mapped[int] = mapped_column(primary_key=True)
    slot: Mapped[int | None]  # its row within the rung, which is certain once the rung before has ended
    ended: Mapped[bool] = mapped_column(default=False)
    score: Mapped[float | None]
    score_std: Mapped[float | None]


class Attempt(Table):
    """One try at a fit."""

    __tablename__ = "attempts"
    __table_args__ = (Index("ix_attempts_message", "message_id"),)

    fit_id: Mapped[int] = mapped_column(ForeignKey("fits.id", ondelete="CASCADE"), primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    worker: Mapped[str]
    message_id: Mapped[str]  # of the wake that led to it: all that is known when a training process has died
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    outcome: Mapped[Outcome | None]
    error: Mapped[dict[str, Any] | None]
    processor: Mapped[str | None]  # that trained it; of an attempt that succeeded, since its result tells
    version: Mapped[int] = mapped_column(default=1)  # of the job, in which it last changed


class EpochRow(Table):
    """One epoch of a fit's last attempt."""

    __tablename__ = "epochs"

    fit_id: Mapped[int] = mapped_column(ForeignKey("fits.id", ondelete="CASCADE"), primary_key=True)
    epoch: Mapped[int] = mapped_column(primary_key=True)  # from 1
    loss: Mapped[float | None]
    accuracy: Mapped[float | None]
    val_loss: Mapped[float | None]
    val_accuracy: Mapped[float | None]
    seconds: Mapped[float]


class StoredDataset(Table):
    """An own data set, whose files are in the storage under its hash; a name means the same content until deleted."""

    __tablename__ = "datasets"
    __table_args__ = (Index("ix_datasets_newest", "created_at", "id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    kind: Mapped[str] = mapped_column(String(16))
    facts: Mapped[dict[str, Any]]  # all that is known of it, as clients see it
    bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime]


class Worker(Table):
    """A worker that is there: it writes its row every few seconds, and housekeeping removes one that does not."""

    __tablename__ = "workers"

    name: Mapped[str] = mapped_column(primary_key=True)
    started_at: Mapped[datetime | None]
    device: Mapped[str | None]  # that it trains on
    last_seen: Mapped[datetime]
    rests_until: Mapped[datetime | None]  # it claims nothing till then
    faults: Mapped[int] = mapped_column(default=0)  # of its machine, in a row


class Absence(Table):
    """A data set that a worker has looked for in vain."""

    __tablename__ = "absences"

    worker: Mapped[str] = mapped_column(ForeignKey("workers.name", ondelete="CASCADE"), primary_key=True)
    dataset: Mapped[str] = mapped_column(primary_key=True)
    noted_at: Mapped[datetime]  # it looks again after a while


class IdempotencyKey(Table):
    """The first answer to a POST that carried an `Idempotency-Key`."""

    __tablename__ = "idempotency_keys"

    key: Mapped[str] = mapped_column(primary_key=True)
    body_sha256: Mapped[str] = mapped_column(String(64))
    answer: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime]


class Deletion(Table):
    """A job that is gone, and whose rows in the other tables are yet to be deleted."""

    __tablename__ = "deletions"

    job_id: Mapped[UUID] = mapped_column(primary_key=True)
    created_at: Mapped[datetime]
