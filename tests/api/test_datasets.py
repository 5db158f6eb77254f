"""Uploads of data sets: what is stored, what is rejected, and that nothing is left of what was rejected."""

import base64
import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from app.api import uploads
from app.api.datasets import get_converter
from app.intake.answers import Options
from app.intake.run import convert
from app.main import create_app
from app.tuning import spool, storage
from app.tuning.database import writing
from app.tuning.housekeeping import LEFTOVER_AGE, remove_leftovers
from app.tuning.jobs import datasets
from app.tuning.search.datasets import DATASETS
from app.tuning.settings import settings
from tests.conftest import IdleHousekeeper
from tests.support.driving import drive, grid, post, steady
from tests.support.uploads import convert_here, make_npz, put, upload

FLOWERS = make_npz()


@pytest.fixture
def api(engine: Engine, home: Path) -> Iterator[TestClient]:
    """The service, which checks uploads in its own process; nothing may be left of them afterwards."""
    app = create_app(engine, IdleHousekeeper)
    app.dependency_overrides[get_converter] = lambda: convert_here
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client
    assert list_leftovers(home) == []


def list_leftovers(home: Path) -> list[Path]:
    folder = home / "uploads"
    return list(folder.iterdir()) if folder.exists() else []


def stored_files() -> list[str]:
    return sorted(entry.key for entry in storage.list_files("datasets"))


def setting(monkeypatch: pytest.MonkeyPatch, **values: Any) -> None:
    for name, value in values.items():
        monkeypatch.setenv(f"TUNEWELL_{name.upper()}", str(value))
    settings.cache_clear()


def test_an_uploaded_file_is_a_data_set_in_a_child_process_s_words(sqlite_engine: Engine, home: Path) -> None:
    assert get_converter.__module__ == "app.api.datasets" and convert is not convert_here
    with TestClient(create_app(sqlite_engine, IdleHousekeeper)) as client:
        response = put(client, "flowers", FLOWERS)
        assert response.status_code == 201, response.text
        found = response.json()
        assert response.headers["Location"] == "/v1/datasets/flowers"
        assert response.headers["ETag"] == f'"{found["sha256"]}"'
        assert (found["kind"], found["shape"], found["classes"]) == ("image", [8, 8, 1], 3)
        assert (found["train_samples"], found["test_samples"]) == (48, 12)
        assert found["source"] == {
            "format": "npz",
            "bytes": len(FLOWERS),
            "sha256": hashlib.sha256(FLOWERS).hexdigest(),
        }
        assert client.get("/v1/datasets/flowers").json() == found
        folder = f"datasets/{found['sha256']}"
        assert stored_files() == sorted(f"{folder}/{name}" for name in (*datasets.ARRAYS, datasets.PREVIEW))
        picture = client.get("/v1/datasets/flowers/preview")
        assert picture.headers["Content-Type"] == "image/png" and picture.content.startswith(b"\x89PNG")
    assert list_leftovers(home) == []


def test_own_data_sets_are_listed_after_the_built_in_ones_the_newest_first(api: TestClient) -> None:
    for index in range(3):
        upload(api, f"own-{index}", make_npz(index))
    first = api.get("/v1/datasets", params={"page_size": 2}).json()
    assert [one["name"] for one in first["items"]] == [*DATASETS, "own-2", "own-1"]
    second = api.get("/v1/datasets", params={"page_token": first["next_page_token"]}).json()
    assert [one["name"] for one in second["items"]] == ["own-0"] and second["next_page_token"] is None


def test_a_name_means_the_same_content_until_it_is_deleted(api: TestClient) -> None:
    found = upload(api, "flowers", FLOWERS)
    again = put(api, "flowers", FLOWERS)
    assert (again.status_code, again.json()) == (200, found)
    other = put(api, "flowers", make_npz(1))
    assert other.status_code == 409 and "another name" in other.json()["detail"]
    upload(api, "same-content", FLOWERS)
    assert api.delete("/v1/datasets/flowers").status_code == 204
    assert len(stored_files()) == 5  # the other data set's
    assert api.delete("/v1/datasets/same-content").status_code == 204
    assert stored_files() == []
    assert api.delete("/v1/datasets/flowers").status_code == api.get("/v1/datasets/flowers").status_code == 404
    assert upload(api, "flowers", make_npz(1))["sha256"] != found["sha256"]


