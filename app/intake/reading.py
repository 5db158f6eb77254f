"""Recognises a file's format by its content, and converts it."""

import errno
import gzip
import json
import tempfile
import traceback
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from app.intake.answers import Description, Options, Refusal, Rejected, quote, reject
from app.intake.columns import to_json
from app.intake.content import Content
from app.intake.folders import ENDINGS
from app.intake.idx import are_idx_files, read_idx
from app.intake.limits import SHOWN_CHARACTERS
from app.intake.npz import read_npz
from app.intake.records import UNREADABLE_GZIP
from app.intake.table import read_table
from app.intake.writing import write_content
from app.intake.zips import list_members, open_archive

READ = "an npz file, CSV, CSV.gz, a zip of folders of PNG or JPEG images, or a zip of IDX .gz files"
# First bytes of what people send, and what to do instead.
FOREIGN = {
    b"\x93NUMPY": "a single NumPy array: pack inputs and labels with numpy.savez",
    b"\x89HDF": "HDF5: write it as npz or CSV",
    b"PAR1": "Parquet: write it as CSV",
    b"ARROW1": "Arrow: write it as CSV",
    b"\x80": "a pickle, which is a program: write it as npz or CSV",
    b"\x89PNG": "one image: send a zip with a folder for each class",
    b"\xff\xd8": "one image: send a zip with a folder for each class",
    b"7z": "a 7z archive: send a zip",
    b"Rar!": "a RAR archive: send a zip",
    b"BZh": "bzip2: send gzip or zip",
    b"\xfd7zXZ": "xz: send gzip or zip",
    b"\x28\xb5\x2f\xfd": "zstd: send gzip or zip",
    b"%PDF": "a PDF",
    b"@relation": "ARFF: write it as CSV",
    b"@RELATION": "ARFF: write it as CSV",
    b"{": "JSON: write it as CSV",
}
NAMES = {"npz": "npz", "csv": "CSV", "image_folders": "a zip of image folders", "idx": "a zip of IDX files"}
TRACE_CHARACTERS = 4_000


def answer_request(file: Path, folder: Path, request: bytes) -> bytes:
    """The child's answer to the options as JSON: one JSON object of at most 64 KiB."""
    options = _parse_options(request)
    try:
        return to_json({"description": asdict(convert_file(file, folder, options))})
    except Rejected as rejected:
        return to_json(asdict(rejected.describe(options.stem)))
    except MemoryError:
        return to_json(
            asdict(Refusal(413, f"{options.stem} needs more memory than a check may take: send less at once"))
        )
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return _answer_surprise(options, error)
        full = error.errno != errno.EFBIG
        detail = f"{options.stem} needs more space than {'the disk has' if full else 'is allowed'}; nothing was stored"
        return to_json(asdict(Refusal(507 if full else 413, detail)))
    except Exception as error:  # a file that no reader has foreseen is rejected too, and the parent logs why
        return _answer_surprise(options, error)


def _answer_surprise(options: Options, error: Exception) -> bytes:
    refusal = Refusal(422, f"{options.stem} could not be read ({type(error).__name__}): write it anew")
    return to_json(asdict(refusal) | {"trace": traceback.format_exc()[-TRACE_CHARACTERS:]})


def _parse_options(request: bytes) -> Options:
    found = json.loads(request)
    for name in ("exclude", "image_size", "image_shape"):
        if found.get(name) is not None:
            found[name] = tuple(found[name])
    return Options(**found)


def convert_file(file: Path, folder: Path, options: Options) -> Description:
    """Write the file's four arrays, and a preview of images, into the folder.

    Raises:
        Rejected: the file cannot be used; what the folder holds by then is the caller's to remove.
    """
    with tempfile.TemporaryDirectory(dir=folder) as scratch, _opened(file) as (format, archive):
        try:
            if archive is None:
                content = read_table(file, options, Path(scratch))
            else:
                content = _choose_reader(format)(archive, options, Path(scratch))
            return write_content(content, folder, options, format)
        except Rejected as rejected:
            rejected.read_as = rejected.read_as or NAMES[format]
            raise


def _choose_reader(format: str) -> Callable[[zipfile.ZipFile, Options, Path], Content]:
    if format == "image_folders":
        from app.intake.images import read_images  # Pillow is loaded for images only

        return read_images
    return read_idx if format == "idx" else read_npz


@contextmanager
def _opened(file: Path) -> Iterator[tuple[str, zipfile.ZipFile | None]]:
    """The file's format, and the opened archive where it is one."""
    start = _read_start(file)
    if not start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        _refuse_foreign(start)
        yield "csv", None
        return
    with open_archive(file) as archive:
        names = [info.filename for info in list_members(archive)]
        if not names:
            raise reject("the zip archive is empty")
        if "[Content_Types].xml" in names:
            raise reject("this is an Office document: write it as CSV", status=415)
        yield _recognize(names), archive


def _read_start(file: Path) -> bytes:
    """The first bytes, inflated if the file is a gzip file."""
    with file.open("rb") as source:
        start = source.read(512)
    if start[:2] != b"\x1f\x8b":
        return start
    try:
        with gzip.open(file) as inflated:
            return inflated.read(512)
    except UNREADABLE_GZIP as error:
        raise reject(f"the gzip file is damaged or cut off: {error}") from error


def _recognize(names: list[str]) -> str:
    """The format of a zip archive of these files."""
    if are_idx_files(names):
        return "idx"
    images = any(name.lower().endswith(ENDINGS) for name in names)
    if not images and any(name.endswith(".npy") for name in names):
        return "npz"
    return "image_folders"


def _refuse_foreign(start: bytes) -> None:
    for beginning, what in FOREIGN.items():
        if start.startswith(beginning):
            raise reject(f"this is {what}", status=415)
    if start[257:262] == b"ustar":
        raise reject("this is a tar archive: send a zip", status=415)
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise reject("this is UTF-16: save the file as UTF-8", status=415)
    if b"\0" not in start:
        return
    raise reject(f"the file begins with '{quote(start[:SHOWN_CHARACTERS].decode('latin-1'))}': send {READ}", status=415)
