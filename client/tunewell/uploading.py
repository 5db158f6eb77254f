"""Turns what a user uploads into one file: arrays into npz, a folder into a zip."""

import base64
import errno
import hashlib
import os
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tunewell.errors import require

Data = str | os.PathLike[str] | Mapping[str, Any] | Sequence[Any]


@contextmanager
def make_file(data: Data) -> Iterator[Path]:
    """The file to be sent, deleted afterwards unless it is the user's own.

    Args:
        data: the path of a file or of a folder of images; or arrays by name (`x` and `y`, or `x_train`, `y_train`,
            `x_test` and `y_test`); or `(x, y)`; or `(x_train, y_train, x_test, y_test)`.

    Raises:
        FileNotFoundError: there is no such file.
        TypeError: something else.
    """
    if isinstance(data, str | os.PathLike):
        path = Path(data)
        if path.is_file():
            yield path
            return
        if not path.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    with tempfile.TemporaryDirectory(prefix="tunewell-") as folder:
        if isinstance(data, str | os.PathLike):
            yield _zip_folder(Path(data), Path(folder) / "images.zip")
        else:
            yield _write_arrays(_name_arrays(data), Path(folder) / "arrays.npz")


def describe_file(file: Path) -> dict[str, str]:
    """Headers: the size, and the digest by which the service notices damage on the way (RFC 9530)."""
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").digest()
    return {
        "Content-Length": str(file.stat().st_size),
        "Repr-Digest": f"sha-256=:{base64.b64encode(digest).decode()}:",
    }


def write_options(options: Mapping[str, Any]) -> dict[str, str]:
    """Options as a query: lists by commas, sizes as 28x28, what is None left out."""
    return {name: _write_option(name, value) for name, value in options.items() if value is not None}


def _write_option(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ("x" if name in {"image_size", "image_shape"} else ",").join(map(str, value))
    return str(value)


def _zip_folder(folder: Path, target: Path) -> Path:
    """All files of the folder, stored as they are: images are compressed already."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED, strict_timestamps=False) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder).as_posix())
    return target


def _name_arrays(data: Mapping[str, Any] | Sequence[Any]) -> dict[str, Any]:
    if isinstance(data, Mapping):
        return dict(data)
    names = {2: ("x", "y"), 4: ("x_train", "y_train", "x_test", "y_test")}.get(len(data))
    if names is None:
        raise TypeError("expected a path, arrays by name, (x, y) or (x_train, y_train, x_test, y_test)")
    return dict(zip(names, data, strict=True))


def _write_arrays(arrays: Mapping[str, Any], target: Path) -> Path:
    numpy = require("numpy", "an upload of arrays")
    made = {name: numpy.asarray(array) for name, array in arrays.items()}
    for name, array in made.items():
        if array.dtype == object:  # a pickle, which no service should read
            array = made[name] = array.astype(str)
        if array.dtype.kind not in "biufU":
            raise TypeError(f"{name} has the type {array.dtype}: pass numbers or text")
    numpy.savez_compressed(target, **made)
    return target
