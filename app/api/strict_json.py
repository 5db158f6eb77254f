"""Strict request parsing: UTF-8 JSON of limited size, without values that JSON or the databases cannot represent."""

import email.message
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from itertools import islice
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.field_errors import Path
from app.api.problems import Problem, problem_response, reject_request
from app.tuning.search.rejections import MAX_REJECTIONS

MAX_BODY_BYTES = 64 * 1024
MAX_DRAINED_BYTES = 16 * 1024 * 1024  # read from an oversized body, so that the client receives the response
MAX_NUMBER_DIGITS = 400  # the largest float has 309
MAX_NESTING = 50  # levels; a job has six
UPLOAD = re.compile(r"/v1/datasets/[^/]+$")  # a PUT there has a limit of its own
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class BodyLimit:
    """Rejects bodies over `MAX_BODY_BYTES` with 413: by their Content-Length, or else while they are received."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or (scope["method"] == "PUT" and UPLOAD.search(scope["path"])):
            return await self._app(scope, receive, send)
        received = 0

        async def count() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > MAX_BODY_BYTES:
                await _drain(receive, message)
                raise Problem(413)
            return message

        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length[:20]) > MAX_BODY_BYTES:
            await _drain(receive, await receive())
            return await problem_response(Problem(413))(scope, receive, send)
        await self._app(scope, count, send)


async def _drain(receive: Receive, message: Message) -> None:
    received = 0
    while message.get("more_body") and received < MAX_DRAINED_BYTES:
        message = await receive()
        received += len(message.get("body", b""))


class StrictRequest(Request):
    """A request whose JSON has no duplicate keys, NaN, Infinity or lone surrogates."""

    async def body(self) -> bytes:
        content = await super().body()
        header = email.message.Message()
        header["content-type"] = self.headers.get("content-type", "text/plain")
        charset = str(header.get_param("charset") or "utf-8").lower()
        if header.get_content_type() != "application/json" or charset not in ("utf-8", "utf8"):
            raise Problem(415)
        return content

    async def json(self) -> Any:
        return parse_json(await self.body())


class StrictRoute(APIRoute):
    """A route that parses its body with `StrictRequest` and rejects duplicate query parameters."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def strictly(request: Request) -> Response:
            counts = Counter(name for name, _ in request.query_params.multi_items())
            if duplicates := [name for name, times in counts.items() if times > 1]:
                raise reject_request([((name,), "Duplicate parameter: use it once.") for name in duplicates])
            return await handle(StrictRequest(request.scope, request.receive))

        return strictly


def parse_json(body: bytes) -> Any:
    """The JSON in a body.

    Raises:
        Problem: invalid JSON or UTF-8, or values that are rejected.
    """
    if body.startswith(BYTE_ORDER_MARK):
        raise reject_request([((), "The body starts with a byte order mark: remove it.")])
    try:
        value = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_parse_object,
            parse_int=_parse_integer,
            parse_float=_parse_float,
            parse_constant=_parse_float,
        )
    except RecursionError:
        raise reject_request([((), TOO_DEEP)]) from None
    except UnicodeDecodeError as error:
        raise reject_request([((), f"The body is not UTF-8: byte {error.start} is invalid.")]) from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise reject_request([((), f"The body is not JSON: {error.msg}: {where}.")]) from None
    if rejected := list(islice(_find_rejected(value, ()), MAX_REJECTIONS)):
        raise reject_request(rejected)
    return value


TOO_DEEP = f"The JSON is nested too deeply: {MAX_NESTING} levels at most."


class _Rejected:
    """Placeholder for a rejected value in parsed JSON, until its path is known."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


def _parse_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        times = Counter(key for key, _ in pairs)
        found |= {key: _Rejected("Duplicate key: use it once.") for key in found if times[key] > 1}
    return found


def _parse_integer(digits: str) -> "int | _Rejected":
    return (
        int(digits)
        if len(digits) <= MAX_NUMBER_DIGITS
        else _Rejected(f"Number too long: use at most {MAX_NUMBER_DIGITS} digits.")
    )


def _parse_float(text: str) -> "float | _Rejected":
    value = float(text)
    return value if math.isfinite(value) else _Rejected("NaN, Infinity or out of range: use a finite number.")


def _find_rejected(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    """The path and reason of each rejected value in parsed JSON."""
    if len(path) > MAX_NESTING:
        yield (), TOO_DEEP
    elif isinstance(value, _Rejected):
        yield path, value.reason
    elif isinstance(value, str) and not _is_well_formed(value):
        yield path, "Lone surrogate: text must be valid Unicode."
    elif isinstance(value, list):
        for index, one in enumerate(value):
            yield from _find_rejected(one, (*path, index))
    elif isinstance(value, dict):
        for key, one in value.items():
            if _is_well_formed(key):
                yield from _find_rejected(one, (*path, key))
            else:
                yield path, "Lone surrogate in a key: text must be valid Unicode."


def _is_well_formed(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)
