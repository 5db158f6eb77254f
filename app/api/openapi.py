"""Adds to FastAPI's OpenAPI document: response headers, problem documents and schema names."""

import json
from typing import Any

from app.api.problems import MEDIA_TYPE, ProblemDocument, status_title

REFERENCE = "#/components/schemas/{model}"
HEADERS: dict[str, dict[str, Any]] = {
    "Location": {
        "description": "Where to poll the job.",
        "required": True,
        "schema": {"type": "string", "format": "uri-reference"},
    },
    "ETag": {"description": "The job's version, for `If-None-Match`.", "required": True, "schema": {"type": "string"}},
    "Repr-Digest": {
        "description": "SHA-256 of the whole file (RFC 9530).",
        "required": True,
        "schema": {"type": "string"},
    },
    "Retry-After": {
        "description": "Seconds to wait before the next request; absent once the job has ended.",
        "schema": {"type": "integer", "minimum": 1},
    },
}


def describe_response(status: int, description: str, *headers: str, **more: Any) -> dict[int | str, dict[str, Any]]:
    """A success response, for a route's `responses`."""
    sent = {"headers": {name: HEADERS[name] for name in headers}} if headers else {}
    return {status: {"description": description, **sent, **more}}


def describe_problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Error responses, for a route's `responses`."""
    content = {MEDIA_TYPE: {"schema": {"$ref": REFERENCE.format(model=ProblemDocument.__name__)}}}
    again = {"headers": {"Retry-After": HEADERS["Retry-After"]}}
    return {
        status: {"description": status_title(status), "content": content, **(again if status in (409, 503) else {})}
        for status in statuses
    }


def complete_document(document: dict[str, Any]) -> dict[str, Any]:
    """FastAPI's document with the problem schema added and every schema named by its title."""
    for operation in (one for path in document["paths"].values() for one in path.values()):
        if stream := operation["responses"].get("200", {}).get("content", {}).get("text/event-stream"):
            stream.clear()  # FastAPI describes its items, in a way that OpenAPI 3.1 does not have
            stream["schema"] = {"type": "string"}
    problem = ProblemDocument.model_json_schema(ref_template=REFERENCE)
    parts = problem.pop("$defs")
    schemas = {**document["components"]["schemas"], ProblemDocument.__name__: problem, **parts}
    text = json.dumps(document | {"components": {"schemas": schemas}})
    for name, schema in schemas.items():
        text = text.replace(f'"{REFERENCE.format(model=name)}"', f'"{REFERENCE.format(model=schema["title"])}"')
    named: dict[str, Any] = json.loads(text)
    found = {schema["title"]: schema for schema in named["components"]["schemas"].values()}
    named["components"]["schemas"] = dict(sorted(found.items()))
    return named
