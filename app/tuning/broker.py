"""The broker: the Celery app, wakes, which tell workers to claim work, and hints, which tell watchers to read.

Neither carries a payload: a lost, duplicated or spurious one is harmless.
"""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty
from typing import Any

from celery import Celery
from celery.app.amqp import AMQP
from kombu.connection import Connection
from kombu.exceptions import OperationalError
from kombu.transport import redis
from redis.exceptions import RedisError

from app.tuning.settings import settings

QUEUE = "tunewell"
TASK = "tunewell.run_next_fit"
HINTS = "tunewell.hints"  # a channel, which keeps nothing
MAX_WAKES = 64  # in the queue at a time: more would not wake any further worker
BROKER_TIMEOUT_SECONDS = 2.0  # the longest that an unresponsive broker delays a caller
log = logging.getLogger("tunewell.broker")


class TolerantChannel(redis.Channel):
    """Drops malformed messages, which would otherwise crash Celery's worker."""

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            log.warning("stray bytes dropped from the queue", extra={"reason": type(error).__name__})
            raise Empty from None


class TolerantTransport(redis.Transport):
    """Redis transport with tolerant channels."""

    Channel = TolerantChannel


class SteadyConnection(Connection):
    """Retries an unavailable broker every second: kombu's own pauses grow to half a minute."""

    def get_transport_cls(self) -> Any:
        found = super().get_transport_cls()  # type: ignore[no-untyped-call]
        return TolerantTransport if found is redis.Transport else found

    def _ensure_connection(self, *args: Any, **options: Any) -> Any:
        steady = {"interval_start": 1, "interval_step": 1, "interval_max": 1}
        return super()._ensure_connection(*args, **options | steady)  # type: ignore[no-untyped-call]


class SteadyAMQP(AMQP):  # type: ignore[misc]
    """Makes Celery use `SteadyConnection`."""

    Connection = SteadyConnection


for _name in ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL"):
    os.environ.pop(_name, None)  # Celery would prefer these to the URL below

celery = Celery("tunewell", broker=settings().broker, amqp=SteadyAMQP)
celery.conf.update(
    task_default_queue=QUEUE,
    task_ignore_result=True,
    task_store_errors_even_if_ignored=False,
    task_serializer="json",
    accept_content=["json"],
    task_publish_retry=False,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_channel_error_retry=True,  # a full Redis rejects writes; the worker should survive it
    broker_connection_timeout=BROKER_TIMEOUT_SECONDS,
    broker_transport_options={
        "socket_timeout": BROKER_TIMEOUT_SECONDS,
        "socket_connect_timeout": BROKER_TIMEOUT_SECONDS,
        "retry_on_timeout": False,
        "max_retries": 0,
    },
)

BrokerError = (OperationalError, RedisError, OSError)


def send_wakes(count: int) -> None:
    """Send `count` wakes.

    Raises:
        BrokerError: the broker is unreachable, full or unresponsive; raised within a few seconds.
    """
    with celery.connection_for_write() as connection, celery.amqp.Producer(connection) as producer:
        for _ in range(count):
            celery.send_task(TASK, producer=producer, retry=False)


def count_waiting_wakes() -> int:
    """The number of wakes that no worker has taken yet.

    Raises:
        BrokerError: the broker is unreachable or unresponsive.
    """
    with celery.connection_for_write() as connection:
        return int(connection.default_channel.client.llen(QUEUE))


def send_hint() -> None:
    """Tell who watches that rows have changed.

    Raises:
        BrokerError: the broker is unreachable or unresponsive.
    """
    with celery.connection_for_write() as connection:
        connection.default_channel.client.publish(HINTS, "")


@contextmanager
def hear_hints() -> Iterator[Callable[[float], bool]]:
    """Within it, wait so many seconds at most for a hint; False if none came.

    Raises:
        BrokerError: the broker is unreachable or unresponsive.
    """
    with celery.connection_for_write() as connection, connection.default_channel.client.pubsub() as channel:
        channel.subscribe(HINTS)
        yield lambda seconds: (channel.get_message(timeout=seconds) or {}).get("type") == "message"
