"""A backup of all that must not be lost, database and storage, in one file; and its restoring.

The file is a gzipped tar: `manifest.json`, `database` (SQLite's file, or pg_dump's custom format) and `storage/…`.
"""

import gzip
import json
import os
import re
import shutil
import sqlite3
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, NamedTuple

from sqlalchemy import URL, exists, inspect, select

from app.tuning import __version__, storage
from app.tuning.database import clock, connect, reading
from app.tuning.housekeeping import GONE_SECONDS
from app.tuning.jobs.tables import Job, Worker
from app.tuning.migrations import find_revision, newest_revision

BACKUP_FORMAT = 1
MANIFEST, DATABASE, STORAGE = "manifest.json", "database", "storage/"
GZIP_LEVEL = 1  # of 9: networks and images do not get much smaller
SAFE_KEY = re.compile(r"[\w-]+(/[\w-]+(\.[\w-]+)*)+", re.ASCII)
TOOLS = Path("/usr/lib/postgresql")  # where Debian has PostgreSQL's own


class BackupError(Exception):
    """It cannot be done; the message says why, and what would be right."""


class Backup(NamedTuple):
    """What a backup holds: of which schema and kind of database, and how many files of the storage."""

    schema: str
    kind: str
    created_at: str
    files: int


def back_up(url: URL, file: Path) -> Backup:
    """Write a backup while the service runs; the file is there once it is whole.

    Files that are stored come before the rows that name them, so the storage is read once before the database, and what
    is new in it once more after it.

    Raises:
        BackupError: there is no database, or a tool of PostgreSQL's is missing or fails.
        StorageAway: the storage cannot be read.
    """
    kind = url.get_backend_name()
    schema = _find_schema(url)
    with _make_folder(file) as folder, (folder / "backup").open("wb") as sink:
        with tarfile.open(fileobj=sink, mode="w:gz", compresslevel=GZIP_LEVEL) as archive:
            there = _add_files(archive, set())
            _dump(url, folder / DATABASE)
            archive.add(folder / DATABASE, DATABASE)
            there = _add_files(archive, there)
            made = Backup(schema, kind, datetime.now(UTC).isoformat(timespec="seconds"), len(there))
            _add(
                archive,
                MANIFEST,
                json.dumps({"format": BACKUP_FORMAT, "tunewell": __version__, **made._asdict()}).encode(),
            )
        sink.flush()
        os.fsync(sink.fileno())
        (folder / "backup").replace(file)
    return made


def restore(url: URL, file: Path, replace: bool = False) -> Backup:
    """Put what the backup holds into the database, in one transaction, and into the storage, before it.

    Raises:
        BackupError: the file is no backup or not whole, or of a newer Tunewell or another kind of database; the
            database holds jobs and `replace` is not set; or workers are running.
        StorageAway: the storage cannot be written.
    """
    with _make_folder(file) as folder:
        made = _unpack(file, folder)
        _see_that_it_fits(made, url)
        _see_that_nothing_is_lost(url, replace)
        for stored in sorted((folder / STORAGE).rglob("*")):
            if stored.is_file():
                storage.put_file(str(stored.relative_to(folder / STORAGE)), stored)
        if made.kind == "sqlite":
            _copy_sqlite(folder / DATABASE, Path(str(url.database)))
        else:
            _replace_tables(url, folder)
    return made


def _find_schema(url: URL) -> str:
    if url.get_backend_name() != "sqlite" or _is_file(url):  # else connecting would make one
        engine = connect(url, connections=1)
        try:
            if schema := find_revision(engine):
                return schema
        finally:
            engine.dispose()
    raise BackupError("There is no Tunewell database to back up: name it in TUNEWELL_DATABASE_URL or TUNEWELL_HOME")


def _dump(url: URL, target: Path) -> None:
    """Write one moment of the database to a file."""
    if url.get_backend_name() == "sqlite":
        _copy_sqlite(Path(str(url.database)), target)
        with closing(sqlite3.connect(target)) as copy:
            if (found := copy.execute("PRAGMA quick_check").fetchone()[0]) != "ok":
                raise BackupError(f"The database is damaged: {found}")
    else:
        _run_tool("pg_dump", url, "--format=custom", "--no-owner", "--no-privileges", f"--file={target}")


def _copy_sqlite(source: Path, target: Path) -> None:
    """All of a database in one transaction, which a kill undoes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(source)) as origin, closing(sqlite3.connect(target, timeout=60)) as copy:
        origin.backup(copy)


def _replace_tables(url: URL, folder: Path) -> None:
    """Drop all tables of the database and make the backup's, in one transaction."""
    engine = connect(url, connections=1)
    quote = engine.dialect.identifier_preparer.quote
    drops = [f"DROP TABLE {quote(table)} CASCADE;" for table in inspect(engine).get_table_names()]
    engine.dispose()
    first, then = folder / "first.sql", folder / "then.sql"
    first.write_text("\n".join(drops))
    _run_tool("pg_restore", None, f"--file={then}", str(folder / DATABASE))
    once = ("--quiet", "--no-psqlrc", "--single-transaction", "--set=ON_ERROR_STOP=1")
    _run_tool("psql", url, *once, f"--file={first}", f"--file={then}")


