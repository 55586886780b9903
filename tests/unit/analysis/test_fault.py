"""The facts a cause is told from: address, regions, stack, code, sender."""

from stillframe.analysis.fault import Fault, Region, find_fault, region_at
from stillframe.analysis.images import GivenFile, find_images
from stillframe.corefile import CoreFile
from tests.support.corewriter import Core, R, W, X, at, elf, image, sent_by

CODE = bytes.fromhex("8b00")  # mov (%rax),%eax


def fault_of(core: Core, given: list[GivenFile] | None = None) -> Fault:
    read = CoreFile.from_bytes(core.build())
    found = find_fault(read, find_images(read, given or []), lambda number: f"call{number}")
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
    core = Core().thread(1, 11, rip=0x1000).signal(11, 0, sent_by(42)).map(0x1000, CODE, R | X)
    found = fault_of(core)
    assert (found.sender_pid, found.address, found.instruction) == (42, None, None)


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
    assert find_fault(read, find_images(read, []), str) is None
