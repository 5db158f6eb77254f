"""What a trial of a model-based search is drawn from."""

from hypothesis import given
from hypothesis import strategies as st

from app.tuning.search.tpe import split_brackets, split_history


@given(st.integers(0, 30), st.integers(1, 10))
def test_a_trial_knows_all_but_the_last_ones_of_the_window(number: int, window: int) -> None:
    known, running = split_history(range(40), number, window)
    assert [*known, *running] == list(range(number))
    assert len(running) == min(number, window - 1)


def test_a_window_of_one_is_a_search_one_by_one() -> None:
    assert split_history("abcdef", 4, 1) == ("abcd", "")


def test_the_first_trials_of_a_window_know_nothing() -> None:
    assert split_history("abcdef", 3, 4) == ("", "abc")
    assert split_history("abcdef", 4, 4) == ("a", "bcd")


def test_a_bracket_knows_those_before_it() -> None:
    assert split_brackets("abcdef", [0, 0, 0, 1, 1, 2], 1) == ("", "a")
    assert split_brackets("abcdef", [0, 0, 0, 1, 1, 2], 4) == ("abc", "d")
    assert split_brackets("abcdef", [0, 0, 0, 1, 1, 2], 5) == ("abcde", "")
