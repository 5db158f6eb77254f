"""Health checks while parts of the service are down, frozen or stuck, and after they recover."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, select, text

from app.main import create_app
from app.tuning import broker as queue
from app.tuning import housekeeping
from app.tuning.database import LOCK_SECONDS, connect, reading, try_writing, writing
from app.tuning.jobs.tables import Job
from tests.conftest import IdleHousekeeper
from tests.support.driving import grid, post
from tests.support.ledger import Ledger
from tests.support.ledger import grid as spec
from tests.support.rejecting import problem
from tests.support.servers import Broker, Postgres


@pytest.fixture
def own_broker(broker: Broker) -> Iterator[Broker]:
    """The broker, configured in this process."""
    before = queue.celery.conf.broker_url
    queue.celery.conf.broker_url = broker.url
    yield broker
    queue.celery.conf.broker_url = before
    broker.thaw()
    if broker.process.poll() is not None:
        broker.start()


def readyz(client: TestClient) -> str:
    response = client.get("/readyz")
    assert response.status_code == 200
    status: str = response.json()["status"]
    return status


def test_the_service_is_ready_when_database_and_broker_are_up(client: TestClient, own_broker: Broker) -> None:
    response = client.get("/readyz")
    assert response.status_code == 200
    assert response.json() == {
        "status": "ok",
        "checks": {"database": "ok", "broker": "ok", "storage": "ok", "house_keeping": "ok"},
    }


def test_the_service_is_degraded_while_only_the_broker_is_down(sqlite_client: TestClient, own_broker: Broker) -> None:
    own_broker.kill()
    assert readyz(sqlite_client) == "degraded"
    checks = sqlite_client.get("/readyz").json()["checks"]
    assert checks == {"database": "ok", "broker": "unavailable", "storage": "ok", "house_keeping": "ok"}
    own_broker.start()
    assert readyz(sqlite_client) == "ok"


def test_a_frozen_broker_does_not_block_requests(sqlite_engine: Engine, own_broker: Broker) -> None:
    with TestClient(create_app(sqlite_engine)) as client:
        own_broker.freeze()
        assert readyz(client) == "degraded"
        assert post(client, grid(2))["state"] == "queued"  # while the broker is frozen
        own_broker.thaw()
        assert readyz(client) == "ok"


def test_requests_get_503_while_the_database_is_down_and_succeed_once_it_is_back(postgres: Postgres) -> None:
    engine = connect(postgres.new_database())
    with TestClient(create_app(engine, IdleHousekeeper), raise_server_exceptions=False) as client:
        job_id = post(client, grid(2))["id"]
        postgres.kill()
        try:
            for method, path in (
                ("GET", "/v1/jobs"),
                ("GET", f"/v1/jobs/{job_id}"),
                ("GET", f"/v1/jobs/{job_id}/best"),
                ("GET", f"/v1/jobs/{job_id}/trials"),
                ("GET", f"/v1/jobs/{job_id}/trials/0"),
                ("GET", f"/v1/jobs/{job_id}/results?format=csv"),
                ("DELETE", f"/v1/jobs/{uuid4()}"),
                ("POST", f"/v1/jobs/{job_id}/cancel"),
                ("GET", "/readyz"),
            ):
                response = client.request(method, path)
                problem(response, 503)
                assert int(response.headers["Retry-After"]) >= 1
            response = client.post("/v1/jobs", json=grid(1), headers={"Idempotency-Key": "a"})
            problem(response, 503)
            assert client.get("/readyz").json()["checks"]["database"] == "unavailable"
            assert client.get("/livez").status_code == 200
            assert client.get("/v1/models").status_code == 200
            problem(client.post("/v1/jobs", json={}), 422)
        finally:
            postgres.start()
        assert client.get(f"/v1/jobs/{job_id}").json()["state"] == "queued"
        assert client.get("/readyz").status_code == 200
        assert client.post("/v1/jobs", json=grid(1), headers={"Idempotency-Key": "a"}).status_code == 202
        assert len(client.get("/v1/jobs").json()["items"]) == 2
    engine.dispose()


def test_terminated_connections_are_replaced(postgres: Postgres) -> None:
    engine = connect(postgres.new_database())
    with TestClient(create_app(engine, IdleHousekeeper)) as client:
        post(client, grid(1))
        for _ in range(3):
            postgres.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
            assert client.get("/v1/jobs").status_code == 200
    engine.dispose()


def test_the_service_is_not_ready_once_housekeeping_has_stopped(sqlite_engine: Engine, own_broker: Broker) -> None:
    with TestClient(create_app(sqlite_engine)) as client:
        assert readyz(client) == "ok"
        client.app.state.housekeeper.stop()  # type: ignore[attr-defined]
        response = client.get("/readyz")
        problem(response, 503)
        assert response.json()["checks"] == {
            "database": "ok",
            "broker": "ok",
            "storage": "ok",
            "house_keeping": "unavailable",
        }
        assert client.get("/livez").status_code == 200


def test_the_service_is_not_ready_while_housekeeping_is_stuck(
    sqlite_engine: Engine, own_broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, free = threading.Event(), threading.Event()

    def notify_workers(_: Engine) -> None:
        stuck.set()
        free.wait(60)

    monkeypatch.setattr(housekeeping, "notify_workers", notify_workers)
    monkeypatch.setattr(housekeeping, "STUCK_SECONDS", 1.0)
    with TestClient(create_app(sqlite_engine)) as client:
        assert stuck.wait(60)
        time.sleep(1.5)
        problem(client.get("/readyz"), 503)
        free.set()


def test_the_service_is_degraded_while_a_housekeeping_task_fails(
    sqlite_engine: Engine, own_broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed, fixed = threading.Event(), threading.Event()

    def notify_workers(_: Engine) -> None:
        if not fixed.is_set():
            failed.set()
            raise ZeroDivisionError("unexpected")

    monkeypatch.setattr(housekeeping, "notify_workers", notify_workers)
    monkeypatch.setattr(housekeeping, "ROUND_SECONDS", 0.05)
    with TestClient(create_app(sqlite_engine)) as client:
        assert failed.wait(60)
        assert readyz(client) == "degraded"
        fixed.set()
        deadline = time.monotonic() + 60
        while client.get("/readyz").json()["status"] != "ok":
            assert time.monotonic() < deadline


def test_the_service_is_not_ready_on_a_read_only_file(migrated_sqlite: Path, own_broker: Broker) -> None:
    engine = connect(f"sqlite:///file:{migrated_sqlite}?mode=ro&uri=true")
    with TestClient(create_app(engine, IdleHousekeeper), raise_server_exceptions=False) as client:
        assert client.get("/v1/jobs").status_code == 200
        response = client.get("/readyz")
        problem(response, 503)
        assert response.json()["checks"]["database"] == "unavailable"
        problem(client.post("/v1/jobs", json=grid(1)), 503)
    engine.dispose()


def test_readyz_does_not_wait_for_another_writer(sqlite_engine: Engine, own_broker: Broker) -> None:
    with TestClient(create_app(sqlite_engine, IdleHousekeeper)) as client, writing(sqlite_engine) as session:
        session.execute(text("SELECT 1"))
        started = time.monotonic()
        assert readyz(client) == "ok"
        assert time.monotonic() - started < LOCK_SECONDS / 2  # what a writer would wait for it


@pytest.mark.parametrize("url", ["redis://host:99999/0", "redis://host:6379/name", "redis://:p#ss@host:6379/0", "what"])
def test_readyz_survives_invalid_broker_urls(sqlite_engine: Engine, url: str) -> None:
    before = queue.celery.conf.broker_url
    queue.celery.conf.broker_url = url
    try:
        with TestClient(create_app(sqlite_engine)) as client:
            assert readyz(client) == "degraded"
            assert client.get("/readyz").json()["checks"]["broker"] == "unavailable"
    finally:
        queue.celery.conf.broker_url = before


def test_the_write_check_changes_nothing(engine: Engine) -> None:
    Ledger(engine).post(spec(1))
    with reading(engine) as session:
        before = session.scalars(select(Job)).all()
    try_writing(engine)
    with reading(engine) as session:
        assert len(session.scalars(select(Job)).all()) == len(before) == 1
