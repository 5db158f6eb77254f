"""Log lines: static text with ids as fields, as text or, where asked for, as JSON."""

import json
import logging
import sys
from datetime import UTC, datetime

from app.tuning.settings import settings

_STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message", "data"}


class Formatter(logging.Formatter):
    """One line a record: time, level, logger, text, and whatever fields it carries."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        fields = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        line = {"time": moment, "level": record.levelname, "logger": record.name, "message": record.getMessage()}
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        if settings().log_format == "json":
            return json.dumps(line | fields, default=str)
        said = " ".join(f"{name}={value}" for name, value in fields.items())
        return " ".join(filter(None, [*line.values(), said]))


def set_up() -> None:
    """Send all logs of this process to its standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Formatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for chatty in ("alembic", "celery.app.trace", "celery.worker.strategy"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
