"""Whether the process lives, and whether it can do its work."""

from fastapi import APIRouter, Request
from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from app.openapi import problem
from app.problems import Away
from app.schemas import Health
from app.tuning import broker
from app.tuning.database import reading

router = APIRouter(tags=["health"], responses=problem(413, 421, 500))


@router.get("/livez")
async def livez() -> Health:
    """The process answers."""
    return Health(status="ok", checks={"process": "ok"})


@router.get("/readyz", responses=problem(503))
def readyz(request: Request) -> Health:
    """The database answers; without the broker the service is degraded, since jobs are accepted but wait."""
    database, queue = _database(request.app.state.engine), _broker()
    checks = {name: "ok" if well else "unavailable" for name, well in (("database", database), ("broker", queue))}
    if not database:
        raise Away(checks=checks)
    return Health.model_validate({"status": "ok" if queue else "degraded", "checks": checks})


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
