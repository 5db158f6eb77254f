"""The API, which dies with its first upload once the files are stored and before their row is written."""

import os
from typing import Any

from app.main import app
from app.tuning.jobs import datasets

__all__ = ["app"]


def _die(*_: Any) -> None:
    os._exit(9)


datasets.insert_dataset = _die  # type: ignore[assignment]
