"""The real API with a disk that can be full: `uvicorn tests.chaos.api:app`."""

from app.main import app
from tests.chaos import pages

__all__ = ["app"]
pages.limit()
