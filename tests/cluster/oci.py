"""Images as blobs on disk, and OCI archives of the part of them that a node lacks.

The archives follow https://github.com/opencontainers/image-spec/blob/main/image-layout.md
"""

import hashlib
import json
import tarfile
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True)
class BlobStore:
    """Images by reference; what they share is stored once."""

    directory: Path

    def add(self, reference: str, pushed: Path) -> None:
        """Takes in the image that ``buildah push … dir:`` wrote to ``pushed``.

        Its files are the manifest, a version mark, and blobs named by the hex of their SHA-256.
        """
        self._blobs.mkdir(parents=True, exist_ok=True)
        manifest = (pushed / "manifest.json").read_bytes()
        digest = hashlib.sha256(manifest).hexdigest()
        (self._blobs / digest).write_bytes(manifest)
        for part in _parts(manifest):
            (pushed / part).rename(self._blobs / part)
        index = self._index()
        index[reference] = digest
        self._index_file.write_text(json.dumps(index))
        self._remove_unused()

    def digests(self) -> dict[str, str]:
        """Reference → digest of its manifest."""
        return {reference: f"sha256:{digest}" for reference, digest in self._index().items()}

    def archive(self, references: AbstractSet[str], present: AbstractSet[str], to: Path) -> None:
        """Writes the tar archive ``to`` of ``references``, leaving out the digests ``present``."""
        index = self._index()
        manifests = [
            {
                "mediaType": MANIFEST_TYPE,
                "digest": f"sha256:{index[reference]}",
                "size": (self._blobs / index[reference]).stat().st_size,
                "annotations": {"org.opencontainers.image.ref.name": reference},
            }
            for reference in sorted(references)
        ]
        scratch = to.with_suffix(".json")
        with tarfile.open(to, "w") as tar:
            for name, content in {
                "oci-layout": {"imageLayoutVersion": "1.0.0"},
                "index.json": {"schemaVersion": 2, "manifests": manifests},
            }.items():
                scratch.write_text(json.dumps(content))
                tar.add(scratch, name)
            for blob in sorted(self._used(references)):
                if f"sha256:{blob}" not in present:
                    tar.add(self._blobs / blob, f"blobs/sha256/{blob}")

    @property
    def _blobs(self) -> Path:
        return self.directory / "blobs"

    @property
    def _index_file(self) -> Path:
        return self.directory / "index.json"

    def _index(self) -> dict[str, str]:
        if not self._index_file.exists():
            return {}
        index: dict[str, str] = json.loads(self._index_file.read_text())
        return index

    def _used(self, references: AbstractSet[str]) -> set[str]:
        index, used = self._index(), set[str]()
        for reference in references:
            manifest = index[reference]
            used |= {manifest, *_parts((self._blobs / manifest).read_bytes())}
        return used

    def _remove_unused(self) -> None:
        used = self._used(self._index().keys())
        for blob in self._blobs.iterdir():
            if blob.name not in used:
                blob.unlink()


def _parts(manifest: bytes) -> list[str]:
    """Hex digests of the configuration and the layers that ``manifest`` names."""
    content: dict[str, Any] = json.loads(manifest)
    parts = [content["config"], *content["layers"]]
    return [str(part["digest"]).removeprefix("sha256:") for part in parts]
