"""Reads request bodies strictly: JSON in UTF-8, without what JSON or the databases cannot hold."""

import email.message
import json
import math
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from app.problems import Problem, refused

LARGEST_BODY = 64 * 1024  # bytes
MOST_DIGITS = 400  # of a number; the largest float has 309


class StrictRequest(Request):
    """A request whose JSON has no duplicate keys, no NaN, no Infinity and no lone surrogates."""

    async def body(self) -> bytes:
        content = await super().body()
        said = email.message.Message()
        said["content-type"] = self.headers.get("content-type", "")
        charset = (said.get_param("charset") or "utf-8") if self.headers.get("content-type") else "utf-8"
        if said.get_content_type() != "application/json" or str(charset).lower() not in ("utf-8", "utf8"):
            raise Problem(415, "The body must be JSON in UTF-8, with the header Content-Type: application/json.")
        return content

    async def json(self) -> Any:
        try:
            return parse(await self.body())
        except RecursionError:
            raise refused([("", "The JSON is nested too deeply.")]) from None
        except UnicodeError:
            raise refused([("", "The JSON is not UTF-8, or has half of a surrogate pair in it.")]) from None
        except json.JSONDecodeError as error:
            where = f"line {error.lineno}, column {error.colno}"
            raise refused([("", f"The body is not JSON: {error.msg} at {where}.")]) from None
        except ValueError as error:
            raise refused([("", str(error))]) from None


class StrictRoute(APIRoute):
    """A route that reads its body with `StrictRequest`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def strictly(request: Request) -> Response:
            return await handle(StrictRequest(request.scope, request.receive))

        return strictly


def parse(body: bytes) -> Any:
    """The JSON in a body.

    Raises:
        ValueError: it is no JSON, or it holds what is refused, or it is not UTF-8 (UnicodeError).
        RecursionError: it is nested too deeply.
    """
    value = json.loads(
        body.decode("utf-8"),
        object_pairs_hook=_without_duplicates,
        parse_int=_integer,
        parse_float=_finite,
        parse_constant=_finite,
    )
    json.dumps(value, ensure_ascii=False).encode("utf-8")  # lone surrogates, in keys too, end here
    return value


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("An object names a key twice: name each once.")
    return found


def _integer(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"A number has more than {MOST_DIGITS} digits.")
    return int(digits)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("A number is NaN, Infinity or too large: numbers must be finite.")
    return value
