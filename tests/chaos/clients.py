"""Clients that send requests while something dies, and the responses that they get."""

import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any
from uuid import uuid4

import httpx2

from tests.chaos.ground import Ground
from tests.chaos.report import Row
from tests.chaos.site import START_SECONDS, Site, moment, spec, until

POSTS = 100


class Client(threading.Thread):
    """Posts a small job and lists jobs repeatedly; keeps the accepted jobs and counts responses by status."""

    def __init__(self, site: Site, pause: float = 0.5) -> None:
        super().__init__(daemon=True)
        self._site, self._pause, self._over = site, pause, threading.Event()
        self.search = spec(1, folds=2)
        self.accepted: list[str] = []
        self.responses: Counter[int | str] = Counter()

    def __enter__(self) -> "Client":
        self.start()
        return self

    def __exit__(self, *reason: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        with httpx2.Client(base_url=self._site.url, timeout=60) as http:
            while not self._over.wait(self._pause):
                for method, body in (("POST", self.search), ("GET", None)):
                    self._ask(http, method, body)

    def _ask(self, http: httpx2.Client, method: str, body: Any) -> None:
        try:
            response = http.request(method, "/v1/jobs", json=body)
        except httpx2.HTTPError as error:
            self.responses[type(error).__name__] += 1
            return
        self.responses[response.status_code] += 1
        if response.status_code == 202:
            self.accepted.append(response.json()["id"])

    def check(self, row: Row) -> None:
        """Check that all responses were true, and that every accepted job exists and ends."""
        others = {response: count for response, count in self.responses.items() if response not in (200, 202, 503)}
        row.promise(not others, f"responses other than 200, 202 and 503: {others}")
        for job in self.accepted:
            state = self._site.wait(job, 120)["state"]
            row.promise(state == "succeeded", f"accepted job {job} {state}")
        row.notes.append(f"responses meanwhile {dict(self.responses)}, {len(self.accepted)} jobs accepted, all ended")


def kill_api(ground: Ground, row: Row, kills: int = 8) -> None:
    """Kill -9 of the API while 100 POSTs come in, each repeated with its key until it is accepted."""
    with ground.site("sqlite") as site, ThreadPoolExecutor(4) as pool:
        bodies = {f"key-{number}-{uuid4()}": spec(1 + number % 7, folds=2) for number in range(POSTS)}
        asked = [pool.submit(_post, site, key, body) for key, body in bodies.items()]
        while row.count < kills and not all(one.done() for one in asked):
            moment(1.0)
            site.parts["api"].kill()
            row.count += 1
            until(site.ready, START_SECONDS)
        responses = [one.result() for one in asked]
        jobs = _all_jobs(site)
        again = [site.post(body, key) for key, body in list(bodies.items())[::10]]
    row.promise(len(jobs) == POSTS and set(jobs) == set(responses), f"{len(jobs)} jobs from {POSTS} POSTs")
    row.promise(again == responses[::10], "a repeated POST did not get the first response")
    row.notes.append(f"{len(jobs)} jobs from {POSTS} POSTs")


def _post(site: Site, key: str, body: dict[str, Any]) -> str:
    time.sleep(random.uniform(0, 0.4))
    return site.post(body, key, patience=600)


def _all_jobs(site: Site) -> list[str]:
    jobs: list[str] = []
    page: dict[str, Any] = {"next_page_token": ""}
    while (token := page["next_page_token"]) is not None:
        page = site.http.get("/v1/jobs", params={"page_size": 100} | ({"page_token": token} if token else {})).json()
        jobs += [job["id"] for job in page["items"]]
    return jobs
