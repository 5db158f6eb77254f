"""Damaged input: error messages in any script, archives with corrupt bytes."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from worker.errors import error_record

ROOT = Path(__file__).parents[2]
LOAD_EACH = """
import os, sys
from pathlib import Path
from worker import datasets
from worker.errors import DatasetUnavailable
place = Path(os.environ["TUNEWELL_DATA_DIR"]) / "mnist.npz"
for number, damaged in enumerate(sorted(Path(sys.argv[1]).iterdir())):
    place.write_bytes(damaged.read_bytes())
    os.utime(place, ns=(0, number))
    try:
        datasets.load_dataset("mnist", lambda: None)
    except DatasetUnavailable as error:
        print(str(error).partition(" (")[0])
"""


@pytest.mark.parametrize("text", ["a", "ä", "\u8a00", "\U0001f600", "\ud800", "\0", "\n"])
def test_an_error_stays_below_four_kibibytes_in_any_script(text: str) -> None:
    try:
        raise ValueError(text * 20_000)
    except ValueError as error:
        stored = error_record(error)
    assert stored["type"] == "ValueError"
    parts = (stored["type"], stored["message"], stored["traceback"] or "")
    assert sum(len(part.encode()) for part in parts) <= 4096
    assert json.loads(json.dumps(stored)) == stored
    assert "\0" not in "".join(parts)


def test_a_corrupt_archive_is_rejected_wherever_it_is_corrupt(tmp_path: Path) -> None:
    kept, place = tmp_path / "damaged", tmp_path / "data"
    kept.mkdir()
    place.mkdir()
    whole, single = tmp_path / "whole.npz", kept / "an-array.npy"
    images = np.random.default_rng(0).integers(0, 20, (50, 28, 28)).astype(np.uint8)
    np.savez_compressed(whole, x_train=images, y_train=images[:, 0, 0], x_test=images, y_test=images[:, 0, 0])
    np.save(single, images)
    dice, good = random.Random(1), whole.read_bytes()
    for number in range(100):
        broken = bytearray(good)
        broken[dice.randrange(len(broken))] = dice.randrange(256)
        (kept / f"{number}.npz").write_bytes(broken)
    environment = os.environ | {"TUNEWELL_DATA_DIR": str(place)}
    command = [sys.executable, "-c", LOAD_EACH, str(kept)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{place / 'mnist.npz'} is not Keras's mnist.npz"] * 101
