"""npz files: every set of keys, labels of every kind, and archives and headers that lie."""

import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold

from app.intake.answers import Description, Refusal
from tests.intake.files import (
    allocating_less_than,
    claim_entries,
    claim_size,
    encrypt,
    load_four,
    overlap,
    read_in_process,
    write_npy,
    write_zip,
)

RANDOM = np.random.RandomState(0)
IMAGES = RANDOM.randint(0, 256, (60, 6, 5)).astype(np.uint8)
LABELS = np.repeat([3, 7, 12], 20)


def read(tmp_path: Path, arrays: dict[str, NDArray[Any]], **options: Any) -> Description | Refusal:
    np.savez(tmp_path / "file.npz", **arrays)  # type: ignore[arg-type]
    return read_in_process(tmp_path / "file.npz", tmp_path / "out", **options)


def reject_members(tmp_path: Path, members: dict[str, bytes]) -> Refusal:
    refusal = read_in_process(write_zip(tmp_path / "file.npz", members), tmp_path / "out")
    assert isinstance(refusal, Refusal)
    return refusal


def test_keras_keys_keep_their_parts_and_their_order(tmp_path: Path) -> None:
    arrays = {"x_train": IMAGES[:40], "y_train": LABELS[:40].copy(), "x_test": IMAGES[20:], "y_test": LABELS[20:]}
    arrays["y_train"][:2] = arrays["y_test"][-2:]
    described = read(tmp_path, arrays)
    assert isinstance(described, Description)
    x_train, y_train, x_test, y_test = load_four(tmp_path / "out")
    assert (x_train.tobytes(), x_test.tobytes()) == (IMAGES[:40].tobytes(), IMAGES[20:].tobytes())
    assert described.class_names == ["3", "7", "12"]
    np.testing.assert_array_equal(np.array([3, 7, 12])[y_train], arrays["y_train"])
    np.testing.assert_array_equal(np.array([3, 7, 12])[y_test], arrays["y_test"])
    assert (described.kind, described.shape, described.scale) == ("image", (6, 5, 1), 255.0)
    assert (tmp_path / "out" / "preview.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("keys", [("x", "y"), ("X", "y"), ("data", "target")])
def test_one_part_is_shuffled_and_cut_by_class(tmp_path: Path, keys: tuple[str, str]) -> None:
    rows: NDArray[Any] = np.arange(240, dtype=float).reshape(60, 4)
    arrays = {keys[0]: rows, keys[1]: LABELS, "target_names": np.array(["a"], dtype=object)}
    described = read(tmp_path, arrays, random_state=5)
    assert isinstance(described, Description)
    x_train, y_train, x_test, y_test = load_four(tmp_path / "out")
    assert (described.train_class_counts, described.test_class_counts) == ([16] * 3, [4] * 3)
    order = np.random.RandomState(5).permutation(60)
    assert x_train[:, 0].tolist() == [4 * row for row in order if 4 * row in x_train[:, 0]]
    both = np.concatenate([x_train, x_test])
    np.testing.assert_array_equal(both[np.argsort(both[:, 0])], rows)
    classes = np.repeat([0, 1, 2], 20)
    np.testing.assert_array_equal(classes[(x_train[:, 0] / 4).astype(int)], y_train)
    np.testing.assert_array_equal(classes[(x_test[:, 0] / 4).astype(int)], y_test)
    assert x_train.dtype == np.float32
    assert described.warnings == ["left out, no part of the data set: target_names"]
    assert described.columns is not None
    assert described.columns[0]["name"] == "x0"
    assert described.columns[0]["max"] == x_train[:, 0].max()


def test_medmnist_keys_add_the_validation_part_to_the_training_part(tmp_path: Path) -> None:
    colour = RANDOM.randint(0, 256, (60, 6, 5, 3)).astype(np.uint8)
    labels = np.arange(60)[:, None] % 3
    arrays: dict[str, NDArray[Any]] = {"train_images": colour[:30], "train_labels": labels[:30]}
    arrays |= {"val_images": colour[30:45], "val_labels": labels[30:45]}
    arrays |= {"test_images": colour[45:], "test_labels": labels[45:]}
    described = read(tmp_path, arrays)
    assert isinstance(described, Description)
    assert (described.train_samples, described.test_samples, described.shape) == (45, 15, (6, 5, 3))
    np.testing.assert_array_equal(load_four(tmp_path / "out")[0], colour[:45])
    assert "val_images" in described.warnings[0]


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (np.array(["tulip", "daisy"] * 30), ["daisy", "tulip"]),
        (np.array([True, False] * 30), ["False", "True"]),
        (np.array([10.0, 9.0] * 30), ["9", "10"]),
        (np.array([-1, 1] * 30, dtype=np.int8)[:, None], ["-1", "1"]),
    ],
)
def test_labels_of_any_kind_become_classes_in_order(tmp_path: Path, labels: NDArray[Any], names: list[str]) -> None:
    described = read(tmp_path, {"x": IMAGES, "y": labels})
    assert isinstance(described, Description)
    assert described.class_names == names
    y_train = load_four(tmp_path / "out")[1]
    assert y_train.dtype == np.uint8
    assert np.bincount(y_train).tolist() == [24, 24]


