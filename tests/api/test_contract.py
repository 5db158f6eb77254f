"""The OpenAPI document: committed, valid, and as promised to clients."""

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import schemathesis

from app.main import app
from tests.support.driving import ARTICLE, ENVIRONMENT, EPOCHS

DOCUMENT = app.openapi()
SCHEMAS = DOCUMENT["components"]["schemas"]
PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
# Each call: parameters, success response, and the statuses of its own errors.
CALLS: dict[str, tuple[str, str, str]] = {
    "POST /v1/jobs": ("Idempotency-Key", "202 Job", "403 415 422 503"),
    "GET /v1/jobs": ("page_size page_token state name label q", "200 JobPage", "422 503"),
    "GET /v1/jobs/{job_id}": ("job_id If-None-Match", "200 Job", "404 422 503"),
    "PATCH /v1/jobs/{job_id}": ("job_id If-Match", "200 Job", "403 404 412 415 422 428 503"),
    "DELETE /v1/jobs/{job_id}": ("job_id", "204", "403 404 409 422 503"),
    "POST /v1/jobs/{job_id}/cancel": ("job_id", "202 Job", "403 404 409 422 503"),
    "POST /v1/jobs/{job_id}/pause": ("job_id", "202 Job", "403 404 409 422 503"),
    "POST /v1/jobs/{job_id}/resume": ("job_id", "202 Job", "403 404 409 422 503"),
    "POST /v1/jobs/{job_id}/retry": ("job_id", "202 Job", "403 404 409 422 503"),
    "POST /v1/jobs/{job_id}/extend": ("job_id", "202 Job", "403 404 409 415 422 503"),
    "GET /v1/jobs/{job_id}/best": ("job_id", "200 Best", "404 409 422 503"),
    "GET /v1/jobs/{job_id}/trials": ("job_id page_size page_token state sort", "200 TrialPage", "404 422 503"),
    "GET /v1/jobs/{job_id}/trials/{number}": ("job_id number", "200 TrialWithFits", "404 422 503"),
    "GET /v1/jobs/{job_id}/results": ("job_id format", "200", "404 422 503"),
    "GET /v1/jobs/{job_id}/table": ("job_id since If-None-Match", "200 TrialColumns", "404 422 503"),
    "GET /v1/jobs/{job_id}/fits": ("job_id since If-None-Match", "200 AttemptColumns", "404 422 503"),
    "GET /v1/jobs/{job_id}/model": ("job_id", "200 ModelManifest", "404 409 422 503"),
    "GET /v1/jobs/{job_id}/model/{form}": ("job_id form If-None-Match Range", "200", "206 404 409 416 422 503"),
    "POST /v1/jobs/{job_id}/predict": ("job_id", "200 PredictionResponse", "403 404 409 415 422 501 503"),
    "POST /v1/preview": ("", "200 Preview", "403 415 422 503"),
    "GET /v1/jobs/{job_id}/importance": ("job_id of If-None-Match", "200 Importance", "404 422 503"),
    "GET /v1/jobs/{job_id}/events": ("job_id since trial Last-Event-ID", "200", "404 422 503"),
    "GET /v1/events": ("", "200", "503"),
    "GET /v1/workers": ("", "200 WorkerPage", "503"),
    "GET /v1/datasets": ("page_size page_token", "200 DatasetPage", "422 503"),
    "GET /v1/datasets/{name}": ("name", "200 Dataset", "404 422 503"),
    "GET /v1/datasets/{name}/preview": ("name", "200", "404 422 503"),
    "PUT /v1/datasets/{name}": (
        "name target task exclude test_share random_state image_size color image_shape dry_run",
        "201 Dataset",
        "200 403 408 409 415 422 503 507",
    ),
    "DELETE /v1/datasets/{name}": ("name", "204", "403 404 409 422 503"),
    "GET /v1/models": ("", "200 ModelPage", ""),
    "GET /livez": ("", "200 Health", ""),
    "GET /readyz": ("", "200 Health", "503"),
}
HEADERS = {
    "POST /v1/jobs": {"202": {"Location", "ETag", "Retry-After"}},
    "GET /v1/jobs/{job_id}": {"200": {"ETag", "Retry-After"}, "304": {"ETag", "Retry-After"}},
    "PATCH /v1/jobs/{job_id}": {"200": {"ETag", "Retry-After"}},
    "POST /v1/jobs/{job_id}/cancel": {"202": {"ETag", "Retry-After"}},
    **{f"GET /v1/jobs/{{job_id}}/{what}": {"200": {"Retry-After"}} for what in ("best", "trials", "results")},
    "GET /v1/jobs/{job_id}/trials/{number}": {"200": {"Retry-After"}},
    "GET /v1/jobs/{job_id}/model/{form}": {"200": {"ETag", "Repr-Digest"}, "206": {"ETag", "Repr-Digest"}},
    **{f"GET /v1/jobs/{{job_id}}/{what}": {"200": {"ETag", "Retry-After"}} for what in ("table", "fits", "importance")},
}
HALVING = {"resource", "min_resources", "max_resources", "factor", "aggressive_elimination", "rung_levels"}
SEARCHES = {
    "GridSearch": {"param_grid"},
    "RandomSearch": {"param_distributions", "n_iter"},
    "HalvingGridSearch": {"param_grid", *HALVING},
    "HalvingRandomSearch": {"param_distributions", "n_candidates", *HALVING},
    "Hyperband": {"param_distributions", "resource", "min_resources", "max_resources", "factor", "brackets", "sampler"},
    "TpeSearch": {"param_distributions", "n_iter", "n_startup_trials", "max_concurrent_trials"},
}
COMMON = {"strategy", "points_to_evaluate", "forbidden"}
COUNTS = {"total": 27, "queued": 20, "running": 1, "succeeded": 6, "failed": 0, "cancelled": 0}
JOB_ID = "7d1c9b6e-6f0a-4c39-9d0e-0d6c3a1f2b11"
ERROR = {"type": "ValueError", "message": "no", "traceback": "…"}
# Responses as documented in the contract.
SAMPLES: dict[str, dict[str, Any]] = {
    "JobSpec": ARTICLE,
    "Job": {
        "id": JOB_ID,
        "name": "seed-grid",
        "state": "running",
        "spec": ARTICLE,
        "scoring": "accuracy",
        "trials": COUNTS | {"pruned": 0},
        "fits": COUNTS | {"total": 82, "queued": 61, "running": 2, "succeeded": 19},
        "rungs": [{"bracket": 0, "iter": 1, "n_resources": 3, "n_candidates": 9, "state": "running"}],
        "epochs_trained": 31,
        "epochs_reused": 12,
        "skipped": 0,
        "reproducible": False,
        "reproducible_because": "…",
        "progress": 0.23,
        "eta_seconds": 41.0,
        "best": {"trial": 3, "params": {"epochs": 2}, "validation_score": 0.9711, "validation_accuracy": 0.9711},
        "error": None,
        "labels": {},
        "note": "",
        "created_at": "2026-11-01T10:00:00Z",
        "started_at": "2026-11-01T10:00:01Z",
        "ended_at": None,
    },
    "Best": {
        "job_id": JOB_ID,
        "final": True,
        "trial": 3,
        "params": {"dropout_rate": 0.1, "learning_rate": 0.01, "num_neurons": 128},
        "validation": {
            "scoring": "accuracy",
            "mean_score": 0.9711,
            "std_score": 0.0012,
            "fold_scores": [0.97, 0.972, 0.971],
            "mean_accuracy": 0.9711,
            "std_accuracy": 0.0012,
            "fold_accuracies": [0.97, 0.972, 0.971],
        },
        "selection": {"rule": "best", "n_compared": 27},
        "tied": [7],
        "corrected": {"accuracy": 0.9689, "ci95": [0.9641, 0.9735]},
        "test": {
            "score": 0.9766,
            "accuracy": 0.9766,
            "loss": 0.081,
            "samples": 10000,
            "accuracy_ci95": [0.9735, 0.9794],
            "confusion": [[4900, 100], [134, 4866]],
        },
        "refit_seconds": 3.1,
        "environment": ENVIRONMENT,
    },
    "Trial": {
        "number": 3,
        "state": "succeeded",
        "params": {"optimizer": "adam"},
        "origin": "given",
        "bracket": 0,
        "iter": 1,
        "n_resources": 3,
        "validation_score": 0.9711,
        "validation_score_std": 0.0012,
        "validation_accuracy": 0.9711,
        "validation_accuracy_std": 0.0012,
        "rank": 1,
        "fit_seconds": 9.3,
        "error": ERROR,
    },
    "Fit": {
        "fold": None,
        "n_resources": 9,
        "cached": False,
        "resumed_from": 3,
        "state": "succeeded",
        "attempt": 1,
        "score": 0.97,
        "accuracy": 0.97,
        "loss": 0.1,
        "history": EPOCHS,
        "fit_seconds": 3.1,
        "worker": "w1@here",
        "started_at": "2026-11-01T10:00:01Z",
        "ended_at": "2026-11-01T10:00:04Z",
        "error": ERROR,
    },
    "Problem": {
        "type": "about:blank",
        "title": "Unprocessable Content",
        "status": 422,
        "detail": "…",
        "errors": [{"pointer": "/search/n_iter", "message": "..."}],
    },
    "Preview": {
        "trials": 27,
        "fits": 118,
        "duplicates": 0,
        "skipped": 3,
        "infeasible": {"count": 0, "first": []},
        "rungs": [{"bracket": 0, "iter": 0, "n_resources": 1, "n_candidates": 27, "state": "queued"}],
        "epochs": 198,
        "epochs_at_most": 252,
        "multiply_adds": 1.2e12,
        "seconds": {"low": 30.5, "high": 61.0},
        "cached_fits": None,
        "checkpoint_bytes": 12_345_678,
        "supports": [{"l1": "a real number from 0 to 1"}],
        "first": [{"l1": 0.5}],
    },
    "JobPage": {"items": [], "next_page_token": None},
    "Worker": {
        "name": "tunewell-1@here#a1b2c3d4",
        "host": "here",
        "since": "2026-11-01T10:00:01Z",
        "last_seen": "2026-11-01T10:00:06Z",
        "fit": {"job_id": JOB_ID, "trial": 3, "fold": None, "attempt": 1, "started_at": "2026-11-01T10:00:04Z"},
        "device": "GPU 0",
    },
    "TrialColumns": {
        "version": 812,
        "number": [3],
        "state": ["succeeded"],
        "validation_score": [0.9711],
        "validation_score_std": [0.0012],
        "validation_accuracy": [0.9711],
        "validation_accuracy_std": [0.0012],
        "rank": [1],
        "fit_seconds": [9.3],
        "bracket": [0],
        "iter": [1],
        "n_resources": [3],
        "params": {"optimizer": ["adam"]},
    },
    "Importance": {
        "version": 812,
        "of": "validation_score",
        "trials": 27,
        "n_resources": None,
        "method": "exact",
        "importance": [{"name": "learning_rate", "share": 0.81, "low": 0.77, "high": 0.84}],
        "pairs": [{"names": ["learning_rate", "dropout_rate"], "share": 0.05, "low": 0.02, "high": 0.09}],
        "noise": 0.02,
        "reason": None,
    },
    "AttemptColumns": {
        "version": 812,
        "fit": [71],
        "trial": [3],
        "fold": [None],
        "bracket": [0],
        "iter": [0],
        "worker": ["w1@here"],
        "attempt": [1],
        "outcome": ["lost"],
        "start": ["2026-11-01T10:00:01Z"],
        "end": ["2026-11-01T10:00:04Z"],
        "reason": ["…"],
    },
}
SAMPLES["TrialWithFits"] = {**SAMPLES["Trial"], "fits": [SAMPLES["Fit"]]}
# Name, type, bounds or choices, default.
HYPERPARAMETERS: list[tuple[str, str, dict[str, Any], Any]] = [
    ("learning_rate", "number", {"exclusive_minimum": 0, "maximum": 10}, 0.001),
    ("optimizer", "string", {"choices": ["adam", "adamw", "nadam", "rmsprop", "adagrad", "sgd"]}, "adam"),
    ("momentum", "number", {"minimum": 0, "exclusive_maximum": 1}, 0),
    ("weight_decay", "number", {"minimum": 0, "maximum": 1}, 0),
    ("batch_size", "integer", {"minimum": 1, "maximum": 4096}, 32),
    ("epochs", "integer", {"minimum": 1, "maximum": 1000}, 10),
    ("class_weight", "string", {"choices": ["none", "balanced"]}, "none"),
    ("dropout_rate", "number", {"minimum": 0, "exclusive_maximum": 1}, 0.5),
    ("num_neurons", "integer", {"minimum": 1, "maximum": 4096}, 128),
    ("conv_blocks", "integer", {"minimum": 1, "maximum": 3}, 1),
    ("filters", "integer", {"minimum": 1, "maximum": 256}, 32),
    ("kernel_size", "integer", {"minimum": 1, "maximum": 7}, 3),
    ("activation", "string", {"choices": ["relu", "elu", "gelu", "tanh"]}, "relu"),
    ("l1", "number", {"minimum": 0, "maximum": 1}, 0),
    ("l2", "number", {"minimum": 0, "maximum": 1}, 0),
]


