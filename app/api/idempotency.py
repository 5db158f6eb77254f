"""`Idempotency-Key`: a POST that is repeated gets the first one's response and makes no second job."""

import hashlib
import json
from typing import Annotated

from fastapi import Header
from sqlalchemy import Engine

from app.api.problems import reject_request
from app.tuning.database import reading
from app.tuning.jobs import store
from app.tuning.search.spec import JobSpec

KeyHeader = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[!-~]+$",
        description="A string of the client's own, new for each job: a POST repeated with it makes one job only.",
    ),
]


def digest_spec(spec: JobSpec) -> str:
    """SHA-256 of the job with its defaults filled in, so that equal jobs are equal however they were written."""
    return hashlib.sha256(json.dumps(spec.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


def find_first_response(database: Engine, key: str | None, digest: str) -> str | None:
    """The JSON of the job that an earlier POST with this key made; None if there was none.

    Raises:
        Problem: that POST had another body.
    """
    if key is None:
        return None
    with reading(database) as session:
        known = store.find_remembered(session, key)
    if known and known.body_sha256 != digest:
        raise reject_request([(("Idempotency-Key",), "This key came with another body: use a new key for a new job.")])
    return known.answer if known else None
