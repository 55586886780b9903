"""The admission webhook: AdmissionReview in, AdmissionReview out, always allowed.

An internal error admits the pod unchanged, with a warning and a count: a
broken Stillframe must never keep a pod from starting.  (``allowed: false``
would deny it even under ``failurePolicy: Ignore``.)
"""

import base64
import json
import logging
import time
from collections.abc import Callable
from typing import Any, Final

from aiohttp import web

from stillframe import names
from stillframe_operator import metrics
from stillframe_operator.inject import Injection, inject
from stillframe_operator.kube import Kube, path
from stillframe_operator.settings import Settings

log = logging.getLogger(__name__)

_MAX_BODY: Final = 4 << 20
"""The API server's own limit for a request is 3 MiB."""
_LABELS_SECONDS: Final = 5.0
_MAX_WARNING: Final = 240
_MAX_WARNINGS: Final = 8


class Webhook:
    """``/inject/pod`` serves annotated pods, ``/inject/namespace`` labelled namespaces."""

    def __init__(
        self, kube: Kube, settings: Settings, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._kube = kube
        self._settings = settings
        self._clock = clock
        self._labels: dict[str, tuple[float, str | None]] = {}

    def app(self) -> web.Application:
        """Return the application to serve over TLS."""
        app = web.Application(client_max_size=_MAX_BODY)
        app.router.add_post("/inject/pod", self._pod)
        app.router.add_post("/inject/namespace", self._namespace)
        return app

    async def _pod(self, request: web.Request) -> web.Response:
        return await self._reviewed(request, by_namespace=False)

    async def _namespace(self, request: web.Request) -> web.Response:
        return await self._reviewed(request, by_namespace=True)

    async def _reviewed(self, request: web.Request, *, by_namespace: bool) -> web.Response:
        body = await request.read()
        try:
            review = json.loads(body)["request"]
            uid = review["uid"]
        except (ValueError, KeyError, TypeError):
            return web.Response(status=400, text="not an AdmissionReview")
        try:
            answer = _answer(uid, await self._injection(review, by_namespace=by_namespace))
        except Exception:
            log.exception("webhook: internal error, admitting the pod unchanged")
            metrics.ADMISSIONS.labels("error").inc()
            answer = {
                "uid": uid,
                "allowed": True,
                "warnings": ["stillframe: internal error; the pod starts without capture"],
            }
        return web.json_response(
            {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": answer}
        )

    async def _injection(self, review: dict[str, Any], *, by_namespace: bool) -> Injection:
        pod, namespace = review["object"], review["namespace"]
        value = await self._namespace_value(namespace) if by_namespace else None
        injection = inject(pod, namespace, self._settings, value)
        if injection.injected:
            metrics.ADMISSIONS.labels("injected").inc()
        elif injection.skipped:
            metrics.ADMISSIONS.labels("skipped").inc()
            metrics.SKIPS.labels(injection.skipped).inc()
        else:
            metrics.ADMISSIONS.labels("unchanged").inc()
        return injection

    async def _namespace_value(self, namespace: str) -> str | None:
        known = self._labels.get(namespace)
        if known is not None and self._clock() < known[0]:
            return known[1]
        found = await self._kube.get(path("v1", "namespaces", None, namespace))
        value = (found["metadata"].get("labels") or {}).get(names.LABEL_CAPTURE)
        self._labels[namespace] = (self._clock() + _LABELS_SECONDS, value)
        return value


def _answer(uid: str, injection: Injection) -> dict[str, Any]:
    answer: dict[str, Any] = {"uid": uid, "allowed": True}
    if injection.patch:
        encoded = base64.b64encode(json.dumps(injection.patch).encode()).decode()
        answer |= {"patchType": "JSONPatch", "patch": encoded}
    if injection.warnings:
        answer["warnings"] = [w[:_MAX_WARNING] for w in injection.warnings[:_MAX_WARNINGS]]
    return answer
