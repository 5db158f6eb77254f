"""Classes: from labels as they were sent to names and numbers."""

import json
import re
import unicodedata

import numpy as np

from app.intake.answers import quote, reject
from app.intake.content import AnyArray
from app.intake.limits import CLASS_NAME_CHARACTERS, CLASS_NAMES_BYTES, CLASSES

WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
REGRESSION = "send task=regression if they are amounts"


def encode_labels(parts: list[AnyArray], file: str) -> tuple[list[str], list[AnyArray]]:
    """Class names, and each part's labels (n,) as numbers of classes; numbers are ordered by size, texts by character.

    Raises:
        Rejected: they are no labels.
    """
    values = np.unique(np.concatenate([np.unique(part) for part in parts]))
    if values.dtype.kind == "f" and not (np.isfinite(values) & (np.floor(values) == values)).all():
        raise reject(f"the labels are not whole numbers: {REGRESSION}", file=file)
    if len(values) > CLASSES:
        raise reject(
            f"there are {len(values):,} classes, and at most {CLASSES:,} are possible: {REGRESSION}", file=file
        )
    names = [str(int(value)) if values.dtype.kind == "f" else str(value) for value in values]
    check_class_names(names)
    return names, [np.searchsorted(values, part).astype(choose_dtype(len(names))) for part in parts]


def choose_dtype(classes: int) -> type[np.uint8] | type[np.uint16]:
    """The dtype in which the numbers of classes are stored."""
    return np.uint8 if classes <= 256 else np.uint16


def order_labels(labels: list[str]) -> list[str]:
    """Whole numbers by size, anything else by character."""
    if all(WHOLE.fullmatch(label) for label in labels):
        return sorted(labels, key=lambda label: (int(label), label))
    return sorted(labels)


def describe_wrong_name(name: str) -> str | None:
    """Why a class cannot be called so."""
    if name and len(name) <= CLASS_NAME_CHARACTERS and unicodedata.normalize("NFC", name).isprintable():
        return None
    return f"cannot name a class: use names of 1 to {CLASS_NAME_CHARACTERS} printable characters"


def check_class_names(names: list[str]) -> None:
    """Check that the names can be shown everywhere.

    Raises:
        Rejected: one is too long or not printable, or all together are too long.
    """
    for name in names:
        if wrong := describe_wrong_name(name):
            raise reject(f"'{quote(name)}' {wrong}")
    if len(json.dumps(names, ensure_ascii=False).encode()) > CLASS_NAMES_BYTES:
        raise reject(f"the class names are longer than {CLASS_NAMES_BYTES:,} bytes together: use shorter ones")


def check_class_counts(names: list[str], counts: AnyArray) -> None:
    """Check that there is something to learn.

    Raises:
        Rejected: fewer than two classes, or one with fewer than two training samples.
    """
    if len(names) < 2:
        only = f"the only one is '{quote(names[0])}'" if names else "there is none"
        raise reject(f"at least two classes are needed, and {only}")
    rare = [name for name, count in zip(names, counts, strict=True) if count < 2]
    if rare:
        raise reject(f"each class needs at least two training samples, and these have fewer: {show_names(rare)}")


def show_names(names: list[str]) -> str:
    """The first five names, for a message."""
    return ", ".join(f"'{quote(name)}'" for name in names[:5]) + (f" and {len(names) - 5:,} more" * (len(names) > 5))
