"""docker-compose.yml and the Dockerfile: as text, and as Docker Compose reads them where it is installed."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from sqlalchemy import make_url

from app.tuning.settings import Settings
from tests.support.servers import Postgres
from tests.support.service_double import closed_port

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def stage(name: str) -> str:
    """The part of the Dockerfile that makes one of the images."""
    found = re.search(rf"^FROM \S+ AS {name}$(.*?)(?=^FROM |\Z)", DOCKERFILE, re.MULTILINE | re.DOTALL)
    assert found, f"no stage {name}"
    return found[1]


PAGES = [ROOT / "README.md", ROOT / "docs" / "deployment.md"]


def documented(page: Path) -> dict[str, str]:
    """The variables of a page's table for containers, with their defaults."""
    part = page.read_text().partition("\n## Containers\n")[2].partition("\n## ")[0]
    return {name: default.strip("` ") for name, default in re.findall(r"^\| `(\w+)` \|([^|]*)\|", part, re.MULTILINE)}


def compose() -> list[str]:
    """The command of Docker Compose that is installed here."""
    plugin = ["docker", "compose"]
    if shutil.which("docker") and not subprocess.run([*plugin, "version"], capture_output=True, check=False).returncode:
        return plugin
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    pytest.skip("Docker Compose is not installed")


def as_read(**variables: str) -> dict[str, dict[str, Any]]:
    """The services as Docker Compose reads them with these variables set."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TUNEWELL_")} | variables
    command = [*compose(), "--file", str(ROOT / "docker-compose.yml"), "config"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    services: dict[str, dict[str, Any]] = yaml.safe_load(result.stdout)["services"]
    return services


def test_every_variable_is_documented_with_its_default() -> None:
    used = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", TEXT))
    assert TEXT.count("${") == len(re.findall(r"\$\{\w+:-[^}]*\}", TEXT)), "a variable without a default"
    tables = [table for page in PAGES if (table := documented(page))]
    assert tables
    for table in tables:
        assert table == used | {"TUNEWELL_DATA_DIR": "a volume", "TUNEWELL_ALLOWED_HOSTS": ""}


def test_the_defaults_open_one_port_on_this_machine_alone() -> None:
    services = as_read()
    assert {name for name, service in services.items() if service.get("ports")} == {"api"}
    assert all(word in str(services["api"]["ports"]) for word in ("127.0.0.1", "8000"))


def test_variables_reach_their_services(tmp_path: Path) -> None:
    services = as_read(
        TUNEWELL_BIND="192.0.2.7",
        TUNEWELL_PORT="9123",
        TUNEWELL_ALLOWED_HOSTS="tunewell.example",
        TUNEWELL_WORKERS="7",
        TUNEWELL_DATA_DIR=str(tmp_path),
        TUNEWELL_POSTGRES_PASSWORD="p$$w",
    )
    assert all(word in str(services["api"]["ports"]) for word in ("192.0.2.7", "9123"))
    assert services["api"]["environment"]["TUNEWELL_ALLOWED_HOSTS"] == "tunewell.example"
    worker = services["worker"]
    assert worker.get("scale", worker.get("deploy", {}).get("replicas")) == 7
    assert str(tmp_path) in str(worker["volumes"])
    assert worker["environment"]["TUNEWELL_DATA_DIR_ON_HOST"] == str(tmp_path)
    passwords = {
        service["environment"]["PGPASSWORD"]
        for name, service in services.items()
        if name in ("api", "worker", "migrate")
    }
    assert passwords == {services["postgres"]["environment"]["POSTGRES_PASSWORD"]}


@pytest.mark.parametrize("name", SERVICES)
def test_services_have_least_privileges_and_memory_limits(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]
    assert not {"privileged", "network_mode", "pid", "devices"} & set(service)
    assert "cap_add" not in service or name == "postgres"  # its entrypoint starts as root


def test_persistent_data_is_in_named_volumes() -> None:
    assert set(COMPOSE["volumes"]) == {"datasets", "redis", "postgres", "storage"}
    mounted = " ".join(volume for service in SERVICES.values() for volume in service.get("volumes", []))
    assert all(f"{name}:/" in mounted or f":-{name}}}:/" in mounted for name in COMPOSE["volumes"])
    assert {"--appendonly", "noeviction"} <= set(SERVICES["redis"]["command"])


def test_third_party_images_have_a_version() -> None:
    images = [service["image"] for service in SERVICES.values() if "image" in service]
    images += [name for name in re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE) if name != "base"]
    assert len(images) == 4
    assert [name for name in images if not re.search(r":\d+(\.\d+)+|:\d+-", name)] == []


def test_no_url_holds_a_password() -> None:
    assert not re.search(r"://[^/\s]*:[^/\s]*@", TEXT)


def test_services_start_after_their_dependencies() -> None:
    for name in ("api", "worker"):
        assert SERVICES[name]["depends_on"] == {
            "migrate": {"condition": "service_completed_successfully"},
            "redis": {"condition": "service_healthy"},
        }
    assert SERVICES["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert {name for name, service in SERVICES.items() if "healthcheck" in service} == {"api", "redis", "postgres"}


def test_workers_can_be_scaled() -> None:
    assert not {"container_name", "hostname", "ports"} & set(SERVICES["worker"])
    assert '"--concurrency", "1", "--hostname", "worker@%h"' in stage("worker")


@pytest.mark.parametrize(("name", "without"), [("api", ("tensorflow", "keras")), ("worker", ("fastapi", "uvicorn"))])
def test_images_hold_only_their_own_packages(name: str, without: tuple[str, ...]) -> None:
    assert SERVICES[name]["build"]["target"] == name
    assert f"--require-hashes -r requirements/{name}.txt" in stage(name)
    packages = re.findall(r"^([a-z0-9.-]+)==", (ROOT / "requirements" / f"{name}.txt").read_text(), re.MULTILINE)
    assert [package for package in packages if package.startswith(without)] == []


ALONE = """
import importlib.metadata, pathlib, re, runpy, sys
installed = set(re.findall(r"^([a-z0-9.-]+)==", pathlib.Path("requirements/api.txt").read_text(), re.MULTILINE))
places = importlib.metadata.packages_distributions().items()
absent = {module for module, names in places if not installed & {re.sub("[-_.]+", "-", name).lower() for name in names}}

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent - {"app", "tunewell", "worker"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
runpy.run_module("app.cli", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["list"], 3, "does not respond"),
        (["trials", "some-job"], 3, "does not respond"),
        (["up"], 1, "psutil is not installed here"),
        (["demo"], 1, "psutil is not installed here"),
    ],
)
def test_the_api_image_runs_the_client_commands(arguments: list[str], code: int, words: str) -> None:
    """Only the image's packages can be imported, as in `docker compose exec api tunewell list`."""
    url = f"http://127.0.0.1:{closed_port()}"
    command = [sys.executable, "-c", ALONE, *arguments]
    result = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "TUNEWELL_URL": url}, capture_output=True, text=True, check=False
    )
    assert result.returncode == code
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert "/usr/local/bin/tunewell" in stage("api")
    assert "COPY client/tunewell tunewell" in stage("api")


