"""A response is a snapshot, whatever another connection commits between two of its statements."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy
from fastapi.testclient import TestClient
from sqlalchemy import Connection, Engine, event

from app.tuning.database import connect, writing
from app.tuning.jobs.tables import Fit, Job, Trial
from tests.support.driving import drive, grid, post, steady

PAGES = (
    "",
    "/best",
    "/trials?sort=-validation_score",
    "/trials/0",
    "/results",
    "/results?format=csv",
    "/table",
    "/fits",
)
Act = Callable[[Engine, str], None]


def delete(engine: Engine, job_id: str) -> None:
    """Delete the job."""
    with writing(engine) as session:
        for mine in (Fit.job_id, Trial.job_id, Job.id):
            session.execute(sqlalchemy.delete(mine.class_).where(mine == UUID(job_id)))


def end_refit(engine: Engine, job_id: str) -> None:
    """Train the rest of the job: its refit."""
    drive(engine, job_id, steady)


@contextmanager
def between_statements(engine: Engine, act: Callable[[Engine], None]) -> Iterator[threading.Thread]:
    """Run `act` on another connection after the first SELECT; in SQLite its COMMIT waits for the reader."""
    other = connect(engine.url)
    actor = threading.Thread(target=act, args=(other,))

    def interleave(connection: Connection, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("SELECT") and actor.ident is None:
            actor.start()
            actor.join(timeout=20 if engine.dialect.name == "postgresql" else 0.5)
            assert not actor.is_alive() or engine.dialect.name == "sqlite"

    event.listen(engine, "after_cursor_execute", interleave)
    yield actor
    event.remove(engine, "after_cursor_execute", interleave)
    assert actor.ident is not None, "no SELECT was executed"
    actor.join()
    other.dispose()


def interleaved(engine: Engine, client: TestClient, path: str, act: Act, job_id: str) -> None:
    """The response is the same as before the other connection acted."""
    before = client.get(path)
    assert before.status_code == 200
    with between_statements(engine, lambda other: act(other, job_id)):
        response = client.get(path)
    assert (response.status_code, response.text) == (200, before.text)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_a_concurrently_deleted_job_is_shown_completely(engine: Engine, client: TestClient, page: str) -> None:
    job = post(client, grid(2))
    drive(engine, job["id"], steady)
    interleaved(engine, client, f"/v1/jobs/{job['id']}{page}", delete, job["id"])
    assert client.get(f"/v1/jobs/{job['id']}{page}").status_code == 404


def test_a_concurrently_deleted_job_is_listed_completely(engine: Engine, client: TestClient) -> None:
    job = post(client, grid(2))
    drive(engine, job["id"], steady)
    interleaved(engine, client, "/v1/jobs", delete, job["id"])


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_a_concurrently_ended_refit_is_shown_completely_or_not_at_all(
    engine: Engine, client: TestClient, page: str
) -> None:
    job = post(client, grid(2))
    drive(engine, job["id"], steady, fits=6)
    interleaved(engine, client, f"/v1/jobs/{job['id']}{page}", end_refit, job["id"])
    best = client.get(f"/v1/jobs/{job['id']}/best").json()
    assert best["final"] and best["test"]
