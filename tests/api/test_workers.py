"""The workers over REST."""

from datetime import datetime
from uuid import UUID

from fastapi.testclient import TestClient
from sqlalchemy import Engine

from app.tuning.database import writing
from app.tuning.jobs import claims, workers
from tests.support.driving import grid, post


def test_workers_are_listed_with_what_they_train(client: TestClient, engine: Engine) -> None:
    assert client.get("/v1/workers").json() == {"items": [], "next_page_token": None}
    job_id = post(client, grid(1))["id"]
    with writing(engine) as session:
        workers.note_presence(session, "tunewell-1@some.host#a1b2c3d4", "GPU 0")
        workers.note_presence(session, "odd")
        assert claims.claim(session, UUID(job_id), "tunewell-1@some.host#a1b2c3d4", "m")
    idle, busy = client.get("/v1/workers").json()["items"]
    assert (idle["name"], idle["host"], idle["fit"], idle["device"]) == ("odd", "", None, None)
    assert (busy["host"], busy["device"]) == ("some.host", "GPU 0")
    assert {**busy["fit"], "started_at": None} == {
        "job_id": job_id,
        "trial": 0,
        "fold": 0,
        "attempt": 1,
        "started_at": None,
    }
    assert busy["since"] <= busy["last_seen"] <= busy["fit"]["started_at"]


def test_a_worker_is_there_since_its_start_and_keeps_its_device(client: TestClient, engine: Engine) -> None:
    for device in ("GPU 1", None, None):
        with writing(engine) as session:
            workers.note_presence(session, "w1@host#a", device)
    [worker] = client.get("/v1/workers").json()["items"]
    assert worker["device"] == "GPU 1"
    assert datetime.fromisoformat(worker["since"]) < datetime.fromisoformat(worker["last_seen"])
