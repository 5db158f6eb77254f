"""The models that a job can name. Each has one entry here and one in `worker.fit.TRAINERS`."""

from app.tuning.search.estimators import ESTIMATORS
from app.tuning.search.models import Cnn, Model

ALL: tuple[type[Model], ...] = (Cnn, *ESTIMATORS)
MODELS = {model.name: model for model in ALL}
