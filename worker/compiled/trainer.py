"""The course of a fit by a compiled program: epochs, scores, snapshots and reports; and programs kept warm."""

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
from sklearn.utils.class_weight import compute_class_weight

from app.tuning.search.models import Model
from worker import memory
from worker.compiled import tensors
from worker.compiled.batches import Totals
from worker.compiled.draws import derive_dropout_key, draw_orders
from worker.compiled.program import Program
from worker.compiled.state import Checkpoints, Epoch, Keeper
from worker.compiled.tensors import Rates
from worker.saving.networks import write_network
from worker.scoring import score_numbers, score_probabilities
from worker.training import OnEpoch, Report, Scores, Split

_PROGRAMS_KEPT = 8
_BYTES_KEPT = 2**30  # at most, the current fit included; or a quarter of the memory if that is less
_CALL_BYTES = 2**24
_REPORT_SECONDS = 0.6


class Blueprint(Protocol):
    """Everything that determines a program's graphs; hashable: fits of equal blueprints share a program."""

    def sample_bytes(self) -> int:
        """Of one sample as the program takes it."""

    def program_bytes(self) -> int:
        """Of the weights and the optimizer's slots."""

    def multiply_adds(self) -> int:
        """Of one sample's forward pass."""

    def activations(self) -> int:
        """Values that one sample's forward pass holds, roughly."""

    def score_batch(self) -> int:
        """Samples scored at a time."""


class Prepared(NamedTuple):
    """What a trainer makes of a fit for its program."""

    blueprint: Blueprint
    make_program: Callable[[], Program]
    rates: Rates
    prepare: Callable[[np.ndarray], np.ndarray]  # of some samples of the split, what the program takes
    model: Model


_Call = Callable[[Any, Any, Totals], Totals]


class _Means(NamedTuple):
    loss: float
    accuracy: float | None  # None for regression, like the hits
    seconds: float
    hits: bytes | None


class _Pace:
    """Sizes calls so that training reports about every `_REPORT_SECONDS`."""

    def __init__(self, multiply_adds: int, sample_bytes: int) -> None:
        self.most = _CALL_BYTES // sample_bytes
        # Until a call is timed: a billion multiply-adds a second, less than any machine does.
        self.seconds = multiply_adds * 1e-9
        self.traced = False

    def samples(self, batch: int) -> int:
        """Samples in the next call: whole batches, and a single one in the call that compiles."""
        return batch * max(1, int(min(_REPORT_SECONDS / self.seconds, self.most) / batch)) if self.traced else batch

    def window(self, samples: int) -> float:
        """Seconds within which a call ends, with a wide margin."""
        return max(15.0, 5 * self.seconds * samples) if self.traced else max(60.0, self.seconds * samples)

    def learn(self, samples: int, seconds: float) -> None:
        """Learn from a call's duration, except for the first one's, which is mostly compilation."""
        if self.traced:
            self.seconds = (self.seconds + seconds / samples) / 2 if self.timed else seconds / samples
            self.timed = True
        self.traced = True

    timed = False


class _Warm:
    """A program kept for the next fit of its blueprint, with its measured pace."""

    def __init__(self, program: Program, blueprint: Blueprint) -> None:
        self.program = program
        self.train_pace = _Pace(3 * blueprint.multiply_adds(), blueprint.sample_bytes())
        self.score_pace = _Pace(blueprint.multiply_adds(), blueprint.sample_bytes())


_programs: OrderedDict[Blueprint, _Warm] = OrderedDict()


def run_fit(
    prepared: Prepared,
    hyperparameters: Mapping[str, int | float | str],
    split: Split,
    seed: int,
    report: Report,
    on_epoch: OnEpoch,
    checkpoints: Checkpoints | None = None,
) -> Scores:
    """Train one network as `keras.Model.fit` would and score it; equal arguments give equal bits in every process.

    With `checkpoints` it goes on from the latest snapshot, to the same bits; the seconds are those of this call.

    Raises whatever `report` or `on_epoch` raise.
    """
    blueprint, batch = prepared.blueprint, int(hyperparameters["batch_size"])
    report(15.0 if blueprint in _programs else 60.0)
    _make_room(blueprint, batch)
    warm = _get_warm(blueprint, prepared.make_program)
    warm.program.reset(seed)
    if hyperparameters.get("class_weight") == "balanced":
        warm.program.class_weights.assign(weigh_classes(split))
    fit = _Fit(warm, prepared, split, batch, seed, report)
    epochs = int(hyperparameters["epochs"])
    keeper = Keeper(warm.program, epochs, checkpoints)
    keeper.resume(fit.orders)
    scored = fit.score() if len(keeper.epochs) == epochs else None
    fit_seconds, score_seconds = 0.0, scored.seconds if scored else 0.0
    for row in keeper.epochs:
        on_epoch(row)
    resumed_from = len(keeper.epochs) or None
    for epoch in range(len(keeper.epochs) + 1, epochs + 1):
        means = fit.train_epoch()
        scored = fit.score() if split.score_every_epoch or epoch == epochs else None
        fit_seconds += means.seconds
        score_seconds += scored.seconds if scored else 0.0
        reported = scored if split.score_every_epoch else None
        row = Epoch(
            epoch,
            means.loss,
            means.accuracy,
            reported.loss if reported else None,
            reported.accuracy if reported else None,
            means.seconds + (reported.seconds if reported else 0.0),
        )
        on_epoch(row)
        keeper.end_epoch(row, report)
    assert scored is not None
    keeper.end_fit()
    export = partial(write_network, prepared.model, warm.program.weights, split)
    scores = Scores(scored.accuracy, scored.loss, fit_seconds, score_seconds, scored.hits, resumed_from, export=export)
    if not split.wants_predictions:
        return scores
    return (score_probabilities if split.classes else score_numbers)(split, scores, fit.predict)


