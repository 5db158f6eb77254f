"""The storage as a folder: what is put is there whole, what is deleted leaves nothing, and what is away is said so."""

from pathlib import Path

import pytest

from app.tuning import storage
from app.tuning.settings import settings
from tests.test_settings import NASTY, rejected

KEY = "datasets/ab/x_train.npy"
CONTENT = bytes(range(256)) * 40_000  # more than one part, and than one piece


@pytest.fixture
def content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file to put, beside a home whose path means something in a URL."""
    monkeypatch.setenv("TUNEWELL_HOME", str(tmp_path / NASTY))
    monkeypatch.delenv("TUNEWELL_STORAGE_URL", raising=False)
    settings.cache_clear()
    file = tmp_path / "file"
    file.write_bytes(CONTENT)
    return file


def read(key: str, start: int = 0, end: int | None = None) -> bytes:
    return b"".join(storage.open_file(key, start, end).pieces)


def test_a_file_is_read_as_it_was_put_whole_and_in_part(content: Path) -> None:
    storage.put_file(KEY, content)
    found = storage.open_file(KEY)
    assert (found.size, found.start, found.end) == (len(CONTENT), 0, len(CONTENT))
    pieces = list(found.pieces)
    assert b"".join(pieces) == CONTENT and max(map(len, pieces)) < len(CONTENT)
    assert read(KEY, 5) == CONTENT[5:]
    assert read(KEY, 5, 3_000_000) == CONTENT[5:3_000_000]
    assert storage.local_path(KEY) == settings().home / "storage" / KEY
    assert [(one.key, one.size) for one in storage.list_files("datasets")] == [(KEY, len(CONTENT))]


def test_a_deleted_folder_leaves_nothing_not_even_of_a_put_that_was_killed(content: Path) -> None:
    storage.put_file(KEY, content)
    staged = storage.local_path(f"{KEY}#1")
    assert staged
    staged.write_bytes(b"half")
    assert list(storage.list_folders("datasets")) == ["ab"]
    storage.delete_folder("datasets/ab")
    storage.delete_folder("datasets/ab")
    assert not storage.list_folders("datasets") and not staged.parent.exists()
    with pytest.raises(FileNotFoundError):
        storage.open_file(KEY)


@pytest.mark.parametrize("key", ["../outside", "datasets/../../outside", "/etc/../../outside"])
def test_no_key_leads_out_of_the_storage(content: Path, key: str) -> None:
    with pytest.raises(ValueError, match="illegal"):
        storage.put_file(key, content)
    assert not list(settings().home.parent.rglob("outside"))


def test_a_storage_that_is_a_file_is_away(content: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert storage.is_reachable()
    monkeypatch.setenv("TUNEWELL_STORAGE_URL", content.as_uri())
    settings.cache_clear()
    assert not storage.is_reachable()
    with pytest.raises(storage.StorageAway, match="the storage cannot be used"):
        storage.put_file(KEY, content)
    assert content.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "url",
    [
        "secret",
        "file://secret/path",
        "file:///",
        "s3://",
        "s3://key:secret@bucket/prefix",
        "s3://bucket?aws_secret_access_key=secret",
        "memory://secret",
        "https://secret/bucket",
    ],
)
def test_a_storage_that_cannot_be_meant_is_rejected_by_name(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "secret" not in rejected("TUNEWELL_STORAGE_URL", url, monkeypatch)
