"""The machine on which the figures were measured, and its other load."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

PROJECT = Path(__file__).resolve().parent.parent
PACKAGES = (
    *("tunewell", "tensorflow-cpu", "tensorflow", "keras", "numpy", "scipy", "scikit-learn"),
    *("celery", "kombu", "redis", "sqlalchemy", "psycopg", "pydantic", "fastapi", "uvicorn"),
    *("scikeras", "keras-tuner", "optuna"),
)
BUSY = 0.15  # share of a core that others take before it is worth a warning


def describe() -> dict[str, Any]:
    """Commit, date, processor, memory, versions, and what else the machine is doing."""
    return {
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain", "--", ".", ":!docs")),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": psutil.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "load_average": os.getloadavg(),
        "others_use_cores": round(psutil.cpu_percent(interval=2.0) / 100 * (psutil.cpu_count() or 1), 2),
    }


def warning(machine: dict[str, Any]) -> str | None:
    """A warning if others use the machine too."""
    if machine["others_use_cores"] < BUSY:
        return None
    load = ", ".join(f"{value:.1f}" for value in machine["load_average"])
    return (
        f"This machine is busy: others use {machine['others_use_cores']} of its {machine['cores']} cores "
        f"(load average {load}). Figures taken now are worth little."
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _git(*arguments: str) -> str | None:
    """Git's output for this checkout; None outside of one."""
    try:
        done = subprocess.run(["git", *arguments], cwd=PROJECT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
