"""Who calls the intake: the agent of which node.

The token is checked by the API server (TokenReview, our audience), has to be
the agent's service account, and names the node its pod runs on
(Kubernetes 1.32 puts that into every pod-bound token).
"""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from stillframe import names
from stillframe.errors import PermanentError
from stillframe_operator.kube import Kube, path
from stillframe_operator.settings import Settings

_CACHE_SECONDS: Final = 60.0
_CACHED: Final = 10_000
_REVIEWS_AT_ONCE: Final = 20
_MAX_TOKEN: Final = 16 * 1024
_NODE: Final = "authentication.kubernetes.io/node-name"


class UnauthenticatedError(PermanentError):
    """The API server does not accept the token for our audience."""


class ForbiddenError(PermanentError):
    """The token is good, but its owner may not do this."""


@dataclass(frozen=True)
class Caller:
    """An agent."""

    node: str


class Callers:
    """Turns tokens into callers; remembers the good ones by their SHA-256 for a minute."""

    def __init__(
        self, kube: Kube, settings: Settings, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._kube = kube
        self._username = (
            f"system:serviceaccount:{settings.namespace}:{settings.agent_service_account}"
        )
        self._clock = clock
        self._known: OrderedDict[bytes, tuple[float, Caller]] = OrderedDict()
        self._reviews = asyncio.Semaphore(_REVIEWS_AT_ONCE)

    async def authenticate(self, authorization: str) -> Caller:
        """Return who sent ``authorization`` ("Bearer ...").

        Raises UnauthenticatedError, ForbiddenError or TemporaryError.
        """
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token or len(token) > _MAX_TOKEN:
            raise UnauthenticatedError("no bearer token in metadata 'authorization'")
        digest = hashlib.sha256(token.encode()).digest()
        known = self._known.get(digest)
        if known is not None and self._clock() < known[0]:
            return known[1]
        async with self._reviews:
            caller = await self._review(token)
        self._known[digest] = (self._clock() + _CACHE_SECONDS, caller)
        self._known.move_to_end(digest)
        if len(self._known) > _CACHED:
            self._known.popitem(last=False)
        return caller

    async def _review(self, token: str) -> Caller:
        review = await self._kube.create(
            path("authentication.k8s.io/v1", "tokenreviews", None),
            {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenReview",
                "spec": {"token": token, "audiences": [names.TOKEN_AUDIENCE]},
            },
        )
        status = review.get("status") or {}
        accepted = names.TOKEN_AUDIENCE in (status.get("audiences") or [])
        if not status.get("authenticated") or not accepted:
            raise UnauthenticatedError(
                f"the token is not valid for audience {names.TOKEN_AUDIENCE}"
            )
        user = status.get("user") or {}
        if user.get("username") != self._username:
            raise ForbiddenError(f"only {self._username} may call the intake")
        nodes = (user.get("extra") or {}).get(_NODE) or []
        if len(nodes) != 1:
            raise ForbiddenError(
                "the token names no node",
                "it has to be projected into the agent's pod, on Kubernetes 1.32 or newer",
            )
        return Caller(nodes[0])
