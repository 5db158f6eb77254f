"""Long lists, a page at a time: the token of the next page is the place of the last item, made opaque."""

import base64
import json
import math
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from app.problems import Problem, refused
from app.tuning.reading import Place, Sort
from app.tuning.tables import JobState, State

LARGEST_PAGE = 100


def _clamped(value: Any) -> Any:
    digits = isinstance(value, str) and value.isascii() and value.isdigit()
    return min(int(value[:9]), LARGEST_PAGE) if digits else value


PageSize = Annotated[
    int,
    BeforeValidator(_clamped),
    Field(ge=1, description=f"Items a page; more than {LARGEST_PAGE} are taken as {LARGEST_PAGE}."),
]


class Page(BaseModel):
    """Which page of a list is asked for."""

    model_config = ConfigDict(extra="forbid")

    page_size: PageSize = 20
    page_token: str | None = Field(None, max_length=500, description="`next_page_token` of the page before.")


class JobsQuery(Page):
    """A page of jobs."""

    state: JobState | None = None


class TrialsQuery(Page):
    """A page of trials."""

    state: State | None = None
    sort: Sort = "number"


def token(*place: Any) -> str:
    """A place as a token."""
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode().rstrip("=")


def job_place(text: str | None) -> tuple[datetime, UUID] | None:
    """The place that a token of a page of jobs stands for."""
    if text is None:
        return None
    try:
        moment, job_id = _opened(text)
        return _aware(datetime.fromisoformat(moment)), UUID(job_id)
    except (ValueError, TypeError, AttributeError):
        raise _no_token() from None


def trial_place(text: str | None) -> Place | None:
    """The place that a token of a page of trials stands for."""
    if text is None:
        return None
    try:
        accuracy, number = _opened(text)
        if accuracy is not None and not math.isfinite(accuracy):
            raise ValueError
        if type(number) is not int or not 0 <= number < 2**31:
            raise ValueError
        return (None if accuracy is None else float(accuracy)), number
    except (ValueError, TypeError):
        raise _no_token() from None


def _opened(text: str) -> Any:
    try:
        return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except RecursionError:
        raise ValueError from None


def _aware(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError
    return moment


def _no_token() -> Problem:
    return refused([("/page_token", "Not a token of this list: take next_page_token from the page before.")])