class _Fit:
    """One fit: a program, a split and what the trainer has prepared."""

    def __init__(self, warm: _Warm, prepared: Prepared, split: Split, batch: int, seed: int, report: Report) -> None:
        self.warm, self.split, self.report, self.batch = warm, split, report, batch
        self.rates, self.prepare = prepared.rates, prepared.prepare
        self.scored_at_a_time = prepared.blueprint.score_batch()
        self.orders = draw_orders(split.rows, seed)
        self.dropout_key = tensors.to_tensor(derive_dropout_key(seed), "uint64")

    def train_epoch(self) -> _Means:
        """One pass over the training rows in a new order."""
        batch = tensors.to_tensor(self.batch, "int32")

        def call(samples: Any, labels: Any, totals: Totals) -> Totals:
            return self.warm.program.train(samples, labels, batch, self.rates, totals, self.dropout_key)

        split = self.split
        return self._run(call, split.images, split.labels, next(self.orders), self.batch, self.warm.train_pace)

    def score(self) -> _Means:
        """One pass over the scored rows, without dropout."""
        size = self.scored_at_a_time
        batch = tensors.to_tensor(size, "int32")

        def call(samples: Any, labels: Any, totals: Totals) -> Totals:
            return self.warm.program.score(samples, labels, batch, self.rates, totals)

        split = self.split
        return self._run(call, split.score_images, split.score_labels, split.score_rows, size, self.warm.score_pace)

    def predict(self) -> np.ndarray:
        """The probabilities of the classes of each scored row, (n, classes), or for regression numbers (n,)."""
        rows, size, parts = self.split.score_rows, self.scored_at_a_time, []
        for start in range(0, len(rows), size):
            chunk = rows[start : start + size]
            self.report(max(60.0, self.warm.score_pace.window(size)))  # the first call compiles
            samples = tensors.to_tensor(self.prepare(self.split.score_images[chunk]))
            parts.append(self.warm.program.predict(samples, self.rates).numpy())
        return np.concatenate(parts)

    def _run(
        self, call: _Call, samples: np.ndarray, labels: np.ndarray, rows: np.ndarray, batch: int, pace: _Pace
    ) -> _Means:
        began, kind = time.perf_counter(), "int32" if self.split.classes else "float32"
        done, totals = 0, Totals.zero()
        while done < len(rows):
            chunk = rows[done : done + pace.samples(batch)]
            self.report(pace.window(len(chunk)))
            mark = time.perf_counter()  # after the report, which may wait for the database
            seen = self.prepare(samples[chunk])
            totals = call(tensors.to_tensor(seen), tensors.to_tensor(labels[chunk], kind), totals)
            loss, done = float(totals.loss), done + len(chunk)  # reading a total waits for the chunk to end
            pace.learn(len(chunk), time.perf_counter() - mark)
        accuracy, hits = int(totals.correct) / done, np.packbits(totals.hits.numpy()).tobytes()
        known = (accuracy, hits) if self.split.classes else (None, None)
        return _Means(loss / done, known[0], time.perf_counter() - began, known[1])


def weigh_classes(split: Split) -> np.ndarray:
    """What a training sample of each class counts, (classes,): as scikit-learn's `balanced`, 1 for absent classes."""
    labels = split.labels[split.rows]
    present = np.unique(labels)
    weights = np.ones(split.classes, np.float32)
    weights[present] = compute_class_weight("balanced", classes=present, y=labels)
    return weights


def forget_programs() -> None:
    """Free every program."""
    _programs.clear()
    memory.release()


def _make_room(blueprint: Blueprint, batch: int) -> None:
    """Free the least recently used programs until the rest and the next fit are within bounds."""
    others = [other for other in _programs if other != blueprint]
    room = min(_BYTES_KEPT, memory.get_limit() // 4) - _estimate_bytes(blueprint, batch)
    while others and (len(others) >= _PROGRAMS_KEPT or sum(other.program_bytes() for other in others) > room):
        del _programs[others.pop(0)]
        memory.release()


def _estimate_bytes(blueprint: Blueprint, batch: int) -> int:
    """Bytes that a fit takes, roughly: its program and a step's activations."""
    return blueprint.program_bytes() + 16 * max(batch, blueprint.score_batch()) * blueprint.activations()


def _get_warm(blueprint: Blueprint, make_program: Callable[[], Program]) -> _Warm:
    if blueprint not in _programs:
        _programs[blueprint] = _Warm(make_program(), blueprint)
    _programs.move_to_end(blueprint)
    return _programs[blueprint]


tensors.configure_tensorflow()
