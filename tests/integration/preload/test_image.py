"""The injector image for another architecture than this machine's."""

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import imaging
from tests.integration.preload.aarch64 import COPIER, LIBRARY


@pytest.mark.usefixtures("note_dump")  # builds everything
def test_arm64_injector_holds_the_arm64_files_and_says_so(tmp_path: Path) -> None:
    image = imaging.FOREIGN
    archive = tmp_path / "image.tar"
    imaging.foreign_images().store.archive({image.reference}, set(), archive)
    with tarfile.open(archive) as tar:
        (entry,) = read(tar, "index.json")["manifests"]
        manifest = read(tar, blob(entry["digest"]))
        config = read(tar, blob(manifest["config"]["digest"]))
        files = {}
        for layer in manifest["layers"]:
            with tarfile.open(fileobj=tar.extractfile(blob(layer["digest"]))) as content:
                for member in content.getmembers():
                    opened = content.extractfile(member)
                    files[member.name] = opened.read() if opened else b""

    assert (config["os"], config["architecture"]) == ("linux", "arm64")
    assert config["config"]["Entrypoint"] == ["/stillframe-copy", "/libstillframe.so"]
    assert config["config"]["User"] == "65532:65532"
    assert files == {path.name: path.read_bytes() for path in (LIBRARY, COPIER)}


def blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def read(tar: tarfile.TarFile, name: str) -> Any:
    opened = tar.extractfile(name)
    assert opened
    return json.load(opened)
