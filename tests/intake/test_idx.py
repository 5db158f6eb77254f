"""Zips of IDX files, as MNIST and its relatives are published."""

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.intake.answers import Description, Refusal
from tests.intake.files import allocating_less_than, load_four, read_in_process, write_zip

RANDOM = np.random.RandomState(0)
IMAGES = RANDOM.randint(0, 256, (40, 6, 5)).astype(np.uint8)
LABELS = np.arange(40, dtype=np.uint8) % 4


def to_idx(array: NDArray[np.uint8], shape: tuple[int, ...] | None = None, kind: int = 8) -> bytes:
    shape = shape or array.shape
    return struct.pack(f">HBB{len(shape)}I", 0, kind, len(shape), *shape) + array.tobytes()


def make_members(before: str = "") -> dict[str, bytes]:
    parts = {
        "train-images-idx3": IMAGES[:30],
        "train-labels-idx1": LABELS[:30],
        "t10k-images-idx3": IMAGES[30:],
        "t10k-labels-idx1": LABELS[30:],
    }
    return {f"{before}{name}-ubyte.gz": gzip.compress(to_idx(array)) for name, array in parts.items()}


def read(tmp_path: Path, members: dict[str, bytes], **options: Any) -> Description | Refusal:
    return read_in_process(write_zip(tmp_path / "file.zip", members), tmp_path / "out", **options)


@pytest.mark.parametrize("before", ["", "fashion-mnist/", "gzip/emnist-letters-"])
@pytest.mark.parametrize("packed", [True, False])
def test_four_files_keep_their_parts_and_their_order(tmp_path: Path, before: str, packed: bool) -> None:
    members = make_members(before)
    if not packed:
        members = {name.removesuffix(".gz"): gzip.decompress(content) for name, content in members.items()}
    described = read(tmp_path, members | {"README.md": b"hello"})
    assert isinstance(described, Description)
    assert (described.format, described.shape, described.classes) == ("idx", (6, 5, 1), 4)
    for found, sent in zip(
        load_four(tmp_path / "out"), (IMAGES[:30], LABELS[:30], IMAGES[30:], LABELS[30:]), strict=True
    ):
        np.testing.assert_array_equal(found, sent)
    assert described.warnings[0] == "left out, no part of the data set: README.md"


def test_two_files_are_cut_into_parts(tmp_path: Path) -> None:
    described = read(tmp_path, dict(list(make_members().items())[:2]))
    assert isinstance(described, Description)
    assert (described.train_samples, described.test_samples) == (24, 6)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train-images-idx3-ubyte.gz", to_idx(IMAGES, (10**9, 1000, 1000)), "at most 2 GiB"),
        ("train-images-idx3-ubyte.gz", to_idx(IMAGES, (2**32 - 1,) * 4), "at most 2 GiB"),
        ("train-images-idx3-ubyte.gz", to_idx(IMAGES, (39, 6, 5)), "fewer or more bytes"),
        ("train-images-idx3-ubyte.gz", to_idx(IMAGES, (41, 6, 5)), "fewer or more bytes"),
        ("train-images-idx3-ubyte.gz", to_idx(IMAGES, (0, 6, 5)), "no rows"),
        ("train-images-idx3-ubyte.gz", to_idx(IMAGES, kind=13), "magic number"),
        ("train-images-idx3-ubyte.gz", b"", "magic number"),
        ("train-labels-idx1-ubyte.gz", to_idx(LABELS[:29]), "there are 29 labels"),
    ],
)
def test_files_that_are_not_what_they_say(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    with allocating_less_than(20_000_000):
        refusal = read(tmp_path, make_members() | {name: gzip.compress(content)})
    assert isinstance(refusal, Refusal)
    assert message in refusal.errors[0]["message"]
    assert refusal.errors[0]["file"].startswith("train-images")


def test_a_gzip_bomb_is_cut_off_after_what_it_declares(tmp_path: Path) -> None:
    members = make_members() | {"train-images-idx3-ubyte.gz": gzip.compress(to_idx(IMAGES[:30]) + bytes(2**26))}
    with allocating_less_than(20_000_000):
        refusal = read(tmp_path, members)
    assert isinstance(refusal, Refusal)
    assert "fewer or more bytes" in refusal.errors[0]["message"]


def test_damaged_missing_and_doubled_files_are_named(tmp_path: Path) -> None:
    members = make_members()
    cut = members["t10k-labels-idx1-ubyte.gz"][:-6]
    refusal = read(tmp_path, members | {"t10k-labels-idx1-ubyte.gz": cut})
    assert isinstance(refusal, Refusal)
    assert refusal.errors[0]["file"] == "t10k-labels-idx1-ubyte.gz"
    three = {name: content for name, content in members.items() if name != "t10k-labels-idx1-ubyte.gz"}
    refusal = read(tmp_path, three)
    assert isinstance(refusal, Refusal)
    assert "the test labels are missing" in refusal.errors[0]["message"]
    refusal = read(tmp_path, members | make_members("emnist-digits-"))
    assert isinstance(refusal, Refusal)
    assert "second set" in refusal.errors[0]["message"]
