"""A real Chromium, pages that note everything they should not do, and the service that serves them."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, Route, sync_playwright

from tests.support.servers import missing

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
OPTIONS = ("--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-component-update")
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
# Each page is looked at so: theme and size.
LOOKS = {"light": ("light", DESK), "dark": ("dark", DESK), "phone": ("light", PHONE), "dark-phone": ("dark", PHONE)}
VIOLATIONS = """addEventListener("securitypolicyviolation", (event) =>
    console.error(`CSP: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`))"""
MAX_LINES = 20


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium of this machine."""
    program = next((found for name in PROGRAMS if (found := shutil.which(name))), None)
    if program is None:
        missing("Chromium")
    with sync_playwright() as playwright:
        # Without its sandbox, which root cannot have.
        browser = playwright.chromium.launch(executable_path=program, args=list(OPTIONS), chromium_sandbox=False)
        try:
            yield browser
        finally:
            browser.close()


class Watched:
    """A browser page with its sins: console errors, requests to other hosts, failed scripts."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url, self.sins = page, url, list[str]()
        page.add_init_script(VIOLATIONS)
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.sins.append(f"exception: {error}"))
        page.route("**/*", self._guard)

    def open(self, path: str) -> Page:
        """Show a page of the service; it stands once the network is idle or the heading is there."""
        self.page.goto(f"{self.url}/{path}")
        self.page.wait_for_selector("h1")
        return self.page

    def violations(self) -> list[str]:
        """What axe finds, a line each."""
        found = Axe().run(self.page).response["violations"]
        nodes = [(one["id"], node) for one in found for node in one["nodes"]]
        return [f"{rule}: {node['html'][:200]} {node['target']}" for rule, node in nodes][:MAX_LINES]

    def fits(self) -> bool:
        """Whether nothing but tables and the like scrolls sideways."""
        return bool(self.page.evaluate("document.documentElement.scrollWidth <= innerWidth"))

    def _note(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.sins.append(f"{message.type}: {message.text}")

    def _guard(self, route: Route, request: Request) -> None:
        if request.url.startswith((self.url, "data:", "blob:")):
            return route.continue_()
        self.sins.append(f"foreign request: {request.url}")
        route.abort()


@contextmanager
def watched(
    browser: Browser, url: str, theme: str = "light", size: Any = None, allow: Sequence[str] = ()
) -> Iterator[Watched]:
    """A page in a fresh profile; afterwards it must have done nothing wrong but what is allowed."""
    context = browser.new_context(viewport=size or DESK, color_scheme=theme, locale="en-GB", accept_downloads=True)  # type: ignore[arg-type]
    context.set_default_timeout(20_000)
    one = Watched(context.new_page(), url)
    try:
        yield one
        assert [sin for sin in one.sins if not any(word in sin for word in allow)] == []
    finally:
        context.close()
