"""The quick part of the chaos suite: real workers, broker and databases, with less damage than `make chaos` does."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.chaos import brokers, children, databases, killing, lacking, messages, waiting
from tests.chaos.ground import Ground
from tests.chaos.report import Row
from tests.chaos.site import Site

pytestmark = pytest.mark.timeout(300)


class OneSite(Ground):
    """All scenarios take place on the same site: starting processes is what costs most."""

    def __init__(self, folder: Path, made: Site) -> None:
        super().__init__(folder)
        self._made = made

    @contextmanager
    def site(self, kind: str = "sqlite", workers: int = 0, processes: int = 1) -> Iterator[Site]:
        yield self._made


@pytest.fixture(scope="module")
def one_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """An API and two workers on SQLite."""
    folder = tmp_path_factory.mktemp("chaos")
    with Ground(folder / "site") as ground, ground.site("sqlite", workers=2) as made:
        yield OneSite(folder / "more", made)


def keeps(scenario: Callable[..., None], ground: Ground, **how: Any) -> None:
    """The scenario does its damage, and its promises are kept; times are judged by `make chaos`."""
    row = Row(scenario.__name__, patience=6)
    scenario(ground, row, **how)
    assert row.count and row.kept, (row.broken, row.differences)


def test_workers_are_killed_and_nothing_is_lost_and_nothing_twice(one_site: Ground) -> None:
    keeps(killing.kill_workers, one_site, kind="sqlite", kills=3, pause=3.0, trials=5)


def test_training_that_dies_or_wants_too_much_memory_costs_an_attempt_and_seconds(one_site: Ground) -> None:
    keeps(children.lose_children, one_site, times=1)


def test_training_that_raises_is_told_and_not_tried_again(one_site: Ground) -> None:
    keeps(children.be_wrong, one_site)


def test_a_worker_without_the_data_gives_its_fit_back(one_site: Ground) -> None:
    keeps(lacking.lack_data, one_site, trials=4)


def test_a_stopped_worker_gives_its_fit_back(one_site: Ground) -> None:
    keeps(killing.stop_workers, one_site, stops=2, trials=2)


def test_doubled_stray_and_poisonous_messages_do_no_harm(one_site: Ground) -> None:
    keeps(messages.confuse, one_site)


def test_a_full_disk_is_told_and_gone_on_from(one_site: Ground) -> None:
    keeps(databases.fill, one_site, seconds=3.0)


def test_a_file_that_others_lock_costs_no_attempt(one_site: Ground) -> None:
    keeps(waiting.hold, one_site, seconds=20.0, trials=1)


def test_leases_that_time_leaps_over_cost_no_attempt(one_site: Ground) -> None:
    keeps(waiting.leap, one_site, trials=1)


def test_what_cannot_be_read_stops_nobody_else(one_site: Ground) -> None:
    keeps(waiting.leave_unreadable, one_site)


def test_a_post_is_accepted_at_once_whatever_the_broker_does(tmp_path: Path) -> None:
    with Ground(tmp_path) as ground:
        keeps(brokers.post_through_trouble, ground)
