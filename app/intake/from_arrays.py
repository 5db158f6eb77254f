"""From arrays of inputs and labels, wherever they come from, to checked content."""

import numpy as np

from app.intake.answers import Options, reject
from app.intake.content import AnyArray, Content, Feature, cut_rows, take_all
from app.intake.labels import encode_labels
from app.intake.limits import COLUMNS, IMAGE_SIDE, ROWS

PIXELS = "send whole numbers 0 to 255 as uint8"
LARGEST_FLOAT32 = float(np.finfo(np.float32).max)


def make_content(
    xs: list[AnyArray], ys: list[AnyArray], names: list[str], options: Options, warnings: list[str]
) -> Content:
    """Content from the inputs and labels of the training part and, if there is one, the test part; `names` are files.

    Raises:
        Rejected: shapes, dtypes or values do not fit.
    """
    ys = [_flatten(y) for y in ys]
    for x, y, name in zip(xs, ys, names, strict=True):
        if len(x) != len(y):
            raise reject(f"it has {len(x):,} rows, and there are {len(y):,} labels", file=name)
        if x.shape[1:] != xs[0].shape[1:]:
            raise reject(f"its samples are {x.shape[1:]}, and those of the training part {xs[0].shape[1:]}", file=name)
    if sum(map(len, ys)) > ROWS:
        raise reject(f"there are {sum(map(len, ys)):,} rows, and at most {ROWS:,} are read", status=413)
    shape = choose_shape(xs[0].shape[1:], options, names[0])
    for x, name in zip(xs, names, strict=True):
        (_check_pixels if len(shape) > 1 else _check_numbers)(x, name)
    class_names = None
    if options.task == "regression":
        targets = [check_amounts(y) for y in ys]
    else:
        class_names, targets = encode_labels(ys, "the labels")
    parts = [take_all(x, y) for x, y in zip(xs, targets, strict=True)]
    features = [Feature(f"x{column}") for column in range(shape[0])] if len(shape) == 1 else None
    test = parts[1] if len(parts) > 1 else None
    return Content(shape, parts[0], test, class_names, features, warnings=warnings)


def choose_shape(sample: tuple[int, ...], options: Options, name: str | None) -> tuple[int, ...]:
    """The shape in which one sample is stored: (h, w), (h, w, 3) or (columns,), from its shape in the file.

    Raises:
        Rejected: it is none of these, or the options contradict it.
    """
    if options.image_shape:
        if np.prod(sample) != np.prod(options.image_shape):
            wanted = "x".join(map(str, options.image_shape))
            raise reject(f"rows of {np.prod(sample):,} numbers are no images of {wanted}", pointer="/image_shape")
        sample = options.image_shape
    if len(sample) == 3 and sample[2] == 1:
        sample = sample[:2]
    if len(sample) == 1:
        if sample[0] > COLUMNS:
            raise reject(f"it has {sample[0]:,} columns, and at most {COLUMNS:,} are possible", file=name)
        return sample
    if len(sample) not in (2, 3) or sample[2:] not in ((), (3,)):
        raise reject(f"its samples are {sample}: send a table, or images (height, width) or (…, 1 or 3)", file=name)
    _check_image_options(sample, options)
    return sample


def _check_image_options(sample: tuple[int, ...], options: Options) -> None:
    height, width = sample[:2]
    if options.task == "regression":
        raise reject("regression is for tables, and these are images", pointer="/task")
    if max(height, width) > IMAGE_SIDE:
        raise reject(f"images of {height} by {width} are larger than {IMAGE_SIDE} by {IMAGE_SIDE}: make them smaller")
    if options.image_size and options.image_size != (height, width):
        raise reject(
            f"these images are {height} by {width}; only PNG and JPEG files are resized", pointer="/image_size"
        )
    color = "rgb" if len(sample) == 3 else "grayscale"
    if options.color and options.color != color:
        raise reject(f"these images are {color}; only PNG and JPEG files are converted", pointer="/color")


def _flatten(y: AnyArray) -> AnyArray:
    """Labels (n,), from (n,) or (n, 1)."""
    if y.ndim == 2 and y.shape[1] == 1:
        return y[:, 0]
    if y.ndim != 1:
        raise reject(f"the labels have shape {y.shape}: send one for each row, as from y.argmax(axis=1)")
    return y


def _check_pixels(x: AnyArray, name: str) -> None:
    if x.dtype == np.uint8:
        return
    if x.dtype.kind not in "uif":
        raise reject(f"{x.dtype} are no pixels: {PIXELS}", file=name)
    for part in cut_rows(len(x), x[0].size):
        low, high = x[part].min(), x[part].max()
        if not (low >= 0 and high <= 255) or (x.dtype.kind == "f" and (np.floor(x[part]) != x[part]).any()):
            raise reject(f"{x.dtype} of {low:g} to {high:g}: {PIXELS}", file=name)
    if x.dtype.kind == "f" and max(x[part].max() for part in cut_rows(len(x), x[0].size)) <= 1:
        raise reject(f"{x.dtype} of 0.0 to 1.0: {PIXELS}", file=name)


def _check_numbers(x: AnyArray, name: str) -> None:
    if x.dtype.kind not in "buif":
        raise reject(f"{x.dtype} are no numbers: send float32, or a CSV file if there are texts", file=name)
    for part in cut_rows(len(x), x[0].size):
        wrong = ~(np.abs(x[part].astype(np.float64)) <= LARGEST_FLOAT32)
        if wrong.any():
            row, column = (int(index[0]) for index in np.nonzero(wrong))
            value = x[part.start + row, column]
            raise reject(f"[{part.start + row}, {column}] is {value}: send finite float32 numbers", file=name)


def check_amounts(y: AnyArray) -> AnyArray:
    """Targets of a regression, (n,) float32.

    Raises:
        Rejected: they are no finite numbers.
    """
    if y.dtype.kind not in "uif":
        raise reject(f"targets of {y.dtype} are no amounts: send numbers, or task=classification", pointer="/task")
    wrong = ~(np.abs(y.astype(np.float64)) <= LARGEST_FLOAT32)
    if wrong.any():
        raise reject(f"the target of index {int(np.argmax(wrong))} is {y[np.argmax(wrong)]}: send finite numbers")
    return y.astype(np.float32)
