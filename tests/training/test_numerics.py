"""Training computes what Keras computes: gradients, updates and whole fits, each compared with float64.

No test depends on a processor's last bits. Single weights are never compared: where a gradient is almost zero, Adam
turns its rounding error into a whole step, so a few weights differ between processors.
"""

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from tests.support.fitting import (
    DEFAULTS,
    SPLIT,
    Hyperparameters,
    Weights,
    classified_rightly,
    first_weights,
    fit_with_keras,
    gradients,
    graph,
    in_float64,
    keras,
    keras_gradients,
    keras_optimizer,
    named,
    train,
    update,
)
from worker.compiled.trainer import weigh_classes

NETWORKS: list[Hyperparameters] = [
    {"activation": "relu", "conv_blocks": 2, "kernel_size": 2},
    {"activation": "elu", "kernel_size": 1},
    {"activation": "gelu", "conv_blocks": 2, "kernel_size": 2},
    {"activation": "tanh", "kernel_size": 4},
    {"l1": 0.01},
    {"l2": 0.02},
    {"l1": 0.003, "l2": 0.01, "dropout_rate": 0.3},
    {"dropout_rate": 0.9},
    {"num_neurons": 600, "filters": 160},  # a dense layer in several blocks
]
OPTIMIZERS: list[Hyperparameters] = [
    {"optimizer": "adam"},
    {"optimizer": "adam", "weight_decay": 0.05},
    {"optimizer": "adamw", "weight_decay": 0.05},
    {"optimizer": "nadam"},
    {"optimizer": "nadam", "weight_decay": 0.05},
    {"optimizer": "rmsprop"},
    {"optimizer": "rmsprop", "momentum": 0.8, "weight_decay": 0.01},
    {"optimizer": "adagrad", "learning_rate": 0.02, "weight_decay": 0.05},
    {"optimizer": "sgd", "learning_rate": 0.05},
    {"optimizer": "sgd", "learning_rate": 0.05, "momentum": 0.8, "weight_decay": 0.01},
]
FITS: list[Hyperparameters] = [
    {"optimizer": "adam", "weight_decay": 0.05, "kernel_size": 2, "conv_blocks": 2, "batch_size": 27},
    {"optimizer": "adamw", "activation": "tanh"},
    {"optimizer": "adamw", "weight_decay": 0.05, "activation": "gelu"},
    {"optimizer": "nadam", "activation": "elu"},
    {"optimizer": "nadam", "weight_decay": 0.05},
    {"optimizer": "rmsprop", "kernel_size": 1},
    {"optimizer": "rmsprop", "momentum": 0.8, "weight_decay": 0.01},
    {"optimizer": "adagrad", "learning_rate": 0.02, "weight_decay": 0.05},
    {"optimizer": "sgd", "learning_rate": 0.05},
    {"optimizer": "sgd", "learning_rate": 0.05, "momentum": 0.8, "weight_decay": 0.01},
    {"optimizer": "adam", "l1": 0.0005, "l2": 0.01},
    {"optimizer": "adam", "num_neurons": 600, "filters": 160, "epochs": 1},
]
# The first test here also frees the graphs of all tests before it in its process.
pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize("changes", NETWORKS, ids=named)
def test_gradients_are_those_of_float64(changes: Hyperparameters) -> None:
    random = np.random.default_rng(1)
    weights = [
        values if values.ndim > 1 else random.normal(0, 0.1, values.shape).astype(np.float32)
        for values in first_weights(changes)
    ]
    assert max_error(changes, weights) < 1e-4


