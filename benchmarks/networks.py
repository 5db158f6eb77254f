"""An epoch of networks that are lists of layers, compared with Keras's training of the same networks."""

from collections.abc import Callable, Iterator
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from benchmarks.rows import Row, Size
from benchmarks.together import meet, together

PART = "networks"
BATCH, CLASSES, STEPS = 32, 10, 64
PROCESSES = {1: "alone", 2: "two side by side"}
IMAGE, COLOR, TABLE = (28, 28, 1), (32, 32, 3), (30,)
# By what is trained: the model, the samples' shape, and a divisor of how many there are.
NETWORKS: dict[str, tuple[str, tuple[int, ...], dict[str, Any], int]] = {
    "mlp of 64 on a table": ("mlp", TABLE, {"units": 64}, 1),
    "mlp of 128 on MNIST's size": ("mlp", IMAGE, {"units": 128}, 1),
    "mlp of 3 times 512 on MNIST's size": ("mlp", IMAGE, {"units": 512, "hidden_layers": 3}, 4),
    "cnn in color": ("cnn", COLOR, {"num_neurons": 128, "dropout_rate": 0.2}, 8),
    "cnn in color, 3 blocks": ("cnn", COLOR, {"conv_blocks": 3, "num_neurons": 128, "dropout_rate": 0.2}, 16),
    "resnet of 8 filters, 2 stages": ("resnet", COLOR, {"filters": 8, "stages": 2}, 32),
    "resnet of 16 filters, 3 stages": ("resnet", COLOR, {}, 64),
}


class NetworkEpochs(NamedTuple):
    """The measurements of one process for one network."""

    seconds: dict[str, list[float]]  # of an epoch, by who trained
    samples: int
    multiply_adds: int  # of a sample's forward pass


def measure(size: Size) -> Iterator[Row]:
    """Measure alone, then with two processes at a time, as Tunewell runs on two cores."""
    samples, repeats = size.of(32_000, 6_400), size.of(5, 3)
    for count, how in PROCESSES.items():
        found = together(count, time_networks, samples, repeats)
        for place, name in enumerate(NETWORKS):
            yield from _rows(f"{name}, {how}", [one[place] for one in found])


def time_networks(samples: int, repeats: int) -> list[NetworkEpochs]:
    """In a separate process: every network, alternating between the ways."""
    return [_time_network(*network, samples, repeats) for network in NETWORKS.values()]


def _time_network(
    name: str, shape: tuple[int, ...], chosen: dict[str, Any], divisor: int, samples: int, repeats: int
) -> NetworkEpochs:
    from app.tuning.search.networks import list_layers, measure_network
    from app.tuning.search.registry import MODELS
    from benchmarks.trainers import seconds

    count = samples // divisor // BATCH * BATCH
    model = MODELS[name].model_validate({"epochs": 1, "batch_size": BATCH, **chosen})
    layers = list_layers(model, shape)
    x, y = _draw_samples(count, shape)
    ways = {
        "Tunewell": _make_tunewell(model, x, y),
        "Keras fit": _make_keras(layers, x, y),
        f"Keras fit(steps_per_execution={STEPS})": _make_keras(layers, x, y, steps_per_execution=STEPS),
    }
    for train in ways.values():
        train()  # traces and compiles
    took: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(repeats):
        for way, train in ways.items():
            meet()
            took[way].append(seconds(train))
    return NetworkEpochs(took, count, measure_network(layers, shape, CLASSES).multiply_adds)


def _draw_samples(count: int, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Random samples as a worker has them, images as bytes, and labels."""
    random = np.random.default_rng(0)
    y = random.integers(0, CLASSES, count, np.uint8)
    return (
        random.integers(0, 256, (count, *shape), np.uint8) if len(shape) == 3 else random.random((count, *shape))
    ), y


def _make_tunewell(model: Any, x: Any, y: Any) -> Callable[[], Any]:
    from worker.network.trainer import train_layers
    from worker.training import Split

    rows = np.arange(len(y), dtype=np.int32)
    split = Split(x, y, rows, x, y, rows[:BATCH], 255.0 if x.ndim > 2 else 1.0, CLASSES, False)
    values = model.model_dump()
    return lambda: train_layers(type(model), values, split, 1, lambda within: None, lambda epoch: None)


def _make_keras(layers: Any, x: Any, y: Any, **options: Any) -> Callable[[], Any]:
    from benchmarks.article import compile_model
    from worker.network.export import make_keras_model

    made, _ = make_keras_model(layers, x.shape[1:], CLASSES)
    compile_model(made, 0.001, **options)
    scaled = x.astype(np.float32) / (255.0 if x.ndim > 2 else 1.0)
    return lambda: made.fit(scaled, y, batch_size=BATCH, epochs=1, verbose=0)


def _rows(title: str, processes: list[NetworkEpochs]) -> Iterator[Row]:
    """Means over the processes of each one's median."""
    first = processes[0]
    seconds = {way: sum(median(one.seconds[way]) for one in processes) / len(processes) for way in first.seconds}
    ours = seconds["Tunewell"]
    for way, took in seconds.items():
        if way != "Tunewell":
            yield Row(PART, f"{way}, {title}", took, "s", took / ours, "Tunewell")
            continue
        rate = 3 * first.multiply_adds * first.samples / took / 1e9
        note = f"{rate:.1f} billion multiply-adds a second; {first.samples} samples"
        yield Row(PART, f"{way}, {title}", took, "s", note=note, details=[one._asdict() for one in processes])
