"""`Idempotency-Key`: a repeated POST gets the first one's response and creates no second job."""

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
        description="A string chosen by the client, unique for each job: repeated POSTs with one key create one job.",
    ),
]


def digest_spec(spec: JobSpec) -> str:
    """SHA-256 of the job with its defaults filled in: independent of key order, spacing and omitted defaults."""
    return hashlib.sha256(json.dumps(spec.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


def find_first_response(database: Engine, key: str | None, digest: str) -> str | None:
    """The response to an earlier POST with this key; None if there was none.

    Raises:
        Problem: that POST had a different body.
    """
    if key is None:
        return None
    with reading(database) as session:
        known = store.find_remembered(session, key)
    if known and known.body_sha256 != digest:
        raise reject_request(
            [(("Idempotency-Key",), "This key was used with a different body: use a new key for a new job.")]
        )
    return known.answer if known else None