def operation(call: str) -> dict[str, Any]:
    method, path = call.split()
    found: dict[str, Any] = DOCUMENT["paths"][path][method.lower()]
    return found


def validator(name: str) -> jsonschema_rs.Draft202012Validator:
    schema = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    return jsonschema_rs.Draft202012Validator(schema, validate_formats=True)


def test_the_committed_document_equals_the_served_one() -> None:
    committed = json.loads((Path(__file__).parents[2] / "openapi.json").read_text(encoding="utf-8"))
    assert committed == DOCUMENT, "run `make openapi`"


def test_the_document_states_the_license() -> None:
    assert DOCUMENT["info"]["license"] == {"name": "MIT", "identifier": "MIT"}


def test_the_document_is_valid_openapi_3_1() -> None:
    assert DOCUMENT["openapi"].startswith("3.1.")
    schemathesis.openapi.from_dict(copy.deepcopy(DOCUMENT)).validate()
    for name, schema in SCHEMAS.items():
        jsonschema_rs.meta.validate(schema)
        assert schema["title"] == name
        validator(name)  # fails on dangling references


def test_exactly_the_promised_calls_are_listed() -> None:
    served = {f"{method.upper()} {path}" for path, operations in DOCUMENT["paths"].items() for method in operations}
    assert served == set(CALLS)


