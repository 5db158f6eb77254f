"""Receives an uploaded file: streamed, hashed and spooled a piece at a time, within limits."""

import hashlib
import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO

import anyio
import anyio.to_thread
from fastapi import Request
from starlette.requests import ClientDisconnect

from app.api.problems import Problem, ServiceUnavailable, reject_request
from app.api.strict_json import MAX_DRAINED_BYTES
from app.tuning.settings import settings
from app.tuning.spool import has_space

RECEIVED_BYTES = 2**20
SILENCE_SECONDS = 30.0
MAX_UPLOADS = 4
CHECK_WAIT_SECONDS = 30.0
NEEDED_SPACE = 3  # times the file: itself, what it becomes, and that in the storage
FULL = "There is not enough space on the service's disk for this file: send less, or delete data sets."
ANY_TYPE = {"", "application/octet-stream", "binary/octet-stream", "application/x-www-form-urlencoded"}
# By media type: what the file begins with.
TYPES = {
    "application/zip": rb"PK",
    "application/x-zip-compressed": rb"PK",
    "application/gzip": rb"\x1f\x8b",
    "application/x-gzip": rb"\x1f\x8b",
    "text/csv": rb"(?!PK\x03\x04|\x1f\x8b)",
    "text/plain": rb"(?!PK\x03\x04|\x1f\x8b)",
    "text/tab-separated-values": rb"(?!PK\x03\x04|\x1f\x8b)",
}
WRONG_TYPE = (
    "The body must be the file itself: an npz file, a zip, CSV or CSV.gz, with a Content-Type that says so, "
    "application/octet-stream or none, and without Content-Encoding."
)


class Gate:
    """Lets a few uploads in at a time, and one check."""

    def __init__(self) -> None:
        self._uploads = 0
        self._check = anyio.Semaphore(1)

    @asynccontextmanager
    async def enter(self) -> AsyncIterator[None]:
        """Hold one of the places for uploads.

        Raises:
            ServiceUnavailable: all are taken.
        """
        if self._uploads >= MAX_UPLOADS:
            raise ServiceUnavailable(f"{MAX_UPLOADS} uploads are being received: try again.")
        self._uploads += 1
        try:
            yield
        finally:
            self._uploads -= 1

    @asynccontextmanager
    async def check(self) -> AsyncIterator[None]:
        """Hold the place for a check.

        Raises:
            ServiceUnavailable: another check holds it for long.
        """
        with anyio.move_on_after(CHECK_WAIT_SECONDS) as waiting:
            await self._check.acquire()
        if waiting.cancelled_caught:
            raise ServiceUnavailable("Another file is being checked: try again.")
        try:
            yield
        finally:
            self._check.release()


def check_headers(request: Request) -> None:
    """Reject by its headers what need not be received.

    Raises:
        Problem: the file is too large, of another type, or more than the disk has space for.
    """
    length = request.headers.get("content-length", "0")
    if length.isdigit() and int(length[:20]) > settings().upload_bytes:
        raise _too_large()
    media_type = _media_type(request)
    if media_type not in ANY_TYPE | TYPES.keys() or request.headers.get("content-encoding", "identity") != "identity":
        raise Problem(415, WRONG_TYPE)
    if not has_space(NEEDED_SPACE * int(length[:20]) if length.isdigit() else 0):
        raise Problem(507, FULL)


async def receive_file(request: Request, file: Path) -> tuple[str, int]:
    """Write the body to the file; its SHA-256 and its size.

    Raises:
        Problem: it is empty, too large, not what its headers say, or does not come.
        ClientDisconnect: the client went away.
    """
    digest, size = hashlib.sha256(), 0

    def write(piece: bytes, to: BinaryIO) -> None:
        digest.update(piece)
        to.write(piece)

    with file.open("wb") as spooled:
        async for piece in _collect_pieces(request):
            if not size and not re.match(TYPES.get(_media_type(request), b""), piece):
                raise Problem(415, WRONG_TYPE)
            size += len(piece)
            if size > settings().upload_bytes:
                raise _too_large()
            if not has_space(NEEDED_SPACE * size):
                raise Problem(507, FULL)
            await anyio.to_thread.run_sync(write, piece, spooled)
    if not size:
        raise reject_request([((), "The body is empty: send the file as the body, as `curl -T FILE` does.")])
    _check_digest(request, digest.digest())
    return digest.hexdigest(), size


async def drain_body(request: Request) -> None:
    """Receive some of what is still being sent, so that the client reads the response; unless it waits to be asked."""
    if request.headers.get("expect", "").lower() == "100-continue":
        return
    received = 0
    try:
        with anyio.move_on_after(SILENCE_SECONDS):
            async for piece in request.stream():
                received += len(piece)
                if received > MAX_DRAINED_BYTES:
                    return
    except (ClientDisconnect, RuntimeError):  # RuntimeError: some of it has been received before
        return


async def _collect_pieces(request: Request) -> AsyncIterator[bytes]:
    """The body in pieces of about 1 MiB."""
    buffer = bytearray()
    stream = request.stream()
    while True:
        with anyio.move_on_after(SILENCE_SECONDS) as waiting:
            received = await anext(stream, None)
        if waiting.cancelled_caught:
            raise Problem(408, f"Nothing has come for {SILENCE_SECONDS:g} seconds: send the file again.")
        buffer += received or b""
        while len(buffer) >= RECEIVED_BYTES or (received is None and buffer):
            yield bytes(buffer[:RECEIVED_BYTES])
            del buffer[:RECEIVED_BYTES]
        if received is None:
            return


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _check_digest(request: Request, digest: bytes) -> None:
    """Compare the body with the header `Repr-Digest` (RFC 9530), where it has a SHA-256."""
    for member in ",".join(request.headers.getlist("repr-digest")).split(","):
        name, _, value = member.strip().partition("=")
        if name.lower() != "sha-256":
            continue
        try:
            sent = b64decode(value.strip().removeprefix(":").removesuffix(":"), validate=True)
        except Base64Error:
            sent = b""
        if sent != digest:
            message = "The body has another SHA-256: send the file again, or the digest as sha-256=:BASE64:."
            raise reject_request([(("Repr-Digest",), message)])


def _too_large() -> Problem:
    return Problem(413, f"The file is larger than {settings().upload_bytes:,} bytes (TUNEWELL_UPLOAD_BYTES).")
