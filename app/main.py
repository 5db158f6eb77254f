"""The ASGI app: `uvicorn app.main:app`."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache

import anyio
import anyio.to_thread
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from sqlalchemy import Engine

from app import catalogue, health, memory, openapi, problems, routes, threads
from app.bodies import BodyLimit
from app.heads import Heads
from app.hosts import OwnHosts
from app.tuning import __version__, logs
from app.tuning.database import connect
from app.tuning.house import House
from app.tuning.settings import settings

PREPARE_SECONDS = 5  # then the service begins without its database, for which house-keeping goes on trying
DESCRIPTION = "Hyperparameter tuning jobs over REST: post a search, poll it, fetch the best."


def create_app(engine: Engine | None = None, keeping: Callable[[Engine], House] = House) -> FastAPI:
    """The service on this database, or on the one that the settings name."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        threads.limit_readers()
        app.state.engine = engine or connect(settings().database)
        app.state.house = keeping(app.state.engine)
        with anyio.move_on_after(PREPARE_SECONDS):  # requests are told that the database is away, and asked again
            await anyio.to_thread.run_sync(app.state.house.prepare, abandon_on_cancel=True)
        app.state.house.start()
        memory.spare()
        yield
        app.state.house.stop()

    app = FastAPIOffline(
        title="Tunewell",
        version=__version__,
        description=DESCRIPTION,
        license_info={"name": "MIT", "identifier": "MIT"},
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
        separate_input_output_schemas=False,
        generate_unique_id_function=lambda route: route.name,
    )
    for middleware in (BodyLimit, OwnHosts, Heads):  # the last one is asked first
        app.add_middleware(middleware)
    for router in (routes.router, catalogue.router, health.router):
        app.include_router(router)
    problems.install(app)
    document = app.openapi
    app.openapi = cache(lambda: openapi.completed(document()))  # type: ignore[method-assign]
    return app


logs.set_up()  # uvicorn, which has set up its own by now, logs the start after this
app = create_app()
