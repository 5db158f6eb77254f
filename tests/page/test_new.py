"""The form of a new job, and jobs compared."""

import json

import httpx2
from playwright.sync_api import Browser, expect
from sqlalchemy import Engine

from tests.support.browser import Watched, watched
from tests.support.searches import DRAWN, article, post_job, random_search

STRATEGIES = ["grid", "random", "tpe", "halving_grid", "halving_random", "hyperband"]


def test_the_form_and_its_json_are_sound(look: Watched) -> None:
    page = look.open("new")
    expect(page.locator(".preview")).to_contain_text("Start the search")
    expect(page.locator(".preview dd").first).to_have_text("4")
    assert look.violations() == [] and look.fits()
    page.get_by_role("tab", name="JSON").click()
    assert look.violations() == [] and look.fits()


def test_the_form_posts_what_it_shows(desk: Watched, service: str) -> None:
    page = desk.open("new")
    page.get_by_label("Name", exact=True).fill("from-form")
    page.get_by_label("Labels").fill("team: vision, sprint: 12")
    page.get_by_label("Strategy").select_option("random")
    page.get_by_label("Trials", exact=True).fill("7")
    page.get_by_label("learning_rate: how").select_option("range")
    page.get_by_label("learning_rate: distribution").select_option("loguniform")
    page.get_by_label("learning_rate: low").fill("0.001")
    page.get_by_label("learning_rate: high").fill("0.1")
    page.get_by_label("optimizer: how").select_option("list")
    page.get_by_label("optimizer: values").fill("adam, sgd")
    page.get_by_label("Folds").fill("4")
    expect(page.locator(".preview dd").first).to_have_text("7")
    expect(page.locator(".preview dd").nth(1)).to_have_text("29")
    page.get_by_role("button", name="Start the search").click()
    page.wait_for_url("**/jobs/*")
    [job] = httpx2.get(f"{service}/v1/jobs").json()["items"]
    spec = job["spec"]
    assert (job["name"], job["labels"], spec["evaluation"]["cv"]) == (
        "from-form",
        {"team": "vision", "sprint": "12"},
        4,
    )
    space = spec["search"]["param_distributions"]
    assert space["learning_rate"] == {"distribution": "loguniform", "low": 0.001, "high": 0.1}
    assert space["optimizer"] == ["adam", "sgd"]


def test_what_the_service_refuses_stands_at_its_field(browser: Browser, service: str) -> None:
    with watched(browser, service, allow=["422"]) as watch:
        page = watch.open("new")
        page.get_by_label("learning_rate: values").fill("99")
        row = page.get_by_role("row", name="learning_rate")
        expect(row.locator(".error")).to_contain_text("10")
        page.get_by_label("learning_rate: values").fill("0.01")
        expect(row.locator(".error")).to_have_count(0)
        page.get_by_label("Name", exact=True).fill("two words")
        expect(page.locator("#name-error")).not_to_be_empty()
        expect(page.get_by_label("Name", exact=True)).to_have_attribute("aria-invalid", "true")
        assert watch.violations() == []
        page.get_by_role("button", name="Start the search").click()
        expect(page.get_by_label("Name", exact=True)).to_be_focused()
        page.get_by_label("Name", exact=True).fill("one-word")
        page.get_by_label("conv_blocks: how").select_option("list")
        page.get_by_label("conv_blocks: values").fill("1, 3")
        expect(page.get_by_role("alert").filter(has_text="shrinks the feature map")).to_be_visible()
        assert httpx2.get(f"{service}/v1/jobs").json()["items"] == []


def test_every_strategy_can_be_chosen(desk: Watched) -> None:
    page = desk.open("new")
    page.get_by_label("num_neurons: values").fill("8, 16, 32, 64")  # hyperband needs as many candidates as a bracket
    for strategy in STRATEGIES:
        page.get_by_label("Strategy").select_option(strategy)
        with page.expect_response("**/v1/preview") as asked:
            page.get_by_label("Random state").fill(str(STRATEGIES.index(strategy) + 1))
        assert asked.value.status == 200, (strategy, asked.value.text())


