"""A real worker whose training is a fast pure function of candidate, fold and seed: `celery -A tests.chaos.worker`.

A job's labels steer it: `ms` is how long a fit takes, `act` what its first fit does on its first attempt.
"""

import ctypes
import hashlib
import json
import os
import random
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from celery import Task

from app.tuning.broker import TASK
from app.tuning.broker import celery as app
from app.tuning.jobs.attempts import Result
from app.tuning.jobs.claims import Claim
from app.tuning.settings import settings
from tests.chaos import pages
from worker import datasets
from worker.celery_process import run_task
from worker.checkpoints import FitCheckpoints
from worker.compiled.state import Epoch, Snapshot
from worker.lease import LeaseHeartbeat
from worker.locking import Alive

STEP_SECONDS = 0.1
EPOCHS = 3
ENVIRONMENT = ("tunewell", "python", "tensorflow", "keras", "scikit_learn", "dataset_sha256", "processor")
pages.limit()


def _load_from_file(alive: Alive) -> datasets.FourArrays:
    """Stands for a data set: a file in the worker's data folder that exists or not."""
    content = np.frombuffer((settings().data_dir / "mnist.npz").read_bytes(), np.uint8)
    return content, content, content, content


datasets.LOADERS["mnist"] = _load_from_file


@app.task(name=TASK, bind=True)  # type: ignore[untyped-decorator]
def run_next_fit(self: Task) -> None:
    """Train the next fit, and the next, until no job has any."""
    run_task(self, train)


def train(claim: Claim, heartbeat: LeaseHeartbeat) -> Result:
    """Do the candidate's damage, take its time, and return a result that depends only on candidate, fold and seed."""
    labels = claim.spec.labels
    datasets.load_dataset(claim.spec.dataset.name, heartbeat.report)
    if claim.attempt == 1 and claim.fold == 0 and claim.trial_number == 0 and (act := labels.get("act")):
        note(claim)
        ACTS[act](heartbeat)
    seconds = 0.0 if labels.get("act") == "be-silent" else int(labels.get("ms", "0")) / 1000
    if claim.spec.resource == "epochs":
        return train_on(claim, heartbeat, seconds / EPOCHS)
    for epoch in range(1, EPOCHS + 1):
        spend(heartbeat, seconds * (1 if "steady" in labels else random.uniform(0.3, 1.7)) / EPOCHS)
        values = {name: found(claim, epoch, name) for name in ("loss", "accuracy", "val_loss", "val_accuracy")}
        heartbeat.epoch({"epoch": epoch, **values, "seconds": found(claim, epoch, "seconds")})
    return Result(
        accuracy=found(claim, "accuracy"),
        loss=found(claim, "loss"),
        fit_seconds=found(claim, "fit_seconds"),
        score_seconds=found(claim, "score_seconds"),
        environment=dict.fromkeys(ENVIRONMENT, "chaos"),
    )


def train_on(claim: Claim, heartbeat: LeaseHeartbeat, seconds: float) -> Result:
    """Go on from a checkpoint, each epoch's state being the hash of the one before: a wrong one changes the result."""
    first = [claim.hyperparameters | {"epochs": None}, claim.fold, claim.spec.random_state]
    key = hashlib.sha256(json.dumps([str(claim.job_id), *first], sort_keys=True).encode()).hexdigest()
    checkpoints = FitCheckpoints(key, keeps_last=claim.may_go_on)
    snapshot = checkpoints.load(claim.n_resources or 0)
    epochs = list(snapshot.epochs) if snapshot else []
    state = snapshot.arrays[0].tobytes() if snapshot else json.dumps(first, sort_keys=True).encode()
    for epoch in epochs:
        heartbeat.epoch(epoch._asdict())
    for number in range(len(epochs) + 1, (claim.n_resources or 0) + 1):
        spend(heartbeat, seconds * random.uniform(0.3, 1.7))
        state = hashlib.sha256(state).digest()
        epochs.append(Epoch(number, *(int.from_bytes(state[at : at + 7]) / 2**56 for at in range(5))))
        heartbeat.epoch(epochs[-1]._asdict())
        checkpoints.save(Snapshot(list(epochs), [np.frombuffer(state, np.uint8)]))
    environment = dict.fromkeys(ENVIRONMENT, "chaos")
    return Result(epochs[-1].val_accuracy or 0.0, epochs[-1].val_loss, 1.0, 1.0, environment)


def found(claim: Claim, *what: str | int) -> float:
    """A number from 0 to 1 that is the same on every attempt and worker."""
    seed = [claim.hyperparameters, claim.fold, claim.spec.random_state, *what]
    digest = hashlib.sha256(json.dumps(seed, sort_keys=True).encode()).digest()
    return int.from_bytes(digest[:7]) / 2**56


def spend(heartbeat: LeaseHeartbeat, seconds: float) -> None:
    """Sleep while reporting."""
    while seconds > 0:
        time.sleep(min(STEP_SECONDS, seconds))
        seconds -= STEP_SECONDS
        heartbeat.report()


def note(claim: Claim) -> None:
    """Note when this attempt began its damage."""
    with (Path(os.environ["CHAOS_FOLDER"]) / "acts").open("a") as acts:
        acts.write(json.dumps({"fit": claim.fit_id, "attempt": claim.attempt, "at": time.time(), "pid": os.getpid()}))
        acts.write("\n")


def _die(_: LeaseHeartbeat) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _grow(_: LeaseHeartbeat) -> None:
    """Allocate more memory than the process may have."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (2**30, before[1]))
    try:
        bytearray(2**32)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _hang(_: LeaseHeartbeat) -> None:
    time.sleep(3600)


def _hang_in_c(_: LeaseHeartbeat) -> None:
    ctypes.PyDLL(None).sleep(3600)  # a PyDLL's functions keep the interpreter's lock


def _raise(_: LeaseHeartbeat) -> None:
    raise ValueError("the training itself is wrong")


def _be_silent(_: LeaseHeartbeat) -> None:
    """Go on without a report until long after the lease, and then return a result."""
    time.sleep(22)


def _linger(heartbeat: LeaseHeartbeat) -> None:
    """Train for a long time while reporting."""
    spend(heartbeat, 30)


ACTS: dict[str, Callable[[LeaseHeartbeat], None]] = {
    "die": _die,
    "grow": _grow,
    "hang": _hang,
    "hang-in-c": _hang_in_c,
    "raise": _raise,
    "be-silent": _be_silent,
    "linger": _linger,
}
