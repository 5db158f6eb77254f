"""What `docker compose up` would start: read, not run."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

ROOT = Path(__file__).parents[1]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def stage(name: str) -> str:
    """The part of the Dockerfile that makes one of the images."""
    found = re.search(rf"^FROM \S+ AS {name}$(.*?)(?=^FROM |\Z)", DOCKERFILE, re.MULTILINE | re.DOTALL)
    assert found, f"no stage {name}"
    return found[1]


def test_only_the_api_has_a_port_and_only_on_this_machine() -> None:
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert ports == {"api": ["127.0.0.1:8000:8000"]}


def test_what_must_last_is_in_named_volumes() -> None:
    kept = {name: service["volumes"] for name, service in SERVICES.items() if "volumes" in service}
    assert kept == {
        "worker": ["${TUNEWELL_DATA_DIR:-datasets}:/data"],
        "redis": ["redis:/data"],
        "postgres": ["postgres:/var/lib/postgresql/data"],
    }
    assert set(COMPOSE["volumes"]) == {"datasets", "redis", "postgres"}
    assert "--appendonly" in SERVICES["redis"]["command"]


def test_images_of_others_have_a_version() -> None:
    images = [service["image"] for service in SERVICES.values() if "image" in service]
    images += [name for name in re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE) if name != "base"]
    assert len(images) == 3
    assert [name for name in images if not re.search(r":\d+(\.\d+)+|:\d+-", name)] == []


def test_the_password_comes_from_outside_and_is_in_no_url() -> None:
    passwords = {
        value
        for service in SERVICES.values()
        for name, value in service.get("environment", {}).items()
        if "PASSWORD" in name
    }
    assert passwords == {"${TUNEWELL_POSTGRES_PASSWORD:-tunewell}"}
    assert not re.search(r"://[^/\s]*:[^/\s]*@", (ROOT / "docker-compose.yml").read_text())


def test_nothing_starts_before_what_it_needs() -> None:
    for name in ("api", "worker"):
        assert SERVICES[name]["depends_on"] == {
            "migrate": {"condition": "service_completed_successfully"},
            "redis": {"condition": "service_healthy"},
        }
    assert SERVICES["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert {name for name, service in SERVICES.items() if "healthcheck" in service} == {"api", "redis", "postgres"}


def test_there_can_be_many_workers() -> None:
    assert not {"container_name", "hostname", "ports"} & set(SERVICES["worker"])
    assert '"--concurrency", "1", "--hostname", "worker@%h"' in stage("worker")


@pytest.mark.parametrize(("name", "without"), [("api", ("tensorflow", "keras")), ("worker", ("fastapi", "uvicorn"))])
def test_an_image_holds_only_what_it_serves(name: str, without: tuple[str, ...]) -> None:
    assert SERVICES[name]["build"]["target"] == name
    assert f"--require-hashes -r requirements/{name}.txt" in stage(name)
    packages = re.findall(r"^([a-z0-9.-]+)==", (ROOT / "requirements" / f"{name}.txt").read_text(), re.MULTILINE)
    assert [package for package in packages if package.startswith(without)] == []


@pytest.mark.parametrize("name", ["api", "worker"])
def test_a_process_is_nobody_special_and_hears_the_signals(name: str) -> None:
    assert stage(name).count("USER tunewell") == 1
    assert 'CMD ["' in stage(name)  # without a shell, which would keep a SIGTERM to itself
    assert "--mount" not in DOCKERFILE  # which only BuildKit knows
