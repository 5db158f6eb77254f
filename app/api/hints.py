"""Hears the workers' hints that something has changed, so that who watches need not wait for the next read."""

import threading
from collections.abc import Callable

from app.tuning import broker

AGAIN_SECONDS = 5.0  # until a broker that was away is tried again
LISTEN_SECONDS = 1.0


class HintListener(threading.Thread):
    """Listens until it is told to stop; without a broker nothing is heard."""

    def __init__(self, hear: Callable[[], None]) -> None:
        super().__init__(name="hint-listener", daemon=True)
        self._hear = hear
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.is_set():
            try:
                with broker.hear_hints() as wait_for_hint:
                    while not self.over.is_set():
                        if wait_for_hint(LISTEN_SECONDS):
                            self._hear()
            except broker.BrokerError:
                self.over.wait(AGAIN_SECONDS)
