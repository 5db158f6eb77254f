"""The article's grid by what a user would pick instead: `python -m benchmarks.peers NAME`, JSON on the last line.

Each has TensorFlow's own threading: what its user gets who sets nothing.
"""

import time

_BEGAN = time.perf_counter()

import argparse  # noqa: E402
import importlib  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from contextlib import contextmanager  # noqa: E402
from dataclasses import asdict, dataclass  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402

from benchmarks import article  # noqa: E402
from benchmarks.article import Data, Params  # noqa: E402

Grid = dict[str, list[Any]]
Work = Callable[[Data], list[tuple[Params, float]]]  # the mean accuracy of what this process has tried
Started = Callable[[], None]  # to be called when all that a search needs is imported, in every process


@dataclass(frozen=True)
class Found:
    """What a search found: mean accuracy of each candidate, by its key, and how many fits that took."""

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
    """The article's: candidate by candidate, fold by fold, in one process."""
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
    """KerasTuner's own grid search in two processes under a third, its chief."""
    from tests import servers  # not above: it imports more than a peer's start should be charged with

    place = {"KERASTUNER_ORACLE_IP": "127.0.0.1", "KERASTUNER_ORACLE_PORT": str(servers.free_port())}
    os.environ.update(place, KERASTUNER_TUNER_ID="tuner0")
    with (
        tempfile.TemporaryDirectory() as folder,
        _beside("keras-tuner", grid, folder, KERASTUNER_TUNER_ID="chief") as chief,
        _beside("keras-tuner", grid, folder, KERASTUNER_TUNER_ID="tuner1") as other,
    ):
        search = _keras_tuner(grid, folder)
        started()
        _go(chief)
        _go(other)
        means = search(data) + _told_by(other)
        # The chief looks every 20 seconds whether it is still needed.
    return _found(means, article.FOLDS * len(means))


def _keras_tuner(grid: Grid, folder: str) -> Work:
    """As one of its processes; the folds are inside of a trial, as its guide has it."""
    import keras

    tuning: Any = importlib.import_module("keras_tuner")
    means: list[tuple[Params, float]] = []

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

    goal = tuning.Objective("accuracy", "max")
    limits = {"max_trials": len(article.candidates(grid)), "seed": article.SEED}
    tuner = Folded(build, objective=goal, directory=folder, project_name="bench", **limits)

    def search(data: Data) -> list[tuple[Params, float]]:
        tuner.search(data=data, verbose=0)
        return means

    return search


def optuna(grid: Grid, data: Data, started: Started) -> Found:
    """Optuna's grid sampler in two processes that share a journal; now and then both try the same point."""
    with tempfile.TemporaryDirectory() as folder, _beside("optuna", grid, folder) as other:
        search = _optuna(grid, folder)
        started()
        _go(other)
        found = search(data) + _told_by(other)
    means = {article.key(params): (params, value) for params, value in found}
    return _found(list(means.values()), article.FOLDS * len(found))


def _optuna(grid: Grid, folder: str) -> Work:
    import keras

    module: Any = importlib.import_module("optuna")
    module.logging.set_verbosity(module.logging.WARNING)
    storages = module.storages
    storage = storages.JournalStorage(storages.journal.JournalFileBackend(str(Path(folder) / "journal.log")))
    sampler = module.samplers.GridSampler(grid, seed=article.SEED)
    options = {"direction": "maximize", "study_name": "bench", "load_if_exists": True}
    study = module.create_study(storage=storage, sampler=sampler, **options)
    keras.utils.set_random_seed(article.SEED)
    means: list[tuple[Params, float]] = []

    def search(data: Data) -> list[tuple[Params, float]]:
        def objective(trial: Any) -> float:
            params = {name: trial.suggest_categorical(name, grid[name]) for name in grid}
            means.append((params, article.mean_accuracy(params, data)))
            return means[-1][1]

        study.optimize(objective)
        return means

    return search


# As a process of its own that searches beside the others.
PROCESSES = {"keras-tuner": _keras_tuner, "optuna": _optuna}


@contextmanager
def _beside(name: str, grid: Grid, folder: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Another process of a peer's, which has everything imported."""
    command = [sys.executable, "-m", "benchmarks.peers", name, "--grid", json.dumps(grid), "--beside", folder]
    with subprocess.Popen(
        command, env=os.environ | environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            if process.stdout:
                process.stdout.readline()
            yield process
        finally:
            process.kill()


def _go(process: subprocess.Popen[str]) -> None:
    print("go", file=process.stdin, flush=True)


def _told_by(process: subprocess.Popen[str]) -> list[tuple[Params, float]]:
    said, _ = process.communicate()
    if process.returncode:
        raise RuntimeError("the other process failed")
    return [(params, mean) for params, mean in json.loads(said.splitlines()[-1])]


def _be_beside(name: str, grid: Grid, folder: str) -> None:
    data, search = article.load(), PROCESSES[name](grid, folder)
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(search(data)), flush=True)


def _found(means: list[tuple[Params, float]], fits: int) -> Found:
    if not means:
        raise RuntimeError("no trial came to an end")
    best = max(means, key=lambda one: one[1])[0]
    return Found(best, {article.key(params): mean for params, mean in means}, fits)


PEERS = {
    "loop": Peer("the article's loop: Keras fit, one process", ("keras",), loop),
    "sklearn": Peer("GridSearchCV(n_jobs=2) with SciKeras", ("keras", "scikeras"), grid_search),
    "keras-tuner": Peer("KerasTuner GridSearch, two processes", ("keras", "keras_tuner"), keras_tuner),
    "optuna": Peer("Optuna GridSampler, two processes", ("keras", "optuna"), optuna),
}


def run(name: str, grid: Grid) -> dict[str, Any]:
    """Search, train the winner on everything and judge it once; seconds of each part."""
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
    """What `benchmarks.search` starts, each peer in a process of its own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=PEERS)
    parser.add_argument("--grid", type=json.loads, default=article.GRID)
    parser.add_argument("--beside", metavar="FOLDER", help="be another process of a search that has begun")
    given = parser.parse_args()
    if given.beside:
        _be_beside(given.name, given.grid, given.beside)
    else:
        print(json.dumps(run(given.name, given.grid)), flush=True)


if __name__ == "__main__":
    main()
