"""Reports are hostile: names must be well-formed, text is cleaned and cut."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stillframe_operator.crash import from_report
from stillframe_operator.text import clean

from stillframe.errors import InvalidInputError
from stillframe.rpc.v1 import intake_pb2

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def report(**fields: object) -> intake_pb2.Report:
    made = intake_pb2.Report(
        id="ab" * 16,
        pod=intake_pb2.Pod(
            namespace="shop", name="web-0", uid="aa-bb", container="app", container_id="cd" * 32
        ),
        signal=intake_pb2.Signal(number=11, name="SIGSEGV"),
        fingerprint="v1:0123456789abcdef",
        captured="snapshot",
    )
    made.crashed_at.FromDatetime(NOW)
    for path, value in fields.items():
        target, _, name = path.rpartition("__")
        setattr(getattr(made, target) if target else made, name, value)
    return made


def artifact(**fields: object) -> intake_pb2.Artifact:
    good = {"kind": "core", "file": "full.core.zst", "bytes": 7, "sha256": "0" * 64}
    return intake_pb2.Artifact(**(good | fields))  # type: ignore[arg-type]


def test_a_good_report_is_taken_as_it_is() -> None:
    crash = from_report(report(cause="null pointer"), "node-a", NOW)
    assert (crash.time, crash.node, crash.signal) == (NOW, "node-a", "SIGSEGV")
    assert (crash.pod.container, crash.cause) == ("app", "null pointer")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", "AB" * 16),
        ("id", "ab"),
        ("pod__namespace", "../kube-system"),
        ("pod__namespace", "a.b"),
        ("pod__name", "web/../../x"),
        ("pod__uid", ""),
        ("pod__container", "app\n"),
        ("pod__container_id", "containerd://ab"),
        ("signal__name", "SIGSEGV\n"),
        ("fingerprint", "v1:"),
        ("captured", "everything"),
    ],
)
def test_a_malformed_name_is_refused(field: str, value: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        from_report(report(**{field: value}), "n", NOW)
    assert caught.value.reason == "BadReport"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("file", ""),
        ("file", "../core"),
        ("file", "a/b"),
        ("file", ".hidden"),
        ("file", "x" * 33),
        ("file", "core\n"),
        ("file", "$(id)"),
        ("sha256", ""),
        ("sha256", "A" * 64),
        ("sha256", "0" * 64 + "\n"),
    ],
)
def test_a_malformed_artifact_is_refused(field: str, value: str) -> None:
    made = report()
    made.artifacts.append(artifact(**{field: value}))
    with pytest.raises(InvalidInputError):
        from_report(made, "n", NOW)


def test_a_clock_far_ahead_is_not_believed() -> None:
    made = report()
    made.crashed_at.FromDatetime(datetime(2031, 1, 1, tzinfo=UTC))
    assert from_report(made, "n", NOW).time == NOW


def test_a_report_without_a_time_is_refused() -> None:
    made = report()
    made.ClearField("crashed_at")
    with pytest.raises(InvalidInputError):
        from_report(made, "n", NOW)


def test_text_is_cleaned_and_everything_is_cut() -> None:
    made = report(cause="x\x1b[2J" + "y" * 999, message="m" * 9999)
    made.stack.extend(["f\u202egpj"] * 100)
    made.artifacts.extend([artifact(kind="k" * 99, bytes=2**63)] * 20)
    crash = from_report(made, "n", NOW)
    assert crash.cause.startswith("x?[2J")
    assert len(crash.cause) == 256
    assert len(crash.message) == 1024
    assert crash.stack == ("f?gpj",) * 64
    assert len(crash.artifacts) == 8
    assert len(crash.artifacts[0].kind) == 32


def test_what_is_missing_is_said_in_the_message() -> None:
    made = report(message="m")
    made.soft_errors.append("2 threads\nmissed")
    assert from_report(made, "n", NOW).message == "m Note: 2 threads missed."


@given(st.text(), st.integers(1, 300))
def test_cleaned_text_is_short_printable_and_on_one_line(text: str, limit: int) -> None:
    safe = clean(text, limit)
    assert len(safe) <= limit
    assert safe == clean(safe, limit)
    assert safe.isprintable() or not safe.isascii()
    assert len(safe.splitlines()) <= 1
