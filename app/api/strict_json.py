"""Reads requests strictly: JSON in UTF-8, of a size that is bounded, without what JSON or the databases cannot hold."""

import email.message
import json
import math
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from itertools import islice
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.field_errors import Path
from app.api.problems import Problem, problem_response, reject_request
from app.tuning.search.candidates import MAX_REJECTIONS

MAX_BODY_BYTES = 64 * 1024  # bytes
MAX_DRAINED_BYTES = 16 * 1024 * 1024  # bytes of a refused body that are read, so that its sender hears why
MAX_NUMBER_DIGITS = 400  # of a number; the largest float has 309
MAX_NESTING = 50  # of nesting; a job has six
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class BodyLimit:
    """Refuses larger bodies with 413: by their Content-Length, or else once so many bytes have come."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        came = 0

        async def count() -> Message:
            nonlocal came
            message = await receive()
            came += len(message.get("body", b""))
            if came > MAX_BODY_BYTES:
                await _drain(receive, message)
                raise Problem(413)
            return message

        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length[:20]) > MAX_BODY_BYTES:
            await _drain(receive, await receive())
            return await problem_response(Problem(413))(scope, receive, send)
        await self._app(scope, count, send)


async def _drain(receive: Receive, message: Message) -> None:
    came = 0
    while message.get("more_body") and came < MAX_DRAINED_BYTES:
        message = await receive()
        came += len(message.get("body", b""))


class StrictRequest(Request):
    """A request whose JSON has no duplicate keys, no NaN, no Infinity and no lone surrogates."""

    async def body(self) -> bytes:
        content = await super().body()
        said = email.message.Message()
        said["content-type"] = self.headers.get("content-type", "text/plain")
        charset = str(said.get_param("charset") or "utf-8").lower()
        if said.get_content_type() != "application/json" or charset not in ("utf-8", "utf8"):
            raise Problem(415)
        return content

    async def json(self) -> Any:
        return parse_json(await self.body())


class StrictRoute(APIRoute):
    """A route that reads its body with `StrictRequest`, and whose query names nothing twice."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def strictly(request: Request) -> Response:
            named = Counter(name for name, _ in request.query_params.multi_items())
            if twice := [name for name, times in named.items() if times > 1]:
                raise reject_request([((name,), "This parameter is given twice: give it once.") for name in twice])
            return await handle(StrictRequest(request.scope, request.receive))

        return strictly


def parse_json(body: bytes) -> Any:
    """The JSON in a body.

    Raises:
        Problem: it is no JSON, it is not UTF-8, or it holds what is refused.
    """
    if body.startswith(BYTE_ORDER_MARK):
        raise reject_request([((), "The body begins with a byte order mark: leave it out.")])
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
        raise reject_request([((), f"The body is not UTF-8: byte {error.start} is wrong.")]) from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise reject_request([((), f"The body is not JSON: {error.msg}: {where}.")]) from None
    if wrong := list(islice(_find_rejected(value, ()), MAX_REJECTIONS)):
        raise reject_request(wrong)
    return value


TOO_DEEP = f"The JSON is nested too deeply: {MAX_NESTING} levels at most."


class _Rejected:
    """Stands in parsed JSON for what is refused, until it is known where that is."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


def _parse_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        times = Counter(key for key, _ in pairs)
        found |= {key: _Rejected("This key is named twice: name it once.") for key in found if times[key] > 1}
    return found


def _parse_integer(digits: str) -> "int | _Rejected":
    return (
        int(digits)
        if len(digits) <= MAX_NUMBER_DIGITS
        else _Rejected(f"A number of more than {MAX_NUMBER_DIGITS} digits.")
    )


def _parse_float(text: str) -> "float | _Rejected":
    value = float(text)
    return value if math.isfinite(value) else _Rejected("NaN, Infinity or too large: take a finite number.")


def _find_rejected(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    """What is refused in parsed JSON, and where."""
    if len(path) > MAX_NESTING:
        yield (), TOO_DEEP
    elif isinstance(value, _Rejected):
        yield path, value.reason
    elif isinstance(value, str) and not _is_well_formed(value):
        yield path, "Half of a surrogate pair: text must be Unicode."
    elif isinstance(value, list):
        for index, one in enumerate(value):
            yield from _find_rejected(one, (*path, index))
    elif isinstance(value, dict):
        for key, one in value.items():
            if _is_well_formed(key):
                yield from _find_rejected(one, (*path, key))
            else:
                yield path, "A key has half of a surrogate pair: text must be Unicode."


def _is_well_formed(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)
