"""Own data sets: their rows, and the jobs that use them. Files are put before their row is written, and deleted after.

Whoever writes or deletes a row, posts a job with a data set or deletes files holds the content's lock, so that no row
and no unfinished job is ever without its files.
"""

from collections.abc import Sequence
from typing import NoReturn
from uuid import UUID, uuid4

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from app.tuning import storage
from app.tuning.database import clock
from app.tuning.jobs.store import execute_change
from app.tuning.jobs.tables import ENDED_JOB, Job, StoredDataset
from app.tuning.search.datasets import DATASETS, Dataset
from app.tuning.search.rejections import SpecRejected
from app.tuning.search.spec import DatasetSpec, JobSpec

ARRAYS = ("x_train.npy", "y_train.npy", "x_test.npy", "y_test.npy")
PREVIEW = "preview.png"
LISTED_DATASETS = 20


class DatasetInUse(Exception):
    """Jobs that have not ended train on the data set."""


class FilesMissing(Exception):
    """The files were deleted between their put and the row that was to name them."""


def make_folder(sha256: str) -> str:
    """The folder in the storage of the data set with this content."""
    return f"datasets/{sha256}"


def lock_content(session: Session, sha256: str, shared: bool = False) -> None:
    """Hold the lock of a content until the transaction ends. On SQLite a transaction that writes is alone anyway."""
    if session.get_bind().dialect.name == "postgresql":
        lock = func.pg_advisory_xact_lock_shared if shared else func.pg_advisory_xact_lock
        session.execute(select(lock(int(sha256[:15], 16))))


def find_dataset(session: Session, name: str) -> StoredDataset | None:
    """The data set with this name."""
    return session.scalar(select(StoredDataset).where(StoredDataset.name == name))


def list_page_of_datasets(session: Session, after: tuple[object, UUID] | None, limit: int) -> Sequence[StoredDataset]:
    """So many data sets, newest first, after a moment and an ID."""
    newest = select(StoredDataset).order_by(StoredDataset.created_at.desc(), StoredDataset.id.desc()).limit(limit)
    if after:
        moment, dataset_id = after
        same = (StoredDataset.created_at == moment) & (StoredDataset.id < dataset_id)
        newest = newest.where((StoredDataset.created_at < moment) | same)
    return session.scalars(newest).all()


def count_jobs(session: Session, datasets: Sequence[StoredDataset]) -> dict[str, int]:
    """How many jobs each data set has, by its name."""
    mine = Job.dataset_sha256.in_([one.sha256 for one in datasets])
    counts = select(Job.dataset, Job.dataset_sha256, func.count()).where(mine)
    found = {
        (name, sha256): jobs for name, sha256, jobs in session.execute(counts.group_by(*counts.selected_columns[:2]))
    }
    return {one.name: found.get((one.name, one.sha256), 0) for one in datasets}


def count_stored_bytes(session: Session) -> int:
    """The bytes of all data sets together."""
    return int(session.scalar(select(func.coalesce(func.sum(StoredDataset.bytes), 0))) or 0)


def insert_dataset(session: Session, facts: Dataset, shown: dict[str, object], sha256: str, size: int) -> StoredDataset:
    """Write the row of a data set whose files have been put; `shown` is all that is known of it.

    Raises:
        FilesMissing: they were deleted meanwhile, with another data set of the same content: put them again.
        sqlalchemy.exc.IntegrityError: the name was taken meanwhile.
        StorageAway: the storage cannot be reached.
    """
    lock_content(session, sha256)
    keys = {entry.key for entry in storage.list_files(make_folder(sha256))}
    if not keys >= {f"{make_folder(sha256)}/{name}" for name in ARRAYS}:
        raise FilesMissing
    row = StoredDataset(
        id=uuid4(),
        name=facts.name,
        sha256=sha256,
        kind=facts.kind,
        facts={**shown, **facts.model_dump(mode="json")},
        bytes=size,
        created_at=clock(0),
    )
    session.add(row)
    session.flush()
    session.refresh(row)
    return row


def delete_dataset_row(session: Session, name: str) -> str | None:
    """Delete the row; the hash of its content, or None if there is no data set of this name.

    Raises:
        DatasetInUse: unfinished jobs need the content, and no other data set has it.
    """
    found = find_dataset(session, name)
    if found is None:
        return None
    sha256 = found.sha256
    lock_content(session, sha256)
    others = select(StoredDataset.id).where(StoredDataset.sha256 == sha256, StoredDataset.id != found.id).limit(1)
    unfinished = select(func.count()).where(Job.dataset_sha256 == sha256, Job.state.not_in(ENDED_JOB))
    if session.scalar(others) is None and (jobs := session.scalar(unfinished)):
        raise DatasetInUse(f"{jobs} unfinished {'job uses' if jobs == 1 else 'jobs use'} it: cancel first, or wait.")
    gone = execute_change(session, delete(StoredDataset).where(StoredDataset.id == found.id))
    return sha256 if gone else None


def delete_files(session: Session, sha256: str) -> None:
    """Delete the files of a content that no row names any more.

    Raises:
        StorageAway: the storage cannot be reached; housekeeping tries again.
    """
    lock_content(session, sha256)
    if session.scalar(select(StoredDataset.id).where(StoredDataset.sha256 == sha256).limit(1)) is None:
        storage.delete_folder(make_folder(sha256))


def resolve_dataset(session: Session, spec: JobSpec) -> JobSpec:
    """The job with the hash and the facts of its data set.

    Raises:
        SpecRejected: there is no such data set, or its content is not the one that was asked for.
    """
    asked = spec.dataset
    if asked.facts is not None:
        fields = ", ".join(name for name in DatasetSpec.model_fields if name != "facts")
        _reject("facts", f"Unknown field; expected one of {fields}.")
    if asked.name in DATASETS:
        if asked.sha256:
            _reject("sha256", f"{asked.name} is built in: leave sha256 out")
        return spec
    found = find_dataset(session, asked.name)
    if found is None:
        known = [
            *DATASETS,
            *session.scalars(select(StoredDataset.name).order_by(StoredDataset.name).limit(LISTED_DATASETS)),
        ]
        names = ", ".join(f"'{name}'" for name in known)
        _reject("name", f"There is no data set of this name; there are {names}. PUT /v1/datasets/NAME uploads one")
    if asked.sha256 not in (None, found.sha256):
        _reject("sha256", f"{asked.name} has other content now, {found.sha256}: use that, or leave sha256 out")
    facts = Dataset.model_validate(found.facts)
    return spec.model_copy(update={"dataset": asked.model_copy(update={"sha256": found.sha256, "facts": facts})})


def hold_content(session: Session, sha256: str | None) -> bool:
    """Keep a content from being deleted until this transaction ends, in which a job begins to use it.

    False if no data set has it any more; true for a built-in data set, which has no hash.
    """
    if sha256 is None:
        return True
    lock_content(session, sha256, shared=True)
    same = select(StoredDataset.id).where(StoredDataset.sha256 == sha256).limit(1)
    return session.scalar(same) is not None


def hold_dataset(session: Session, spec: JobSpec) -> None:
    """Keep the data set of a job that is being posted from being deleted.

    Raises:
        SpecRejected: it has been deleted.
    """
    if not hold_content(session, spec.dataset.sha256):
        _reject("name", f"{spec.dataset.name} has just been deleted: upload it again")


def _reject(field: str, message: str) -> NoReturn:
    raise SpecRejected([(("dataset", field), message)])
