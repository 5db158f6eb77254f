"""What this machine offers workers: cores within its container's quota, and GPUs that TensorFlow can use."""

import os
import sys
from collections.abc import Iterator
from ctypes.util import find_library
from importlib.metadata import PackageNotFoundError, distributions
from importlib.metadata import version as installed_version
from math import inf
from pathlib import Path

ROOT = Path("/")


def count_default_workers() -> int:
    """Worker processes by default: one per GPU, or else one per core."""
    return len(list_gpus()) or count_cores()


def list_gpus(root: Path = ROOT) -> list[str]:
    """The GPUs that workers may use, as names for CUDA_VISIBLE_DEVICES."""
    if not _tensorflow_has_cuda():
        return []
    if (chosen := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [one.strip() for one in chosen.split(",") if one.strip() not in ("", "-1")]
    return [str(index) for index, _ in enumerate((root / "proc/driver/nvidia/gpus").glob("*"))]


def count_cores(root: Path = ROOT) -> int:
    """The cores that this process may use, at least 1."""
    present = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, int(min(present, read_cpu_quota(root))))


def read_cpu_quota(root: Path = ROOT) -> float:
    """The CPU limit of this process's control groups (v1 or v2), in cores; infinite if there is none."""
    return min((limit for folder in _find_group_folders(root) for limit in _read_limits(folder)), default=inf)


def _find_group_folders(root: Path) -> Iterator[Path]:
    """The folders of this process's control groups and their ancestors, as far as they are visible."""
    mounts = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        inner = Path(path.lstrip("/"))
        for mount in (mounts / controllers, mounts / "cpu") if controllers else (mounts,):
            yield from (mount / level for level in (inner, *inner.parents))


def _read_limits(folder: Path) -> Iterator[float]:
    first = _read(folder / "cpu.max").split()
    second = [*_read(folder / "cpu.cfs_quota_us").split(), *_read(folder / "cpu.cfs_period_us").split()]
    for share in (first, second):
        if len(share) == 2 and share[0] not in ("max", "-1"):
            yield int(share[0]) / int(share[1])


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:  # another cgroup version, or not visible in a container
        return ""


def _tensorflow_has_cuda() -> bool:
    """Whether TensorFlow is the GPU build and CUDA is installed, as Python packages or in the system."""
    if _installed("tensorflow-cpu") or not _installed("tensorflow"):
        return False
    packaged = any((found.name or "").lower().replace("_", "-").startswith("nvidia-cudnn") for found in distributions())
    return packaged or find_library("cudnn") is not None


def _installed(name: str) -> bool:
    try:
        return bool(installed_version(name))
    except PackageNotFoundError:
        return False
