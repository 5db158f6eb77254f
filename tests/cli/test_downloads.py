"""`tunewell model`: what is written is whole and has the right digest, or nothing is."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_commands import run
from tests.support.service_double import JOB, JOB_ID, Answer, Service, answer

CONTENT = "the model" * 1000
MANIFEST: dict[str, Any] = {
    "job_id": JOB_ID,
    "formats": [{"format": "keras", "bytes": 9000, "sha256": hashlib.sha256(CONTENT.encode()).hexdigest()}],
    "left_out": {"onnx": "it cannot be converted"},
}


@pytest.fixture
def here(service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    service.on(f"GET {JOB}/model", answer(MANIFEST))
    service.on(f"GET {JOB}/model/keras", Answer(200, CONTENT))
    return tmp_path


def test_a_model_is_written_under_the_jobs_id(service: Service, here: Path) -> None:
    result = run(service.url, "model", JOB_ID)
    assert (result.exit_code, result.stdout.strip()) == (0, f"{JOB_ID}.keras")
    assert [file.name for file in here.iterdir()] == [f"{JOB_ID}.keras"]
    assert (here / f"{JOB_ID}.keras").read_text() == CONTENT


@pytest.mark.parametrize("output", ["mine.keras", "folder"])
def test_a_model_is_written_where_it_is_wanted(service: Service, here: Path, output: str) -> None:
    (here / "folder").mkdir()
    (here / "mine.keras").write_text("of another job")
    result = run(service.url, "model", JOB_ID, "--output", output, "--json")
    printed = json.loads(result.stdout)
    assert (printed["formats"], Path(printed["file"]).read_text()) == (MANIFEST["formats"], CONTENT)
    assert printed["file"] == ("mine.keras" if output == "mine.keras" else f"folder/{JOB_ID}.keras")


@pytest.mark.parametrize(
    "sent, code",
    [
        (Answer(200, CONTENT[1:]), 2),
        (Answer(404, {"title": "Not Found", "status": 404, "detail": "no such file"}), 2),
    ],
    ids=["damaged", "gone"],
)
def test_what_is_not_whole_leaves_the_file_that_was_there(
    service: Service, here: Path, sent: Answer, code: int
) -> None:
    service.on(f"GET {JOB}/model/keras", sent)
    (here / "mine.keras").write_text("the one before")
    assert run(service.url, "model", JOB_ID, "--output", "mine.keras").exit_code == code
    assert [(file.name, file.read_text()) for file in here.iterdir()] == [("mine.keras", "the one before")]


def test_a_format_that_there_is_not_and_a_folder_that_there_is_not_are_explained(service: Service, here: Path) -> None:
    lacking = run(service.url, "model", JOB_ID, "--format", "onnx")
    assert (lacking.exit_code, "it cannot be converted" in lacking.stderr) == (2, True)
    nowhere = run(service.url, "model", JOB_ID, "--output", "nowhere/mine.keras")
    assert (nowhere.exit_code, "nowhere/mine.keras" in nowhere.stderr) == (2, True)


def test_a_job_without_a_model_says_why(service: Service, here: Path) -> None:
    service.on(f"GET {JOB}/model", Answer(409, {"title": "Conflict", "status": 409, "detail": "The job is running"}))
    result = run(service.url, "model", JOB_ID)
    assert (result.exit_code, "The job is running" in result.stderr) == (2, True)
