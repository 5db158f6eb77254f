"""The processor's name: what Linux tells of it, and what narrows the instructions that are chosen."""

from pathlib import Path

import pytest

from worker.processor import describe_processor, name_processor

INTEL = "processor\t: 0\nmodel name\t: Intel(R) Xeon(R) CPU\nflags\t\t: fpu sse4_1 avx avx2 avx512f\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd\nCPU part\t: 0xd40\n"


@pytest.mark.parametrize(
    "cpuinfo, environment, expected",
    [
        (INTEL, {}, "Intel(R) Xeon(R) CPU (avx512f)"),
        (INTEL.replace(" avx512f", ""), {"TF_ENABLE_ONEDNN_OPTS": "1"}, "Intel(R) Xeon(R) CPU (avx2)"),
        (
            INTEL,
            {"ONEDNN_MAX_CPU_ISA": "SSE41", "TF_ENABLE_ONEDNN_OPTS": "0"},
            "Intel(R) Xeon(R) CPU (avx512f, ONEDNN_MAX_CPU_ISA=SSE41, TF_ENABLE_ONEDNN_OPTS=0)",
        ),
        (INTEL.replace("Xeon", "X" * 300 + "\0"), {}, "Intel(R) " + "X" * 246),
    ],
)
def test_a_processor_is_named_by_its_model_and_what_it_computes_with(
    cpuinfo: str, environment: dict[str, str], expected: str
) -> None:
    assert describe_processor(cpuinfo, environment) == expected


@pytest.mark.parametrize("cpuinfo", [ARM, ""])
def test_a_processor_without_a_model_has_a_name_too(cpuinfo: str) -> None:
    assert describe_processor(cpuinfo, {})


def test_this_machines_processor_is_named() -> None:
    cpuinfo = Path("/proc/cpuinfo")
    models = [line.partition(": ")[2] for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
    assert name_processor().startswith(models[0] if models else "")
