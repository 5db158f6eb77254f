"""Loads data sets, checks their content and keeps the last one in memory."""

import hashlib
import logging
import os
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np
from numpy.typing import NDArray

from app.tuning.search.datasets import DATASETS
from app.tuning.settings import settings
from worker.errors import DatasetUnavailable
from worker.locking import Alive, acquire
from worker.stored_datasets import load_stored

Bytes = NDArray[np.uint8]
Samples = NDArray[np.uint8] | NDArray[np.float64]
Targets = NDArray[np.uint8] | NDArray[np.float64]
FourArrays = tuple[Samples, Targets, Samples, Targets]
MNIST_SHA256 = {
    "x_train": "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
    "y_train": "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
    "x_test": "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
    "y_test": "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
}
# What NumPy, zipfile and zlib raise for a file that is damaged, encrypted or of another format.
UNREADABLE = (OSError, ValueError, LookupError, EOFError, TypeError, RuntimeError, zipfile.BadZipFile, zlib.error)
DOWNLOAD_SECONDS = 300
# Keras checks the archive's hash; we check the hashes of its arrays.
DOWNLOAD = "import keras; keras.datasets.mnist.load_data('mnist.npz')"


log = logging.getLogger("tunewell.worker")


class Arrays(NamedTuple):
    """A data set: images (n, height, width) as bytes, or a table (n, columns) of float64.

    Labels, (n,), are classes as bytes, for regression float64. A client's own may also have images in color,
    (n, height, width, 3), tables of float32 and labels of uint16.
    """

    x_train: Samples
    y_train: Targets
    x_test: Samples
    y_test: Targets
    sha256: str  # of the four arrays' bytes, in this order


def load_dataset(name: str, alive: Alive, sha256: str | None = None) -> Arrays:
    """Return the data set, from memory if it was also the last one asked for; `sha256` is that of a client's own.

    `alive` is called every second during a download and may raise to stop it.

    Raises:
        DatasetUnavailable: it is not here and cannot be downloaded, or its content is not the expected one.
    """
    key = sha256 or name
    if key not in _kept:
        arrays = _load_own(name, sha256, alive) if sha256 else _load_built_in(name, alive)
        _kept.clear()
        _kept[key] = arrays
    return _kept[key]


def _load_own(name: str, sha256: str, alive: Alive) -> Arrays:
    return Arrays(*load_stored(name, sha256, alive), sha256)


def _load_built_in(name: str, alive: Alive) -> Arrays:
    try:
        arrays = LOADERS[name](alive)
    except OSError as error:
        raise DatasetUnavailable(f"{name} cannot be loaded on this worker's machine: {error}") from error
    return Arrays(*arrays, _sha256(*arrays))


_kept: dict[str, Arrays] = {}


def forget_dataset() -> None:
    """Free the data set that is kept in memory."""
    _kept.clear()


def _load_digits(alive: Alive) -> FourArrays:
    from sklearn.datasets import load_digits  # here, because a worker's main process does not need it

    images, labels = load_digits(return_X_y=True)
    images, labels = images.reshape(-1, 8, 8).astype(np.uint8), labels.astype(np.uint8)
    size = DATASETS["digits"].train_samples
    return images[:size], labels[:size], images[size:], labels[size:]


def _load_table(name: str, alive: Alive) -> FourArrays:
    from sklearn import datasets

    table, labels = getattr(datasets, f"load_{name}")(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(labels))  # they are sorted by class
    known = DATASETS[name]
    table, labels = table[order], labels[order].astype(np.uint8 if known.classes else np.float64)
    size = known.train_samples
    return table[:size], labels[:size], table[size:], labels[size:]


def _load_mnist(alive: Alive) -> FourArrays:
    file = _mnist_file()
    try:
        _ensure_mnist(file, alive)
        x_train, y_train, x_test, y_test = _read_mnist(file)
    except PermissionError as error:
        raise DatasetUnavailable(_explain_permission(file, error)) from error
    return x_train, y_train, x_test, y_test


# By data set: called with `alive`, returns x_train, y_train, x_test and y_test.
LOADERS: dict[str, Callable[[Alive], FourArrays]] = {
    "mnist": _load_mnist,
    "digits": _load_digits,
    **{name: partial(_load_table, name) for name in ("iris", "wine", "breast_cancer", "diabetes")},
}


