"""The picture in the README: a real search, trained by a real worker.

With `TUNEWELL_PICTURES` set, the picture in `docs/images` is made anew.
"""

import os
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.support.browser import watched
from tests.support.live import PROJECT, live
from tests.support.servers import Broker

PICTURE = PROJECT / "docs" / "images" / "job.png"
SIZE = {"width": 1180, "height": 790}
MAX_BYTES = 300_000
SPEC = {
    "name": "digits-random",
    "dataset": {"name": "digits"},
    "search": {
        "strategy": "random",
        "n_iter": 30,
        "param_distributions": {
            "learning_rate": {"distribution": "loguniform", "low": 0.0003, "high": 0.1},
            "dropout_rate": {"distribution": "uniform", "low": 0, "high": 0.7},
            "num_neurons": [16, 32, 64, 128],
            "optimizer": ["adam", "rmsprop", "sgd"],
        },
    },
    "fixed": {"epochs": 4, "filters": 8},
    "evaluation": {"cv": 2},
    "labels": {"team": "vision"},
}


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_real_search_looks_as_in_the_readme(browser: Browser, broker: Broker, tmp_path: Path) -> None:
    with live(tmp_path / "home", f"sqlite:///{tmp_path / 'tunewell.db'}", broker.url, workers=1) as service:
        address = service.post(SPEC)
        assert service.wait(address)["state"] == "succeeded"
        url = str(service.client.base_url).rstrip("/")
        with watched(browser, url, size=SIZE) as watch:
            page = watch.open(address.removeprefix("/v1/"))
            page.locator("#history [data-drawn]").wait_for()
            page.locator("#parallel [data-drawn]").wait_for()
            expect(page.locator(".outcome")).to_contain_text("30 trials of 30 succeeded.")
            page.wait_for_timeout(500)
            picture = page.screenshot(path=PICTURE if os.environ.get("TUNEWELL_PICTURES") else tmp_path / "job.png")
    assert len(picture) < MAX_BYTES
    assert f"({PICTURE.relative_to(PROJECT)})" in (PROJECT / "README.md").read_text(encoding="utf-8")
    assert PICTURE.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
