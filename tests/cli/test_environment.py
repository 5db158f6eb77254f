"""The command line with closed pipes, full disks, proxies and files in various encodings."""

import codecs
import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.cli.test_commands import run
from tests.support.service_double import BEST, JOB, JOB_ID, SPEC, Answer, Service, answer, job, trial
from tunewell.proxies import UnusableProxy, choose_proxy

COMMANDS = {
    "submit": ["submit", "{spec}"],
    "wait": ["submit", "{spec}", "--wait"],
    "list": ["list"],
    "show": ["show", JOB_ID],
    "watch": ["watch", JOB_ID, "--json"],
    "best": ["best", JOB_ID],
    "trials": ["trials", JOB_ID],
    "results": ["results", JOB_ID],
    "cancel": ["cancel", JOB_ID],
    "delete": ["delete", JOB_ID],
    "help": ["--help"],
    "help of a command": ["submit", "--help"],
    "version": ["--version"],
}
URL = "http://tunewell.lan:8000"
FULL = Path("/dev/full")
full_disk = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")


@pytest.fixture
def busy(service: Service) -> Service:
    """A service with output for every command, for `results` more than a pipe's buffer holds."""
    ended = job("succeeded", 5)
    service.on("POST /v1/jobs", answer(job("queued"), 202))
    service.on("GET /v1/jobs?page_size=20", answer({"items": [ended] * 20, "next_page_token": None}))
    service.on(f"GET {JOB}", answer(ended))
    service.on(f"GET {JOB}/best", answer(BEST))
    service.on(
        f"GET {JOB}/trials?sort=-validation_score&page_size=20",
        answer({"items": [trial(0)], "next_page_token": None}),
    )
    service.on(f"GET {JOB}/results?format=csv", Answer(200, "a,b\n" * 100_000))
    service.on(f"POST {JOB}/cancel", answer(job("cancelling"), 202))
    service.on(f"DELETE {JOB}", Answer(204))
    return service


def run_process(command: list[str], url: str, **streams: object) -> "subprocess.CompletedProcess[str]":
    """Run the command in a process of its own, with real streams."""
    environment = {**os.environ, "TUNEWELL_URL": url}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    whole = [sys.executable, "-m", "app.cli", *command]
    return subprocess.run(whole, env=environment, text=True, timeout=100, check=False, **pipes)  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_closed_pipe_exits_with_141(
    busy: Service,
    spec_file: str,
    command: list[str],
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    result = run_process([part.format(spec=spec_file) for part in command], busy.url, stdout=writer)
    os.close(writer)
    assert result.returncode == 141
    assert "Traceback" not in result.stderr
    assert "Exception" not in result.stderr


def test_head_can_cut_off_the_output(busy: Service) -> None:
    script = f"set -o pipefail; '{sys.executable}' -m app.cli results {JOB_ID} --url {busy.url} | head -1"
    result = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False, timeout=100)
    assert (result.returncode, result.stdout, result.stderr) == (141, "a,b\n", "")


@full_disk
@pytest.mark.parametrize("command", ["list", "wait", "results", "help"])
def test_output_that_cannot_be_written_exits_with_4(
    busy: Service,
    spec_file: str,
    command: str,
) -> None:
    with FULL.open("w") as full:
        result = run_process([part.format(spec=spec_file) for part in COMMANDS[command]], busy.url, stdout=full)
    assert result.returncode == 4
    assert result.stderr.splitlines()[-1] == "The output could not be written: No space left on device"
    assert "Traceback" not in result.stderr


@full_disk
def test_unwritable_stderr_does_not_change_the_exit_code(busy: Service, spec_file: str) -> None:
    with FULL.open("w") as full:
        waited = run_process(["submit", spec_file, "--wait", "--json"], busy.url, stderr=full)
        assert (waited.returncode, json.loads(waited.stdout)) == (0, BEST)
        assert run_process(["list", "--no-such-option"], busy.url, stderr=full).returncode == 2
        assert run_process(["show", "unknown"], busy.url, stderr=full).returncode == 2


def test_closed_streams_do_not_change_the_exit_code(busy: Service, spec_file: str) -> None:
    script = f"'{sys.executable}' -m app.cli submit '{spec_file}' --wait --url {busy.url}"
    quiet = subprocess.run(["bash", "-c", f"{script} >&- 2>&-"], check=False, timeout=100)
    assert quiet.returncode == 0
    printed = subprocess.run(["bash", "-c", f"{script} --json 2>&-"], check=False, timeout=100, capture_output=True)
    assert json.loads(printed.stdout) == BEST


