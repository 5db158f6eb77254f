"""What `celery -A worker.tasks worker` serves: one task, which trains fits for as long as there are any."""

from importlib import import_module
from typing import Any

from celery import Task, signals

from app.tuning.broker import TASK
from app.tuning.broker import celery as app
from worker.process import work

TRAINING = "worker.folds"  # TensorFlow comes in with it: only in the children, where nothing forks any more


@signals.worker_process_init.connect  # type: ignore[untyped-decorator]
def load_training(**_: Any) -> None:
    """Load TensorFlow as soon as the training process is there: the first fit need not wait for it."""
    import_module(TRAINING)


@app.task(name=TASK, bind=True)  # type: ignore[untyped-decorator]
def run_next_fit(self: Task) -> None:
    """Train the next fit, and the next, until no job has any."""
    work(self, import_module(TRAINING).train)
