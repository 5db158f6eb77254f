"""The example grid searched at nine epochs by other tuners: `python -m benchmarks.live_peers NAME`, a JSON line a mean.

Each trains the folds of a candidate together, epoch by epoch, so that a mean over the folds decides who goes on.
"""

import argparse
import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import article
from benchmarks.article import Data, Params

EPOCHS, FACTOR = 9, 3
TUNERS = ("optuna", "keras-tuner")


class Folds:
    """A network for each fold of one candidate."""

    def __init__(self, params: Params, data: Data) -> None:
        self.params, self.data, self.epochs = params, data, 0
        self.networks = [article.model(**params) for _ in range(article.FOLDS)]

    def train(self, epochs: int) -> float:
        """Go on for so many epochs; the mean accuracy, which is printed too."""
        scores = []
        for network, (rows, held_out) in zip(self.networks, article.folds(self.data), strict=True):
            x, y = self.data.x[rows], self.data.y[rows]
            network.fit(x, y, batch_size=article.BATCH, epochs=epochs, verbose=0)
            scores.append(article.accuracy(network, self.data.x[held_out], self.data.y[held_out]))
        self.epochs += epochs
        mean = float(np.mean(scores))
        print(json.dumps({"mean": mean, "epochs": self.epochs, "trained": epochs, "params": self.params}), flush=True)
        return mean


def run_optuna(data: Data, journal: str, seed: int) -> None:
    """One of the processes that share a journal: TPE and HyperbandPruner, until it is stopped."""
    optuna: Any = importlib.import_module("optuna")
    keras: Any = importlib.import_module("keras")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    keras.utils.set_random_seed(seed)

    def objective(trial: Any) -> float:
        keras.backend.clear_session()
        grid = article.GRID
        folds = Folds({name: grid[name][trial.suggest_int(name, 0, len(grid[name]) - 1)] for name in grid}, data)
        for epoch in range(1, EPOCHS + 1):
            mean = folds.train(1)
            trial.report(mean, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        return mean

    storages = optuna.storages
    sampler = optuna.samplers.TPESampler(seed=seed)
    pruner = optuna.pruners.HyperbandPruner(1, EPOCHS, FACTOR)
    optuna.create_study(
        storage=storages.JournalStorage(storages.journal.JournalFileBackend(journal)),
        **{"study_name": "bench", "direction": "maximize", "load_if_exists": True},
        **{"sampler": sampler, "pruner": pruner},
    ).optimize(objective)


def run_keras_tuner(data: Data, folder: str, seed: int) -> None:
    """KerasTuner's Hyperband in one process; like it, a candidate goes on from its weights without the optimizer's."""
    tuning: Any = importlib.import_module("keras_tuner")
    keras: Any = importlib.import_module("keras")
    keras.utils.set_random_seed(seed)
    weights: dict[str, list[Any]] = {}

    class Folded(tuning.Hyperband):  # type: ignore[misc]
        def run_trial(self, trial: Any, **_: Any) -> float:
            keras.backend.clear_session()
            values = trial.hyperparameters.values
            folds = Folds({name: values[name] for name in article.GRID}, data)
            before = values["tuner/initial_epoch"]
            if before:
                for network, kept in zip(folds.networks, weights[values["tuner/trial_id"]], strict=True):
                    network.set_weights(kept)
            mean = folds.train(values["tuner/epochs"] - before)
            weights[trial.trial_id] = [network.get_weights() for network in folds.networks]
            return mean

    def build(hp: Any) -> Any:
        return article.model(**{name: hp.Choice(name, values) for name, values in article.GRID.items()})

    goal = tuning.Objective("accuracy", "max")
    options = {"max_epochs": EPOCHS, "factor": FACTOR, "hyperband_iterations": 100, "seed": seed}
    Folded(build, objective=goal, directory=folder, project_name="bench", **options).search(verbose=0)


def main() -> None:
    """The command that `benchmarks.live` starts and stops."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=TUNERS)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--seed", type=int, required=True)
    given = parser.parse_args()
    data = article.load()
    if given.name == "optuna":
        run_optuna(data, str(Path(given.folder) / "journal.log"), given.seed)
    else:
        run_keras_tuner(data, given.folder, given.seed)


if __name__ == "__main__":
    main()
