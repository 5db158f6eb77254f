"""The example grid as every peer of the comparison runs it: the same data, folds, model, epochs and metric."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import ParameterGrid, StratifiedKFold

from app.tuning.settings import settings

PROJECT = Path(__file__).resolve().parent.parent
SPEC: dict[str, Any] = json.loads((PROJECT / "examples" / "article-grid.json").read_text())
SPEC["limits"]["reuse"] = False
GRID: dict[str, list[Any]] = SPEC["search"]["param_grid"]
QUICK_GRID: dict[str, list[Any]] = {"learning_rate": [0.01], "dropout_rate": [0.1, 0.2], "num_neurons": [128, 256, 512]}
FOLDS: int = SPEC["evaluation"]["cv"]
EPOCHS: int = SPEC["fixed"]["epochs"]
BATCH: int = SPEC["fixed"]["batch_size"]
SAMPLES: int = SPEC["dataset"]["train_samples"]
SEED: int = SPEC["random_state"]
CLASSES = 10
Params = dict[str, Any]


class Data(NamedTuple):
    """Pixels from 0 to 1, (n, 28, 28, 1), and labels (n,)."""

    x: NDArray[np.float32]
    y: NDArray[np.uint8]
    x_test: NDArray[np.float32]
    y_test: NDArray[np.uint8]


def mnist_file() -> Path:
    """Keras's archive of MNIST, where Tunewell looks for it too."""
    file = settings().data_dir.expanduser() / "mnist.npz"
    if not file.exists():
        raise FileNotFoundError(f"MNIST is not here: put Keras's mnist.npz at {file}, or set TUNEWELL_DATA_DIR")
    return file


def load(samples: int = SAMPLES) -> Data:
    """The first `samples` training images, and all test images."""
    with np.load(mnist_file()) as arrays:
        x, x_test = (arrays[name][..., None].astype(np.float32) / 255 for name in ("x_train", "x_test"))
        return Data(x[:samples], arrays["y_train"][:samples], x_test, arrays["y_test"])


def candidates(grid: dict[str, list[Any]]) -> list[Params]:
    """The grid's points in scikit-learn's order."""
    return list(ParameterGrid(grid))


def key(params: Params) -> str:
    """A candidate's key, the same for every peer."""
    return json.dumps({name: params[name] for name in sorted(params)})


def folds(data: Data) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Rows to train on and rows to score on, fold by fold."""
    yield from StratifiedKFold(FOLDS).split(data.x, data.y)


def model(dropout_rate: float, num_neurons: int, learning_rate: float | None = None) -> Any:
    """The example network; compiled if a learning rate is given."""
    import keras

    layers = keras.layers
    made = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(num_neurons, activation="relu"),
            layers.Dropout(dropout_rate),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )
    if learning_rate is not None:
        compile_model(made, learning_rate)
    return made


def compile_model(made: Any, learning_rate: float, **options: Any) -> None:
    """Train as the example does."""
    import keras

    adam = keras.optimizers.Adam(learning_rate)
    made.compile(adam, "sparse_categorical_crossentropy", metrics=["accuracy"], **options)


def fit(params: Params, x: Any, y: Any) -> Any:
    """A new network, trained as in the example."""
    import keras

    keras.backend.clear_session()
    made = model(**params)
    made.fit(x, y, batch_size=BATCH, epochs=EPOCHS, verbose=0)
    return made


def accuracy(made: Any, x: Any, y: Any) -> float:
    """The share of images classified correctly."""
    return float(made.evaluate(x, y, batch_size=BATCH, verbose=0, return_dict=True)["accuracy"])


def mean_accuracy(params: Params, data: Data) -> float:
    """The mean accuracy over the folds, each with a new network."""
    scores = [accuracy(fit(params, data.x[train], data.y[train]), data.x[t], data.y[t]) for train, t in folds(data)]
    return float(np.mean(scores))
