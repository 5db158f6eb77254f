"""A small HTTP server that stands in for a Tunewell service: canned responses and a record of requests."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

JOB_ID = "7d1c9b6e-6f0a-4c39-9d0e-0d6c3a1f2b11"
JOB = f"/v1/jobs/{JOB_ID}"
SPEC = {
    "name": "quick",
    "search": {
        "strategy": "random",
        "param_distributions": {
            "dropout_rate": {"distribution": "uniform", "loc": 0.1, "scale": 0.3},
            "num_neurons": [128, 256],
        },
    },
}
BEST = {
    "job_id": JOB_ID,
    "final": True,
    "trial": 1,
    "params": {"dropout_rate": 0.2, "num_neurons": 256},
    "validation": {
        "scoring": "accuracy",
        **{"mean_score": 0.9, "std_score": 0.01, "fold_scores": [0.89, 0.91]},
        **{"mean_accuracy": 0.9, "std_accuracy": 0.01, "fold_accuracies": [0.89, 0.91]},
    },
    "selection": {"rule": "best", "n_compared": 2},
    "tied": [0],
    "corrected": {"accuracy": 0.8912, "ci95": [0.87, 0.9134]},
    "test": {
        "score": 0.91,
        **{"accuracy": 0.91, "loss": 0.3, "samples": 360, "accuracy_ci95": [0.88, 0.94], "confusion": None},
    },
    "refit_seconds": 1.0,
    "environment": None,
}


@dataclass
class Answer:
    """One canned response; `status` 0 drops the connection instead."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Asked:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Service:
    """Responds to each call from its own list; the last response is repeated."""

    url: str = ""
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    def on(self, call: str, *answers: Answer) -> None:
        self.answers[call] = list(answers)

    def next_answer(self, asked: Asked) -> Answer:
        self.asked.append(asked)
        answers = self.answers.get(f"{asked.method} {asked.path}") or [
            Answer(404, {"title": "Not Found", "status": 404, "detail": "There is no such job."})
        ]
        return answers.pop(0) if len(answers) > 1 else answers[0]


class Handler(BaseHTTPRequestHandler):
    """The HTTP handler of a `Service`."""

    protocol_version = "HTTP/1.1"
    service: Service

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        answer = self.service.next_answer(Asked(self.command, self.path, dict(self.headers), body))
        self.close_connection = True
        if not answer.status:
            return
        text = answer.body if isinstance(answer.body, str) else json.dumps(answer.body)
        payload = b"" if answer.status in {204, 304} else text.encode()
        self.send_response(answer.status)
        kind = "application/problem+json" if answer.status >= 400 else "application/json"
        said = {"Content-Type": kind, "Content-Length": str(len(payload)), "Connection": "close"}
        for name, value in (said | answer.headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(payload)

    do_POST = do_PUT = do_DELETE = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        return None


@contextmanager
def running_service() -> Iterator[Service]:
    """A service that listens on a port of its own."""
    double = Service()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"service": double}))
    double.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield double
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def closed_port() -> int:
    """A port on which nothing listens."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.server_close()
    return int(server.server_address[1])


def job(state: str = "running", done: int = 0, **more: Any) -> dict[str, Any]:
    fits = {"total": 5, "queued": 5 - done, "running": 0, "succeeded": done, "failed": 0, "cancelled": 0}
    trials = {"total": 2, "queued": 2, "running": 0, "succeeded": 0, "failed": 0, "cancelled": 0, "pruned": 0}
    best = (
        {"trial": 1, "params": {"dropout_rate": 0.2}, "validation_score": 0.9, "validation_accuracy": 0.9}
        if done
        else None
    )
    document: dict[str, Any] = {
        "id": JOB_ID,
        "name": "quick",
        "state": state,
        "spec": SPEC,
        "scoring": "accuracy",
        "trials": trials,
        "fits": fits,
    }
    document |= {"progress": done / 5, "eta_seconds": None, "best": best, "error": None, "labels": {}}
    return {**document, "created_at": "2026-11-01T10:00:00Z", "started_at": None, "ended_at": None, **more}


def answer(document: Any, status: int = 200, **headers: str) -> Answer:
    quick = {"Retry-After": "0.1", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return Answer(status, document, quick)


def trial(number: int, **more: Any) -> dict[str, Any]:
    document: dict[str, Any] = {
        "number": number,
        "state": "succeeded",
        "params": {"num_neurons": 128},
        "validation_score": 0.9,
        "validation_accuracy": 0.9,
    }
    document |= {
        "validation_score_std": 0.01,
        "validation_accuracy_std": 0.01,
        "rank": 1,
        "fit_seconds": 2.0,
        "error": None,
    }
    return {**document, **more}
