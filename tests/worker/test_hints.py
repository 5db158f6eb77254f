"""Hints: what workers say through the broker is heard by who watches, and nothing depends on it."""

import threading
from collections.abc import Iterator

import pytest

from app.api.hints import HintListener
from app.tuning import broker as queue
from tests.support.servers import Broker, free_port
from worker.hints import HintSender


@pytest.fixture(params=["reachable", "away"])
def reachable(request: pytest.FixtureRequest, broker: Broker) -> Iterator[bool]:
    """Whether the broker of this process can be reached."""
    before = queue.celery.conf.broker_url
    there = request.param == "reachable"
    queue.celery.conf.broker_url = broker.url if there else f"redis://127.0.0.1:{free_port()}/0"
    yield there
    queue.celery.conf.broker_url = before


def test_a_hint_is_heard_where_there_is_a_broker(reachable: bool) -> None:
    heard = threading.Event()
    listener, sender = HintListener(heard.set), HintSender()
    listener.start()
    for _ in range(100 if reachable else 3):  # the first may come before anybody listens
        sender.send_soon()
        if heard.wait(0.1):
            break
    assert heard.is_set() == reachable
    assert sender.is_alive() and listener.is_alive()
    listener.over.set()
    listener.join(60)
    assert not listener.is_alive()
