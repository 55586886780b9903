"""The facts a cause is told from: address, regions, stack, code, sender."""

import pytest

from stillframe.analysis.fault import Fault, Region, find_fault, region_at
from stillframe.analysis.images import GivenFile, find_images
from stillframe.corefile import CoreFile
from tests.support.corewriter import Core, R, W, X, at, elf, image, sent_by

CODE = bytes.fromhex("8b00")  # mov (%rax),%eax


def fault_of(core: Core, given: list[GivenFile] | None = None) -> Fault:
    read = CoreFile.from_bytes(core.build())
    found = find_fault(read, find_images(read, given or []), lambda _, number: f"call{number}")
    assert found is not None
    return found


def crashed(address: int = 0x10, **registers: int) -> Core:
    core = Core().thread(1, 11, **{"rip": 0x1000, "rsp": 0x8800, **registers})
    return core.signal(11, 1, at(address)).map(0x1000, CODE, R | X, 0x1000)


def test_the_access_is_decoded_from_the_code_in_the_core() -> None:
    found = fault_of(crashed(rax=0x10))
    assert found.address == 0x10
    assert found.access is not None
    assert (found.access.kind, found.access.registers) == ("read", ("rax",))


def test_code_that_is_not_in_the_core_comes_from_the_file() -> None:
    path = b"/bin/app"
    file = GivenFile("/bin/app", 3, image().ljust(4096) + CODE.ljust(4096), None)
    core = (
        Core()
        .thread(1, 11, rip=0x2000, rax=0x10)
        .signal(11, 1, at(0x10))
        .files((0x1000, 0x2000, 0, path), (0x2000, 0x3000, 0x1000, path))
        .map(0x1000, image(), R)
        .map(0x2000, b"", R | X, 0x1000)
    )
    assert fault_of(core, [file]).instruction is not None
    assert fault_of(core, []).instruction is None


def test_mappings_that_gcore_leaves_out_have_the_permissions_of_their_file() -> None:
    page = elf(3, [(1, R, 0, b"", 0x1000), (1, R | X, 0x1000, b"", 0x1000)]).ljust(4096, b"\0")
    path = b"/bin/app"
    core = Core().thread(1).files((0x7000, 0x8000, 0, path), (0x8000, 0x9000, 0x1000, path))
    read = CoreFile.from_bytes(core.build())
    images = find_images(read, [GivenFile("/bin/app", 3, page, None)])
    assert region_at(read, images, 0x7000) == Region(True, False, False, "/bin/app")
    assert region_at(read, images, 0x8FFF) == Region(True, False, True, "/bin/app")
    assert region_at(read, images, 0x9000) is None


def test_data_is_never_decoded_as_code() -> None:
    core = Core().thread(1, 11, rip=0x1000).signal(11, 2, at(0x1000)).map(0x1000, CODE, R | W)
    assert fault_of(core).instruction is None


def test_an_address_the_kernel_does_not_tell_is_computed() -> None:
    core = Core().thread(1, 11, rip=0x1000, rax=0xDEAD << 48).signal(11, 0x80)
    assert fault_of(core.map(0x1000, CODE, R | X)).address == 0xDEAD << 48


def test_a_sent_signal_has_a_sender_and_no_address() -> None:
    core = (
        Core().thread(1, 11, rip=0x1000).signal(11, 0, sent_by(42, 1000)).map(0x1000, CODE, R | X)
    )
    found = fault_of(core)
    assert (found.sender_pid, found.sender_uid) == (42, 1000)
    assert (found.address, found.instruction, found.access) == (None, None, None)


def test_only_a_forbidden_system_call_has_a_name() -> None:
    core = Core().thread(1, 31).signal(31, 1, at(0x1000) + (59).to_bytes(4, "little"))
    assert fault_of(core).syscall_name == "call59"
    assert fault_of(crashed()).syscall_name == ""


def test_the_stack_goes_down_to_its_guard_page() -> None:
    core = crashed().map(0x7000, b"", 0, 0x1000).map(0x8000, b"", R | W, 0x800)
    assert fault_of(core.map(0x8800, b"x" * 0x800, R | W)).stack_low == 0x8000


def test_a_stack_pointer_below_its_stack_still_finds_it() -> None:
    core = crashed(rsp=0x7FF0).map(0x8000, b"x" * 0x1000, R | W)
    assert fault_of(core).stack_low == 0x8000


def test_without_siginfo_the_thread_tells_the_signal() -> None:
    assert fault_of(Core().thread(1, 6)).signal == 6


def test_a_core_without_a_thread_has_no_fault() -> None:
    read = CoreFile.from_bytes(Core().build())
    assert find_fault(read, find_images(read, []), lambda _, number: str(number)) is None


def test_a_misaligned_access_with_checks_on_is_computed() -> None:
    core = Core().thread(1, 7, rip=0x1000, rax=0x2001).signal(7, 1).map(0x1000, CODE, R | X)
    assert fault_of(core).address == 0x2001


def test_the_target_of_a_return_is_read_from_the_stack() -> None:
    core = Core().thread(1, 11, rip=0x1000, rsp=0x8004).signal(11, 0x80)
    stack = (0x4141 << 48).to_bytes(8, "little")
    found = fault_of(core.map(0x1000, b"\xc3", R | X).map(0x8004, stack, R | W))
    assert (found.target, found.access) == (0x4141 << 48, None)


@pytest.mark.parametrize(
    ("code", "divisor"),
    [
        ("f7f9", 0x12345678),  # idiv %ecx
        ("f6f9", 0x78),  # idiv %cl
        ("f6fd", 0x56),  # idiv %ch
        ("f73c24", 7),  # idivl (%rsp)
        ("8b00", None),  # mov (%rax),%eax
    ],
)
def test_a_divisor_is_read_wherever_it_is(code: str, divisor: int | None) -> None:
    core = Core().thread(1, 8, rip=0x1000, rcx=0xFFFF_0000_1234_5678, rsp=0x8000)
    core.signal(8, 1, at(0x1000)).map(0x1000, bytes.fromhex(code), R | X)
    assert fault_of(core.map(0x8000, b"\7\0\0\0\0\0\0\0", R | W)).divisor == divisor


def test_a_breakpoint_is_before_pc() -> None:
    core = Core().thread(1, 5, rip=0x1001).signal(5, 0x80).map(0x1000, b"\xcc\x90", R | X)
    found = fault_of(core).instruction
    assert found is not None
    assert found.mnemonic == "int3"


@pytest.mark.parametrize(
    ("address", "beside"), [(0x9000, "behind"), (0xB000, "near"), (0x8800, ""), (1 << 40, "")]
)
def test_an_address_without_a_mapping_may_have_neighbours(address: int, beside: str) -> None:
    core = Core().thread(1, 11, rip=0x1000).signal(11, 1, at(address)).map(0x1000, CODE, R | X)
    assert fault_of(core.map(0x8000, b"", R | W, 0x1000)).beside == beside


@pytest.mark.parametrize(("flags", "register"), [(R | W, "rax"), (R, "")])
def test_a_link_of_glibcs_freed_memory_is_an_address_of_the_heap_shifted(
    flags: int, register: str
) -> None:
    heap = 0x5555_5555_9000
    core = Core().thread(1, 11, rip=0x1000, rax=heap >> 12).signal(11, 1, at(heap >> 12))
    core.map(0x1000, CODE, R | X).map(heap, b"", flags, 0x1000)
    assert fault_of(core).freed_link == register
