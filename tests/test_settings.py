"""The settings: what they accept, what they reject with one sentence, and what processes make of a wrong one."""

import os
import shutil
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import make_url

from app.tuning import broker, urls
from app.tuning.database import connect
from app.tuning.settings import InvalidSettings, Settings, settings
from tests.support.live import PROJECT

API = ("uvicorn", "app.main:app", "--port", "0")
WORKER = ("celery", "-A", "worker.tasks", "worker")
UP = ("app.cli", "up", "--port", "0")
# Characters that mean something in a URL, to kombu, to Alembic or to a shell.
NASTY = "a %25 w%2Fx #1 ?x=y ;z&"


def environment(**more: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("TUNEWELL_")} | more


def ended(*command: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    line = [sys.executable, "-m", *command]
    return subprocess.run(
        line, cwd=PROJECT, env=environment(**variables), capture_output=True, text=True, timeout=100, check=False
    )


@pytest.mark.parametrize(
    "url",
    [
        "redis://:p#secret@host:6379/0",
        "redis://:p/secret@host:6379/0",
        "redis://:p?secret@host:6379/0",
        "redis://host:6379/secret",
        "redis://:secret@host:99999/0",
        "redis://:secret@host:port/0",
        "redis://:secret@host:0/0",
        "redis://:secret@host/0/1",
        "redis://:secret@host/0?db=1",
        "redis://:secret@host/0?ssl_cert_reqs=none",
        "redis://:secret@host/0#1",
        "redis://:secret@one/0;redis://:secret@two/0",
        "redis://:secret@",
        "redis://",
        "redis:///0",
        "redis://:secret@a host/0",
        "redis://:secret@[::1/0",
        "rediss://:secret@host?ssl_cert_reqs=maybe",
        "rediss://:secret@host?ssl_ca_certs=/no/such/file",
        "rediss://:secret@host?unknown=1",
        "redis+socket://",
        "redis+socket:///folder#secret/broker.sock",
        "redis+socket:///folder?secret/broker.sock",
        "redis+socket:///folder;secret/broker.sock",
        "redis+socket:///broker.sock?virtual_host=secret",
        "amqp://:secret@host",
        "secret",
    ],
)
def test_a_broker_that_cannot_be_meant_is_rejected_by_name_and_without_the_password(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = rejected("TUNEWELL_BROKER_URL", url, monkeypatch)
    assert "secret" not in told


def rejected(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(name, value)
    settings.cache_clear()
    with pytest.raises(InvalidSettings) as error:
        settings()
    told = str(error.value)
    assert told.startswith(f"{name}: ")
    assert "\n" not in told
    return told


@pytest.mark.parametrize(
    ("url", "host", "port", "number", "password"),
    [
        ("redis://host", "host", 6379, 0, None),
        ("redis://host:1/", "host", 1, 0, None),
        ("redis://:p%23%3B%40@host:1/2", "host", 1, 2, "p#;@"),
        ("redis://[::1]:6380/0", "::1", 6380, 0, None),
    ],
)
def test_kombu_reads_of_an_accepted_broker_what_is_meant(
    url: str, host: str, port: int, number: int, password: str | None
) -> None:
    parameters = connection_parameters(Settings(broker_url=url).broker)
    assert (parameters["host"], parameters["port"], parameters["db"]) == (host, port, number)
    assert parameters["password"] == password


def connection_parameters(url: str) -> dict[str, object]:
    """What kombu would give redis-py, without a connection."""
    client = broker.celery.connection_for_write(url)
    channel = type("Channel", (client.get_transport_cls().Channel,), {"__init__": lambda self: None})()
    channel.connection = type("Transport", (), {"client": client, "default_port": 6379})
    found: dict[str, object] = channel._connparams()
    return found


def test_kombu_finds_the_embedded_broker_s_socket_whatever_the_home_is_called(tmp_path: Path) -> None:
    here = Settings(home=Path("/h") / NASTY)
    assert connection_parameters(here.broker)["path"] == str(here.broker_socket) == f"/h/{NASTY}/broker.sock"


@pytest.mark.parametrize(
    ("query", "requires", "checks"),
    [
        ("", ssl.CERT_REQUIRED, True),
        ("?ssl_cert_reqs=CERT_NONE", ssl.CERT_NONE, False),
        ("?ssl_cert_reqs=none", ssl.CERT_NONE, False),
        ("?ssl_cert_reqs=required", ssl.CERT_REQUIRED, True),
        ("?ssl_check_hostname=false", ssl.CERT_REQUIRED, False),
    ],
)
def test_a_server_s_certificate_is_verified_unless_the_url_says_otherwise(
    query: str, requires: ssl.VerifyMode, checks: bool
) -> None:
    parameters = connection_parameters(Settings(broker_url=f"rediss://host{query}").broker)
    assert (parameters["ssl_cert_reqs"], parameters["ssl_check_hostname"]) == (requires, checks)


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("postgres://u:p@h:1/n", "postgresql+psycopg"),
        ("postgres+psycopg://u:p@h:1/n", "postgresql+psycopg"),
        ("postgresql://u:p@h:1/n", "postgresql+psycopg"),
        ("postgresql+psycopg2://u:p@h:1/n?sslmode=require", "postgresql+psycopg"),
        ("postgresql+asyncpg://u:p%23@h:1/n", "postgresql+psycopg"),
        ("sqlite:///some.db", "sqlite"),
        ("sqlite+pysqlite:////folder/some.db", "sqlite"),
        ("sqlite+aiosqlite:///some.db", "sqlite"),
    ],
)
def test_a_database_is_reached_by_the_installed_driver_whichever_the_url_names(url: str, driver: str) -> None:
    found = Settings(database_url=url).database
    assert found == make_url(url).set(drivername=driver)
    found.get_dialect().import_dbapi()


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite:///file:secret?mode=memory&uri=true",
        "sqlite://secret/some.db",
        "sqlite:///folder?secret/some.db",
        "sqlite+pysqlcipher://:secret@/some.db",
        "postgresql://u:secret@h:99999/n",
        "postgresql://u:secret@h:port/n",
        "postgresql://u:p@secret@h/n",
        "postgresql+asyncpg://u:secret@h/n?ssl=require",
        "mysql://u:secret@h/n",
        "secret",
    ],
)
def test_a_database_that_cannot_be_meant_is_rejected_by_name(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "secret" not in rejected("TUNEWELL_DATABASE_URL", url, monkeypatch)


def test_a_path_that_was_pasted_into_a_url_makes_no_database_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "w%2Fx").mkdir()
    told = rejected("TUNEWELL_DATABASE_URL", f"sqlite:///{tmp_path}/w%2Fx/some.db", monkeypatch)
    assert "%25" in told
    assert Settings(database_url=f"sqlite:///{tmp_path}/w%252Fx/some.db").database == urls.make_sqlite_url(
        tmp_path / "w%2Fx" / "some.db"
    )


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"TUNEWELL_{name.upper()}", raising=False)
    unset = Settings()
    for name in Settings.model_fields:
        monkeypatch.setenv(f"TUNEWELL_{name.upper()}", "")
    assert Settings() == unset


