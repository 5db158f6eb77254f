"""The child process, and what becomes of its answer when it dies, goes on for ever or says too much."""

import hashlib
import io
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.intake import run
from app.intake.answers import Description, Options, Refusal
from app.intake.run import convert
from tests.intake.files import load_four, write_npy, write_zip

OPTIONS = Options("flowers")
BUFFER = io.BytesIO()
Image.new("L", (1, 1)).save(BUFFER, format="PNG")
PIXEL = BUFFER.getvalue()


@pytest.fixture
def upload(tmp_path: Path) -> Path:
    np.savez(tmp_path / "upload", x=np.arange(120.0).reshape(40, 3), y=np.arange(40) % 2)
    (tmp_path / "out").mkdir()
    return tmp_path / "upload.npz"


def replace_child(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str) -> None:
    """Let another program be the child; it finds the output folder in `out`."""
    (tmp_path / "child.py").write_text(f"import os, sys, time\nout = sys.argv[2]\n{program}\n")
    monkeypatch.setattr(run, "CHILD", tmp_path / "child.py")


def test_the_child_writes_four_arrays_and_describes_them(upload: Path) -> None:
    out = upload.parent / "out"
    described = convert(upload, out, OPTIONS, 60)
    assert isinstance(described, Description)
    assert (described.format, described.train_samples, described.shape) == ("npz", 32, (3,))
    assert sorted(path.name for path in out.iterdir()) == ["x_test.npy", "x_train.npy", "y_test.npy", "y_train.npy"]
    files = b"".join((out / f"{name}.npy").read_bytes() for name in ("x_train", "y_train", "x_test", "y_test"))
    assert hashlib.sha256(files).hexdigest() == described.sha256
    assert sum(array.nbytes for array in load_four(out)) == described.bytes


def test_a_rejected_file_leaves_the_folder_empty(upload: Path) -> None:
    out = upload.parent / "out"
    refusal = convert(upload, out, Options("flowers", task="regression", test_share=0.2, image_shape=(1, 3, 1)), 60)
    assert isinstance(refusal, Refusal)
    assert refusal.errors[0]["pointer"] == "/task"
    assert refusal.detail == "flowers was read as npz. 1 error was found; nothing was stored."
    assert not list(out.iterdir())


@pytest.mark.parametrize(
    ("members", "status"),
    [
        ({"a/1.png": PIXEL, "a/2.png": PIXEL, "b/1.png": PIXEL, "b/2.png": PIXEL[:-30]}, 422),
        ({"train-images-idx3-ubyte": b"", "train-labels-idx1-ubyte": b""}, 422),
        ({"x.npy": write_npy(np.ones(9), (10**12,)), "y.npy": b""}, 422),
        ({"a.txt": b""}, 415),
    ],
    ids=["a truncated image", "empty", "a lying header", "no data"],
)
def test_nothing_is_left_of_an_archive_that_is_rejected(tmp_path: Path, members: dict[str, bytes], status: int) -> None:
    (tmp_path / "out").mkdir()
    refusal = convert(write_zip(tmp_path / "upload", members), tmp_path / "out", OPTIONS, 60)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, len(refusal.errors)) == (status, 1)
    assert not list((tmp_path / "out").iterdir())


def test_the_child_reads_images(tmp_path: Path) -> None:
    """Pillow's libraries load within the limits."""
    (tmp_path / "out").mkdir()
    members = {f"{name}/{number}.png": PIXEL for name in "ab" for number in range(4)}
    described = convert(write_zip(tmp_path / "upload", members), tmp_path / "out", OPTIONS, 60)
    assert isinstance(described, Description)
    assert (described.format, described.shape) == ("image_folders", (1, 1, 1))
    assert (tmp_path / "out" / "preview.png").exists()


def test_the_child_has_no_environment_and_narrow_limits(upload: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEWELL_DATABASE_URL", "postgresql://user:secret@host/name")
    program = f"""
sys.path.append({str(run.CHILD.parents[2])!r})
import json, resource, runpy
sys.argv[1] = "/nowhere"
runpy.run_path({str(run.CHILD)!r})["restrict_process"]()
names = ("CPU", "AS", "FSIZE", "CORE", "NPROC")
limits = [resource.getrlimit(getattr(resource, "RLIMIT_" + name))[0] for name in names]
detail = json.dumps([dict(os.environ), limits, os.getsid(0) == os.getpid()])
print(json.dumps(dict(status=422, detail=detail, errors=[])))
"""
    replace_child(monkeypatch, upload.parent, program)
    refusal = convert(upload, upload.parent / "out", OPTIONS, 60)
    assert isinstance(refusal, Refusal)
    environment, limits, own_session = json.loads(refusal.detail)
    assert not {name for name in environment if not name.startswith("LC_")}
    assert limits == [120, 4 * 2**30, 4 * 2**30, 0, 0]
    assert own_session


@pytest.mark.parametrize(
    ("program", "status", "reason"),
    [
        ("os.abort()", 422, "signal 6"),
        ("os.kill(os.getpid(), 9)", 422, "signal 9"),
        ("os._exit(3)", 422, "exit code 3"),
        ("print('{')", 422, "exit code 0"),
        ("print('[]')", 422, "exit code 0"),
        ("""print('{"description": {"bytes": 1}}')""", 422, "exit code 0"),
        ("""print('{"description": ' + '[' * 60000)""", 422, "exit code 0"),
        ("while True: os.write(1, b'x' * 10000)", 422, "(signal 9|exit code)"),
        ("import signal; os.kill(os.getpid(), signal.SIGXCPU)", 413, "processor time"),
        ("time.sleep(60)", 413, "more than 2 s"),
        ("os.close(1); os.fork() or time.sleep(60); time.sleep(60)", 413, "more than 2 s"),
    ],
)
def test_a_child_that_ends_in_any_way_is_a_refusal(
    upload: Path, monkeypatch: pytest.MonkeyPatch, program: str, status: int, reason: str
) -> None:
    replace_child(monkeypatch, upload.parent, f"open(out + '/x_train.npy', 'w').write('half')\n{program}")
    refusal = convert(upload, upload.parent / "out", OPTIONS, 2 if "sleep" in program else 60)
    assert isinstance(refusal, Refusal)
    assert refusal.status == status
    assert re.match(r"The check of flowers ended without a result \(.*" + reason, refusal.detail)
    assert not list((upload.parent / "out").iterdir())


def test_a_child_that_cannot_be_started_is_a_refusal(upload: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(upload.parent / "missing"))
    refusal = convert(upload, upload.parent / "out", OPTIONS, 60)
    assert isinstance(refusal, Refusal)
    assert refusal.status == 503


def test_what_no_reader_has_foreseen_is_a_refusal_and_logged(
    upload: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refusal = convert(upload.parent, upload.parent / "out", OPTIONS, 60)  # a folder
    assert isinstance(refusal, Refusal)
    assert (refusal.status, "IsADirectoryError" in refusal.detail) == (422, True)
    assert "Traceback" in caplog.text
