"""A job's model over REST: its manifest, its files and ranges of them, and why there is none."""

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from app.tuning.database import writing
from app.tuning.jobs import outcomes
from app.tuning.jobs.attempts import Finished, Result
from app.tuning.saved_models import SavedModel, name_model_file
from app.tuning.settings import settings
from tests.support import driving
from tests.support.driving import ENVIRONMENT, claim, drive, grid, post, steady

CONTENT = bytes(range(256)) * 400
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MODEL: SavedModel = {
    "files": [{"format": "keras", "bytes": len(CONTENT), "sha256": SHA256}],
    "left_out": {"onnx": "it would classify 2 of 360 test samples differently"},
    "input": {"shape": [8, 8, 1], "dtype": "uint8", "scaling": "raw pixels"},
    "output": "probabilities",
    "class_names": list("0123456789"),
    "environment": ENVIRONMENT,
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("TUNEWELL_HOME", str(tmp_path))
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()


def end_with_model(engine: Engine, job_id: str, model: SavedModel | None = MODEL) -> None:
    """Train the job's folds, and its refit with a model."""
    drive(engine, job_id, steady, fits=3)
    refit = claim(engine, job_id)
    assert refit and refit.is_refit
    with writing(engine) as session:
        result = Result(0.975, 0.1, 2.0, 0.25, ENVIRONMENT, model=model)
        assert outcomes.record(session, refit, Finished(result))


@pytest.fixture
def job_id(sqlite_client: TestClient, sqlite_engine: Engine, home: Path) -> str:
    """An ended job with a model in the storage."""
    made = str(post(sqlite_client, grid(1, name="first"))["id"])
    end_with_model(sqlite_engine, made)
    file = home / "storage" / name_model_file(UUID(made), MODEL["files"][0])
    file.parent.mkdir(parents=True)
    file.write_bytes(CONTENT)
    return made


def test_the_manifest_says_what_there_is_and_what_it_scored(client: TestClient, engine: Engine) -> None:
    job_id = str(post(client, grid(1))["id"])
    end_with_model(engine, job_id)
    found = client.get(f"/v1/jobs/{job_id}/model").json()
    best = client.get(f"/v1/jobs/{job_id}/best").json()
    assert {name: found[name] for name in ("trial", "params", "test", "environment")} == {
        name: best[name] for name in ("trial", "params", "test", "environment")
    }
    href = f"/v1/jobs/{job_id}/model/keras"
    assert found["formats"] == [{**MODEL["files"][0], "href": href, "is_program": False}]
    for name in ("left_out", "input", "output", "class_names"):
        assert found[name] == MODEL[name]


def test_a_file_comes_whole_with_its_digest(sqlite_client: TestClient, job_id: str) -> None:
    answer = sqlite_client.get(f"/v1/jobs/{job_id}/model/keras", headers={"Accept-Encoding": "gzip"})
    assert (answer.status_code, answer.content) == (200, CONTENT)
    digest = base64.b64encode(hashlib.sha256(CONTENT).digest()).decode()
    expected = {
        "ETag": f'"{SHA256}"',
        "Content-Length": str(len(CONTENT)),
        "Repr-Digest": f"sha-256=:{digest}:",
        "Accept-Ranges": "bytes",
        "Content-Type": "application/octet-stream",
        "Content-Disposition": 'attachment; filename="first.keras"',
    }
    assert {name: answer.headers[name] for name in expected} == expected
    assert "Content-Encoding" not in answer.headers


def test_head_has_the_headers(sqlite_client: TestClient, job_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    get = sqlite_client.get(f"/v1/jobs/{job_id}/model/keras")
    head = sqlite_client.head(f"/v1/jobs/{job_id}/model/keras")
    assert (head.status_code, head.content, head.headers) == (200, b"", get.headers)


@pytest.mark.parametrize(
    "asked, first, last",
    [
        ("bytes=0-0", 0, 0),
        ("bytes=100-199", 100, 199),
        ("bytes=102000-", 102000, len(CONTENT) - 1),
        ("bytes=102000-999999", 102000, len(CONTENT) - 1),
        ("bytes=-10", len(CONTENT) - 10, len(CONTENT) - 1),
        ("bytes=-999999", 0, len(CONTENT) - 1),
    ],
)
def test_a_range_is_a_part(sqlite_client: TestClient, job_id: str, asked: str, first: int, last: int) -> None:
    answer = sqlite_client.get(f"/v1/jobs/{job_id}/model/keras", headers={"Range": asked})
    assert (answer.status_code, answer.content) == (206, CONTENT[first : last + 1])
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{len(CONTENT)}"
    assert answer.headers["Content-Length"] == str(last - first + 1)


@pytest.mark.parametrize("asked", [f"bytes={len(CONTENT)}-", "bytes=-0", "bytes=999999-1000000"])
def test_a_range_beyond_the_end_is_rejected(sqlite_client: TestClient, job_id: str, asked: str) -> None:
    answer = sqlite_client.get(f"/v1/jobs/{job_id}/model/keras", headers={"Range": asked})
    assert (answer.status_code, answer.headers["Content-Range"]) == (416, f"bytes */{len(CONTENT)}")
    assert f"0-{len(CONTENT) - 1}" in answer.json()["detail"]


@pytest.mark.parametrize("asked", ["bytes=5-2", "bytes=0-1,5-6", "bytes=-", "lines=1-2", "bytes=a-b"])
def test_what_is_no_single_range_gets_the_whole_file(sqlite_client: TestClient, job_id: str, asked: str) -> None:
    answer = sqlite_client.get(f"/v1/jobs/{job_id}/model/keras", headers={"Range": asked})
    assert (answer.status_code, answer.content) == (200, CONTENT)


@pytest.mark.parametrize("tag, status", [(SHA256, 206), ("0" * 64, 200)])
def test_a_range_of_another_file_gets_the_whole_file(
    sqlite_client: TestClient, job_id: str, tag: str, status: int
) -> None:
    headers = {"Range": "bytes=0-9", "If-Range": f'"{tag}"'}
    assert sqlite_client.get(f"/v1/jobs/{job_id}/model/keras", headers=headers).status_code == status


def test_a_known_file_is_not_sent_again(sqlite_client: TestClient, job_id: str) -> None:
    headers = {"If-None-Match": f'"{SHA256}"'}
    answer = sqlite_client.get(f"/v1/jobs/{job_id}/model/keras", headers=headers)
    assert (answer.status_code, answer.content, answer.headers["ETag"]) == (304, b"", f'"{SHA256}"')


def test_a_format_that_is_left_out_says_why(sqlite_client: TestClient, job_id: str) -> None:
    answer = sqlite_client.get(f"/v1/jobs/{job_id}/model/onnx")
    assert (answer.status_code, MODEL["left_out"]["onnx"] in answer.json()["detail"]) == (404, True)
    assert sqlite_client.get(f"/v1/jobs/{job_id}/model/joblib").status_code == 404
    assert sqlite_client.get(f"/v1/jobs/{job_id}/model/pickle").status_code == 422


def test_a_file_that_the_storage_has_not_is_unavailable(
    sqlite_client: TestClient, sqlite_engine: Engine, home: Path
) -> None:
    job_id = str(post(sqlite_client, grid(1))["id"])
    end_with_model(sqlite_engine, job_id)
    answer = sqlite_client.get(f"/v1/jobs/{job_id}/model/keras")
    assert (answer.status_code, "TUNEWELL_STORAGE_URL" in answer.json()["detail"]) == (503, True)


def absent(client: TestClient, job_id: str) -> str:
    answer = client.get(f"/v1/jobs/{job_id}/model")
    assert answer.status_code == 409
    return str(answer.json()["detail"])


def test_why_there_is_no_model(client: TestClient, engine: Engine) -> None:
    running = str(post(client, grid(1))["id"])
    assert "queued" in absent(client, running)
    end_with_model(engine, running, None)
    assert "version" in absent(client, running)
    without = str(post(client, grid(1, evaluation={"refit": False}))["id"])
    drive(engine, without, steady)
    assert "`refit`" in absent(client, without)
    unkept = str(post(client, grid(1, evaluation={"keep_model": False}))["id"])
    drive(engine, unkept, steady)
    assert "`keep_model`" in absent(client, unkept)
    failed = str(post(client, grid(1))["id"])
    drive(engine, failed, lambda claimed: None)
    assert "failed" in absent(client, failed)
    assert client.get(f"/v1/jobs/{UUID(int=0)}/model").status_code == 404


def test_a_job_that_goes_on_has_no_model_until_it_has_ended_again(
    sqlite_client: TestClient, sqlite_engine: Engine
) -> None:
    search = {"strategy": "random", "n_iter": 1, "param_distributions": driving.DRAWN}
    job_id = str(post(sqlite_client, {"dataset": {"name": "digits"}, "search": search})["id"])
    end_with_model(sqlite_engine, job_id)
    assert sqlite_client.get(f"/v1/jobs/{job_id}/model").status_code == 200
    assert sqlite_client.post(f"/v1/jobs/{job_id}/extend", json={"n_iter": 2}).status_code == 202
    assert "running" in absent(sqlite_client, job_id)


@pytest.mark.parametrize("kind", [{"cv": 2}, {"validation_split": 0.5}])
def test_without_a_refit_no_model_is_kept(sqlite_client: TestClient, kind: dict[str, Any]) -> None:
    def answer(**evaluation: Any) -> Any:
        return sqlite_client.post("/v1/jobs", json=grid(1, evaluation={**kind, **evaluation}))

    assert answer().json()["spec"]["evaluation"]["keep_model"] is True
    assert answer(keep_model=False).json()["spec"]["evaluation"]["keep_model"] is False
    shown = answer(refit=False).json()["spec"]
    assert shown["evaluation"]["keep_model"] is False
    assert sqlite_client.post("/v1/jobs", json=shown).status_code == 202
    rejected = answer(refit=False, keep_model=True)
    assert rejected.status_code == 422
    assert [one["pointer"] for one in rejected.json()["errors"]] == ["/evaluation/keep_model"]
