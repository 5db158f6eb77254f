"""Scores of a network that are not its accuracy, from the probabilities of the scored rows."""

from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from sklearn import metrics
from sqlalchemy import Engine

from app.tuning.search.scoring import list_scorings
from tests.support.driving import post
from tests.worker.test_runner import run
from worker.scoring import count_confusion, score_probabilities
from worker.training import Scores, Split

TRAINING = {"dropout_rate": 0.0, "epochs": 2, "learning_rate": 0.01}
SMALL = {"cnn": {**TRAINING, "filters": 2, "num_neurons": 8}, "mlp": {**TRAINING, "units": 8}}


def make_split(classes: int, scoring: Any, rows: int = 90) -> tuple[Split, np.ndarray, np.ndarray]:
    """A split with random labels, these labels, and probabilities that mostly agree with them."""
    random = np.random.default_rng(classes)
    labels = np.resize(np.arange(classes), rows)
    given = random.dirichlet(np.ones(classes), rows)
    given[np.arange(rows), labels] += 0.3
    probabilities = (given / given.sum(axis=1, keepdims=True)).astype(np.float32)
    arrays = np.zeros((rows, 1)), labels.astype(np.uint8), np.arange(rows)
    return Split(*arrays, *arrays, 1.0, classes, True, scoring), labels, probabilities


@pytest.mark.parametrize("classes", [2, 4])
def test_scores_of_probabilities_are_scikit_learns(classes: int) -> None:
    _, labels, given = make_split(classes, "accuracy")
    exact = given.astype(np.float64)
    exact /= exact.sum(axis=1, keepdims=True)
    guesses = exact.argmax(axis=1)
    ranked = exact[:, 1] if classes == 2 else exact
    expected = {
        "accuracy": None,
        "balanced_accuracy": metrics.balanced_accuracy_score(labels, guesses),
        "f1": metrics.f1_score(labels, guesses) if classes == 2 else None,
        "f1_macro": metrics.f1_score(labels, guesses, average="macro"),
        "f1_weighted": metrics.f1_score(labels, guesses, average="weighted"),
        "roc_auc": metrics.roc_auc_score(labels, ranked) if classes == 2 else None,
        "roc_auc_ovr": metrics.roc_auc_score(labels, ranked, multi_class="ovr"),
        "average_precision": metrics.average_precision_score(labels, ranked),
        "neg_log_loss": -metrics.log_loss(labels, exact),
        "matthews_corrcoef": metrics.matthews_corrcoef(labels, guesses),
    }
    for scoring in list_scorings("classification", classes, probabilities=True):
        split, *_ = make_split(classes, scoring)
        found = score_probabilities(split, Scores(0.5, 1.0, 2.0, 3.0), lambda: given)
        wanted = expected[scoring]
        assert found.score == (wanted and pytest.approx(wanted, rel=1e-12)), scoring
        assert found.predicted is not None and found.predicted.tolist() == guesses.tolist()
        assert found.accuracy == 0.5 and found.score_seconds >= 3.0
        assert count_confusion(split, found.predicted) == metrics.confusion_matrix(labels, guesses).tolist()


def test_outputs_that_are_no_numbers_have_no_score() -> None:
    split, _, given = make_split(3, "f1_macro")
    with pytest.raises(ValueError, match="f1_macro is not defined for a network whose outputs are not numbers"):
        score_probabilities(split, Scores(0.5, 1.0, 2.0, 3.0), lambda: np.full_like(given, np.nan))


def test_more_than_fifty_classes_have_no_confusion_matrix() -> None:
    split, labels, _ = make_split(51, "accuracy", 102)
    assert count_confusion(split, labels) is None


@pytest.mark.system
@pytest.mark.parametrize("model", ["cnn", "mlp"])
def test_a_network_is_ranked_by_its_scoring(model: str, sqlite_engine: Engine, sqlite_client: TestClient) -> None:
    pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
    from worker.fit import train_fit

    job = {
        "dataset": {"name": "digits", "train_samples": 200},
        "model": model,
        "search": {"strategy": "grid", "param_grid": {"class_weight": ["none", "balanced"]}},
        "fixed": SMALL[model],
    }
    found = {}
    for scoring in ("neg_log_loss", "f1_macro"):
        job_id = post(sqlite_client, {**job, "evaluation": {"cv": 2, "scoring": scoring}})["id"]
        assert run(sqlite_engine, train_fit, most=10) == 5
        found[scoring] = sqlite_client.get(f"/v1/jobs/{job_id}/best").json()
        trials = sqlite_client.get(f"/v1/jobs/{job_id}/trials?sort=-validation_score").json()["items"]
        assert trials[0]["number"] == found[scoring]["trial"]
        assert trials[0]["validation_score"] >= trials[1]["validation_score"]
        fits = sqlite_client.get(f"/v1/jobs/{job_id}/trials/0").json()["fits"]
        assert all(fit["score"] != fit["accuracy"] == fit["history"][-1]["val_accuracy"] for fit in fits[:2])
        if scoring == "neg_log_loss":
            assert [-fit["score"] for fit in fits[:2]] == pytest.approx([fit["loss"] for fit in fits[:2]], rel=1e-4)
    test = found["f1_macro"]["test"]
    confusion = np.array(test["confusion"])
    assert (confusion.shape, confusion.sum()) == ((10, 10), 360)
    assert np.trace(confusion) / 360 == test["accuracy"]
    true, guessed, hits = confusion.sum(axis=1), confusion.sum(axis=0), np.diag(confusion)
    assert test["score"] == pytest.approx(np.mean(2 * hits / (true + guessed)))
