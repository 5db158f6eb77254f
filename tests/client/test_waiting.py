"""Waiting for a job: by the stream, by polling, and through restarts of the service."""

import asyncio
import json
import sys
import threading
from collections.abc import Iterator
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine

import tunewell
from app.main import create_app
from tests.client.conftest import Kind, each, settle
from tests.conftest import IdleHousekeeper
from tests.support.driving import drive, grid, steady
from tests.support.servers import free_port
from tests.support.service_double import JOB, JOB_ID, Answer, Service, answer, job
from tests.support.serving import serve
from tunewell.flows import EventReader
from tunewell.progress import describe_job

STREAM = {"Content-Type": "text/event-stream"}


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunewell.flows.SECONDS_BETWEEN_STREAMS", 0.1)


def say(version: int, document: dict[str, Any]) -> str:
    """An event of the stream."""
    return f"event: job\nid: {version}\ndata: {json.dumps(document)}\n\n"


def test_states_are_those_of_the_stream(kind: Kind, url: str, sqlite_engine: Engine) -> None:
    async def body(client: Any) -> None:
        posted = await settle(client.submit(grid(1, evaluation={"cv": 2, "refit": False})))
        done: list[int] = []
        async for state in each(posted.watch()):
            done.append(state["fits"]["succeeded"])
            drive(sqlite_engine, posted.id, steady, 1)
        assert done == sorted(done) and done[0] == 0 and done[-1] == posted.document["fits"]["total"]
        assert posted.state == "succeeded"

    kind.go(url, body)


def test_waiting_outlasts_a_restart_of_the_service(kind: Kind, sqlite_engine: Engine) -> None:
    """The job ends while the service is away; nobody tells the client but the service that comes back."""
    port = free_port()
    waits, notes = threading.Event(), list[str]()

    async def body(client: Any) -> str:
        posted = await settle(client.submit(grid(1)))
        began.append(posted.id)
        async for _ in each(posted.watch()):
            waits.set()
            await asyncio.sleep(0)
        return str(posted.state)

    began: list[str] = []
    ended: list[str] = []
    with serve(create_app(sqlite_engine, IdleHousekeeper), port) as address:
        thread = threading.Thread(target=lambda: ended.append(kind.go(address, body, note=notes.append)))
        thread.start()
        assert waits.wait(20)
    drive(sqlite_engine, began[0], steady)
    while not notes:
        thread.join(0.05)
        assert thread.is_alive()
    with serve(create_app(sqlite_engine, IdleHousekeeper), port):
        thread.join(60)
    assert ended == ["succeeded"]
    assert "does not respond" in notes[0]


def test_a_service_without_a_stream_is_polled_with_the_etag(kind: Kind, service: Service) -> None:
    states = answer(job(), ETag='"1"'), answer(None, 304), Answer(0), answer(job("succeeded", 5), ETag='"2"')
    service.on(f"GET {JOB}", answer(job(), ETag='"1"'), *states)

    async def body(client: Any) -> None:
        posted = await settle(client.job(JOB_ID))
        assert [state["state"] async for state in each(posted.watch())] == ["running", "succeeded"]

    kind.go(service.url, body)
    polls = [asked.headers.get("If-None-Match") for asked in service.asked if asked.path == JOB]
    assert polls == [None, None, '"1"', '"1"', '"1"']
    assert sum(asked.path.endswith("/events") for asked in service.asked) == 1


def test_a_stream_that_breaks_off_goes_on_where_it_was(kind: Kind, service: Service) -> None:
    service.on(f"GET {JOB}", answer(job(), ETag='"1"'), answer(None, 304), answer(None, 304))
    cut = Answer(200, say(1, job()) + say(2, job(done=2)), {**STREAM, "Content-Length": "99999"})
    last = Answer(200, ": ping\n\n" + say(3, job(done=4)) + say(4, job("succeeded", 5)), STREAM)
    service.on(f"GET {JOB}/events", cut, Answer(0), last)

    async def body(client: Any) -> None:
        done = [state["fits"]["succeeded"] async for state in each(client.watch(JOB_ID))]
        assert done == [0, 2, 4, 5]

    kind.go(service.url, body)
    asked = [(one.headers.get("If-None-Match"), one.headers.get("Last-Event-ID")) for one in service.asked]
    assert asked[:4] == [(None, None), (None, "1"), ('"2"', None), (None, "2")]


