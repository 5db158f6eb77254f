"""What every format is read into, before it is divided and written."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

AnyArray = NDArray[Any]


class DataPart(NamedTuple):
    """Inputs and targets, of which `rows` are meant, in this order. The inputs may be a file mapped into memory."""

    x: AnyArray  # (n, …), of any dtype that has passed the checks
    y: AnyArray  # (n,), numbers of classes, or float32
    rows: NDArray[np.intp]


class Feature(NamedTuple):
    """A column as it was sent; `categories` has become as many columns of zeros and ones."""

    name: str
    categories: list[str] | None = None


@dataclass
class Content:
    """A file's content. `shape` is that of one stored sample: (h, w), (h, w, 3) of bytes, or (f,) of float32."""

    shape: tuple[int, ...]
    train: DataPart
    test: DataPart | None
    class_names: list[str] | None  # None for regression
    features: list[Feature] | None = None
    head: list[dict[str, str]] | None = None
    warnings: list[str] = field(default_factory=list)
    sorted_by_class: bool = False  # the training rows are to be shuffled even if there is a test part

    @property
    def is_image(self) -> bool:
        return len(self.shape) > 1


def take_all(x: AnyArray, y: AnyArray) -> DataPart:
    """All rows, as they come."""
    return DataPart(x, y, np.arange(len(y)))


def cut_rows(rows: int, items: int) -> Iterator[slice]:
    """Slices of at most about four million numbers."""
    step = max(1, 2**22 // max(items, 1))
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))
