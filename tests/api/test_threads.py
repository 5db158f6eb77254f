"""Requests that read never wait for requests that write."""

import shutil
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.driving import grid
from tests.support.live import live

WRITERS = 24  # more than all threads of the service


@pytest.mark.slow
def test_reads_succeed_while_many_writes_wait_for_a_locked_file(tmp_path: Path, migrated_sqlite: Path) -> None:
    file = shutil.copy(migrated_sqlite, tmp_path)
    with live(tmp_path, f"sqlite:///{file}", "redis://127.0.0.1:1/0", workers=0) as service:
        job = service.post(grid(2))
        lock = sqlite3.connect(file, isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        with ThreadPoolExecutor(WRITERS) as clients:
            calls = [("POST", "/v1/jobs", grid(1)), ("POST", f"{job}/cancel", None), ("DELETE", job, None)]
            writes = [
                clients.submit(service.client.request, method, path, json=body)
                for method, path, body in calls * (WRITERS // len(calls))
            ]
            for _ in range(10):
                for path in ("/livez", "/v1/jobs", job, f"{job}/trials", f"{job}/trials/0", "/v1/models", "/docs"):
                    assert service.client.get(path).status_code == 200
                time.sleep(0.1)
            assert not any(write.done() for write in writes)
            lock.execute("ROLLBACK")
            assert {write.result().status_code for write in writes} <= {202, 204, 404, 409}
        lock.close()
