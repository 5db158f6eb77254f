"""Jobs that bring their own network: what is accepted, and what is wrong said with its place."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

NETWORK: list[dict[str, Any]] = [
    {"layer": "flatten"},
    {
        "layer": "repeat",
        "times": {"hyperparameter": "depth"},
        "layers": [{"layer": "dense", "units": {"hyperparameter": "units_{i}"}, "activation": "relu"}],
    },
    {"layer": "dropout", "rate": {"hyperparameter": "rate"}},
]
ALTERNATIVES = [{"depth": [1], "units_1": [8, 16]}, {"depth": [2], "units_1": [8], "units_2": [4]}]


def job(layers: Any = NETWORK, grid: Any = ALTERNATIVES, **changes: Any) -> dict[str, Any]:
    """A grid search over the network of these layers."""
    return {
        "dataset": {"name": "digits"},
        "model": {"layers": layers},
        "search": {"strategy": "grid", "param_grid": grid},
        "fixed": {"rate": 0.5, "epochs": 2},
        **changes,
    }


def errors(client: TestClient, posted: dict[str, Any]) -> list[tuple[str, str]]:
    """The errors of a rejected job: pointers and messages."""
    response = client.post("/v1/jobs", json=posted)
    assert response.status_code == 422, response.text
    return [(one["pointer"], one["message"]) for one in response.json()["errors"]]


def test_a_job_brings_its_network(sqlite_client: TestClient) -> None:
    response = sqlite_client.post("/v1/jobs", json=job())
    assert response.status_code == 202, response.text
    posted = response.json()
    assert posted["trials"]["total"] == 3
    assert posted["spec"]["model"] == {"layers": NETWORK}
    assert sqlite_client.get(f"/v1/jobs/{posted['id']}").json()["spec"] == posted["spec"]


def test_the_work_of_a_network_is_foreseen(sqlite_client: TestClient) -> None:
    preview = sqlite_client.post("/v1/preview", json=job(grid={"depth": [1], "units_1": [8]})).json()
    assert preview["multiply_adds"] == (64 * 8 + 8 * 10) * 2 * 1437 * 3  # three folds of two thirds, and the refit
    preview = sqlite_client.post("/v1/preview", json=job()).json()
    assert [one["units_1"] for one in preview["first"]] == [8, 16, 8]
    assert preview["duplicates"] == 0


def test_a_condition_does_not_hold_for_a_hyperparameter_without_a_use(sqlite_client: TestClient) -> None:
    search = {"strategy": "grid", "param_grid": ALTERNATIVES, "forbidden": [{"units_2": {"lt": {"param": "units_1"}}}]}
    preview = sqlite_client.post("/v1/preview", json=job(search=search)).json()
    assert (preview["trials"], preview["skipped"]) == (2, 1)


DENSE = {"layer": "dense", "units": 8}
WRONG: list[tuple[dict[str, Any], str, str]] = [
    (job(layers=[]), "/model/layers", "at least one layer"),
    (job(layers="dense"), "/model/layers", "valid list"),
    (job(model={}), "/model/layers", "Field required"),
    (job(model=7), "/model", "name of a model"),
    (job(model={"layers": [DENSE], "loss": "mse"}), "/model/loss", "expected one of layers"),
    (job(layers=[{"layer": "lambda"}]), "/model/layers/0/layer", "one of activation, "),
    (job(layers=[*NETWORK, {**DENSE, "units": 0}]), "/model/layers/3/units", "greater than or equal to 1"),
    (job(layers=[NETWORK[1], *NETWORK]), "/model/layers/0/layers/0", "dense takes a flat input, it gets 8 by 8 by 1"),
    (job(layers=[{"layer": "max_pooling2d"}], grid={"epochs": [1]}, fixed={}), "/model/layers", "end with flatten"),
    (job(fixed={}), "/model/layers/2/rate", "rate has no value: search it, or put it into `fixed`"),
    (job(fixed={"rate": 1.0}), "/fixed/rate", "less than 1"),
    (job(grid={"depth": [9], "units_1": [8]}), "/search/param_grid/depth/0", "less than or equal to 8"),
    (job(grid={"depth": [1], "units_1": [8], "units": [1]}), "/search/param_grid/units/0", "Unknown hyperparameter"),
    (job(grid={"depth": [2], "units_1": [8]}), "/search", "candidate 0: units_2 has no value"),
    (job(grid={"depth": [1, 2], "units_1": [8], "units_2": [8]}), "/search", "candidate 0: units_2 stands in no layer"),
    (job(dataset={"name": "iris"}, layers=[{"layer": "max_pooling2d"}, *NETWORK]), "/model/layers/0", "takes images"),
    (job(model="resnet", dataset={"name": "iris"}), "/model", "resnet needs images, and iris is a table"),
]  # fmt: skip


@pytest.mark.parametrize("posted, pointer, message", WRONG, ids=[message for *_, message in WRONG])
def test_what_is_wrong_with_a_network_is_said_with_its_place(
    sqlite_client: TestClient, posted: dict[str, Any], pointer: str, message: str
) -> None:
    [(where, said)] = errors(sqlite_client, posted)
    assert where == pointer and message in said


def test_all_that_is_wrong_is_said_at_once(sqlite_client: TestClient) -> None:
    layers = [{"layer": "dense"}, {"layer": "dropout", "rate": 2.0}, {"layer": "lambda"}]
    assert [where for where, _ in errors(sqlite_client, job(layers=layers))] == [
        "/model/layers/0/units",
        "/model/layers/1/rate",
        "/model/layers/2/layer",
    ]
    assert len(errors(sqlite_client, job(layers=[{"layer": "lambda"}] * 20))) == 10


def test_mlp_and_resnet_are_listed_with_their_hyperparameters(sqlite_client: TestClient) -> None:
    listed = {one["name"]: one for one in sqlite_client.get("/v1/models").json()["items"]}
    own = {name: {one["name"] for one in listed[name]["hyperparameters"]} for name in ("cnn", "mlp", "resnet")}
    training = {"learning_rate", "optimizer", "momentum", "weight_decay", "batch_size", "epochs", "class_weight"}
    assert all(training <= names for names in own.values())
    assert own["mlp"] - training == {"hidden_layers", "units", "activation", "dropout_rate"}
    assert own["resnet"] - training == {"stages", "blocks", "filters", "activation", "dropout_rate"}
