"""HEAD wherever there is a GET: the same status and headers, without the body."""

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HeadRequests:
    """Handles HEAD as GET; the body, which may have no end, is given up once it has begun."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            return await self._app(scope, receive, send)

        async def send_start(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                handling.cancel()

        with anyio.CancelScope() as handling:
            await self._app({**scope, "method": "GET"}, receive, send_start)
        await send({"type": "http.response.body", "body": b""})
