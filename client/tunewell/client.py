"""The blocking client."""

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tunewell import calls, flows
from tunewell.calls import Call
from tunewell.effects import Document, Flow, T
from tunewell.handles import JobState, ModelManifest, load_file
from tunewell.progress import choose_bar
from tunewell.service import Patience, Service
from tunewell.specs import Spec, write_spec
from tunewell.tables import make_dataframe
from tunewell.transports import Transport
from tunewell.uploading import Data, describe_file, make_file, write_options


class Client:
    """A Tunewell service; a context manager that holds the connection.

    Args:
        url: the service's; `TUNEWELL_URL`, or else `http://127.0.0.1:8000`, if it is not given.
        note: is told, in a sentence, when a call has to be repeated.
        patience: for how long calls are repeated.

    Every call raises `RequestRejected` (or its `NotFound`, `Conflict`, `NotServed`) when the service rejects it, and
    `ServiceUnreachable` when there is no response in time.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        note: Callable[[str], None] = lambda text: None,
        patience: Patience | None = None,
    ) -> None:
        self.service = Service(url, note, patience)
        self._transport = Transport(self.service)

    @property
    def url(self) -> str:
        """The service's, without credentials."""
        return self.service.url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    def submit(self, spec: Spec | None = None, *, key: str | None = None, **fields: Any) -> "Job":
        """Post a job: a dict or JSON text, or its fields by keyword (`search=…, dataset="digits", model="svc"`).

        It is repeated after an outage without making a second job; `key`, the idempotency key, extends that to
        calls of another process.
        """
        return Job(self, self.fetch(calls.create_job(write_spec(spec, fields), key)))

    def preview(self, spec: Spec | None = None, **fields: Any) -> Document:
        """What the job would come to, or why it would be rejected; nothing is posted."""
        return self.fetch(calls.preview(write_spec(spec, fields)))

    def jobs(self, *, limit: int | None = None, **filters: str) -> list["Job"]:
        """Jobs, newest first; filters are those of `GET /v1/jobs`, such as `state`, `name` and `label`."""
        return [Job(self, one) for one in self.gather(calls.list_jobs(**filters), limit)["items"]]

    def job(self, job_id: str) -> "Job":
        """The job with this ID."""
        return Job(self, self.fetch(calls.show_job(job_id)))

    def datasets(self) -> list[Document]:
        """The data sets that jobs can name."""
        return list(self.gather(calls.list_datasets())["items"])

    def dataset(self, name: str) -> Document:
        """One data set, with its class counts or columns."""
        return self.fetch(calls.show_dataset(name))

    def upload(self, name: str, data: Data, **options: Any) -> Document:
        """Store data under a name, and return what the service has made of it; the same data again is no error.

        Args:
            data: the path of a file (npz, CSV, CSV.gz, zip) or of a folder of images; or arrays: `(x, y)`,
                `(x_train, y_train, x_test, y_test)` or a dict of them.
            options: those of `PUT /v1/datasets/{name}`: `target`, `task`, `exclude`, `test_share`, `random_state`,
                `image_size`, `color`, `image_shape`, `dry_run`.
        """
        with make_file(data) as file:
            headers = describe_file(file)
            return self.fetch(calls.upload_dataset(name, file, headers, write_options(options)))

    def delete_dataset(self, name: str) -> None:
        """Delete a data set that no job uses any more."""
        self.run(self.service.send(calls.delete_dataset(name)))

    def models(self) -> list[Document]:
        """The models that jobs can name, with every hyperparameter's type, bounds, default and meaning."""
        return list(self.gather(calls.list_models())["items"])

    def fetch(self, call: Call, retry_for: float | None = None) -> Document:
        """The service's response to one of `tunewell.calls`, as it is."""
        return self.run(self.service.fetch(call, retry_for))

    def gather(self, call: Call, limit: int | None = None) -> Document:
        """All pages that the service has for one of `tunewell.calls` as one page, at most `limit` items."""
        return self.run(flows.gather_pages(self.service, call, limit))

    def watch(self, job_id: str) -> Iterator[Document]:
        """The job as it is, and after each change until it has ended."""
        return self.iterate(flows.watch_job(self.service, job_id))

    def run(self, flow: Flow[T]) -> T:
        """Go through a flow to its end."""
        return self._transport.run(flow)

    def iterate(self, flow: Flow[None]) -> Iterator[Document]:
        """Go through a flow, yielding what it emits."""
        return self._transport.iterate(flow)


