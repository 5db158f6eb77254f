"""Networks that are lists of layers: they compute what Keras and the example's program do, and repeat to the bit."""

import gc
import hashlib
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import r2_score
from sqlalchemy import Engine

from app.tuning.jobs.tables import JobState
from app.tuning.search.layers import Flatten, Layer, LayerError, output_of
from app.tuning.search.models import Cnn, Model, Shape
from app.tuning.search.networks import Mlp, Resnet, measure_network
from app.tuning.search.own_networks import LayerList, make_network
from tests.support.fitting import DEFAULTS, SPLIT, graph, training
from tests.support.ledger import Ledger, spec
from tests.training.test_resuming import Kept
from tests.worker.test_runner import run
from worker import fit
from worker.compiled import batches, draws, tensors
from worker.compiled import trainer as loop
from worker.network import export
from worker.network.trainer import prepare_network, train_layers
from worker.training import Split

ROOT = Path(__file__).parents[2]
SEED = 9


def of(name: str) -> dict[str, str]:
    """A placeholder."""
    return {"hyperparameter": name}


CONVOLUTION = {"layer": "conv2d", "filters": 4, "kernel_size": 3, "padding": "same"}
ALL_KINDS: list[dict[str, Any]] = [
    {**CONVOLUTION, "activation": "silu"},
    {"layer": "batch_normalization"},
    {
        "layer": "residual",
        "layers": [
            {**CONVOLUTION, "filters": 6, "strides": 2, "l2": 0.01},
            {"layer": "batch_normalization"},
            {"layer": "activation", "activation": "elu"},
            {"layer": "dropout", "rate": of("rate")},
        ],
    },
    {"layer": "separable_conv2d", "filters": 5, "kernel_size": 2, "activation": "relu"},
    {"layer": "residual", "layers": [{"layer": "average_pooling2d", "pool_size": 2, "padding": "same"}]},
    {"layer": "max_pooling2d", "padding": "same"},
    {"layer": "residual", "layers": [{**CONVOLUTION, "filters": 1, "activation": "tanh"}]},
    {"layer": "flatten"},
    {"layer": "residual", "layers": [{"layer": "dense", "units": 3, "activation": "sigmoid"}]},
    {"layer": "dense", "units": of("units"), "activation": "gelu", "l1": of("penalty")},
    {"layer": "dropout", "rate": of("rate")},
]
EVERYTHING = make_network(LayerList(layers=ALL_KINDS))
VALUES: dict[str, Any] = {"rate": 0.0, "units": 8, "penalty": 0.001, "batch_size": 50, "epochs": 2}


def complete(model: type[Model], **values: Any) -> dict[str, Any]:
    """A network's hyperparameters, with defaults."""
    return model.model_validate(values).model_dump(exclude_none=True)


def train(
    model: type[Model], values: dict[str, Any], split: Split = SPLIT, checkpoints: Any = None
) -> tuple[Any, list[Any], str]:
    """The scores, the epochs without their seconds, and a hash of all that training changes."""
    rows: list[Any] = []
    scores = train_layers(model, complete(model, **values), split, SEED, lambda _: None, rows.append, checkpoints)
    state = next(reversed(loop._programs.values())).program.snapshot()
    found = hashlib.sha256(b"".join(array.tobytes() for array in state)).hexdigest()
    return (scores.accuracy, scores.loss, scores.hits), [row[:5] for row in rows], found


