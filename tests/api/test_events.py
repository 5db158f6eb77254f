"""Events of jobs: what clients are told, and what becomes of open streams."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, text

from app.api.events import MAX_STREAMS, _JobStream
from app.api.topics import EpochsTopic, JobsTopic, JobTopic
from app.tuning.database import connect, reading, writing
from app.tuning.jobs import claims
from tests.support.driving import EPOCHS, claim, drive, grid, post, steady
from tests.support.following import Stream, follow, parse_events
from tests.support.live import Live, live

NO_BROKER = "redis://127.0.0.1:1/0"


def refresh(engine: Engine, *topics: Any) -> None:
    with reading(engine) as session:
        for topic in topics:
            topic.refresh(session)


def take(engine: Engine, stream: _JobStream) -> list[tuple[str, Any]]:
    """The names and data of the events that a stream gets now."""
    if stream.lacks_something():
        with reading(engine) as session:
            stream.read(session)
    return [(str(one.event), json.loads(str(one.raw_data))) for one in stream.take_events()]


def test_an_ended_job_is_told_as_it_is_and_the_stream_ends(client: TestClient, engine: Engine) -> None:
    job_id = post(client, grid(2))["id"]
    drive(engine, job_id, steady)
    response = client.get(f"/v1/jobs/{job_id}/events")
    assert response.headers["Content-Type"].startswith("text/event-stream")
    assert response.headers["Cache-Control"] == "no-cache"
    trials, job, end = parse_events(response.text)
    assert (trials["event"], job["event"], end["event"], end["data"]) == ("trials", "job", "end", {})
    assert trials["data"] == client.get(f"/v1/jobs/{job_id}/table").json()
    assert job["data"] == client.get(f"/v1/jobs/{job_id}").json()
    assert {one["id"] for one in (trials, job, end)} == {str(trials["data"]["version"])}


@pytest.mark.parametrize("how", ["query", "header", "header before query"])
def test_only_what_has_changed_since_is_told(client: TestClient, engine: Engine, how: str) -> None:
    job_id = post(client, grid(3, evaluation={"validation_split": 0.5}))["id"]
    drive(engine, job_id, steady, fits=2)
    version = client.get(f"/v1/jobs/{job_id}/table").json()["version"]
    drive(engine, job_id, steady)
    path = f"/v1/jobs/{job_id}/events"
    query = {"query": f"?since={version}", "header": "", "header before query": "?since=0"}[how]
    headers = {} if how == "query" else {"Last-Event-ID": str(version)}
    trials, *_ = parse_events(client.get(path + query, headers=headers).text)
    assert trials["data"]["number"] == [2]


def test_a_last_id_that_is_none_is_told_everything(client: TestClient, engine: Engine) -> None:
    job_id = post(client, grid(2))["id"]
    drive(engine, job_id, steady)
    for odd in ("x", "²", "-1", ""):
        response = client.get(f"/v1/jobs/{job_id}/events", headers={b"Last-Event-ID": odd.encode()})
        assert parse_events(response.text)[0]["data"]["number"] == [0, 1]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("7d1c9b6e-6f0a-4c39-9d0e-0d6c3a1f2b11/events", 404),
        ("x/events", 422),
        ("{}/events?since=-1", 422),
        ("{}/events?trial=x", 422),
        ("{}/events?other=1", 422),
    ],
)
def test_what_cannot_be_watched_is_a_problem_and_no_stream(client: TestClient, path: str, status: int) -> None:
    response = client.get(f"/v1/jobs/{path.format(post(client, grid(1))['id'])}")
    assert (response.status_code, response.headers["Content-Type"]) == (status, "application/problem+json")


def test_more_streams_than_a_process_serves_are_told_to_poll(sqlite_client: TestClient) -> None:
    job_id = post(sqlite_client, grid(1))["id"]
    watcher = sqlite_client.app.state.watcher  # type: ignore[attr-defined]
    watcher.streams = MAX_STREAMS
    for path in (f"/v1/jobs/{job_id}/events", "/v1/events"):
        response = sqlite_client.get(path)
        assert (response.status_code, response.headers["Retry-After"]) == (503, "2")
        assert "poll" in response.json()["detail"]
    assert watcher.streams == MAX_STREAMS


def test_head_and_an_ended_stream_give_their_places_back(client: TestClient, engine: Engine) -> None:
    job_id = post(client, grid(1))["id"]
    head = client.head(f"/v1/jobs/{job_id}/events")
    assert (head.status_code, head.content) == (200, b"")
    drive(engine, job_id, steady)
    client.get(f"/v1/jobs/{job_id}/events")
    assert client.app.state.watcher.streams == 0  # type: ignore[attr-defined]


def test_without_the_database_it_is_a_503(client: TestClient, engine: Engine) -> None:
    job_id = post(client, grid(1))["id"]
    rename(engine, "jobs", "elsewhere")
    for path in (f"/v1/jobs/{job_id}/events", "/v1/events"):
        assert client.get(path).status_code == 503
    rename(engine, "elsewhere", "jobs")


def test_a_slow_client_misses_nothing(client: TestClient, engine: Engine) -> None:
    job_id = post(client, grid(6, evaluation={"validation_split": 0.5, "refit": False}))["id"]
    job = JobTopic(UUID(job_id))
    slow, quick = _JobStream(job, None, 0), _JobStream(job, None, 0)
    assert take(engine, slow)[0][1]["number"] == list(range(6))
    seen = []
    for _ in range(6):
        drive(engine, job_id, steady, fits=1)
        refresh(engine, job)
        [(name, trials), *_] = take(engine, quick)
        assert name == "trials"
        seen.append(trials["number"])
    assert seen == [[0, 1, 2, 3, 4, 5], [1], [2], [3], [4], [5]]
    [(_, trials), (_, told), (end, _)] = take(engine, slow)
    assert (trials["number"], told["state"], end) == ([0, 1, 2, 3, 4, 5], "succeeded", "end")


def test_nothing_new_is_no_event(client: TestClient, engine: Engine) -> None:
    job_id = post(client, grid(1))["id"]
    job = JobTopic(UUID(job_id))
    stream = _JobStream(job, None, 0)
    assert [name for name, _ in take(engine, stream)] == ["trials", "job"]
    refresh(engine, job)
    assert take(engine, stream) == []
    client.patch(f"/v1/jobs/{job_id}", json={"note": "x"}, headers={"If-Match": "*"})
    refresh(engine, job)
    assert [name for name, _ in take(engine, stream)] == ["job"]


def test_epochs_come_as_they_end_and_anew_after_a_lost_attempt(client: TestClient, engine: Engine) -> None:
    job_id = post(client, grid(1))["id"]
    held = claim(engine, job_id) or pytest.fail("nothing to claim")
    job, epochs = JobTopic(UUID(job_id)), EpochsTopic(UUID(job_id), 0)
    stream = _JobStream(job, epochs, 0)
    take(engine, stream)
    for epoch in EPOCHS:
        with writing(engine) as session:
            assert claims.renew(session, held, 15.0, [epoch])
        refresh(engine, job, epochs)
        [(name, data)] = take(engine, stream)
        [fit] = data["fits"]
        assert (name, data["trial"], fit["fold"], fit["attempt"], fit["epochs"]) == ("epochs", 0, 0, 1, [epoch])
    with writing(engine) as session:
        claims.release_orphaned(session, "message", "w1@here")
    held = claim(engine, job_id) or pytest.fail("nothing to claim")
    with writing(engine) as session:
        assert claims.renew(session, held, 15.0, EPOCHS[:1])
    refresh(engine, epochs)
    [(_, data)] = take(engine, stream)
    assert [(fit["attempt"], len(fit["epochs"])) for fit in data["fits"]] == [(2, 1)]


def test_the_newest_jobs_and_those_that_are_gone(client: TestClient, engine: Engine) -> None:
    posted = [UUID(post(client, grid(1))["id"]) for _ in range(21)]
    topic = JobsTopic()
    refresh(engine, topic)
    assert list(topic.jobs) == posted[:0:-1]
    drive(engine, str(posted[20]), steady)
    client.delete(f"/v1/jobs/{posted[20]}")
    refresh(engine, topic)
    assert (list(topic.jobs), topic.deleted) == (posted[19::-1], {posted[20]})


@pytest.fixture
def service(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A plain uvicorn on each kind of database."""
    with live(tmp_path_factory.mktemp("home"), database_url, NO_BROKER, workers=0) as made:
        yield made


