"""Whether the process lives, and whether it can do its work."""

from fastapi import APIRouter, Request
from sqlalchemy import Engine

from app.api.openapi import describe_problems
from app.api.problems import ServiceUnavailable
from app.api.schemas import Health
from app.tuning import broker, outages
from app.tuning.database import try_writing
from app.tuning.outages import Standing, database_standing

router = APIRouter(tags=["health"], responses=describe_problems(413, 421, 500))


@router.get("/livez")
async def livez() -> Health:
    """The process answers."""
    return Health(status="ok", checks={"process": "ok"})


@router.get("/readyz", responses=describe_problems(503))
def readyz(request: Request) -> Health:
    """The database can be written; without broker or house-keeping the service is degraded: jobs wait."""
    house = request.app.state.housekeeper
    well = {
        "database": house.prepared and _is_database_writable(request.app.state.engine),
        "broker": _is_broker_reachable(),
        "house_keeping": house.well(),
    }
    checks = {name: "ok" if one else "unavailable" for name, one in well.items()}
    if not well["database"]:
        raise ServiceUnavailable(checks=checks)
    if not house.lives():
        raise ServiceUnavailable("House-keeping has come to a stop; start the service again.", checks=checks)
    return Health.model_validate({"status": "ok" if all(well.values()) else "degraded", "checks": checks})


def _is_database_writable(engine: Engine) -> bool:
    try:
        try_writing(engine)
    except Exception as error:  # whatever it is, it is no reason to be without an answer
        # Somebody else writes, but for how long? Those who had to wait too long have made a note of it.
        return outages.is_locked(error) and database_standing(engine) is Standing.WELL
    return True


def _is_broker_reachable() -> bool:
    try:
        broker.count_waiting_wakes()
    except Exception:
        return False
    return True
