"""Processes that race for a fit: exactly one of them claims it."""

import pytest
from sqlalchemy import Engine

from tests.support.ledger import Ledger
from tests.support.racing import race

ROUNDS = 100


@pytest.mark.slow
def test_exactly_one_of_eight_racing_processes_claims_a_fit(engine: Engine) -> None:
    run = race(engine, ROUNDS)
    assert run.errors == []
    assert run.winners == run.recorded == [1] * ROUNDS
    assert run.attempts == ROUNDS
    Ledger(engine).audit()