@pytest.mark.parametrize("name", DATASETS)
def test_built_in_data_sets_are_neither_replaced_nor_deleted(name: str, sqlite_client: TestClient) -> None:
    assert put(sqlite_client, name, FLOWERS).status_code == 409
    assert sqlite_client.delete(f"/v1/datasets/{name}").status_code == 409
    assert sqlite_client.get(f"/v1/datasets/{name}").json()["built_in"] is True


def test_a_dry_run_shows_what_would_be_stored_and_stores_nothing(api: TestClient) -> None:
    found = put(api, "flowers", FLOWERS, dry_run="true", test_share="0.5")
    assert (found.status_code, found.json()["train_samples"], found.json()["created_at"]) == (200, 30, None)
    assert stored_files() == [] and api.get("/v1/datasets/flowers").status_code == 404


REJECTED: dict[str, tuple[dict[str, Any], int]] = {
    "empty": ({"content": b""}, 422),
    "not data": ({"content": b"PK\x03\x04 no archive"}, 422),
    "hdf5": ({"content": b"\x89HDF\r\n\x1a\n"}, 415),
    "json": ({"content": FLOWERS, "headers": {"Content-Type": "application/json"}}, 415),
    "csv by name": ({"content": FLOWERS, "headers": {"Content-Type": "text/csv"}}, 415),
    "encoded": ({"content": FLOWERS, "headers": {"Content-Encoding": "gzip"}}, 415),
    "damaged on the way": ({"content": FLOWERS, "headers": {"Repr-Digest": "sha-256=:AAAA:"}}, 422),
    "unknown option": ({"content": FLOWERS, "shuffle": "1"}, 422),
    "share": ({"content": FLOWERS, "test_share": "0.9"}, 422),
    "name": ({"name": "a b", "content": FLOWERS}, 422),
}


@pytest.mark.parametrize("case", REJECTED)
def test_nothing_is_left_of_a_rejected_file(case: str, api: TestClient) -> None:
    arguments, status = REJECTED[case]
    response = put(api, **{"name": "flowers", **arguments})
    assert (response.status_code, response.headers["Content-Type"]) == (status, "application/problem+json")
    assert response.json()["detail"] and stored_files() == []
    assert api.get("/v1/datasets").json()["items"][-1]["built_in"]


def test_a_digest_that_is_right_is_accepted(api: TestClient) -> None:
    digest = base64.b64encode(hashlib.sha256(FLOWERS).digest()).decode()
    assert put(api, "flowers", FLOWERS, {"Repr-Digest": f"md5=:AA==:, sha-256=:{digest}:"}).status_code == 201