@pytest.mark.parametrize(
    "changes",
    [
        {"dropout_rate": 0.4, "conv_blocks": 2, "kernel_size": 2, "activation": "gelu"},
        {"optimizer": "sgd", "momentum": 0.8, "learning_rate": 0.02, "l1": 0.001, "l2": 0.01, "weight_decay": 0.01},
    ],
    ids=str,
)
def test_the_example_s_network_as_layers_takes_the_same_steps(changes: dict[str, Any]) -> None:
    """The same dropout too: 50 steps of 16 images from the same weights."""
    h = {**DEFAULTS, **changes}
    prepared = prepare_network(Cnn, h, SPLIT)
    theirs, ours = graph(h), loop._get_warm(prepared.blueprint, prepared.make_program).program
    theirs.reset(SEED)
    ours.reset(SEED)
    for mine, other in zip(ours.weights(), theirs.weights(), strict=True):
        np.testing.assert_array_equal(mine, other)
    key = tensors.to_tensor(draws.derive_dropout_key(SEED), "uint64")
    rates, batch = training._make_rates(h, SPLIT.scale), tensors.to_tensor(16, "int32")
    order = next(draws.draw_orders(SPLIT.rows, SEED))[:800]
    for rows in np.split(order, 50):
        labels = tensors.to_tensor(SPLIT.labels[rows], "int32")
        windows = np.take(SPLIT.images[rows].reshape(16, -1), theirs.windows, axis=1)
        images = tensors.to_tensor(prepared.prepare(SPLIT.images[rows]))
        zero = batches.Totals.zero()
        expected = theirs.train(tensors.to_tensor(windows), labels, batch, rates, zero, key)
        found = ours.train(images, labels, batch, prepared.rates, zero, key)
        assert float(found.loss) / 16 == pytest.approx(float(expected.loss) / 16, abs=1e-5)


def test_every_kind_of_layer_computes_and_learns_as_in_keras() -> None:
    """A few steps from the same weights: losses, gradients by the steps that they make, moving averages, scores."""
    values = {**VALUES, "optimizer": "sgd", "learning_rate": 0.1, "epochs": 1}
    h, few = complete(EVERYTHING, **values), SPLIT._replace(rows=SPLIT.rows[:200])
    prepared = prepare_network(EVERYTHING, h, few)
    ours = loop._get_warm(prepared.blueprint, prepared.make_program).program
    ours.reset(SEED)
    start = ours.weights()
    model = export.export_network(EVERYTHING.model_validate(h), (8, 8, 1), 10, start)
    (accuracy, loss, _), epochs, _ = train(EVERYTHING, values, few)
    keras = pytest.importorskip("keras")
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy", metrics=["accuracy"])
    images = SPLIT.images[..., None].astype(np.float32) / np.float32(16)
    order = next(draws.draw_orders(few.rows, SEED))
    history = model.fit(images[order], SPLIT.labels[order], batch_size=50, shuffle=False, verbose=0).history
    assert epochs[0][1:3] == pytest.approx((history["loss"][0], history["accuracy"][0]), rel=1e-4)
    moved = export.export_network(EVERYTHING.model_validate(h), (8, 8, 1), 10, ours.weights())
    for found, expected in zip(moved.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4)
    still = [after.shape for after, before in zip(ours.weights(), start, strict=True) if distance(after, before) < 1e-6]
    assert still == [(6,)], "a bias before batch normalization has no effect, all else has moved"
    scored = images[SPLIT.score_rows], SPLIT.labels[SPLIT.score_rows]
    moved.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    assert [loss, accuracy] == pytest.approx(moved.evaluate(*scored, verbose=0), rel=1e-4)


def distance(first: np.ndarray, second: np.ndarray) -> float:
    """The distance between two arrays."""
    return float(np.linalg.norm(first - second))


@pytest.mark.parametrize(
    "changes",
    [{"optimizer": "nadam", "rate": 0.3}, {"optimizer": "sgd", "momentum": 0.5, "weight_decay": 0.01}],
    ids=str,
)
def test_a_resumed_network_equals_an_uninterrupted_one_to_the_bit(changes: dict[str, Any]) -> None:
    values = {**VALUES, **changes}
    whole = train(EVERYTHING, values)
    kept = Kept()
    assert train(EVERYTHING, {**values, "epochs": 1}, checkpoints=kept)[1] == whole[1][:1]
    train(EVERYTHING, {**values, "learning_rate": 0.1, "epochs": 1})  # another fit with the same program
    assert train(EVERYTHING, values, checkpoints=kept) == whole


