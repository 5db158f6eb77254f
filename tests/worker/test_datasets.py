"""Data sets: their content, how files are checked, and the errors when one is not available."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedKFold

from app.tuning.search.datasets import DATASETS
from app.tuning.search.spec import JobSpec
from app.tuning.settings import settings
from tests.support.ledger import grid
from tests.support.live import UNPRIVILEGED
from tests.support.servers import missing
from worker import datasets
from worker.errors import DatasetUnavailable

LOAD = """
from worker import datasets
from worker.errors import DatasetUnavailable
try:
    datasets.load_dataset("mnist", lambda: None)
except DatasetUnavailable as error:
    print(error)
"""


def never() -> None:
    """The keepalive of a load that must not download."""
    raise AssertionError("a download was begun")


def complaint(folder: Path, prefix: Sequence[str] = ()) -> str:
    """The error when this folder is searched for MNIST without a network."""
    nowhere = {name: "http://127.0.0.1:9" for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")}
    environment = os.environ | nowhere | {"TUNEWELL_DATA_DIR": str(folder), "NO_PROXY": "", "no_proxy": ""}
    done = subprocess.run(
        [*prefix, sys.executable, "-c", LOAD], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_digits_are_scikit_learns_own_and_the_last_360_are_the_test_set() -> None:
    arrays = datasets.load_dataset("digits", never)
    images, labels = load_digits(return_X_y=True)
    assert [array.shape for array in arrays[:4]] == [(1437, 8, 8), (1437,), (360, 8, 8), (360,)]
    assert {array.dtype for array in arrays[:4]} == {np.dtype(np.uint8)}
    assert np.array_equal(np.concatenate([arrays.x_train, arrays.x_test]).reshape(-1, 64), images)
    assert np.array_equal(np.concatenate([arrays.y_train, arrays.y_test]), labels)
    assert arrays.x_train.max() == DATASETS["digits"].scale


def test_a_data_set_stays_in_memory_for_the_next_fit() -> None:
    assert datasets.load_dataset("digits", never) is datasets.load_dataset("digits", never)


def test_mnist_has_its_published_shapes_and_labels() -> None:
    if not (settings().data_dir.expanduser() / "mnist.npz").exists():
        missing("mnist.npz in TUNEWELL_DATA_DIR")
    arrays = datasets.load_dataset("mnist", never)
    assert [array.shape for array in arrays[:4]] == [(60000, 28, 28), (60000,), (10000, 28, 28), (10000,)]
    assert arrays.y_train[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert len(arrays.sha256) == 64


def test_without_mnist_and_network_the_error_names_the_file_and_its_folder(tmp_path: Path) -> None:
    said = complaint(tmp_path / "new")
    assert "could not be downloaded" in said
    assert f"Put Keras's mnist.npz into {tmp_path / 'new'} (TUNEWELL_DATA_DIR)" in said
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["mnist.lock"]


@pytest.mark.parametrize("closed", ["the folder", "the file", "a folder to write to"])
def test_the_error_names_an_unreadable_folder_or_file_and_the_user_who_must_read_it(
    tmp_path: Path, closed: str
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    file = folder / "mnist.npz"
    if closed != "a folder to write to":
        file.write_bytes(b"")
    shut = file if closed == "the file" else folder
    shut.chmod(0o555 if closed == "a folder to write to" else 0)
    said = complaint(folder, UNPRIVILEGED if os.geteuid() == 0 else [])
    shut.chmod(0o755)
    assert said.startswith(f"User {os.geteuid()} may not open {folder}/mnist.")
    assert f"In {folder} (TUNEWELL_DATA_DIR; with Docker Compose, the folder of the host" in said


def test_a_process_that_waited_for_a_failed_download_does_not_repeat_it(tmp_path: Path) -> None:
    lock = tmp_path / "mnist.lock"
    asked: list[int] = []

    def fail_meanwhile() -> None:
        """The other process's download, which fails while this one waits."""
        asked.append(1)
        handle.write("the network is down")
        handle.close()

    handle = lock.open("a+")
    fcntl.flock(handle, fcntl.LOCK_EX)
    with (
        pytest.raises(DatasetUnavailable, match="the network is down"),
        datasets._download_lock(lock, fail_meanwhile),
    ):
        raise AssertionError("it tried")
    assert asked == [1]
    with datasets._download_lock(lock, fail_meanwhile):
        assert lock.read_text() == "", "who comes later tries for himself"


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x05\x06" + bytes(18)])
def test_another_file_in_place_of_mnist_is_rejected(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "mnist.npz").write_bytes(content)
    assert f"{tmp_path / 'mnist.npz'} is not Keras's mnist.npz" in complaint(tmp_path)


def test_other_arrays_under_the_names_of_mnist_are_rejected(tmp_path: Path) -> None:
    empty = np.zeros((1, 28, 28), np.uint8)
    np.savez(tmp_path / "mnist.npz", x_train=empty, y_train=empty, x_test=empty, y_test=empty)
    assert "its x_train is not MNIST's" in complaint(tmp_path)


@pytest.mark.parametrize("folds", [2, 3, 10])
def test_folds_are_stratified_and_unshuffled(folds: int) -> None:
    from worker.fit import split_rows

    arrays = datasets.load_dataset("digits", never)
    spec = grid(1, evaluation={"cv": folds}, dataset={"name": "digits", "train_samples": 1000})
    expected = StratifiedKFold(folds).split(np.zeros(1000), arrays.y_train[:1000])
    for fold, (train, held_out) in enumerate(expected):
        rows, scored = split_rows(spec, fold, arrays)
        assert np.array_equal(rows, train) and np.array_equal(scored, held_out)


@pytest.mark.parametrize("name", list(DATASETS))
def test_the_minimum_of_samples_for_each_cv_is_what_scikit_learn_can_split(name: str) -> None:
    if name == "mnist" and not (settings().data_dir.expanduser() / "mnist.npz").exists():
        missing("mnist.npz in TUNEWELL_DATA_DIR")
    labels = datasets.load_dataset(name, never).y_train
    for folds in range(2, 11):
        fewest = DATASETS[name].smallest_for(folds)
        if DATASETS[name].task == "regression":  # split without regard to classes
            assert fewest == folds
            continue
        assert fewest >= folds and np.bincount(labels[:fewest]).max() >= folds
        assert fewest == folds or np.bincount(labels[: fewest - 1]).max() < folds


def test_the_hold_out_set_is_the_last_tenth_as_in_keras() -> None:
    from worker.fit import split_rows

    arrays = datasets.load_dataset("digits", never)
    rows, scored = split_rows(grid(1, evaluation={"validation_split": 0.1}), 0, arrays)
    assert (rows[0], rows[-1], scored[0], scored[-1]) == (0, 1292, 1293, 1436)


def test_a_seed_comes_from_the_random_state_and_the_fold_alone() -> None:
    from app.tuning.search.keys import derive_seed

    specs: list[JobSpec] = [grid(1, random_state=state) for state in (0, 1)]
    seeds = {derive_seed(spec, fold) for spec in specs for fold in (None, 0, 1, 2)}
    assert len(seeds) == 8
    assert derive_seed(grid(5, random_state=1), 2) == derive_seed(specs[1], 2)
