"""Converts CSV, once it has been surveyed: numbers as they are, categories as columns of zeros and ones."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.intake.answers import Fault, Options, Rejected, quote, reject
from app.intake.cells import parse_numbers, parse_pixels
from app.intake.content import AnyArray, Content, DataPart, Feature
from app.intake.from_arrays import choose_shape
from app.intake.labels import REGRESSION, WHOLE, check_class_names, choose_dtype, describe_wrong_name, order_labels
from app.intake.limits import COLUMNS, DECODED_BYTES
from app.intake.survey import Chunk, Faults, Survey, judge_columns, read_chunks, survey_table

MOST_SLIPS = 10  # numbers that stand in one row each; more of them are amounts


def read_table(file: Path, options: Options, scratch: Path) -> Content:
    """The content of a CSV file, whose rows are samples: a table, or with `image_shape` images.

    Raises:
        Rejected: with row and column of what is wrong.
    """
    survey = survey_table(file, options)
    names, target = survey.header.names, survey.header.target
    try:
        return _convert(file, survey, options, scratch)
    except Rejected as rejected:
        rejected.read_as = f"CSV of {len(names):,} columns with the target '{quote(names[target])}'"
        raise


def _convert(file: Path, survey: Survey, options: Options, scratch: Path) -> Content:
    features = judge_columns(survey, options)
    class_names, codes = None, None
    if options.task == "classification":
        class_names, codes = _number_classes(file, survey)
    width = sum(len(feature.categories or [""]) for feature in features)
    if not options.image_shape and width > COLUMNS:
        raise reject(
            f"with a column for each category there are {width:,} columns, and at most {COLUMNS:,} are possible"
        )
    shape = choose_shape((width,), options, "")
    x = _map_inputs(scratch / "x", (survey.samples, *shape))
    y = np.empty(survey.samples, np.float32 if class_names is None else choose_dtype(len(class_names)))
    is_test = np.zeros(survey.samples, bool)
    start = 0
    for chunk in read_chunks(file, survey.delimiter, Faults()):
        part = slice(start, start := start + len(chunk.rows))
        x[part] = _convert_inputs(chunk, survey, features).reshape(-1, *shape)
        y[part] = _convert_target(chunk.columns[survey.header.target], codes)
        if survey.header.split is not None:
            is_test[part] = [cell.strip() == "test" for cell in chunk.columns[survey.header.split]]
    if codes is not None:
        _check_single_labels(file, survey, codes, np.bincount(y))
    train, test = _cut_parts(x, y, is_test, survey)
    if len(shape) > 1:
        return Content(shape, train, test, class_names)
    return Content(shape, train, test, class_names, features, survey.head)


def _number_classes(file: Path, survey: Survey) -> tuple[list[str], dict[str, int]]:
    """Class names, and the number of the class that each text in the target's cells stands for."""
    texts = survey.profiles[survey.header.target].list_values() or []
    names = {text: text for text in texts}
    numbers = parse_numbers(texts)
    if numbers is not None:
        fractions = [text for text, number in zip(texts, numbers, strict=True) if not number.is_integer()]
        if len(fractions) == 1 and len(texts) > 2:
            raise locate_labels(file, survey, {fractions[0]: "is no whole number, and all other labels are: mend it"})
        if fractions:
            raise reject(f"the target is not whole numbers: {REGRESSION}", pointer="/task")
        names = {text: str(int(text) if WHOLE.fullmatch(text) else int(float(text))) for text in texts}  # 1.0 is 1
    if wrong := {text: reason for text, name in names.items() if (reason := describe_wrong_name(name))}:
        raise locate_labels(file, survey, wrong)
    ordered = order_labels(sorted(set(names.values())))
    check_class_names(ordered)
    places = {name: place for place, name in enumerate(ordered)}
    return ordered, {text: places[name] for text, name in names.items()}


def _check_single_labels(file: Path, survey: Survey, codes: dict[str, int], counts: AnyArray) -> None:
    """A class of one row is more often a slip than a class, so that the row is named."""
    only = "is a class of this one row, and each needs at least two: mend it, or delete the row"
    if single := {text: only for text, code in codes.items() if counts[code] == 1}:
        if len(single) > MOST_SLIPS and parse_numbers(list(single)) is not None:
            raise reject(f"{len(single)} of {len(codes)} classes have one row: {REGRESSION}", pointer="/task")
        raise locate_labels(file, survey, single)


def locate_labels(file: Path, survey: Survey, wrong: dict[str, str]) -> Rejected:
    """The exception for labels that are wrong for these reasons, with the first row of each; reads the file again."""
    target, faults = survey.header.target, Faults()
    left = dict(wrong)
    for chunk in read_chunks(file, survey.delimiter, Faults()):
        for row, cell in zip(chunk.rows, chunk.columns[target], strict=True):
            if reason := left.pop(cell.strip(), None):
                message = f"'{quote(cell.strip())}' {reason}"
                faults.add([Fault(message, row=row, column=survey.header.names[target])])
    return Rejected(*faults.kept, found=faults.found)


def _map_inputs(path: Path, shape: tuple[int, ...]) -> AnyArray:
    """Inputs in a file mapped into memory: bytes of images, or float32."""
    dtype = np.dtype(np.uint8 if len(shape) > 2 else np.float32)
    size = dtype.itemsize
    for length in shape:
        size *= length
    if size > DECODED_BYTES:
        raise reject(f"the table takes {size:,} bytes, and {DECODED_BYTES:,} are possible: send fewer rows", status=413)
    return np.memmap(path, dtype, "w+", shape=shape)


def _convert_inputs(chunk: Chunk, survey: Survey, features: list[Feature]) -> NDArray[np.float32]:
    """The inputs of some records, (n, f)."""
    width = sum(len(feature.categories or [""]) for feature in features)
    converted = np.zeros((width, len(chunk.rows)), np.float32)  # by column, which is quicker to fill
    place = 0
    for source, feature in zip(survey.header.inputs, features, strict=True):
        cells = chunk.columns[source]
        if feature.categories is None:
            converted[place] = _to_numbers(cells, survey.profiles[source].pixels)
            place += 1
        else:
            codes = {category: place + code for code, category in enumerate(feature.categories)}
            converted[_to_codes(cells, codes), np.arange(len(cells))] = 1
            place += len(codes)
    return converted.T


def _convert_target(cells: tuple[str, ...], codes: dict[str, int] | None) -> AnyArray:
    if codes is None:
        return _to_numbers(cells)
    return _to_codes(cells, codes)


def _to_codes(cells: tuple[str, ...], codes: dict[str, int]) -> NDArray[np.intp]:
    by_cell = {cell: codes[cell.strip()] for cell in set(cells)}
    return np.fromiter(map(by_cell.__getitem__, cells), np.intp, len(cells))


def _to_numbers(cells: tuple[str, ...], pixels: bool = False) -> NDArray[np.float64]:
    numbers = parse_pixels(cells) if pixels else parse_numbers(cells)
    assert numbers is not None, "the survey has looked at these cells"
    return numbers


def _cut_parts(
    x: AnyArray, y: AnyArray, is_test: NDArray[np.bool_], survey: Survey
) -> tuple[DataPart, DataPart | None]:
    """Training and test part by the column `split`, if there is one."""
    train, test = (DataPart(x, y, np.flatnonzero(is_test == part)) for part in (False, True))
    if survey.header.split is None:
        return train, None
    if not len(train.rows) or not len(test.rows):
        raise reject("the column 'split' must hold both train and test: mend it, or send exclude=split")
    return train, test
