"""Trains a network from a seed on some rows of a data set and scores it on others, reporting as it goes."""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from worker import memory
from worker.cnn import program, tensors
from worker.cnn.architecture import Architecture
from worker.cnn.state import Checkpoints, Epoch, Keeper
from worker.training import OnEpoch, Report, Scores, Split

_PROGRAMS_KEPT = 8
_BYTES_KEPT = 2**30  # at most, the current fit included; or a quarter of the memory if that is less
_CALL_BYTES = 2**24
_REPORT_SECONDS = 0.6


_Call = Callable[[Any, Any, program.Totals], program.Totals]


class _Means(NamedTuple):
    loss: float
    accuracy: float
    seconds: float
    hits: bytes


class _Pace:
    """Sizes calls so that training reports about every `_REPORT_SECONDS`."""

    def __init__(self, multiply_adds: int, image_bytes: int) -> None:
        self.most = _CALL_BYTES // image_bytes
        # Until a call is timed: a billion multiply-adds a second, less than any machine does.
        self.seconds = multiply_adds * 1e-9
        self.traced = False

    def images(self, batch: int) -> int:
        """Images in the next call: whole batches, and a single one in the call that compiles."""
        return batch * max(1, int(min(_REPORT_SECONDS / self.seconds, self.most) / batch)) if self.traced else batch

    def window(self, images: int) -> float:
        """Seconds within which a call ends, with a wide margin."""
        return max(15.0, 5 * self.seconds * images) if self.traced else max(60.0, self.seconds * images)

    def learn(self, images: int, seconds: float) -> None:
        """Learn from a call's duration, except for the first one's, which is mostly compilation."""
        if self.traced:
            self.seconds = (self.seconds + seconds / images) / 2 if self.timed else seconds / images
            self.timed = True
        self.traced = True

    timed = False


class _Warm:
    """A program kept for the next fit of its architecture, with its measured pace."""

    def __init__(self, shape: Architecture) -> None:
        self.program = program.Program(shape)
        self.train_pace = _Pace(3 * shape.multiply_adds(), self.program.windows.size)
        self.score_pace = _Pace(shape.multiply_adds(), self.program.windows.size)


_programs: OrderedDict[Architecture, _Warm] = OrderedDict()


def train_network(
    hyperparameters: Mapping[str, int | float | str],
    split: Split,
    seed: int,
    report: Report,
    on_epoch: OnEpoch,
    checkpoints: Checkpoints | None = None,
) -> Scores:
    """Train one network as `keras.Model.fit` would and score it; equal arguments give equal bits in every process.

    With `checkpoints` it goes on from the latest snapshot, to the same bits; the seconds are those of this call.

    Raises ValueError if the image is too small for the convolutions, and whatever `report` or `on_epoch` raise.
    """
    shape = _make_architecture(hyperparameters, split)
    report(15.0 if shape in _programs else 60.0)
    _make_room(shape, int(hyperparameters["batch_size"]))
    warm = _get_warm(shape)
    warm.program.reset(seed)
    fit = _Fit(warm, split, hyperparameters, seed, report)
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
    return Scores(scored.accuracy, scored.loss, fit_seconds, score_seconds, scored.hits, resumed_from)


