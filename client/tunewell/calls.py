"""Each request that the service takes, described once: nothing is sent here."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

JSON = {"Content-Type": "application/json"}
CHECK_SECONDS = 300.0  # in which the service checks a data set, while the client waits


@dataclass(frozen=True)
class Call:
    """One request; a body that is a path is that file's content, sent in pieces."""

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Path | None = None
    changes: bool = True  # whether the service is not the same afterwards
    response_seconds: float | None = None  # how long the response may take, if longer than usual

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def create_job(spec: bytes, key: str | None = None) -> Call:
    """Post a job; calls with one idempotency key make one job."""
    return Call("POST", "/v1/jobs", headers={**JSON, "Idempotency-Key": key or str(uuid.uuid4())}, body=spec)


def preview(spec: bytes) -> Call:
    """What a job would come to; nothing is posted."""
    return Call("POST", "/v1/preview", headers=JSON, body=spec, changes=False)


def list_jobs(**filters: str) -> Call:
    return _get("/v1/jobs", filters)


def show_job(job_id: str, tag: str = "") -> Call:
    """The job; 304 if it still has this ETag."""
    return _get(_path(job_id), headers={"If-None-Match": tag} if tag else {})


def watch_job(job_id: str, tag: str = "") -> Call:
    """The stream of the job's events since the version that the ETag names."""
    version = tag.strip('"')
    since = {"Last-Event-ID": version} if version.isdecimal() else {}
    return _get(_path(job_id, "/events"), headers={"Accept": "text/event-stream", **since})


def show_best(job_id: str) -> Call:
    return _get(_path(job_id, "/best"))


def list_trials(job_id: str, **filters: str) -> Call:
    return _get(_path(job_id, "/trials"), filters)


def show_trial(job_id: str, number: int) -> Call:
    """The trial with its fits."""
    return _get(_path(job_id, f"/trials/{number}"))


def show_table(job_id: str) -> Call:
    """All trials as columns."""
    return _get(_path(job_id, "/table"))


def show_results(job_id: str, form: str = "json") -> Call:
    """scikit-learn's `cv_results_`, as JSON or CSV."""
    return _get(_path(job_id, "/results"), {"format": form})


def control_job(job_id: str, verb: str, body: bytes | None = None) -> Call:
    """Cancel, pause, resume, retry or extend the job."""
    return Call("POST", _path(job_id, f"/{verb}"), headers=JSON if body else {}, body=body)


def delete_job(job_id: str) -> Call:
    return Call("DELETE", _path(job_id))


def show_model(job_id: str) -> Call:
    """The manifest of the job's trained model."""
    return _get(_path(job_id, "/model"))


def download(path: str, offset: int, tag: str) -> Call:
    """A file from this byte on, if it still has this ETag; else whole."""
    resumed = {"Range": f"bytes={offset}-", "If-Range": tag} if offset else {}
    return _get(path, headers={"Accept-Encoding": "identity", **resumed})


def list_datasets() -> Call:
    return _get("/v1/datasets")


def show_dataset(name: str) -> Call:
    return _get(f"/v1/datasets/{quote(name, safe='')}")


def upload_dataset(name: str, content: Path, headers: Mapping[str, str], options: Mapping[str, str]) -> Call:
    """Put a file under a name; the same content again changes nothing."""
    path = f"/v1/datasets/{quote(name, safe='')}"
    return Call("PUT", path, options, headers, content, response_seconds=CHECK_SECONDS)


def delete_dataset(name: str) -> Call:
    return Call("DELETE", f"/v1/datasets/{quote(name, safe='')}")


def list_models() -> Call:
    return _get("/v1/models")


def _get(path: str, params: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None) -> Call:
    return Call("GET", path, params or {}, headers or {}, changes=False)


def _path(job_id: str, rest: str = "") -> str:
    return f"/v1/jobs/{quote(job_id, safe='')}{rest}"
