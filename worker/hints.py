"""Tells who watches that a fit has ended: a hint, which may be lost, and for which no fit waits."""

import threading
from contextlib import suppress

from app.tuning import broker

PAUSE_SECONDS = 0.5  # between two hints: who watches reads no more often


class HintSender(threading.Thread):
    """Sends hints from a thread of its own, since a broker that is away takes its time to say so."""

    def __init__(self) -> None:
        super().__init__(name="hint-sender", daemon=True)
        self._wanted = threading.Event()

    def send_soon(self) -> None:
        """Have a hint sent; several at once are one."""
        self._wanted.set()
        if self.ident is None:
            self.start()

    def run(self) -> None:
        pause = threading.Event()
        while self._wanted.wait():
            self._wanted.clear()
            with suppress(*broker.BrokerError):
                broker.send_hint()
            pause.wait(PAUSE_SECONDS)
