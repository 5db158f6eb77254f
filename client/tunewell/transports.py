"""Performs flows: a blocking transport and an asynchronous one, which differ in nothing else."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2

from tunewell.calls import Call
from tunewell.effects import TRANSPORT_ERRORS, Course, Document, Effect, Emit, Flow, Next, Open, Send, Sleep, T
from tunewell.service import Service
from tunewell.version import __version__

USER_AGENT = {"User-Agent": f"tunewell-client/{__version__}"}
PIECE_BYTES = 1024 * 1024  # of a file that is sent


class Transport:
    """Performs flows, one after the other in each thread."""

    def __init__(self, service: Service) -> None:
        try:
            way = httpx2.HTTPTransport(proxy=service.proxy, trust_env=service.has_certificates)
        except OSError as error:
            raise service.explain_certificates(error) from None
        self._http = httpx2.Client(
            base_url=service.base_url, timeout=service.timeout, transport=way, headers=USER_AGENT
        )

    def close(self) -> None:
        self._http.close()

    def run(self, flow: Flow[T]) -> T:
        """Go through a flow to its end."""
        course = Course(flow)
        for _ in self._perform_all(course):
            pass
        return course.result

    def iterate(self, flow: Flow[None]) -> Iterator[Document]:
        """Go through a flow, yielding what it emits."""
        return self._perform_all(Course(flow))

    def _perform_all(self, course: Course[Any]) -> Iterator[Document]:
        wire = _Wire(self._http)
        try:
            while (effect := course.next_effect()) is not None:
                if isinstance(effect, Emit):
                    yield effect.job
                    continue
                try:
                    course.give(wire.perform(effect))
                except TRANSPORT_ERRORS as error:
                    course.fail(error)
        finally:
            wire.close()


class _Wire:
    """Performs the effects of one flow."""

    def __init__(self, http: httpx2.Client) -> None:
        self._http = http
        self._opened: httpx2.Response | None = None
        self._chunks: Iterator[bytes] = iter(())

    def perform(self, effect: Effect) -> Any:
        if isinstance(effect, Next):
            return next(self._chunks, None)
        self.close()
        match effect:
            case Send(call):
                return self._send(call, stream=False)
            case Open(call):
                self._opened = response = self._send(call, stream=True)
                if not response.is_success:
                    response.read()
                self._chunks = response.iter_bytes()
                return response
            case Sleep(seconds):
                time.sleep(seconds)

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def _send(self, call: Call, stream: bool) -> httpx2.Response:
        content = _read_pieces(call.body) if isinstance(call.body, Path) else call.body
        return self._http.send(_build_request(self._http, call, content), stream=stream)


class AsyncTransport:
    """Performs flows on asyncio's loop."""

    def __init__(self, service: Service) -> None:
        try:
            way = httpx2.AsyncHTTPTransport(proxy=service.proxy, trust_env=service.has_certificates)
        except OSError as error:
            raise service.explain_certificates(error) from None
        self._http = httpx2.AsyncClient(
            base_url=service.base_url, timeout=service.timeout, transport=way, headers=USER_AGENT
        )

    async def close(self) -> None:
        await self._http.aclose()

    async def run(self, flow: Flow[T]) -> T:
        """Go through a flow to its end."""
        course = Course(flow)
        async for _ in self._perform_all(course):
            pass
        return course.result

    def iterate(self, flow: Flow[None]) -> AsyncIterator[Document]:
        """Go through a flow, yielding what it emits."""
        return self._perform_all(Course(flow))

    async def _perform_all(self, course: Course[Any]) -> AsyncIterator[Document]:
        wire = _AsyncWire(self._http)
        try:
            while (effect := course.next_effect()) is not None:
                if isinstance(effect, Emit):
                    yield effect.job
                    continue
                try:
                    course.give(await wire.perform(effect))
                except TRANSPORT_ERRORS as error:
                    course.fail(error)
        finally:
            await wire.close()


class _AsyncWire:
    """Performs the effects of one flow."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self._http = http
        self._opened: httpx2.Response | None = None
        self._chunks: AsyncIterator[bytes] | None = None

    async def perform(self, effect: Effect) -> Any:
        if isinstance(effect, Next):
            return None if self._chunks is None else await anext(self._chunks, None)
        await self.close()
        match effect:
            case Send(call):
                return await self._send(call, stream=False)
            case Open(call):
                self._opened = response = await self._send(call, stream=True)
                if not response.is_success:
                    await response.aread()
                self._chunks = response.aiter_bytes()
                return response
            case Sleep(seconds):
                await asyncio.sleep(seconds)

    async def close(self) -> None:
        if self._opened is not None:
            await self._opened.aclose()
            self._opened = None

    async def _send(self, call: Call, stream: bool) -> httpx2.Response:
        content = _read_pieces_aside(call.body) if isinstance(call.body, Path) else call.body
        return await self._http.send(_build_request(self._http, call, content), stream=stream)


def _build_request(http: httpx2.Client | httpx2.AsyncClient, call: Call, content: Any) -> httpx2.Request:
    seconds = http.timeout.as_dict()
    if call.response_seconds is not None:
        seconds["read"] = call.response_seconds
    return http.build_request(
        call.method,
        call.path,
        params=call.params or None,
        headers=call.headers,
        content=content,
        timeout=httpx2.Timeout(**seconds),
    )


def _read_pieces(file: Path) -> Iterator[bytes]:
    with file.open("rb") as opened:
        while piece := opened.read(PIECE_BYTES):
            yield piece


async def _read_pieces_aside(file: Path) -> AsyncIterator[bytes]:
    with file.open("rb") as opened:
        while piece := await asyncio.to_thread(opened.read, PIECE_BYTES):
            yield piece
