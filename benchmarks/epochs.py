"""An epoch of the example network: multiply-adds per second, compared with the machine's rate and with Keras."""

from collections.abc import Iterator
from statistics import median
from typing import Any, NamedTuple

from benchmarks import article
from benchmarks.rows import Row, Size
from benchmarks.together import meet, together

PART = "step"
WIDTHS = (128, 256, 512)
PROCESSES = {1: "alone", 2: "two side by side"}
STEPS = 64


class Epochs(NamedTuple):
    """The measurements of one process at one width."""

    seconds: dict[str, list[float]]  # of an epoch, by who trained
    matrix_rates: list[float]
    multiply_adds: float  # of an epoch


def measure(size: Size) -> Iterator[Row]:
    """Measure alone, then with two processes at a time, as Tunewell runs on two cores."""
    samples, repeats = size.of(12_000, 1_600), size.of(5, 3)
    for count, how in PROCESSES.items():
        found = together(count, time_epochs, samples, repeats)
        for place, width in enumerate(WIDTHS):
            yield from _rows(f"{width} neurons, {how}", [one[place] for one in found], samples)


def time_epochs(samples: int, repeats: int) -> list[Epochs]:
    """In a separate process: every width, alternating between the ways."""
    from benchmarks import trainers

    arrays, data = trainers.Bytes(), article.load(samples)
    found = []
    for width in WIDTHS:
        params = trainers.hyperparameters(num_neurons=width, learning_rate=0.001, dropout_rate=0.2)
        ways = {
            "Tunewell": lambda params=params: trainers.train(params, arrays.split(samples, 32)),
            "Keras fit": _keras(width, data),
            f"Keras fit(steps_per_execution={STEPS})": _keras(width, data, steps_per_execution=STEPS),
        }
        for way in ways.values():
            way()  # traces and compiles
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        rates = []
        for _ in range(repeats):
            meet()
            rates.append(trainers.matrix_rate())
            for name, way in ways.items():
                meet()
                seconds[name].append(trainers.seconds(way))
        found.append(Epochs(seconds, rates, float(trainers.multiply_adds(params) * samples)))
    return found


def _keras(width: int, data: article.Data, **options: Any) -> Any:
    model = article.model(0.2, width)
    article.compile_model(model, 0.001, **options)
    return lambda: model.fit(data.x, data.y, batch_size=article.BATCH, epochs=1, verbose=0)


def _rows(title: str, processes: list[Epochs], samples: int) -> Iterator[Row]:
    """Means over the processes of each one's median."""
    seconds = {name: _mean([median(one.seconds[name]) for one in processes]) for name in processes[0].seconds}
    limit = _mean([max(one.matrix_rates) for one in processes])
    work = processes[0].multiply_adds
    for name, took in seconds.items():
        if name != "Tunewell":
            yield Row(PART, f"{name}, {title}", took, "s", took / seconds["Tunewell"], "Tunewell")
            continue
        note = f"{work / took / 1e9:.1f} of {limit / 1e9:.1f} billion multiply-adds a second; {samples} images"
        details = [one._asdict() for one in processes]
        yield Row(PART, f"{name}, {title}", took, "s", work / took / limit, "matrix product", note, details=details)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
