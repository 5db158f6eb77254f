"""Both clients, and a service for them."""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import Engine

import tunewell
from app.main import create_app
from tests.conftest import IdleHousekeeper
from tests.support.serving import serve
from tunewell import Patience

QUICK = Patience(first_reads=0.0, first_changes=0.0, reads=20.0, changes=20.0)
Body = Callable[[Any], Awaitable[Any]]


@dataclass
class Kind:
    """One of the two clients: a test's body awaits what either returns."""

    name: str

    def go(self, url: str, body: Body, **options: Any) -> Any:
        """What the body returns, given a client of this kind."""

        async def main() -> Any:
            client = getattr(tunewell, self.name)(url, **{"patience": QUICK, **options})
            try:
                return await body(client)
            finally:
                await settle(client.close())

        return asyncio.run(main())


async def settle(outcome: Any) -> Any:
    """The outcome of a call of either client."""
    return await outcome if inspect.isawaitable(outcome) else outcome


async def each(states: Any) -> Any:
    """The items of either kind of iterator."""
    if hasattr(states, "__aiter__"):
        async for state in states:
            yield state
    else:
        for state in states:
            yield state


@pytest.fixture(autouse=True)
def _quiet() -> None:
    """A service in this process has set up logs, which would be in the way of what the client prints."""
    logging.getLogger("httpx2").setLevel(logging.WARNING)


@pytest.fixture(params=["Client", "AsyncClient"])
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each client in turn."""
    return Kind(request.param)


@pytest.fixture
def url(sqlite_engine: Engine) -> Iterator[str]:
    """The address of a service on an empty database, without workers."""
    with serve(create_app(sqlite_engine, IdleHousekeeper)) as address:
        yield address