def _is_file(url: URL) -> bool:
    return Path(str(url.database)).is_file()


def _run_tool(name: str, url: URL | None, *options: str) -> None:
    """Run a tool of PostgreSQL's, on this database if one is named; the password is not among its arguments."""
    tool = shutil.which(name) or next((str(one) for one in sorted(TOOLS.glob(f"*/bin/{name}"), reverse=True)), None)
    if not tool:
        raise BackupError(f"{name} is not installed: install PostgreSQL's client programs (Debian: postgresql-client)")
    environment = dict(os.environ)
    command = [tool, *options]
    if url:
        command.append(f"--dbname={url.set(drivername='postgresql', password=None).render_as_string()}")
        environment |= {"PGPASSWORD": str(url.password)} if url.password else {}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BackupError(f"{name} failed: {(done.stderr.strip().splitlines() or ['no reason given'])[0]}")


def _add_files(archive: tarfile.TarFile, there: set[str]) -> set[str]:
    """Add what the storage holds besides these; returns the keys of both."""
    for entry in storage.list_files(""):
        if entry.key in there or not SAFE_KEY.fullmatch(entry.key):
            continue
        try:
            stored = storage.open_file(entry.key)
        except FileNotFoundError:  # deleted since: no row names it any more
            continue
        with tempfile.TemporaryFile() as copy:
            for piece in stored.pieces:
                copy.write(piece)
            _add_opened(archive, STORAGE + entry.key, copy)
        there.add(entry.key)
    return there


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    with tempfile.TemporaryFile() as copy:
        copy.write(content)
        _add_opened(archive, name, copy)


def _add_opened(archive: tarfile.TarFile, name: str, content: IO[bytes]) -> None:
    member = tarfile.TarInfo(name)
    member.size = content.tell()
    content.seek(0)
    archive.addfile(member, content)


def _unpack(file: Path, folder: Path) -> Backup:
    """Unpack into the folder what a backup can hold."""
    try:
        with gzip.open(file) as whole:  # to the end, where its checksum is
            while whole.read(2**20):
                pass
        with tarfile.open(file, "r:gz") as archive:
            members = [one for one in archive if one.isfile() and _is_expected(one.name)]
            archive.extractall(folder, members, filter="data")
        manifest = json.loads((folder / MANIFEST).read_text())
        if manifest["format"] != BACKUP_FORMAT or not (folder / DATABASE).is_file():
            raise BackupError(f"{file} is a backup of another format: restore it with the Tunewell that made it")
        return Backup(*(manifest[name] for name in Backup._fields))
    except FileNotFoundError as error:
        raise BackupError(f"{error.filename} is not there: is {file} a whole backup?") from None
    except (tarfile.TarError, EOFError, OSError, ValueError, LookupError, TypeError) as error:
        raise BackupError(f"{file} is no whole backup of Tunewell: {error}") from error


def _is_expected(name: str) -> bool:
    key = name.removeprefix(STORAGE)
    return name in (MANIFEST, DATABASE) or (key != name and SAFE_KEY.fullmatch(key) is not None)


def _see_that_it_fits(made: Backup, url: URL) -> None:
    if made.schema > newest_revision():
        raise BackupError(f"The backup is a newer Tunewell's (schema {made.schema}): install that version first")
    if made.kind != url.get_backend_name():
        raise BackupError(
            f"The backup is of {made.kind} and this database {url.get_backend_name()}: name one of its kind in "
            "TUNEWELL_DATABASE_URL"
        )


def _see_that_nothing_is_lost(url: URL, replace: bool) -> None:
    if url.get_backend_name() == "sqlite" and not _is_file(url):
        return
    engine = connect(url, connections=1)
    try:
        if find_revision(engine) != newest_revision():  # empty, or an older version's
            if not replace and inspect(engine).has_table(Job.__tablename__):
                raise BackupError("The database is an older version's: `--replace` puts the backup in its place")
            return
        with reading(engine) as session:
            if session.scalar(select(exists().where(Worker.last_seen > clock(-GONE_SECONDS)))):
                raise BackupError("Workers are running: stop them first, since results of theirs belong to other rows")
            if not replace and session.scalar(select(exists().select_from(Job))):
                raise BackupError("The database holds jobs: `--replace` puts the backup in their place")
    finally:
        engine.dispose()


@contextmanager
def _make_folder(file: Path) -> Iterator[Path]:
    """A folder beside the file, on the same disk; a killed process leaves it behind."""
    with tempfile.TemporaryDirectory(dir=file.absolute().parent, prefix=".tunewell-backup-") as folder:
        yield Path(folder)