def _read_mnist(file: Path) -> list[Bytes]:
    """The archive's four arrays, checked against their hashes."""
    try:
        with np.load(file, allow_pickle=False) as archive:
            found = [np.ascontiguousarray(archive[array]) for array in MNIST_SHA256]
        for values, (array, sha256) in zip(found, MNIST_SHA256.items(), strict=True):
            if _sha256(values) != sha256:
                raise ValueError(f"its {array} is not MNIST's")
    except PermissionError:
        raise
    except UNREADABLE as error:
        raise DatasetUnavailable(
            f"{file} is not Keras's mnist.npz ({error}); replace it, or remove it to have it downloaded"
        ) from error
    return found


def _sha256(*arrays: Samples) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(array.tobytes())
    return digest.hexdigest()


def _mnist_file() -> Path:
    return settings().data_dir.expanduser().absolute() / "mnist.npz"


def warn_if_mnist_is_missing() -> None:
    """Log why MNIST is not available on this machine, if it is not."""
    try:
        file = _mnist_file()
        file.open("rb").close()
    except FileNotFoundError:
        log.warning("MNIST is not there: the first fit that needs it downloads it", extra={"folder": str(file.parent)})
    except PermissionError as error:
        log.warning("MNIST cannot be read", extra={"reason": _explain_permission(file, error)})
    except (OSError, RuntimeError) as error:
        log.warning("MNIST cannot be read", extra={"reason": str(error)})


def _ensure_mnist(file: Path, alive: Alive) -> None:
    if not _exists(file):
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with _download_lock(file.with_suffix(".lock"), alive):
                if not _exists(file):
                    _download(file, alive)
        except PermissionError:
            raise
        except OSError as error:
            raise _make_unavailable(file, str(error)) from error


def _exists(file: Path) -> bool:
    """Unlike `Path.exists`, raises PermissionError in every version of Python if the folder cannot be searched."""
    try:
        file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


@contextmanager
def _download_lock(lock: Path, alive: Alive) -> Iterator[None]:
    """Wait until no other process downloads; if the other's download failed meanwhile, fail with its message."""
    with lock.open("a+") as handle:
        if acquire(handle, alive) and (failure := _read_all(handle)):
            raise DatasetUnavailable(failure)
        handle.truncate(0)
        try:
            yield
        except DatasetUnavailable as error:
            handle.write(str(error))
            raise


def _read_all(file: TextIO) -> str:
    file.seek(0)
    return file.read()


def _download(file: Path, alive: Alive) -> None:
    """Have Keras download it into a temporary folder beside its destination, then move it there in one step."""
    with tempfile.TemporaryDirectory(dir=file.parent, prefix="mnist-") as folder:
        output = Path(folder) / "output"
        if failure := _wait_for_download(_start_keras(Path(folder), output), alive):
            last = output.read_text(errors="replace").strip().splitlines() or [failure]
            raise _make_unavailable(file, last[-1][:500])
        (Path(folder) / "datasets" / "mnist.npz").replace(file)


def _start_keras(home: Path, output: Path) -> "subprocess.Popen[bytes]":
    with output.open("wb") as sink:
        environment = os.environ | {"KERAS_HOME": str(home)}
        return subprocess.Popen([sys.executable, "-c", DOWNLOAD], stdout=sink, stderr=sink, env=environment)


def _wait_for_download(download: "subprocess.Popen[bytes]", alive: Alive) -> str | None:
    """Wait for the download, at most `DOWNLOAD_SECONDS`; return why it failed, or None."""
    with download:
        try:
            for _ in range(DOWNLOAD_SECONDS):
                alive()
                with suppress(subprocess.TimeoutExpired):
                    code = download.wait(timeout=1)
                    return f"Keras ended with {code}" if code else None
            return f"not finished after {DOWNLOAD_SECONDS} seconds"
        finally:
            download.kill()


def _make_unavailable(file: Path, reason: str) -> DatasetUnavailable:
    return DatasetUnavailable(
        f"MNIST is not on this worker's machine and could not be downloaded: {reason}. Put Keras's mnist.npz into "
        f"{settings().data_folder}, or use the data set 'digits', which needs no download"
    )


def _explain_permission(file: Path, error: PermissionError) -> str:
    return (
        f"User {os.geteuid()} may not open {error.filename or file} ({error.strerror}). In {file.parent} "
        "(TUNEWELL_DATA_DIR; with Docker Compose, the folder of the host that this variable names) that user must be "
        "able to read mnist.npz, or to write, so that it can be downloaded. Or use the data set 'digits', which needs "
        "no download"
    )
