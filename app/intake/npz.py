"""Reads npz archives without NumPy's own loader, which would believe any header and run pickles."""

import io
import tokenize
import zipfile
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.lib import format as npy

from app.intake.answers import Options, reject
from app.intake.content import AnyArray, Content
from app.intake.from_arrays import make_content
from app.intake.limits import COPIED_BYTES, DECODED_BYTES, GIB
from app.intake.zips import reading_member

# Of each part of the data, inputs and targets; MedMNIST's validation part is added to the training part.
KEYS: tuple[tuple[tuple[list[str], list[str]], ...], ...] = (
    ((["x_train"], ["y_train"]), (["x_test"], ["y_test"])),
    ((["train_images", "val_images"], ["train_labels", "val_labels"]), (["test_images"], ["test_labels"])),
    ((["x"], ["y"]),),
    ((["X"], ["y"]),),
    ((["data"], ["target"]),),
)
EXPECTED = "there must be x_train, y_train, x_test and y_test; or x and y, X and y, or data and target"
HEADER_BYTES = 10_000
UNBELIEVABLE = (tokenize.TokenError, ValueError, TypeError, SyntaxError, MemoryError, RecursionError, OverflowError)


class Declared(NamedTuple):
    """What the header of an npy member says."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[np.generic]

    @property
    def size(self) -> int:
        """Bytes, in numbers that do not overflow."""
        size = int(self.dtype.itemsize)
        for length in self.shape:
            size *= length
        return size


def read_npz(archive: zipfile.ZipFile, options: Options, scratch: Path) -> Content:
    """The arrays of an npz file by Keras's, scikit-learn's or MedMNIST's keys.

    Raises:
        Rejected: keys, dtypes, shapes or values do not fit.
    """
    members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    parts = _choose_arrays(set(members))
    wanted = [name for x, y in parts for name in (*x, *y)]
    declared = {name: _read_declared(archive, members[name]) for name in wanted}
    if (total := sum(one.size for one in declared.values())) > DECODED_BYTES:
        raise reject(f"the arrays take {total:,} bytes, and at most {DECODED_BYTES // GIB} GiB are read", status=413)
    arrays = [
        _map_arrays(archive, [(members[name], declared[name]) for name in names], scratch)
        for part in parts
        for names in part
    ]
    left_out = sorted(set(members) - set(wanted))
    warnings = [f"left out, no part of the data set: {', '.join(left_out)}"] if left_out else []
    if "val_images" in wanted:
        warnings.append("val_images were added to the training part, after train_images")
    return make_content(arrays[::2], arrays[1::2], [f"{x[0]}.npy" for x, _ in parts], options, warnings)


def _choose_arrays(found: set[str]) -> list[tuple[list[str], list[str]]]:
    for keys in KEYS:
        parts = [([name for name in x if name in found], [name for name in y if name in found]) for x, y in keys]
        if all(parts[0]):
            if any(len(x) != len(y) for x, y in parts):
                raise reject(f"inputs or labels of one part are missing: {EXPECTED}")
            return [part for part in parts if all(part)]
    raise reject(f"the arrays are called {', '.join(sorted(found)[:10])}: {EXPECTED}")


def _read_declared(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Declared:
    with reading_member(info.filename), archive.open(info) as member:
        declared, offset = _read_header(member, info.filename)
    if declared.size != info.file_size - offset:
        raise reject(
            f"it declares shape {declared.shape} of {declared.dtype}, {declared.size:,} bytes, "
            f"and has {info.file_size - offset:,}",
            file=info.filename,
        )
    return declared


def _read_header(member: IO[bytes], name: str) -> tuple[Declared, int]:
    """The header and its length; the text's length is looked at before it is read."""
    magic = member.read(npy.MAGIC_LEN)
    version = magic[len(npy.MAGIC_PREFIX) :]
    if magic[: len(npy.MAGIC_PREFIX)] != npy.MAGIC_PREFIX or version not in (b"\x01\x00", b"\x02\x00"):
        raise reject("it is no plain array: write the file with numpy.savez", file=name)
    width, read = (2, npy.read_array_header_1_0) if version == b"\x01\x00" else (4, npy.read_array_header_2_0)
    length = member.read(width)
    if (characters := int.from_bytes(length, "little")) > HEADER_BYTES:
        raise reject(f"its header has {characters:,} characters: at most {HEADER_BYTES:,} are read", file=name)
    try:
        shape, fortran, dtype = read(io.BytesIO(length + member.read(characters)))
    except UNBELIEVABLE as error:
        raise reject("its header is damaged: write the file with numpy.savez", file=name) from error
    if dtype.kind not in "buifU" or not dtype.itemsize:
        raise reject(
            f"its elements are {dtype}: only numbers and text are read, never objects; use .astype(…) before saving",
            file=name,
        )
    if not shape or min(shape) < 1:
        raise reject(f"its shape is {shape}: it has no rows", file=name)
    return Declared(shape, fortran, dtype), npy.MAGIC_LEN + width + characters


def _map_arrays(archive: zipfile.ZipFile, parts: list[tuple[zipfile.ZipInfo, Declared]], scratch: Path) -> AnyArray:
    """One array in a file mapped into memory, of one member or of several, one after the other."""
    first = parts[0][1]
    if any(part.shape[1:] != first.shape[1:] or part.dtype != first.dtype for _, part in parts):
        raise reject("it does not fit the training part in shape or dtype", file=parts[-1][0].filename)
    if len(parts) > 1 and any(part.fortran for _, part in parts):
        raise reject("it is in Fortran order: use numpy.ascontiguousarray before saving", file=parts[-1][0].filename)
    path = scratch / parts[0][0].filename.replace("/", "_")
    with path.open("wb") as copy:
        for info, part in parts:
            _inflate(archive, info, part.size, copy)
    rows = sum(part.shape[0] for _, part in parts)
    order = "F" if first.fortran else "C"
    return np.memmap(path, first.dtype, "r", shape=(rows, *first.shape[1:]), order=order)  # type: ignore[call-overload,no-any-return]


def _inflate(archive: zipfile.ZipFile, info: zipfile.ZipInfo, size: int, copy: IO[bytes]) -> None:
    with reading_member(info.filename), archive.open(info) as member:
        _read_header(member, info.filename)
        while size and (piece := member.read(min(COPIED_BYTES, size))):
            copy.write(piece)
            size -= len(piece)
        if size or member.read(1):
            raise reject("it has fewer or more bytes than it declares", file=info.filename)
