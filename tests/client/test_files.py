"""What is uploaded and downloaded."""

import hashlib
import io
import sys
import zipfile
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

import tunewell
from tests.client.conftest import Kind, settle
from tests.support.service_double import JOB, JOB_ID, Answer, Service, answer, job
from tunewell import tables

STORED = answer({"name": "mine", "train_samples": 4}, 201)
CONTENT = "the model's bytes"
DIGEST = hashlib.sha256(CONTENT.encode()).hexdigest()


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunewell.flows.SECONDS_BETWEEN_STREAMS", 0.02)


def upload(kind: Kind, service: Service, data: Any, query: str = "", **options: Any) -> bytes:
    """The body that arrived."""
    service.on(f"PUT /v1/datasets/mine{query}", STORED)

    async def body(client: Any) -> None:
        assert (await settle(client.upload("mine", data, **options)))["train_samples"] == 4

    kind.go(service.url, body)
    return service.asked[-1].body


def test_a_file_is_sent_as_it_is(kind: Kind, service: Service, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes(b"x,y\n1,2\n" * 300_000)
    query = "?target=y&exclude=a%2Cb&dry_run=true&image_size=28x28"
    sent = upload(kind, service, file, query, target="y", exclude=["a", "b"], dry_run=True, image_size=(28, 28))
    assert sent == file.read_bytes()
    headers = service.asked[-1].headers
    assert headers["Content-Length"] == str(len(sent))
    assert headers["Repr-Digest"].startswith("sha-256=:")
    assert "Transfer-Encoding" not in headers


def test_arrays_are_sent_as_npz(kind: Kind, service: Service) -> None:
    x, y = np.arange(8.0).reshape(4, 2), ["a", "b", "a", "b"]
    for data, names in (((x, y), ("x", "y")), ((x, y, x, y), ("x_train", "y_train", "x_test", "y_test"))):
        with np.load(io.BytesIO(upload(kind, service, data))) as arrays:
            assert tuple(arrays) == names
            assert np.array_equal(arrays[names[0]], x) and arrays[names[1]].tolist() == y
    with np.load(io.BytesIO(upload(kind, service, {"images": x, "labels": np.array(y, dtype=object)}))) as arrays:
        assert arrays["labels"].dtype.kind == "U"


def test_a_folder_is_sent_as_a_zip(kind: Kind, service: Service, tmp_path: Path) -> None:
    for name in ("b/2.png", "a/1.png"):
        (tmp_path / "pictures" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "pictures" / name).write_bytes(name.encode())
    with zipfile.ZipFile(io.BytesIO(upload(kind, service, tmp_path / "pictures"))) as archive:
        assert archive.namelist() == ["a/1.png", "b/2.png"]


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        ("/no/such/file.csv", FileNotFoundError, "file.csv"),
        ([np.zeros(2)], TypeError, "x_train"),
        ({"x": np.array([1j])}, TypeError, "complex128"),
    ],
)
def test_what_cannot_be_sent_is_not_sent(service: Service, data: Any, error: type[Exception], words: str) -> None:
    with tunewell.Client(service.url) as client, pytest.raises(error, match=words):
        client.upload("mine", data)
    assert not service.asked


