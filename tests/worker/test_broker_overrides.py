"""What the broker module changes in kombu: stray bytes are dropped, and retries keep a constant interval."""

import logging
from typing import Any

import pytest
from kombu.exceptions import OperationalError

from app.tuning.broker import celery
from tests.support import servers

STRAY = [b"not json", b"[]", b"7", b"{}", b"\xff", b"null"]


def test_stray_bytes_in_the_queue_are_dropped(broker: servers.Broker, caplog: pytest.LogCaptureFixture) -> None:
    client: Any = broker.client()
    with celery.connection_for_read(broker.url) as connection, connection.SimpleQueue("strays", no_ack=True) as queue:
        queue.put({"fit": 1})
        message = client.lpop("strays")
        client.lpush("strays", *STRAY)
        client.lpush("strays", message)  # the last to be received
        with caplog.at_level(logging.WARNING, "tunewell.broker"):
            assert queue.get(timeout=10).payload == {"fit": 1}
    assert caplog.messages == ["stray bytes dropped from the queue"] * len(STRAY)


def test_a_broker_that_is_away_is_tried_at_a_constant_interval() -> None:
    intervals: list[float] = []

    def note(error: Exception, interval: float) -> None:
        intervals.append(interval)
        if len(intervals) == 3:
            raise OperationalError("enough")

    with (
        celery.connection_for_read(f"redis://127.0.0.1:{servers.free_port()}/0") as connection,
        pytest.raises(OperationalError, match="enough"),
    ):
        connection.ensure_connection(note, interval_start=2, interval_step=2, interval_max=30)
    assert intervals == [1, 1, 1]
