"""The models that a job can use."""

from fastapi import APIRouter

from app.api.openapi import describe_problems
from app.api.schemas.catalogue import Hyperparameter, ModelPage, ModelResponse
from app.tuning.search.models import Model, describe_hyperparameters
from app.tuning.search.registry import MODELS

router = APIRouter(prefix="/v1", tags=["catalogue"], responses=describe_problems(413, 421, 500))


@router.get("/models")
async def list_models() -> ModelPage:
    """The models, with every hyperparameter's type, bounds, default and meaning."""
    return ModelPage(items=[_describe_model(model) for model in MODELS.values()], next_page_token=None)


def _describe_model(model: type[Model]) -> ModelResponse:
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
        for one in describe_hyperparameters(model)
    ]
    return ModelResponse(
        name=model.name, description=model.__doc__ or "", tasks=[*model.tasks], hyperparameters=described
    )
