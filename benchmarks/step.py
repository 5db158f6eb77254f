"""Where a training step goes, by operation (`python -m benchmarks.step`): TensorFlow's own trace of one fit."""

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from worker.cnn import trainer  # isort: skip
from worker.training import Scores, Split

import tensorflow as tf  # isort: skip

STEPS = 200
DEFAULTS: dict[str, int | float | str] = {
    "learning_rate": 0.001,
    "dropout_rate": 0.5,
    "num_neurons": 128,
    "conv_blocks": 1,
    "filters": 32,
    "kernel_size": 3,
    "activation": "relu",
    "optimizer": "adam",
    "momentum": 0.0,
    "weight_decay": 0.0,
    "l1": 0.0,
    "l2": 0.0,
    "batch_size": 32,
    "epochs": 1,
}


def self_times(run: Callable[[], Any]) -> Counter[str]:
    """Picoseconds by operation, without nested ones, on the thread that computed most."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        run()
        tf.profiler.experimental.stop()
        trace = xplane_pb2.XSpace.FromString(next(Path(folder).rglob("*.xplane.pb")).read_bytes())
    host = next(plane for plane in trace.planes if plane.name == "/host:CPU")
    lines = (line for line in host.lines if line.name.startswith("tf_Compute"))
    return max((_line_times(line, host.event_metadata) for line in lines), key=lambda times: times.total())


def _line_times(line: Any, names: Any) -> Counter[str]:
    times: Counter[str] = Counter()
    open_events: list[tuple[int, str]] = []
    for event in sorted(line.events, key=lambda event: (event.offset_ps, -event.duration_ps)):
        while open_events and open_events[-1][0] <= event.offset_ps:
            open_events.pop()
        if open_events:
            times[open_events[-1][1]] -= event.duration_ps
        name = names[event.metadata_id].name
        times[name] += event.duration_ps
        open_events.append((event.offset_ps + event.duration_ps, name))
    return times


def matrix_product_rate() -> float:
    """Multiply-adds a second of a 1024 by 1024 product on the one thread that training has."""
    square, fastest = tf.ones((1024, 1024)), float("inf")
    for _ in range(7):
        began = time.perf_counter()
        tf.matmul(square, square).numpy()
        fastest = min(fastest, time.perf_counter() - began)
    return float(2**30 / fastest)


def main() -> None:
    """Print the trace of a fit on random images of MNIST's size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--neurons", type=int, default=128)
    neurons = parser.parse_args().neurons
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (STEPS * 32, 28, 28), np.uint8)
    labels, rows = random.integers(0, 10, len(images), np.uint8), np.arange(len(images), dtype=np.int32)
    split = Split(images, labels, rows, images, labels, rows[:1], 255.0, 10, False)
    hyperparameters = {**DEFAULTS, "num_neurons": neurons}

    def run() -> Scores:
        return trainer.train_network(hyperparameters, split, 1, lambda within: None, lambda epoch: None)

    run()
    seconds, rate = min(run().fit_seconds for _ in range(3)) / STEPS, matrix_product_rate()
    work = 32 * (3 * 5408 * neurons + 2 * 26 * 26 * 9 * 32 + 3 * 10 * neurons)
    print(f"{seconds * 1e3:.2f} ms a step, {work / rate * 1e3:.2f} by arithmetic alone: {work / rate / seconds:.0%}")
    times = self_times(run)
    kernels = sum(times[name] for name in times if name.endswith(("MatMul", "Adam"))) / 1e12 / STEPS
    print(f"{kernels * 1e3:.2f} in the matrix products and Adam: with these alone {work / rate / kernels:.0%}")
    for name, picoseconds in times.most_common(25):
        print(f"{picoseconds / 1e9 / STEPS:8.3f} ms  {name}")


if __name__ == "__main__":
    main()
