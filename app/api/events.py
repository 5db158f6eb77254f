"""Server-sent events: a stream of states, whose clients are told what has changed since what they have."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.api.columns import SinceQuery
from app.api.dependencies import Database, get_job_or_404
from app.api.openapi import describe_problems, describe_response
from app.api.pagination import Digits, Number
from app.api.problems import ServiceUnavailable
from app.api.strict_json import StrictRoute
from app.api.topics import EpochsTopic, JobsTopic, JobTopic, Shown
from app.api.watching import Watcher
from app.tuning.database import reading
from app.tuning.jobs.tables import Job

MAX_STREAMS = 200  # in a process
STREAM_SECONDS = 300.0  # then clients come back, and spread over the processes that there are
RETRY_MILLISECONDS = 1000
CROWDED = f"This process serves {MAX_STREAMS} streams already: poll the job with its ETag, or try again."
router = APIRouter(prefix="/v1", tags=["events"], route_class=StrictRoute, responses=describe_problems(413, 421, 500))


class EventsQuery(SinceQuery):
    """What the client has already, and the trial whose epochs it wants."""

    trial: Annotated[Number, Digits] | None = Field(None, description="Send this trial's epochs too, as they end.")


async def open_stream(request: Request) -> AsyncIterator[Watcher]:
    """A place among this process's streams, until the response has ended.

    Raises:
        ServiceUnavailable: all are taken.
    """
    watcher: Watcher = request.app.state.watcher
    if watcher.streams >= MAX_STREAMS:
        raise ServiceUnavailable(CROWDED)
    watcher.streams += 1
    try:
        yield watcher
    finally:
        watcher.streams -= 1


def see_job(job_id: UUID, database: Database) -> UUID:
    """The job's ID, if there is such a job: a stream that has begun can respond with no other status."""
    with reading(database) as session:
        return get_job_or_404(session, job_id).id


def see_database(database: Database) -> None:
    """Raise if the database is away."""
    with reading(database) as session:
        session.execute(select(Job.id).limit(1))


Stream = Annotated[Watcher, Depends(open_stream)]
LastEventId = Annotated[
    str | None, Header(alias="Last-Event-ID", description="The ID of the last event; counts more than `since`.")
]


@router.get(
    "/jobs/{job_id}/events",
    response_class=EventSourceResponse,
    responses={
        **describe_response(200, "Events `trials`, `job`, `epochs` and `end`."),
        **describe_problems(404, 422, 503),
    },
)
async def watch_job(
    job_id: Annotated[UUID, Depends(see_job)],
    query: Annotated[EventsQuery, Query()],
    watcher: Stream,
    last_event_id: LastEventId = None,
) -> AsyncIterator[ServerSentEvent]:
    """A job as it changes. Each event's ID is the job's version.

    `trials` has the form of `GET …/table` and is what has changed, `job` is the Job, `epochs` has new epochs of the
    trial that was asked for, and after `end` the client is to close: the job has ended, or was deleted.
    """
    last = last_event_id or ""
    since = int(last[:10]) if last.isdecimal() else query.since
    with ExitStack() as stack:
        job = stack.enter_context(watcher.follow(JobTopic(job_id)))
        epochs = EpochsTopic(job_id, query.trial) if query.trial is not None else None
        stream = _JobStream(job, epochs and stack.enter_context(watcher.follow(epochs)), since)
        async for _ in watcher.await_changes(STREAM_SECONDS):
            await watcher.read(stream.lacks_something, stream.read)
            for event in stream.take_events():
                yield event
            if stream.over:
                return


@router.get(
    "/events",
    response_class=EventSourceResponse,
    dependencies=[Depends(see_database)],
    responses={**describe_response(200, "Events `job` and `deleted`."), **describe_problems(503)},
)
async def watch_jobs(watcher: Stream) -> AsyncIterator[ServerSentEvent]:
    """The newest 20 jobs as they change: each a `job` whose event ID is its version; `deleted` names one gone."""
    shown: dict[UUID, int] = {}
    with watcher.follow(JobsTopic()) as topic:
        async for _ in watcher.await_changes(STREAM_SECONDS):
            await watcher.read(lambda: not topic.is_read, topic.refresh)
            for event in _take_jobs(topic, shown):
                yield event


class _JobStream:
    """What one client has been sent of a job."""

    def __init__(self, job: JobTopic, epochs: EpochsTopic | None, since: int) -> None:
        self._job, self._epochs = job, epochs
        self._sent, self._is_first, self._shown = since, True, Shown()
        self.over = False

    def lacks_something(self) -> bool:
        """Whether the topics do not reach back to what has been sent."""
        return not self._job.reaches(self._sent) or (self._epochs is not None and not self._epochs.is_read)

    def read(self, session: Session) -> None:
        """Have the topics reach back so far."""
        self._job.read_since(session, self._sent)
        if self._epochs:
            self._epochs.refresh(session)

    def take_events(self) -> Iterator[ServerSentEvent]:
        """What has not been sent yet."""
        news = self._job.news
        if news and (self._is_first or news.job.version > self._sent):
            # The job comes last: who has its ID has the trials too.
            if news.trials:
                yield _make_event("trials", news.trials, news.job.version)
            yield _make_event("job", news.job.text, news.job.version, RETRY_MILLISECONDS if self._is_first else None)
            self._sent, self._is_first = news.job.version, False
        if self._epochs and (text := self._epochs.write_beyond(self._shown)):
            yield _make_event("epochs", text, self._sent)
        if self._job.deleted or (news and news.job.ended):
            self.over = True
            yield _make_event("end", "{}", self._sent)


def _take_jobs(topic: JobsTopic, shown: dict[UUID, int]) -> Iterator[ServerSentEvent]:
    """The jobs that are not shown as they are, the newest last; `shown` notes that they are from now on."""
    for job_id, job in reversed(list(topic.jobs.items())):
        if shown.get(job_id) != job.version:
            yield _make_event("job", job.text, job.version, None if shown else RETRY_MILLISECONDS)
            shown[job_id] = job.version
    for job_id in topic.deleted & shown.keys():
        yield _make_event("deleted", json.dumps({"id": str(job_id)}), shown.pop(job_id))


def _make_event(name: str, data: str, version: int, retry: int | None = None) -> ServerSentEvent:
    return ServerSentEvent(event=name, raw_data=data, id=str(version), retry=retry)
