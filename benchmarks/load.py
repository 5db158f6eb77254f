"""A client that polls as fast as it gets responses: `python -m benchmarks.load URL --connections 4 --seconds 3`.

Loopback only, and it stops by itself. It prints JSON: responses, seconds and each response's latency.
"""

import argparse
import http.client
import json
import threading
import time
from urllib.parse import urlsplit

MOST_REQUESTS = 50_000
LONGEST_SECONDS = 60.0
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def poll(url: str, connections: int, seconds: float) -> tuple[list[float], float]:
    """Latencies in seconds, and the total time.

    Raises:
        ValueError: the URL is not on this machine.
        RuntimeError: a response was not 200.
    """
    parts = urlsplit(url)
    if parts.hostname not in LOOPBACK:
        raise ValueError(f"only this machine is polled, not {parts.hostname}")
    latencies: list[float] = []
    wrong: list[int] = []
    until = time.perf_counter() + min(seconds, LONGEST_SECONDS)

    def one() -> None:
        connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=30)
        while time.perf_counter() < until and len(latencies) < MOST_REQUESTS and not wrong:
            began = time.perf_counter()
            connection.request("GET", f"{parts.path}?{parts.query}" if parts.query else parts.path)
            response = connection.getresponse()
            response.read()
            latencies.append(time.perf_counter() - began)
            if response.status != 200:
                wrong.append(response.status)
        connection.close()

    began = time.perf_counter()
    threads = [threading.Thread(target=one) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if wrong or not latencies:
        raise RuntimeError(f"{url} responded with {wrong}")
    return latencies, time.perf_counter() - began


def main() -> None:
    """The command that `benchmarks.polling` starts, so that the load has its own interpreter."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=3.0)
    given = parser.parse_args()
    latencies, seconds = poll(given.url, given.connections, given.seconds)
    print(json.dumps({"seconds": seconds, "latencies": latencies}))


if __name__ == "__main__":
    main()
