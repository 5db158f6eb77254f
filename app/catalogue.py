"""What can be asked for: data sets and models."""

from fastapi import APIRouter

from app.openapi import problem
from app.schemas import DatasetAnswer, DatasetPage, Hyperparameter, ModelAnswer, ModelPage
from app.tuning.datasets import DATASETS
from app.tuning.models import MODELS, Model, hyperparameters

router = APIRouter(prefix="/v1", tags=["catalogue"], responses=problem(413, 421, 500))


@router.get("/datasets")
async def list_datasets() -> DatasetPage:
    """The data sets, with their shapes."""
    return DatasetPage(items=[DatasetAnswer.model_validate(one) for one in DATASETS.values()], next_page_token=None)


@router.get("/models")
async def list_models() -> ModelPage:
    """The models, with every hyperparameter's type, bounds, default and meaning."""
    return ModelPage(items=[_answer(model) for model in MODELS.values()], next_page_token=None)


def _answer(model: type[Model]) -> ModelAnswer:
    described = [
        Hyperparameter(
            name=one["name"],
            type=one["type"],
            minimum=one.get("minimum"),
            exclusive_minimum=one.get("exclusiveMinimum"),
            maximum=one.get("maximum"),
            exclusive_maximum=one.get("exclusiveMaximum"),
            choices=one.get("enum"),
            default=one["default"],
            meaning=one["description"],
        )
        for one in hyperparameters(model)
    ]
    return ModelAnswer(name=model.name, description=model.__doc__ or "", hyperparameters=described)
