"""Who owns a pod: the topmost controller we can name.

A pod that still exists names its controller; of one that is gone only the
name is known, which its controller made from its own.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

from stillframe.api.crashreport import Workload
from stillframe_operator.kube import Kube, Object, path
from stillframe_operator.text import clean

_INTERMEDIATE: Final = {"ReplicaSet": ("apps/v1", "replicasets"), "Job": ("batch/v1", "jobs")}
"""Controllers that are usually controlled themselves."""
_MAKERS: Final = (
    ("apps/v1", "ReplicaSet", "replicasets"),
    ("batch/v1", "Job", "jobs"),
    ("apps/v1", "StatefulSet", "statefulsets"),
    ("apps/v1", "DaemonSet", "daemonsets"),
)
_CACHED: Final = 1000


def workload(api_version: str, kind: str, name: str) -> Workload:
    """Return the reference, cleaned and cut: whoever makes a pod may name any owner.

    >>> workload("apps/v1", "Deployment", "web").ref
    'deployment/web'
    """
    kind, name = clean(kind, 63), clean(name, 253)
    return Workload(
        api_version=clean(api_version, 128), kind=kind, name=name, ref=f"{kind.lower()}/{name}"
    )


def controller(metadata: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the owner reference that controls, if there is one."""
    owners = metadata.get("ownerReferences") or []
    return next((owner for owner in owners if owner.get("controller")), None)


def named_by_itself(api_version: str, kind: str, metadata: Mapping[str, Any]) -> Workload:
    """Return the object itself; by its prefix where its name was generated."""
    prefix = str(metadata.get("generateName") or "").rstrip("-.")
    return workload(api_version, kind, prefix or metadata["name"])


class Owners:
    """Looks owners up, and remembers by the uid of the intermediate controller."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._known: OrderedDict[str, Workload] = OrderedDict()

    async def of_pod(self, pod: Object) -> Workload:
        """Return the owner of an existing pod."""
        metadata = pod["metadata"]
        owner = controller(metadata)
        if owner is None:
            return named_by_itself("v1", "Pod", metadata)
        if owner["kind"] not in _INTERMEDIATE:
            return workload(owner["apiVersion"], owner["kind"], owner["name"])
        known = self._known.get(owner["uid"])
        if known is None:
            known = await self._of_intermediate(metadata["namespace"], owner)
            self._known[owner["uid"]] = known
            if len(self._known) > _CACHED:
                self._known.popitem(last=False)
        return known

    async def of_gone(self, namespace: str, pod: str) -> Workload:
        """Return the owner of a pod that is gone, by the prefix of its name."""
        stem, _, _ = pod.rpartition("-")
        if stem:
            for api_version, kind, plural in _MAKERS:
                maker = await self._kube.find(path(api_version, plural, namespace, stem))
                if maker is not None:
                    return self._top(api_version, kind, maker["metadata"])
        return workload("v1", "Pod", pod)

    async def _of_intermediate(self, namespace: str, owner: Mapping[str, Any]) -> Workload:
        api_version, plural = _INTERMEDIATE[owner["kind"]]
        found = None
        if owner["apiVersion"] == api_version:
            found = await self._kube.find(path(api_version, plural, namespace, owner["name"]))
        if found is None:
            return workload(owner["apiVersion"], owner["kind"], owner["name"])
        return self._top(api_version, owner["kind"], found["metadata"])

    @staticmethod
    def _top(api_version: str, kind: str, metadata: Mapping[str, Any]) -> Workload:
        owner = controller(metadata)
        if owner is not None:
            return workload(owner["apiVersion"], owner["kind"], owner["name"])
        return named_by_itself(api_version, kind, metadata)
