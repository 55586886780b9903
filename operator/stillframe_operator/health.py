"""``/healthz``, ``/readyz`` and ``/metrics``: plain http, no secrets."""

from collections.abc import Callable

from aiohttp import web
from prometheus_client import generate_latest


def app(ready: Callable[[], bool]) -> web.Application:
    """Return the application; ``ready`` says whether clients can be served."""

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def readyz(_: web.Request) -> web.Response:
        if ready():
            return web.Response(text="ok")
        return web.Response(status=503, text="the certificate is not published or not valid")

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), content_type="text/plain", charset="utf-8")

    application = web.Application()
    application.router.add_get("/healthz", healthz)
    application.router.add_get("/readyz", readyz)
    application.router.add_get("/metrics", metrics)
    return application
