"""How many workers a machine gets, for control groups and packages as found on real machines."""

import os
import sys
from ctypes.util import find_library
from math import inf
from pathlib import Path

import pytest

from app.local import machine


def host(root: Path, groups: str, files: dict[str, str]) -> Path:
    """A root folder with the given kernel files."""
    write(root / "proc/self/cgroup", groups)
    for name, content in files.items():
        write(root / "sys/fs/cgroup" / name, content)
    return root


def write(file: Path, content: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)


@pytest.mark.parametrize(
    ("groups", "files", "quota"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {"cpu.max": "max 100000\n"}, inf),
        ("0::/system.slice/some.service\n", {"system.slice/some.service/cpu.max": "50000 100000\n"}, 0.5),
        (
            "0::/outer/inner\n",
            {"outer/inner/cpu.max": "max 100000\n", "outer/cpu.max": "300000 100000\n", "cpu.max": "800000 100000"},
            3.0,
        ),
        ("0::/docker/0123\n", {"cpu.max": "200000 100000\n"}, 2.0),
        (
            "4:memory:/a\n2:cpu,cpuacct:/\n",
            {"cpu,cpuacct/cpu.cfs_quota_us": "250000", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
            2.5,
        ),
        ("2:cpu:/docker/0123\n", {"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4.0),
        ("2:cpu:/kube/pod\n", {"cpu/kube/cpu.cfs_quota_us": "100000", "cpu/kube/cpu.cfs_period_us": "100000"}, 1.0),
        ("2:cpu,cpuacct:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, inf),
        ("", {}, inf),
    ],
)
def test_the_quota_is_the_minimum_of_all_enclosing_groups(
    tmp_path: Path, groups: str, files: dict[str, str], quota: float
) -> None:
    assert machine.read_cpu_quota(host(tmp_path, groups, files)) == quota


@pytest.mark.skipif(sys.platform != "linux", reason="control groups exist on Linux only")
def test_cores_are_limited_by_the_quota_and_at_least_one(tmp_path: Path) -> None:
    assert machine.count_cores(host(tmp_path / "a", "0::/\n", {"cpu.max": "20000 100000"})) == 1
    assert machine.count_cores(host(tmp_path / "b", "0::/\n", {})) == len(os.sched_getaffinity(0))


def packages(folder: Path, *names: str) -> None:
    for name in names:
        write(folder / f"{name}-1.0.dist-info" / "METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")


@pytest.mark.parametrize(
    ("names", "count"),
    [
        ([], 0),
        (["tensorflow_cpu"], 0),
        (["tensorflow_cpu", "nvidia_cudnn_cu12"], 0),
        (["tensorflow"], 0),
        (["tensorflow", "nvidia_cudnn_cu12"], 2),
    ],
)
def test_gpus_count_if_the_installed_tensorflow_can_use_them(
    tmp_path: Path, names: list[str], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if find_library("cudnn"):
        pytest.skip("CUDA is installed in this system")
    packages(tmp_path, *names)
    for gpu in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / "proc/driver/nvidia/gpus" / gpu).mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert len(machine.list_gpus(tmp_path)) == count
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert machine.list_gpus(tmp_path) == (["1"] if count else [])
