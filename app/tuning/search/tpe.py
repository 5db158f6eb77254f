"""What a model-based search knows when it draws a trial: never more than the trial's number says."""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def split_history(trials: Sequence[T], number: int, window: int) -> tuple[Sequence[T], Sequence[T]]:
    """The trials whose results trial `number` is drawn from, and those that count as running then.

    The first are all but the last `window - 1` before it, which must have ended. The others count as running even if
    they have ended, so that the draw is the same in whatever order they end. `trials` are in the order of their
    numbers; `window` is `max_concurrent_trials`.
    """
    known = max(0, number - window + 1)
    return trials[:known], trials[known:number]


def split_brackets(trials: Sequence[T], brackets: Sequence[int], number: int) -> tuple[Sequence[T], Sequence[T]]:
    """In a search by brackets: the trials of all brackets before its own, which must have ended, and those before it
    in its own, which count as running.

    `trials` are in the order of their numbers, and `brackets` has the bracket of each.
    """
    known = sum(bracket < brackets[number] for bracket in brackets)
    return trials[:known], trials[known:number]
