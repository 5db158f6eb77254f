"""Zips of image folders: parts, classes, sizes and colours, and files that are no images or too large."""

import io
import os
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_images

from app.intake.answers import Description, Refusal
from tests.intake.files import allocating_less_than, load_four, read_in_process, write_zip


def to_file(pixels: NDArray[Any], format: str = "PNG", mode: str | None = None) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(buffer, format=format)
    return buffer.getvalue()


def make_flat(value: int | tuple[int, int, int], height: int = 6, width: int = 5) -> NDArray[np.uint8]:
    """An image of one colour, or of one grey."""
    shape = (height, width) if isinstance(value, int) else (height, width, 3)
    return np.full(shape, value, np.uint8)


def make_members(folders: tuple[str, ...] = ("daisy", "roses"), count: int = 5) -> dict[str, bytes]:
    """So many grey images a folder, each of another grey."""
    return {
        f"{folder}/{number}.png": to_file(make_flat(20 * at + number + 1))
        for at, folder in enumerate(folders)
        for number in range(count)
    }


def read(tmp_path: Path, members: dict[str, bytes], **options: Any) -> Description | Refusal:
    return read_in_process(write_zip(tmp_path / "file.zip", members), tmp_path / "out", **options)


def read_errors(tmp_path: Path, members: dict[str, bytes], **options: Any) -> list[dict[str, Any]]:
    refusal = read(tmp_path, members, **options)
    assert isinstance(refusal, Refusal)
    return refusal.errors


@pytest.mark.parametrize("top", ["", "flowers/"])
def test_folders_are_classes(tmp_path: Path, top: str) -> None:
    members = {top + name: content for name, content in make_members().items()}
    members |= {f"{top}LICENSE.txt": b"free", f"{top}.DS_Store": b"", "__MACOSX/._1.png": b""}
    described = read(tmp_path, members)
    assert isinstance(described, Description)
    assert (described.format, described.kind, described.shape) == ("image_folders", "image", (6, 5, 1))
    assert described.class_names == ["daisy", "roses"]
    assert (described.train_class_counts, described.test_class_counts) == ([4, 4], [1, 1])
    assert described.warnings[0] == f"left out, no images: {top}LICENSE.txt"
    x_train, y_train, x_test, y_test = load_four(tmp_path / "out")
    for x, y in ((x_train, y_train), (x_test, y_test)):
        assert ((x > 20) == y[:, None, None]).all()
    order = np.random.RandomState(0).permutation(10)
    greys = [20 * at + number + 1 for at in range(2) for number in range(5)]
    assert x_train[:, 0, 0].tolist() == [greys[row] for row in order if greys[row] in x_train]


@pytest.mark.parametrize("top", ["", "data/"])
def test_train_and_test_folders_are_parts_and_the_training_part_is_shuffled(tmp_path: Path, top: str) -> None:
    members = {f"{top}train/{name}": content for name, content in make_members(count=8).items()}
    members |= {f"{top}test/{name}": content for name, content in make_members(count=3).items()}
    members |= {f"{top}val/{name}": content for name, content in make_members(count=1).items()}
    described = read(tmp_path, members)
    assert isinstance(described, Description)
    assert (described.train_class_counts, described.test_class_counts) == ([9, 9], [3, 3])
    assert "images in val were added to the training part" in described.warnings
    _, y_train, x_test, _ = load_four(tmp_path / "out")
    assert sorted(y_train.tolist()) != y_train.tolist()
    assert x_test[:, 0, 0].tolist() == [1, 2, 3, 21, 22, 23]


def test_classes_are_in_the_order_of_keras(tmp_path: Path) -> None:
    """Folder names by character: capitals first, 10 before 9; hidden ones are none; folders below belong to theirs."""
    folders = ("b", "B", "10", "9", "a b", "äpfel", "a/inner", "_x", ".hidden")
    for folder in folders:
        (tmp_path / "tree" / folder).mkdir(parents=True)
    # keras/src/utils/dataset_utils.py, index_directory: sorted(os.listdir), folders only, none that begins with a dot
    expected = [name for name in sorted(os.listdir(tmp_path / "tree")) if not name.startswith(".")]  # noqa: PTH208
    described = read(tmp_path, make_members(folders, 3))
    assert isinstance(described, Description)
    assert described.class_names == expected