@pytest.mark.slow
def test_a_network_s_bits_are_the_same_in_every_process() -> None:
    values = {**VALUES, "rate": 0.3}
    code = "from tests.training.test_networks import *\nprint(train(EVERYTHING, {**VALUES, 'rate': 0.3})[2])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    train(Mlp, {"epochs": 1})
    assert done.stdout.strip() == train(EVERYTHING, values)[2]


def test_networks_that_differ_in_rates_share_a_program() -> None:
    loop.forget_programs()
    for changes in ({"rate": 0.1}, {"rate": 0.5, "penalty": 0.01}, {"rate": 0.2, "learning_rate": 0.01}):
        train(EVERYTHING, {**VALUES, **changes, "epochs": 1})
    assert len(loop._programs) == 1
    train(EVERYTHING, {**VALUES, "rate": 0.0, "epochs": 1})
    assert len(loop._programs) == 2, "without dropout nothing is drawn"
    loop.forget_programs()
    graphs = [one for one in gc.get_objects() if type(one).__name__.endswith("FuncGraph")]
    assert not [one.name for one in graphs if "_train" in one.name or "while_body" in one.name]


def test_networks_learn_color() -> None:
    """Which of three channels is the brightest, from a few images; for a network of layers, and for the families."""
    random = np.random.default_rng(0)
    labels = (np.arange(400) % 3).astype(np.uint8)
    images = random.integers(0, 150, (400, 8, 8, 3)).astype(np.uint8)
    images[np.arange(400), :, :, labels] += 100
    rows = np.arange(400, dtype=np.int32)
    split = Split(images, labels, rows[:300], images, labels, rows[300:], 255.0, 3, False)
    small = {"learning_rate": 0.01, "filters": 4, "epochs": 10, "dropout_rate": 0.0}
    for model, values in ((Cnn, {**small, "num_neurons": 8}), (Resnet, {**small, "stages": 2})):
        assert train(model, values, split)[0][0] > 0.9, model.name


def test_networks_are_trained_by_jobs(sqlite_engine: Engine) -> None:
    ledger = Ledger(sqlite_engine, audit_every=10)
    jobs = [
        ledger.post(spec({"strategy": "grid", "param_grid": grid}, evaluation={"cv": 2}, **changes))
        for grid, changes in (
            ({"units": [8, 64]}, {"model": "mlp", "fixed": {"epochs": 3, "learning_rate": 0.01}}),
            ({"units": [16]}, {"model": "mlp", "dataset": {"name": "iris"}, "fixed": {"epochs": 40}}),
            ({"units": [16]}, {"model": "mlp", "dataset": {"name": "diabetes"}, "fixed": {"epochs": 3}}),
            ({"rate": [0.1], "units": [8]}, {"model": {"layers": ALL_KINDS}, "fixed": {"penalty": 0.0, "epochs": 2}}),
        )
    ]
    assert run(sqlite_engine, fit.train_fit, most=20) == 14
    found = [ledger.job(job) for job in jobs]
    assert {job.state for job in found} == {JobState.SUCCEEDED}
    digits, iris, diabetes, own = (job.best_accuracy for job in found)
    assert diabetes is None
    assert [accuracy and accuracy > 0.8 for accuracy in (digits, iris)] == [True, True]
    assert own and own > 0.1


