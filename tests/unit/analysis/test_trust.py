"""Judging an unwound trace: labels, impossible frames, where to scan."""

from stillframe.analysis.trust import judge
from stillframe.analysis.unwind import RawFrame


def frame(pc: int, sp: int = 0, *, inline: bool = False, interrupted: bool = False) -> RawFrame:
    return RawFrame(pc, sp, "", "", 0, inline, interrupted)


TRACE = [frame(0x100, 1, interrupted=True), frame(0x201, 2), frame(0x301, 3)]


def test_frames_found_by_cfi_say_so() -> None:
    verdict = judge(TRACE, lambda pc: True, lambda pc: True)
    assert [f.trust for f in verdict.frames] == ["context", "cfi", "cfi"]
    assert verdict.scan_from is None


def test_a_frame_is_trusted_by_the_cfi_of_the_frame_inside_it() -> None:
    verdict = judge(TRACE, lambda pc: True, lambda pc: pc != 0x100)
    assert [f.trust for f in verdict.frames] == ["context", "frame_pointer", "cfi"]


def test_return_addresses_are_looked_up_inside_the_call() -> None:
    verdict = judge(TRACE, lambda pc: pc in (0x200, 0x300), lambda pc: True)
    assert len(verdict.frames) == 3


def test_a_trace_is_cut_where_it_leaves_the_code() -> None:
    verdict = judge([*TRACE, frame(0x18, 9)], lambda pc: pc > 0x18, lambda pc: pc != 0x300)
    assert [f.raw.pc for f in verdict.frames] == [0x100, 0x201, 0x301]
    assert verdict.scan_from == 3


def test_the_innermost_frame_stays_whatever_its_address() -> None:
    verdict = judge([frame(0, 7, interrupted=True)], lambda pc: False, lambda pc: False)
    assert [f.raw.pc for f in verdict.frames] == [0]
    assert verdict.scan_from == 7


def test_inline_frames_share_the_trust_of_their_physical_frame() -> None:
    trace = [
        frame(0x100, 1, interrupted=True, inline=True),
        frame(0x100, 1, interrupted=True),
        frame(0x201, 2, inline=True),
        frame(0x201, 2),
        frame(0x301, 3),
    ]
    verdict = judge(trace, lambda pc: True, lambda pc: pc >= 0x200)
    trusts = [f.trust for f in verdict.frames]
    assert trusts == ["context", "context", "frame_pointer", "frame_pointer", "cfi"]


def test_no_frames_are_no_frames() -> None:
    assert judge([], lambda pc: True, lambda pc: True).frames == []