@pytest.mark.parametrize("command", [API, WORKER, UP], ids=["api", "worker", "up"])
def test_each_part_alone_ends_with_one_sentence_on_a_wrong_setting(command: tuple[str, ...]) -> None:
    done = ended(*command, TUNEWELL_BROKER_URL="redis://:p#secret@host/0")
    assert done.returncode == 1
    assert done.stderr.startswith("TUNEWELL_BROKER_URL: ")
    assert done.stderr.count("\n") == 1
    assert "secret" not in done.stdout + done.stderr


def test_a_worker_s_processes_train_with_tensorflow_whatever_the_shell_is_set_to() -> None:
    code = "import os, worker.tasks; print(os.environ['KERAS_BACKEND'], worker.tasks.app.conf.broker_write_url)"
    line = [sys.executable, "-c", code]
    shell = environment(
        KERAS_BACKEND="jax", CELERY_BROKER_URL="redis://elsewhere/0", TUNEWELL_BROKER_URL="redis://here/0"
    )
    done = subprocess.run(line, cwd=PROJECT, env=shell, capture_output=True, text=True, check=True)
    assert done.stdout == "tensorflow redis://here/0\n"


def test_a_checkout_and_a_home_may_be_called_anything(tmp_path: Path) -> None:
    checkout = tmp_path / NASTY
    shutil.copytree(PROJECT / "app", checkout / "app", ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(
        [sys.executable, "-m", "app.tuning.migrations"],
        cwd=checkout,
        env=environment(PYTHONPATH=str(checkout)),
        check=True,
        timeout=100,
    )
    file = checkout / ".tunewell" / "tunewell.db"
    assert file.is_file()
    made = connect(urls.make_sqlite_url(file))
    with made.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM jobs").scalar_one() == 0
    made.dispose()
    assert list(tmp_path.iterdir()) == [checkout]
