"""Liveness and readiness."""

from typing import Literal

from fastapi import APIRouter, Request
from sqlalchemy import Engine

from app.api.openapi import describe_problems
from app.api.problems import ServiceUnavailable
from app.api.schemas.base import ResponseModel
from app.tuning import broker, outages, storage
from app.tuning.database import try_writing
from app.tuning.outages import Standing, database_standing

router = APIRouter(tags=["health"], responses=describe_problems(413, 421, 500))


class Health(ResponseModel):
    """The state of the service and of each of its parts."""

    status: Literal["ok", "degraded"]
    checks: dict[str, Literal["ok", "unavailable"]]


@router.get("/livez")
async def livez() -> Health:
    """The process is alive."""
    return Health(status="ok", checks={"process": "ok"})


@router.get("/readyz", responses=describe_problems(503))
def readyz(request: Request) -> Health:
    """The database is writable; without broker, storage or housekeeping it is degraded: jobs wait."""
    house = request.app.state.housekeeper
    well = {
        "database": house.prepared and _is_database_writable(request.app.state.engine),
        "broker": _is_broker_reachable(),
        "storage": storage.is_reachable(),
        "house_keeping": house.well(),
    }
    checks = {name: "ok" if one else "unavailable" for name, one in well.items()}
    if not well["database"]:
        raise ServiceUnavailable(checks=checks)
    if not house.lives():
        raise ServiceUnavailable("Housekeeping has stopped; restart the service.", checks=checks)
    return Health.model_validate({"status": "ok" if all(well.values()) else "degraded", "checks": checks})


def _is_database_writable(engine: Engine) -> bool:
    try:
        try_writing(engine)
    except Exception as error:  # whatever it is, the check must respond
        # Another connection holds the lock: no problem, unless requests have already timed out waiting for it.
        return outages.is_locked(error) and database_standing(engine) is Standing.WELL
    return True


def _is_broker_reachable() -> bool:
    try:
        broker.count_waiting_wakes()
    except Exception:
        return False
    return True
