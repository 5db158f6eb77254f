"""The header of a CSV file: which column is the target, which say train or test, and which are inputs."""

from typing import NamedTuple

from app.intake.answers import Fault, Options, Rejected, quote, reject
from app.intake.cells import parse_numbers
from app.intake.limits import COLUMNS

SPLIT = "split"
SPLIT_VALUES = ("train", "test")


class Header(NamedTuple):
    """Names of columns by their place, and the places of those that are used."""

    names: list[str]
    target: int
    inputs: list[int]
    split: int | None  # of a column that says train or test for each row


def read_header(record: list[str], first: list[str], options: Options) -> Header:
    """The header by its record, the first record of data, and the options.

    Raises:
        Rejected: names are missing, doubled or too many, or the options name others.
    """
    names = [name.strip() for name in record]
    _check_names(names, options)
    places = {name: place for place, name in enumerate(names)}
    _check_options(places, options)
    used = [place for place, name in enumerate(names) if name not in options.exclude]
    split = _find_split(places, first, options)
    used = [place for place in used if place != split]
    if options.target is None and not used:
        raise reject("no column is left to be the target: exclude fewer", pointer="/exclude")
    target = used[-1] if options.target is None else places[options.target]
    inputs = [place for place in used if place != target]
    if not inputs:
        raise reject(f"besides the target '{quote(names[target])}' there is no column to predict it from")
    return Header(names, target, inputs, split)


def _check_names(names: list[str], options: Options) -> None:
    height, width, channels = options.image_shape or (1, COLUMNS, 1)
    most = max(COLUMNS, height * width * channels) + len(options.exclude) + 2
    if len(names) > most:
        raise reject(f"the header has {len(names):,} columns, and at most {COLUMNS:,} are possible", status=413)
    if len(names) == 1:
        raise _fault("there is one column only: separate cells by commas, semicolons or tabs")
    if parse_numbers(names) is not None:
        raise _fault("the first row must name the columns, and it holds numbers only: add a header")
    if "" in names:
        place = names.index("") + 1
        raise _fault(f"column {place} has no name: name it, or leave it out (pandas: to_csv(…, index=False))")
    doubled = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if doubled:
        raise _fault(f"more than one column is called '{quote(doubled[0])}': give each a name of its own")


def _check_options(places: dict[str, int], options: Options) -> None:
    shown = [quote(name) for name in places]
    if len(shown) > 8:
        shown = [*shown[:5], "…", *shown[-2:]]
    there = f"there are {', '.join(shown)}"
    faults = [
        Fault(f"no column '{quote(name)}'; {there}", pointer=pointer)
        for pointer, wanted in (("/target", [options.target] if options.target else []), ("/exclude", options.exclude))
        for name in wanted
        if name not in places
    ]
    if options.target in options.exclude:
        faults.append(Fault("the target cannot be excluded: name another one", pointer="/exclude"))
    if faults:
        raise Rejected(*faults)


def _find_split(places: dict[str, int], first: list[str], options: Options) -> int | None:
    """The place of the column `split`, if that is what it holds."""
    place = places.get(SPLIT)
    unused = place is None or SPLIT in options.exclude or options.target == SPLIT
    if place is None or unused or place >= len(first) or first[place].strip() not in SPLIT_VALUES:
        return None
    return place


def _fault(message: str) -> Rejected:
    return Rejected(Fault(message, row=1))
