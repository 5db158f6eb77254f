"""Names the processor that trains: results are equal to the last bit on machines of one kind."""

import os
import platform
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
# What the math libraries choose their instructions by, the widest first.
_LEVELS = ("avx512f", "avx2", "avx", "sse4_1", "sve", "asimd")
# What makes them choose others than they would on that processor, and its usual value here.
_CHOICES = {"ONEDNN_MAX_CPU_ISA": "DEFAULT", "TF_ENABLE_ONEDNN_OPTS": "1"}


@lru_cache(maxsize=1)
def name_processor() -> str:
    """This machine's processor, with the instructions that it has and what narrows their choice."""
    try:
        described = CPUINFO.read_text(errors="replace")
    except OSError:
        described = ""
    return describe(described, os.environ)


def describe(cpuinfo: str, environment: Mapping[str, str]) -> str:
    """The processor in a line of 255 characters at most, from Linux's description of it if there is one."""
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
