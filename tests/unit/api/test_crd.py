"""The generated CRDs, and their generator.

Aspects: everything is bounded and described, identity is immutable and triage is not, columns and
selectors point at fields that exist, API objects fit their schema, stale files are noticed.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from stillframe.api.crashreport import CrashReportSpec, CrashReportStatus, Workload

ROOT = Path(__file__).resolve().parents[3]
CRDS = sorted((ROOT / "crds").glob("*.yaml"))

Schema = dict[str, Any]


@pytest.fixture(params=CRDS, ids=lambda file: file.stem)
def version(request: pytest.FixtureRequest) -> Schema:
    """The one version of a CRD."""
    (only,) = yaml.safe_load(request.param.read_text())["spec"]["versions"]
    found: Schema = only
    return found


def fields(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Every schema below ``schema`` with its path, itself included."""
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from fields(inner, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from fields(schema[key], f"{path}[]")


def own_fields(version: Schema) -> list[tuple[str, Schema]]:
    """The fields of spec and status; the rest is Kubernetes' own."""
    properties = version["schema"]["openAPIV3Schema"]["properties"]
    return [f for part in ("spec", "status") for f in fields(properties[part], f".{part}")]


def test_every_field_is_bounded(version: Schema) -> None:
    for path, schema in own_fields(version):
        match schema["type"]:
            case "string":
                assert "maxLength" in schema or "enum" in schema, path
            case "array":
                assert "maxItems" in schema, path
            case "object":
                assert "properties" in schema or "maxProperties" in schema, path
            case kind:
                assert kind == "integer", path


def test_every_field_is_described(version: Schema) -> None:
    for path, schema in own_fields(version):
        assert path.endswith("[]") or schema["description"].endswith("."), path


def test_the_schema_is_structural(version: Schema) -> None:
    for path, schema in own_fields(version):
        assert {"$ref", "$defs", "anyOf", "title"}.isdisjoint(schema), path
        assert schema["type"] != "null", path


def test_columns_and_selectors_point_at_fields(version: Schema) -> None:
    known = {path for path, _ in own_fields(version)} | {".metadata.creationTimestamp"}
    paths = [c["jsonPath"] for c in version["additionalPrinterColumns"]]
    paths += [s["jsonPath"] for s in version["selectableFields"]]
    assert set(paths) <= known


def crash_report() -> Schema:
    (only,) = yaml.safe_load((ROOT / "crds/crashreports.yaml").read_text())["spec"]["versions"]
    found: Schema = only
    return found


def test_identity_is_immutable_and_triage_is_not() -> None:
    spec = crash_report()["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    immutable = {
        name
        for name, schema in spec.items()
        for rule in schema.get("x-kubernetes-validations", [])
        if rule["rule"] == "self == oldSelf"
    }
    assert immutable == set(spec) - {"triage"}
    assert immutable == {"workload", "container", "signal", "fingerprint"}


def test_columns_are_what_the_design_promises() -> None:
    columns = crash_report()["additionalPrinterColumns"]
    always = [c["name"].upper() for c in columns if not c.get("priority")]
    wide = [c["name"].upper() for c in columns if c.get("priority")]
    assert " ".join(always) == "WORKLOAD CONTAINER SIGNAL CAUSE TOP-FRAME COUNT LAST AGE"
    assert " ".join(wide) == "IMAGE NODE POD FINGERPRINT"


def test_the_schema_knows_every_field_of_the_type() -> None:
    properties = crash_report()["schema"]["openAPIV3Schema"]["properties"]
    for struct, part in ((CrashReportSpec, "spec"), (CrashReportStatus, "status")):
        encoded = {field.encode_name for field in msgspec.structs.fields(struct)}
        assert encoded == set(properties[part]["properties"])


def test_a_spec_round_trips() -> None:
    workload = Workload(
        api_version="apps/v1", kind="Deployment", name="cart", ref="deployment/cart"
    )
    spec = CrashReportSpec(
        workload=workload, container="app", signal="SIGSEGV", fingerprint="v1:0123456789abcdef"
    )
    assert msgspec.convert(msgspec.to_builtins(spec), CrashReportSpec) == spec


def generate(root: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Runs a copy of the generator that takes ``root`` for the project's."""
    script = root / "crds/generate"
    script.parent.mkdir(exist_ok=True)
    shutil.copy(ROOT / "crds/generate", script)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, str(script), *arguments]
    return subprocess.run(command, env=environment, text=True, capture_output=True, check=False)


def test_the_checked_in_files_are_what_the_generator_writes(tmp_path: Path) -> None:
    assert generate(tmp_path).returncode == 0
    for folder in ("crds", "deploy/helm/stillframe/files/crds"):
        written = {f.name: f.read_text() for f in (tmp_path / folder).glob("*.yaml")}
        present = {f.name: f.read_text() for f in (ROOT / folder).glob("*.yaml")}
        assert written == present


def test_check_names_a_stale_file_and_leaves_it(tmp_path: Path) -> None:
    generate(tmp_path)
    assert generate(tmp_path, "--check").returncode == 0
    stale = tmp_path / "crds/crashreports.yaml"
    stale.write_text("old")
    done = generate(tmp_path, "--check")
    assert done.returncode == 1
    assert "stale: crds/crashreports.yaml" in done.stderr
    assert stale.read_text() == "old"
