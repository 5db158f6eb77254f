"""What the parent asks of the child process, and the child's two answers."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from app.intake.limits import SHOWN_CHARACTERS, SHOWN_ERRORS


@dataclass(frozen=True)
class Options:
    """How a file is to be read; `stem` is the data set's name, for messages. Sizes are height, width, channels."""

    stem: str
    target: str | None = None
    task: Literal["classification", "regression"] = "classification"
    exclude: tuple[str, ...] = ()
    test_share: float = 0.2
    random_state: int = 0
    image_size: tuple[int, int] | None = None
    color: Literal["grayscale", "rgb"] | None = None
    image_shape: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class Description:
    """The facts of a data set; `sha256` is that of the files x_train, y_train, x_test, y_test, one after the other."""

    format: str  # npz, csv, image_folders or idx
    kind: Literal["image", "table"]
    task: Literal["classification", "regression"]
    train_samples: int
    test_samples: int
    shape: tuple[int, ...]  # height, width and channels; or the columns after one-hot
    classes: int  # 0 for regression, and the next three are null
    class_names: list[str] | None
    train_class_counts: list[int] | None
    test_class_counts: list[int] | None
    scale: float
    columns: list[dict[str, Any]] | None
    head: list[dict[str, str]] | None
    sha256: str
    bytes: int  # of the four arrays
    smallest_train: tuple[int, ...]  # for k = 2 to 10: the fewest first samples with k of some class
    warnings: list[str]


@dataclass(frozen=True)
class Refusal:
    """Why a file is rejected: an HTTP status, a sentence, and at most ten errors."""

    status: int
    detail: str
    errors: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with an option (`pointer`), a cell (`row` as editors count, `column`) or a member."""

    message: str
    pointer: str = ""
    row: int | None = None
    column: str | None = None
    file: str | None = None

    def show(self) -> dict[str, Any]:
        """The fault as it is answered, without what does not apply."""
        shown = asdict(self) | {"column": self.column and quote(self.column), "file": self.file and quote(self.file)}
        return {key: value for key, value in shown.items() if value is not None or (key == "column" and self.row)}


class Rejected(Exception):
    """The file cannot be used. `found` is how many faults there are where not all are given."""

    def __init__(self, *faults: Fault, status: int = 422, found: int | None = None) -> None:
        super().__init__(*(fault.message for fault in faults))
        self.faults = faults
        self.status = status
        self.found = found or len(faults)
        self.read_as = ""  # what the file was taken for, where that is known

    def describe(self, stem: str) -> Refusal:
        """The answer about the data set of this name."""
        beginning = f"{stem} was read as {self.read_as}" if self.read_as else f"{stem} cannot be used as it is"
        errors = "1 error was found" if self.found == 1 else f"{self.found:,} errors were found"
        shown = [fault.show() for fault in self.faults[:SHOWN_ERRORS]]
        return Refusal(self.status, f"{beginning}. {errors}; nothing was stored.", shown)


def reject(message: str, pointer: str = "", file: str | None = None, status: int = 422) -> Rejected:
    """The exception for one fault."""
    return Rejected(Fault(message, pointer=pointer, file=file), status=status)


def quote(text: str, longest: int = SHOWN_CHARACTERS) -> str:
    """A client's text for a message: cut, with control characters, lone surrogates and the like escaped."""
    cut = text if len(text) <= longest else text[: longest - 1] + "…"
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in cut)
