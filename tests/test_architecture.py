"""The rules that the code's shape keeps: who imports whom, and which settings there are."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from app.tuning.settings import Settings

ROOT = Path(__file__).parents[1]
FOREIGN = {
    "app.main": ("tensorflow", "keras", "worker"),
    "app.cli.commands": ("tensorflow", "keras", "worker"),
    "app.tuning.housekeeping": ("tensorflow", "keras", "worker", "fastapi", "starlette", "uvicorn", "typer"),
    "worker.tasks": ("tensorflow", "keras", "sklearn", "scipy", "fastapi", "starlette", "uvicorn", "typer"),
}


def test_the_import_contracts_are_kept() -> None:
    checked = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout[-2000:]


@pytest.mark.parametrize("module", FOREIGN)
def test_a_process_loads_nothing_that_is_not_its_own(module: str) -> None:
    told = subprocess.run(
        [sys.executable, "-c", f"import sys, {module}; print(*sys.modules, sep='\\n')"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {name.partition(".")[0] for name in told.stdout.split()}
    assert not loaded & set(FOREIGN[module])


def test_the_settings_are_those_of_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.partition("\n## Settings\n")[2].partition("\n## ")[0]
    listed = re.findall(r"^\| `(TUNEWELL_\w+)` \|.*\|.*\|$", section, re.MULTILINE)
    assert sorted(listed) == sorted(f"TUNEWELL_{name.upper()}" for name in Settings.model_fields)


def test_every_setting_says_what_it_means() -> None:
    assert all(field.description for field in Settings.model_fields.values())
    assert all(not field.is_required() for field in Settings.model_fields.values())