@pytest.mark.parametrize(
    "proxy",
    [
        "socks5://me:secret@127.0.0.1:1",
        "socks4://127.0.0.1:1",
        "socks://127.0.0.1:1",
        "ftp://127.0.0.1:1",
        "http://me:secret@127.0.0.1:1",
        "https://127.0.0.1:1",
        "127.0.0.1:1",
        "http://",
        "://",
        "http://[",
        "http://127.0.0.1:abc",
        "http://127.0.0.1:99999",
        "http://a..b:1",
        "http://" + "a" * 70 + ".lan:1",
        "http://a\udcffb:1",
        "http://a b:1",
        "nonsense",
    ],
)
def test_an_unusable_proxy_exits_with_3_and_an_explanation(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    monkeypatch.setenv("NO_PROXY", "elsewhere.lan")
    result = run(URL, "list", "--json")
    assert result.exit_code == 3
    assert json.loads(result.stdout)["detail"].startswith(URL)
    assert "proxy" in result.stderr
    assert "tunewell up" not in result.stderr
    assert "secret" not in result.output


def test_requests_use_the_proxy_except_for_exempt_hosts(
    service: Service,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service.on(f"GET http://tunewell.example:8000{JOB}", answer(job()))
    monkeypatch.setenv("HTTP_PROXY", service.url)
    assert run("http://tunewell.example:8000", "show", JOB_ID).exit_code == 0
    monkeypatch.setenv("NO_PROXY", "example")
    assert run("http://tunewell.example:8000", "show", JOB_ID).exit_code == 3
    assert len(service.asked) == 1


@pytest.mark.parametrize(
    "exempt",
    ["*", "a.lan, *", "tunewell.lan", "TUNEWELL.LAN", "lan", ".lan", "*.lan", "x, .lan", "tunewell.lan:8000", ":,,lan"],
)
def test_no_proxy_exempts_a_name(monkeypatch: pytest.MonkeyPatch, exempt: str) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", exempt)
    assert choose_proxy(urlsplit(URL)) is None


@pytest.mark.parametrize("exempt", ["", "well.lan", "a.tunewell.lan", "tunewell.lan:80", "10.0.0.0/8", "/", "[", " , "])
def test_no_proxy_exempts_nothing_else(monkeypatch: pytest.MonkeyPatch, exempt: str) -> None:
    monkeypatch.setenv("HTTP_PROXY", "proxy:3128")
    monkeypatch.setenv("NO_PROXY", exempt)
    assert choose_proxy(urlsplit(URL)) == "http://proxy:3128"


@pytest.mark.parametrize(
    ("url", "exempt"),
    [
        ("http://10.1.2.3:8000", "10.0.0.0/8"),
        ("http://10.1.2.3:8000", "10.1.2.3"),
        ("http://[fd00::5]:8000", "fd00::/8"),
        ("http://[fd00::5]:8000", "[fd00::5]"),
        ("http://localhost:8000", ""),
        ("http://127.0.0.2:8000", ""),
        ("http://[::1]:8000", ""),
    ],
)
def test_exempt_and_loopback_addresses_bypass_the_proxy(monkeypatch: pytest.MonkeyPatch, url: str, exempt: str) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://proxy:3128")
    monkeypatch.setenv("NO_PROXY", exempt)
    assert choose_proxy(urlsplit(url)) is None


def test_only_the_proxy_for_the_urls_scheme_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5://127.0.0.1:1")
    assert choose_proxy(urlsplit(URL)) is None
    with pytest.raises(UnusableProxy):
        choose_proxy(urlsplit("https://tunewell.lan"))


def test_unreadable_certificates_are_reported_for_https_only(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/no/such/file.pem")
    service.on(f"GET {JOB}", answer(job()))
    assert run(service.url, "show", JOB_ID).exit_code == 0
    secure = run("https://127.0.0.1:1", "show", JOB_ID)
    assert secure.exit_code == 3
    assert "SSL_CERT_FILE" in secure.stderr


def test_a_server_without_tls_counts_as_running(service: Service) -> None:
    result = run(service.url.replace("http", "https"), "list")
    assert result.exit_code == 3
    assert "SSL" in result.stderr
    assert "tunewell up" not in result.stderr


@pytest.mark.parametrize("url", ["http://h:99999", "http://[::1", "http://h\n:1", "http://h:x", "ftp://h", "http://"])
def test_an_impossible_url_is_bad_usage(url: str) -> None:
    result = run(url, "list")
    assert result.exit_code == 2
    assert "--url" in result.stderr


def test_an_invalid_host_name_exits_with_3() -> None:
    assert run("http://a..b:1", "list").exit_code == 3


def test_a_password_in_the_url_is_not_printed() -> None:
    result = run("http://me:secret@127.0.0.1:1/", "list", "--json")
    assert result.exit_code == 3
    assert "secret" not in result.output


ENCODINGS = {
    "utf-8": b"",
    "utf-8-sig": b"",
    "utf-16": b"",
    "utf-16-le": b"",
    "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32": b"",
    "utf-32-le": codecs.BOM_UTF32_LE,
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("by_stdin", [False, True])
def test_a_spec_is_read_in_any_utf_and_sent_as_utf_8(
    busy: Service, tmp_path: Path, encoding: str, by_stdin: bool
) -> None:
    file = tmp_path / "job.json"
    file.write_bytes(ENCODINGS[encoding] + json.dumps({**SPEC, "note": "Größe"}, ensure_ascii=False).encode(encoding))
    with file.open() as stdin:
        result = run_process(["submit", "-" if by_stdin else str(file)], busy.url, stdin=stdin)
    assert result.returncode == 0
    assert json.loads(busy.asked[0].body.decode("utf-8")) == {**SPEC, "note": "Größe"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty: write the job as a JSON object"),
        (b" \r\n", "is empty"),
        (codecs.BOM_UTF16_LE, "is empty"),
        ('{"name": "Größe"}'.encode("latin-1"), "save it as UTF-8"),
        (b"\x89PNG\r\n\x1a\n\x00\x01", "save it as UTF-8"),
        (b"search:\n  strategy: grid\n", "is not JSON"),
        (b"{'search': 1}", "is not JSON"),
        (None, "Is a directory"),
    ],
)
def test_invalid_files_are_reported_with_the_reason(
    service: Service,
    tmp_path: Path,
    content: bytes | None,
    words: str,
) -> None:
    file = tmp_path / "job.json"
    file.mkdir() if content is None else file.write_bytes(content)
    result = run(service.url, "submit", str(file), "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["detail"].startswith(str(file))
    assert words in result.stderr
    assert not service.asked
