"""PostgreSQL sessions: their limits, and the service behind a pooler in transaction mode."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, text

from app.main import create_app
from app.tuning.database import connect, reading, writing
from app.tuning.jobs.attempts import Result
from app.tuning.jobs.claims import Claim
from tests.conftest import IdleHousekeeper
from tests.support import driving, ledger
from tests.support.ledger import Ledger, scored
from tests.support.servers import Postgres, pgbouncer
from tests.worker.test_outages import Process
from worker.lease import LeaseHeartbeat
from worker.runner import run_fits


@pytest.fixture(params=["", "ignore_startup_parameters=options"], ids=["rejecting options", "ignoring options"])
def pooled(request: pytest.FixtureRequest, postgres: Postgres) -> Iterator[str]:
    """The URL of an empty database behind PgBouncer."""
    with pgbouncer(postgres, request.param) as port:
        yield postgres.new_database().replace(f":{postgres.port}/", f":{port}/")


@pytest.fixture
def pooled_engine(pooled: str) -> Iterator[Engine]:
    made = connect(pooled)
    yield made
    made.dispose()


def limits(engine: Engine) -> list[str]:
    with reading(engine) as session:
        names = ("statement_timeout", "idle_in_transaction_session_timeout", "TimeZone")
        return [session.execute(text(f"SHOW {name}")).scalar_one() for name in names]


def test_every_session_has_its_limits(postgres_engine: Engine) -> None:
    assert limits(postgres_engine) == ["30s", "30s", "UTC"]


def test_every_transaction_behind_a_pooler_has_the_limits_and_resets_them(
    pooled_engine: Engine, postgres: Postgres
) -> None:
    assert limits(pooled_engine) == ["30s", "30s", "UTC"]
    with pooled_engine.connect() as connection:
        driver = connection.connection.dbapi_connection
        assert driver is not None
        driver.autocommit = True
        assert driver.execute("SHOW statement_timeout").fetchone() == ("0",)


def test_options_of_the_url_are_kept(postgres: Postgres) -> None:
    engine = connect(f"{postgres.new_database()}?options=-csearch_path%3Delsewhere")
    with writing(engine) as session:
        assert session.execute(text("SHOW search_path")).scalar_one() == "elsewhere"
    assert limits(engine) == ["30s", "30s", "UTC"]
    engine.dispose()


def test_the_service_works_behind_a_pooler(pooled_engine: Engine) -> None:
    with TestClient(create_app(pooled_engine, IdleHousekeeper)) as client, ThreadPoolExecutor(8) as threads:
        job_id = driving.post(client, driving.grid(4))["id"]
        addresses = ["/v1/jobs", f"/v1/jobs/{job_id}", f"/v1/jobs/{job_id}/trials", "/readyz"] * 50
        statuses = [response.status_code for response in threads.map(client.get, addresses)]
        assert statuses == [200] * len(addresses)


def test_workers_train_behind_a_pooler(pooled_engine: Engine) -> None:
    with TestClient(create_app(pooled_engine, IdleHousekeeper)):
        book = Ledger(pooled_engine)
    job_id = book.post(ledger.grid(8))
    accuracies = count(1)

    def train(claim: Claim, heartbeat: LeaseHeartbeat) -> Result:
        heartbeat.report()
        return scored(next(accuracies) / 64)

    def work(name: str) -> int:
        return run_fits(pooled_engine, train, name, name, Process(), 50)

    with ThreadPoolExecutor(4) as threads:
        done = sum(threads.map(work, ("w1", "w2", "w3", "w4")))
    while done < len(book.fits(job_id)):  # the refit comes up when others have looked already
        done += work("w5")
    book.audit()
    assert {fit.state for fit in book.fits(job_id)} == {"succeeded"}
