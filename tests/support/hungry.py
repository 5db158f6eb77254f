"""Trains large networks one after the other under a limit of memory: `python -m tests.support.hungry NEURONS...`."""

import resource
import sys

import numpy as np

LIMIT = 5 * 2**28

if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))
    from tests.support.fitting import train
    from worker.training import Split

    images, labels, rows = np.zeros((64, 28, 28), np.uint8), np.zeros(64, np.uint8), np.arange(64, dtype=np.int32)
    split = Split(images, labels, rows, images, labels, rows[:8], 255.0, 10, True)
    for neurons in sys.argv[1:]:
        train({"filters": 256, "kernel_size": 1, "num_neurons": int(neurons), "batch_size": 32, "epochs": 1}, split)