@pytest.fixture
def served(service: Live, database_url: str) -> Iterator[Engine]:
    """Its database."""
    engine = connect(database_url)
    yield engine
    engine.dispose()


def rename(engine: Engine, old: str, new: str) -> None:
    with engine.execution_options(writes=True).begin() as connection:
        connection.execute(text(f"ALTER TABLE {old} RENAME TO {new}"))


def finish(stream: Stream, service: Live, path: str) -> None:
    """The stream must have ended by itself, and what it has told must be what there is."""
    events = stream.wait_for_end()
    assert events[-1]["event"] == "end"
    rows: dict[int, tuple[Any, ...]] = {}
    for one in events:
        if one["event"] == "trials":
            data = one["data"]
            cells = zip(data["state"], data["validation_accuracy"], data["fit_seconds"], strict=True)
            rows.update(zip(data["number"], cells, strict=True))
    table = service.get(f"{path}/table")
    columns = zip(table["state"], table["validation_accuracy"], table["fit_seconds"], strict=True)
    assert rows == dict(zip(table["number"], columns, strict=True))
    assert [one for one in events if one["event"] == "job"][-1]["data"] == service.get(path)


@pytest.mark.slow
@pytest.mark.system
def test_what_happens_is_told_to_all_who_watch(service: Live, served: Engine) -> None:
    path = service.post(grid(4))
    job_id = path.rpartition("/")[2]
    one, two, newest = (follow(service, of) for of in (f"{path}/events", f"{path}/events?trial=1", "/v1/events"))
    for stream in (one, two, newest):
        stream.wait_for("job")
    drive(served, job_id, steady, fits=7)
    one.wait_until(lambda event: event["event"] == "trials" and 0.51 in event["data"]["validation_accuracy"])
    drive(served, job_id, steady)
    finish(one, service, path)
    finish(two, service, path)
    newest.wait_until(lambda event: event["event"] == "job" and event["data"]["state"] == "succeeded")
    assert service.client.delete(path).status_code == 204
    assert newest.wait_for("deleted")["data"] == {"id": job_id}
    newest.close()
    epochs = [event["data"] for event in two.events if event["event"] == "epochs"]
    assert sum(len(fit["epochs"]) for data in epochs for fit in data["fits"]) == 3 * len(EPOCHS)


