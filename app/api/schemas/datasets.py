"""How clients see data sets, and the options of an upload."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from app.api.pagination import Digits
from app.api.schemas.base import ResponseModel
from app.intake.answers import Options
from app.tuning.jobs.tables import StoredDataset
from app.tuning.search.datasets import Dataset
from app.tuning.search.scoring import Task

MAX_TEXT = 1000
SHOWN_CLASSES = 20  # in a list of data sets
SIZE = r"^[1-9][0-9]{0,2}x[1-9][0-9]{0,2}"


class UploadQuery(BaseModel):
    """How the file is to be read."""

    model_config = ConfigDict(extra="forbid")

    target: str | None = Field(None, max_length=MAX_TEXT, description="CSV: the column to predict; default: the last.")
    task: Task = "classification"
    exclude: str | None = Field(
        None, max_length=MAX_TEXT, description="CSV: columns to leave out, separated by commas."
    )
    test_share: float = Field(0.2, ge=0.05, le=0.5, description="Where the file has no test part of its own.")
    random_state: Annotated[int, Field(ge=0, le=2**32 - 1), Digits] = Field(0, description="Of the shuffle.")
    image_size: str | None = Field(None, pattern=f"{SIZE}$", description="Height by width, such as 28x28.")
    color: Literal["grayscale", "rgb"] | None = Field(None, description="Default: as most images are.")
    image_shape: str | None = Field(
        None, pattern=f"{SIZE}x[13]$", description="Rows are pixels of images of this shape, such as 28x28x1."
    )
    dry_run: bool = Field(False, description="Check only, and store nothing.")

    def options(self, name: str) -> Options:
        """The same for the check, of a data set with this name."""
        size, shape = self.image_size, self.image_shape
        return Options(
            stem=name,
            target=self.target,
            task=self.task,
            exclude=tuple(column.strip() for column in self.exclude.split(",")) if self.exclude else (),
            test_share=self.test_share,
            random_state=self.random_state,
            image_size=tuple(map(int, size.split("x"))) if size else None,  # type: ignore[arg-type]
            color=self.color,
            image_shape=tuple(map(int, shape.split("x"))) if shape else None,  # type: ignore[arg-type]
        )


class Source(ResponseModel):
    """The uploaded file, which is not kept."""

    format: str
    bytes: int
    sha256: str


class DatasetResponse(ResponseModel):
    """A data set that a job can use; what does not apply is null."""

    model_config = ConfigDict(title="Dataset")

    name: str
    description: str
    built_in: bool
    download: bool = Field(description="Whether each worker machine downloads it once.")
    kind: Literal["image", "table"]
    task: Task
    train_samples: int
    test_samples: int
    shape: list[int] = Field(description="Height, width and channels of an image, in pixels; the columns of a table.")
    classes: int = Field(description="0 for regression.")
    scale: float = Field(description="The largest pixel value; pixels are divided by it.")
    class_names: list[str] | None
    train_class_counts: list[int] | None
    test_class_counts: list[int] | None
    columns: list[dict[str, Any]] | None = Field(description="Of a table, as sent; null in a list of data sets.")
    head: list[dict[str, str]] | None = Field(description="The first rows of a table; null in a list of data sets.")
    source: Source | None
    sha256: str | None = Field(description="Of the stored files; null for a built-in data set.")
    bytes: int | None = Field(description="Of the stored files.")
    jobs: int | None = Field(description="How many jobs use it; null for a built-in data set.")
    created_at: datetime | None
    warnings: list[str]

    @classmethod
    def of(cls, row: StoredDataset, jobs: int) -> Self:
        """From a row."""
        return cls.model_validate(
            {**row.facts, "kind": row.kind, "built_in": False, "jobs": jobs, "created_at": row.created_at}
        )

    @classmethod
    def of_checked(cls, facts: Dataset, shown: dict[str, Any]) -> Self:
        """As it would be stored."""
        return cls.model_validate(
            {**shown, **facts.model_dump(mode="json"), "built_in": False, "jobs": 0, "created_at": None}
        )

    @classmethod
    def of_built_in(cls, facts: Dataset) -> Self:
        """From what is known of a built-in data set."""
        nothing = dict.fromkeys(cls.model_fields)
        return cls.model_validate(
            {**nothing, **facts.model_dump(mode="json"), "kind": facts.kind, "built_in": True, "warnings": []}
        )

    def shorten(self) -> Self:
        """Without what a list of data sets leaves out."""
        changes: dict[str, Any] = {"columns": None, "head": None}
        if self.classes > SHOWN_CLASSES:
            changes |= {"class_names": None, "train_class_counts": None, "test_class_counts": None}
        return self.model_copy(update=changes)


class DatasetPage(ResponseModel):
    """A page of data sets, and the token of the next page."""

    items: list[DatasetResponse]
    next_page_token: str | None
