"""Java frames put among native ones: ``n`` is native code, ``J`` Java, ``?`` generated code.

- the native frames around them, by library and offset, say where they belong
- native frames stay as they were unwound; what does not fit stays as it was
"""

import pytest

from stillframe.analysis import Frame, Thread
from stillframe.analysis.hs_err import LogFrame
from stillframe.analysis.java import merge, with_java_frames
from stillframe.analysis.model import JAVA_MODULE, MAX_FRAMES_CRASHED


def frames(words: str) -> list[Frame]:
    """``n1`` is native at offset 1, ``s1`` the same found by a scan, ``?`` generated code."""
    return [
        Frame(pc=9, trust="frame_pointer")
        if word == "?"
        else Frame(
            pc=9,
            trust="scan" if word[0] == "s" else "cfi",
            function=word,
            module="/lib/libjvm.so",
            offset=int(word[1:]),
        )
        for word in words.split()
    ]


def log(words: str) -> list[LogFrame]:
    """``n1`` as above, ``J…`` a Java frame of this name."""
    return [
        LogFrame(word, java=True)
        if word[0] == "J"
        else LogFrame(word, java=False, module="libjvm.so", offset=int(word[1:]))
        for word in words.split()
    ]


def shown(merged: list[Frame]) -> str:
    return " ".join(frame.function or "?" for frame in merged)


@pytest.mark.parametrize(
    ("ours", "told", "result"),
    [
        pytest.param("n1 ? ? ? n2", "n1 Ja Jb n2", "n1 Ja Jb n2", id="between native frames"),
        pytest.param("? n2", "Ja Jb n2", "Ja Jb n2", id="the fault is in Java"),
        pytest.param("n1 ? n2 ? n3", "n1 Ja n2 Jb n3", "n1 Ja n2 Jb n3", id="twice"),
        pytest.param("n1 ? n1 ? n3", "n1 Ja n1 Jb n3", "n1 Ja n1 Jb n3", id="recursion"),
        pytest.param("n1 ?", "n1 Ja n2 n3", "n1 Ja n2 n3", id="the log goes on"),
        pytest.param("n1 n9 ? n2", "n1 Ja n2", "n1 n9 Ja n2", id="the VM missed the caller"),
        pytest.param("n1 ? n9", "n1 Ja n2", "n1 Ja n9", id="the VM missed the callee"),
        pytest.param("? s7 ? n2", "Ja Jb n2", "Ja Jb n2", id="a scan among generated code"),
        pytest.param("? s2 s3", "Ja n2 n3", "Ja n2 n3", id="a scan at the end"),
        pytest.param("n8 ? n9", "n1 Ja n2", "n8 ? n9", id="another stack"),
        pytest.param("n1 ? n2", "n1 n2", "n1 ? n2", id="no Java in the log"),
        pytest.param("n1 s7 n2", "n1 Ja n2", "n1 s7 n2", id="no generated code"),
        pytest.param("n1 n2", "n1 Ja n2", "n1 n2", id="an unwinder that went past"),
        pytest.param("n1 ?", "", "n1 ?", id="an empty log"),
        pytest.param("", "Ja", "", id="no frames"),
    ],
)
def test_the_log_fills_what_has_no_name(ours: str, told: str, result: str) -> None:
    assert shown(merge(frames(ours), log(told))) == result


def test_a_frame_of_the_log_says_so() -> None:
    merged = merge(frames("n1 ?"), log("n1 Ja n2"))
    assert [(frame.trust, frame.module, frame.offset) for frame in merged] == [
        ("cfi", "/lib/libjvm.so", 1),
        ("runtime", JAVA_MODULE, None),
        ("runtime", "libjvm.so", 2),
    ]


def test_the_oldest_frames_of_a_deep_stack_stay_the_oldest() -> None:
    head, oldest = frames("n1 ? n2"), frames("n3")
    thread = Thread(tid=1, frames=head + oldest, frames_head=3, frames_total=900)
    merged = with_java_frames(thread, log("n1 Ja Jb n2"))
    assert shown(merged.frames) == "n1 Ja Jb n2 n3"
    assert (merged.frames_head, merged.frames_total) == (4, 901)


def test_a_log_without_end_is_cut() -> None:
    thread = Thread(tid=1, frames=frames("?"), frames_head=1, frames_total=1)
    merged = with_java_frames(thread, log("Ja " * 1000))
    assert len(merged.frames) == merged.frames_head == MAX_FRAMES_CRASHED
