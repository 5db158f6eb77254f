"""What every page has: headers, sub-paths, files, theme, keys."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from playwright.sync_api import Browser, expect
from sqlalchemy import Engine
from starlette.types import Receive, Scope, Send

from app.main import create_app
from app.page import pages
from tests.conftest import IdleHousekeeper
from tests.support.browser import Watched, watched
from tests.support.searches import article
from tests.support.serving import serve

ADDRESSES = ("/", "/new", "/compare", "/jobs/some", "/jobs/some/trials/3")


@pytest.mark.parametrize("address", ADDRESSES)
def test_pages_are_html_that_loads_only_own_scripts(sqlite_client: TestClient, address: str) -> None:
    response = sqlite_client.get(address)
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/html")
    policy = dict(one.strip().split(" ", 1) for one in response.headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["form-action"] == "'none'"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "<script>" not in response.text and "style=" not in response.text


def test_pages_are_not_part_of_the_contract(sqlite_client: TestClient) -> None:
    paths = sqlite_client.get("/openapi.json").json()["paths"]
    assert not [path for path in paths if not path.startswith(("/v1/", "/livez", "/readyz"))]


@pytest.mark.parametrize("address", ["/nothing", "/v1/nothing", "/page/1/nothing.js", "/page/1/../pages.py"])
def test_unknown_addresses_are_problems_even_for_browsers(sqlite_client: TestClient, address: str) -> None:
    response = sqlite_client.get(address, headers={"Accept": "text/html"})
    assert response.status_code == 404
    assert response.headers["Content-Type"] == "application/problem+json"


def test_files_change_their_address_when_they_change(sqlite_client: TestClient, tmp_path: Path) -> None:
    address = sqlite_client.get("/").text.partition('src="')[2].partition('"')[0]
    response = sqlite_client.get(f"/{address}")
    assert response.status_code == 200
    assert "immutable" in response.headers["Cache-Control"]
    assert response.headers["Content-Encoding"] == "gzip"
    assert sqlite_client.get("/").headers["Cache-Control"] == "no-cache"


def test_a_base_from_a_prefix_is_escaped(sqlite_engine: Engine) -> None:
    with TestClient(create_app(sqlite_engine, IdleHousekeeper), root_path='/"><b>') as client:
        assert '<base href="/&quot;&gt;&lt;b&gt;/">' in client.get("/").text


def test_scripts_are_small_files() -> None:
    sizes = {file.name: len(file.read_text(encoding="utf-8").splitlines()) for file in pages.STATIC.rglob("*.js")}
    assert sizes and max(sizes.values()) < 300, sizes


def test_pages_work_below_a_prefix(browser: Browser, sqlite_engine: Engine) -> None:
    app = create_app(sqlite_engine, IdleHousekeeper)

    async def prefixed(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "root_path": "/tune/well"}, receive, send)

    with serve(prefixed) as url, watched(browser, f"{url}/tune/well") as page:
        shown = page.open("")
        shown.get_by_role("button", name="Search digits").click()
        shown.wait_for_url(f"{url}/tune/well/jobs/*")
        expect(shown.get_by_role("heading", level=1)).to_have_text("digits-quick")
        shown.get_by_role("link", name="Tunewell").click()
        expect(shown.get_by_role("heading", level=1)).to_have_text("Jobs")


def test_the_theme_follows_the_system_until_one_is_chosen(desk: Watched) -> None:
    page = desk.open("")
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    light = page.evaluate(ground)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(ground)
    assert light != dark
    page.get_by_role("button", name="Theme: system").click()
    assert page.evaluate(ground) == light
    page.reload()
    page.wait_for_selector("h1")
    assert page.evaluate(ground) == light
    page.get_by_role("button", name="Theme: light").click()
    page.emulate_media(color_scheme="light")
    assert page.evaluate(ground) == dark


def test_keys_are_listed_and_lead_to_pages(desk: Watched) -> None:
    page = desk.open("")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("new job")
    assert desk.violations() == []
    page.keyboard.press("Escape")
    page.keyboard.press("n")
    page.wait_for_url("**/new")


def test_unknown_jobs_are_said_to_be_unknown(browser: Browser, service: str) -> None:
    with watched(browser, service, allow=["404"]) as watch:
        page = watch.open("jobs/00000000-0000-4000-8000-000000000000")
        expect(page.get_by_role("alert")).to_contain_text("No such job")


def test_without_the_libraries_the_page_says_what_is_missing(
    browser: Browser, sqlite_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "LIBRARIES", dict.fromkeys(pages.LIBRARIES, "not/installed"))
    with (
        serve(create_app(sqlite_engine, IdleHousekeeper)) as url,
        watched(browser, url, allow=["404", "MIME type", "stylesheet"]) as watch,
    ):
        page = watch.open(f"jobs/{article(url, sqlite_engine)}")
        expect(page.get_by_text("Charts are missing, since ECharts is not installed: run make install")).to_be_visible()
        expect(page.locator("#history .sentence")).to_contain_text("24 trials, best 0.9490")
        page.get_by_role("tab", name="Trials").click()
        expect(page.get_by_text("The table needs Tabulator, which is not installed")).to_be_visible()
