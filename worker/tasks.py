"""What `celery -A worker.tasks worker` serves: one task, which trains fits for as long as there are any."""

from celery import Task

from app.tuning.broker import TASK
from app.tuning.broker import celery as app
from worker.process import work


@app.task(name=TASK, bind=True)  # type: ignore[untyped-decorator]
def run_next_fit(self: Task) -> None:
    """Train the next fit, and the next, until no job has any."""
    from worker.folds import train  # TensorFlow comes in here: in the child, on first use

    work(self, train)
