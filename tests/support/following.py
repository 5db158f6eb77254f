"""A client of server-sent events, in a thread of its own."""

import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx2

from tests.support.live import Live

Event = dict[str, Any]
PATIENCE_SECONDS = 60.0


def parse_events(text: str) -> list[Event]:
    """The events of a stream: their fields, and `data` as what its JSON says."""
    blocks = [block.splitlines() for block in text.split("\n\n")]
    events: list[Event] = []
    for lines in blocks:
        fields = dict(line.split(": ", 1) for line in lines if not line.startswith(":"))
        if "data" in fields:
            events.append({**fields, "data": json.loads(fields["data"])})
    return events


class Stream:
    """What has come on a stream so far."""

    def __init__(self, service: Live, path: str, headers: Mapping[str, str]) -> None:
        self.events: list[Event] = []
        self.failure: Exception | None = None
        self._response: httpx2.Response | None = None
        self._request = (f"{service.client.base_url}".rstrip("/") + path, headers)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def wait_until(self, wanted: Callable[[Event], bool]) -> Event:
        """The first event that is wanted, once it has come."""
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            alive = self._thread.is_alive()
            for event in list(self.events):
                if wanted(event):
                    return event
            assert alive, f"the stream ended: {self.failure} {self.events}"
            time.sleep(0.02)
        raise AssertionError(f"did not come: {self.events}")

    def wait_for(self, name: str) -> Event:
        """The first event of this name."""
        return self.wait_until(lambda event: bool(event["event"] == name))

    def wait_for_end(self) -> list[Event]:
        """All events, once the service has ended the stream as it should."""
        self._thread.join(PATIENCE_SECONDS)
        assert not self._thread.is_alive() and self.failure is None, f"{self.failure} {self.events}"
        return self.events

    def close(self) -> None:
        """Break the connection."""
        if self._response is not None:
            self._response.close()

    def _read(self) -> None:
        url, headers = self._request
        text = ""
        try:
            with httpx2.Client(timeout=None) as client, client.stream("GET", url, headers=headers) as self._response:
                for chunk in self._response.iter_text():
                    text += chunk
                    whole, separator, text = text.rpartition("\n\n")
                    self.events += parse_events(whole + separator)
        except Exception as error:
            self.failure = error

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def follow(service: Live, path: str, headers: Mapping[str, str] | None = None) -> Stream:
    """Open a stream."""
    return Stream(service, path, headers or {})