def test_more_than_256_classes_are_uint16(tmp_path: Path) -> None:
    described = read(tmp_path, {"x": np.ones((900, 2), dtype=np.int64), "y": np.arange(900) % 300})
    assert isinstance(described, Description)
    assert load_four(tmp_path / "out")[3].dtype == np.uint16
    assert described.bytes == 900 * (2 * 4 + 2)


def test_rows_of_pixels_become_images_where_they_are_said_to_be(tmp_path: Path) -> None:
    flat = np.asfortranarray(IMAGES.reshape(60, 30).astype(np.int64))
    described = read(tmp_path, {"x": flat, "y": LABELS}, image_shape=(6, 5, 1))
    assert isinstance(described, Description)
    assert (described.kind, described.shape) == ("image", (6, 5, 1))
    x_train = load_four(tmp_path / "out")[0]
    assert x_train.shape == (48, 6, 5)
    order = [row for row in np.random.RandomState(0).permutation(60) if IMAGES[row].tobytes() in map(bytes, x_train)]
    np.testing.assert_array_equal(x_train, IMAGES[order])


def test_amounts_are_float32_and_their_test_part_is_the_last_of_the_shuffled_rows(tmp_path: Path) -> None:
    y = np.linspace(0, 1, 60)
    described = read(tmp_path, {"x": IMAGES.reshape(60, 30), "y": y}, task="regression", test_share=0.25)
    assert isinstance(described, Description)
    order = np.random.RandomState(0).permutation(60)
    np.testing.assert_array_equal(load_four(tmp_path / "out")[3], y[order][45:].astype(np.float32))
    assert (described.classes, described.class_names, described.smallest_train) == (0, None, tuple(range(2, 11)))


