"""The list of jobs."""

import httpx2
import pytest
from playwright.sync_api import expect
from sqlalchemy import Engine

from tests.support.browser import Watched
from tests.support.driving import drive, grid, steady

HOSTILE = '<img src=x onerror="document.title=1">'


def post(service: str, **more: object) -> str:
    """The id of a new job of four trials."""
    response = httpx2.post(f"{service}/v1/jobs", json=grid(4, **more))
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


def test_an_empty_service_offers_a_search_and_says_why_it_would_wait(look: Watched) -> None:
    page = look.open("")
    expect(page.get_by_role("heading", level=1)).to_have_text("No jobs yet")
    expect(page.get_by_role("alert")).to_contain_text("The broker is away")
    assert look.violations() == [] and look.fits()


def test_one_click_starts_a_search(desk: Watched, service: str) -> None:
    page = desk.open("")
    page.get_by_role("button", name="Search digits").click()
    page.wait_for_url("**/jobs/*")
    [job] = httpx2.get(f"{service}/v1/jobs").json()["items"]
    assert job["id"] in page.url
    assert job["name"] == "digits-quick" and job["trials"]["total"] == 4


def test_jobs_are_listed_in_each_state(look: Watched, service: str, sqlite_engine: Engine) -> None:
    for name, fits in (("ended", None), ("running", 5), ("waiting", 0)):
        drive(sqlite_engine, post(service, name=name, labels={"team": "vision"}), steady, fits)
    page = look.open("")
    rows = page.locator("tr[data-row]")
    expect(rows).to_have_count(3)
    expect(rows.nth(0)).to_contain_text("queued")
    expect(rows.nth(1)).to_contain_text("5 of 13 fits")
    expect(rows.nth(2)).to_contain_text("succeeded")
    expect(rows.nth(2)).to_contain_text("0.5300")
    assert look.violations() == [] and look.fits()


def test_progress_arrives_by_itself_and_moves_nothing(desk: Watched, service: str, sqlite_engine: Engine) -> None:
    job_id = post(service, name="first")
    page = desk.open("")
    row = page.locator(f"tr[data-row='{job_id}']")
    row.get_by_role("checkbox").check()
    row.get_by_role("link").focus()
    expect(page.locator("#connection")).to_have_text("live")
    drive(sqlite_engine, job_id, steady)
    expect(row).to_contain_text("succeeded")
    expect(row.get_by_role("checkbox")).to_be_checked()
    expect(row.get_by_role("link")).to_be_focused()
    post(service, name="second")
    expect(page.locator("tr[data-row]")).to_have_count(2)
    expect(row.get_by_role("link")).to_be_focused()


def test_filters_are_in_the_address(desk: Watched, service: str, sqlite_engine: Engine) -> None:
    drive(sqlite_engine, post(service, name="done", labels={"team": "vision"}), steady)
    post(service, name="todo", labels={"team": "speech"})
    page = desk.open("")
    page.keyboard.press("/")
    page.keyboard.type("todo")
    expect(page.locator("tr[data-row]")).to_have_count(1)
    page.reload()
    expect(page.locator("tr[data-row]")).to_have_count(1)
    page.get_by_label("Search").fill("")
    page.get_by_label("State").select_option("succeeded")
    expect(page.locator("tr[data-row]")).to_contain_text(["done"])
    page.get_by_label("State").select_option("")
    page.get_by_role("button", name="team: speech").click()
    assert page.url.endswith("/?label=team:speech")
    expect(page.locator("tr[data-row]")).to_contain_text(["todo"])


def test_selected_jobs_are_stopped_and_deleted(desk: Watched, service: str) -> None:
    kept, gone = post(service, name="kept"), post(service, name="gone")
    page = desk.open("")
    page.get_by_label("Select gone").check()
    page.get_by_role("button", name="Stop 1").click()
    expect(page.locator(f"tr[data-row='{gone}']")).to_contain_text("cancelled")
    page.get_by_role("button", name="Delete 1").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.locator("tr[data-row]")).to_have_count(1)
    assert [job["id"] for job in httpx2.get(f"{service}/v1/jobs").json()["items"]] == [kept]


def test_rows_are_reached_by_keys(desk: Watched, service: str) -> None:
    post(service, name="older")
    post(service, name="newer")
    page = desk.open("")
    page.locator("tr[data-row]").first.wait_for()
    page.keyboard.press("j")
    expect(page.get_by_role("link", name="newer")).to_be_focused()
    page.keyboard.press("j")
    expect(page.get_by_role("link", name="older")).to_be_focused()
    page.keyboard.press("x")
    expect(page.get_by_label("Select older")).to_be_checked()


@pytest.mark.parametrize("field", ["q", "label", "state"])
def test_hostile_addresses_stay_text(desk: Watched, service: str, field: str) -> None:
    post(service, name="one")
    page = desk.open(f"?{field}={HOSTILE}")
    expect(page.get_by_text("No job fits the filters.")).to_be_visible()
    assert page.title() == "Tunewell"
    assert page.locator("img").count() == 0


def test_filters_find_jobs_that_are_not_on_the_first_page(desk: Watched, service: str) -> None:
    post(service, name="needle", labels={"team": "speech"})
    for number in range(55):
        post(service, name=f"hay-{number}")
    page = desk.open("")
    expect(page.locator("tr[data-row]")).to_have_count(50)
    page.get_by_label("Search").fill("needle")
    expect(page.locator("tr[data-row]")).to_contain_text(["needle"])
    page.get_by_label("Search").fill("")
    expect(page.locator("tr[data-row]")).to_have_count(50)
    page.get_by_role("button", name="Show older jobs").click()
    expect(page.locator("tr[data-row]")).to_have_count(56)
    page.goto(f"{service}/?label=team:speech")
    expect(page.locator("tr[data-row]")).to_contain_text(["needle"])
