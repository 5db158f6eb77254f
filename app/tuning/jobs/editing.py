"""What people call a job, and write about it: it changes nothing that is trained."""

from typing import Annotated, Any

from pydantic import Field, model_validator

from app.tuning.jobs.outcomes import change_job
from app.tuning.jobs.tables import Job
from app.tuning.search.spaces import Strict
from app.tuning.search.spec import Labels, Name

MAX_NOTE_LENGTH = 4096
NOTE = r"^[^\x00]*$"  # PostgreSQL stores no such character


class JobEdit(Strict):
    """What is given replaces what the job has; what is not given stays."""

    name: Name | None = Field(None, description="Null for none.")
    labels: Labels = Field({}, description="All labels of the job from now on.")
    note: Annotated[str, Field(pattern=NOTE)] = Field("", max_length=MAX_NOTE_LENGTH, description="Text, not markup.")

    @model_validator(mode="after")
    def gives_something(self) -> "JobEdit":
        """Reject an edit of nothing."""
        if not self.model_fields_set:
            raise ValueError("give name, labels or note")
        return self


def edit_job(job: Job, edit: JobEdit) -> None:
    """Change the locked job; nothing happens to one that is so already."""
    changes: dict[str, Any] = edit.model_dump(exclude_unset=True)
    if all(getattr(job, name) == value for name, value in changes.items()):
        return
    for name, value in changes.items():
        setattr(job, name, value)
    change_job(job)
    job.edit_version = job.version
