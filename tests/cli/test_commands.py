"""The command line against a small HTTP server with canned responses that records its requests."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, get_args

import pytest
from typer.testing import CliRunner, Result

from app.cli import commands, output
from app.cli.commands import cli
from app.tuning.jobs.queries import TrialSort
from app.tuning.jobs.tables import ENDED_JOB, JobState
from tests.support.service_double import BEST, JOB, JOB_ID, SPEC, Answer, Service, answer, closed_port, job, trial
from tunewell import Patience
from tunewell import service as service_module


@pytest.fixture
def closed_url() -> str:
    """A URL at which nothing listens."""
    return f"http://127.0.0.1:{closed_port()}"


def run(service_url: str, *arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(cli, [*arguments, "--url", service_url], input=stdin)


def test_submit_and_wait_prints_the_best_alone_on_stdout(service: Service, spec_file: str) -> None:
    service.on("POST /v1/jobs", answer(job("queued"), 202))
    service.on(f"GET {JOB}", answer(job()), answer(job(done=3)), answer(job("succeeded", 5)))
    service.on(f"GET {JOB}/best", answer(BEST))
    result = run(service.url, "submit", spec_file, "--wait", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == BEST
    assert "succeeded, 5 of 5 fits done, best so far 0.9000" in result.stderr
    assert json.loads(service.asked[0].body) == SPEC


def test_submit_without_waiting_shows_the_range_of_each_distribution(service: Service, spec_file: str) -> None:
    service.on("POST /v1/jobs", answer(job("queued"), 202))
    result = run(service.url, "submit", spec_file)
    assert result.exit_code == 0
    assert "2 trials, 5 fits" in result.stdout
    assert "dropout_rate: uniform, 0.1 to 0.4" in result.stdout
    assert "num_neurons: 128, 256" in result.stdout


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"distribution": "uniform", "loc": 0.1, "scale": 0.2}, "uniform, 0.1 to 0.3"),
        ({"distribution": "uniform", "low": 0.1, "high": 0.3}, "uniform, 0.1 to 0.3"),
        ({"distribution": "reciprocal", "low": 0.001, "high": 0.1}, "reciprocal, 0.001 to 0.1"),
        ({"distribution": "randint", "low": 16, "high": 257}, "randint, 16 to 256"),
        (["adam", 1, 0.5], "adam, 1, 0.5"),
    ],
)
def test_the_support_of_a_distribution_is_described(values: Any, words: str) -> None:
    assert output.describe_support(values) == words


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_a_job_that_does_not_succeed_exits_with_1(service: Service, spec_file: str, state: str) -> None:
    error = {"type": "DatasetUnavailable", "message": "put mnist.npz there", "traceback": None}
    ended = job(state, error=error if state == "failed" else None)
    service.on("POST /v1/jobs", answer(job("queued"), 202))
    service.on(f"GET {JOB}", answer(ended))
    result = run(service.url, "submit", spec_file, "--wait", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == ended
    watched = run(service.url, "watch", JOB_ID)
    assert watched.exit_code == 1
    assert state in watched.stdout
    assert ("put mnist.npz there" in watched.stdout) == (state == "failed")


def test_a_rejected_spec_exits_with_2_and_shows_the_errors_with_their_pointers(
    service: Service, spec_file: str
) -> None:
    error = {"pointer": "/search/n_iter", "message": "Input should be at least 1"}
    problem = {"type": "about:blank", "title": "Bad spec", "status": 422, "detail": "1 error", "errors": [error]}
    service.on("POST /v1/jobs", Answer(422, problem))
    result = run(service.url, "submit", spec_file, "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout) == problem
    assert "/search/n_iter: Input should be at least 1" in result.stderr
    assert len(service.asked) == 1


@pytest.mark.parametrize("content", [None, "{", "", "NaN?"])
def test_a_bad_file_exits_with_2_before_anything_is_sent(service: Service, tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "bad.json"
    if content is not None:
        file.write_text(content)
    result = run(service.url, "submit", str(file), "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["title"] == "Bad file"
    assert "bad.json" in result.stderr
    assert not service.asked


def test_a_spec_is_read_from_stdin_and_sent_unchanged(service: Service) -> None:
    service.on("POST /v1/jobs", answer(job("queued"), 202))
    text = '{"search": {}, "search": {}}'  # left for the service to reject
    assert run(service.url, "submit", "-", stdin="\ufeff" + text).exit_code == 0
    assert service.asked[0].body == text.encode()


@pytest.mark.parametrize(
    "command", [["list"], ["show", JOB_ID], ["best", JOB_ID], ["trials", JOB_ID], ["cancel", JOB_ID]]
)
def test_no_service_at_the_url_exits_with_3(
    closed_url: str, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "PATIENCE", Patience(first_reads=0.1, first_changes=0.1))
    result = run(closed_url, *command, "--json")
    assert result.exit_code == 3
    assert json.loads(result.stdout)["title"] == "Service unreachable"
    assert "tunewell up" in result.stderr


def test_another_web_server_at_the_url_exits_with_3(service: Service) -> None:
    service.on("GET /v1/jobs?page_size=20", Answer(200, "<html>"))
    assert run(service.url, "list").exit_code == 3


def test_a_url_without_scheme_is_bad_usage() -> None:
    result = run("localhost:8000", "list")
    assert result.exit_code == 2
    assert "http://" in result.stderr


@pytest.mark.parametrize("trouble", [Answer(0), Answer(503, {"title": "x", "status": 503}, {"Retry-After": "0.1"})])
def test_a_post_is_retried_with_the_same_key(service: Service, spec_file: str, trouble: Answer) -> None:
    service.on("POST /v1/jobs", trouble, trouble, answer(job("queued"), 202))
    result = run(service.url, "submit", spec_file, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["id"] == JOB_ID
    keys = [asked.headers["Idempotency-Key"] for asked in service.asked]
    assert len(keys) == 3
    assert len(set(keys)) == 1
    run(service.url, "submit", spec_file)
    assert service.asked[-1].headers["Idempotency-Key"] != keys[0]


def test_a_service_that_stays_unavailable_exits_with_3(
    service: Service, spec_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "PATIENCE", Patience(changes=0.2))
    service.on("POST /v1/jobs", answer({"title": "Database away", "status": 503}, 503))
    assert run(service.url, "submit", spec_file).exit_code == 3
    assert len(service.asked) > 1


def test_watching_sends_the_etag_and_survives_an_outage(service: Service) -> None:
    service.on(
        f"GET {JOB}",
        answer(job(done=1), ETag='"1"'),
        answer(None, 304),
        Answer(0),
        answer({"title": "Database away", "status": 503}, 503),
        answer(job("succeeded", 5), ETag='"2"'),
    )
    result = run(service.url, "watch", JOB_ID, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["state"] == "succeeded"
    assert "retrying" in result.stderr
    polls = [asked.headers.get("If-None-Match") for asked in service.asked if asked.path == JOB]
    assert polls == [None, '"1"', '"1"', '"1"', '"1"']


def test_list_gathers_pages_up_to_the_limit(service: Service) -> None:
    first = {"items": [job() for _ in range(100)], "next_page_token": "two"}
    second = {"items": [job("failed")], "next_page_token": None}
    service.on("GET /v1/jobs?state=failed&page_size=100", answer(first))
    service.on("GET /v1/jobs?state=failed&page_size=50&page_token=two", answer(second))
    result = run(service.url, "list", "--limit", "150", "--state", "failed", "--json")
    page = json.loads(result.stdout)
    assert len(page["items"]) == 101
    assert page["next_page_token"] is None


def test_trials_are_sorted_best_first_and_never_cut_off_in_a_pipe(service: Service) -> None:
    error = {"type": "ValueError", "message": "long " * 60 + "end\x1b[31m", "traceback": ""}
    failed = trial(1, state="failed", validation_score=None, validation_accuracy=None, rank=None, error=error)
    page = {"items": [trial(0), failed], "next_page_token": None}
    service.on(f"GET {JOB}/trials?sort=-validation_score&page_size=20", answer(page))
    result = run(service.url, "trials", JOB_ID)
    rows = result.stdout.splitlines()
    assert rows[0].split()[:3] == ["rank", "trial", "num_neurons"]
    assert rows[1].split()[:4] == ["1", "0", "128", "0.9000"]
    assert rows[2].rstrip().endswith("end [31m")
    assert run(service.url, "trials", JOB_ID, "--sort", "-validation_score").exit_code == 0


def test_best_as_text(service: Service) -> None:
    service.on(f"GET {JOB}/best", answer(BEST))
    result = run(service.url, "best", JOB_ID)
    assert "dropout_rate 0.2" in result.stdout
    assert "Test accuracy 0.9100 (95% interval 0.8800 to 0.9400, 360 samples)" in result.stdout


def test_the_best_of_a_regression_as_text(service: Service) -> None:
    scores = {"scoring": "r2", "mean_score": 0.4731, "std_score": 0.02, "fold_scores": [0.45, 0.4962]}
    lacking = {"mean_accuracy": None, "std_accuracy": None, "fold_accuracies": None}
    test = {"loss": 3000.5, "confusion": None, "score": 0.4512, "accuracy": None, "accuracy_ci95": None, "samples": 88}
    best = {**BEST, "validation": {**scores, **lacking}, "test": test, "tied": None, "corrected": None}
    service.on(f"GET {JOB}/best", answer(best))
    result = run(service.url, "best", JOB_ID)
    assert "Validation r2 0.4731, standard deviation 0.0200 over 2 folds\nTest r2 0.4512 (88 samples)" in result.stdout
    assert "accuracy" not in result.stdout


def test_no_best_yet_exits_with_2(service: Service) -> None:
    service.on(
        f"GET {JOB}/best", Answer(409, {"title": "Conflict", "status": 409, "detail": "No trial has succeeded."})
    )
    result = run(service.url, "best", JOB_ID)
    assert result.exit_code == 2
    assert "No trial has succeeded." in result.stderr


def test_cancel_and_delete(service: Service) -> None:
    service.on(f"POST {JOB}/cancel", answer(job("cancelling"), 202))
    service.on(f"DELETE {JOB}", Answer(204))
    assert json.loads(run(service.url, "cancel", JOB_ID, "--json").stdout)["state"] == "cancelling"
    assert run(service.url, "delete", JOB_ID).exit_code == 0
    assert [asked.method for asked in service.asked] == ["POST", "DELETE"]


def test_results_as_csv(service: Service) -> None:
    service.on(f"GET {JOB}/results?format=csv", Answer(200, "a,b\n1,2\n"))
    assert run(service.url, "results", JOB_ID).stdout == "a,b\n1,2\n"


def test_an_id_cannot_escape_its_path(service: Service) -> None:
    assert run(service.url, "show", "../datasets?x").exit_code == 2
    assert service.asked[0].path == "/v1/jobs/..%2Fdatasets%3Fx"


def test_loopback_urls_bypass_the_proxy(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    service.on(f"GET {JOB}", answer(job()))
    assert run(service.url, "show", JOB_ID).exit_code == 0


def test_ctrl_c_does_not_cancel_the_job(service: Service) -> None:
    service.on(f"GET {JOB}", answer(job()))
    command = [sys.executable, "-m", "app.cli", "watch", JOB_ID, "--url", service.url]
    # Shells start background processes with SIGINT ignored, which children inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while len(service.asked) < 2:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert f"The job keeps running. Cancel it with: tunewell cancel {JOB_ID}" in errors
    assert "Traceback" not in errors
    assert {asked.method for asked in service.asked} == {"GET"}


def test_choices_of_options_are_those_of_the_domain() -> None:
    assert set(get_args(commands._JobState)) == set(JobState)
    assert set(get_args(commands._TrialSort)) == set(get_args(TrialSort))
    assert set(ENDED_JOB) == service_module.ENDED_STATES


def test_help_loads_nothing_heavy() -> None:
    heavy = "{'httpx2', 'rich', 'psutil', 'fastapi', 'celery', 'sqlalchemy', 'numpy', 'tensorflow'}"
    code = f"import sys, app.cli.commands; print(sorted({heavy} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert loaded.stdout.strip() == "[]"


PREVIEW: dict[str, Any] = {
    "trials": 27,
    "fits": 118,
    "duplicates": 0,
    "skipped": 3,
    "rungs": [{"n_candidates": 27, "n_resources": 1}, {"n_candidates": 9, "n_resources": 3}],
    "epochs": 198,
    "epochs_at_most": 252,
    "seconds": {"low": 30.2, "high": 61.0},
    "supports": [{"l1": "a real number from 0 to 1"}],
    "first": [{"l1": 0.25}, {"optimizer": "sgd"}],
}


def test_a_dry_run_shows_what_the_job_would_come_to(service: Service, spec_file: str) -> None:
    service.on("POST /v1/preview", answer(PREVIEW))
    result = run(service.url, "submit", spec_file, "--dry-run")
    assert result.exit_code == 0
    assert [line.rstrip() for line in result.stdout.splitlines()] == [
        "Not posted: 27 trials, 118 fits",
        "  points   3 skipped",
        "  rungs    27 with 1, 9 with 3",
        "  epochs   198, 252 without checkpoints",
        "  time     30 s to 1 min 1 s with one worker",
        "  l1: a real number from 0 to 1",
        "First candidates:",
        "l1    optimizer",
        "0.25  -",
        "-     sgd",
    ]
    assert [(asked.method, asked.path, json.loads(asked.body)) for asked in service.asked] == [
        ("POST", "/v1/preview", SPEC)
    ]


def test_a_dry_run_without_measurements_says_so(service: Service, spec_file: str) -> None:
    service.on("POST /v1/preview", answer(PREVIEW | {"seconds": None, "rungs": [], "skipped": 0, "epochs": 252}))
    lines = run(service.url, "submit", spec_file, "--dry-run").stdout.splitlines()
    assert lines[1:3] == ["  epochs   252", "  time     not known: no job with this model has been measured"]


def test_a_dry_run_as_json(service: Service, spec_file: str) -> None:
    service.on("POST /v1/preview", answer(PREVIEW))
    assert json.loads(run(service.url, "submit", spec_file, "--dry-run", "--json").stdout) == PREVIEW


def test_a_dry_run_of_a_bad_job_exits_as_submit_does(service: Service, spec_file: str, closed_url: str) -> None:
    errors = [{"pointer": "/search", "message": "wrong"}]
    service.on("POST /v1/preview", Answer(422, {"title": "Unprocessable Content", "detail": "…", "errors": errors}))
    result = run(service.url, "submit", spec_file, "--dry-run")
    assert (result.exit_code, "/search: wrong" in result.stderr) == (2, True)
    assert run(closed_url, "submit", spec_file, "--dry-run").exit_code == 3
    assert run(service.url, "submit", spec_file, "--dry-run", "--wait").exit_code == 2
