"""`tunewell upload` and `tunewell datasets` against canned responses: what is sent, and what is printed."""

import base64
import hashlib
import json
from io import BytesIO
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile

import pytest

from app.cli.spec_file import suggest_name
from tests.cli.test_commands import run
from tests.support.service_double import Service, answer

FLOWERS = {
    "name": "flowers",
    "kind": "image",
    "task": "classification",
    "train_samples": 2936,
    "test_samples": 734,
    "shape": [64, 64, 3],
    "classes": 2,
    "class_names": ["daisy", "ro\x1bses"],
    "train_class_counts": [1506, 1430],
    "test_class_counts": [377, 357],
    "created_at": "2026-11-25T14:00:00Z",
    "warnings": ["3,670 images were resized to 64 by 64"],
}
TABLE = {"name": "sugar", "task": "regression", "train_samples": 354, "test_samples": 88, "shape": [10], "classes": 0}


def test_a_file_is_sent_as_it_is_with_its_hash(service: Service, tmp_path: Path) -> None:
    file = tmp_path / "My flowers.csv.gz"
    file.write_bytes(b"\x1f\x8b" + bytes(3_000_000))
    service.on("PUT /v1/datasets/My-flowers?target=kind&test_share=0.25&random_state=0", answer(FLOWERS, 201))
    options = ("--target", "kind", "--test-share", "0.25", "--random-state", "0")
    result = run(service.url, "upload", str(file), *options)
    assert result.exit_code == 0, result.stderr
    [sent] = service.asked
    assert sent.body == file.read_bytes()
    digest = base64.b64encode(hashlib.sha256(sent.body).digest()).decode()
    assert sent.headers["Repr-Digest"] == f"sha-256=:{digest}:"
    assert "Transfer-Encoding" not in sent.headers and "Content-Type" not in sent.headers
    assert "2,936 for training, 734 for the test" in result.stdout
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["daisy", "1506", "377"] in rows and ["ro", "ses", "1430", "357"] in rows
    assert "Warning: 3,670 images were resized to 64 by 64" in result.stderr


def test_a_folder_is_sent_as_an_archive(service: Service, tmp_path: Path) -> None:
    for name in ("b/2.png", "a/1.png", "a/0.png"):
        (tmp_path / "flowers" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "flowers" / name).write_bytes(name.encode())
    service.on("PUT /v1/datasets/f1?dry_run=true", answer(FLOWERS))
    result = run(service.url, "upload", str(tmp_path / "flowers"), "--name", "f1", "--dry-run")
    assert result.exit_code == 0 and result.stdout.startswith("Not stored: flowers: images of 64x64x3")
    with ZipFile(BytesIO(service.asked[0].body)) as archive:
        assert archive.namelist() == ["a/0.png", "a/1.png", "b/2.png"]
        assert archive.read("b/2.png") == b"b/2.png"
        assert {one.compress_type for one in archive.infolist()} == {ZIP_STORED}


def test_a_busy_service_gets_the_whole_file_again(service: Service, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"a,b\n1,2\n" * 1000)
    busy = {"title": "Service Unavailable", "status": 503}
    service.on("PUT /v1/datasets/t", answer(busy, 503, Retry_After="0.1"), answer(TABLE, 201))
    result = run(service.url, "upload", str(tmp_path / "t.csv"))
    assert result.exit_code == 0 and "rows of 10 numbers" in result.stdout
    assert [one.body for one in service.asked] == [(tmp_path / "t.csv").read_bytes()] * 2


def test_rows_and_columns_that_are_wrong_are_printed(service: Service, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n")
    errors = [
        {"pointer": "", "row": 17, "column": "age", "message": "'n/a' is no number"},
        {"pointer": "", "row": 212, "column": None, "message": "19 cells where the header has 20"},
        {"pointer": "/target", "message": "no column 'churned'"},
        {"pointer": "", "file": "train/ro\x1bses/1.png", "message": "not a PNG or JPEG image"},
    ]
    problem = {"title": "Unprocessable Content", "status": 422, "detail": "4 errors were found.", "errors": errors}
    service.on("PUT /v1/datasets/t", answer(problem, 422, Content_Type="application/problem+json"))
    result = run(service.url, "upload", str(tmp_path / "t.csv"))
    assert result.exit_code == 2 and not result.stdout
    assert result.stderr.splitlines()[-5:] == [
        "Rejected: 4 errors were found.",
        "  row 17, column age: 'n/a' is no number",
        "  row 212: 19 cells where the header has 20",
        "  /target: no column 'churned'",
        "  file train/ro ses/1.png: not a PNG or JPEG image",
    ]
    assert json.loads(run(service.url, "upload", str(tmp_path / "t.csv"), "--json").stdout)["errors"] == errors


def test_no_space_on_the_service_is_said(service: Service, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n")
    problem = {"title": "Insufficient Storage", "status": 507, "detail": "The disk has too little free space."}
    service.on("PUT /v1/datasets/t", answer(problem, 507))
    result = run(service.url, "upload", str(tmp_path / "t.csv"))
    assert result.exit_code == 2 and result.stderr.endswith("Rejected: The disk has too little free space.\n")


def test_a_file_that_is_not_there(service: Service, tmp_path: Path) -> None:
    result = run(service.url, "upload", str(tmp_path / "none.csv"))
    assert (result.exit_code, result.stderr) == (2, f"{tmp_path / 'none.csv'}: No such file or directory\n")
    assert not service.asked


def test_data_sets_are_listed(service: Service) -> None:
    service.on("GET /v1/datasets?page_size=100", answer({"items": [FLOWERS, TABLE], "next_page_token": None}))
    result = run(service.url, "datasets")
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["name", "task", "training", "test", "shape", "classes", "created"],
        ["flowers", "classification", "2,936", "734", "64x64x3", "2", "2026-11-25T14:00:00"],
        ["sugar", "regression", "354", "88", "10", "-", "built", "in"],
    ]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/data/churn.csv.gz", "churn"),
        ("flowers/", "flowers"),
        ("a b (1).ZIP", "a-b-1"),
        ("--.npz", "data"),
        (f"{'x' * 80}.npz", "x" * 64),
        ("v1.2_final.npz", "v1-2_final"),
    ],
)
def test_the_name_is_the_files(path: str, name: str) -> None:
    assert suggest_name(path) == name
