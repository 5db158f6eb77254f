"""A proxy to PostgreSQL that can lose the response to a COMMIT."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Proxy:
    """Passes bytes on; every n-th COMMIT is forwarded, but its response is dropped."""

    def __init__(self, target: int) -> None:
        self.lose_each = 0  # 0: none
        self.lost = 0
        self._target, self._commits, self._lock = target, 0, threading.Lock()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                with suppress(OSError):
                    server = socket.create_connection(("127.0.0.1", self._target))
                    losing = threading.Event()
                    threading.Thread(target=self._ask, args=(client, server, losing), daemon=True).start()
                    threading.Thread(target=self._answer, args=(server, client, losing), daemon=True).start()

    def _ask(self, client: socket.socket, server: socket.socket, losing: threading.Event) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                if b"COMMIT" in data and self._is_to_lose():
                    losing.set()
                server.sendall(data)
        _end(client, server)

    def _answer(self, server: socket.socket, client: socket.socket, losing: threading.Event) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                if losing.is_set():
                    self.lost += 1
                    break
                client.sendall(data)
        _end(client, server)

    def _is_to_lose(self) -> bool:
        with self._lock:
            self._commits += 1
            return bool(self.lose_each) and self._commits % self.lose_each == 0


def _end(*sockets: socket.socket) -> None:
    for one in sockets:
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()


@contextmanager
def proxy(target: int) -> Iterator[Proxy]:
    """A proxy to a local port."""
    made = Proxy(target)
    try:
        yield made
    finally:
        made.close()