def test_a_full_service_is_asked_for_a_stream_again(kind: Kind, service: Service) -> None:
    service.on(f"GET {JOB}", answer(job(), ETag='"1"'), answer(None, 304))
    ended = Answer(200, say(2, job("failed", 5)), STREAM)
    service.on(f"GET {JOB}/events", answer({"title": "Crowded", "status": 503}, 503), ended)

    async def body(client: Any) -> None:
        assert [state["state"] async for state in each(client.watch(JOB_ID))] == ["running", "failed"]

    kind.go(service.url, body)


def test_a_deleted_job_ends_the_wait(kind: Kind, service: Service) -> None:
    gone = Answer(404, {"title": "Not Found", "status": 404, "detail": "No such job."})
    service.on(f"GET {JOB}", answer(job(), ETag='"1"'), gone)
    service.on(f"GET {JOB}/events", Answer(200, "event: end\nid: 1\ndata: {}\n\n", STREAM))

    async def body(client: Any) -> None:
        with pytest.raises(tunewell.NotFound):
            [state async for state in each(client.watch(JOB_ID))]

    kind.go(service.url, body)


def test_a_wait_that_is_left_ends_its_stream(kind: Kind, url: str, sqlite_engine: Engine) -> None:
    async def body(client: Any) -> None:
        posted = await settle(client.submit(grid(1)))
        states = posted.watch()
        async for _ in each(states):
            break
        await settle(states.aclose() if hasattr(states, "aclose") else states.close())
        assert (await settle(posted.cancel())).state == "cancelled"

    kind.go(url, body)


BLOCKS = [("trials", "1", '{"a": "é"}'), ("job", "1", "{}"), ("end", "2", "{}")]


@given(st.lists(st.integers(0, 200), max_size=20), st.sampled_from(["\n", "\r\n"]))
def test_events_are_the_same_however_they_are_cut(cuts: list[int], newline: str) -> None:
    lines = ["retry: 1000", "", ": ping", ""]
    for name, version, data in BLOCKS:
        lines += [f"event: {name}", f"id: {version}", f"data: {data}", ""]
    text = newline.join([*lines, ""]).encode()
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    reader = EventReader()
    chunks = [text[start:end] for start, end in pairwise(places)]
    assert [event for chunk in chunks for event in reader.feed(chunk)] == BLOCKS


def test_progress_is_described() -> None:
    assert describe_job(job()) == "running, 0 of 5 fits"
    assert describe_job(job(done=3, eta_seconds=41.2)) == "running, 3 of 5 fits, best so far 0.9000, about 41 s left"
    worse = job(done=3)
    worse["best"]["validation_score"] = -12.5
    assert describe_job(worse).endswith("best so far -12.5000")


@pytest.fixture
def ends(service: Service) -> Iterator[Service]:
    """A service whose job ends at its second reading."""
    service.on(f"GET {JOB}", answer(job(), ETag='"1"'), answer(job(done=2), ETag='"2"'), answer(job("succeeded", 5)))
    yield service


def test_waiting_prints_lines_where_there_is_no_terminal(
    kind: Kind, ends: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    async def body(client: Any) -> None:
        assert (await settle((await settle(client.job(JOB_ID))).wait())).state == "succeeded"

    kind.go(ends.url, body)
    assert capsys.readouterr().err.splitlines() == [
        "running, 2 of 5 fits, best so far 0.9000",
        "succeeded, 5 of 5 fits, best so far 0.9000",
    ]


def test_waiting_draws_one_line_in_a_terminal(
    ends: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with tunewell.Client(ends.url) as client:
        client.job(JOB_ID).wait()
    drawn = capsys.readouterr().err
    assert drawn.count("\n") == 1
    assert f"\r[{'#' * 12}{'.' * 18}] running, 2 of 5 fits" in drawn
    assert f"\r[{'#' * 30}] succeeded, 5 of 5 fits" in drawn


def test_waiting_replaces_one_output_in_a_notebook(
    ends: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: list[str] = []
    handle = SimpleNamespace(update=shown.append)

    def display_first(bar: str, display_id: bool) -> SimpleNamespace:
        shown.append(bar)
        return handle

    display = SimpleNamespace(HTML=str, display=display_first)
    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    with tunewell.Client(ends.url) as client:
        client.job(JOB_ID).wait()
    assert ['value="0.4000"' in shown[0], 'value="1.0000"' in shown[1]] == [True, True]
    assert capsys.readouterr().err == ""


def test_waiting_can_be_silent(ends: Service, capsys: pytest.CaptureFixture[str]) -> None:
    with tunewell.Client(ends.url) as client:
        client.job(JOB_ID).wait(progress=False)
    assert capsys.readouterr() == ("", "")