@pytest.mark.parametrize("call", CALLS)
def test_a_call_is_documented_with_its_parameters_response_and_errors(call: str) -> None:
    parameters, success, errors = CALLS[call]
    documented = operation(call)
    assert {one["name"] for one in documented.get("parameters", [])} == set(parameters.split())
    status, _, schema = success.partition(" ")
    responses = documented["responses"]
    own = {status, "304"} if "If-None-Match" in parameters else {status}
    # Every call may get 413 (body too large), 421 (foreign host) and 500.
    assert set(responses) == own | {"413", "421", "500"} | set(errors.split())
    if schema:
        assert responses[status]["content"]["application/json"]["schema"]["$ref"].endswith(f"/{schema}")
    for status, response in responses.items():
        assert set(response.get("headers", {})) >= HEADERS.get(call, {}).get(status, set())
        assert response["description"]
        if status >= "400":
            assert response["content"] == PROBLEM
        if status == "503":
            assert "Retry-After" in response["headers"]
        if status in ("204", "304"):
            assert "content" not in response


@pytest.mark.parametrize("name", SAMPLES)
def test_a_response_has_the_promised_names_and_types(name: str) -> None:
    sample = SAMPLES[name]
    validator(name).validate(sample)
    optional = {"checks"} if name == "Problem" else set()
    assert set(SCHEMAS[name]["properties"]) == set(sample) | optional
    if name not in ("JobSpec", "Problem"):
        assert set(SCHEMAS[name]["required"]) == set(sample)
        for field in sample:
            assert not validator(name).is_valid({key: value for key, value in sample.items() if key != field})


