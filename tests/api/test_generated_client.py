"""The client that openapi-python-client generates from the committed document."""

import importlib
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from app.tuning.database import connect
from tests.support.driving import drive, steady
from tests.support.live import live
from tests.support.servers import missing

ROOT = Path(__file__).parents[2]
DOCUMENT = json.loads((ROOT / "openapi.json").read_text(encoding="utf-8"))
NAME = "generated_tunewell_client"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The generated package, importable; warnings of the generator are errors."""
    if importlib.util.find_spec("openapi_python_client") is None:
        missing("openapi-python-client")
    folder = tmp_path_factory.mktemp("generated")
    config = folder / "config.json"
    config.write_text('{"post_hooks": []}')
    options = ["--path", str(ROOT / "openapi.json"), "--output-path", str(folder / NAME), "--config", str(config)]
    command = [
        sys.executable,
        "-m",
        "openapi_python_client",
        "generate",
        *options,
        "--meta",
        "none",
        "--fail-on-warning",
    ]
    generator = subprocess.run(command, capture_output=True, text=True)
    assert generator.returncode == 0, generator.stdout + generator.stderr
    sys.path.insert(0, str(folder))
    yield folder / NAME
    sys.path.remove(str(folder))


def part(name: str) -> ModuleType:
    """A module of the generated package."""
    return importlib.import_module(f"{NAME}.{name}")


def test_every_operation_is_generated(generated: Path) -> None:
    promised = {
        (operation["tags"][0], operation["operationId"])
        for operations in DOCUMENT["paths"].values()
        for operation in operations.values()
    }
    found = {(file.parent.name, file.stem) for file in generated.glob("api/*/*.py") if file.stem != "__init__"}
    assert found == promised


def test_the_generated_client_posts_polls_and_fetches(generated: Path, tmp_path: Path) -> None:
    models: Any = part("models")
    posted = {
        "dataset": {"name": "digits"},
        "search": {"strategy": "grid", "param_grid": {"learning_rate": [0.01, 0.1]}},
        "fixed": {"epochs": 1},
        "evaluation": {"cv": 2, "refit": True},
        "labels": {"team": "vision"},
    }
    url = f"sqlite:///{tmp_path / 'tunewell.db'}"
    with live(tmp_path, url, "redis://127.0.0.1:1/0", workers=0) as service:
        client = part("client").Client(base_url=str(service.client.base_url))
        job = part("api.jobs.create_job").sync(client=client, body=models.JobSpec.from_dict(posted))
        assert isinstance(job, models.Job) and job.state == "queued"
        shown = job.to_dict()["spec"]
        for name in ("search", "fixed", "evaluation", "labels"):  # the response adds the defaults
            assert shown[name] | posted[name] == shown[name]
        engine = connect(url)
        drive(engine, str(job.id), steady)
        engine.dispose()
        assert part("api.jobs.show_job").sync(job_id=job.id, client=client).state == "succeeded"
        best = part("api.jobs.show_best").sync(job_id=job.id, client=client)
        assert (best.final, best.params.to_dict()) == (True, {"learning_rate": 0.1})
        assert [one.id for one in part("api.jobs.list_jobs").sync(client=client).items] == [job.id]
        trials = part("api.jobs.list_trials").sync(job_id=job.id, client=client).items
        assert [trial.number for trial in trials] == [0, 1]
        assert part("api.jobs.delete_job").sync_detailed(job_id=job.id, client=client).status_code == 204
        missing_job = part("api.jobs.show_job").sync(job_id=job.id, client=client)
        assert isinstance(missing_job, models.Problem) and missing_job.status == 404
        client.get_httpx_client().close()
