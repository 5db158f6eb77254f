"""Models as ONNX: written where the extra is installed, and kept where they predict what the model itself predicts."""

import logging
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from worker.training import Split

EXTRA = ("onnx", "onnxruntime", "skl2onnx", "tf2onnx")
BATCH = 1024  # samples that are compared at a time
TOLERANCE = 1e-3  # relative, of predicted numbers


def write_onnx(
    file: Path,
    write: Callable[[Path], None],
    take_samples: Callable[[np.ndarray], np.ndarray],
    split: Split,
    expected: np.ndarray,
) -> str | None:
    """Write a model as ONNX and compare it on the rows that were scored; None, or why there is no such file.

    `expected` are the model's own outputs for these rows: classes, their probabilities, or numbers.
    """
    if missing := [name for name in EXTRA if not find_spec(name)]:
        return f"the worker that trained it does not have the extra onnx ({', '.join(missing)})"
    logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)  # what it cannot convert is found out below
    try:
        write(file)
        found = _predict(file, take_samples, split.score_rows)
    except Exception as error:  # converters and the runtime raise nearly anything
        return f"it cannot be converted: {type(error).__name__}"
    return _describe_difference(found, expected, split)


def _predict(file: Path, take_samples: Callable[[np.ndarray], np.ndarray], rows: np.ndarray) -> np.ndarray:
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = 1
    session = InferenceSession(file, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    starts = range(0, len(rows), BATCH)
    parts = [session.run(None, {name: take_samples(rows[start : start + BATCH])})[0] for start in starts]
    found: np.ndarray = np.concatenate(parts)
    return found


def _describe_difference(found: np.ndarray, expected: np.ndarray, split: Split) -> str | None:
    if not split.classes:
        near = np.allclose(found.ravel(), expected.ravel(), rtol=TOLERANCE, atol=TOLERANCE * np.abs(expected).max())
        return None if near else "its predictions on the test set are not those of the model"
    ours, theirs = (one.argmax(1) if one.ndim == 2 else one for one in (expected, found))
    if different := int((ours != theirs).sum()):
        return f"it would classify {different} of {len(ours)} test samples differently"
    return None