@pytest.mark.slow
@pytest.mark.system
def test_a_broken_stream_goes_on_at_another_process(
    service: Live, served: Engine, database_url: str, tmp_path: Path
) -> None:
    path = service.post(grid(4, evaluation={"validation_split": 0.5}))
    job_id = path.rpartition("/")[2]
    with follow(service, f"{path}/events") as stream:
        stream.wait_for("job")
        drive(served, job_id, steady, fits=2)
        last = stream.wait_until(lambda event: event["event"] == "job" and event["data"]["trials"]["succeeded"] == 2)
    with live(tmp_path / "second", database_url, NO_BROKER, workers=0) as second:
        stream = follow(second, f"{path}/events", {"Last-Event-ID": last["id"]})
        assert stream.wait_for("job")["data"]["trials"]["succeeded"] == 2
        drive(served, job_id, steady)
        events = stream.wait_for_end()
    told = {number for one in events if one["event"] == "trials" for number in one["data"]["number"]}
    assert (told, events[-1]["event"]) == ({2, 3}, "end")


@pytest.mark.slow
@pytest.mark.system
def test_a_stream_lives_through_an_outage_of_the_database(service: Live, served: Engine) -> None:
    path = service.post(grid(2))
    job_id = path.rpartition("/")[2]
    with follow(service, f"{path}/events") as stream:
        stream.wait_for("job")
        rename(served, "jobs", "elsewhere")
        service.until(lambda: "database away" in service.said("api"), 30)
        rename(served, "elsewhere", "jobs")
        drive(served, job_id, steady)
        finish(stream, service, path)


@pytest.mark.slow
@pytest.mark.system
def test_open_streams_do_not_hold_up_the_end_of_plain_uvicorn(service: Live) -> None:
    path = service.post(grid(2))
    streams = [follow(service, f"{path}/events") for _ in range(19)] + [follow(service, "/v1/events")]
    for stream in streams:
        stream.wait_for("job")
    assert service.end_gracefully("api") in (0, -signal.SIGTERM)
    for stream in streams:
        assert stream.wait_for_end()[-1]["event"] == "job", "it ended by itself, between two events"
    assert "Cancel" not in service.said("api") and "Traceback" not in service.said("api")
