"""A browser for all tests of the page, and a service for each."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser
from sqlalchemy import Engine

from app.main import create_app
from app.page.pages import FOLDER, LIBRARIES
from tests.conftest import IdleHousekeeper
from tests.support.browser import LOOKS, Watched, chromium, watched
from tests.support.servers import missing
from tests.support.serving import serve


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of the page: they need a browser."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.system)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """A Chromium for all of these tests; it runs an event loop in its thread, which no other test must find."""
    if not all((FOLDER / "node_modules" / place).exists() for place in LIBRARIES.values()):
        missing("what `make install` gets from npm's registry for the page")
    with chromium() as running:
        yield running


@pytest.fixture
def service(sqlite_engine: Engine) -> Iterator[str]:
    """The address of a service on an empty database, without a broker."""
    with serve(create_app(sqlite_engine, IdleHousekeeper)) as url:
        yield url


@pytest.fixture
def desk(browser: Browser, service: str) -> Iterator[Watched]:
    """A page in a fresh profile on a large screen; it must do nothing wrong."""
    with watched(browser, service) as page:
        yield page


@pytest.fixture(params=LOOKS)
def look(request: pytest.FixtureRequest, browser: Browser, service: str) -> Iterator[Watched]:
    """The same in each theme and size."""
    theme, size = LOOKS[request.param]
    with watched(browser, service, theme, size) as page:
        yield page
