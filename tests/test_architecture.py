"""The structure of the code: imports, names, the documented steps of a job, and the settings."""

import ast
import re
import subprocess
import sys
from collections import Counter
from functools import lru_cache
from pathlib import Path

import grimp
import pytest

from app.tuning.settings import Settings

ROOT = Path(__file__).parents[1]
FOREIGN = {
    "app.main": ("tensorflow", "keras", "worker"),
    "app.cli.commands": ("tensorflow", "keras", "worker"),
    "app.tuning.housekeeping": ("tensorflow", "keras", "worker", "fastapi", "starlette", "uvicorn", "typer"),
    "worker.tasks": ("tensorflow", "keras", "sklearn", "scipy", "fastapi", "starlette", "uvicorn", "typer"),
}
MODULES = [
    file for part in ("app", "worker") for file in sorted((ROOT / part).rglob("*.py")) if "versions" not in file.parts
]
STEP = re.compile(r"^(\d)\. `([\w/]+)\.py:(\w+)` \((called|signalled|passed) by (?:step (\d)|the client)", re.MULTILINE)


def test_the_import_contracts_are_kept() -> None:
    checked = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout[-2000:]


def test_no_modules_import_one_another_in_a_circle() -> None:
    graph = grimp.build_graph("app", "worker")
    imports = [(module, other) for module in graph.modules for other in graph.find_modules_directly_imported_by(module)]
    assert len(imports) > len(MODULES)
    assert not [(module, other) for module, other in imports if graph.chain_exists(other, module)]


def top_level_names(file: Path) -> set[str]:
    """The public names that a module defines, without those that it imports."""
    names: set[str] = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.Assign(targets=targets):
                names |= {target.id for target in targets if isinstance(target, ast.Name)}
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
    return {name for name in names if not name.startswith("_")}


def test_fewer_than_ten_public_names_are_defined_in_two_modules() -> None:
    conventional = {"log", "router"}  # one logger in each module, one router for each group of routes
    places = Counter(name for file in MODULES for name in top_level_names(file) - conventional)
    assert len(twice := {name: count for name, count in places.items() if count > 1}) < 10, twice


@lru_cache
def parse_module(module: str) -> tuple[dict[str, str], dict[str, list[ast.AST]]]:
    """What each imported name stands for, and the definitions of each function and method, by name."""
    tree = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
    imported: dict[str, str] = {}
    defined: dict[str, list[ast.AST]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            imported |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            defined.setdefault(node.name, []).append(node)
    return imported, defined


def find_references(function: str) -> set[str]:
    """The full names of all that a function refers to; methods count as functions of its own module."""
    module, _, name = function.rpartition(".")
    imported, defined = parse_module(module)
    found = set()
    for node in (node for definition in defined.get(name, []) for node in ast.walk(definition)):
        match node:
            case ast.Attribute(value=ast.Name(id=owner), attr=attribute):
                found.add(f"{imported.get(owner, module)}.{attribute}")
            case ast.Name(id=used):
                found.add(imported.get(used, f"{module}.{used}"))
    return found


def reaches(caller: str, callee: str) -> bool:
    """Whether a function refers to another one, itself or through functions in its own package."""
    package = caller.rsplit(".", 2)[0]
    seen: set[str] = set()
    todo = {caller}
    while todo and callee not in seen:
        seen |= todo
        found = {name for function in todo for name in find_references(function)}
        todo = {name for name in found - seen if name == callee or is_function_of(package, name)}
    return callee in seen


def is_function_of(package: str, name: str) -> bool:
    module = name.rpartition(".")[0]
    return module.rpartition(".")[0] == package and (ROOT / f"{module.replace('.', '/')}.py").exists()


def test_the_documented_steps_of_a_job_are_those_of_the_code() -> None:
    found = STEP.findall((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"))
    assert [int(number) for number, *_ in found] == list(range(1, 10))
    functions = {number: f"{path.replace('/', '.')}.{name}" for number, path, name, *_ in found}
    for number, path, name, how, caller in found:
        assert name in parse_module(path.replace("/", "."))[1], functions[number]
        assert how == "signalled" or not caller or reaches(functions[caller], functions[number]), functions[number]


@pytest.mark.slow
@pytest.mark.parametrize("module", FOREIGN)
def test_no_process_loads_packages_that_belong_to_others(module: str) -> None:
    printed = subprocess.run(
        [sys.executable, "-c", f"import sys, {module}; print(*sys.modules, sep='\\n')"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {name.partition(".")[0] for name in printed.stdout.split()}
    assert not loaded & set(FOREIGN[module])


def test_the_settings_are_those_of_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.partition("\n## Settings\n")[2].partition("\n## ")[0]
    listed = re.findall(r"^\| `(TUNEWELL_\w+)` \|.*\|.*\|$", section, re.MULTILINE)
    assert sorted(listed) == sorted(f"TUNEWELL_{name.upper()}" for name in Settings.model_fields)


def test_every_setting_says_what_it_means() -> None:
    assert all(field.description for field in Settings.model_fields.values())
    assert all(not field.is_required() for field in Settings.model_fields.values())


def test_only_outcomes_writes_a_jobs_state_and_version() -> None:
    """By assignment to an attribute of something called a job, or by an UPDATE of the jobs table."""
    writers = {
        file.name
        for file in (ROOT / "app").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if (
            isinstance(node, ast.Assign | ast.AugAssign)
            and re.search(r"\bjob\.(state|version)\b.* [+]?= ", ast.unparse(node))
        )
        or (isinstance(node, ast.Call) and re.match(r"update\(Job\)", ast.unparse(node)))
    }
    assert writers == {"outcomes.py"}
