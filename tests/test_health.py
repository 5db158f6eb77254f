"""What the service says of itself while a part of it is away, frozen, and back."""

import time
from collections.abc import Iterator
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from app.main import create_app
from app.tuning import broker as queue
from app.tuning.database import connect
from tests.conftest import SilentHouse
from tests.driving import grid, post
from tests.refusing import problem
from tests.servers import Broker, Postgres


@pytest.fixture
def own_broker(broker: Broker) -> Iterator[Broker]:
    """The broker, as the one that this process is set to."""
    before = queue.celery.conf.broker_url
    queue.celery.conf.broker_url = broker.url
    yield broker
    queue.celery.conf.broker_url = before
    broker.thaw()
    if broker.process.poll() is not None:
        broker.start()


def seconds(client: TestClient, address: str, status: str) -> float:
    started = time.monotonic()
    answer = client.get(address)
    assert (answer.status_code, answer.json()["status"]) == (200, status)
    return time.monotonic() - started


def test_the_service_is_ready_when_database_and_broker_answer(client: TestClient, own_broker: Broker) -> None:
    answer = client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ok", "checks": {"database": "ok", "broker": "ok", "house_keeping": "ok"}}


def test_the_service_is_degraded_while_only_the_broker_is_away(sqlite_client: TestClient, own_broker: Broker) -> None:
    own_broker.kill()
    assert seconds(sqlite_client, "/readyz", "degraded") < 5
    checks = sqlite_client.get("/readyz").json()["checks"]
    assert checks == {"database": "ok", "broker": "unavailable", "house_keeping": "ok"}
    own_broker.start()
    assert seconds(sqlite_client, "/readyz", "ok") < 5


def test_a_frozen_broker_holds_nobody_up(sqlite_engine: Engine, own_broker: Broker) -> None:
    with TestClient(create_app(sqlite_engine)) as client:
        own_broker.freeze()
        assert seconds(client, "/readyz", "degraded") < 5
        started = time.monotonic()
        post(client, grid(2))
        assert time.monotonic() - started < 3
        own_broker.thaw()
        assert seconds(client, "/readyz", "ok") < 5


def test_while_the_database_is_away_there_are_only_503s_and_then_it_recovers_by_itself(postgres: Postgres) -> None:
    engine = connect(postgres.new_database())
    with TestClient(create_app(engine, SilentHouse), raise_server_exceptions=False) as client:
        job_id = post(client, grid(2))["id"]
        postgres.kill()
        try:
            for method, address in (
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
                answer = client.request(method, address)
                problem(answer, 503)
                assert int(answer.headers["Retry-After"]) >= 1
            answer = client.post("/v1/jobs", json=grid(1), headers={"Idempotency-Key": "a"})
            problem(answer, 503)
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


def test_connections_that_were_cut_are_made_again(postgres: Postgres) -> None:
    engine = connect(postgres.new_database())
    with TestClient(create_app(engine, SilentHouse)) as client:
        post(client, grid(1))
        for _ in range(3):
            postgres.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
            assert client.get("/v1/jobs").status_code == 200
    engine.dispose()
