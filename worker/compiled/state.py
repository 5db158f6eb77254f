"""What a fit needs to go on where it was: snapshots of its state, and when they are taken and used."""

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np

SNAPSHOT_SECONDS = 60.0  # between two snapshots of a long fit
SAVING_SECONDS = 60.0  # that a slow disk may take


class Epoch(NamedTuple):
    """One pass over the training rows: Keras's running means while training, then the scores if requested."""

    epoch: int
    loss: float
    accuracy: float | None  # None for regression
    val_loss: float | None
    val_accuracy: float | None
    seconds: float


class Snapshot(NamedTuple):
    """All that a fit needs to go on, bit for bit: its epochs so far, the weights and the optimizer's state."""

    epochs: list[Epoch]
    arrays: list[np.ndarray]


class Checkpoints(Protocol):
    """Where a fit's snapshots are kept, or not: it is a cache."""

    keeps_last: bool  # whether a fit of more epochs may follow

    def load(self, epochs: int) -> Snapshot | None:
        """The latest snapshot after at most so many epochs."""

    def save(self, snapshot: Snapshot) -> None:
        """Keep a snapshot, if possible."""

    def discard(self) -> None:
        """Forget the fit's snapshots."""


class Resumable(Protocol):
    """What can be taken to a snapshot."""

    def snapshot(self) -> list[np.ndarray]:
        """All that training changes."""

    def restore(self, arrays: list[np.ndarray]) -> bool:
        """Take over a snapshot of its kind; False, with nothing changed, if it is of another one."""


class Keeper:
    """Takes a fit to its latest snapshot, and takes snapshots of it: one a minute, and the last one if it is wanted."""

    def __init__(self, program: Resumable, epochs: int, checkpoints: Checkpoints | None) -> None:
        """`program` has just been reset; `epochs` is how many the fit has in all."""
        self.epochs: list[Epoch] = []
        self._program, self._last, self._checkpoints = program, epochs, checkpoints
        self._saved = time.monotonic()

    def resume(self, orders: Iterator[Any]) -> None:
        """Take the program over to the latest snapshot, and `orders` past the epochs that have ended."""
        snapshot = self._checkpoints.load(self._last) if self._checkpoints else None
        if not self._checkpoints or not snapshot:
            return
        if len(snapshot.epochs) > self._last or not self._program.restore(snapshot.arrays):
            self._checkpoints.discard()  # it is of another fit
            return
        self.epochs = list(snapshot.epochs)
        for _ in self.epochs:
            next(orders)

    def end_epoch(self, epoch: Epoch, report: Callable[[float], None]) -> None:
        """Note an epoch that has ended, and save a snapshot if one is due."""
        self.epochs.append(epoch)
        if not self._checkpoints:
            return
        ended = len(self.epochs) == self._last
        if self._checkpoints.keeps_last if ended else time.monotonic() - self._saved >= SNAPSHOT_SECONDS:
            report(SAVING_SECONDS)
            self._checkpoints.save(Snapshot(self.epochs, self._program.snapshot()))
            self._saved = time.monotonic()

    def end_fit(self) -> None:
        """Forget the snapshots if no fit will go on from them."""
        if self._checkpoints and not self._checkpoints.keeps_last:
            self._checkpoints.discard()
