"""What the broker module changes in kombu: stray bytes are dropped, and retries keep a constant interval."""

import logging
from typing import Any

import pytest
from kombu import Consumer, Producer, Queue
from kombu.exceptions import OperationalError

from app.tuning.broker import celery
from tests.support import servers

STRAY = [b"not json", b"[]", b"7", b"{}", b"\xff", b"null"]


def test_stray_bytes_in_the_queue_are_dropped(broker: servers.Broker, caplog: pytest.LogCaptureFixture) -> None:
    received: list[Any] = []
    queue = Queue("strays")
    with celery.connection_for_read(broker.url) as connection:
        Producer(connection).publish({"fit": 1}, routing_key=queue.name, declare=[queue])
        genuine = broker.client().lpop(queue.name)
        broker.client().lpush(queue.name, *STRAY)
        broker.client().lpush(queue.name, genuine)  # received last
        with (
            caplog.at_level(logging.WARNING, "tunewell.broker"),
            Consumer(connection, [queue], on_message=received.append, no_ack=True),
        ):
            while not received:
                connection.drain_events(timeout=10)
    assert [message.payload for message in received] == [{"fit": 1}]
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
