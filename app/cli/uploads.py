"""What `tunewell upload` sends: a file as it is, or a folder as a zip archive."""

import base64
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast
from zipfile import ZIP_STORED, ZipFile

from app.cli.spec_file import BadFile

READ_BYTES = 2**20
MAX_NAME_LENGTH = 64
SUFFIXES = re.compile(r"(\.(csv|npz|zip|gz|tsv|txt))+$", re.IGNORECASE)


class UploadBody:
    """A file's bytes, from the start each time they are sent."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size, digest = 0, hashlib.sha256()
        for piece in self:
            self.size += len(piece)
            digest.update(piece)
        self.sha256 = digest.digest()

    def __iter__(self) -> Iterator[bytes]:
        self._file.seek(0)
        while piece := self._file.read(READ_BYTES):
            yield piece

    @property
    def headers(self) -> dict[str, str]:
        """The size, and the hash by which the service notices damage on the way (RFC 9530)."""
        return {
            "Content-Length": str(self.size),
            "Repr-Digest": f"sha-256=:{base64.b64encode(self.sha256).decode()}:",
        }


@contextmanager
def open_upload(path: str) -> Iterator[UploadBody]:
    """The body for a file or folder.

    Raises:
        BadFile: it cannot be read.
    """
    try:
        with _open_folder(Path(path)) if Path(path).is_dir() else Path(path).open("rb") as file:
            yield UploadBody(file)
    except OSError as error:
        raise BadFile(f"{error.filename or path}: {error.strerror or error}") from None


def suggest_name(path: str) -> str:
    """The data set's name if none is given: the file's, without its suffix and with what names may contain."""
    name = SUFFIXES.sub("", Path(path).absolute().name)
    return re.sub(r"[^A-Za-z0-9_]+", "-", name)[:MAX_NAME_LENGTH].strip("-_") or "data"


@contextmanager
def _open_folder(folder: Path) -> Iterator[BinaryIO]:
    """An archive of all files below a folder, without compression: images are compressed already."""
    with tempfile.TemporaryFile() as file:
        with ZipFile(file, "w", ZIP_STORED, strict_timestamps=False) as archive:
            for place, folders, names in os.walk(folder):
                folders.sort()
                for path in (Path(place) / name for name in sorted(names)):
                    if path.is_file():
                        archive.write(path, path.relative_to(folder))
        yield cast(BinaryIO, file)
