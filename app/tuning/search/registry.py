"""The models that a job can name. Each has one entry here and one in `worker.fit.TRAINERS`."""

from app.tuning.search.estimators import ESTIMATORS
from app.tuning.search.models import Cnn, Model
from app.tuning.search.networks import Mlp, Resnet

ALL: tuple[type[Model], ...] = (Cnn, Mlp, Resnet, *ESTIMATORS)
MODELS = {model.name: model for model in ALL}
