"""Real servers for the tests: PostgreSQL, PgBouncer and Redis, started if their programs are installed."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import psycopg
import pytest
import redis

from app.local.broker import BrokerUnavailable, find_program

POSTGRES_PLACES = ("/usr/lib/postgresql/*/bin", "/opt/homebrew/opt/postgresql*/bin", "/usr/local/pgsql/bin")


def missing(what: str) -> NoReturn:
    """Skip with the reason on a laptop; fail in CI, where everything must be installed."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is needed in CI", pytrace=False)
    pytest.skip(f"{what} is not installed")


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


class Postgres:
    """A PostgreSQL server in its own folder, which can be killed and restarted."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs, self._data = programs, folder / "data"
        self._log = folder / "log"
        # PostgreSQL does not run as root.
        self._user = "postgres" if os.geteuid() == 0 else None
        self.port = free_port()
        if self._user:
            shutil.chown(folder, self._user)
        self._call("initdb", "-D", str(self._data), "-U", "tunewell", "-A", "trust", "--no-sync")
        self.start()

    def url(self, database: str = "postgres") -> str:
        """SQLAlchemy's URL of one of its databases."""
        return f"postgresql+psycopg://tunewell@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """The URL of an empty database."""
        name = f"t{time.monotonic_ns()}"
        self.execute(f'CREATE DATABASE "{name}"')
        return self.url(name)

    def execute(self, statement: str) -> None:
        """Run one statement as the superuser."""
        dsn = f"host=127.0.0.1 port={self.port} user=tunewell dbname=postgres"
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(statement.encode())

    def demand_password(self, user: str) -> None:
        """Admit this user by password only."""
        rules = self._data / "pg_hba.conf"
        rules.write_text(f"host all {user} 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
        self.execute("SELECT pg_reload_conf()")

    def start(self) -> None:
        """Start it, and return when it responds."""
        places = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories="
        options = f"{places} -c fsync=off -c max_connections=300"
        self._call("pg_ctl", "-D", str(self._data), "-l", str(self._log), "-o", options, "-w", "start")

    def kill(self) -> None:
        """Crash it: SIGQUIT, without a shutdown checkpoint."""
        self._call("pg_ctl", "-D", str(self._data), "-m", "immediate", "-w", "stop")

    def _call(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        done = subprocess.run(
            command,
            user=self._user,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd="/",
            timeout=120,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stderr.decode()[-500:]}")


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A running PostgreSQL server, stopped and deleted afterwards."""
    found = shutil.which("pg_ctl")
    places = (
        [Path(found).parent] if found else sorted(p for place in POSTGRES_PLACES for p in Path("/").glob(place[1:]))
    )
    if not places:
        missing("PostgreSQL")
    with tempfile.TemporaryDirectory(prefix="tw-pg-") as folder:
        server = Postgres(places[-1], Path(folder))
        try:
            yield server
        finally:
            server.kill()


@contextmanager
def pgbouncer(server: Postgres, *settings: str) -> Iterator[int]:
    """The port of a PgBouncer in front of the server, in transaction mode, stopped afterwards."""
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if not program:
        missing("PgBouncer")
    user = "postgres" if os.geteuid() == 0 else None  # PgBouncer does not run as root either
    port = free_port()
    lines = [
        "[databases]",
        f"* = host=127.0.0.1 port={server.port} user=tunewell",
        "[pgbouncer]",
        f"listen_addr=127.0.0.1\nlisten_port={port}\nunix_socket_dir=\nauth_type=any",
        "pool_mode=transaction\ndefault_pool_size=4\nmax_client_conn=200",
        *settings,
    ]
    with tempfile.TemporaryDirectory(prefix="tw-pgb-") as folder:
        file = Path(folder) / "pgbouncer.ini"
        file.write_text("\n".join(lines))
        if user:
            shutil.chown(folder, user)
        process = subprocess.Popen([program, "-q", str(file)], user=user, stderr=subprocess.DEVNULL, cwd="/")
        try:
            listens(port, process)
            yield port
        finally:
            process.kill()
            process.wait()


def listens(port: int, process: "subprocess.Popen[bytes]") -> None:
    """Return when the process accepts connections."""
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert process.poll() is None and time.monotonic() < deadline, f"nobody listens on {port}"
            time.sleep(0.05)


class Broker:
    """A Redis or Valkey server, which can be killed, frozen and restarted."""

    def __init__(self, program: str, folder: Path) -> None:
        self._program, self._folder = program, folder
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        """Start it, and return when it responds."""
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self._folder)]
        self.process = subprocess.Popen([self._program, *options], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while True:
            try:
                self.client().ping()
                return
            except redis.RedisError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def client(self) -> redis.Redis:
        """A connection to it."""
        return redis.Redis(port=self.port, socket_timeout=5)

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def broker() -> Iterator[Broker]:
    """A running broker, stopped afterwards."""
    try:
        program = find_program()
    except BrokerUnavailable as error:
        missing(str(error))
    with tempfile.TemporaryDirectory(prefix="tw-redis-") as folder:
        server = Broker(program, Path(folder))
        try:
            yield server
        finally:
            server.thaw()
            server.kill()
