"""A fitted estimator as a file of joblib's: scikit-learn's own way, a program to whoever loads it."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from app.tuning.saved_models import ModelInput, Output
from worker.saving.onnx import write_onnx
from worker.training import Exported, Split

JOBLIB_COMPRESSION = 3  # of 9


def write_estimator(model: Any, split: Split, folder: Path) -> Exported:
    """Write a fitted estimator, with the scaler in front of it, into a folder."""
    import joblib
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    joblib.dump(model, folder / "model.joblib", compress=JOBLIB_COMPRESSION)
    formats, left_out = ["joblib"], {}
    samples = partial(_take_samples, split)
    with threadpool_limits(1):
        expected = model.predict(samples(split.score_rows))
    if reason := write_onnx(folder / "model.onnx", partial(_convert, model, split), samples, split, expected):
        left_out["onnx"] = reason
    else:
        formats.append("onnx")
    return Exported(formats, left_out, _describe_input(split), _describe_output(model, split))


def _take_samples(split: Split, rows: np.ndarray) -> np.ndarray:
    samples: np.ndarray = split.score_images[rows].reshape(len(rows), -1).astype(np.float64)
    return samples


def _convert(model: Any, split: Split, file: Path) -> None:
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import DoubleTensorType

    columns = int(np.prod(split.images.shape[1:]))
    options = {id(model): {"zipmap": False}} if split.classes else None
    made = to_onnx(model, initial_types=[("samples", DoubleTensorType([None, columns]))], options=options)
    file.write_bytes(made.SerializeToString())


def _describe_input(split: Split) -> ModelInput:
    shape = split.images.shape[1:]
    scaling = "none: the model scales them itself, where it needs that"
    if len(shape) > 1:
        scaling = f"raw pixels, those of an image of {' by '.join(map(str, shape))} in a row"
    return {"shape": [int(np.prod(shape))], "dtype": "float64", "scaling": scaling}


def _describe_output(model: Any, split: Split) -> Output:
    if not split.classes:
        return "number"
    return "class_and_probabilities" if hasattr(model, "predict_proba") else "class"