@pytest.mark.parametrize("name", ["api", "worker"])
def test_processes_are_unprivileged_and_receive_signals(name: str) -> None:
    assert stage(name).count("USER tunewell") == 1
    assert 'CMD ["' in stage(name)  # without a shell, which would not pass SIGTERM on
    assert "--mount" not in DOCKERFILE  # needs BuildKit


def test_the_data_folder_is_named_by_its_path_on_the_host(tmp_path: Path) -> None:
    named = Settings(data_dir=tmp_path, data_dir_on_host="./mnist").data_folder
    assert named.startswith(f"./mnist on the host ({tmp_path} in the container)")
    assert str(os.getuid()) in named
    assert Settings(data_dir=tmp_path).data_folder == f"{tmp_path} (TUNEWELL_DATA_DIR)"


def test_a_wrong_postgres_password_is_reported_in_one_line_with_the_remedy(postgres: Postgres) -> None:
    url = make_url(postgres.new_database())
    user = f"u{url.database}"
    postgres.execute(f"CREATE ROLE {user} LOGIN PASSWORD 'right'")
    postgres.demand_password(user)
    wrong = url.set(username=user, password="another").render_as_string(False)
    command = [sys.executable, "-m", "app.tuning.migrations"]
    environment = os.environ | {"TUNEWELL_DATABASE_URL": wrong}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert "password authentication failed" in result.stderr
    assert "ALTER ROLE" in result.stderr
    assert "another" not in result.stderr
