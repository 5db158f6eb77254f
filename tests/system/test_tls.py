"""A broker behind TLS: wakes and workers verify its certificate, unless its URL says otherwise."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.local.broker import find_program
from app.tuning import broker
from app.tuning.settings import Settings
from tests.local.test_launcher import wait_until
from tests.support.live import PROJECT
from tests.support.servers import free_port, listens, missing


class Tls:
    """A broker with a certificate for `localhost`, signed by an authority of its own."""

    def __init__(self, folder: Path, port: int) -> None:
        self.port, self.authority = port, folder / "ca.crt"

    def url(self, host: str, **more: str) -> str:
        """The broker's URL."""
        query = "&".join(f"{name}={value}" for name, value in more.items())
        return f"rediss://{host}:{self.port}/0?{query}"


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tls]:
    if not shutil.which("openssl"):
        missing("openssl")
    folder, port = tmp_path_factory.mktemp("tls"), free_port()
    _certify(folder)
    options = ["--port", "0", "--tls-port", str(port), "--tls-auth-clients", "no", "--save", "", "--dir", str(folder)]
    files = ["--tls-cert-file", "server.crt", "--tls-key-file", "server.key", "--tls-ca-cert-file", "ca.crt"]
    program = shutil.which("redis-server") or find_program()
    process = subprocess.Popen([program, *options, *files], cwd=folder, stdout=subprocess.DEVNULL)
    try:
        listens(port, process)
        yield Tls(folder, port)
    finally:
        process.kill()
        process.wait()


def _certify(folder: Path) -> None:
    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "rsa:2048", "-nodes")
    openssl("req", "-x509", *key, "-days", "2", "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.crt")
    openssl("req", *key, "-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.csr")
    (folder / "names").write_text("subjectAltName=DNS:localhost\n")
    sign = ("x509", "-req", "-days", "2", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names")
    openssl(*sign, "-in", "server.csr", "-out", "server.crt")


@pytest.fixture(autouse=True)
def _own_broker() -> Iterator[None]:
    before = broker.celery.conf.broker_url
    yield
    broker.celery.conf.broker_url = before


def waiting(url: str) -> int:
    broker.celery.conf.broker_url = Settings(broker_url=url).broker
    return broker.count_waiting_wakes()


def test_a_certificate_of_an_unknown_authority_is_rejected(tls: Tls) -> None:
    with pytest.raises(broker.BrokerError, match="certificate verify failed"):
        waiting(tls.url("localhost"))


def test_a_certificate_of_another_name_is_rejected(tls: Tls) -> None:
    with pytest.raises(broker.BrokerError, match="certificate is not valid for"):
        waiting(tls.url("127.0.0.1", ssl_ca_certs=str(tls.authority)))


def test_a_known_authority_s_certificate_is_accepted(tls: Tls) -> None:
    url = tls.url("localhost", ssl_ca_certs=str(tls.authority))
    assert waiting(url) == 0
    broker.send_wakes(1)
    assert waiting(url) == 1


@pytest.mark.parametrize("word", ["none", "CERT_NONE"])
def test_the_url_can_disable_verification(tls: Tls, word: str) -> None:
    assert waiting(tls.url("127.0.0.1", ssl_cert_reqs=word)) >= 0


@pytest.mark.parametrize("trusting", [True, False])
def test_a_worker_verifies_too(tls: Tls, tmp_path: Path, trusting: bool) -> None:
    url = tls.url("localhost", **({"ssl_ca_certs": str(tls.authority)} if trusting else {}))
    variables = {"TUNEWELL_BROKER_URL": url, "TUNEWELL_HOME": str(tmp_path), "TUNEWELL_DATABASE_URL": ""}
    command = [sys.executable, "-m", "celery", "-A", "worker.tasks", "worker", "--concurrency", "1"]
    log = tmp_path / "log"
    with log.open("w") as output:
        worker = subprocess.Popen(command, cwd=PROJECT, env=os.environ | variables, stdout=output, stderr=output)
    try:
        wait_until(lambda: ("Connected to" if trusting else "certificate verify failed") in log.read_text(), 60)
    finally:
        worker.terminate()
        worker.wait(60)
    assert ("Connected to" in log.read_text()) == trusting
