"""The page of one job."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import Engine, update

from app.main import create_app
from app.tuning.database import writing
from app.tuning.jobs.tables import Attempt, State, Trial
from tests.conftest import IdleHousekeeper
from tests.support.browser import LOOKS, Watched, watched
from tests.support.driving import ARTICLE, claim, drive, grid, steady
from tests.support.searches import article, post_job, random_search
from tests.support.servers import free_port
from tests.support.serving import serve

HOSTILE = '<img src=x onerror="document.title=1">'
SELECTED = ".filterbar strong"
# What stands on each tab.
CONTENT = {
    "Overview": "#parallel [data-drawn]",
    "Trials": ".tabulator-row",
    "Plots": "#heat",
    "Timeline": "#timeline [data-drawn]",
    "Errors": "article",
    "Spec": ".facts",
}
# The series of a chart by id, as ECharts holds them.
POINTS = """async ([chart, series]) => {
    const library = await import(document.querySelector("script[src]").src.replace("main.js", "lib/echarts.mjs"));
    const option = library.getInstanceByDom(document.querySelector(`#${chart} .canvas`)).getOption();
    return option.series.find((one) => one.id === series).data.length;
}"""
ACT = """async ([chart, action]) => {
    const library = await import(document.querySelector("script[src]").src.replace("main.js", "lib/echarts.mjs"));
    library.getInstanceByDom(document.querySelector(`#${chart} .canvas`)).dispatchAction(action);
}"""
PIXEL = """async ([chart, value]) => {
    const library = await import(document.querySelector("script[src]").src.replace("main.js", "lib/echarts.mjs"));
    const canvas = document.querySelector(`#${chart} .canvas`), box = canvas.getBoundingClientRect();
    const [x, y] = library.getInstanceByDom(canvas).convertToPixel("grid", value);
    return [box.x + x, box.y + y];
}"""
INK = """async (chart) => {
    const library = await import(document.querySelector("script[src]").src.replace("main.js", "lib/echarts.mjs"));
    return library.getInstanceByDom(document.querySelector(`#${chart} .canvas`)).getOption().textStyle.color;
}"""
ZOOM = """async (chart) => {
    const library = await import(document.querySelector("script[src]").src.replace("main.js", "lib/echarts.mjs"));
    const option = library.getInstanceByDom(document.querySelector(`#${chart} .canvas`)).getOption();
    return option.dataZoom.map((one) => [Math.round(one.start), Math.round(one.end)]);
}"""


def wait_for_drawing(page: Page, *charts: str) -> None:
    """Return once these charts stand."""
    for chart in charts:
        page.locator(f"#{chart} .canvas[data-drawn]").wait_for()


def test_every_tab_is_sound(look: Watched, service: str, sqlite_engine: Engine) -> None:
    page = look.open(f"jobs/{article(service, sqlite_engine)}?pick=0,3")
    expect(page.locator(SELECTED)).to_have_text("27 of 27 selected")
    expect(page.locator("section.picked")).to_contain_text("2 picked trials")
    expect(page.locator(".outcome")).to_contain_text("24 trials of 27 succeeded, 3 failed")
    for tab in CONTENT:
        page.get_by_role("tab", name=tab).click()
        page.locator(f"{CONTENT[tab]} >> visible=true").first.wait_for()
        assert look.violations() == [] and look.fits(), tab


def test_failed_trials_are_out_of_the_charts_but_counted(desk: Watched, service: str, sqlite_engine: Engine) -> None:
    page = desk.open(f"jobs/{article(service, sqlite_engine)}")
    wait_for_drawing(page, "history", "parallel")
    assert page.evaluate(POINTS, ["history", "selected"]) == page.evaluate(POINTS, ["parallel", "lines"]) == 24
    expect(page.locator("#history .sentence")).to_contain_text("Not in the charts: 3 failed.")
    expect(page.get_by_role("button", name="3 failed", exact=False).first).to_be_visible()


def test_scores_bear_the_name_of_the_scoring(desk: Watched, service: str, sqlite_engine: Engine) -> None:
    job_id = post_job(service, grid(3, evaluation={"cv": 2, "scoring": "f1_macro"}))
    drive(sqlite_engine, job_id, steady)
    page = desk.open(f"jobs/{job_id}?q=f1_macro>0.505")
    expect(page.locator(SELECTED)).to_have_text("2 of 3 selected")
    expect(page.get_by_role("heading", name="F1_macro by trial")).to_be_visible()
    expect(page.locator(".outcome")).to_contain_text("Best f1_macro 0.5200")
    expect(page.locator(".ten th", has_text="F1_macro")).to_be_visible()


def test_failures_are_grouped_with_what_they_share(desk: Watched, service: str, sqlite_engine: Engine) -> None:
    spec = {**ARTICLE, "search": {"strategy": "grid", "param_grid": {"num_neurons": [32, 64, 128], "l2": [0, 0.1]}}}
    job_id = post_job(service, spec)
    # Trials 1, 3 and 5 have 64 neurons or another l2: names are sorted, so l2 varies slowest.
    drive(sqlite_engine, job_id, lambda fit: None if (fit.trial_number or 0) >= 3 and fit.fold is not None else 0.9)
    page = desk.open(f"jobs/{job_id}?tab=errors")
    expect(page.locator("article.cause h2")).to_have_text(
        "3 \N{MULTIPLICATION SIGN} ValueError: the loss is not a number"
    )
    expect(page.locator("article.cause")).to_contain_text("All of them, and no trial that succeeded, have l2 0.1.")
    expect(page.locator("article.cause pre")).to_have_text("Traceback: it was NaN")


def test_one_selection_is_shared_by_charts_and_table(desk: Watched, service: str, sqlite_engine: Engine) -> None:
    page = desk.open(f"jobs/{article(service, sqlite_engine)}")
    wait_for_drawing(page, "history", "parallel")
    # What dragging on an axis does: the second axis has steps for 0.01, 0.05 and 0.1.
    page.evaluate(
        ACT,
        ["parallel", {"type": "axisAreaSelect", "parallelAxisId": "axis-learning_rate", "intervals": [[-0.3, 1.3]]}],
    )
    expect(page.locator(SELECTED)).to_have_text("18 of 27 selected")
    assert "on.learning_rate=0.01" in page.url
    page.wait_for_function("() => document.querySelector('#history .canvas').dataset.drawn > 1")
    assert page.evaluate(POINTS, ["history", "selected"]) == 16
    page.get_by_label("Select trials by terms").fill("accuracy>0.94")
    expect(page.locator(SELECTED)).to_have_text("4 of 27 selected")
    page.get_by_role("tab", name="Trials").click()
    expect(page.locator(".tabulator-row")).to_have_count(4)
    page.get_by_role("tab", name="Overview").click()
    page.get_by_role("button", name="learning_rate: 0.01 or 0.05").click()
    page.get_by_role("button", name="Clear", exact=True).click()
    expect(page.locator(SELECTED)).to_have_text("27 of 27 selected")


def test_the_address_restores_the_view(browser: Browser, service: str, sqlite_engine: Engine) -> None:
    job_id = article(service, sqlite_engine)
    with watched(browser, service) as first:
        page = first.open(f"jobs/{job_id}")
        wait_for_drawing(page, "history")
        page.evaluate(ACT, ["history", {"type": "dataZoom", "batch": [{"dataZoomIndex": 0, "start": 20, "end": 60}]}])
        page.get_by_label("Select trials by terms").fill("num_neurons=128|256")
        page.get_by_label("Best percent").fill("50")
        page.get_by_role("tab", name="Trials").click()
        page.locator(".tabulator-col", has_text="Accuracy").click()
        page.get_by_text("Columns").click()
        page.get_by_label("±").uncheck()
        page.locator(".tabulator-row").nth(1).locator(".tabulator-cell").nth(1).click()
        expect(page.locator("section.picked")).to_be_visible()
        selected, rows = page.locator(SELECTED).text_content(), page.locator(".tabulator-row").all_text_contents()
        address = page.url.removeprefix(service + "/")
    with watched(browser, service) as second:
        page = second.open(address)
        expect(page.get_by_role("tab", selected=True)).to_have_text("Trials")
        expect(page.locator(SELECTED)).to_have_text(selected or "")
        expect(page.locator(".tabulator-row")).to_have_count(len(rows))
        assert page.locator(".tabulator-row").all_text_contents() == rows
        expect(page.locator(".tabulator-row.picked")).to_have_count(1)
        expect(page.locator(".tabulator-col", has_text="±")).to_be_hidden()
        page.get_by_role("tab", name="Overview").click()
        wait_for_drawing(page, "history")
        assert page.evaluate(ZOOM, "history") == [[20, 60], [0, 100]]


def test_twenty_updates_move_nothing_that_is_looked_at(desk: Watched, service: str, sqlite_engine: Engine) -> None:
    job_id = post_job(service, grid(60, evaluation={"cv": 2, "refit": False}))
    drive(sqlite_engine, job_id, steady, 60)
    desk.page.set_viewport_size({"width": 1280, "height": 500})
    page = desk.open(f"jobs/{job_id}")
    wait_for_drawing(page, "history", "parallel")
    page.evaluate(ACT, ["history", {"type": "dataZoom", "batch": [{"dataZoomIndex": 0, "start": 10, "end": 30}]}])
    area = {"type": "axisAreaSelect", "parallelAxisId": "axis-accuracy", "intervals": [[0.51, 0.9]]}
    page.evaluate(ACT, ["parallel", area])
    page.get_by_role("tab", name="Trials").click()
    page.locator(".tabulator-col", has_text="Accuracy").click()
    page.locator(".tabulator-row a", has_text="10").first.wait_for()
    holder = page.locator(".tabulator-tableholder")
    holder.evaluate("(node) => { node.style.maxHeight = '200px'; node.scrollTop = 120; }")
    page.evaluate("scrollTo(0, 40)")
    expect(page.locator("#connection")).to_have_text("live")
    before = page.locator(".tabulator-row a").all_text_contents()[:8]
    for change in range(20):
        drive(sqlite_engine, job_id, steady, 2)
        done = 62 + 2 * change
        expect(page.get_by_text(f"{done} of 120 fits")).to_be_visible(timeout=15_000)
    assert holder.evaluate("(node) => node.scrollTop") == 120
    assert page.evaluate("scrollY") == 40
    assert page.locator(".tabulator-row a").all_text_contents()[:8] == before
    assert "sort=accuracy" in page.url and "on.accuracy=0.51..0.9" in page.url
    page.get_by_role("tab", name="Overview").click()
    assert page.evaluate(ZOOM, "history")[0] == [10, 30]
    expect(page.get_by_role("button", name="accuracy: 0.51 to 0.9")).to_be_visible()


def test_axes_are_logarithmic_where_the_search_says_so(desk: Watched, service: str, sqlite_engine: Engine) -> None:
    page = desk.open(f"jobs/{random_search(service, sqlite_engine, 30)}?tab=plots")
    expect(page.locator("#slice-learning_rate .sentence")).to_contain_text("Logarithmic axis")
    expect(page.locator("#slice-dropout_rate .sentence")).to_contain_text("Linear axis")
    page.get_by_label("Logarithmic: learning_rate").uncheck()
    expect(page.locator("#slice-learning_rate .sentence")).to_contain_text("Linear axis")
    assert "log.learning_rate=0" in page.url


def test_charts_are_reached_by_keys_and_said_in_words(desk: Watched, service: str, sqlite_engine: Engine) -> None:
    page = desk.open(f"jobs/{article(service, sqlite_engine)}")
    wait_for_drawing(page, "history")
    page.locator("#history .canvas").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#announce")).to_contain_text("Trial 1 succeeded, rank 2, accuracy 0.9465")
    page.keyboard.press("Space")
    expect(page.locator("section.picked")).to_contain_text("Trial 1")
    page.keyboard.press("Escape")
    expect(page.locator("section.picked")).to_be_hidden()
    page.keyboard.press("Enter")
    page.wait_for_url("**/trials/1")


def test_charts_are_saved_as_picture_and_rows(
    desk: Watched, service: str, sqlite_engine: Engine, tmp_path: Path
) -> None:
    page = desk.open(f"jobs/{article(service, sqlite_engine)}")
    wait_for_drawing(page, "history")
    with page.expect_download() as saved:
        page.locator("#history").get_by_role("button", name="PNG").click()
    picture = Path(saved.value.path()).read_bytes()
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    with page.expect_download() as saved:
        page.locator("#history").get_by_role("button", name="CSV").click()
    rows = list(csv.DictReader(io.StringIO(Path(saved.value.path()).read_text(encoding="utf-8"))))
    assert len(rows) == 27
    assert (rows[6]["state"], rows[6]["accuracy"], rows[1]["num_neurons"]) == ("failed", "", "256")
    page.locator("#history").get_by_text("As a table").click()
    expect(page.locator("#history tbody tr")).to_have_count(27)


def test_a_job_is_stopped_paused_and_extended_from_its_page(desk: Watched, service: str, sqlite_engine: Engine) -> None:
    job_id = post_job(service, grid(3))
    page = desk.open(f"jobs/{job_id}")
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("dialog").get_by_role("button", name="Stop").click()
    expect(page.locator(".strip .state")).to_contain_text("cancelled")
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    page.wait_for_url(f"{service}/")
    assert httpx2.get(f"{service}/v1/jobs").json()["items"] == []


def test_failed_fits_are_retried_and_grids_extended(browser: Browser, service: str, sqlite_engine: Engine) -> None:
    job_id = article(service, sqlite_engine)
    with watched(browser, service, allow=["422"]) as watch:
        page = watch.open(f"jobs/{job_id}")
        page.get_by_role("button", name="Extend").click()
        box = page.get_by_role("dialog").get_by_role("textbox")
        box.fill('{"learning_rate": [0.5]}')
        page.get_by_role("dialog").get_by_role("button", name="Extend").click()
        expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("it must contain all")
        page.get_by_role("button", name="Not now").click()
        page.get_by_role("button", name="Retry 9 failed fits").click()
        expect(page.get_by_text("The failed fits are trained again.")).to_be_visible()
        drive(sqlite_engine, job_id, lambda fit: 0.99)
        expect(page.locator(".outcome")).to_contain_text("27 trials of 27 succeeded")
        expect(page.get_by_role("tab", name="Errors")).to_be_hidden()


def test_hostile_names_and_labels_stay_text(desk: Watched, service: str, sqlite_engine: Engine) -> None:
    job_id = article(service, sqlite_engine, name="a-b", labels={"k": "v"})
    page = desk.open(f"jobs/{job_id}?tab={HOSTILE}&q={HOSTILE}&sort={HOSTILE}&on.learning_rate={HOSTILE}&x={HOSTILE}")
    expect(page.locator("#wrong")).to_contain_text("is no term")
    for tab in ("Trials", "Plots", "Spec"):
        page.get_by_role("tab", name=tab).click()
    assert page.locator("img").count() == 0 and page.title() != "1"


def test_ten_thousand_trials_stand(desk: Watched, service: str, sqlite_engine: Engine) -> None:
    page = desk.open(f"jobs/{random_search(service, sqlite_engine, 10_000)}")
    wait_for_drawing(page, "history", "parallel")
    assert page.evaluate(POINTS, ["history", "selected"]) == page.evaluate(POINTS, ["parallel", "lines"]) == 10_000
    page.get_by_label("Select trials by terms").fill("optimizer=adam num_neurons<100")
    expect(page.locator(SELECTED)).not_to_have_text("10,000 of 10,000 selected")
    page.get_by_role("tab", name="Trials").click()
    page.locator(".tabulator-row").first.wait_for()
    assert page.locator(".tabulator-row").count() < 200
    page.get_by_role("tab", name="Plots").click()
    wait_for_drawing(page, "slice-learning_rate")


@pytest.fixture
def running(browser: Browser, service: str, sqlite_engine: Engine) -> Iterator[tuple[Watched, str]]:
    """A running job, and a phone on which it is looked at."""
    job_id = article(service, sqlite_engine, 40)
    theme, size = LOOKS["phone"]
    with watched(browser, service, theme, size) as page:
        yield page, job_id


def test_a_trial_shows_curves_of_each_fold_live(running: tuple[Watched, str], sqlite_engine: Engine) -> None:
    watch, job_id = running
    trial = 0
    page = watch.open(f"jobs/{job_id}/trials/{trial}")
    expect(page.get_by_role("heading", level=1)).to_have_text("Trial 0")
    assert watch.violations() == [] and watch.fits()
    expect(page.locator("#connection")).to_have_text("live")
    drive(sqlite_engine, job_id, lambda fit: 0.9, 41)
    expect(page.locator("td", has_text="succeeded")).to_have_count(3)
    expect(page.locator("#curves-accuracy .sentence")).to_contain_text("fold 2: 0.2500 after 2 epochs")
    assert watch.violations() == []


def test_a_failed_trial_says_why_and_shows_neighbours(look: Watched, service: str, sqlite_engine: Engine) -> None:
    page = look.open(f"jobs/{article(service, sqlite_engine)}/trials/6")
    expect(page.get_by_role("alert")).to_contain_text("ValueError: the loss is not a number")
    expect(page.get_by_role("heading", name="Neighbours")).to_be_visible()
    assert look.violations() == [] and look.fits()


def test_updates_are_polled_where_no_stream_is_to_be_had(browser: Browser, service: str, sqlite_engine: Engine) -> None:
    job_id = article(service, sqlite_engine, 3)
    with watched(browser, service, allow=["503"]) as watch:
        watch.page.route("**/events**", lambda route: route.fulfill(status=503))
        page = watch.open(f"jobs/{job_id}")
        expect(page.get_by_text("3 of 82 fits")).to_be_visible()
        drive(sqlite_engine, job_id, steady, 5)
        expect(page.get_by_text("8 of 82 fits")).to_be_visible()
        expect(page.locator("#connection")).to_have_text("polling")


def test_a_service_that_went_away_is_noticed_and_found_again(browser: Browser, sqlite_engine: Engine) -> None:
    port = free_port()
    with serve(create_app(sqlite_engine, IdleHousekeeper), port) as url:
        job_id = article(url, sqlite_engine, 3)
        context = watched(browser, url, allow=["ERR_"])
        watch = context.__enter__()
        page = watch.open(f"jobs/{job_id}")
        expect(page.locator("#connection")).to_have_text("live")
    expect(page.locator("#connection")).to_contain_text("not current")
    drive(sqlite_engine, job_id, steady, 5)
    with serve(create_app(sqlite_engine, IdleHousekeeper), port):
        expect(page.get_by_text("8 of 82 fits")).to_be_visible(timeout=20_000)
        expect(page.locator("#connection")).to_have_text("live")
        context.__exit__(None, None, None)


def test_a_timeline_shows_lost_attempts(desk: Watched, service: str, sqlite_engine: Engine) -> None:
    job_id = post_job(service, grid(3))
    drive(sqlite_engine, job_id, steady, 2)
    assert claim(sqlite_engine, job_id)
    with writing(sqlite_engine) as session:
        session.execute(update(Attempt).where(Attempt.outcome.is_(None)).values(outcome="lost", version=9))
    page = desk.open(f"jobs/{job_id}?tab=timeline")
    expect(page.locator("#timeline .sentence")).to_contain_text("3 attempts by 1 worker")
    expect(page.locator("#timeline .sentence")).to_contain_text("1 lost and repeated")
    expect(page.locator("#stops")).to_be_hidden()


def test_races_and_rungs_show_who_was_stopped_where(look: Watched, service: str, sqlite_engine: Engine) -> None:
    search = {
        "strategy": "halving_grid",
        "param_grid": {"learning_rate": [rate / 1000 for rate in range(1, 10)]},
        "max_resources": 9,
    }
    job_id = post_job(service, {"dataset": {"name": "digits"}, "search": search})
    drive(sqlite_engine, job_id, steady)
    page = look.open(f"jobs/{job_id}?tab=timeline")
    page.locator("#stops").scroll_into_view_if_needed()
    expect(page.locator("#stops .sentence")).to_contain_text("8 of 9 candidates were stopped early")
    expect(page.locator("#stops .sentence")).to_contain_text("6 after rung 0: 1 epoch; 2 after rung 1: 3 epochs")
    wait_for_drawing(page, "timeline", "stops")
    assert look.violations() == [] and look.fits()


def test_a_race_shows_after_how_many_folds_it_was_lost(desk: Watched, service: str, sqlite_engine: Engine) -> None:
    job_id = post_job(service, grid(3, evaluation={"cv": 3, "race": {"method": "lossless"}}))
    drive(sqlite_engine, job_id, steady, 4)
    with writing(sqlite_engine) as session:
        session.execute(update(Trial).where(Trial.number > 0).values(state=State.PRUNED))
    page = desk.open(f"jobs/{job_id}?tab=timeline")
    expect(page.locator("#stops .sentence")).to_contain_text("2 of 3 candidates were stopped early (2 after 1 fold)")


def test_names_labels_and_notes_are_edited_and_stay_text(browser: Browser, service: str, sqlite_engine: Engine) -> None:
    job_id = article(service, sqlite_engine)
    path = f"{service}/v1/jobs/{job_id}"
    with watched(browser, service, allow=["412"]) as watch:
        page = watch.open(f"jobs/{job_id}")
        page.get_by_role("button", name="Edit").click()
        dialog = page.get_by_role("dialog")
        assert watch.violations() == []
        dialog.get_by_label("Note").fill(f"{HOSTILE}\nsecond line")
        httpx2.patch(path, json={"name": "faster"}, headers={"If-Match": "*"})
        dialog.get_by_role("button", name="Save").click()
        expect(dialog.get_by_role("alert")).to_contain_text("Somebody else has changed")
        dialog.get_by_role("button", name="Not now").click()
        page.reload()
        page.get_by_role("button", name="Edit").click()
        dialog.get_by_label("Note").fill(f"{HOSTILE}\nsecond line")
        dialog.get_by_label("Labels").fill("team: speech, sprint: 7")
        dialog.get_by_role("button", name="Save").click()
        expect(page.locator(".note")).to_have_text(f"{HOSTILE}\nsecond line")
        expect(page.locator(".strip .chips").first).to_contain_text("sprint: 7")
        assert page.locator("img").count() == 0
        assert httpx2.get(path).json()["labels"] == {"team": "speech", "sprint": "7"}


def test_importance_is_drawn_with_its_interval_or_says_why_not(
    desk: Watched, service: str, sqlite_engine: Engine
) -> None:
    page = desk.open(f"jobs/{random_search(service, sqlite_engine, 200)}")
    page.locator("#importance").scroll_into_view_if_needed()
    expect(page.locator("#importance .sentence")).to_contain_text("learning_rate explains")
    expect(page.locator("#importance .sentence")).to_contain_text("from 200 trials")
    page.get_by_label("Importance for").select_option("fit_seconds")
    expect(page.locator("#importance .sentence")).to_contain_text("num_neurons explains")
    assert "of=fit_seconds" in page.url
    few = article(service, sqlite_engine, 9)
    page = desk.open(f"jobs/{few}")
    page.locator("#importance").scroll_into_view_if_needed()
    expect(page.locator("#importance")).to_contain_text("20")


def test_two_tabs_on_two_processes_show_the_same(browser: Browser, service: str, sqlite_engine: Engine) -> None:
    with serve(create_app(sqlite_engine, IdleHousekeeper)) as other:
        job_id = article(service, sqlite_engine, 3)
        with watched(browser, service) as first, watched(browser, other) as second:
            here, there = first.open(f"jobs/{job_id}"), second.open(f"jobs/{job_id}")
            drive(sqlite_engine, job_id, steady, 5)
            for page in (here, there):
                expect(page.get_by_text("8 of 82 fits")).to_be_visible()
            here.get_by_role("button", name="Stop").click()
            here.get_by_role("dialog").get_by_role("button", name="Stop").click()
            for page in (here, there):
                expect(page.locator(".strip .state")).to_contain_text("cancelled")
                expect(page.locator("#connection")).to_have_text("ended")


def test_a_cell_of_the_heat_map_selects_its_trials(desk: Watched, service: str, sqlite_engine: Engine) -> None:
    page = desk.open(f"jobs/{article(service, sqlite_engine)}?tab=plots&x=num_neurons&y=learning_rate")
    page.locator("#heat").scroll_into_view_if_needed()
    wait_for_drawing(page, "heat")
    expect(page.locator("#heat .sentence")).to_contain_text("best at num_neurons")
    box = page.locator("#heat .canvas").bounding_box()
    assert box
    page.mouse.click(box["x"] + 180, box["y"] + 280)
    expect(page.locator(SELECTED)).to_have_text("3 of 27 selected")
    assert "on.num_neurons=128..128" in page.url and "on.learning_rate=0.01..0.01" in page.url


def test_dragging_on_an_axis_selects_and_a_click_undoes(desk: Watched, service: str, sqlite_engine: Engine) -> None:
    page = desk.open(f"jobs/{article(service, sqlite_engine)}")
    wait_for_drawing(page, "history", "parallel")
    box = page.locator("#parallel .canvas").bounding_box()
    assert box
    across, top = box["x"] + box["width"] - 60, box["y"] + 40  # the accuracy's axis, and its upper end
    page.mouse.move(across, top + 2)
    page.mouse.down()
    page.mouse.move(across, top + 60, steps=5)
    page.mouse.up()
    expect(page.get_by_role("button", name="accuracy: 0.9")).to_be_visible()
    expect(page.locator(SELECTED)).not_to_have_text("27 of 27 selected")
    page.mouse.click(across, top + 200)
    expect(page.locator(SELECTED)).to_have_text("27 of 27 selected")


def test_a_point_is_picked_by_a_click(desk: Watched, service: str, sqlite_engine: Engine) -> None:
    page = desk.open(f"jobs/{article(service, sqlite_engine)}")
    wait_for_drawing(page, "history", "parallel")
    x, y = page.evaluate(PIXEL, ["history", [26, 0.884]])
    page.mouse.click(x, y)
    expect(page.locator("section.picked")).to_contain_text("Trial 26")
    assert "pick=26" in page.url


def test_dark_charts_are_printed_on_light_ground(browser: Browser, service: str, sqlite_engine: Engine) -> None:
    with watched(browser, service, "dark") as watch:
        page = watch.open(f"jobs/{article(service, sqlite_engine)}")
        wait_for_drawing(page, "history", "parallel")
        colour = page.evaluate(INK, "history")
        page.emulate_media(media="print")
        page.wait_for_function("() => document.querySelector('#history .canvas').dataset.drawn > 1")
        assert page.evaluate(INK, "history") != colour
        expect(page.get_by_role("tab", name="Trials")).to_be_hidden()
        assert page.evaluate("getComputedStyle(document.documentElement).color") == "rgb(27, 31, 36)"
