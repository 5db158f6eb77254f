"""What the figures were measured on, and whether it had its hands free."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

PACKAGES = ("tensorflow-cpu", "tensorflow", "keras", "scikit-learn", "scikeras", "keras-tuner", "optuna", "sqlalchemy")
BUSY = 0.15  # share of a core that others take before it is worth a warning


def describe() -> dict[str, Any]:
    """Processor, memory, versions, and what else the machine is doing."""
    return {
        "processor": _processor(),
        "cores": psutil.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "load_average": os.getloadavg(),
        "others_use_cores": round(psutil.cpu_percent(interval=2.0) / 100 * (psutil.cpu_count() or 1), 2),
    }


def warning(machine: dict[str, Any]) -> str | None:
    """What to say when others use the machine too."""
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


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
