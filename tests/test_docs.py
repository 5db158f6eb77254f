"""The documentation: links, cited files and names, jobs that it shows, decision notes, benchmark records."""

import json
import re
from pathlib import Path

import pytest

from app.tuning.search.candidates import draw_candidates
from app.tuning.search.spec import JobSpec

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
NOTES = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CITED = re.compile(r"`((?:\.ci|app|benchmarks|docs|examples|requirements|tests|worker)/[\w./-]*?)(?::(\w+))?`")
JOB = re.compile(r"""^(?:```json\n|.*-d ')(\{.*?"search".*?\})(?:'|\n```)$""", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The fragments that a page's headings can be linked by."""
    headings = HEADING.findall(page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_within_the_repository_have_a_target(page: Path) -> None:
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        path, _, fragment = link.partition("#")
        if path.startswith(("http://", "https://", "mailto:")):
            continue
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not fragment or fragment in anchors(target), link


@pytest.mark.parametrize("page", sorted({*PAGES} - {*NOTES}), ids=lambda page: str(page.relative_to(ROOT)))
def test_cited_files_and_names_exist(page: Path) -> None:
    for path, name in CITED.findall(page.read_text(encoding="utf-8")):
        assert (ROOT / path).exists(), path
        defined = rf"^\s*(?:def|async def|class) {name}\b|^{name}\b.* = "
        assert not name or re.search(defined, (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE), f"{path}:{name}"


def test_every_job_that_the_pages_show_is_accepted() -> None:
    jobs = [job for page in PAGES for job in JOB.findall(page.read_text(encoding="utf-8"))]
    assert len(jobs) >= 4
    for job in jobs:
        assert draw_candidates(JobSpec.model_validate(json.loads(job)))


@pytest.mark.parametrize("note", NOTES, ids=lambda note: note.stem)
def test_a_decision_note_has_five_headings_and_is_listed(note: Path) -> None:
    text = note.read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == [
        "Context",
        "Decision",
        "Alternatives",
        "Consequences",
        "Status",
    ]
    assert text.startswith(f"# {int(note.name[:4])}. ")
    assert f"({note.name})" in (note.parent / "README.md").read_text(encoding="utf-8")


def test_decision_notes_are_numbered_without_gaps() -> None:
    assert [int(note.name[:4]) for note in NOTES] == list(range(1, len(NOTES) + 1))


def test_benchmark_records_say_what_was_measured_and_where() -> None:
    for record in (ROOT / "docs" / "benchmarks").glob("*.json"):
        machine = json.loads(record.read_text(encoding="utf-8"))["machine"]
        assert record.name.startswith(f"{machine['date'][:10]}-{machine['commit'][:7]}"), record.name
        assert not machine["uncommitted_changes"] and not machine["quick"], record.name
        assert machine["processor"] and machine["cores"] and machine["packages"], record.name


def test_ci_runs_the_parts_of_make_test() -> None:
    parts = re.search(r"^test: (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    run = re.findall(r'"make (\w+)"', (ROOT / ".ci" / "run").read_text(encoding="utf-8"))
    assert parts and run == ["install", *parts[1].split()]