class Job(JobState):
    """A job of a service, with what can be asked of it."""

    def __init__(self, client: Client, document: Document) -> None:
        super().__init__(document)
        self._client = client

    def refresh(self) -> Self:
        """Read it again."""
        self.document = self._client.fetch(calls.show_job(self.id))
        return self

    def watch(self) -> Iterator[Document]:
        """The job's document as it is, and after each change until it has ended."""
        for document in self._client.watch(self.id):
            self.document = document
            yield document

    def wait(self, *, progress: bool = True) -> Self:
        """Wait until it has ended, however it has ended; a service that restarts meanwhile is waited for."""
        bar = choose_bar(progress)
        try:
            for document in self.watch():
                bar.show(document)
        finally:
            bar.close()
        return self

    def best(self) -> Document:
        """The best trial so far, or the final one with its accuracy on the test set.

        Raises:
            Conflict: no trial has succeeded yet.
        """
        return self._client.fetch(calls.show_best(self.id))

    def trials(self, *, limit: int | None = None, **filters: str) -> list[Document]:
        """Its trials; filters are `state` and `sort`: `number`, `validation_accuracy` or `-validation_accuracy`."""
        return list(self._client.gather(calls.list_trials(self.id, **filters), limit)["items"])

    def trial(self, number: int) -> Document:
        """One trial with its fits and their histories."""
        return self._client.fetch(calls.show_trial(self.id, number))

    def table(self) -> Document:
        """All trials as columns."""
        return self._client.fetch(calls.show_table(self.id))

    def dataframe(self) -> Any:
        """All trials as a pandas DataFrame, by their numbers."""
        return make_dataframe(self.table())

    def results(self) -> Document:
        """All finished trials as scikit-learn's `cv_results_`, in lists."""
        return self._client.fetch(calls.show_results(self.id))

    def cancel(self) -> Self:
        """Stop it; running fits end within seconds."""
        return self._control("cancel")

    def pause(self) -> Self:
        """Give running fits back, and claim no others until `resume`."""
        return self._control("pause")

    def resume(self) -> Self:
        """Go on after `pause`."""
        return self._control("resume")

    def retry(self) -> Self:
        """Train the failed fits again, and only these."""
        return self._control("retry")

    def extend(self, **more: Any) -> Self:
        """Let the search go on: `n_iter=40`, `param_grid={…}` with more values, or `max_resources=27`."""
        return self._control("extend", more)

    def delete(self) -> None:
        """Delete it with its trials, once it has ended."""
        self._client.run(self._client.service.send(calls.delete_job(self.id)))

    def model(self) -> "Model":
        """The trained winner.

        Raises:
            Conflict: there is none.
        """
        return Model(self._client, self.id, self._client.fetch(calls.show_model(self.id)))

    def _control(self, verb: str, more: Mapping[str, Any] | None = None) -> Self:
        body = None if more is None else write_spec(more, {})
        self.document = self._client.fetch(calls.control_job(self.id, verb, body))
        return self


class Model(ModelManifest):
    """A trained model that can be downloaded and loaded."""

    def __init__(self, client: Client, job_id: str, document: Document) -> None:
        super().__init__(job_id, document)
        self._client = client

    def download(self, target: str | os.PathLike[str] | None = None, form: str | None = None) -> Path:
        """Write the file of a format into a folder or under a name, check its digest, and return its path."""
        file = self.find_file(form)
        path = self.name_file(target, file["format"])
        return self._client.run(flows.download_file(self._client.service, self.locate(file), path, file.get("sha256")))

    def load(self) -> Any:
        """The Keras model or scikit-learn estimator itself.

        A joblib file is a program: load it only from a service that you trust.
        """
        form = self.choose_loadable()
        with tempfile.TemporaryDirectory(prefix="tunewell-") as folder:
            return load_file(self.download(folder, form), form)
