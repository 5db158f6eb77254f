"""Searches with scikit-learn's interface that a Tunewell service carries out."""

import hashlib
from functools import cached_property
from typing import Any, Self

from tunewell.client import Client, Job
from tunewell.errors import Error, require
from tunewell.searches import convert_estimator, convert_search
from tunewell.tables import make_cv_results

model_selection = require("sklearn.model_selection", "tunewell.sklearn")
Document = dict[str, Any]
TEST_IS_TRAINING = {"test-set": "training-samples"}


class _Search:
    """What both searches do once they have a search of scikit-learn's as a description."""

    job_: Job
    best_params_: Document
    best_score_: float
    best_index_: int
    cv_results_: Document
    classes_: Any  # of a classifier that was given X and y

    def __init__(self, described: Any, client: Client | None) -> None:
        self._described, self._client = described, client
        self._fields = convert_search(described)  # what has no equal is rejected before anything is sent
        self._prefix = convert_estimator(described.estimator).prefix

    def fit(
        self, X: Any = None, y: Any = None, *, X_test: Any = None, y_test: Any = None, dataset: str | None = None
    ) -> Self:
        """Search on X and y, which are uploaded, or on a data set that the service has.

        The service scores the winner once on a test set. Without `X_test` and `y_test` it gets the training samples
        as one, and the job a label that says so: what it then shows as test score says nothing of other samples.
        It stores numbers as float32: scores equal scikit-learn's on such numbers.

        Raises:
            Error: the search has failed or was cancelled; the message says why.
        """
        client = self._client or Client()
        labels: Document = {}
        if dataset is None:
            if X_test is None:
                X_test, y_test, labels = X, y, TEST_IS_TRAINING
            dataset = self._upload(client, X, y, X_test, y_test)
        self.job_ = client.submit(self._fields, dataset=dataset, labels=labels).wait()
        if self.job_.state != "succeeded":
            reason = (self.job_.document["error"] or {}).get("message", "see its trials")
            raise Error(f"the job {self.job_.id} is {self.job_.state}: {reason}")
        self._read_results()
        return self

    @cached_property
    def best_estimator_(self) -> Any:
        """The winner, trained on all samples, as scikit-learn's estimator; it is fetched when it is first used.

        It predicts the numbers of classes; `predict` gives the classes themselves. It is loaded with joblib: use a
        service that you trust.
        """
        return self.job_.model().load()

    def predict(self, X: Any) -> Any:
        """What the winner predicts."""
        predicted = self.best_estimator_.predict(X)
        return self.classes_[predicted] if hasattr(self, "classes_") else predicted

    def _upload(self, client: Client, X: Any, y: Any, X_test: Any, y_test: Any) -> str:
        """Store the samples under a name made of their content; the name."""
        numpy = require("numpy", "fit(X, y)")
        parts = [numpy.ascontiguousarray(part) for part in (X, y, X_test, y_test)]
        is_regression = require("sklearn.base", "fit(X, y)").is_regressor(self._described.estimator)
        if not is_regression:
            self.classes_ = numpy.unique(parts[1])
            parts[1], parts[3] = (numpy.searchsorted(self.classes_, part) for part in (parts[1], parts[3]))
        digest = hashlib.sha256()
        for part in parts:
            digest.update(f"{part.dtype.str}{part.shape}".encode() + part.tobytes())
        name = f"fit-{digest.hexdigest()[:24]}"
        client.upload(name, parts, task="regression" if is_regression else None)
        return name

    def _read_results(self) -> None:
        self.__dict__.pop("best_estimator_", None)  # of an earlier fit
        best = self.job_.best()
        validation = best["validation"]
        self.best_index_ = best["trial"]
        self.best_params_ = self._name_params(best["params"])
        score = validation.get("mean_score")
        self.best_score_ = validation["mean_accuracy"] if score is None else score
        results = make_cv_results(self.job_.results())
        results["params"] = [self._name_params(params) for params in results["params"]]
        self.cv_results_ = {
            f"param_{self._prefix}{name.removeprefix('param_')}" if name.startswith("param_") else name: column
            for name, column in results.items()
        }

    def _name_params(self, params: Document) -> Document:
        """As scikit-learn writes them: with the pipeline's prefix, and None."""
        absent = {"class_weight": "none", "max_depth": 0}
        return {
            self._prefix + name: None if name in absent and value == absent[name] else value
            for name, value in params.items()
        }


class GridSearch(_Search):
    """scikit-learn's `GridSearchCV`, carried out by a service.

    Args:
        estimator: an estimator that Tunewell has, in a pipeline with `StandardScaler` where it standardizes features.
        param_grid: as for `GridSearchCV`.
        client: the service; by default the one at `TUNEWELL_URL`.

    Raises:
        CannotConvert: Tunewell has no equal of something.
    """

    def __init__(
        self,
        estimator: Any,
        param_grid: Any,
        *,
        scoring: str | None = None,
        cv: int = 5,
        refit: bool = True,
        client: Client | None = None,
    ) -> None:
        described = model_selection.GridSearchCV(estimator, param_grid, scoring=scoring, cv=cv, refit=refit)
        super().__init__(described, client)


class RandomizedSearch(_Search):
    """scikit-learn's `RandomizedSearchCV`, carried out by a service; arguments are those of `GridSearch` else."""

    def __init__(
        self,
        estimator: Any,
        param_distributions: Any,
        *,
        n_iter: int = 10,
        scoring: str | None = None,
        cv: int = 5,
        refit: bool = True,
        random_state: int | None = None,
        client: Client | None = None,
    ) -> None:
        described = model_selection.RandomizedSearchCV(
            estimator,
            param_distributions,
            n_iter=n_iter,
            scoring=scoring,
            cv=cv,
            refit=refit,
            random_state=random_state,
        )
        super().__init__(described, client)
