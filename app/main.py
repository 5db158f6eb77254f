"""The ASGI app: `uvicorn app.main:app`."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache

import anyio
import anyio.to_thread
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from sqlalchemy import Engine
from starlette.middleware.gzip import DEFAULT_EXCLUDED_CONTENT_TYPES, GZipMiddleware

from app.api import (
    catalogue,
    columns,
    control,
    datasets,
    editing,
    events,
    health,
    importance,
    jobs,
    models,
    openapi,
    predictions,
    preview,
    problems,
    results,
    threads,
    workers,
)
from app.api.head_requests import HeadRequests
from app.api.hosts import HostGuard
from app.api.strict_json import BodyLimit
from app.api.watching import Watcher
from app.page.pages import add_pages
from app.tuning import __version__, logs
from app.tuning.database import connect
from app.tuning.housekeeping import Housekeeper
from app.tuning.settings import settings

PREPARE_SECONDS = 5  # then the service starts without its database, and housekeeping keeps trying to reach it
COMPRESSED_BYTES = 16 * 1024  # and more: a poll is smaller
COMPRESSION = 5  # of 9, which takes five times as long for a tenth less
ROUTES = (
    *(jobs, control, editing, results, models, predictions, columns, importance),
    *(events, preview, catalogue, datasets, workers, health),
)
DESCRIPTION = "Hyperparameter tuning jobs over REST: post a search, poll it, fetch the best."


def create_app(engine: Engine | None = None, keeping: Callable[[Engine], Housekeeper] = Housekeeper) -> FastAPI:
    """The service on this database, or by default on the one in the settings."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        threads.limit_readers()
        app.state.engine = engine or connect(settings().database)
        app.state.housekeeper = keeping(app.state.engine)
        app.state.watcher = Watcher(app.state.engine)
        with anyio.move_on_after(PREPARE_SECONDS):  # until then requests get 503 with Retry-After
            await anyio.to_thread.run_sync(app.state.housekeeper.prepare, abandon_on_cancel=True)
        app.state.housekeeper.start()
        yield
        await app.state.watcher.close()
        app.state.housekeeper.stop()

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
    binary = (*DEFAULT_EXCLUDED_CONTENT_TYPES, "application/octet-stream")  # compressed by itself, or in vain
    compressing = {"minimum_size": COMPRESSED_BYTES, "compresslevel": COMPRESSION}
    app.add_middleware(GZipMiddleware, exclude_content_types=binary, **compressing)
    for middleware in (BodyLimit, HostGuard, HeadRequests):  # the last one added runs first
        app.add_middleware(middleware)
    for module in ROUTES:
        app.include_router(module.router)
    add_pages(app)
    problems.install_handlers(app)
    document = app.openapi
    app.openapi = cache(lambda: openapi.complete_document(document()))  # type: ignore[method-assign]
    return app


logs.set_up_logging()  # after uvicorn has set up its own logging, before it logs the start
app = create_app()
