"""The models that jobs keep: what their rows say of the files, and what these are called in the storage.

A file's name contains the job's ID, so that no two jobs share a file: who deletes one needs to know of no other job.
"""

from typing import Literal, TypedDict
from uuid import UUID

PREFIX = "models"
# What a model returns for a sample; an estimator whose output is `class_and_probabilities` has `predict_proba`.
Output = Literal["probabilities", "class", "class_and_probabilities", "number"]


class SavedFile(TypedDict):
    """One file of a model."""

    format: str
    bytes: int
    sha256: str


class ModelInput(TypedDict):
    """What a model takes; `shape` is that of one sample."""

    shape: list[int]
    dtype: str
    scaling: str


class SavedModel(TypedDict):
    """What a job's row says of its model."""

    files: list[SavedFile]
    left_out: dict[str, str]  # by format, why there is no such file
    input: ModelInput
    output: Output
    class_names: list[str] | None  # by the number of the class; None for regression
    environment: dict[str, str]  # of what trained it


def name_model_folder(job_id: UUID) -> str:
    """The folder of a job's files in the storage."""
    return f"{PREFIX}/{job_id}"


def name_model_file(job_id: UUID, file: SavedFile) -> str:
    """The key of a job's file in the storage."""
    return f"{name_model_folder(job_id)}/{file['sha256']}.{file['format']}"


def name_model_files(job_id: UUID, model: SavedModel) -> list[str]:
    """The keys of all files of a job's model."""
    return [name_model_file(job_id, file) for file in model["files"]]


def find_owner(key: str) -> UUID | None:
    """The job whose file has this key; None if it is no model's."""
    try:
        return UUID(key.split("/")[1])
    except (IndexError, ValueError):
        return None


def find_file(model: SavedModel, form: str) -> SavedFile | None:
    """The model's file of this format."""
    return next((file for file in model["files"] if file["format"] == form), None)
