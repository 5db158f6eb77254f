"""The web page beside optuna-dashboard, on the same trials in the same browser; and what watchers cost a search."""

import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import httpx2
from playwright.sync_api import Browser, Page
from sqlalchemy import Engine, select

from app.tuning.database import reading
from app.tuning.jobs.tables import Trial
from benchmarks import jobs, services
from benchmarks.rows import Row, Size, missing
from tests.support.browser import chromium
from tests.support.servers import free_port
from tunewell import Client

PART = "page"
SIZES = (27, 1_000, 10_000)
QUIET_MS = 1_500  # without work of the page's main thread: it stands
WATCHERS = 50
VIEW = {"width": 1280, "height": 900}
# Notes the end of all work over 50 ms, and of each frame.
OBSERVE = """
window.lastWork = 0;
new PerformanceObserver((list) => list.getEntries().forEach((one) => {
  window.lastWork = Math.max(window.lastWork, one.startTime + one.duration);
})).observe({ type: "longtask", buffered: true });
"""
OURS = """() => {
  const charts = [...document.querySelectorAll("figure.chart")];
  const seen = charts.filter((one) => one.offsetParent && one.getBoundingClientRect().top < innerHeight);
  const drawn = seen.filter((one) => one.querySelector(".canvas[data-drawn], .canvas[hidden]"));
  if (!seen.length || drawn.length < seen.length) return false;
  window.drawnAt ??= performance.now();
  return performance.now() - Math.max(window.drawnAt, window.lastWork) > QUIET;
}""".replace("QUIET", str(QUIET_MS))
THEIRS = """() => {
  if (!document.querySelector(".js-plotly-plot .main-svg .scatterlayer .trace")) return false;
  window.drawnAt ??= performance.now();
  return performance.now() - Math.max(window.drawnAt, window.lastWork) > QUIET;
}""".replace("QUIET", str(QUIET_MS))
FRAMES = """() => { window.frames_ = []; let last = performance.now();
  const step = (now) => { window.frames_.push(now - last); last = now; window.asking = requestAnimationFrame(step); };
  window.asking = requestAnimationFrame(step); }"""


class View(NamedTuple):
    """How a page came to stand: seconds, bytes on the wire, requests."""

    seconds: float
    kilobytes: float
    requests: int


def measure(size: Size) -> Iterator[Row]:
    """Each number of trials, ours then theirs; then the price of watchers."""
    with chromium() as browser, services.home() as place:
        for trials in SIZES[: size.of(3, 1)]:
            yield from _compare(browser, place / str(trials), trials, size.of(3, 1))
    yield from _measure_watchers(size)


def _compare(browser: Browser, place: Path, trials: int, rounds: int) -> Iterator[Row]:
    place.mkdir()
    url = f"sqlite:///{place}/tunewell.db"
    engine = jobs.database(url)
    job_id = jobs.part_done(engine, trials, trials)
    with services.api(place, TUNEWELL_DATABASE_URL=url) as service:
        address = f"{service.url}/jobs/{job_id}"
        ours = [_open(browser, address, OURS) for _ in range(rounds)]
        frames = _brush(browser, address)
    mine = statistics.median(one.seconds for one in ours)
    note = f"{ours[0].kilobytes:.0f} KB in {ours[0].requests} requests"
    yield Row(PART, f"{trials:,} trials: Tunewell's charts stand", mine, "s", note=note, details=ours)
    note = f"of {len(frames)} frames while an axis is brushed; the longest {max(frames):.0f} ms"
    yield Row(PART, f"{trials:,} trials: a frame, median", statistics.median(frames), "ms", note=note)
    title = f"{trials:,} trials: optuna-dashboard's charts stand"
    if not find_spec("optuna_dashboard"):
        yield missing(PART, title)
        return
    with _dashboard(engine, job_id, place) as address:
        theirs = [_open(browser, address, THEIRS) for _ in range(rounds)]
    their = statistics.median(one.seconds for one in theirs)
    note = f"{theirs[0].kilobytes:.0f} KB in {theirs[0].requests} requests; history, importance and table"
    yield Row(PART, title, their, "s", their / mine, "Tunewell's", note, details=theirs)


def _open(browser: Browser, address: str, stands: str) -> View:
    """Open in a fresh profile, and wait until the charts are drawn and nothing is left to do."""
    context = browser.new_context(viewport=VIEW)  # type: ignore[arg-type]
    page = context.new_page()
    page.add_init_script(OBSERVE)
    wire = context.new_cdp_session(page)
    wire.send("Network.enable")
    received: list[float] = []
    wire.on("Network.loadingFinished", lambda event: received.append(event["encodedDataLength"]))
    page.goto(address)
    page.wait_for_function(stands, timeout=180_000, polling=50)
    seconds = page.evaluate("Math.max(window.drawnAt, window.lastWork) / 1000")
    context.close()
    return View(seconds, sum(received) / 1000, len(received))


