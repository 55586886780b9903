"""Which mappings a core wants: filters, flags, and names that lie."""

import pytest

from stillframe.capture.pages import DEFAULT_FILTER, Filter, Kind, Mapping, parse_smaps

SHM, DISK = 1, 42


def kind(
    permissions: str = "rw-p",
    device: int = 0,
    path: str = "",
    flags: str = "",
    filter_: int = DEFAULT_FILTER,
) -> Kind | None:
    mapping = Mapping(0, 4096, permissions, device, path, frozenset(flags.split()))
    return mapping.kind(filter_, SHM)


@pytest.mark.parametrize("path", ["", "[heap]", "[stack]", "[anon:arena]"])
def test_private_anonymous_memory_is_zeros_where_nothing_is_saved(path: str) -> None:
    assert kind(path=path) is Kind.ZEROS
    assert kind("---p", path=path) is Kind.ZEROS


@pytest.mark.parametrize("path", ["[vdso]", "[vvar]", "[vsyscall]", "[uprobes]"])
def test_the_kernels_own_mappings_are_left(path: str) -> None:
    assert kind(path=path) is None


@pytest.mark.parametrize("flag", ["dd", "io", "pf"])
def test_memory_with_such_a_flag_is_left(flag: str) -> None:
    assert kind(flags=f"rd wr {flag}") is None


def test_a_files_private_mapping_gives_its_copied_pages() -> None:
    assert kind(device=DISK, path="/lib/a.so") is Kind.FILE


def test_shared_memory_is_told_by_its_device_not_by_its_name() -> None:
    assert kind("rw-s", SHM, "/dev/zero (deleted)") is Kind.SHARED
    assert kind("rw-s", DISK, "/dev/zero (deleted)") is None


def test_the_processes_filter_is_obeyed() -> None:
    everything = ~0
    assert kind(filter_=everything & ~Filter.ANONYMOUS_PRIVATE) is None
    assert kind("rw-s", SHM, filter_=everything & ~Filter.ANONYMOUS_SHARED) is None
    assert kind(flags="ht", filter_=everything & ~Filter.HUGETLB_PRIVATE) is None
    assert kind(flags="ht", filter_=Filter.HUGETLB_PRIVATE) is Kind.FILE


def test_smaps_with_lines_of_every_kind() -> None:
    text = (
        b"55d0c0000000-55d0c0001000 rw-p 00000000 fe:00 326269    /a b\\012c\n"
        b"Size:                  4 kB\n"
        b"VmFlags: rd wr mr mw me ac sd \n"
        b"7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0          [stack]\n"
        b"ProtectionKey:         0\n"
        b"VmFlags: rd wr gd \n"
    )
    first, second = parse_smaps(text.splitlines(keepends=True))
    assert (first.start, first.end, first.permissions) == (0x55D0C0000000, 0x55D0C0001000, "rw-p")
    assert first.path == "/a b\\012c"
    assert first.device != 0
    assert (second.device, second.path) == (0, "[stack]")
    assert "gd" in second.flags
