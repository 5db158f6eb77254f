"""The fixed cost of a fit, besides its arithmetic, after the first one of its architecture."""

from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from typing import Any

from benchmarks import article
from benchmarks.rows import Row, Size
from benchmarks.together import alone

PART = "system.fixed"
WIDTHS = (128, 512)
SAMPLES = 160  # the small fit; the other one has twice as many, and what is left at none is the fixed cost


def measure(size: Size) -> Iterator[Row]:
    """Measure Tunewell's beside Keras's, one thread each."""
    for width, (ours, theirs) in alone(time_fits, size.of(15, 5), size.of(7, 3)).items():
        yield Row(PART, f"fixed cost of a fit, {width} neurons: Tunewell", 1e3 * ours, "ms")
        yield Row(PART, f"fixed cost of a fit, {width} neurons: Keras", 1e3 * theirs, "ms", theirs / ours, "Tunewell")


def time_fits(repeats: int, keras_repeats: int) -> dict[int, tuple[float, float]]:
    """In a separate process: seconds of Tunewell's and of Keras's fixed cost, by width."""
    from benchmarks import trainers

    arrays, data = trainers.Bytes(), article.load(2 * SAMPLES)

    def ours(width: int, samples: int, number: int) -> None:
        rates = {"learning_rate": 0.001 * (1 + number), "dropout_rate": 0.1 + number / 100}
        trainers.train(trainers.hyperparameters(num_neurons=width, **rates), arrays.split(samples, SAMPLES), number)

    def keras(width: int, samples: int, number: int) -> None:
        params = {"num_neurons": width, "learning_rate": 0.001 * (1 + number), "dropout_rate": 0.1 + number / 100}
        made = article.fit(params, data.x[:samples], data.y[:samples])
        article.accuracy(made, data.x[:SAMPLES], data.y[:SAMPLES])

    return {width: (_fixed(ours, width, repeats), _fixed(keras, width, keras_repeats)) for width in WIDTHS}


def _fixed(fit: Callable[[int, int, int], Any], width: int, repeats: int) -> float:
    """The time of a fit on zero samples, extrapolated from two sizes; scoring included."""
    from benchmarks.trainers import seconds

    fit(width, SAMPLES, 0)
    found: dict[int, list[float]] = {SAMPLES: [], 2 * SAMPLES: []}
    for number in range(1, repeats + 1):
        for samples, took in found.items():
            took.append(seconds(partial(fit, width, samples, number)))
    small, large = (median(took) for took in found.values())
    return max(0.0, 2 * small - large)
