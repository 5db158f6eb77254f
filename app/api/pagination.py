"""Keyset pagination: an opaque token encodes the list and the position of the page's last item."""

import base64
import hashlib
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
from app.tuning.jobs.queries import JobFilter, JobPlace, TrialPlace, TrialSort
from app.tuning.jobs.tables import JobState, State
from app.tuning.search.spec import NAME, Name

_T = TypeVar("_T")
MAX_PAGE_SIZE = 100
MAX_TEXT_LENGTH = 200
_LABEL = f"^{NAME[1:-1]}:{NAME[1:-1]}$"
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
    name: Name | None = None
    label: Annotated[str, Field(pattern=_LABEL)] | None = Field(
        None, description="`key:value`: jobs that carry this label."
    )
    q: str | None = Field(
        None,
        max_length=MAX_TEXT_LENGTH,
        pattern=r"^[^\x00]*$",
        description="Jobs with this text in the name, the note or a label, in whichever case; or at least eight "
        "digits with which the ID begins.",
    )

    @property
    def which(self) -> JobFilter:
        """The jobs that are asked for."""
        key, _, value = (self.label or "").partition(":")
        return JobFilter(self.state, self.name, (key, value) if key else None, self.q or None)

    @property
    def pages(self) -> str:
        """The list that its tokens are good for."""
        filters = hashlib.sha256(repr(self.which[1:]).encode()).hexdigest()[:16] if any(self.which[1:]) else ""
        return f"jobs {self.state}{filters and ' '}{filters}"

    def place(self) -> JobPlace | None:
        """Where the page begins."""
        return _decode_newest(self.page_token, self.pages)


class DatasetsQuery(PageQuery):
    """A page of data sets."""

    @property
    def pages(self) -> str:
        """The list that its tokens are good for."""
        return "datasets"

    def place(self) -> JobPlace | None:
        """Where the page begins."""
        return _decode_newest(self.page_token, self.pages)


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


def _decode_newest(page_token: str | None, pages: str) -> JobPlace | None:
    """The place in a list that begins with the newest."""
    if not page_token:
        return None
    moment, item_id = _decode_page_token(page_token, pages, _JOB_PLACE)
    if moment.utcoffset() != timedelta(0):
        raise _invalid_token()
    return moment, item_id


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
    wrong = "Invalid token for this list: use next_page_token of the previous page, with the same filters and sort."
    return reject_request([(("page_token",), wrong)])
