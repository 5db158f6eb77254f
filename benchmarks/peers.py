"""The example grid with what one would use instead: `python -m benchmarks.peers NAME`, JSON on the last line.

Each has TensorFlow's own threading: what its user gets who sets nothing.
"""

import time

_BEGAN = time.perf_counter()

import argparse  # noqa: E402
import importlib  # noqa: E402
import json  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
from collections.abc import Callable  # noqa: E402
from dataclasses import asdict, dataclass  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402

from benchmarks import article  # noqa: E402
from benchmarks.article import Data, Params  # noqa: E402

Grid = dict[str, list[Any]]
Started = Callable[[], None]  # to be called when all that a search needs is imported, in every process


@dataclass(frozen=True)
class Found:
    """The result of a search: mean accuracy of each candidate by its key, and the number of fits."""

    best: Params
    means: dict[str, float]
    fits: int


@dataclass(frozen=True)
class Peer:
    """A way to search, and the packages that it needs."""

    title: str
    needs: tuple[str, ...]
    search: Callable[[Grid, Data, Started], Found]


def loop(grid: Grid, data: Data, started: Started) -> Found:
    """A loop over Keras `fit`: candidate by candidate, fold by fold, in one process."""
    import keras

    started()
    keras.utils.set_random_seed(article.SEED)
    found = [(params, article.mean_accuracy(params, data)) for params in article.candidates(grid)]
    return _found(found, article.FOLDS * len(found))


def grid_search(grid: Grid, data: Data, started: Started) -> Found:
    """scikit-learn's, with SciKeras's classifier around the network."""
    joblib: Any = importlib.import_module("joblib")
    from sklearn.model_selection import GridSearchCV, StratifiedKFold

    wrappers = importlib.import_module("scikeras.wrappers")
    classifier = wrappers.KerasClassifier(
        model=article.model,
        optimizer="adam",
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        epochs=article.EPOCHS,
        batch_size=article.BATCH,
        verbose=0,
        random_state=article.SEED,
    )
    places = {"learning_rate": "optimizer__learning_rate"}
    routed = {places.get(name, f"model__{name}"): values for name, values in grid.items()}
    folds = StratifiedKFold(article.FOLDS)
    search = GridSearchCV(classifier, routed, cv=folds, n_jobs=2, refit=False, error_score="raise")
    joblib.Parallel(n_jobs=2)(joblib.delayed(_warm_up)() for _ in range(2))
    started()
    search.fit(data.x, data.y)
    candidates = [
        {name.partition("__")[2]: value for name, value in one.items()} for one in search.cv_results_["params"]
    ]
    means = [float(mean) for mean in search.cv_results_["mean_test_score"]]
    return _found(list(zip(candidates, means, strict=True)), article.FOLDS * len(means))


def _warm_up() -> None:
    importlib.import_module("scikeras.wrappers")
    time.sleep(0.5)  # so that the other process gets the other call


def keras_tuner(grid: Grid, data: Data, started: Started) -> Found:
    """KerasTuner's own grid search, with the folds inside a trial, as in its guide.

    In one process: in two under its chief it took half as long again, because a process that waits for the next
    point asks for it without a pause.
    """
    import keras

    tuning: Any = importlib.import_module("keras_tuner")
    means: list[tuple[Params, float]] = []
    started()

    class Folded(tuning.GridSearch):  # type: ignore[misc]
        def run_trial(self, trial: Any, data: Data, **_: Any) -> float:
            scores = []
            for train, held_out in article.folds(data):
                model = self.hypermodel.build(trial.hyperparameters)
                arrays = {"x": data.x[train], "y": data.y[train], "batch_size": article.BATCH, "verbose": 0}
                self.hypermodel.fit(trial.hyperparameters, model, epochs=article.EPOCHS, **arrays)
                scores.append(article.accuracy(model, data.x[held_out], data.y[held_out]))
            means.append((dict(trial.hyperparameters.values), float(np.mean(scores))))
            return means[-1][1]

    def build(hp: Any) -> Any:
        keras.backend.clear_session()
        return article.model(**{name: hp.Choice(name, values) for name, values in grid.items()})

    with tempfile.TemporaryDirectory() as folder:
        goal = tuning.Objective("accuracy", "max")
        limits = {"max_trials": len(article.candidates(grid)), "seed": article.SEED}
        tuner = Folded(build, objective=goal, directory=folder, project_name="bench", **limits)
        tuner.search(data=data, verbose=0)
    return _found(means, article.FOLDS * len(means))


