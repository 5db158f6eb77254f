"""Writes the four arrays, hashes them, and says what they are."""

import hashlib
import io
import itertools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from app.intake.answers import Description, Options, reject
from app.intake.columns import add_columns
from app.intake.content import AnyArray, Content, DataPart, cut_rows
from app.intake.dividing import divide, find_smallest
from app.intake.labels import check_class_counts, show_names
from app.intake.limits import DECODED_BYTES, FEW_SAMPLES, GIB, IMBALANCE, SHOWN_WARNINGS


def write_content(content: Content, folder: Path, options: Options, format: str) -> Description:
    """Divide the content, write its arrays and the preview of images into the folder, and describe it.

    Raises:
        Rejected: the arrays would be too large, or a class has too few samples.
    """
    if content.class_names is not None:
        counts = np.bincount(content.train.y[content.train.rows], minlength=len(content.class_names))
        check_class_counts(content.class_names, counts)
    train, test = divide(content, options)
    _check_size(content, len(train.rows) + len(test.rows))
    train_counts, test_counts = (_count_classes(content, part) for part in (train, test))
    digest = hashlib.sha256()
    written = 0
    for name, values in (("x_train", train), ("y_train", train), ("x_test", test), ("y_test", test)):
        with (folder / f"{name}.npy").open("wb") as file:
            written += _write_array(file, values, content.shape if name[0] == "x" else None, digest)
    x_train = np.load(folder / "x_train.npy", mmap_mode="r")
    y_train = train.y[train.rows]
    if content.is_image:
        from app.intake.picture import write_preview

        write_preview(folder / "preview.png", x_train, y_train)
    warnings = (content.warnings + _warn(content, train_counts, test_counts, x_train))[:SHOWN_WARNINGS]
    described = Description(
        format=format,
        kind="image" if content.is_image else "table",
        task=options.task,
        train_samples=len(train.rows),
        test_samples=len(test.rows),
        shape=(*content.shape, 1) if len(content.shape) == 2 else content.shape,
        classes=len(content.class_names or ()),
        class_names=content.class_names,
        train_class_counts=train_counts,
        test_class_counts=test_counts,
        scale=255.0 if content.is_image else 1.0,
        columns=None,
        head=None,
        sha256=digest.hexdigest(),
        bytes=written,
        smallest_train=find_smallest(y_train, regression=content.class_names is None),
        warnings=warnings,
    )
    return add_columns(described, content, x_train)


def _check_size(content: Content, rows: int) -> None:
    size = rows * int(np.prod(content.shape)) * (1 if content.is_image else 4)
    if size > DECODED_BYTES:
        raise reject(f"{rows:,} rows take {size:,} bytes, and at most {DECODED_BYTES // GIB} GiB are kept", status=413)


def _count_classes(content: Content, samples: DataPart) -> list[int] | None:
    if content.class_names is None:
        return None
    counts: list[int] = np.bincount(samples.y[samples.rows], minlength=len(content.class_names)).tolist()
    return counts


def _write_array(file: Any, samples: DataPart, shape: tuple[int, ...] | None, digest: Any) -> int:
    """Write the inputs in this shape, or without one the targets, as npy; the bytes of values."""
    values, rows = (samples.y, samples.rows) if shape is None else (samples.x, samples.rows)
    dtype = np.dtype(values.dtype if shape is None else np.uint8 if len(shape) > 1 else np.float32).newbyteorder("<")
    stored = (len(rows), *(shape or ()))
    buffer = io.BytesIO()
    npy.write_array_header_1_0(buffer, {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": stored})
    pieces = (values[rows[part]].reshape(-1, *stored[1:]) for part in cut_rows(len(rows), values[0].size))
    for piece in itertools.chain([buffer.getvalue()], (np.ascontiguousarray(one, dtype).tobytes() for one in pieces)):
        digest.update(piece)
        file.write(piece)
    return int(np.prod(stored)) * dtype.itemsize


def _warn(content: Content, train: list[int] | None, test: list[int] | None, x_train: AnyArray) -> list[str]:
    warnings = []
    names = content.class_names
    if names and train and test:
        few = [name for name, count in zip(names, train, strict=True) if count < FEW_SAMPLES]
        untested = [name for name, count in zip(names, test, strict=True) if not count]
        warnings += [f"fewer than {FEW_SAMPLES} training samples: {show_names(few)}"] if few else []
        warnings += [f"no test samples: {show_names(untested)}"] if untested else []
        if max(train) > IMBALANCE * min(train):
            warnings.append(f"the largest class has over {IMBALANCE} times as many training samples as the smallest")
    if content.is_image:
        largest = max(int(x_train[part].max()) for part in cut_rows(len(x_train), x_train[0].size))
        if largest < 128:
            warnings.append(f"the largest pixel is {largest}, and pixels are divided by 255")
    return warnings
