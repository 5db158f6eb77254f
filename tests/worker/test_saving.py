"""The refit's model is stored with its test score, once, and gives that score to whoever loads it without Tunewell."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from app.main import create_app
from app.tuning import model_sweep, storage
from app.tuning.database import reading, writing
from app.tuning.jobs import outcomes
from app.tuning.jobs.attempts import AttemptKey, Finished, Result
from app.tuning.jobs.claims import Claim
from app.tuning.jobs.model_rows import list_saved_models
from app.tuning.jobs.tables import Outcome
from app.tuning.saved_models import SavedModel, name_model_files
from app.tuning.settings import settings
from tests.conftest import IdleHousekeeper
from tests.support.ledger import Ledger
from tests.worker.test_runner import Process, run
from worker import fit
from worker.datasets import load_dataset
from worker.saving import store

IRIS: dict[str, Any] = {
    "dataset": {"name": "iris"},
    "model": "logistic_regression",
    "search": {"strategy": "grid", "param_grid": {"C": [0.1]}},
    "evaluation": {"validation_split": 0.1},
}
DIGITS: dict[str, Any] = {
    "dataset": {"name": "digits", "train_samples": 400},
    "search": {"strategy": "grid", "param_grid": {"learning_rate": [0.01]}},
    "fixed": {"num_neurons": 8, "filters": 4, "epochs": 3},
    "evaluation": {"validation_split": 0.1},
}
LOAD = {
    "keras": "import keras; predict = lambda x: keras.models.load_model(sys.argv[1]).predict(x, verbose=0).argmax(1)",
    "joblib": "import joblib; predict = joblib.load(sys.argv[1]).predict",
}
SCORE = """
import sys, warnings
warnings.simplefilter("error")
import numpy as np
{load}
samples, labels = np.load(sys.argv[2]), np.load(sys.argv[3])
print(repr(float(np.mean(predict(samples) == labels))))
assert not [name for name in sys.modules if name.partition(".")[0] in ("app", "worker")]
"""
# A worker that is killed in the last fit: before the model is stored, or before it is recorded.
KILLED = """
import os, signal, sys
from app.tuning import storage
from app.tuning.database import connect
from app.tuning.jobs import outcomes
from tests.worker.test_runner import run
from worker import fit

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

engine = connect(sys.argv[1])
assert run(engine, fit.train_fit, most=1) == 1
setattr(*{"stored": (storage, "put_file", die), "recorded": (outcomes, "record", die)}[sys.argv[2]])
run(engine, fit.train_fit, most=1)
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("TUNEWELL_HOME", str(tmp_path))
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()


@pytest.fixture
def client(home: Path, engine: Engine) -> Iterator[TestClient]:
    with TestClient(create_app(engine, IdleHousekeeper)) as made:
        yield made


@pytest.fixture
def lite(home: Path, sqlite_engine: Engine) -> Iterator[TestClient]:
    with TestClient(create_app(sqlite_engine, IdleHousekeeper)) as made:
        yield made


def post(client: TestClient, spec: dict[str, Any], **changes: Any) -> str:
    posted = client.post("/v1/jobs", json={**spec, **changes})
    assert posted.status_code == 202, posted.text
    return str(posted.json()["id"])


def stored(home: Path) -> list[str]:
    """The keys of all files in the storage."""
    return [str(file.relative_to(home / "storage")) for file in (home / "storage").rglob("*") if file.is_file()]


def saved(engine: Engine, job_id: str) -> SavedModel | None:
    """What the job's row says of its model."""
    with reading(engine) as session:
        return list_saved_models(session, [UUID(job_id)]).get(UUID(job_id))


def named(engine: Engine, job_id: str) -> list[str]:
    """The keys of the files that the job's row names."""
    model = saved(engine, job_id)
    return name_model_files(UUID(job_id), model) if model else []