def optuna(grid: Grid, data: Data, started: Started) -> Found:
    """Optuna's grid sampler in two processes that share a journal; now and then both try the same point."""
    with tempfile.TemporaryDirectory() as folder:
        journal = str(Path(folder) / "journal.log")
        _study(grid, journal)
        command = [sys.executable, "-m", "benchmarks.peers", "optuna-process", "--journal", journal]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with subprocess.Popen([*command, "--grid", json.dumps(grid)], **pipes) as other:  # type: ignore[call-overload]
            objective = _objective(grid, data)
            other.stdout.readline()
            started()
            print("go", file=other.stdin, flush=True)
            _study(grid, journal).optimize(objective)
        if other.returncode:
            raise RuntimeError("Optuna's other process failed")
        done = [trial for trial in _study(grid, journal).trials if trial.value is not None]
    means = {article.key(trial.params): (trial.params, trial.value) for trial in done}
    return _found(list(means.values()), article.FOLDS * len(done))


def optuna_process(grid: Grid, journal: str) -> None:
    """The second of Optuna's processes: starts on a signal."""
    objective = _objective(grid, article.load())
    print("ready", flush=True)
    sys.stdin.readline()
    _study(grid, journal).optimize(objective)


def _objective(grid: Grid, data: Data) -> Callable[[Any], float]:
    import keras

    def objective(trial: Any) -> float:
        return article.mean_accuracy({name: trial.suggest_categorical(name, grid[name]) for name in grid}, data)

    keras.utils.set_random_seed(article.SEED)
    return objective


def _study(grid: Grid, journal: str) -> Any:
    module: Any = importlib.import_module("optuna")
    module.logging.set_verbosity(module.logging.WARNING)
    storages = module.storages
    storage = storages.JournalStorage(storages.journal.JournalFileBackend(journal))
    options = {"direction": "maximize", "study_name": "bench", "load_if_exists": True}
    return module.create_study(storage=storage, sampler=module.samplers.GridSampler(grid, seed=article.SEED), **options)


def _found(means: list[tuple[Params, float]], fits: int) -> Found:
    if not means:
        raise RuntimeError("no trial came to an end")
    best = max(means, key=lambda one: one[1])[0]
    return Found(best, {article.key(params): mean for params, mean in means}, fits)


PEERS = {
    "loop": Peer("a loop over Keras fit, one process", ("keras",), loop),
    "sklearn": Peer("GridSearchCV(n_jobs=2) with SciKeras", ("keras", "scikeras"), grid_search),
    "keras-tuner": Peer("KerasTuner GridSearch, one process", ("keras", "keras_tuner"), keras_tuner),
    "optuna": Peer("Optuna GridSampler, two processes", ("keras", "optuna"), optuna),
}


def run(name: str, grid: Grid) -> dict[str, Any]:
    """Search, train the best on the whole training set and score it once; seconds of each part."""
    data = article.load()
    marks: list[float] = []
    found = PEERS[name].search(grid, data, lambda: marks.append(time.perf_counter()))
    searched = time.perf_counter()
    winner = article.fit(found.best, data.x, data.y)
    test = article.accuracy(winner, data.x_test, data.y_test)
    ended = time.perf_counter()
    seconds = {"start": marks[0] - _BEGAN, "search": searched - marks[0], "refit": ended - searched}
    return {**asdict(found), "test_accuracy": test, "seconds": seconds}


def main() -> None:
    """The command that `benchmarks.search` starts, each peer in its own process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=[*PEERS, "optuna-process"])
    parser.add_argument("--grid", type=json.loads, default=article.GRID)
    parser.add_argument("--journal", default="")
    given = parser.parse_args()
    if given.name == "optuna-process":
        optuna_process(given.grid, given.journal)
    else:
        print(json.dumps(run(given.name, given.grid)), flush=True)


if __name__ == "__main__":
    main()
