"""What jobs and models are to both clients: the document last read, and what can be told from it."""

import os
from pathlib import Path
from typing import Any

from tunewell.errors import Error, require
from tunewell.progress import describe_job
from tunewell.service import ENDED_STATES

Document = dict[str, Any]
SUFFIXES = {"keras": ".keras", "onnx": ".onnx", "joblib": ".joblib"}


class JobState:
    """A job as it was when it was last read: `document` has all of it."""

    def __init__(self, document: Document) -> None:
        self.document = document

    @property
    def id(self) -> str:
        return str(self.document["id"])

    @property
    def name(self) -> str | None:
        name: str | None = self.document["name"]
        return name

    @property
    def state(self) -> str:
        return str(self.document["state"])

    @property
    def ended(self) -> bool:
        """Whether it has succeeded, failed or been cancelled."""
        return self.state in ENDED_STATES

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}: {describe_job(self.document)}>"


class ModelManifest:
    """A trained model: `document` is its manifest, `job_id` the job that trained it."""

    def __init__(self, job_id: str, document: Document) -> None:
        self.job_id, self.document = job_id, document

    @property
    def formats(self) -> list[str]:
        """The formats in which it can be downloaded, such as `keras` or `joblib`."""
        return [one["format"] for one in self.document["formats"]]

    def find_file(self, form: str | None) -> Document:
        """The manifest's entry of one format: of the first, if none is named."""
        files: list[Document] = self.document["formats"]
        for one in files:
            if form in {None, one["format"]}:
                return one
        raise ValueError(f"the model has no format {form!r}: it has {', '.join(self.formats)}")

    def locate(self, file: Document) -> str:
        """Where a format's file is, below the service's URL."""
        return f"/v1/jobs/{self.job_id}/model/{file['format']}"

    def name_file(self, target: str | os.PathLike[str] | None, form: str) -> Path:
        """Where a download goes: the target, or a name of its own in the target folder or the current one."""
        path = Path(target or ".")
        return path / f"{self.job_id}{SUFFIXES.get(form, f'.{form}')}" if path.is_dir() else path

    def choose_loadable(self) -> str:
        """The format that Python can load: Keras's or joblib's."""
        for form in ("keras", "joblib"):
            if form in self.formats:
                return form
        raise Error(f"no format of this model can be loaded here: it has {', '.join(self.formats)}; download one")


def load_file(path: Path, form: str) -> Any:
    """The model in a file: a Keras model, or a scikit-learn estimator."""
    if form == "keras":
        return require("keras", "a .keras model").models.load_model(path, compile=False)
    require("sklearn", "a joblib model")
    return require("joblib", "a joblib model").load(path)
