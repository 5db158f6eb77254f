"""What a posted job leaves open, filled in; without scikit-learn, which a worker's main process has no use for."""

from collections.abc import Mapping

from app.tuning.datasets import DATASETS
from app.tuning.models import MODELS, Value
from app.tuning.spec import JobSpec


def hyperparameters(spec: JobSpec, params: Mapping[str, Value]) -> dict[str, Value]:
    """A candidate's complete hyperparameters: searched, then fixed, then the model's defaults."""
    complete = MODELS[spec.model].model_validate({**spec.fixed, **params})
    return complete.model_dump()


def train_samples(spec: JobSpec) -> int:
    """Samples of the training set that the job takes."""
    return spec.dataset.train_samples or DATASETS[spec.dataset.name].train_samples


def test_samples(spec: JobSpec) -> int:
    """Samples of the test set that the job takes."""
    return spec.dataset.test_samples or DATASETS[spec.dataset.name].test_samples
