"""The few objects the operator makes for itself: Secret, ConfigMaps and the Lease.

They are owned by our Deployment, so that the cluster's garbage collection
removes them with the release.
"""

from collections.abc import Callable
from typing import Final

from stillframe.errors import TemporaryError
from stillframe_operator.kube import Kube, Object, RefusedError, path
from stillframe_operator.settings import Settings

Data = dict[str, str]
_KINDS: Final = {"secrets": "Secret", "configmaps": "ConfigMap"}
_ATTEMPTS: Final = 20


class Owned:
    """Reads and writes our own objects."""

    def __init__(self, kube: Kube, namespace: str, owners: list[Object]) -> None:
        self._kube = kube
        self._namespace = namespace
        self._owners = owners

    @classmethod
    async def connect(cls, kube: Kube, settings: Settings) -> "Owned":
        """Look the owning Deployment up."""
        name = settings.deployment
        if not name:
            return cls(kube, settings.namespace, [])
        deployment = await kube.get(path("apps/v1", "deployments", settings.namespace, name))
        uid = deployment["metadata"]["uid"]
        owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name, "uid": uid}
        return cls(kube, settings.namespace, [owner])

    def metadata(self, name: str) -> Object:
        """Return the metadata of an object of ours."""
        labels = {"app.kubernetes.io/part-of": "stillframe"}
        owners = {"ownerReferences": self._owners} if self._owners else {}
        return {"name": name, "namespace": self._namespace, "labels": labels, **owners}

    async def data(self, plural: str, name: str) -> Data:
        """Return the ``data`` of a Secret or ConfigMap; empty when it is not there."""
        found = await self._kube.find(path("v1", plural, self._namespace, name))
        return (found or {}).get("data") or {}

    async def update(self, plural: str, name: str, change: Callable[[Data], Data]) -> Data:
        """Make ``data`` what ``change`` says, which sees the newest; return it.

        Whoever writes between our reading and writing wins, and we read again.
        """
        where = path("v1", plural, self._namespace)
        one = path("v1", plural, self._namespace, name)
        for _ in range(_ATTEMPTS):
            found = await self._kube.find(one)
            old: Data = (found or {}).get("data") or {}
            new = change(old)
            if found is not None and new == old:
                return new
            head = {"apiVersion": "v1", "kind": _KINDS[plural], "metadata": self.metadata(name)}
            body = {**(found or head), "data": new}
            try:
                if found is None:
                    await self._kube.create(where, body)
                else:
                    await self._kube.replace(one, body)
            except RefusedError as error:
                if error.conflict:
                    continue
                raise
            return new
        raise TemporaryError(f"{_KINDS[plural]} {name} changes too often")
