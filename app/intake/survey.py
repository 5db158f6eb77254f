"""The first reading of a CSV file: what each column is, and all that is wrong."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from app.intake.answers import Fault, Options, Rejected, quote, reject
from app.intake.cells import Profile
from app.intake.content import Feature
from app.intake.header import SPLIT_VALUES, Header, read_header
from app.intake.limits import CATEGORIES, CLASSES, ROWS, SHOWN_ERRORS
from app.intake.records import find_delimiter, open_lines, read_records

HEAD_ROWS = 5
CHUNK_CELLS = 2**18


class Chunk(NamedTuple):
    """Some records: their rows in the file, and their cells by column."""

    rows: list[int]
    columns: list[tuple[str, ...]]


@dataclass
class Faults:
    """The first ten faults by row, and the number of all."""

    kept: list[Fault] = field(default_factory=list)
    found: int = 0

    def add(self, faults: list[Fault], found: int | None = None) -> None:
        """Take these, which stand for `found` wrong cells or rows."""
        self.kept = sorted([*self.kept, *faults], key=lambda fault: fault.row or 0)[:SHOWN_ERRORS]
        self.found += len(faults) if found is None else found


@dataclass
class Survey:
    """What the first reading has found; profiles by place, of inputs and target."""

    delimiter: str
    header: Header
    profiles: dict[int, Profile]
    samples: int = 0
    faults: Faults = field(default_factory=Faults)
    head: list[dict[str, str]] = field(default_factory=list)

    def add(self, chunk: Chunk) -> None:
        """Look at the next records."""
        self.samples += len(chunk.rows)
        if self.samples > ROWS:
            raise reject(f"there are more than {ROWS:,} rows: send fewer", status=413)
        for place, profile in self.profiles.items():
            profile.add(chunk.rows, chunk.columns[place])
        if self.header.split is not None:
            self._check_split(chunk.rows, chunk.columns[self.header.split])
        for index in range(min(len(chunk.rows), HEAD_ROWS - len(self.head))):
            self.head.append({self.profiles[place].name: chunk.columns[place][index] for place in self.profiles})

    def _check_split(self, rows: list[int], cells: tuple[str, ...]) -> None:
        for row, cell in zip(rows, cells, strict=True):
            if cell.strip() not in SPLIT_VALUES:
                message = f"'{quote(cell)}' is neither train nor test: mend it, or send exclude=split"
                self.faults.add([Fault(message, row=row, column="split")])


def survey_table(file: Path, options: Options) -> Survey:
    """Read the whole file once.

    Raises:
        Rejected: it is no CSV of a header and rows, or the options do not fit its header.
    """
    delimiter = find_delimiter(file)
    with open_lines(file) as lines:
        first = [record for _, record in islice(read_records(lines, delimiter), 2)]
    if len(first) < 2:
        raise reject("a header and rows are needed, and there is " + ("only a header" if first else "nothing"))
    header = read_header(first[0], first[1], options)
    pixels = options.image_shape is not None
    profiles = {place: Profile(header.names[place], CATEGORIES, pixels) for place in header.inputs}
    profiles[header.target] = Profile(header.names[header.target], CLASSES)
    survey = Survey(delimiter, header, profiles)
    for chunk in read_chunks(file, delimiter, survey.faults):
        survey.add(chunk)
    return survey


def read_chunks(file: Path, delimiter: str, faults: Faults) -> Iterator[Chunk]:
    """The records after the header, some thousands at once. Those of another length are left out and noted."""
    with open_lines(file) as lines:
        records = read_records(lines, delimiter)
        width = len(next(records)[1])
        most = max(1, CHUNK_CELLS // width)
        while batch := list(islice(records, most)):
            wrong = [_find_length(row, record, width) for row, record in batch if len(record) != width]
            if wrong:
                faults.add(wrong)
                batch = [(row, record) for row, record in batch if len(record) == width]
            if batch:
                yield Chunk([row for row, _ in batch], list(zip(*(record for _, record in batch), strict=True)))


def _find_length(row: int, record: list[str], width: int) -> Fault:
    return Fault(f"{len(record):,} cell{'s' * (len(record) != 1)} where the header has {width:,}", row=row)


def judge_columns(survey: Survey, options: Options) -> list[Feature]:
    """The inputs, each numbers or categories.

    Raises:
        Rejected: with the first ten faults of the whole file.
    """
    header, faults = survey.header, survey.faults
    features = [_judge_input(survey.profiles[place], options, faults) for place in header.inputs]
    _judge_target(survey.profiles[header.target], options, faults)
    if faults.found:
        raise Rejected(*faults.kept, found=faults.found)
    return features


def _judge_input(profile: Profile, options: Options, faults: Faults) -> Feature:
    exclude = "exclude=" + quote(",".join([*options.exclude, profile.name]), 200)
    faults.add(profile.find_missing(f", or send {exclude}"), profile.missing)
    if profile.pixels or profile.is_number:
        faults.add(profile.find_texts(f", or send {exclude}"), profile.present - profile.numbers)
        return Feature(profile.name)
    categories = profile.list_values()
    if categories is None:
        message = f"more than {CATEGORIES} different texts, as of an id or free text: send {exclude}"
        faults.add([Fault(message, column=profile.name, pointer="/exclude")])
    return Feature(profile.name, categories)


def _judge_target(profile: Profile, options: Options, faults: Faults) -> None:
    faults.add(profile.find_missing(""), profile.missing)
    if options.task == "regression":
        faults.add(profile.find_texts(""), profile.present - profile.numbers)
    elif profile.list_values() is None:
        message = f"more than {CLASSES:,} classes: send task=regression if these are amounts, or another target"
        faults.add([Fault(message, column=profile.name, pointer="/target")])
