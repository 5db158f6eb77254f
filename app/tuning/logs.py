"""Log lines: static messages with ids as fields, formatted as text or JSON."""

import json
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import TracebackType
from typing import TextIO

from app.tuning.settings import settings

_STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message", "data"}


class Formatter(logging.Formatter):
    """One line per record: time, level, logger, message and extra fields."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        fields = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        line = {"time": moment, "level": record.levelname, "logger": record.name, "message": record.getMessage()}
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        if settings().log_format == "json":
            return json.dumps(line | fields, default=str)
        extra = " ".join(f"{name}={value}" for name, value in fields.items())
        return " ".join(filter(None, [*line.values(), extra]))


class StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to the current `sys.stderr`, even if it was replaced after set-up."""

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, _: TextIO) -> None:
        """Ignored: it is looked up each time."""


def set_up_logging() -> None:
    """Send this process's logs and warnings to standard error, unless logging is already configured."""
    if logging.getLogger().handlers:
        return
    handler = StderrHandler()
    handler.setFormatter(Formatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for noisy in ("alembic", "celery.app.trace", "celery.worker.strategy"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        if (logger := logging.getLogger(name)).handlers:  # without handlers, the logger was silenced on purpose
            logger.handlers.clear()
            logger.propagate = True
    logging.captureWarnings(True)
    if settings().log_format == "json":
        sys.excepthook = _on_crash
        threading.excepthook = lambda crash: _on_crash(crash.exc_type, crash.exc_value, crash.exc_traceback)


def _on_crash(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    if error and not issubclass(kind, KeyboardInterrupt | SystemExit):
        logging.getLogger("tunewell").critical("uncaught exception", exc_info=(kind, error, trace))


@contextmanager
def log_native_stderr() -> Iterator[None]:
    """With JSON logs, capture what native libraries write to standard error in this block, and log it afterwards."""
    if settings().log_format != "json":
        yield
        return
    kept = os.dup(2)
    with tempfile.TemporaryFile() as written:
        os.dup2(written.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            written.seek(0)
            for line in written.read().decode(errors="replace").splitlines():
                logging.getLogger("tunewell.printed").info(line)
