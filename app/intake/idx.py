"""Reads the IDX files of MNIST and its relatives, zipped together."""

import gzip
import re
import zipfile
from pathlib import Path
from typing import IO, cast

import numpy as np

from app.intake.answers import Options, quote, reject
from app.intake.content import AnyArray, Content
from app.intake.from_arrays import make_content
from app.intake.limits import COPIED_BYTES, DECODED_BYTES, GIB
from app.intake.zips import list_members, reading_member

# train-images-idx3-ubyte.gz, emnist-letters-test-labels-idx1-ubyte.gz and the like
IDX_NAME = re.compile(
    r"(?:.*/)?(?P<set>.*?)(?P<part>train|t10k|test)[-_.]?(?P<what>images|labels)[-_.]idx\d[-_.]ubyte(?:\.gz)?"
)
GZIP = b"\x1f\x8b"
UBYTE = b"\x00\x00\x08"
ROLES = [("train", "images"), ("train", "labels"), ("test", "images"), ("test", "labels")]


def are_idx_files(names: list[str]) -> bool:
    """Whether an archive of these files is one of IDX files."""
    return any(IDX_NAME.fullmatch(name) for name in names)


def read_idx(archive: zipfile.ZipFile, options: Options, scratch: Path) -> Content:
    """Images and labels of the training part and, if there is one, of the test part, in their own order.

    Raises:
        Rejected: files are missing or more than one set, or their content is not what their sizes say.
    """
    found: dict[tuple[str, str], zipfile.ZipInfo] = {}
    left_out = []
    for info in list_members(archive):
        if not (name := IDX_NAME.fullmatch(info.filename)):
            left_out.append(quote(info.filename))
            continue
        role = ("train" if name["part"] == "train" else "test", name["what"])
        if role in found:
            message = f"beside {quote(found[role].filename)} it is a second set: send one of them"
            raise reject(message, file=info.filename)
        found[role] = info
    if missing := [" ".join(role) for role in ROLES if role not in found and (role[0] == "train" or len(found) == 3)]:
        raise reject(f"the {' and the '.join(missing)} are missing: send train-images-idx3-ubyte.gz and its like")
    left = DECODED_BYTES
    arrays: list[AnyArray] = []
    for role in ROLES[: len(found)]:
        arrays.append(_map_idx(archive, found[role], left, scratch / "-".join(role)))
        left -= arrays[-1].nbytes
    names = [found[role].filename for role in ROLES[: len(found)] if role[1] == "images"]
    warnings = [f"left out, no part of the data set: {', '.join(left_out[:5])}"] if left_out else []
    return make_content(arrays[::2], arrays[1::2], names, options, warnings)


def _map_idx(archive: zipfile.ZipFile, info: zipfile.ZipInfo, left: int, path: Path) -> AnyArray:
    """The array in a file mapped into memory: magic number, big-endian lengths, then bytes, which are counted."""
    with reading_member(info.filename), archive.open(info) as member, path.open("wb") as copy:
        packed = cast(zipfile.ZipExtFile, member).peek(2)[:2] == GZIP
        source = cast(IO[bytes], gzip.GzipFile(fileobj=member) if packed else member)
        magic = source.read(4)
        if magic[:3] != UBYTE or not 1 <= magic[3] <= 4:
            raise reject("it is no IDX file of bytes: its magic number is another", file=info.filename)
        shape = tuple(int.from_bytes(source.read(4), "big") for _ in range(magic[3]))
        size = 1
        for length in shape:
            size *= length
        if not size:
            raise reject(f"its shape is {shape}: it has no rows", file=info.filename)
        if size > left:
            raise reject(
                f"it declares {size:,} bytes: at most {DECODED_BYTES // GIB} GiB are read",
                file=info.filename,
                status=413,
            )
        rest = size
        while rest and (piece := source.read(min(COPIED_BYTES, rest))):
            copy.write(piece)
            rest -= len(piece)
        if rest or source.read(1):
            raise reject(f"it declares shape {shape} and has fewer or more bytes", file=info.filename)
    return np.memmap(path, np.uint8, "r", shape=shape)