def test_the_smallest_training_part_is_the_one_that_scikit_learn_accepts(tmp_path: Path) -> None:
    described = read(tmp_path, {"x": IMAGES, "y": np.arange(60) % 7})
    assert isinstance(described, Description)
    y_train = load_four(tmp_path / "out")[1]
    for folds, least in zip(range(2, 9), described.smallest_train, strict=False):
        splitter = StratifiedKFold(folds)
        with pytest.raises(ValueError, match=r"n_splits|number of splits"):
            next(splitter.split(np.zeros(least - 1), y_train[: least - 1]))
        assert least >= folds
    assert described.smallest_train[-1] == len(y_train) + 1  # no class has ten


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": IMAGES / 255, "y": LABELS}, r"float64 of 0 to 1: send whole numbers 0 to 255 as uint8"),
        ({"x": IMAGES.astype(int) + 300, "y": LABELS}, "0 to 255 as uint8"),
        ({"x": IMAGES, "y": LABELS[1:]}, "it has 60 rows, and there are 59 labels"),
        ({"x": IMAGES, "y": np.eye(60)}, "argmax"),
        ({"x": IMAGES, "y": LABELS / 7}, "task=regression"),
        ({"x": IMAGES, "y": np.arange(60)}, "at least two training samples"),
        ({"x": IMAGES, "y": LABELS * 0}, "at least two classes"),
        ({"x": np.full((60, 2), np.nan), "y": LABELS}, r"\[0, 0\] is nan"),
        ({"x": np.full((60, 2), 1e39), "y": LABELS}, "finite float32"),
        ({"x": np.zeros((60, 3, 32, 32), np.uint8), "y": LABELS}, "height, width"),
        ({"x": np.zeros((60, 600, 2), np.uint8), "y": LABELS}, "smaller"),
        ({"x": np.zeros((60, 2001), np.uint8), "y": LABELS}, "at most 2,000"),
        ({"x": np.zeros((60, 2), complex), "y": LABELS}, "only numbers and text"),
        ({"x": np.zeros((0, 2)), "y": LABELS}, "no rows"),
        ({"images": IMAGES, "y": LABELS}, "called images, y"),
        ({"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES}, "missing"),
        ({"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES[:, 1:], "y_test": LABELS}, "training part"),
        ({"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES, "y_test": LABELS + 1}, "fewer: '4'"),
    ],
)
def test_arrays_that_do_not_fit_are_rejected(tmp_path: Path, arrays: dict[str, NDArray[Any]], message: str) -> None:
    refusal = read(tmp_path, arrays)
    assert isinstance(refusal, Refusal)
    assert refusal.status == 422
    assert re.search(message, refusal.errors[0]["message"]), refusal


@pytest.mark.parametrize(
    ("options", "pointer"),
    [
        ({"task": "regression"}, "/task"),
        ({"color": "rgb"}, "/color"),
        ({"image_size": (7, 7)}, "/image_size"),
        ({"image_shape": (7, 7, 1)}, "/image_shape"),
    ],
)
def test_options_that_do_not_fit_are_named(tmp_path: Path, options: dict[str, Any], pointer: str) -> None:
    refusal = read(tmp_path, {"x": IMAGES, "y": LABELS}, **options)
    assert isinstance(refusal, Refusal)
    assert [error["pointer"] for error in refusal.errors] == [pointer]


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    refusal = read(tmp_path, {"x": IMAGES, "y": np.array([Trap()] * 60, dtype=object)})
    assert isinstance(refusal, Refusal)
    assert (refusal.errors[0]["file"], "never objects" in refusal.errors[0]["message"]) == ("y.npy", True)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "shape", [(10**12,), (2**62, 2**62, 2**62), (-4, -15), (1, 61)], ids=["3.6 TiB", "overflow", "negative", "longer"]
)
def test_a_header_that_declares_more_than_there_is_allocates_nothing(tmp_path: Path, shape: tuple[int, ...]) -> None:
    member = write_npy(np.zeros(60, np.float32), shape)
    with allocating_less_than(20_000_000):
        refusal = reject_members(tmp_path, {"x.npy": member, "y.npy": write_npy(LABELS)})
    assert refusal.errors


@pytest.mark.parametrize(
    "header",
    [
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff",
        b"\x93NUMPY\x01\x00\x10\x27" + b"(" * 10_000,
        b"\x93NUMPY\x01\x00\x10\x00__import__('os')",
        b"\x93NUMPY\x03\x00\x10\x00",
        b"PK\x03\x04",
        b"",
    ],
)
def test_headers_of_any_other_kind_are_rejected(tmp_path: Path, header: bytes) -> None:
    refusal = reject_members(tmp_path, {"x.npy": header, "y.npy": write_npy(LABELS)})
    assert refusal.errors[0]["file"] == "x.npy"


def test_a_bomb_that_inflates_beyond_its_declared_size_is_cut_off(tmp_path: Path) -> None:
    """The directory and the header agree on 60 numbers, the member goes on for 4 MB."""
    bomb = write_npy(np.zeros(2**20, np.float32), (60,))
    path = write_zip(tmp_path / "a.npz", {"x.npy": bomb, "y.npy": write_npy(LABELS)})
    claim_size(path, len(bomb), len(bomb) - 4 * (2**20 - 60))
    with allocating_less_than(3_000_000):
        refusal = read_in_process(path, tmp_path / "out")
    assert isinstance(refusal, Refusal)
    assert refusal.errors[0]["file"] == "x.npy"
    assert "damaged" in refusal.errors[0]["message"]


def test_a_declared_total_beyond_two_gibibytes_is_413(tmp_path: Path) -> None:
    """A small archive: nothing is inflated before all headers have been added up."""
    member = write_npy(np.zeros(0, np.uint8), (3 * 2**30,))
    path = write_zip(tmp_path / "a.npz", {"x.npy": member, "y.npy": write_npy(LABELS)})
    claim_size(path, len(member), len(member) + 3 * 2**30)
    refusal = read_in_process(path, tmp_path / "out")
    assert isinstance(refusal, Refusal)
    assert (refusal.status, "at most 2 GiB" in refusal.errors[0]["message"]) == (413, True)


@pytest.mark.parametrize(
    "name", ["../x.npy", "/x.npy", "a/../x.npy", "a\\x.npy", "C:x.npy", "x\x07.npy", "a/b/c/d/x.npy", "x" * 256, "//x"]
)
def test_names_that_lead_elsewhere_are_rejected(tmp_path: Path, name: str) -> None:
    refusal = reject_members(tmp_path, {name: b"1", "y.npy": b"2"})
    assert "name" in refusal.errors[0]["message"]
    assert len(refusal.errors[0]["file"]) <= 40


def test_links_are_rejected(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("x.npy")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    refusal = read_in_process(tmp_path / "a.npz", tmp_path / "out")
    assert isinstance(refusal, Refusal)
    assert "link" in refusal.errors[0]["message"]


def test_encrypted_members_are_rejected(tmp_path: Path) -> None:
    path = encrypt(write_zip(tmp_path / "a.npz", {"x.npy": write_npy(IMAGES), "y.npy": write_npy(LABELS)}))
    refusal = read_in_process(path, tmp_path / "out")
    assert isinstance(refusal, Refusal)
    assert "encrypted" in refusal.errors[0]["message"]


def test_unusual_compression_is_rejected(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.npz", {"x.npy": b"1"}, zipfile.ZIP_BZIP2)
    refusal = read_in_process(path, tmp_path / "out")
    assert isinstance(refusal, Refusal)
    assert "deflate" in refusal.errors[0]["message"]


def test_overlapping_members_are_rejected(tmp_path: Path) -> None:
    path = overlap(write_zip(tmp_path / "a.npz", {"x.npy": bytes(10_000)}), 9, "x.npy")
    refusal = read_in_process(path, tmp_path / "out")
    assert isinstance(refusal, Refusal)
    assert "overlaps" in refusal.errors[0]["message"]


@pytest.mark.parametrize(("entries", "length"), [(11_000_000, 512 * 2**20), (3, 512 * 2**20)])
def test_a_huge_directory_is_rejected_unread(tmp_path: Path, entries: int, length: int) -> None:
    path = claim_entries(tmp_path / "a.npz", entries, length)  # a sparse file
    with allocating_less_than(5_000_000):
        refusal = read_in_process(path, tmp_path / "out")
    assert isinstance(refusal, Refusal)
    assert refusal.status == 413


def test_an_archive_that_was_cut_off_anywhere_is_rejected(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.npz", {"x.npy": write_npy(IMAGES), "y.npy": write_npy(LABELS)})
    content = path.read_bytes()
    for length in range(0, len(content) - 1, len(content) // 8):
        path.write_bytes(content[:length])
        assert isinstance(read_in_process(path, tmp_path / "out"), Refusal), length
    assert not list((tmp_path / "out").iterdir())


def test_a_flipped_byte_is_noticed(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.npz", {"x.npy": write_npy(IMAGES), "y.npy": write_npy(LABELS)}, zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    content[content.index(IMAGES.tobytes()[:20]) + 5] ^= 1
    path.write_bytes(content)
    refusal = read_in_process(path, tmp_path / "out")
    assert isinstance(refusal, Refusal)
    assert refusal.errors[0]["file"] == "x.npy"
