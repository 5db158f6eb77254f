"""Searches that decide on the way: kills, lost leases and damaged checkpoints must not change what they decide."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.chaos.ground import Ground
from tests.chaos.killing import count_late_rejections, kill_one
from tests.chaos.proof import check, clean
from tests.chaos.report import Row
from tests.chaos.site import Site, moment, spec


def search_by_steps(
    ground: Ground, row: Row, kind: str = "sqlite", kills: int = 20, workers: int = 3, pause: float = 3.0, ms: int = 900
) -> None:
    """Kill workers while races and rungs go on, and delete or cut checkpoints at random."""
    searches = list(list_searches(ms))
    with ground.site(kind, workers) as site:
        expected = [clean(site, search) for search in searches]
        killed = damaged = 0
        jobs: list[list[str]] = []
        while killed < kills:
            jobs.append([site.post(search) for search in searches])
            while killed < kills and not all(site.ended(job) for job in jobs[-1]):
                moment(pause)
                killed += len(kill_one(site))
                damaged += damage_checkpoints(site)
        for posted in jobs:
            for job, table in zip(posted, expected, strict=True):
                check(site, row, job, table)
        row.count += killed
        row.rejected += count_late_rejections(site)
        row.notes.append(f"{len(searches) * len(jobs)} searches on {kind}, {damaged} checkpoints deleted or cut")
    row.promise(damaged > 0, "no checkpoint was damaged")


def list_searches(ms: int) -> Iterator[dict[str, Any]]:
    """A race, halving over epochs and over folds, a race within rungs, hyperband at random and by TPE, and TPE."""
    race = {"cv": 3, "race": {"method": "lossless"}}
    halving = {"strategy": "halving_grid", "param_grid": {"num_neurons": list(range(1, 13))}}
    drawn = {"num_neurons": {"distribution": "randint", "low": 1, "high": 1000}}
    yield spec(12, ms) | {"evaluation": race}
    yield spec(1, ms) | {"search": {**halving, "max_resources": 9}}
    yield spec(1, ms) | {"search": {**halving, "resource": "folds", "factor": 2}}
    yield spec(1, ms) | {"search": {**halving, "max_resources": 4, "factor": 2}, "evaluation": race}
    hyperband = {"strategy": "hyperband", "param_distributions": drawn, "max_resources": 9}
    yield spec(1, ms) | {"search": hyperband}
    yield spec(1, ms) | {"search": {**hyperband, "sampler": "tpe"}}
    yield spec(1, ms) | {"search": {"strategy": "tpe", "param_distributions": drawn, "n_iter": 16}}


def damage_checkpoints(site: Site) -> int:
    """Delete or cut some of the checkpoints that there are; how many."""
    done = 0
    for path in (site.folder / "checkpoints").glob("*"):
        if random.random() < 0.3:
            done += _damage(path)
    return done


def _damage(path: Path) -> int:
    try:
        if random.random() < 0.5:
            path.unlink()
        else:
            content = path.read_bytes()
            path.write_bytes(content[: random.randrange(len(content) + 1)])
    except OSError:  # deleted meanwhile
        return 0
    return 1