def _brush(browser: Browser, address: str) -> list[float]:
    """Milliseconds between frames while an axis of the parallel coordinates is brushed."""
    context = browser.new_context(viewport=VIEW)  # type: ignore[arg-type]
    page = context.new_page()
    page.add_init_script(OBSERVE)
    page.goto(address)
    page.wait_for_function(OURS, timeout=180_000, polling=50)
    box = _find_axis(page)
    page.evaluate(FRAMES)
    page.mouse.move(box["x"], box["y"])
    page.mouse.down()
    for step in range(20):
        page.mouse.move(box["x"], box["y"] + step * 6)
        page.wait_for_timeout(20)
    page.mouse.up()
    page.wait_for_timeout(300)
    frames: list[float] = page.evaluate("window.frames_.slice(1)")
    if not page.evaluate("location.search"):
        raise RuntimeError("nothing was selected by the brush")
    context.close()
    return frames


def _find_axis(page: Page) -> dict[str, float]:
    """The upper end of the last axis, the accuracy's."""
    chart = page.locator("#parallel .canvas")
    chart.scroll_into_view_if_needed()
    page.wait_for_timeout(500)
    place: dict[str, float] = page.evaluate(
        """async () => {
          const main = document.querySelector("script[type=module]").src;
          const { getInstanceByDom } = await import(new URL("lib/echarts.mjs", main));
          const canvas = document.querySelector("#parallel .canvas"), box = canvas.getBoundingClientRect();
          const { right, top } = getInstanceByDom(canvas).getOption().parallel[0];
          return { x: box.right - right, y: box.top + top + 10 };
        }"""
    )
    return place


@contextmanager
def _dashboard(engine: Engine, job_id: UUID, place: Path) -> Iterator[str]:
    """The address of optuna-dashboard's page of a study with the job's trials."""
    import optuna
    from optuna.distributions import CategoricalDistribution, FloatDistribution
    from optuna.trial import create_trial

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = f"sqlite:///{place}/optuna.db"
    distributions = {
        "learning_rate": FloatDistribution(0.0001, 0.1, log=True),
        "dropout_rate": FloatDistribution(0.1, 0.4),
        "num_neurons": CategoricalDistribution((128, 256, 512)),
    }
    with reading(engine) as session:
        rows = session.execute(select(Trial.params, Trial.validation_accuracy).where(Trial.job_id == job_id)).all()
    study = optuna.create_study(storage=storage, direction="maximize", study_name="bench")
    study.add_trials([create_trial(params=params, distributions=distributions, value=value) for params, value in rows])
    port = free_port()
    script = "import sys; from optuna_dashboard._cli import main; sys.exit(main())"
    command = [sys.executable, "-c", script, storage, "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(f"http://127.0.0.1:{port}/dashboard/")
        yield f"http://127.0.0.1:{port}/dashboard/studies/{study._study_id}"
    finally:
        process.terminate()
        process.wait()


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if httpx2.get(url, timeout=5).status_code == 200:
                return
        except httpx2.HTTPError:
            time.sleep(0.2)
    raise TimeoutError(url)


def _measure_watchers(size: Size) -> Iterator[Row]:
    """The same search in turns, unwatched and watched; each first run warms the workers."""
    body = json.dumps(jobs.spec(size.of(16, 3), fixed={"epochs": 3})).encode()
    with services.tunewell(2) as service, Client(service.url) as client:
        api = _find_api(service)

        def run() -> float:
            began = time.perf_counter()
            job = client.submit(body).wait(progress=False).document
            assert job["state"] == "succeeded"
            return time.perf_counter() - began

        run()
        alone: list[float] = []
        watched: list[float] = []
        for _ in range(size.of(5, 1)):
            alone.append(run())
            with _watchers(service.url):
                watched.append(run())
                memory = api() / 2**20
    ratio = statistics.median(watched) / statistics.median(alone)
    note = f"{len(alone)} times in turns; the API then takes {memory:.0f} MiB"
    yield Row(PART, f"a search with {WATCHERS} watchers", statistics.median(watched), "s", ratio, "unwatched", note)


def _find_api(service: services.Service) -> Callable[[], int]:
    """The memory of the service's API process, in bytes."""
    [api] = [one for one in service.process.children(recursive=True) if "uvicorn" in " ".join(one.cmdline())]
    return lambda: int(api.memory_info().rss)


@contextmanager
def _watchers(url: str) -> Iterator[None]:
    """Clients that read the stream of all jobs, as open pages do."""
    over = threading.Event()

    def watch() -> None:
        with httpx2.Client(timeout=60) as client, client.stream("GET", f"{url}/v1/events") as response:
            assert response.status_code == 200
            for _ in response.iter_raw():
                if over.is_set():
                    return

    with ExitStack() as stack:
        threads = [threading.Thread(target=watch, daemon=True) for _ in range(WATCHERS)]
        for thread in threads:
            stack.callback(thread.join, 30)
            thread.start()
        stack.callback(over.set)
        time.sleep(1)
        yield
