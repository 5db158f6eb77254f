"""Long lists, a page at a time: the token of the next page is the list and the place of the last item, made opaque."""

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
MAX_QUERY_DIGITS = 20  # of a number in an address; those after them are not looked at


def _parse_digits(value: Any) -> Any:
    """An integer from digits alone: pydantic would find one in `1.0`, `+1` and `1_0` as well."""
    if not isinstance(value, str):
        return value
    if not (value.isascii() and value.removeprefix("-").isdigit()):
        raise ValueError("Input should be a whole number, in digits")
    return int(value[:MAX_QUERY_DIGITS])


Digits = BeforeValidator(_parse_digits)
Number = Annotated[int, Field(ge=0, le=MAX_TRIAL_NUMBER)]
PageSize = Annotated[
    int,
    Field(ge=1, description=f"Items a page; more than {MAX_PAGE_SIZE} are taken as {MAX_PAGE_SIZE}."),
    Digits,
    AfterValidator(lambda size: min(size, MAX_PAGE_SIZE)),
]


class PageQuery(BaseModel):
    """Which page of a list is asked for."""

    model_config = ConfigDict(extra="forbid")

    page_size: PageSize = 20
    page_token: str | None = Field(
        None, max_length=500, description="`next_page_token` of the page before; none or an empty one: the first page."
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
    """A place in a list as a token."""
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
    wrong = "Not a token of this list: take next_page_token from the page before, with the same state and sort."
    return reject_request([(("page_token",), wrong)])
