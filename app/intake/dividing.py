"""The one shuffle, and the cut between training and test part."""

import numpy as np
from numpy.typing import NDArray

from app.intake.answers import Options, reject
from app.intake.content import AnyArray, Content, DataPart


def divide(content: Content, options: Options) -> tuple[DataPart, DataPart]:
    """The training and the test part, in the order in which they are stored.

    Rows are shuffled by `random_state`, since own data is sorted more often than not, unless the file has a test part.

    Raises:
        Rejected: there are too few rows for a test part.
    """
    train = content.train
    if content.test is None or content.sorted_by_class:
        train = train._replace(rows=np.random.RandomState(options.random_state).permutation(train.rows))
    if content.test is not None:
        return train, content.test
    shuffled = train.y[train.rows]
    amounts = content.class_names is None
    chosen = choose_last(len(shuffled), options) if amounts else choose_last_of_each(shuffled, options)
    if not chosen.any() or chosen.all():
        raise reject(f"{len(shuffled):,} rows are too few to cut a test part of {options.test_share:g} from them")
    return train._replace(rows=train.rows[~chosen]), train._replace(rows=train.rows[chosen])


def choose_last(rows: int, options: Options) -> NDArray[np.bool_]:
    """The last rows, `test_share` of them and at least one."""
    return np.arange(rows) >= rows - max(1, int(rows * options.test_share + 0.5))


def choose_last_of_each(y: AnyArray, options: Options) -> NDArray[np.bool_]:
    """The last rows of each class, `test_share` of them, so that at least two are left."""
    counts = np.bincount(y)
    tested = np.minimum(np.floor(counts * options.test_share + 0.5).astype(int), np.maximum(counts - 2, 0))
    order = np.argsort(y, kind="stable")
    rank = np.arange(len(y)) - (np.cumsum(counts) - counts)[y[order]]  # within the class
    chosen = np.zeros(len(y), dtype=bool)
    chosen[order] = rank >= (counts - tested)[y[order]]
    return chosen


def find_smallest(y: AnyArray, regression: bool) -> tuple[int, ...]:
    """For k = 2 to 10: the fewest first samples with k of some class, as `StratifiedKFold(k)` wants; k for regression.

    One more than there are where no class has k.
    """
    if regression:
        return tuple(range(2, 11))
    counts = np.bincount(y)
    order = np.argsort(y, kind="stable")
    starts = np.cumsum(counts) - counts
    folds = range(2, 11)
    return tuple(
        int(order[starts[counts >= k] + k - 1].min()) + 1 if (counts >= k).any() else len(y) + 1 for k in folds
    )