@pytest.mark.parametrize("chunked", [False, True])
def test_a_file_over_the_limit_is_rejected(chunked: bool, api: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    setting(monkeypatch, upload_bytes=len(FLOWERS))
    upload(api, "flowers", FLOWERS)
    larger = FLOWERS + b"\0"
    response = put(api, "larger", iter([larger]) if chunked else larger)
    assert response.status_code == 413 and "TUNEWELL_UPLOAD_BYTES" in response.json()["detail"]


def test_a_storage_that_is_full_takes_nothing_more(api: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    setting(monkeypatch, storage_bytes=upload(api, "flowers", FLOWERS)["bytes"])
    before = stored_files()
    assert put(api, "more", make_npz(1)).status_code == 507
    monkeypatch.setattr(spool, "RESERVED_BYTES", 2**60)
    assert put(api, "more", make_npz(1)).status_code == 507
    assert stored_files() == before


def test_a_file_is_not_checked_for_the_first_time_by_a_fifth_upload(
    api: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "MAX_UPLOADS", 0)
    response = put(api, "flowers", FLOWERS)
    assert response.status_code == 503 and response.headers["Retry-After"]


def test_another_s_long_check_is_waited_for_a_while(
    engine: Engine, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "CHECK_WAIT_SECONDS", 0.2)
    begun, over = threading.Event(), threading.Event()

    def check_slowly(file: Path, folder: Path, options: Options, timeout: float) -> Any:
        begun.set()
        over.wait(30)
        return convert_here(file, folder, options, timeout)

    app = create_app(engine, IdleHousekeeper)
    app.dependency_overrides[get_converter] = lambda: check_slowly
    with TestClient(app, raise_server_exceptions=False) as client:
        first: list[int] = []
        thread = threading.Thread(target=lambda: first.append(put(client, "flowers", FLOWERS).status_code))
        thread.start()
        assert begun.wait(30)
        assert put(client, "others", make_npz(1)).status_code == 503
        over.set()
        thread.join(30)
        assert first == [201]


def test_silence_ends_an_upload(home: Path, monkeypatch: pytest.MonkeyPatch, sqlite_engine: Engine) -> None:
    monkeypatch.setattr(uploads, "SILENCE_SECONDS", 0.1)
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        if not statuses and not receive_calls:
            receive_calls.append(1)
            return {"type": "http.request", "body": FLOWERS[:1000], "more_body": True}
        await anyio.sleep(30)
        raise AssertionError

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    receive_calls: list[int] = []
    app = create_app(sqlite_engine, IdleHousekeeper)
    scope = {
        "type": "http",
        "method": "PUT",
        "path": "/v1/datasets/flowers",
        "raw_path": b"/v1/datasets/flowers",
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1")],
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 1),
        "scheme": "http",
        "http_version": "1.1",
        "root_path": "",
    }

    async def run() -> None:
        async with app.router.lifespan_context(app):
            await app(scope, receive, send)

    anyio.run(run)
    assert statuses == [408] and list_leftovers(home) == []


def test_two_uploads_of_one_name_at_once_make_one_data_set(api: TestClient) -> None:
    gate = threading.Barrier(2)
    found: list[tuple[int, str]] = []

    def send(seed: int) -> None:
        gate.wait(30)
        response = put(api, "flowers", make_npz(seed))
        found.append((response.status_code, response.json().get("sha256", "")))

    threads = [threading.Thread(target=send, args=(seed,)) for seed in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(status for status, _ in found) == [201, 409]
    assert api.get("/v1/datasets/flowers").json()["sha256"] == max(found, key=lambda one: len(one[1]))[1]


def test_a_job_holds_its_data_set_until_it_has_ended(engine: Engine, api: TestClient) -> None:
    found = upload(api, "flowers", FLOWERS)
    job = post(api, grid(2, dataset={"name": "flowers"}))
    assert job["spec"]["dataset"] == {
        "name": "flowers",
        "train_samples": None,
        "test_samples": None,
        "sha256": found["sha256"],
    }
    assert api.get("/v1/datasets/flowers").json()["jobs"] == 1
    refused = api.delete("/v1/datasets/flowers")
    assert refused.status_code == 409 and "1 unfinished job" in refused.json()["detail"]
    drive(engine, job["id"], steady)
    assert api.delete("/v1/datasets/flowers").status_code == 204
    again = api.post("/v1/jobs", json=grid(1, dataset={"name": "flowers"}))
    assert again.status_code == 422 and again.json()["errors"][0]["pointer"] == "/dataset/name"
    extended = api.post(f"/v1/jobs/{job['id']}/extend", json={"param_grid": {"learning_rate": [0.0001, 0.0002, 0.3]}})
    assert extended.status_code == 409 and "upload" in extended.json()["detail"]


@pytest.mark.parametrize(
    ("dataset", "pointer", "told"),
    [
        ({"name": "flowers", "train_samples": 49}, "/dataset/train_samples", "48"),
        ({"name": "flowers", "test_samples": 13}, "/dataset/test_samples", "12"),
        ({"name": "flowers", "sha256": "0" * 64}, "/dataset/sha256", "other content"),
        ({"name": "mnist", "sha256": "0" * 64}, "/dataset/sha256", "built in"),
        ({"name": "flowers", "facts": {"name": "flowers"}}, "/dataset/facts", ""),
        ({"name": "roses"}, "/dataset/name", "'flowers'"),
    ],
)
def test_a_job_s_samples_are_those_of_its_data_set(
    dataset: dict[str, Any], pointer: str, told: str, api: TestClient
) -> None:
    upload(api, "flowers", FLOWERS)
    response = api.post("/v1/jobs", json=grid(1, dataset=dataset, evaluation={"cv": 2}))
    assert response.status_code == 422, response.text
    [error] = [one for one in response.json()["errors"] if one["pointer"].startswith(pointer)][:1]
    assert told in error["message"]
    assert api.post("/v1/preview", json=grid(1, dataset=dataset, evaluation={"cv": 2})).status_code == 422


def test_posting_beside_deleting_leaves_no_job_without_its_data(engine: Engine, api: TestClient) -> None:
    for attempt in range(5):
        upload(api, "flowers", FLOWERS)
        gate = threading.Barrier(2)
        statuses: dict[str, int] = {}

        def delete(gate: threading.Barrier = gate, statuses: dict[str, int] = statuses) -> None:
            gate.wait(30)
            statuses["delete"] = api.delete("/v1/datasets/flowers").status_code

        thread = threading.Thread(target=delete)
        thread.start()
        gate.wait(30)
        posted = api.post("/v1/jobs", json=grid(1, dataset={"name": "flowers"}))
        thread.join(30)
        assert (posted.status_code, statuses["delete"]) in ((202, 409), (422, 204)), attempt
        assert len(stored_files()) == (5 if posted.status_code == 202 else 0)
        if posted.status_code == 202:
            assert api.post(f"/v1/jobs/{posted.json()['id']}/cancel").status_code == 202


def test_housekeeping_removes_what_a_killed_process_has_left(
    engine: Engine, api: TestClient, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = upload(api, "flowers", FLOWERS)["sha256"]
    orphan = "0" * 64
    for name in (*datasets.ARRAYS, f"{datasets.PREVIEW}#1"):
        file = home / "storage" / datasets.make_folder(orphan) / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"half")
    (home / "uploads" / "left").mkdir(parents=True)
    (home / "uploads" / "left" / spool.SPOOL_LOCK).touch()
    monkeypatch.setattr(spool, "YOUNG_SECONDS", -1.0)
    remove_leftovers(engine)
    assert {entry.key.split("/")[1] for entry in storage.list_files("datasets")} == {kept, orphan}  # not old yet
    monkeypatch.setattr("app.tuning.housekeeping.LEFTOVER_AGE", -LEFTOVER_AGE)
    with spool.open_spool() as in_use:
        remove_leftovers(engine)
        assert in_use.exists()
    assert list(storage.list_folders("datasets")) == [kept]


def test_files_that_are_deleted_before_their_row_is_written_are_put_again(
    engine: Engine, api: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert = datasets.insert_dataset
    taken: list[str] = []

    def take_away(session: Any, facts: Any, shown: Any, sha256: str, size: int) -> Any:
        if not taken:
            taken.append(sha256)
            storage.delete_folder(datasets.make_folder(sha256))
        return insert(session, facts, shown, sha256, size)

    monkeypatch.setattr(datasets, "insert_dataset", take_away)
    found = upload(api, "flowers", FLOWERS)
    assert taken == [found["sha256"]] and len(stored_files()) == 5


def test_a_storage_that_is_away_is_said_and_degrades_the_service(
    api: TestClient, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(api, "flowers", FLOWERS)
    (home / "none").write_text("a file where the folder should be")
    setting(monkeypatch, storage_url=(home / "none").as_uri())
    assert api.get("/readyz").json()["checks"]["storage"] == "unavailable"
    for response in (put(api, "more", make_npz(1)), api.get("/v1/datasets/flowers/preview")):
        assert response.status_code == 503 and "storage" in response.json()["detail"]
        assert str(home) not in response.text
    assert api.get("/v1/datasets/flowers").status_code == 200
    assert api.get("/v1/datasets/more").status_code == 404
    assert api.delete("/v1/datasets/flowers").status_code == 204


def test_the_lock_of_a_content_keeps_its_deletion_out(engine: Engine, api: TestClient) -> None:
    sha256 = upload(api, "flowers", FLOWERS)["sha256"]
    done = threading.Event()

    def delete() -> None:
        api.delete("/v1/datasets/flowers")
        done.set()

    with writing(engine) as session:
        assert datasets.hold_content(session, sha256)
        thread = threading.Thread(target=delete)
        thread.start()
        assert not done.wait(0.5)
        assert len(stored_files()) == 5
    thread.join(30)
    assert done.is_set() and stored_files() == []