class _Fit:
    """One fit: a program, a split and the hyperparameters."""

    def __init__(
        self, warm: _Warm, split: Split, hyperparameters: Mapping[str, int | float | str], seed: int, report: Report
    ) -> None:
        self.warm, self.split, self.report = warm, split, report
        self.batch = int(hyperparameters["batch_size"])
        self.rates = _make_rates(hyperparameters, split.scale)
        self.orders = draw_orders(split.rows, seed)
        self.dropout_key = tensors.to_tensor(np.random.SeedSequence([seed, 2]).generate_state(1, np.uint64), "uint64")

    def train_epoch(self) -> _Means:
        """One pass over the training rows in a new order."""
        batch = tensors.to_tensor(self.batch, "int32")

        def call(images: Any, labels: Any, totals: program.Totals) -> program.Totals:
            return self.warm.program.train(images, labels, batch, self.rates, totals, self.dropout_key)

        split = self.split
        return self._run(call, split.images, split.labels, next(self.orders), self.batch, self.warm.train_pace)

    def score(self) -> _Means:
        """One pass over the scored rows, without dropout."""
        size = self.warm.program.shape.score_batch()
        batch = tensors.to_tensor(size, "int32")

        def call(images: Any, labels: Any, totals: program.Totals) -> program.Totals:
            return self.warm.program.score(images, labels, batch, self.rates, totals)

        split = self.split
        return self._run(call, split.score_images, split.score_labels, split.score_rows, size, self.warm.score_pace)

    def _run(
        self, call: _Call, images: np.ndarray, labels: np.ndarray, rows: np.ndarray, batch: int, pace: _Pace
    ) -> _Means:
        began = time.perf_counter()
        done, totals = 0, program.Totals.zero()
        windows = self.warm.program.windows
        while done < len(rows):
            chunk = rows[done : done + pace.images(batch)]
            self.report(pace.window(len(chunk)))
            mark = time.perf_counter()  # after the report, which may wait for the database
            seen = np.take(images[chunk].reshape(len(chunk), -1), windows, axis=1)
            totals = call(tensors.to_tensor(seen, "uint8"), tensors.to_tensor(labels[chunk], "uint8"), totals)
            loss, done = float(totals.loss), done + len(chunk)  # reading a total waits for the chunk to end
            pace.learn(len(chunk), time.perf_counter() - mark)
        hits = np.packbits(totals.hits.numpy()).tobytes()
        return _Means(loss / done, int(totals.correct) / done, time.perf_counter() - began, hits)


def draw_orders(rows: np.ndarray, seed: int) -> Iterator[np.ndarray]:
    """The rows in a new order for each epoch."""
    random = np.random.Generator(np.random.SFC64([seed, 1]))
    while True:
        yield random.permutation(rows)


def forget_programs() -> None:
    """Free every program."""
    _programs.clear()
    memory.release()


def _make_room(shape: Architecture, batch: int) -> None:
    """Free the least recently used programs until the rest and the next fit are within bounds."""
    others = [other for other in _programs if other != shape]
    room = min(_BYTES_KEPT, memory.get_limit() // 4) - _estimate_bytes(shape, batch)
    while others and (len(others) >= _PROGRAMS_KEPT or sum(map(program.Program.size, others)) > room):
        del _programs[others.pop(0)]
        memory.release()


def _estimate_bytes(shape: Architecture, batch: int) -> int:
    """Bytes that a fit takes, roughly: its program and a step's activations."""
    return program.Program.size(shape) + 16 * max(batch, shape.score_batch()) * shape.activations()


def _get_warm(shape: Architecture) -> _Warm:
    if shape not in _programs:
        _programs[shape] = _Warm(shape)
    _programs.move_to_end(shape)
    return _programs[shape]


def _make_architecture(hyperparameters: Mapping[str, int | float | str], split: Split) -> Architecture:
    h = hyperparameters
    whole = {name: int(h[name]) for name in ("conv_blocks", "filters", "kernel_size", "num_neurons")}
    return Architecture(
        height=split.images.shape[1],
        width=split.images.shape[2],
        classes=split.classes,
        **whole,
        activation=str(h["activation"]),
        optimizer=str(h["optimizer"]),
        momentum=float(h["momentum"]) > 0,
        weight_decay=float(h["weight_decay"]) > 0,
        penalty=float(h["l1"]) > 0 or float(h["l2"]) > 0,
        dropout=float(h["dropout_rate"]) > 0,
    )


def _make_rates(hyperparameters: Mapping[str, int | float | str], scale: float) -> tensors.Rates:
    made = {"scale": scale, "dropout_scale": 1.0 / (1.0 - float(hyperparameters["dropout_rate"]))}
    values = ({**hyperparameters, **made}[name] for name in tensors.Rates._fields)
    return tensors.Rates(*(tensors.to_tensor(value, "float32") for value in values))


tensors.configure_tensorflow()
