"""Schemathesis against every call: no 5xx and no violation of the OpenAPI document."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from fastapi.testclient import TestClient
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema
from sqlalchemy import Engine

from app.main import create_app
from tests.conftest import IdleHousekeeper
from tests.support.driving import claim, drive, grid, post, steady

EXAMPLES = 20  # per call, in addition to several hundred boundary cases


@pytest.fixture
def service(sqlite_engine: Engine, home: Path) -> Iterator[TestClient]:
    """The service with an ended job."""
    with TestClient(create_app(sqlite_engine, IdleHousekeeper), raise_server_exceptions=False) as client:
        drive(sqlite_engine, post(client, grid(3))["id"], steady)
        yield client


def explore(service: TestClient, job_id: str | None = None) -> tuple[list[str], int]:
    """Schemathesis's failures, with its own job IDs or with this one, and the number of its cases."""
    # The schema cannot express every rule (hyperparameter names, sample counts, tokens, reused keys), so valid data may
    # be rejected. With a fixed ID, schemathesis expects a rejection of the ID that it replaced.
    config = SchemathesisConfig.from_dict(
        {
            "seed": 1,
            "parameters": {"path.job_id": job_id} if job_id else {},
            "checks": {
                "positive_data_acceptance": {"enabled": False},
                "negative_data_rejection": {"enabled": job_id is None},
            },
            "phases": {"stateful": {"enabled": job_id is None}},
            "generation": {"deterministic": True, "max-examples": EXAMPLES},
        }
    )
    api = schemathesis.openapi.from_asgi("/openapi.json", service.app, config=config)
    # Uploads have tests of their own: each would start a process.
    with_an_end = api.exclude(operation_id=["watch_job", "watch_jobs", "put_dataset"])
    found, cases = [], 0
    for event in from_schema(with_an_end).execute():
        if isinstance(event, events.FatalError | events.NonFatalError):
            found.append(f"{event!r}: {event.__dict__}")
        if isinstance(event, events.ScenarioFinished):
            cases += len(event.recorder.cases)
            for check in (check for checks in event.recorder.checks.values() for check in checks):
                if check.failure_info:
                    found.append(f"{event.label}: {check.failure_info.failure}\n{check.failure_info.code_sample}")
    return found, cases


@pytest.mark.slow
def test_all_calls_keep_the_contract(service: TestClient) -> None:
    found, cases = explore(service)
    assert not found, "\n\n".join(found)
    assert cases > 200


@pytest.mark.slow
def test_all_calls_for_an_existing_job_keep_the_contract(service: TestClient, sqlite_engine: Engine) -> None:
    job_id = post(service, grid(3))["id"]
    drive(sqlite_engine, job_id, steady, fits=4)
    claim(sqlite_engine, job_id)  # so that it stays cancelling once cancelled, and cannot be deleted
    found, cases = explore(service, job_id)
    assert not found, "\n\n".join(found)
    assert cases > 200
    assert service.get(f"/v1/jobs/{job_id}").json()["state"] == "cancelling"