def test_numbers_are_learned_as_in_keras() -> None:
    """The loss is the mean squared error, and the score that of scikit-learn."""
    random = np.random.default_rng(0)
    table = random.normal(3, 2, (200, 5))
    numbers = table @ random.normal(0, 1, 5) + 1
    rows = np.arange(200, dtype=np.int32)
    split = Split(table, numbers, rows[:150], table, numbers, rows[150:], 1.0, 0, True, scoring="r2")
    values = {"units": 16, "epochs": 3, "dropout_rate": 0.0, "optimizer": "sgd", "learning_rate": 0.01}
    h = complete(Mlp, **values)
    prepared = prepare_network(Mlp, h, split)
    ours = loop._get_warm(prepared.blueprint, prepared.make_program).program
    ours.reset(SEED)
    model = export.export_network(Mlp.model_validate(h), (5,), 0, ours.weights())
    keras = pytest.importorskip("keras")
    model.compile(keras.optimizers.SGD(0.01), "mse")
    rows_of_epochs: list[Any] = []
    scores = train_layers(Mlp, h, split, SEED, lambda _: None, rows_of_epochs.append)
    orders, scaled = draws.draw_orders(split.rows, SEED), prepared.prepare(table)
    for row in rows_of_epochs:
        order = next(orders)
        [loss] = model.fit(scaled[order], numbers[order], batch_size=32, shuffle=False, verbose=0).history["loss"]
        assert (row.loss, row.accuracy, row.val_accuracy) == (pytest.approx(loss, rel=1e-4), None, None)
    guessed = model(scaled[split.score_rows]).numpy()[:, 0]
    assert scores.score == pytest.approx(r2_score(numbers[split.score_rows], guessed), abs=1e-4)
    assert scores.loss == rows_of_epochs[-1].val_loss
    assert scores.accuracy is None and scores.hits is None


WIDTHS = st.integers(1, 6)
SHAPES = st.one_of(st.tuples(st.integers(1, 12)), st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 3)))


@st.composite
def layer_lists(draw: st.DrawFn, depth: int = 2) -> list[dict[str, Any]]:
    """Layers of any kind, of which many cannot take what they are given."""
    windowed = {"padding": draw(st.sampled_from(["valid", "same"]))}
    convolution = {"filters": draw(WIDTHS), "kernel_size": draw(st.integers(1, 3)), "strides": draw(st.integers(1, 2))}
    kinds: list[dict[str, Any]] = [
        {"layer": "dense", "units": draw(WIDTHS)},
        {"layer": "conv2d", **convolution, **windowed},
        {"layer": "separable_conv2d", **convolution, **windowed},
        {"layer": draw(st.sampled_from(["max_pooling2d", "average_pooling2d"])), **windowed},
        {"layer": draw(st.sampled_from(["global_average_pooling2d", "flatten", "batch_normalization"]))},
        {"layer": "dropout", "rate": 0.5},
        {"layer": "activation", "activation": "silu"},
    ]
    if depth:
        kinds.append({"layer": "residual", "layers": draw(layer_lists(depth - 1))})
    return draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=5))


@settings(max_examples=60, deadline=None)
@given(layer_lists(), SHAPES)
def test_shapes_weights_and_multiply_adds_are_keras_s(posted: list[dict[str, Any]], shape: Shape) -> None:
    layers = keep_possible(posted, shape)
    model, made = export.make_keras_model(layers, shape, 3)
    size = measure_network(layers, shape, 3)
    assert model.count_params() == size.weights
    assert sum(map(count_multiply_adds, made)) == size.multiply_adds
    assert tuple(made[-1].input.shape[1:]) == output_of(layers, shape)


def keep_possible(posted: list[dict[str, Any]], shape: Shape) -> tuple[Layer, ...]:
    """The layers that can take what they are given, made flat at the end."""
    kept: tuple[Layer, ...] = ()
    for layer in make_network(LayerList(layers=posted))().list_layers(shape):
        with suppress(LayerError):
            output_of((*kept, layer), shape)
            kept += (layer,)
    return (*kept, Flatten())


def count_multiply_adds(layer: Any) -> int:
    """Of one of Keras's layers: each kernel's weights, times the places where it is applied."""
    kernels = [weight for weight in layer.trainable_variables if len(weight.shape) > 1]
    places = int(np.prod(layer.output.shape[1:-1])) if kernels else 0
    return sum(places * int(np.prod(kernel.shape)) for kernel in kernels)
