"""The catalogue of data sets and models, and the documentation pages."""

import re

from fastapi.testclient import TestClient

from tests.api.test_contract import HYPERPARAMETERS

BOUNDS = ("minimum", "exclusive_minimum", "maximum", "exclusive_maximum", "choices")


def test_the_data_sets_are_listed_with_their_shapes(sqlite_client: TestClient) -> None:
    page = sqlite_client.get("/v1/datasets").json()
    shapes = {one["name"]: (one["train_samples"], one["test_samples"], one["shape"]) for one in page["items"]}
    assert shapes == {
        "mnist": (60_000, 10_000, [28, 28, 1]),
        "digits": (1437, 360, [8, 8, 1]),
        "iris": (120, 30, [4]),
        "wine": (143, 35, [13]),
        "breast_cancer": (456, 113, [30]),
        "diabetes": (354, 88, [10]),
    }
    assert page["next_page_token"] is None


def test_the_model_is_listed_with_every_hyperparameter(sqlite_client: TestClient) -> None:
    page = sqlite_client.get("/v1/models").json()
    model = page["items"][0]
    assert (model["name"], page["next_page_token"]) == ("cnn", None)
    listed = model["hyperparameters"]
    assert [one["name"] for one in listed] == [name for name, *_ in HYPERPARAMETERS]
    for one, (_, kind, bounds, default) in zip(listed, HYPERPARAMETERS, strict=True):
        assert one["type"] == kind
        assert {bound: one[bound] for bound in BOUNDS} == dict.fromkeys(BOUNDS) | bounds
        assert (one["default"], bool(one["meaning"])) == (default, True)


def test_the_docs_page_loads_nothing_from_another_host(sqlite_client: TestClient) -> None:
    page = sqlite_client.get("/docs")
    assert page.status_code == 200
    loaded = re.findall(r"(?:src|href)=\"([^\"]+)\"", page.text)
    assert len(loaded) == 3
    assert not re.search(r"https?:|[\"']//", page.text)
    for path in loaded:
        part = sqlite_client.get(path)
        assert part.status_code == 200
    (style,) = (path for path in loaded if path.endswith(".css"))
    assert not re.search(r"@import|url\(\s*['\"]?(https?:)?//", sqlite_client.get(style).text)


def test_the_openapi_document_is_served(sqlite_client: TestClient) -> None:
    response = sqlite_client.get("/openapi.json")
    assert (response.status_code, response.headers["Content-Type"]) == (200, "application/json")
    assert response.json()["info"]["title"] == "Tunewell"


def test_livez_is_ok(sqlite_client: TestClient) -> None:
    assert sqlite_client.get("/livez").json() == {"status": "ok", "checks": {"process": "ok"}}
