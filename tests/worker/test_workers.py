"""Workers started by hand: several with one node name, on a database with few connections."""

from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.support.live import Live, live
from tests.support.servers import Broker, Postgres

pytestmark = pytest.mark.timeout(300)
SEARCH = {
    "dataset": {"name": "digits", "train_samples": 600},
    "search": {"strategy": "grid", "param_grid": {"learning_rate": [0.001, 0.002, 0.005, 0.01]}},
    "fixed": {"epochs": 10},
}


def connections(service: Live, port: int) -> int:
    """The number of connections that all workers hold to this port."""
    count = 0
    for main in (psutil.Process(pid) for pid in service.pids("w1", "w2")):
        for process in (main, *main.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                held = (one for one in process.net_connections() if one.status == psutil.CONN_ESTABLISHED)
                count += sum(bool(one.raddr) and one.raddr[1] == port for one in held)
    return count


def test_two_workers_with_one_node_name_are_distinguished_and_hold_two_connections_each(
    tmp_path: Path, broker: Broker, postgres: Postgres
) -> None:
    url = broker.url.replace("/0", "/4")
    with live(tmp_path, postgres.new_database(), url, workers=0) as service:
        for name in ("w1", "w2"):
            service.start_worker(name, node="celery@here")
        most, trained_by = 0, set[str]()

        def both_have_trained() -> bool:
            nonlocal most
            address = service.post(SEARCH)
            while service.get(address)["state"] in ("queued", "running"):
                most = max(most, connections(service, postgres.port))
            trials = [service.get(f"{address}/trials/{number}") for number in range(4)]
            trained_by.update(fit["worker"] for trial in trials for fit in trial["fits"])
            return len(trained_by) == 2

        service.until(both_have_trained, 120)
    assert {worker.partition("#")[0] for worker in trained_by} == {"celery@here"}
    assert 2 <= most <= 4