def test_the_parts_of_a_job_spec_have_the_promised_names() -> None:
    assert set(SCHEMAS["DatasetSpec"]["properties"]) == {"name", "train_samples", "test_samples", "sha256"}
    limits = {"max_parallel_fits", "fit_timeout_seconds", "max_failed_trials", "reuse", "max_epochs_trained"}
    assert set(SCHEMAS["Limits"]["properties"]) == limits
    assert set(SCHEMAS["CrossValidation"]["properties"]) == {
        "cv",
        "refit",
        "keep_model",
        "repeats",
        "race",
        "select",
        "scoring",
    }
    assert set(SCHEMAS["Holdout"]["properties"]) == {"validation_split", "refit", "keep_model", "scoring"}
    assert {name: set(SCHEMAS[name]["properties"]) - COMMON for name in SEARCHES} == SEARCHES
    assert SCHEMAS["JobSpec"]["required"] == ["search"]


def test_the_states_are_as_promised() -> None:
    states = ["queued", "running", "succeeded", "failed", "cancelled"]
    assert sorted(SCHEMAS["State"]["enum"]) == sorted([*states, "pruned"])
    assert sorted(SCHEMAS["JobState"]["enum"]) == sorted([*states, "cancelling", "paused"])


def test_lists_can_be_sorted_and_paged_as_promised() -> None:
    query = {one["name"]: one["schema"] for one in operation("GET /v1/jobs/{job_id}/trials")["parameters"]}
    keys = ["validation_accuracy", "validation_score"]
    assert sorted(query["sort"]["enum"]) == sorted(["number", *keys, *(f"-{key}" for key in keys)])
    assert (query["sort"]["default"], query["page_size"]["default"], query["page_size"]["minimum"]) == ("number", 20, 1)
