"""Names the processor that trains: results are bit-equal on machines of one kind."""

import os
import platform
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
# The instruction sets that the math libraries choose by, the widest first.
_LEVELS = ("avx512f", "avx2", "avx", "sse4_1", "sve", "asimd")
# Environment variables that change this choice, with their usual values here.
_CHOICES = {"ONEDNN_MAX_CPU_ISA": "DEFAULT", "TF_ENABLE_ONEDNN_OPTS": "1"}


@lru_cache(maxsize=1)
def name_processor() -> str:
    """This machine's processor, with its instruction set and the variables that change the choice."""
    try:
        described = CPUINFO.read_text(errors="replace")
    except OSError:
        described = ""
    return describe_processor(described, os.environ)


def name_device() -> str:
    """What this machine's workers train on: the GPU that CUDA_VISIBLE_DEVICES gives them, or the processor."""
    gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "").strip()
    return f"GPU {gpu}"[:255] if gpu not in ("", "-1") else name_processor()


def describe_processor(cpuinfo: str, environment: Mapping[str, str]) -> str:
    """The processor in a line of at most 255 characters, from /proc/cpuinfo if there is one."""
    model = _field(cpuinfo, "model name") or platform.processor() or platform.machine() or "unknown"
    has = (_field(cpuinfo, "flags") or _field(cpuinfo, "Features")).split()
    level = [next(level for level in _LEVELS if level in has)] if set(has) & set(_LEVELS) else []
    chosen = [
        f"{name}={environment[name]}" for name, usual in _CHOICES.items() if environment.get(name, usual) != usual
    ]
    details = ", ".join([*level, *chosen])
    return (f"{model} ({details})" if details else model).replace("\0", "")[:255]


def _field(cpuinfo: str, name: str) -> str:
    found = re.search(rf"^{name}\s*: *(.*)$", cpuinfo, re.MULTILINE)
    return found[1].strip() if found else ""
