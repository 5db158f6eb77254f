"""The parent's side: starts the child process, bounds it, and takes its answer, whatever becomes of it."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from threading import Event, Timer

from app.intake.answers import Description, Options, Refusal
from app.intake.limits import ANSWER_BYTES, CPU_SECONDS

CHILD = Path(__file__).with_name("__main__.py")
ENDED = "The check of {} ended without a result ({}); nothing was stored. {}"

log = logging.getLogger("tunewell.intake")


def convert(file: Path, folder: Path, options: Options, timeout: float) -> Description | Refusal:
    """Check `file` in a child process and write its four arrays, and `preview.png` of images, into the empty `folder`.

    The child gets `timeout` seconds. After a refusal the folder is empty again. A file that needs more space than the
    disk has is a refusal with status 507, one that needs more than the limits allow one with 413.
    """
    refusal: Description | Refusal
    try:
        refusal = _run_child([sys.executable, "-I", str(CHILD), str(file), str(folder)], options, timeout)
    except OSError as error:
        log.exception("the child process that checks uploads could not be run")
        refusal = Refusal(503, ENDED.format(options.stem, f"no child process: {error.strerror}", "Try again."))
    if isinstance(refusal, Refusal):
        _empty_folder(folder)
    return refusal


def _run_child(command: list[str], options: Options, timeout: float) -> Description | Refusal:
    child = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={},
        start_new_session=True,
    )
    late = Event()

    def end_child() -> None:
        late.set()
        _kill_group(child.pid)

    timer = Timer(timeout, end_child)
    timer.start()
    try:
        answer = _talk(child, json.dumps(asdict(options)).encode())
    finally:
        timer.cancel()
        timer.join()
        _kill_group(child.pid)  # the child is a zombie at most, so that its number is nobody else's
        child.wait()
    return _read_answer(answer, options.stem, timeout if late.is_set() else None, child.returncode)


def _talk(child: "subprocess.Popen[bytes]", request: bytes) -> bytes:
    assert child.stdin and child.stdout
    with child.stdout as output:
        with suppress(BrokenPipeError), child.stdin as given:
            given.write(request)
        answer = output.read(ANSWER_BYTES + 1)
    if len(answer) <= ANSWER_BYTES:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    return answer


def _read_answer(answer: bytes, stem: str, timeout: float | None, code: int) -> Description | Refusal:
    """The child's answer; a refusal where it gave none that can be read. The child is not trusted to be itself."""
    with suppress(ValueError, TypeError, LookupError, AttributeError, RecursionError):
        found = json.loads(answer) if len(answer) <= ANSWER_BYTES else {}
        if "description" in found:
            facts = found["description"]
            tuples = {name: tuple(facts[name]) for name in ("shape", "smallest_train")}
            return Description(**facts | tuples)
        if trace := found.get("trace"):
            log.error("%s could not be checked: %s", stem, trace)
        return Refusal(int(found["status"]), str(found["detail"]), list(found["errors"]))
    if timeout is not None:
        return Refusal(413, ENDED.format(stem, f"more than {timeout:g} s", "Send a smaller file."))
    if code == -signal.SIGXCPU:
        reason = f"more than {CPU_SECONDS} s of processor time"
        return Refusal(413, ENDED.format(stem, reason, "Send a smaller file."))
    log.error("the child process that checked %s ended with code %s", stem, code)
    reason = f"signal {-code}" if code < 0 else f"exit code {code}"
    return Refusal(422, ENDED.format(stem, reason, "Write the file anew with another program."))


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _empty_folder(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