@pytest.mark.parametrize("activation, blocks", [("relu", 1), ("elu", 1), ("gelu", 1), ("tanh", 1), ("relu", 2)])
def test_of_equal_pooled_values_the_first_gets_the_gradient(activation: str, blocks: int) -> None:
    """Sums of eighths are exact in any order, so many of the values that are pooled are equal."""
    changes: Hyperparameters = {"activation": activation, "conv_blocks": blocks, "kernel_size": 2}
    random = np.random.default_rng(2)
    eighths = [random.integers(-1, 2, values.shape).astype(np.float32) / 8 for values in first_weights(changes)]
    convolutions = 2 * blocks
    assert max_error(changes, [*eighths[:convolutions], *first_weights(changes)[convolutions:]]) < 1e-4


def max_error(changes: Hyperparameters, weights: Weights) -> float:
    """The largest difference from float64's gradients, relative to the largest gradient of the same weight."""
    ours = gradients(changes, weights, 64)
    with in_float64():
        theirs = keras_gradients(changes, weights, 64)
    return float(max(np.abs(a - b).max() / np.abs(b).max() for a, b in zip(ours, theirs, strict=True)))


@pytest.mark.parametrize("changes", OPTIMIZERS, ids=named)
def test_equal_gradients_move_weights_as_keras_does(changes: Hyperparameters) -> None:
    """Over 30 steps, by gradients of 1e-10 to 10: those near 1e-7 reveal a different epsilon."""
    random = np.random.default_rng(3)
    start = random.normal(0, 0.1, 500).astype(np.float32)
    scales = 10.0 ** random.uniform(-10, 1, start.shape)
    series = (scales * random.normal(1, 1, (30, *start.shape))).astype(np.float32)
    ours = update(changes, start, series)
    with in_float64():
        variable = keras.Variable(start)
        optimizer = keras_optimizer({**DEFAULTS, **changes})
        for gradient in series:
            optimizer.apply([keras.ops.convert_to_tensor(gradient, "float64")], [variable])
    theirs = np.asarray(variable)
    np.testing.assert_allclose(ours - start, theirs - start, rtol=2e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("changes", FITS, ids=named)
def test_training_without_dropout_agrees_with_keras(changes: Hyperparameters) -> None:
    scores, epochs = train(changes)
    ours, start = graph(changes).weights(), first_weights(changes)
    with in_float64():
        model, history = fit_with_keras(changes)
        theirs, guesses = model.get_weights(), np.asarray(model(SCORED))
        loss, accuracy = model.evaluate(SCORED, LABELS, verbose=0)
        model.set_weights(ours)
        our_guesses, mine = np.asarray(model(SCORED)), model.evaluate(SCORED, LABELS, verbose=0)
    assert [scores.loss, scores.accuracy] == pytest.approx(mine, rel=1e-5), "of our weights"
    assert [epoch.loss for epoch in epochs] == pytest.approx([loss for loss, _ in history], rel=1e-4)
    assert [epoch.accuracy for epoch in epochs] == pytest.approx([accuracy for _, accuracy in history], abs=0.005)
    assert scores.loss == pytest.approx(loss, rel=1e-3)
    assert scores.accuracy == pytest.approx(accuracy, abs=0.01)
    assert np.abs(our_guesses - guesses).mean() < 1e-3
    assert distance(ours, theirs) < 0.05 * distance(theirs, start)


def test_balanced_classes_count_as_in_keras() -> None:
    """Of one class a fifth of the samples is left, and of another none."""
    labels = SPLIT.labels[SPLIT.rows]
    unbalanced = SPLIT._replace(rows=SPLIT.rows[(labels != 7) & ((labels != 3) | (SPLIT.rows % 5 == 0))])
    weights = weigh_classes(unbalanced)
    present = np.delete(np.arange(10), 7)
    found = compute_class_weight("balanced", classes=present, y=unbalanced.labels[unbalanced.rows])
    assert weights[present] == pytest.approx(found, rel=1e-6)
    changes: Hyperparameters = {"class_weight": "balanced", "optimizer": "sgd", "learning_rate": 0.05, "epochs": 2}
    scores, epochs = train(changes, unbalanced)
    with in_float64():
        model, history = fit_with_keras(changes, 1, unbalanced, dict(enumerate(weights.tolist())))
        loss, _ = model.evaluate(SCORED, LABELS, verbose=0)
    assert [epoch.loss for epoch in epochs] == pytest.approx([loss for loss, _ in history], rel=1e-4)
    assert scores.loss == pytest.approx(loss, rel=1e-3), "which weighs nothing in scoring"
    assert scores.loss != pytest.approx(train({**changes, "class_weight": "none"}, unbalanced)[0].loss, rel=1e-2)


SCORED = SPLIT.score_images[SPLIT.score_rows][..., None].astype(np.float64)
LABELS = SPLIT.score_labels[SPLIT.score_rows]


EXTREMES: list[Hyperparameters] = [
    {"dropout_rate": 0.99999999},  # float32 makes it 1, and drops everything
    {"dropout_rate": float(np.nextafter(1, 0)), "optimizer": "sgd"},
    {"learning_rate": 5e-324, "optimizer": "nadam"},
    {"learning_rate": 0.01, "optimizer": "sgd", "momentum": 0.99999999},
    {"optimizer": "rmsprop", "momentum": 1e-60, "l2": 1e-50},
    {"learning_rate": 1e-45, "weight_decay": 1.0, "l1": 1e-50},
    # Weights grow beyond 1e19: their squares are infinite, but without l2 they do not count in the loss.
    {"optimizer": "sgd", "learning_rate": 10.0, "weight_decay": 0.4, "activation": "tanh", "l1": 0.0001},
]


@pytest.mark.parametrize("changes", EXTREMES, ids=named)
def test_hyperparameters_at_their_bounds_act_as_in_keras(changes: Hyperparameters) -> None:
    changes = {**changes, "epochs": 1}
    _, epochs = train(changes)
    _, history = fit_with_keras(changes)
    assert [(epoch.loss, epoch.accuracy) for epoch in epochs] == [pytest.approx(history[0], rel=1e-4, abs=0.005)]


def test_nan_and_infinite_logits_are_classified_as_in_keras() -> None:
    nan, inf = np.nan, np.inf
    logits = np.array([[nan] * 3, [1, nan, 2], [0, inf, 1], [inf, inf, 2], [-inf, 1, 2], [1, 3, 2]], np.float32)
    for label in range(3):
        labels = np.full(len(logits), label, np.int32)
        expected = keras.metrics.sparse_categorical_accuracy(labels, keras.ops.softmax(logits))
        assert classified_rightly(logits, labels) == int(np.sum(expected))


def distance(first: Weights, second: Weights) -> float:
    """The distance between two sets of weights."""
    return float(np.sqrt(sum(np.square(a - b, dtype=np.float64).sum() for a, b in zip(first, second, strict=True))))


@pytest.mark.slow
def test_training_with_dropout_learns_as_well_as_keras() -> None:
    changes: Hyperparameters = {"dropout_rate": 0.5, "num_neurons": 64, "epochs": 8, "batch_size": 32}
    ours = [train(changes, seed=seed)[1][-1].loss for seed in range(3)]
    theirs = [fit_with_keras(changes, seed)[1][-1][0] for seed in range(3)]
    spread = np.hypot(np.std(ours), np.std(theirs))
    assert np.mean(ours) == pytest.approx(np.mean(theirs), abs=3 * spread)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.93])
def test_dropout_drops_the_given_share_independently_in_each_step(rate: float) -> None:
    ours = graph({"num_neurons": 64, "dropout_rate": rate})
    tf = pytest.importorskip("tensorflow")
    draws = [ours._draw(512, tf.constant([3], tf.uint64), tf.constant(step, tf.int64)).numpy() for step in (1, 2)]
    for draw in draws:
        assert (draw < rate).mean() == pytest.approx(rate, abs=5 * np.sqrt(rate * (1 - rate) / draw.size))
    assert abs(np.corrcoef(draws[0].ravel(), draws[1].ravel())[0, 1]) < 0.03
