"""Loads data sets, checks their content and keeps the last one in memory, as bytes."""

import fcntl
import hashlib
import logging
import os
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np
from numpy.typing import NDArray

from app.tuning.search.datasets import DATASETS
from app.tuning.settings import settings

Bytes = NDArray[np.uint8]
FourArrays = tuple[Bytes, Bytes, Bytes, Bytes]
Alive = Callable[[], None]
MNIST_SHA256 = {
    "x_train": "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
    "y_train": "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
    "x_test": "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
    "y_test": "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
}
# What NumPy, zipfile and zlib raise over a file that is damaged, encrypted, or none of theirs.
UNREADABLE = (OSError, ValueError, LookupError, EOFError, TypeError, RuntimeError, zipfile.BadZipFile, zlib.error)
DOWNLOAD_SECONDS = 300
# Keras checks the archive against its own hash; the arrays are checked against ours below.
DOWNLOAD = "import keras; keras.datasets.mnist.load_data('mnist.npz')"


log = logging.getLogger("tunewell.worker")


class DatasetUnavailable(Exception):
    """A data set that cannot be had on this machine: another worker's may have it."""


class Arrays(NamedTuple):
    """A data set's bytes: images (n, height, width), labels (n,)."""

    x_train: Bytes
    y_train: Bytes
    x_test: Bytes
    y_test: Bytes
    sha256: str  # of the four arrays' bytes, in this order


def load_dataset(name: str, alive: Alive) -> Arrays:
    """The data set, from memory if it is the one that was asked for last.

    `alive` is called every second while it is downloaded, and may raise to stop that.

    Raises:
        DatasetUnavailable: it is neither here nor to be had, or it is not what it should be.
    """
    if name not in _kept:
        try:
            arrays = LOADERS[name](alive)
        except OSError as error:
            raise DatasetUnavailable(f"{name} cannot be loaded on this worker's machine: {error}") from error
        _kept.clear()
        _kept[name] = Arrays(*arrays, _sha256(*arrays))
    return _kept[name]


_kept: dict[str, Arrays] = {}


def forget_dataset() -> None:
    """Let the data set that is kept in memory go."""
    _kept.clear()


def _load_digits(alive: Alive) -> FourArrays:
    from sklearn.datasets import load_digits  # here, because a worker's main process has no use for it

    images, labels = load_digits(return_X_y=True)
    images, labels = images.reshape(-1, 8, 8).astype(np.uint8), labels.astype(np.uint8)
    size = DATASETS["digits"].train_samples
    return images[:size], labels[:size], images[size:], labels[size:]


def _load_mnist(alive: Alive) -> FourArrays:
    file = _mnist_file()
    try:
        _provide_mnist(file, alive)
        x_train, y_train, x_test, y_test = _read_mnist(file)
    except PermissionError as error:
        raise DatasetUnavailable(_forbidden(file, error)) from error
    return x_train, y_train, x_test, y_test


# Name of each data set to what loads it: called with `alive`, it returns x_train, y_train, x_test and y_test.
LOADERS: dict[str, Callable[[Alive], FourArrays]] = {"mnist": _load_mnist, "digits": _load_digits}


def _read_mnist(file: Path) -> list[Bytes]:
    """The archive's four arrays; an archive with others in it is refused."""
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


def _sha256(*arrays: Bytes) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(array.tobytes())
    return digest.hexdigest()


def _mnist_file() -> Path:
    return settings().data_dir.expanduser().absolute() / "mnist.npz"


def warn_if_mnist_is_missing() -> None:
    """Log what stands in the way of MNIST on this machine, if anything does."""
    try:
        file = _mnist_file()
        file.open("rb").close()
    except FileNotFoundError:
        log.warning("MNIST is not there: the first fit that needs it downloads it", extra={"folder": str(file.parent)})
    except PermissionError as error:
        log.warning("MNIST cannot be read", extra={"reason": _forbidden(file, error)})
    except (OSError, RuntimeError) as error:
        log.warning("MNIST cannot be read", extra={"reason": str(error)})


def _provide_mnist(file: Path, alive: Alive) -> None:
    if not _is_there(file):
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with _only_one(file.with_suffix(".lock"), alive):
                if not _is_there(file):
                    _download(file, alive)
        except PermissionError:
            raise
        except OSError as error:
            raise _unavailable(file, str(error)) from error


def _is_there(file: Path) -> bool:
    """Whether it is; unlike `Path.exists`, it says the same in every version of Python where that cannot be seen."""
    try:
        file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


@contextmanager
def _only_one(lock: Path, alive: Alive) -> Iterator[None]:
    """Wait until no other process downloads; if that one has failed meanwhile, fail with its words."""
    with lock.open("a+") as handle:
        if _waited_for(handle, alive) and (failure := _content(handle)):
            raise DatasetUnavailable(failure)
        handle.truncate(0)
        try:
            yield
        except DatasetUnavailable as error:
            handle.write(str(error))
            raise


def _waited_for(lock: TextIO, alive: Alive) -> bool:
    """Take the lock; whether another process had it."""
    waited = False
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return waited
        except BlockingIOError:
            waited = True
            alive()
            time.sleep(1)


def _content(file: TextIO) -> str:
    file.seek(0)
    return file.read()


def _download(file: Path, alive: Alive) -> None:
    """Let Keras download it into a folder beside its place, and move it there once it is whole."""
    with tempfile.TemporaryDirectory(dir=file.parent, prefix="mnist-") as folder:
        said = Path(folder) / "said"
        if failure := _ended(_keras(Path(folder), said), alive):
            last = said.read_text(errors="replace").strip().splitlines() or [failure]
            raise _unavailable(file, last[-1][:500])
        (Path(folder) / "datasets" / "mnist.npz").replace(file)


def _keras(home: Path, said: Path) -> "subprocess.Popen[bytes]":
    with said.open("wb") as output:
        environment = os.environ | {"KERAS_HOME": str(home)}
        return subprocess.Popen([sys.executable, "-c", DOWNLOAD], stdout=output, stderr=output, env=environment)


def _ended(download: "subprocess.Popen[bytes]", alive: Alive) -> str | None:
    """Wait for the download, within bounds; what is wrong with it, if anything is."""
    with download:
        try:
            for _ in range(DOWNLOAD_SECONDS):
                alive()
                with suppress(subprocess.TimeoutExpired):
                    code = download.wait(timeout=1)
                    return f"Keras ended with {code}" if code else None
            return f"no end after {DOWNLOAD_SECONDS} seconds"
        finally:
            download.kill()


def _unavailable(file: Path, reason: str) -> DatasetUnavailable:
    return DatasetUnavailable(
        f"MNIST is not on this worker's machine and could not be downloaded: {reason}. Put Keras's mnist.npz into "
        f"{settings().data_folder}, or search on the data set 'digits', which needs no download"
    )


def _forbidden(file: Path, error: PermissionError) -> str:
    return (
        f"User {os.geteuid()} may not open {error.filename or file} ({error.strerror}). In {file.parent} "
        "(TUNEWELL_DATA_DIR; with Docker Compose, the folder of the host that this variable names) that user must be "
        "able to read mnist.npz, or to write, so that it can be downloaded. Or search on the data set 'digits', which "
        "needs no download"
    )
