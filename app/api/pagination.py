"""Keyset pagination: an opaque token encodes the list and the position of the page's last item."""

import base64
from datetime import timedelta
from typing import Annotated, Any, TypeVar
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    TypeAdapter,
)

from app.api.problems import Problem, reject_request
from app.tuning.jobs.queries import JobPlace, TrialPlace, TrialSort
from app.tuning.jobs.tables import JobState, State

_T = TypeVar("_T")
MAX_PAGE_SIZE = 100
MAX_TRIAL_NUMBER = 2**31 - 1
MAX_QUERY_DIGITS = 20  # of an integer in a query; further digits are ignored


def _parse_digits(value: Any) -> Any:
    """An integer from digits only: pydantic also accepts `1.0`, `+1` and `1_0`."""
    if not isinstance(value, str):
        return value
    if not (value.isascii() and value.removeprefix("-").isdigit()):
        raise ValueError("Input should be an integer, digits only")
    return int(value[:MAX_QUERY_DIGITS])


Digits = BeforeValidator(_parse_digits)
Number = Annotated[int, Field(ge=0, le=MAX_TRIAL_NUMBER)]
PageSize = Annotated[
    int,
    Field(ge=1, description=f"Items per page; values above {MAX_PAGE_SIZE} are treated as {MAX_PAGE_SIZE}."),
    Digits,
    AfterValidator(lambda size: min(size, MAX_PAGE_SIZE)),
]


class PageQuery(BaseModel):
    """The requested page of a list."""

    model_config = ConfigDict(extra="forbid")

    page_size: PageSize = 20
    page_token: str | None = Field(
        None,
        max_length=500,
        description="`next_page_token` of the previous page; without one, or with an empty one, the first page.",
    )


class JobsQuery(PageQuery):
    """A page of jobs."""

    state: JobState | None = None

    @property
    def pages(self) -> str:
        """The list that its tokens are good for."""
        return f"jobs {self.state}"

    def place(self) -> JobPlace | None:
        """Where the page begins."""
        if not self.page_token:
            return None
        moment, job_id = _decode_page_token(self.page_token, self.pages, _JOB_PLACE)
        if moment.utcoffset() != timedelta(0):
            raise _invalid_token()
        return moment, job_id


class TrialsQuery(PageQuery):
    """A page of trials."""

    state: State | None = None
    sort: TrialSort = "number"

    def pages(self, job_id: UUID) -> str:
        """The list that its tokens are good for."""
        return f"{job_id} {self.state} {self.sort}"

    def place(self, job_id: UUID) -> TrialPlace | None:
        """Where the page begins."""
        return _decode_page_token(self.page_token, self.pages(job_id), _TRIAL_PLACE) if self.page_token else None


_JOB_PLACE: TypeAdapter[tuple[str, JobPlace]] = TypeAdapter(tuple[str, tuple[AwareDatetime, UUID]])
_TRIAL_PLACE: TypeAdapter[tuple[str, TrialPlace]] = TypeAdapter(tuple[str, tuple[FiniteFloat | None, Number]])
_TOKEN: TypeAdapter[Any] = TypeAdapter(Any)


def encode_page_token(pages: str, place: JobPlace | TrialPlace) -> str:
    """The token of the page that follows this position."""
    return base64.urlsafe_b64encode(_TOKEN.dump_json((pages, place))).decode().rstrip("=")


def _decode_page_token(text: str, pages: str, kind: TypeAdapter[tuple[str, _T]]) -> _T:
    try:
        content = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        named, place = kind.validate_json(content, strict=True)
    except ValueError:
        raise _invalid_token() from None
    if named != pages:
        raise _invalid_token()
    return place


def _invalid_token() -> Problem:
    wrong = "Invalid token for this list: use next_page_token of the previous page, with the same state and sort."
    return reject_request([(("page_token",), wrong)])