def score_elsewhere(folder: Path, form: str, file: bytes, samples: np.ndarray, labels: np.ndarray) -> float:
    """What the file scores in a process of its own that knows nothing of Tunewell."""
    model = folder / f"downloaded.{form}"
    model.write_bytes(file)
    for name, array in (("samples", samples), ("labels", labels)):
        np.save(folder / f"{name}.npy", array)
    names = [model, folder / "samples.npy", folder / "labels.npy"]
    command = [sys.executable, "-c", SCORE.format(load=LOAD[form]), *map(str, names)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return float(done.stdout)


@pytest.mark.parametrize("form, spec", [("keras", DIGITS), ("joblib", IRIS)], ids=["cnn", "logistic_regression"])
def test_the_file_gives_the_recorded_accuracy_without_tunewell(
    lite: TestClient, sqlite_engine: Engine, tmp_path: Path, form: str, spec: dict[str, Any]
) -> None:
    address = f"/v1/jobs/{post(lite, spec)}"
    run(sqlite_engine, fit.train_fit, most=10)
    manifest = lite.get(f"{address}/model").json()
    [described] = [one for one in manifest["formats"] if one["format"] == form]
    file = lite.get(described["href"]).content
    assert (len(file), hashlib.sha256(file).hexdigest()) == (described["bytes"], described["sha256"])
    arrays = load_dataset(spec["dataset"]["name"], lambda: None)
    samples = arrays.x_test.reshape(-1, *manifest["input"]["shape"]).astype(manifest["input"]["dtype"])
    best = lite.get(f"{address}/best").json()
    assert (manifest["test"], manifest["params"]) == (best["test"], best["params"])
    assert score_elsewhere(tmp_path, form, file, samples, arrays.y_test) == best["test"]["accuracy"]


def test_a_model_is_stored_once_and_recorded_with_its_score(client: TestClient, engine: Engine, home: Path) -> None:
    job_id = post(client, IRIS)
    assert client.get(f"/v1/jobs/{job_id}/model").status_code == 409
    run(engine, fit.train_fit, most=10)
    assert sorted(stored(home)) == sorted(named(engine, job_id))
    assert client.get(f"/v1/jobs/{job_id}/model").status_code == 200


@pytest.mark.parametrize("point", ["stored", "recorded"])
def test_a_kill_leaves_no_model_without_its_score(
    lite: TestClient, sqlite_engine: Engine, home: Path, point: str
) -> None:
    job_id, ledger = post(lite, IRIS), Ledger(sqlite_engine)
    command = [sys.executable, "-c", KILLED, str(sqlite_engine.url), point]
    environment = {**os.environ, "TUNEWELL_HOME": str(home)}
    done = subprocess.run(command, cwd=Path(__file__).parents[2], env=environment, capture_output=True, check=False)
    assert done.returncode == -9, done.stderr[-2000:]
    assert not saved(sqlite_engine, job_id)
    left = stored(home)
    assert bool(left) == (point == "recorded")
    [held] = [one for one in ledger.fits(UUID(job_id)) if one.state == "running"]
    ledger.lose(AttemptKey(UUID(job_id), held.id, held.attempt))
    run(sqlite_engine, fit.train_fit, most=10)
    assert lite.get(f"/v1/jobs/{job_id}/best").json()["final"]
    assert set(stored(home)) == {*left, *named(sqlite_engine, job_id)}


def test_a_late_attempt_does_not_replace_the_model(client: TestClient, engine: Engine) -> None:
    job_id, ledger = post(client, IRIS), Ledger(engine)
    run(engine, lambda claim, _: result_of(claim, "fold"))
    late = ledger.claim(UUID(job_id))
    ledger.lose(late)
    run(engine, lambda claim, _: result_of(claim, "in time"))
    with writing(engine) as session:
        assert not outcomes.record(session, late, Finished(result_of(late, "late")))
    kept = saved(engine, job_id)
    assert kept and kept["class_names"] == ["in time"]
    ledger.audit()


def result_of(claim: Claim, name: str) -> Result:
    """A result with a model by which one knows it."""
    model: Any = {"files": [], "left_out": {}, "class_names": [name], "environment": {"found": "0.5"}}
    return Result(0.5, 0.5, 1.0, 1.0, {"processor": "p"}, model=model)


class Outage:
    """A storage that is away for the first calls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, calls: int) -> None:
        self.left, self.put = calls, storage.put_file
        monkeypatch.setattr(storage, "put_file", self)

    def __call__(self, key: str, file: Path) -> None:
        self.left -= 1
        if self.left >= 0:
            raise storage.StorageAway("it is away")
        self.put(key, file)


def test_a_refit_waits_for_the_storage_and_is_not_lost(
    lite: TestClient, sqlite_engine: Engine, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id, ledger = post(lite, IRIS, limits={"fit_timeout_seconds": 20}), Ledger(sqlite_engine)
    outage = Outage(monkeypatch, 5)
    run(sqlite_engine, fit.train_fit, most=10)
    assert outage.left < 0
    [refit] = [one for one in ledger.fits(UUID(job_id)) if one.is_refit]
    assert [one.outcome for one in ledger.attempts(refit.id)] == [Outcome.SUCCEEDED]
    assert sorted(stored(home)) == sorted(named(sqlite_engine, job_id))


def test_a_worker_that_waits_for_the_storage_can_be_stopped(
    lite: TestClient, sqlite_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopped(Process):
        def pause(self, seconds: float) -> None:
            self.asked = True

    job_id, ledger = post(lite, IRIS), Ledger(sqlite_engine)
    Outage(monkeypatch, 1)
    run(sqlite_engine, fit.train_fit, Stopped(), most=10)
    [refit] = [one for one in ledger.fits(UUID(job_id)) if one.is_refit]
    assert [one.outcome for one in ledger.attempts(refit.id)] == [Outcome.RELEASED]
    run(sqlite_engine, fit.train_fit, most=10)
    assert named(sqlite_engine, job_id)


def test_a_storage_that_stays_away_is_a_fault_of_the_machine(
    lite: TestClient, sqlite_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id, ledger = post(lite, IRIS), Ledger(sqlite_engine)
    monkeypatch.setattr(store, "MODEL_AWAY_SECONDS", -1.0)
    Outage(monkeypatch, 2)
    run(sqlite_engine, fit.train_fit, most=10)
    [refit] = [one for one in ledger.fits(UUID(job_id)) if one.is_refit]
    [attempt] = ledger.attempts(refit.id)
    assert (attempt.outcome, (attempt.error or {})["type"]) == (Outcome.LOST, "StorageAway")
    assert ledger.job(UUID(job_id)).error is None


def test_what_cannot_be_written_as_a_file_is_not_the_hyperparameters_fault() -> None:
    def export(folder: Path) -> Any:
        raise ValueError("no such dtype")

    class Reports:
        def report(self, within: float) -> None: ...

    with pytest.raises(store.ModelNotStored, match="no such dtype"):
        store.store_model(UUID(int=0), export, None, {}, Reports())  # type: ignore[arg-type]


def test_an_equal_job_gets_a_copy_of_the_model(client: TestClient, engine: Engine, home: Path) -> None:
    first = post(client, IRIS)
    run(engine, fit.train_fit, most=10)
    second = post(client, IRIS)
    run(engine, fit.train_fit, most=10)
    assert all(one.cached for one in Ledger(engine).fits(UUID(second)))
    mine, theirs = named(engine, second), named(engine, first)
    assert [key.replace(second, first) for key in mine] == theirs
    assert sorted(stored(home)) == sorted([*mine, *theirs])


@pytest.mark.parametrize("why", ["it keeps none", "its file is gone", "its file is damaged"])
def test_the_refit_is_trained_again_where_an_equal_job_has_no_model(
    lite: TestClient, sqlite_engine: Engine, home: Path, why: str
) -> None:
    keeps = why != "it keeps none"
    first = post(lite, IRIS, evaluation={"validation_split": 0.1, "keep_model": keeps})
    run(sqlite_engine, fit.train_fit, most=10)
    if keeps:
        file = home / "storage" / named(sqlite_engine, first)[0]
        file.unlink() if why == "its file is gone" else file.write_bytes(b"damaged")
    second = post(lite, IRIS)
    run(sqlite_engine, fit.train_fit, most=10)
    cached = {one.fold: one.cached for one in Ledger(sqlite_engine).fits(UUID(second))}
    assert cached == {0: True, None: False}
    assert named(sqlite_engine, second)[0] in stored(home)


@pytest.mark.parametrize("evaluation", [{"refit": False}, {"keep_model": False}], ids=str)
def test_nothing_is_stored_where_no_model_is_kept(
    lite: TestClient, sqlite_engine: Engine, home: Path, evaluation: dict[str, Any]
) -> None:
    job_id = post(lite, IRIS, evaluation={"validation_split": 0.1, **evaluation})
    run(sqlite_engine, fit.train_fit, most=10)
    assert not (home / "storage").exists()
    answer = lite.get(f"/v1/jobs/{job_id}/model")
    assert (answer.status_code, next(iter(evaluation)) in answer.json()["detail"]) == (409, True)


def test_files_that_no_job_names_are_deleted_after_a_day(
    client: TestClient, engine: Engine, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = post(client, IRIS)
    run(engine, fit.train_fit, most=10)
    kept = named(engine, job_id)
    orphans = [f"models/{job_id}/{'0' * 64}.joblib", f"models/{UUID(int=1)}/{'0' * 64}.keras"]
    for key in orphans:
        (home / "storage" / key).parent.mkdir(exist_ok=True)
        (home / "storage" / key).write_bytes(b"of a lost attempt")
    sweeper = model_sweep.ModelSweeper(engine)
    for age, expected in ((model_sweep.ORPHAN_AGE, [*orphans, *kept]), (-model_sweep.ORPHAN_AGE, kept)):
        monkeypatch.setattr(model_sweep, "ORPHAN_AGE", age)
        sweeper.sweep()
        sweeper.sweep()
        assert sorted(stored(home)) == sorted(expected)


def test_the_files_of_a_deleted_job_are_deleted(lite: TestClient, sqlite_engine: Engine, home: Path) -> None:
    kept, deleted = post(lite, IRIS), post(lite, IRIS, random_state=1)
    run(sqlite_engine, fit.train_fit, most=20)
    sweeper = model_sweep.ModelSweeper(sqlite_engine)
    sweeper.delete_files(UUID(deleted))
    sweeper.stop()
    sweeper.run()
    assert sorted(stored(home)) == sorted(named(sqlite_engine, kept))


def test_training_that_is_not_a_refit_exports_nothing(lite: TestClient, sqlite_engine: Engine, home: Path) -> None:
    post(lite, IRIS)
    run(sqlite_engine, fit.train_fit, most=1)
    assert not (home / "storage").exists()
