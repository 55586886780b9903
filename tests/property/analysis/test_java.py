"""A JVM's log is the pod's: whatever it holds, reading it ends and what comes out fits."""

from pathlib import Path

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from stillframe.analysis import Frame, Thread, hs_err
from stillframe.analysis.java import merge, summary, with_java_frames
from stillframe.analysis.model import Java

LOGS = [path.read_bytes() for path in (Path(__file__).parents[2] / "golden/hs_err").glob("*.log")]
LINES = [line for log in LOGS for line in log.splitlines(keepends=True)]
pieces = st.one_of(
    st.sampled_from(LINES),
    st.sampled_from(LOGS),
    st.binary(max_size=40),
    st.sampled_from([b"(", b"[", b'"', b"# ", b"j  ", b"J ", b"C  [", b"+0x", b"id=", b"\n", b"L"]),
    st.builds(lambda char, times: char * times, st.sampled_from([b"(", b"[", b" ", b"L;"]),
              st.integers(1, 5000)),
)  # fmt: skip
texts = st.lists(pieces, max_size=40).map(b"".join)
names = st.sampled_from(["libjvm.so", "libjli.so", ""])
offsets = st.integers(0, 3)
log_frames = st.lists(
    st.one_of(
        st.builds(hs_err.LogFrame, st.text(), java=st.just(True)),
        st.builds(hs_err.LogFrame, st.text(), java=st.just(False), module=names, offset=offsets),
    ),
    max_size=20,
)
frames = st.lists(
    st.builds(Frame, pc=st.just(1), trust=st.sampled_from(["cfi", "scan"]), function=st.just("f"),
              module=names, offset=offsets),
    max_size=20,
)  # fmt: skip


@given(texts)
def test_whatever_the_log_is_it_is_read_and_shown(text: bytes) -> None:
    heading = b"# A fatal error has been detected by the Java Runtime Environment:\n"
    for data in (text, heading + text):
        log = hs_err.parse(data)
        if log is not None:
            told = summary(log)
            assert msgspec.json.decode(msgspec.json.encode(told), type=Java) == told
            thread = Thread(tid=1, frames=[Frame(pc=1, trust="context")], frames_head=1)
            merged = with_java_frames(thread, log.stack)
            assert msgspec.json.decode(msgspec.json.encode(merged), type=Thread) == merged


@given(frames, log_frames)
def test_what_was_unwound_in_native_code_stays_in_order(
    ours: list[Frame], told: list[hs_err.LogFrame]
) -> None:
    merged = merge(ours, told)
    native = [frame for frame in ours if frame.trust == "cfi" and frame.module]
    assert [frame for frame in merged if frame.trust == "cfi" and frame.module] == native
