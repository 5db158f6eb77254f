"""Files for the tests of uploads, honest and hostile."""

import io
import struct
import tracemalloc
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from app.intake.answers import Description, Options, Refusal, Rejected
from app.intake.reading import convert_file


def read_in_process(file: Path, folder: Path, **options: Any) -> Description | Refusal:
    """What the child does with a file, without the child; a rejection as its answer."""
    folder.mkdir(exist_ok=True)
    try:
        return convert_file(file, folder, Options("flowers", **options))
    except Rejected as rejected:
        return rejected.describe("flowers")


def load_four(folder: Path) -> list[NDArray[Any]]:
    """x_train, y_train, x_test and y_test."""
    return [np.load(folder / f"{name}.npy") for name in ("x_train", "y_train", "x_test", "y_test")]


def write_npy(array: NDArray[Any], shape: tuple[int, ...] | None = None, descr: str | None = None) -> bytes:
    """An npy member, whose header may say something else than its content."""
    header = {"descr": descr or npy.dtype_to_descr(array.dtype), "fortran_order": False, "shape": shape or array.shape}
    buffer = io.BytesIO()
    npy.write_array_header_1_0(buffer, header)
    return buffer.getvalue() + array.tobytes()


def write_zip(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    """A zip archive of these members."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return path


def encrypt(path: Path) -> Path:
    """The archive with the first member's entry and header marked as encrypted."""
    content = bytearray(path.read_bytes())
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    return path


def overlap(path: Path, copies: int, name: str) -> Path:
    """The archive's first member listed so often, each time at the same place."""
    content = path.read_bytes()
    start = content.index(b"PK\x01\x02")
    entry = content[start : content.index(b"PK\x05\x06")]
    entries = b"".join(entry.replace(name.encode(), name.encode()[:-1] + b"%c" % (48 + copy)) for copy in range(copies))
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, copies, copies, len(entries), start, 0)
    path.write_bytes(content[:start] + entries + end)
    return path


def claim_entries(path: Path, entries: int, length: int) -> Path:
    """An archive whose ZIP64 end record claims so many entries in a directory of so many bytes."""
    end_64 = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, entries, entries, length, 4)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, 4 + length, 1)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    with path.open("wb") as file:
        file.write(b"PK\x03\x04")
        file.truncate(4 + length)
        file.seek(4 + length)
        file.write(end_64 + locator + end)
    return path


def claim_size(path: Path, size: int, claimed: int) -> Path:
    """The archive with another inflated size in the directory and the headers of its members of this size."""
    path.write_bytes(path.read_bytes().replace(size.to_bytes(4, "little"), claimed.to_bytes(4, "little")))
    return path


@contextmanager
def allocating_less_than(most: int) -> Iterator[None]:
    """Check that what is done inside never holds so many bytes at once."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < most
