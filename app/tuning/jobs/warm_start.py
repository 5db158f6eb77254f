"""What a model-based search knows from the start: the trials of other jobs, as they are when it is posted."""

from typing import Any, NoReturn

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.tuning.jobs.tables import ENDED_JOB, Job, State, Trial
from app.tuning.search.rejections import SpecRejected
from app.tuning.search.spec import JobSpec
from app.tuning.search.stored import read_spec_or_none

MAX_WARM_POINTS = 1000  # the more, the longer each proposal takes


def read_warm_points(session: Session, spec: JobSpec) -> list[dict[str, Any]] | None:
    """The complete hyperparameters and the mean validation score of each trial, None if it failed.

    Of a job with rungs, only the trials that had all resources count.

    Raises:
        SpecRejected: a job does not exist, has not ended or is another task, or these are too many trials.
    """
    if not spec.warm_start:
        return None
    points: list[dict[str, Any]] = []
    for index, job_id in enumerate(spec.warm_start.jobs):
        if (job := session.get(Job, job_id)) is None:
            _reject(index, f"No such job: {job_id}.")
        if job.state not in ENDED_JOB:
            _reject(index, f"The job is {job.state}: only ended jobs can be learned from.")
        other = read_spec_or_none(job.spec)
        if not other or _describe_task(other) != _describe_task(spec):
            _reject(index, "The job must have the same dataset, model and evaluation as this one.")
        useful = (Trial.job_id == job.id, Trial.state.in_((State.SUCCEEDED, State.FAILED)))
        columns = (Trial.params, Trial.validation_score)
        rows = session.execute(select(*columns).where(*useful).order_by(Trial.number)).all()
        points += [{"params": other.fill(row.params), "score": row.validation_score} for row in rows]
    if len(points) > MAX_WARM_POINTS:
        message = f"{len(points):,} trials: a search can start from at most {MAX_WARM_POINTS:,}; name fewer jobs"
        raise SpecRejected([(("warm_start", "jobs"), message)])
    return points


def _describe_task(spec: JobSpec) -> Any:
    """What must be equal for scores to be comparable."""
    how = spec.evaluation.model_dump(include={"cv", "repeats", "validation_split"})
    return spec.dataset.name, spec.dataset.sha256, spec.train_samples, spec.model, spec.scoring, how


def _reject(index: int, message: str) -> NoReturn:
    raise SpecRejected([(("warm_start", "jobs", index), message)])