def test_the_two_photographs_of_scikit_learn(tmp_path: Path) -> None:
    china, flower = load_sample_images().images
    members = {
        f"{name}/{number}.{'png' if number else 'jpg'}": to_file(photo[:200, number:], "PNG" if number else "JPEG")
        for name, photo in (("china", china), ("flower", flower))
        for number in range(3)
    }
    described = read(tmp_path, members, image_size=(32, 48), test_share=0.34)
    assert isinstance(described, Description)
    assert described.shape == (32, 48, 3)
    assert described.warnings[0] == "6 images were resized to 32 by 48"
    x_train, y_train, _, _ = load_four(tmp_path / "out")
    means = {name: photo[:200].mean(axis=(0, 1)) for name, photo in (("china", china), ("flower", flower))}
    for image, label in zip(x_train, y_train, strict=True):
        np.testing.assert_allclose(image.mean(axis=(0, 1)), means[("china", "flower")[label]], atol=2)
    with Image.open(tmp_path / "out" / "preview.png") as preview:
        assert preview.mode == "RGB"


def test_most_images_decide_the_colour(tmp_path: Path) -> None:
    members = make_members()
    described = read(tmp_path, members | {"roses/9.png": to_file(make_flat((90, 90, 90)))})
    assert isinstance(described, Description)
    assert (described.shape, described.warnings[0]) == ((6, 5, 1), "1 images were converted to grayscale")
    described = read(tmp_path, members, color="rgb")
    assert isinstance(described, Description)
    assert described.shape == (6, 5, 3)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16", "CMYK"])
def test_modes_of_pillow_become_bytes(tmp_path: Path, mode: str) -> None:
    if mode == "I;16":
        content = to_file(make_flat(255).astype(np.uint16) * 257)
    else:
        content = to_file(make_flat((255, 255, 255)), "JPEG" if mode == "CMYK" else "PNG", mode)
    described = read(tmp_path, make_members() | {"roses/9.png": content}, color="grayscale")
    assert isinstance(described, Description)
    x_train, _, x_test, _ = load_four(tmp_path / "out")
    assert max(x_train.max(), x_test.max()) == 255


def test_images_of_many_sizes_need_a_size(tmp_path: Path) -> None:
    members = make_members() | {"roses/9.png": to_file(make_flat(9, 8, 8))}
    error = read_errors(tmp_path, members)[0]
    assert (error["pointer"], "6x5, 8x8" in error["message"]) == ("/image_size", True)
    described = read(tmp_path, members, image_size=(3, 4))
    assert isinstance(described, Description)
    assert (described.shape, described.warnings[0]) == ((3, 4, 1), "11 images were resized to 3 by 4")
    large = {f"{name}/{at}.png": to_file(make_flat(at, 513, 1)) for name in "ab" for at in range(3)}
    assert read_errors(tmp_path, large)[0]["pointer"] == "/image_size"
    assert read_errors(tmp_path, make_members(), image_size=(513, 5))[0]["pointer"] == "/image_size"


def test_resizing_averages_areas(tmp_path: Path) -> None:
    halves = np.concatenate([make_flat(10, 4, 8), make_flat(30, 4, 8)])
    described = read(
        tmp_path, {f"{name}/{at}.png": to_file(halves) for name in "ab" for at in range(4)}, image_size=(1, 1)
    )
    assert isinstance(described, Description)
    assert set(load_four(tmp_path / "out")[0].ravel().tolist()) == {20}


