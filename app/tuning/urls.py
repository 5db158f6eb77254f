"""Validates the URLs of database, broker and storage; messages never repeat the URL, which may hold a password."""

import re
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit, urlunsplit

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

DATABASES = "it must be a URL such as sqlite:////path/file.db or postgresql://user:password@host/name"
BROKERS = "it must be a URL such as redis://host:6379/0, rediss://... or redis+socket:///path"
STORAGES = "it must be a URL such as file:///path or s3://bucket/prefix"
ESCAPED = "special characters of a password or path must be percent-encoded, such as %23 for #, %3F for ?, %3B for ;"
# TLS parameters of a broker's URL, as kombu and redis-py name them.
TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
TLS = {"ssl_cert_reqs": ("none", "optional", "required"), "ssl_check_hostname": ("true", "false")}


def parse_database_url(text: str) -> URL:
    """The database's URL with the installed driver in place of the one that it names.

    Raises:
        ValueError: the URL is invalid or unsupported; the message says what would be right.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):  # ValueError: the port is not a number
        raise ValueError(f"{DATABASES}; {ESCAPED}") from None
    backend, _, driver = url.drivername.partition("+")
    if backend == "sqlite" and driver in ("", "pysqlite", "aiosqlite"):
        return _check_sqlite(url.set(drivername="sqlite"), text)
    if backend in ("postgres", "postgresql"):
        return _check_postgresql(url.set(drivername="postgresql+psycopg"))
    raise ValueError(DATABASES)


def make_sqlite_url(file: Path) -> URL:
    """The URL of an SQLite file, whose path may contain any characters."""
    return URL.create("sqlite", database=str(file))


def parse_broker_url(text: str) -> str:
    """The broker's URL in kombu's form; kombu itself would misread or crash on the URLs that are rejected here.

    Raises:
        ValueError: the URL is invalid or unsupported; the message says what would be right.
    """
    scheme, found, _ = text.partition("://")
    if not found or scheme not in ("redis", "rediss", "redis+socket"):
        raise ValueError(BROKERS)
    if ";" in text:
        raise ValueError(f"it must name one broker; {ESCAPED}")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(f"{BROKERS}, with a port from 1 to 65535; {ESCAPED}") from None
    if parts.fragment or text.endswith("#"):
        raise ValueError(f"{BROKERS}; {ESCAPED}")
    query = parse_qs(parts.query, keep_blank_values=True)
    if scheme == "redis+socket":
        return _check_socket(text, parts.path, query)
    if not host or port == 0 or re.search(r"\s", parts.netloc):
        raise ValueError(f"{BROKERS}, with a host")
    if not re.fullmatch(r"/?|/\d{1,6}", parts.path, re.ASCII):
        raise ValueError("the path must be the number of the database, such as /0")
    return urlunsplit(parts._replace(query=_make_tls_query(scheme, query)))


def make_socket_url(path: Path) -> str:
    """The URL of a broker on a Unix socket, whose path may contain any characters."""
    return f"redis+socket://{quote(str(path))}"


def describe_place(url: str) -> str:
    """The broker's host and port or socket path, without credentials."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or 6379}" if parts.hostname else unquote(parts.path)


def parse_storage_url(url: str) -> None:
    """Check that this is the URL of a folder or of a bucket.

    Raises:
        ValueError: it is not; the message says what would be right.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError(f"{STORAGES}; {ESCAPED}") from None
    if parts.scheme not in ("file", "s3", "gs", "az") or parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError(f"{STORAGES}, without credentials: these are in AWS_ACCESS_KEY_ID and the like; {ESCAPED}")
    if parts.scheme == "file" and (parts.netloc or not parts.path.strip("/")):
        raise ValueError("the URL of a folder is file:// and its absolute path, so three slashes")
    if parts.scheme != "file" and not parts.netloc:
        raise ValueError(f"{STORAGES}, with the bucket's name")


def find_folder(storage_url: str) -> Path | None:
    """The folder that is the storage; None where it is an object store."""
    parts = urlsplit(storage_url)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def _check_sqlite(url: URL, text: str) -> URL:
    if url.host or url.username or url.port:
        raise ValueError(
            "the URL of an SQLite file is sqlite:/// and the path, so four slashes if the path is absolute"
        )
    if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
        raise ValueError("it must name a file, since several processes share the database")
    if "?" in text:
        raise ValueError(f"the URL of an SQLite file takes no parameters; {ESCAPED}")
    pasted, meant = (Path(path).absolute().parent for path in (text.partition(":///")[2], url.database))
    if _exists(pasted) and not _exists(meant):
        raise ValueError("a % in the path must be written as %25")
    return url


def _check_postgresql(url: URL) -> URL:
    from psycopg import ProgrammingError  # imported here, because most processes do not need it
    from psycopg.conninfo import make_conninfo

    if url.port is not None and not 0 < url.port < 65536:
        raise ValueError("the port must be from 1 to 65535")
    if re.search(r"[@\s]", url.host or ""):
        raise ValueError(f"{DATABASES}; special characters of a password must be percent-encoded, such as %40 for @")
    _, arguments = url.get_dialect()().create_connect_args(url)
    arguments.pop("context", None)
    try:
        make_conninfo(**arguments)
    except ProgrammingError:
        raise ValueError("the parameters after the ? must be libpq's, such as sslmode") from None
    return url


def _check_socket(text: str, path: str, query: dict[str, list[str]]) -> str:
    if not path.strip("/"):
        raise ValueError(f"{BROKERS}, with the socket's path")
    numbers = query.pop("virtual_host", ["0"])
    if query or len(numbers) != 1 or not re.fullmatch(r"\d{1,6}", numbers[0], re.ASCII):
        raise ValueError(f"the only parameter of a socket is virtual_host, the database's number; {ESCAPED}")
    return text


def _make_tls_query(scheme: str, query: dict[str, list[str]]) -> str:
    """The query with TLS verification switched on by default, which kombu does not do."""
    given = {name: values[-1] for name, values in query.items()}
    if given and (scheme == "redis" or not given.keys() <= {*TLS, *TLS_FILES}):
        raise ValueError(f"the only parameters are {', '.join([*TLS, *TLS_FILES])}, and only of rediss://")
    for name in TLS_FILES:
        if name in given and not _is_file(Path(given[name])):
            raise ValueError(f"{name} must be the absolute path of a file that can be read")
    said = {"ssl_cert_reqs": "required", "ssl_check_hostname": "true"}
    said |= {name: given[name].lower().removeprefix("cert_") for name in TLS if name in given}
    for name, choices in TLS.items():
        if said[name] not in choices:
            raise ValueError(f"{name} must be one of {', '.join(choices)}")
    if said["ssl_cert_reqs"] == "none":
        said["ssl_check_hostname"] = "false"
    return "" if scheme == "redis" else urlencode(given | said)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # no permission
        return False


def _is_file(path: Path) -> bool:
    try:
        with path.open("rb"):
            return path.is_absolute()
    except OSError:
        return False
