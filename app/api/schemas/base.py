"""What every response model is built from."""

from typing import Annotated, Any, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializeAsAny,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from app.tuning.search.models import Value

Accuracy = float
Score = float
_T = TypeVar("_T")


def _as_stored(value: Any, known: ValidatorFunctionWrapHandler) -> Any:
    try:
        return known(value)
    except ValidationError:
        return value


# A value from a row: if another version wrote something that this one cannot validate, it is shown unchanged.
Stored = Annotated[_T, WrapValidator(_as_stored), SerializeAsAny()]
Params = Stored[dict[str, Value]]


class ResponseModel(BaseModel):
    """Base of the responses: fields are read from the row's columns of the same name."""

    model_config = ConfigDict(from_attributes=True)


class ErrorResponse(ResponseModel):
    """Why a job, a trial or a fit failed; 4 KiB at most."""

    model_config = ConfigDict(title="Error")

    @model_validator(mode="before")
    @classmethod
    def fill(cls, stored: Any) -> Any:
        return {"traceback": None, **stored} if isinstance(stored, dict) else stored

    type: str
    message: str
    traceback: str | None
