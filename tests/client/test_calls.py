"""Both clients against a real service: each call, and what a rejected one raises."""

import inspect
import subprocess
import sys
from typing import Any

import pytest
from sqlalchemy import Engine

import tunewell
from tests.client.conftest import Kind, settle
from tests.support.driving import drive, grid, steady
from tunewell.asynchronous import AsyncJob, AsyncModel
from tunewell.client import Job, Model


def test_a_job_from_its_post_to_its_end(kind: Kind, url: str, sqlite_engine: Engine) -> None:
    async def body(client: Any) -> None:
        job = await settle(client.submit(grid(3), name="mine", evaluation={"cv": 2, "refit": True}))
        assert (job.state, job.name, job.ended) == ("queued", "mine", False)
        assert job.document["spec"]["evaluation"]["cv"] == 2
        with pytest.raises(tunewell.Conflict, match="No trial has succeeded"):
            await settle(job.best())
        drive(sqlite_engine, job.id, steady)
        assert (await settle(job.refresh())).ended
        best = await settle(job.best())
        assert (best["final"], best["trial"], best["params"]) == (True, 2, {"learning_rate": 0.0003})
        trials = await settle(job.trials(sort="-validation_accuracy", limit=2))
        assert [trial["number"] for trial in trials] == [2, 1]
        assert [fit["fold"] for fit in (await settle(job.trial(2)))["fits"]] == [0, 1, None]
        assert (await settle(job.table()))["params"] == {"learning_rate": [0.0001, 0.0002, 0.0003]}
        assert (await settle(job.results()))["rank_test_score"] == [3, 2, 1]
        assert [one.id for one in await settle(client.jobs(state="succeeded"))] == [job.id]
        await settle(job.delete())
        with pytest.raises(tunewell.NotFound):
            await settle(client.job(job.id))

    kind.go(url, body)


def test_a_job_is_controlled(kind: Kind, url: str, sqlite_engine: Engine) -> None:
    async def body(client: Any) -> None:
        drawn = {"dropout_rate": {"distribution": "uniform", "low": 0.1, "high": 0.5}}
        search = {"strategy": "random", "param_distributions": drawn, "n_iter": 2}
        job = await settle(client.submit(dataset="digits", search=search))
        assert (await settle(job.pause())).state == "paused"
        assert (await settle(job.resume())).state == "queued"
        assert (await settle(job.extend(n_iter=3))).document["trials"]["total"] == 3
        drive(sqlite_engine, job.id, lambda claimed: None if claimed.trial_number == 0 else steady(claimed))
        assert (await settle(job.refresh())).document["trials"]["failed"] == 1
        assert (await settle(job.retry())).state == "running"
        assert (await settle(job.cancel())).state == "cancelled"
        with pytest.raises(tunewell.Conflict):
            await settle(job.pause())

    kind.go(url, body)


def test_posts_with_one_key_make_one_job(kind: Kind, url: str) -> None:
    async def body(client: Any) -> None:
        first = await settle(client.submit(grid(1), key="mine"))
        again = await settle(client.submit(grid(1), key="mine"))
        other = await settle(client.submit(grid(1)))
        assert first.id == again.id != other.id

    kind.go(url, body)


def test_a_rejected_job_tells_where_it_is_wrong(kind: Kind, url: str) -> None:
    async def body(client: Any) -> None:
        wrong = {"strategy": "grid", "param_grid": {"learning_rate": []}}
        for call in (client.submit, client.preview):
            with pytest.raises(tunewell.RequestRejected, match="/search/param_grid") as raised:
                await settle(call(dataset="digits", search=wrong))
            assert raised.value.status == 422
            assert raised.value.errors[0]["pointer"].startswith("/search/param_grid")
        assert await settle(client.jobs()) == []

    kind.go(url, body)


def test_what_can_be_asked_for_is_listed(kind: Kind, url: str) -> None:
    async def body(client: Any) -> None:
        assert {"mnist", "digits"} <= {one["name"] for one in await settle(client.datasets())}
        assert {"cnn", "svc"} <= {one["name"] for one in await settle(client.models())}
        preview = await settle(client.preview(grid(4)))
        assert preview["trials"] == 4

    kind.go(url, body)


def test_more_jobs_than_a_page_holds(kind: Kind, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunewell.flows.PAGE_SIZE", 2)

    async def body(client: Any) -> None:
        posted = [(await settle(client.submit(grid(1)))).id for _ in range(5)]
        assert {one.id for one in await settle(client.jobs())} == {*posted}
        assert len(await settle(client.jobs(limit=3))) == 3

    kind.go(url, body)


@pytest.mark.parametrize(
    ("blocking", "awaited"), [(tunewell.Client, tunewell.AsyncClient), (Job, AsyncJob), (Model, AsyncModel)]
)
def test_both_clients_have_the_same_methods(blocking: type, awaited: type) -> None:
    def describe(kind: type) -> dict[str, list[Any]]:
        methods = inspect.getmembers(kind, inspect.isfunction)
        return {
            name: [(one.name, one.kind, one.default) for one in inspect.signature(method).parameters.values()]
            for name, method in methods
            if not name.startswith("_")
        }

    assert describe(blocking) == describe(awaited)


def test_importing_the_client_loads_nothing_heavy() -> None:
    heavy = "{'numpy', 'pandas', 'sklearn', 'scipy', 'IPython', 'tqdm', 'keras', 'rich', 'pydantic'}"
    code = f"import sys, tunewell; print(sorted({heavy} & set(sys.modules)))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == "[]"
