"""The page's routes, its files, and the headers that keep foreign content out."""

import html
from pathlib import Path
from stat import S_ISREG
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import HTMLResponse
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

FOLDER = Path(__file__).parent
STATIC = FOLDER / "static"
# The files that the page uses of the packages in package.json, by the names that it loads them by.
LIBRARIES = {
    "lib/echarts.mjs": "echarts/dist/echarts.esm.min.mjs",
    "lib/tabulator.mjs": "tabulator-tables/dist/js/tabulator_esm.min.mjs",
    "lib/tabulator.css": "tabulator-tables/dist/css/tabulator_simple.min.css",
}
# `base-uri` allows the <base> element, which makes sub-paths work; its address is the service's own.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "form-action 'none'; base-uri 'self'; frame-ancestors 'none'"
)
PAGE_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
FOREVER = "public, max-age=31536000, immutable"

pages = APIRouter(include_in_schema=False)


@pages.get("/")
@pages.get("/new")
@pages.get("/compare")
@pages.get("/jobs/{job_id}")
@pages.get("/jobs/{job_id}/trials/{number}")
def show_page(request: Request) -> HTMLResponse:
    """The one document of all pages; its scripts look at the address and ask the REST API."""
    base = html.escape(request.scope.get("root_path", "") + "/")
    text = (STATIC / "index.html").read_text(encoding="utf-8")
    return HTMLResponse(
        text.replace("{base}", base).replace("{version}", _find_version()),
        headers={**PAGE_HEADERS, "Cache-Control": "no-cache"},
    )


class PageFiles(StaticFiles):
    """Files under `/page/VERSION/`: any version is served, and kept by browsers for as long as they like."""

    def lookup_path(self, path: str) -> tuple[str, Any]:
        """The file's place and status; libraries are where npm has put them."""
        name = Path(path).as_posix().partition("/")[2]
        if name not in LIBRARIES:
            return super().lookup_path(name)
        place = FOLDER / "node_modules" / LIBRARIES[name]
        return (str(place), place.stat()) if place.is_file() else ("", None)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """The file with the page's headers."""
        response = await super().get_response(path, scope)
        response.headers.update({**PAGE_HEADERS, "Cache-Control": FOREVER})
        return response


def add_pages(app: FastAPI) -> None:
    """Serve the page from this app."""
    app.include_router(pages)
    app.mount("/page", GZipMiddleware(PageFiles(directory=STATIC), minimum_size=1000), name="page")


def _find_version() -> str:
    """Changes with every change of a file of the page: it is part of each file's address."""
    stats = [file.stat() for file in (*STATIC.rglob("*"), FOLDER / "package-lock.json") if file.exists()]
    return format(
        max(int(one.st_mtime) for one in stats) ^ sum(one.st_size for one in stats if S_ISREG(one.st_mode)), "x"
    )
