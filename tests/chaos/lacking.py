"""One worker without the data set, then no worker with it."""

from tests.chaos.ground import Ground
from tests.chaos.proof import check, clean, tries
from tests.chaos.report import Row
from tests.chaos.site import Site, spec, until

LACKING = "lacking@chaos"
MOST_SECONDS = 60.0  # until it is known that no worker has the data


def lack_data(ground: Ground, row: Row, trials: int = 12, ms: int = 500) -> None:
    """One more worker, without the data; then no worker has it."""
    search = {**spec(trials, ms=ms), "dataset": {"name": "mnist"}}
    with ground.site("sqlite", workers=2) as site:
        file = site.folder / "data" / "mnist.npz"
        file.parent.mkdir()
        file.write_bytes(b"the data")
        expected = clean(site, search)
        site.start_worker(LACKING, TUNEWELL_DATA_DIR=str(site.folder / "elsewhere"))
        try:
            _train_without_it(site, row, search, expected)
            file.unlink()
            _lose_them_everywhere(site, row, search)
            file.write_bytes(b"the data")
            check(site, row, site.post(search), expected)
        finally:
            site.end(LACKING)


def _train_without_it(site: Site, row: Row, search: dict[str, object], expected: dict[str, object]) -> None:
    while not (given_back := _given_back(site, row, search, expected)):
        pass  # the lacking worker's training process was not up yet
    row.count += given_back


def _given_back(site: Site, row: Row, search: dict[str, object], expected: dict[str, object]) -> int:
    """The number of fits that the worker without the data released; the job's results must not change."""
    job = site.post(search)
    check(site, row, job, expected)
    outcomes = [str(one.outcome) for one in tries(site, job) if one.worker == LACKING]
    row.promise(set(outcomes) <= {"released"}, f"the worker without the data ended fits as {set(outcomes)}")
    row.promise(len(outcomes) <= 1, f"it claimed {len(outcomes)} fits within a minute")
    lost = [one for one in tries(site, job) if one.outcome not in ("succeeded", "released")]
    row.promise(not lost, f"{len(lost)} attempts were lost")
    return len(outcomes)


def _lose_them_everywhere(site: Site, row: Row, search: dict[str, object]) -> None:
    """The others restart and find no data: a job fails and says why."""
    for name in set(site.workers) - {LACKING}:
        site.parts[name].kill()
    job = site.post(search)
    row.promise_within(MOST_SECONDS, until(lambda: site.ended(job), 300, "the job ends"), "the job failed")
    ended = site.job(job)
    kind = (ended["error"] or {}).get("type")
    row.promise((ended["state"], kind) == ("failed", "DatasetUnavailable"), f"the job {ended['state']}: {kind}")
    row.count += 1
