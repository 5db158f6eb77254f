"""What takes more than one request: pages, watching a job, downloading a file."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, NamedTuple

import httpx2

from tunewell import calls
from tunewell.calls import Call
from tunewell.effects import TRANSPORT_ERRORS, Document, Emit, Flow, Next, Open, Sleep
from tunewell.errors import Error, ServiceUnreachable
from tunewell.service import ENDED_STATES, RETRYABLE_STATUSES, Service, read_retry_after

PAGE_SIZE = 100
SECONDS_BETWEEN_STREAMS = 1.0
MAX_STALLED = 10  # attempts at a download in a row that bring nothing


def gather_pages(service: Service, call: Call, limit: int | None = None) -> Flow[Document]:
    """The items of all pages as one page, at most `limit` of them."""
    items: list[Document] = []
    token: str | None = ""
    while token is not None and (limit is None or len(items) < limit):
        size = PAGE_SIZE if limit is None else min(limit - len(items), PAGE_SIZE)
        query = {**call.params, "page_size": str(size), **({"page_token": token} if token else {})}
        page = yield from service.fetch(replace(call, params=query))
        items += page["items"]
        token = page["next_page_token"]
    return {"items": items, "next_page_token": token}


def watch_job(service: Service, job_id: str) -> Flow[None]:
    """Emit the job as it is, and after each change until it has ended.

    Changes come by the stream of events. When that breaks off, the job is read anew; where there is none, the job is
    polled at the pace that the service asks for. A service that restarts meanwhile is waited for.
    """
    tag, is_streamed = "", True
    while True:
        response = yield from service.send(calls.show_job(job_id, tag))
        if response.status_code != 304:
            tag = response.headers.get("ETag", "")
            job = service.parse(response)
            yield Emit(job)
            if job["state"] in ENDED_STATES:
                return
        pause = read_retry_after(response, 1.0)
        if is_streamed:
            followed = yield from _follow_stream(job_id, tag)
            if followed.ended:
                return
            tag, is_streamed, pause = followed.tag, followed.works, followed.pause or pause
        yield Sleep(pause)


class _Followed(NamedTuple):
    """How far a stream led."""

    tag: str  # of the last state that was emitted
    ended: bool = False
    works: bool = True  # whether to try another stream later
    pause: float = 0.0  # seconds; 0: as the service asks for


def _follow_stream(job_id: str, tag: str) -> Flow[_Followed]:
    """Emit what a stream tells until it breaks off."""
    reader, is_held_back = EventReader(), False
    try:
        response = yield Open(calls.watch_job(job_id, tag))
        if response.status_code != 200 or "event-stream" not in response.headers.get("Content-Type", ""):
            return _Followed(tag, works=response.status_code in RETRYABLE_STATUSES)
        is_held_back = True
        while (chunk := (yield Next())) is not None:
            is_held_back = False
            for name, version, data in reader.feed(chunk):
                if name != "job" or f'"{version}"' == tag:
                    continue
                tag, job = f'"{version}"', json.loads(data)
                yield Emit(job)
                if job["state"] in ENDED_STATES:
                    return _Followed(tag, ended=True)
    except TRANSPORT_ERRORS:
        pass
    # A stream that says nothing at all is held back by something on the way, such as a proxy.
    return _Followed(tag, works=not is_held_back, pause=SECONDS_BETWEEN_STREAMS)


class EventReader:
    """Reads server-sent events from the pieces in which they arrive."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> Iterator[tuple[str, str, str]]:
        """The name, ID and data of each event that is complete now."""
        *blocks, self._rest = (self._rest + chunk).replace(b"\r\n", b"\n").split(b"\n\n")
        for block in blocks:
            lines = [line for line in block.decode().split("\n") if not line.startswith(":")]
            fields = dict(line.split(": ", 1) for line in lines if ": " in line)
            if "data" in fields:
                yield fields.get("event", ""), fields.get("id", ""), fields["data"]


def download_file(service: Service, path: str, target: Path, sha256: str | None) -> Flow[Path]:
    """Write the file at a path of the service to `target`, and check its digest; what breaks off goes on where it was.

    Raises:
        Error: the content is not that of the digest; nothing is left behind.
    """
    part = target.with_name(f"{target.name}.part")
    try:
        with part.open("wb") as file:
            yield from _receive(service, path, file)
        with part.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if sha256 and found != sha256:
            raise Error(f"{path} has arrived with the SHA-256 {found}, not {sha256}: download it again")
        return part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _receive(service: Service, path: str, file: BinaryIO) -> Flow[None]:
    """Write what the service has at a path; each attempt asks for the rest only."""
    tag, stalled = "", 0
    while True:
        begun = file.tell()
        response = yield from service.send(calls.download(path, begun, tag), opened=True)
        if response.status_code != 206:  # the whole file
            begun = file.seek(0)
            file.truncate()
        tag = response.headers.get("ETag", "")
        try:
            while (chunk := (yield Next())) is not None:
                file.write(chunk)
            return
        except httpx2.RequestError as error:
            stalled = 0 if file.tell() > begun else stalled + 1
            if stalled > MAX_STALLED:
                raise ServiceUnreachable(f"{service.url} breaks off the download of {path} ({error})") from None
            service.note(f"{service.url} broke off the download ({error}); going on")
        yield Sleep(SECONDS_BETWEEN_STREAMS)