def test_files_that_are_no_images_are_named(tmp_path: Path) -> None:
    gif = io.BytesIO()
    Image.fromarray(make_flat(3)).save(gif, format="GIF")
    bad = {"roses/a.png": b"no image", "roses/b.jpg": gif.getvalue(), "daisy/c.png": b""}
    errors = read_errors(tmp_path, make_members() | bad)
    assert [error["file"] for error in errors] == ["daisy/c.png", "roses/a.png", "roses/b.jpg"]
    assert {error["message"] for error in errors} == {"it is no PNG or JPEG image"}
    many = {f"roses/bad{number}.png": b"" for number in range(30)}
    assert len(read_errors(tmp_path, make_members() | many)) == 10


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_images_that_were_cut_off_are_named(tmp_path: Path, format: str) -> None:
    whole = to_file(np.random.RandomState(0).randint(0, 256, (6, 5)).astype(np.uint8), format)
    for length in range(len(whole) // 2, len(whole) - 16, len(whole) // 8):
        errors = read_errors(tmp_path, make_members() | {"roses/cut.png": whole[:length]})
        assert [error["file"] for error in errors] == ["roses/cut.png"], length


def test_flipped_bytes_are_an_image_or_a_rejection(tmp_path: Path) -> None:
    """Whatever Pillow's decoders raise for them."""
    random = np.random.RandomState(1)
    whole = [to_file(random.randint(0, 256, (6, 5, 3)).astype(np.uint8), format) for format in ("PNG", "JPEG")]
    for at in range(16):
        broken = bytearray(whole[at % 2])
        broken[random.randint(len(broken))] ^= 1 << random.randint(8)
        answer = read(tmp_path, make_members() | {"roses/broken.png": bytes(broken)}, image_size=(6, 5))
        assert isinstance(answer, Description) or [error["file"] for error in answer.errors] == ["roses/broken.png"]


def make_png_bomb(width: int, height: int) -> bytes:
    """A PNG that declares so many pixels; its data are a few bytes."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(("width", "height"), [(5001, 5000), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
def test_image_bombs_are_rejected_undecoded(tmp_path: Path, width: int, height: int) -> None:
    members = make_members() | {"roses/bomb.png": make_png_bomb(width, height)}
    with allocating_less_than(5_000_000):
        errors = read_errors(tmp_path, members, image_size=(6, 5))
    assert [error["file"] for error in errors] == ["roses/bomb.png"]
    assert "25,000,000 pixels" in errors[0]["message"]


def test_a_member_that_inflates_without_end_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.intake.images.IMAGE_FILE_BYTES", 10_000)
    errors = read_errors(tmp_path, make_members() | {"roses/bomb.png": bytes(2**24)})
    assert "10,000 bytes" in errors[0]["message"]


def test_pixels_of_all_images_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.intake.images.ALL_PIXELS", 100)
    refusal = read(tmp_path, make_members())
    assert isinstance(refusal, Refusal)
    assert refusal.status == 413


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["daisy/a.txt", "b.csv"], "no PNG or JPEG images, but b.csv, daisy/a.txt"),
        (["a.png", "roses/b.png"], "lies in no folder of a class"),
        (["daisy/a.png", "daisy/b.png"], "at least two classes"),
        (["x" * 65 + "/a.png", "b/b.png"], "1 to 64 printable"),
        (["train/a.png", "train/b/b.png", "test/c/c.png"], "lies in no folder"),
        (["train/a/1.png", "train/a/2.png", "train/b/1.png", "train/b/2.png", "test/c/1.png"], "have fewer: 'c'"),
    ],
)
def test_folders_that_are_no_classes(tmp_path: Path, names: list[str], message: str) -> None:
    assert message in read_errors(tmp_path, {name: to_file(make_flat(7)) for name in names})[0]["message"]


def test_options_of_tables_are_rejected(tmp_path: Path) -> None:
    assert read_errors(tmp_path, make_members(), task="regression")[0]["pointer"] == "/task"
    assert read_errors(tmp_path, make_members(), image_shape=(6, 5, 1))[0]["pointer"] == "/image_shape"


def test_a_damaged_member_is_named(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "file.zip", make_members(), zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 6] ^= 1
    path.write_bytes(content)
    refusal = read_in_process(path, tmp_path / "out")
    assert isinstance(refusal, Refusal)
    assert refusal.errors[0]["file"] == "daisy/0.png"


def test_an_office_document_is_415(tmp_path: Path) -> None:
    refusal = read(tmp_path, {"[Content_Types].xml": b"<Types/>", "xl/workbook.xml": b""})
    assert isinstance(refusal, Refusal)
    assert (refusal.status, "CSV" in refusal.errors[0]["message"]) == (415, True)


def test_images_of_other_formats_are_named_and_not_left_out(tmp_path: Path) -> None:
    errors = read_errors(tmp_path, make_members() | {"daisy/7.GIF": to_file(make_flat(1), "GIF"), "notes.txt": b"x"})
    assert errors == [{"pointer": "", "file": "daisy/7.GIF", "message": "only PNG and JPEG are read: convert it"}]
