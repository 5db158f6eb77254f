"""What open pages ask of the database, and how soon a page is told of a result."""

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from uuid import UUID

import httpx2
from sqlalchemy import Engine, text

from app.tuning.database import reading, writing
from app.tuning.jobs import claims, outcomes
from app.tuning.jobs.attempts import Finished
from benchmarks import jobs, services
from benchmarks.rows import Row, Size
from tests.support import servers
from tests.support.ledger import scored

PART = "page.streams"
PAGES = (0, 1, 50)
SETTLES = 3.0  # seconds until the streams are open
LONGEST = 10.0  # seconds to wait for an event
COUNT = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"


def measure(size: Size) -> Iterator[Row]:
    """On PostgreSQL, which counts its transactions; each stream is one request and stays open."""
    with servers.postgres() as postgres, services.home() as place:
        url = postgres.new_database()
        engine = jobs.database(url)
        job_id = jobs.create(engine, 60)
        with services.api(place, TUNEWELL_DATABASE_URL=url) as service:
            stream = f"{service.url}/v1/jobs/{job_id}/events"
            for pages in PAGES:
                with _open(stream, pages, lambda event: None):
                    found = _count_transactions(engine, size.of(60, 5))
                yield Row(PART, f"transactions a minute, open pages: {pages}", found, note="of the API, idle job")
            delays = [1000 * delay for delay in _time_events(engine, job_id, stream, size.of(12, 3))]
    note = f"the longest of {len(delays)}: {max(delays):.0f} ms; until the event is read"
    yield Row(PART, "from a result's row to its event, median", statistics.median(delays), "ms", note=note)


def _count_transactions(engine: Engine, seconds: float) -> float:
    began, before = time.monotonic(), _read_count(engine)
    time.sleep(seconds)
    return (_read_count(engine) - before - 1) / (time.monotonic() - began) * 60  # less the first reading itself


def _read_count(engine: Engine) -> int:
    with reading(engine) as session:
        return int(session.execute(text(COUNT)).scalar_one())


def _time_events(engine: Engine, job_id: UUID, stream: str, results: int) -> Iterator[float]:
    """Seconds from a commit of a result until a stream says that the job has changed."""
    told = threading.Event()
    with _open(stream, 1, lambda event: told.set() if event == "job" else None):
        for number in range(results):
            with writing(engine) as session:
                claim = claims.claim(session, job_id, "worker", "machine")
            assert claim
            time.sleep(1.5 + 0.1 * (number % 7))  # at different moments of the reader's second
            told.clear()
            with writing(engine) as session:
                outcomes.record(session, claim, Finished(scored(0.5 + number / 100)))
            began = time.monotonic()
            if not told.wait(LONGEST):
                raise TimeoutError(f"no event within {LONGEST} seconds of a result")
            yield time.monotonic() - began


@contextmanager
def _open(stream: str, pages: int, on_event: Callable[[str], None]) -> Iterator[None]:
    """As many open streams; `on_event` gets the name of each event."""
    over = threading.Event()

    def watch() -> None:
        with httpx2.Client(timeout=60) as client, client.stream("GET", stream) as response:
            assert response.status_code == 200
            for line in response.iter_lines():
                if line.startswith("event:"):
                    on_event(line.removeprefix("event:").strip())
                if over.is_set():
                    return

    with ExitStack() as stack:
        threads = [threading.Thread(target=watch, daemon=True) for _ in range(pages)]
        for thread in threads:
            stack.callback(thread.join, 30)
            thread.start()
        stack.callback(over.set)
        time.sleep(SETTLES)
        yield
