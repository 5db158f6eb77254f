"""Strategies on the recorded table: within the epochs, the same each time, and with the service's own winner."""

import numpy as np
import pytest

from benchmarks import identical, replay, strategies, table

BUDGET = 357
NAMES = ["random", "one-epoch discarding", "halving", "hyperband", "hyperband by tpe", "tpe"]


def test_the_table_is_whole() -> None:
    recorded = table.load()
    assert recorded.correct.shape == (len(table.CANDIDATES), table.FOLDS, table.EPOCHS)
    assert (recorded.correct <= recorded.rows[None, :, None]).all() and (recorded.correct[:, :, -1] > 0).all()


def test_regret_is_0_for_the_best_and_1_for_the_median_candidate() -> None:
    recorded = table.load()
    regrets = strategies.rate(recorded, [int(np.argmax(recorded.full)), *range(len(table.CANDIDATES))])
    assert regrets[0] == 0
    assert np.median(regrets[1:]) == pytest.approx(1)


@pytest.mark.parametrize("name", NAMES)
def test_a_replay_has_the_same_winner_each_time_and_keeps_to_the_epochs(name: str) -> None:
    recorded = table.load()
    [search] = replay.make_searches(BUDGET)[name]
    found = [replay.replay(search, 3, recorded) for _ in range(2)]
    assert found[0] == found[1]
    assert BUDGET - table.EPOCHS < found[0].epochs <= BUDGET


@pytest.mark.slow
@pytest.mark.parametrize("name", ["random", "halving", "hyperband", "hyperband by tpe", "tpe"])
def test_the_service_has_the_winner_of_the_replay(name: str) -> None:
    recorded = table.load()
    [search] = replay.make_searches(BUDGET)[name]
    run = identical.run_service(search, recorded, workers=3, order_seed=5)
    assert run.row == replay.replay(search, identical.SEED, recorded).row
