"""What is recorded for a training process that died: decided by its exit and the kernel's count of kills."""

from pathlib import Path

import pytest
from billiard.exceptions import TimeLimitExceeded, WorkerLostError

from app.tuning.jobs.tables import Outcome
from worker.process_death import OutOfMemoryKills, explain_death


def make_counts(file: Path, kills: int) -> None:
    """Write the count as the kernel's files have it, among others."""
    file.write_text(f"oom 7\noom_kill {kills}\noom_group_kill 9\n")


def died(how: str) -> WorkerLostError:
    return WorkerLostError(f"Worker exited prematurely: {how} Job: 12.")


@pytest.fixture
def counts(tmp_path: Path) -> Path:
    """A file with the kernel's count, in place of the kernel's."""
    file = tmp_path / "memory.events"
    make_counts(file, 3)
    return file


def explained(error: BaseException, kills: OutOfMemoryKills) -> tuple[Outcome, str, str] | None:
    """The outcome, and the stored error's type and message."""
    found = explain_death(error, kills)
    return (found[0], found[1]["type"], found[1]["message"]) if found else None


def test_the_watchdogs_exit_code_is_a_hang(counts: Path) -> None:
    message = "training made no progress; its stack traces are in the worker's log"
    assert explained(died("exitcode 1"), OutOfMemoryKills([counts])) == (Outcome.HUNG, "TrainingHung", message)


def test_signal_9_with_a_kill_by_the_kernel_is_out_of_memory_once(counts: Path) -> None:
    kills = OutOfMemoryKills([counts])
    make_counts(counts, 4)
    message = "the kernel killed the training process because memory ran out"
    killed = died("signal 9 (SIGKILL)")
    assert explained(killed, kills) == (Outcome.OUT_OF_MEMORY, "OutOfMemory", message)
    again = explained(killed, kills)
    assert again is not None and again[0] == Outcome.LOST, "the count has not risen since"


@pytest.mark.parametrize("how", ["signal 9 (SIGKILL)", "signal 11 (SIGSEGV)", "exitcode 70", "exitcode 155"])
def test_any_other_death_is_a_loss(counts: Path, how: str) -> None:
    message = f"the training process died: {how}"
    expected = (Outcome.LOST, "TrainingProcessDied", message)
    assert explained(died(how), OutOfMemoryKills([counts])) == expected


def test_a_crash_is_not_out_of_memory_though_the_kernel_killed_another_process(counts: Path) -> None:
    kills = OutOfMemoryKills([counts])
    make_counts(counts, 4)
    found = explained(died("signal 11 (SIGSEGV)"), kills)
    assert found is not None and found[0] == Outcome.LOST


def test_the_first_file_with_a_count_is_read(counts: Path, tmp_path: Path) -> None:
    without = tmp_path / "without"
    without.write_text("high 0\n")
    kills = OutOfMemoryKills([tmp_path / "absent", without, counts])
    make_counts(counts, 4)
    assert kills.has_risen()
    assert not OutOfMemoryKills([tmp_path / "absent"]).has_risen()


@pytest.mark.parametrize("error", [ValueError("no"), MemoryError(), TimeLimitExceeded(3)])
def test_other_exceptions_are_no_death(counts: Path, error: Exception) -> None:
    assert explain_death(error, OutOfMemoryKills([counts])) is None