def test_an_interrupted_upload_is_sent_again(kind: Kind, service: Service, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    service.on("PUT /v1/datasets/mine", Answer(0), answer({"title": "Busy", "status": 503}, 503), STORED)
    kind.go(service.url, lambda client: settle_upload(client, tmp_path / "a.csv"))
    assert [asked.body for asked in service.asked] == [b"x,y\n1,2\n"] * 3


async def settle_upload(client: Any, file: Path) -> None:
    await settle(client.upload("mine", file))


@pytest.mark.parametrize("status", [404, 405])
def test_an_older_service_is_named(kind: Kind, service: Service, status: int) -> None:
    detail = "No such path; GET /openapi.json lists the known ones." if status == 404 else "Allowed methods: GET."
    service.on("PUT /v1/datasets/mine", Answer(status, {"title": "x", "status": status, "detail": detail}))

    async def body(client: Any) -> None:
        with pytest.raises(tunewell.NotServed, match="has no PUT /v1/datasets/mine: it is older"):
            await settle(client.upload("mine", (np.zeros((2, 2)), [0, 1])))

    kind.go(service.url, body)


def test_a_rejected_file_names_rows_and_columns(service: Service) -> None:
    errors = [{"pointer": "", "row": 17, "column": "age", "message": "'n/a' is no number"}]
    service.on(
        "PUT /v1/datasets/mine", Answer(422, {"title": "x", "status": 422, "detail": "1 cell", "errors": errors})
    )
    with tunewell.Client(service.url) as client, pytest.raises(tunewell.RequestRejected) as raised:
        client.upload("mine", (np.zeros((2, 2)), [0, 1]))
    assert str(raised.value) == "1 cell\n  row 17, column age: 'n/a' is no number"


def model_of(service: Service, *files: str, sha256: str = DIGEST) -> None:
    """Let the job have a model in these formats."""
    formats = [{"format": name, "bytes": len(CONTENT), "sha256": sha256, "href": "x"} for name in files]
    service.on(f"GET {JOB}", answer(job("succeeded", 5)))
    service.on(f"GET {JOB}/model", answer({"job_id": JOB_ID, "formats": formats}))


def test_a_download_that_breaks_off_asks_for_the_rest(kind: Kind, service: Service, tmp_path: Path) -> None:
    model_of(service, "keras")
    tag = {"ETag": '"7"'}
    cut = Answer(200, CONTENT[:5], {**tag, "Content-Length": str(len(CONTENT))})
    service.on(f"GET {JOB}/model/keras", cut, Answer(0), Answer(206, CONTENT[5:], tag))

    async def body(client: Any) -> Path:
        found: Path = await settle((await settle((await settle(client.job(JOB_ID))).model())).download(tmp_path))
        return found

    path = kind.go(service.url, body)
    assert path == tmp_path / f"{JOB_ID}.keras" and path.read_text() == CONTENT
    asked = [(one.headers.get("Range"), one.headers.get("If-Range")) for one in service.asked[2:]]
    assert asked == [(None, None), ("bytes=5-", '"7"'), ("bytes=5-", '"7"')]
    assert [*tmp_path.iterdir()] == [path]


def test_another_file_meanwhile_is_fetched_whole(kind: Kind, service: Service, tmp_path: Path) -> None:
    model_of(service, "keras")
    cut = Answer(200, "older", {"ETag": '"6"', "Content-Length": "99"})
    service.on(f"GET {JOB}/model/keras", cut, Answer(200, CONTENT, {"ETag": '"7"'}))

    async def body(client: Any) -> None:
        model = await settle((await settle(client.job(JOB_ID))).model())
        assert model.formats == ["keras"]
        assert (await settle(model.download(tmp_path / "m.keras"))).read_text() == CONTENT

    kind.go(service.url, body)


def test_damaged_content_is_not_kept(kind: Kind, service: Service, tmp_path: Path) -> None:
    model_of(service, "keras", sha256="0" * 64)
    service.on(f"GET {JOB}/model/keras", Answer(200, CONTENT))

    async def body(client: Any) -> None:
        model = await settle((await settle(client.job(JOB_ID))).model())
        with pytest.raises(tunewell.Error, match="SHA-256"):
            await settle(model.download(tmp_path))
        with pytest.raises(ValueError, match="it has keras"):
            await settle(model.download(tmp_path, "onnx"))

    kind.go(service.url, body)
    assert not [*tmp_path.iterdir()]


def test_an_estimator_is_loaded(kind: Kind, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The double sends text, so the file is replaced on its way to joblib."""
    model_of(service, "joblib")
    service.on(f"GET {JOB}/model/joblib", Answer(200, CONTENT))
    fitted = KNeighborsClassifier(1).fit([[0.0], [1.0]], [0, 1])
    monkeypatch.setattr(joblib, "load", lambda path: fitted if Path(path).read_text() == CONTENT else None)

    async def body(client: Any) -> None:
        loaded = await settle((await settle((await settle(client.job(JOB_ID))).model())).load())
        assert loaded.predict([[0.9]]) == [1]

    kind.go(service.url, body)


TABLE = {
    "version": 9,
    "number": [0, 1],
    "state": ["succeeded", "failed"],
    "validation_accuracy": [0.5, None],
    "params": {"C": [1, 2], "gamma": [None, "auto"]},
}


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(tunewell.MissingPackage, match="pip install pandas"):
        tables.make_dataframe(TABLE)


def test_trials_as_a_dataframe() -> None:
    pytest.importorskip("pandas")
    frame = tables.make_dataframe(TABLE)
    assert [*frame.columns] == ["param_C", "param_gamma", "state", "validation_accuracy"]
    assert frame.loc[0, "validation_accuracy"] == 0.5 and frame.index.name == "trial"
