"""Whether the process lives, and whether it can do its work."""

from fastapi import APIRouter, Request, Response
from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from app.problems import AWAY_SECONDS
from app.schemas import Health
from app.tuning import broker
from app.tuning.database import reading

router = APIRouter(tags=["health"])


@router.get("/livez")
def livez() -> Health:
    """The process answers."""
    return Health(status="ok", checks={"process": "ok"})


@router.get("/readyz", responses={503: {"model": Health, "description": "The database is away."}})
def readyz(request: Request, response: Response) -> Health:
    """The database answers; without the broker the service is degraded, since jobs are accepted but wait."""
    database, queue = _database(request.app.state.engine), _broker()
    status = "unavailable" if not database else "ok" if queue else "degraded"
    if not database:
        response.status_code = 503
        response.headers["Retry-After"] = str(AWAY_SECONDS)
    checks = {"database": database, "broker": queue}
    return Health.model_validate(
        {"status": status, "checks": {name: "ok" if well else "unavailable" for name, well in checks.items()}}
    )


def _database(engine: Engine) -> bool:
    try:
        with reading(engine) as session:
            session.execute(text("SELECT 1 FROM jobs LIMIT 1"))
    except SQLAlchemyError:
        return False
    return True


def _broker() -> bool:
    try:
        broker.waiting()
    except broker.BrokerError:
        return False
    return True
