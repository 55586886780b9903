"""The API server, as dictionaries.

``kubernetes.aio`` supplies configuration, authentication, TLS and pooling; its
generated models are not used, because they refuse fields of newer servers at
construction (measured with 37.0.2).  Foreign errors are converted here:
what may be tried again is ``TemporaryError``, the rest ``RefusedError``.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, NewType
from urllib.parse import quote, urlencode

import aiohttp
from kubernetes.aio import client, config

from stillframe import names
from stillframe.errors import PermanentError, TemporaryError

Object = dict[str, Any]
"""A Kubernetes object as its JSON."""
Path = NewType("Path", str)

CALL_SECONDS: Final = 10.0
_METADATA_LIST: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_PAGE: Final = 250
_ALL: Final[Mapping[str, str]] = {}


class RefusedError(PermanentError):
    """The API server said no: ``code`` is the HTTP status, ``details`` its Status.details."""

    def __init__(self, code: int, reason: str, message: str, details: Mapping[str, Any]) -> None:
        super().__init__(f"the API server refused ({code} {reason}): {message}")
        self.code, self.reason, self.details = code, reason, details

    @property
    def not_found(self) -> bool:
        """The object, or its namespace, is not there."""
        return self.code == 404

    @property
    def conflict(self) -> bool:
        """Somebody else wrote first: read again."""
        return self.code == 409

    @property
    def namespace_gone(self) -> bool:
        """The namespace is gone or going."""
        causes = self.details.get("causes") or []
        return (self.code == 404 and self.details.get("kind") == "namespaces") or any(
            cause.get("reason") == "NamespaceTerminating" for cause in causes
        )


def path(api_version: str, plural: str, namespace: str | None, *rest: str) -> Path:
    """Return the path of a resource, every part quoted.

    >>> path("v1", "pods", "shop", "web-0")
    '/api/v1/namespaces/shop/pods/web-0'
    >>> path("apps/v1", "deployments", None)
    '/apis/apps/v1/deployments'
    """
    root = ["api"] if "/" not in api_version else ["apis"]
    parts = [*root, *api_version.split("/")]
    if namespace is not None:
        parts += ["namespaces", namespace]
    return Path("/" + "/".join(quote(part, safe="") for part in [*parts, plural, *rest]))


def crashreport_path(namespace: str | None, *rest: str) -> Path:
    """Return the path of CrashReports."""
    return path(names.API_VERSION, "crashreports", namespace, *rest)


class Kube:
    """Thin client; belongs to the loop it was made in."""

    def __init__(self, api: client.ApiClient) -> None:
        self.api = api

    @classmethod
    async def connect(cls) -> "Kube":
        """Use the pod's service account, or the kubeconfig outside of a cluster."""
        configuration = client.Configuration()
        if "KUBERNETES_SERVICE_HOST" in os.environ:
            config.load_incluster_config(configuration)  # type: ignore[no-untyped-call]
        else:
            await config.load_kube_config(  # type: ignore[no-untyped-call]
                config_file=os.environ.get("KUBECONFIG"), client_configuration=configuration
            )
        return cls(client.ApiClient(configuration))

    async def close(self) -> None:
        """Give the connections back."""
        await self.api.close()  # type: ignore[no-untyped-call]

    async def get(self, where: Path) -> Object:
        """Read one object."""
        return await self._call("GET", where)

    async def find(self, where: Path) -> Object | None:
        """Read one object; None when it is not there."""
        try:
            return await self.get(where)
        except RefusedError as error:
            if error.not_found:
                return None
            raise

    async def create(self, where: Path, body: Object) -> Object:
        """POST ``body``."""
        return await self._call("POST", where, body)

    async def replace(self, where: Path, body: Object) -> Object:
        """PUT ``body``; its resourceVersion, when set, must be the newest."""
        return await self._call("PUT", where, body)

    async def merge(self, where: Path, body: Object) -> Object:
        """PATCH with a strategic merge (built-in types only)."""
        return await self._call(
            "PATCH", where, body, content_type="application/strategic-merge-patch+json"
        )

    async def delete(self, where: Path, *, resource_version: str) -> None:
        """Delete the object if nobody wrote it since ``resource_version``."""
        body = {"preconditions": {"resourceVersion": resource_version}}
        await self._call("DELETE", where, body)

    async def pages(
        self, where: Path, selectors: Mapping[str, str] = _ALL, *, metadata_only: bool = False
    ) -> AsyncIterator[list[Object]]:
        """List in pages of 250; ``selectors`` are labelSelector and fieldSelector."""
        query = {**selectors, "limit": str(_PAGE)}
        accept = _METADATA_LIST if metadata_only else "application/json"
        while True:
            answer = await self._call("GET", Path(f"{where}?{urlencode(query)}"), accept=accept)
            yield answer.get("items") or []
            token = (answer.get("metadata") or {}).get("continue")
            if not token:
                return
            query["continue"] = token

    async def items(self, where: Path, selectors: Mapping[str, str] = _ALL) -> list[Object]:
        """List everything."""
        return [item async for page in self.pages(where, selectors) for item in page]

    async def _call(
        self,
        method: str,
        where: Path,
        body: Object | None = None,
        *,
        accept: str = "application/json",
        content_type: str = "application/json",
    ) -> Object:
        try:
            async with asyncio.timeout(CALL_SECONDS):
                _, url, headers, _, _ = await self.api.param_serialize(
                    method,
                    where,
                    header_params={"Accept": accept, "Content-Type": content_type},
                    auth_settings=["BearerToken"],
                )
                response = await self.api.call_api(method, url, headers, body)
                data = await response.read()  # type: ignore[no-untyped-call]
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise TemporaryError(f"the API server cannot be reached: {error!r}") from error
        if response.status < 300:
            answer: Object = json.loads(data)
            return answer
        raise _refusal(response.status, data, response.headers.get("Retry-After"))


def _refusal(code: int, data: bytes, retry_after: str | None) -> TemporaryError | RefusedError:
    try:
        status = json.loads(data)
        reason, message = str(status.get("reason")), str(status.get("message"))
        details = status.get("details") or {}
    except (ValueError, AttributeError):
        reason, message, details = "", data[:200].decode(errors="replace"), {}
    if code == 429 or code >= 500:
        delay = float(retry_after) if retry_after and retry_after.isdigit() else 1.0
        return TemporaryError(f"the API server is busy ({code} {reason}): {message}", delay)
    return RefusedError(code, reason, message, details)
