"""What a job's model predicts, by onnxruntime: an extra, since most services only train."""

import hashlib
import threading
from functools import lru_cache
from importlib.util import find_spec
from typing import Any
from uuid import UUID

import numpy as np
from fastapi import APIRouter
from numpy.typing import NDArray

from app.api.dependencies import Database, get_job_or_404
from app.api.models import get_model_or_409, open_or_503
from app.api.openapi import describe_problems, describe_response
from app.api.problems import Conflict, Problem, reject_request
from app.api.schemas.models import Prediction, PredictionRequest, PredictionResponse
from app.api.strict_json import StrictRoute
from app.tuning.database import reading
from app.tuning.saved_models import SavedFile, SavedModel, find_file, name_model_file

MAX_MODEL_BYTES = 100_000_000  # that the service loads into its memory
SESSIONS_KEPT = 4
INSTALL = "pip install 'tunewell[onnx]'"
_opening = threading.Lock()  # one model at a time is read into memory
router = APIRouter(
    prefix="/v1/jobs", tags=["jobs"], route_class=StrictRoute, responses=describe_problems(413, 421, 422, 500, 503)
)


@router.post(
    "/{job_id}/predict",
    responses={**describe_response(200, "The predictions."), **describe_problems(403, 404, 409, 415, 501)},
)
def predict(job_id: UUID, request: PredictionRequest, database: Database) -> PredictionResponse:
    """What the job's model says of some samples, as raw as the manifest's `input` says; 64 KiB of them at most."""
    with reading(database) as session:
        model = get_model_or_409(get_job_or_404(session, job_id))
    if not find_spec("onnxruntime"):
        raise Problem(501, f"This service does not predict: it lacks the extra onnx ({INSTALL}). Download the model.")
    file = find_file(model, "onnx")
    if not file:
        raise Conflict(f"The model cannot be run here: {model['left_out'].get('onnx')}. Download it instead.")
    samples = _read_samples(request.instances, model)
    outputs = _open_session(job_id, file).run(None, {"samples": samples})
    return PredictionResponse(predictions=_describe(outputs, model))


def _open_session(job_id: UUID, file: SavedFile) -> Any:
    if file["bytes"] > MAX_MODEL_BYTES:
        detail = f"The model has {file['bytes']:,} bytes; this service runs {MAX_MODEL_BYTES:,} at most. Download it."
        raise Conflict(detail)
    with _opening:
        return _load_session(name_model_file(job_id, file), file["bytes"], file["sha256"])


@lru_cache(maxsize=SESSIONS_KEPT)
def _load_session(key: str, size: int, sha256: str) -> Any:
    from onnxruntime import InferenceSession, SessionOptions

    content = b"".join(open_or_503(key, 0, size))
    if hashlib.sha256(content).hexdigest() != sha256:
        raise Problem(500, "The model's file in the storage is damaged: post the job again.")
    options = SessionOptions()
    options.intra_op_num_threads = 1
    return InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _read_samples(instances: list[Any], model: SavedModel) -> NDArray[Any]:
    """The samples as the model takes them; the axis of a grey image's one channel may be left out.

    Raises:
        Problem: they are of another shape, or not numbers of the model's kind.
    """
    shape, dtype = tuple(model["input"]["shape"]), np.dtype(model["input"]["dtype"])
    try:
        samples = np.array(instances)
    except ValueError:  # lists of different lengths
        samples = np.array([], dtype=object)
    wanted = f"{len(instances)} samples of the shape {list(shape)}"
    if samples.dtype.kind not in "iuf" or samples.shape[1:] not in (shape, shape[:-1] if shape[-1] == 1 else shape):
        raise reject_request([(("instances",), f"It must be {wanted}, as nested lists of numbers.")])
    if dtype.kind == "u" and (samples.dtype.kind == "f" or samples.min() < 0 or samples.max() > 255):
        raise reject_request([(("instances",), "Pixels must be whole numbers from 0 to 255.")])
    made: NDArray[Any] = samples.reshape(-1, *shape).astype(dtype)
    return made


def _describe(outputs: list[NDArray[Any]], model: SavedModel) -> list[Prediction]:
    first, names = outputs[0], model["class_names"]
    if names is None:
        return [Prediction(value=float(value)) for value in first.ravel()]
    known = model["output"] != "class"
    table = (first if first.ndim == 2 else outputs[1]).tolist() if known else [None] * len(first)
    numbers = (first.argmax(1) if first.ndim == 2 else first).tolist()
    return [
        Prediction(class_number=number, class_name=names[number], probabilities=row)
        for number, row in zip(numbers, table, strict=True)
    ]
