"""Optuna's samplers and pruner on the recorded table, in two processes that share a journal."""

import importlib
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from app.tuning.search.models import Value
from benchmarks.table import EPOCHS, FOLDS, SPACE, Table, find_row, load
from benchmarks.together import meet, together

PROCESSES = 2
SPEED = 100  # times as fast as the table was trained
WAYS = ("TPE", "TPE with HyperbandPruner")


class Ran(NamedTuple):
    """A study's best trial as a row of the table, the epochs of each fold, and all that was found."""

    row: int
    epochs: int
    repeated: int  # trials of a point that another one had
    table: list[Any]


def run_studies(way: str, budget: int, seeds: list[int]) -> list[Ran]:
    """A study of so many epochs for each seed; a trial that has begun goes on beyond them."""
    with TemporaryDirectory() as folder:
        return together(PROCESSES, run_process, folder, way, budget, seeds)[0]


def run_process(folder: str, way: str, budget: int, seeds: list[int]) -> list[Ran]:
    """One of the processes, which trains its share of the epochs."""
    table, ran = load(), []
    first = _is_first(Path(folder))
    for number, seed in enumerate(seeds):
        journal = str(Path(folder) / f"{number}.log")
        study = _open(journal, way, seed, first) if first else None
        meet()
        study = study or _open(journal, way, seed, first)
        trials = budget // EPOCHS
        objective = _Objective(table, prunes=way != WAYS[0])
        meet()
        if not objective.prunes:
            study.optimize(objective, n_trials=(trials + first) // PROCESSES)
        while objective.prunes and objective.spent < budget / PROCESSES:
            study.optimize(objective, n_trials=1)
        meet()
        ran.append(_read(study))
    return ran


class _Objective:
    """Looks up what a trial trains, and waits for a share of the time that it took."""

    def __init__(self, table: Table, prunes: bool) -> None:
        self.table, self.prunes, self.spent = table, prunes, 0

    def __call__(self, trial: Any) -> float:
        row = find_row({name: _suggest(trial, name, values) for name, values in SPACE.items()})
        seconds = float(self.table.seconds[row]) * FOLDS / SPEED
        for epoch in range(1, EPOCHS + 1):
            time.sleep(seconds)
            self.spent += 1
            if self.prunes:
                trial.report(self.table.mean(row, epoch), epoch)
                if trial.should_prune():
                    raise importlib.import_module("optuna").TrialPruned
        return self.table.mean(row, EPOCHS)


def _suggest(trial: Any, name: str, values: list[Value]) -> Value:
    """As Tunewell asks: numbers by their order, strings as categories."""
    if isinstance(values[0], str):
        value: Value = trial.suggest_categorical(name, values)
        return value
    return values[int(trial.suggest_int(name, 0, len(values) - 1))]


def _is_first(folder: Path) -> bool:
    try:
        (folder / "first").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _open(journal: str, way: str, seed: int, first: bool) -> Any:
    """The study; each process has a sampler with a seed of its own, so that they do not begin with the same points."""
    optuna: Any = importlib.import_module("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storages = optuna.storages
    storage = storages.JournalStorage(storages.journal.JournalFileBackend(journal))
    pruner = optuna.pruners.NopPruner() if way == WAYS[0] else optuna.pruners.HyperbandPruner(1, EPOCHS, 3)
    options = {"sampler": optuna.samplers.TPESampler(seed=PROCESSES * seed + first), "pruner": pruner}
    options |= {"study_name": f"seed {seed}", "direction": "maximize"}  # Optuna's brackets depend on the name
    return optuna.create_study(storage=storage, load_if_exists=True, **options)


def _read(study: Any) -> Ran:
    trials = study.get_trials(deepcopy=False)
    best = max(trials, key=lambda trial: (trial.state.name == "COMPLETE", trial.value))
    found = [[sorted(trial.params.items()), sorted(trial.intermediate_values.items()), trial.value] for trial in trials]
    points = Counter(str(params) for params, *_ in found)
    epochs = sum(trial.last_step or EPOCHS for trial in trials)
    return Ran(_row(best), epochs, len(trials) - len(points), sorted(found, key=str))


def _row(trial: Any) -> int:
    chosen = {name: SPACE[name][value] if name != "optimizer" else value for name, value in trial.params.items()}
    return find_row(chosen)
