"""The quick part of the chaos suite: real workers, broker and databases, with less damage than `make chaos` does."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.chaos import brokers, children, databases, killing, lacking, messages, searching, waiting
from tests.chaos.ground import Ground
from tests.chaos.report import Row
from tests.chaos.site import Site

pytestmark = pytest.mark.timeout(300)


class OneSite(Ground):
    """All scenarios share one site, because starting processes takes longest."""

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


def check_promises(scenario: Callable[..., None], ground: Ground, **how: Any) -> None:
    """Run the scenario and check its promises; `make chaos` checks the times too."""
    row = Row(scenario.__name__, patience=6)
    scenario(ground, row, **how)
    assert row.count and row.kept, (row.broken, row.differences)


def test_killed_workers_lose_and_repeat_nothing(one_site: Ground) -> None:
    check_promises(killing.kill_workers, one_site, kind="sqlite", kills=3, pause=3.0, trials=5)


def test_kills_and_damaged_checkpoints_change_no_decision(one_site: Ground) -> None:
    check_promises(searching.search_by_steps, one_site, kills=2, pause=2.0, ms=400)


def test_training_that_dies_or_runs_out_of_memory_costs_one_attempt(one_site: Ground) -> None:
    check_promises(children.lose_children, one_site, times=1)


def test_training_that_raises_is_recorded_and_not_retried(one_site: Ground) -> None:
    check_promises(children.be_wrong, one_site)


def test_a_worker_without_the_data_releases_its_fit(one_site: Ground) -> None:
    check_promises(lacking.lack_data, one_site, trials=4)


def test_a_stopped_worker_releases_its_fit(one_site: Ground) -> None:
    check_promises(killing.stop_workers, one_site, stops=2, trials=2)


def test_duplicate_stray_and_malformed_messages_are_harmless(one_site: Ground) -> None:
    check_promises(messages.confuse, one_site)


def test_a_full_disk_is_reported_and_recovered_from(one_site: Ground) -> None:
    check_promises(databases.fill, one_site, seconds=3.0)


def test_a_locked_database_file_costs_no_attempt(one_site: Ground) -> None:
    check_promises(waiting.hold, one_site, seconds=20.0, trials=1)


def test_leases_skipped_by_a_clock_jump_cost_no_attempt(one_site: Ground) -> None:
    check_promises(waiting.leap, one_site, trials=1)


def test_an_unreadable_job_does_not_stop_others(one_site: Ground) -> None:
    check_promises(waiting.leave_unreadable, one_site)


def test_posts_are_accepted_at_once_whatever_the_broker_does(tmp_path: Path) -> None:
    with Ground(tmp_path) as ground:
        check_promises(brokers.post_through_trouble, ground)
