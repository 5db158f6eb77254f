"""Turns values, durations and counts of fits into text."""

from typing import Any


def describe_counts(job: dict[str, Any]) -> str:
    """How many of the job's fits are done, running and failed."""
    return ", ".join([f"{count_done(job)} of {job['fits']['total']} fits done", *describe_active(job)])


def describe_active(job: dict[str, Any]) -> list[str]:
    return [f"{job['fits'][state]} {state}" for state in ("running", "failed") if job["fits"][state]]


def count_done(job: dict[str, Any]) -> int:
    fits: dict[str, int] = job["fits"]
    return fits["succeeded"] + fits["failed"] + fits["cancelled"]


def format_duration(seconds: float) -> str:
    """Such as 8 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def format_params(params: dict[str, Any]) -> str:
    return ", ".join(f"{name} {format_value(value)}" for name, value in params.items())


def format_value(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else make_printable(str(value))


def make_printable(text: str) -> str:
    """The text on one line, without control characters for the terminal."""
    return "".join(character if character.isprintable() else " " for character in text)
