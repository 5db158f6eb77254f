"""Opens a zip archive after checking its directory; nothing of it is ever extracted to a path of its own."""

import gzip
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from app.intake.answers import Fault, Rejected, quote, reject
from app.intake.limits import DEPTH, DIRECTORY_BYTES, MEMBERS, NAME_BYTES

# The end records of APPNOTE 6.3, sections 4.3.16, 4.3.15 and 4.3.14.
END = struct.Struct("<4s4H2LH")
LOCATOR = struct.Struct("<4sLQL")
END_64 = struct.Struct("<4sQ2H2L4Q")
LOCAL_HEADER_BYTES = 30
ENCRYPTED = 0x1 | 0x40 | 0x2000  # by password, strongly, or the directory itself
UNREADABLE_MEMBER = (zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError, NotImplementedError, struct.error)


@contextmanager
def open_archive(file: Path) -> Iterator[zipfile.ZipFile]:
    """The archive, whose directory and members have been checked.

    Raises:
        Rejected: it is damaged, too large, encrypted, or its members overlap or have names that lead elsewhere.
    """
    with file.open("rb") as source:
        declared, start = _read_end(source)
    try:
        archive = zipfile.ZipFile(file)
    except (*UNREADABLE_MEMBER, ValueError) as error:
        raise reject(f"the zip archive is damaged: {error}") from error
    with archive:
        if len(archive.infolist()) != declared:
            raise reject("the zip archive is damaged: its directory has another length than it says")
        _check_members(archive.infolist(), start)
        yield archive


@contextmanager
def reading_member(name: str) -> Iterator[None]:
    """What a damaged member raises becomes a rejection that names it."""
    try:
        yield
    except UNREADABLE_MEMBER as error:
        raise reject(f"the archive is damaged here: {error}", file=name) from error


def _read_end(source: BinaryIO) -> tuple[int, int]:
    """The number of entries and the directory's place, by the end record, before the directory itself is read."""
    size = source.seek(0, 2)
    tail_start = max(0, size - END.size - 65535 - LOCATOR.size - END_64.size)
    source.seek(tail_start)
    tail = source.read()
    place = tail.rfind(b"PK\x05\x06")
    if place < 0 or len(tail) < place + END.size:
        raise reject("the zip archive has no end record: the file was cut off")
    _, disk, first_disk, _, entries, length, start, _ = END.unpack_from(tail, place)
    end = tail_start + place
    if 0xFFFF in (entries, disk) or 0xFFFFFFFF in (length, start):
        place -= LOCATOR.size + END_64.size
        if place < 0 or tail[place : place + 4] != b"PK\x06\x06":
            raise reject("the zip archive is damaged: it has no ZIP64 end record where one belongs")
        _, _, _, _, disk, first_disk, _, entries, length, start = END_64.unpack_from(tail, place)
        end = tail_start + place
    if disk or first_disk:
        raise reject("the zip archive is one part of several: send one file")
    if entries > MEMBERS or length > DIRECTORY_BYTES:
        raise reject(f"the zip archive lists {entries:,} files; at most {MEMBERS:,} are read", status=413)
    if start + length != end:
        raise reject("the zip archive is damaged: its directory is not where the end record says")
    return entries, start


def _check_members(members: list[zipfile.ZipInfo], directory: int) -> None:
    faults = [Fault(wrong, file=info.filename) for info in members if (wrong := _find_wrong(info))]
    if faults:
        raise Rejected(*faults[:10], found=len(faults))
    if len({info.filename for info in members}) < len(members):
        raise reject("the zip archive has two files of one name")
    in_order = sorted(members, key=lambda info: info.header_offset)
    starts = [info.header_offset for info in in_order[1:]] + [directory]
    for info, following in zip(in_order, starts, strict=False):
        if info.header_offset + LOCAL_HEADER_BYTES + len(info.orig_filename) + info.compress_size > following:
            raise reject("it overlaps the next file of the archive, as in a zip bomb", file=info.filename)


def _find_wrong(info: zipfile.ZipInfo) -> str | None:
    """What is wrong with a member's entry."""
    name = info.orig_filename
    parts = name.rstrip("/").split("/")
    if info.flag_bits & ENCRYPTED:
        return "it is encrypted: send the archive without a password"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "it is compressed in a way that is not read: use deflate, or none"
    if len(name.encode(errors="surrogatepass")) > NAME_BYTES or len(parts) > DEPTH:
        return f"its name is too long: at most {NAME_BYTES} bytes and {DEPTH} levels of folders"
    if "\\" in name or ":" in name or not name.isprintable() or {"", ".", ".."} & set(parts):
        return "its name leads elsewhere or has control characters: use plain folder and file names"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "it is a link: send the file itself"
    return None


def list_members(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The files by name; without folders, hidden files and what macOS adds."""
    files = [info for info in archive.infolist() if not info.is_dir()]
    return sorted(
        (info for info in files if not any(part.startswith((".", "__MACOSX")) for part in info.filename.split("/"))),
        key=lambda info: info.filename.split("/"),
    )


def name_file(info: zipfile.ZipInfo) -> str:
    """A member's name for messages and warnings."""
    return quote(info.filename, 100)
