"""However many processes reach for a fit at once, one of them has it."""

from sqlalchemy import Engine

from tests.support.ledger import Ledger
from tests.support.racing import race

ROUNDS = 100


def test_of_eight_processes_that_race_for_a_fit_one_wins_each_time(engine: Engine) -> None:
    run = race(engine, ROUNDS)
    assert run.errors == []
    assert run.winners == run.recorded == [1] * ROUNDS
    assert run.attempts == ROUNDS
    Ledger(engine).audit()