def test_a_job_is_cloned_unchanged(desk: Watched, service: str, sqlite_engine: Engine) -> None:
    search = {"strategy": "random", "param_distributions": DRAWN, "n_iter": 5, "forbidden": [{"optimizer": "sgd"}]}
    first = post_job(
        service, {"dataset": {"name": "digits"}, "search": search, "evaluation": {"validation_split": 0.2}}
    )
    page = desk.open(f"new?from={first}")
    page.get_by_role("button", name="Start the search").click()
    page.wait_for_url("**/jobs/*")
    specs = [job["spec"] for job in httpx2.get(f"{service}/v1/jobs").json()["items"]]
    assert len(specs) == 2 and specs[0] == specs[1]


def test_the_form_keeps_an_own_network_and_its_hyperparameters(desk: Watched, service: str) -> None:
    layers = [{"layer": "flatten"}, {"layer": "dense", "units": {"hyperparameter": "width"}, "activation": "relu"}]
    search = {"strategy": "grid", "param_grid": {"width": [8, 16], "learning_rate": [0.01]}}
    job = {"dataset": {"name": "digits"}, "model": {"layers": layers}, "search": search, "fixed": {"epochs": 2}}
    page = desk.open(f"new?from={post_job(service, job)}")
    page.get_by_label("epochs: value").fill("3")
    page.get_by_role("button", name="Start the search").click()
    page.wait_for_url("**/jobs/*")
    changed, posted = [one["spec"] for one in httpx2.get(f"{service}/v1/jobs").json()["items"]]
    assert changed == {**posted, "fixed": {"epochs": 3}}
    page = desk.open(f"new?from={page.url.rpartition('/')[2]}")
    page.get_by_label("Model").select_option("mlp")
    page.get_by_role("tab", name="JSON").click()
    shown = json.loads(page.get_by_role("textbox", name="The job as JSON").input_value())
    assert (shown["model"], shown["search"]["param_grid"]) == ("mlp", {"learning_rate": [0.01]})


def test_json_and_form_are_one(desk: Watched) -> None:
    page = desk.open("new")
    page.get_by_role("tab", name="JSON").click()
    box = page.get_by_role("textbox", name="The job as JSON")
    spec = json.loads(box.input_value())
    box.fill("{")
    expect(page.get_by_text("This is not JSON")).to_be_visible()
    spec["search"]["param_grid"] = {"num_neurons": [8, 16, 32]}
    spec["fixed"] = {"epochs": 3}
    box.fill(json.dumps(spec))
    expect(page.locator(".preview dd").first).to_have_text("3")
    page.get_by_role("tab", name="Form").click()
    assert page.get_by_label("num_neurons: values").input_value() == "8, 16, 32"
    assert page.get_by_label("epochs: value").input_value() == "3"


def test_compared_jobs_show_what_differs(look: Watched, service: str, sqlite_engine: Engine) -> None:
    jobs = [article(service, sqlite_engine, random_state=1), article(service, sqlite_engine, 9, random_state=2)]
    jobs.append(random_search(service, sqlite_engine, 30))
    page = look.open(f"compare?jobs={','.join(jobs)}")
    expect(page.get_by_role("region", name="What differs")).to_contain_text("random_state")
    expect(page.get_by_role("region", name="What came of them")).to_contain_text("0.9500, 0.9456 to 0.9541")
    page.locator("#edf").scroll_into_view_if_needed()
    expect(page.locator("#edf .sentence")).to_contain_text("many: half of 30 trials reach")
    assert look.violations() == [] and look.fits()


def test_another_model_has_other_hyperparameters(desk: Watched, service: str) -> None:
    names = [model["name"] for model in httpx2.get(f"{service}/v1/models").json()["items"]]
    page = desk.open("new")
    expect(page.locator(".preview dd").first).to_have_text("4")
    for name in names[1:]:
        page.get_by_label("Model").select_option(name)
        expect(page.get_by_label("num_neurons: how")).to_have_count(0)
    page.get_by_label("Model").select_option(names[0])
    expect(page.get_by_label("num_neurons: how")).to_have_count(1)
