"""Which mapped files are images, what they are biased by, which given file fits."""

import pytest

from stillframe.analysis.cfi import has_cfi
from stillframe.analysis.images import GivenFile, find_images
from stillframe.corefile import CoreFile
from tests.support.corewriter import Core, R, W, X, image

ID, OTHER = b"\x11" * 20, b"\x22" * 20
LIB = b"/lib/libx.so"


def given(build_id: bytes | None, path: str = "/lib/libx.so") -> GivenFile:
    return GivenFile(path, 3, image(build_id or b""), build_id)


def core_with(page: bytes, path: bytes = LIB, start: int = 0x7000_0000) -> CoreFile:
    core = (
        Core()
        .thread(1)
        .files((start, start + 0x1000, 0, path), (start + 0x1000, start + 0x3000, 0x1000, path))
    )
    return CoreFile.from_bytes(core.map(start, page, R, 0x1000).build())


@pytest.mark.parametrize(
    ("in_core", "in_file", "status", "used"),
    [
        (ID, ID, "matched", True),
        (ID, OTHER, "mismatch", False),
        (ID, None, "unverified", True),
        (b"", ID, "unverified", True),
    ],
)
def test_a_given_file_must_not_be_another_build(
    in_core: bytes, in_file: bytes | None, status: str, *, used: bool
) -> None:
    (found,) = find_images(core_with(image(in_core)), [given(in_file)]).all
    assert found.status == status
    assert (found.file is not None) is used


def test_a_file_of_another_path_is_found_by_its_build_id() -> None:
    """As files of another machine are; one of the same path and another build is not used."""
    files = [given(OTHER), given(ID, "/elsewhere/renamed")]
    (found,) = find_images(core_with(image(ID)), files).all
    assert (found.status, found.file) == ("matched", files[1])


def test_an_image_without_a_file_is_missing() -> None:
    (found,) = find_images(core_with(image(ID)), []).all
    assert (found.status, found.build_id, found.file) == ("missing", ID, None)


def test_a_header_page_that_was_not_saved_is_taken_from_the_file() -> None:
    (found,) = find_images(core_with(b""), [given(ID)]).all
    assert (found.status, found.build_id) == ("unverified", ID)


def test_mappings_of_one_file_are_one_image() -> None:
    images = find_images(core_with(image(ID)), [])
    assert [(i.start, i.end, i.bias) for i in images.all] == [
        (0x7000_0000, 0x7000_3000, 0x7000_0000)
    ]
    assert images.at(0x7000_2FFF) is images.all[0]
    assert images.at(0x7000_3000) is None


def test_an_executable_at_a_fixed_address_has_no_bias() -> None:
    page = image(ID, kind=2, vaddr=0x40_0000)
    (found,) = find_images(core_with(page, b"/bin/app", 0x40_0000), []).all
    assert found.bias == 0


def test_a_file_mapped_again_from_its_start_is_another_image() -> None:
    core = (
        Core()
        .thread(1)
        .files((0x1000, 0x2000, 0, LIB), (0x2000, 0x3000, 0, LIB))
        .map(0x1000, image(ID), R)
        .map(0x2000, image(ID), R)
    )
    assert len(find_images(CoreFile.from_bytes(core.build()), []).all) == 2


def test_mapped_data_is_no_image() -> None:
    assert find_images(core_with(b"data" * 1024), []).all == ()


def test_the_vdso_is_an_image_without_a_file() -> None:
    auxv = (33).to_bytes(8, "little") + (0x9000).to_bytes(8, "little")
    core = Core().thread(1).add(6, auxv).map(0x9000, image(ID), R | X, 0x2000)
    (found,) = find_images(CoreFile.from_bytes(core.build()), []).all
    assert (found.path, found.start, found.end) == ("[vdso]", 0x9000, 0xB000)


def test_debug_files_are_found_by_build_id() -> None:
    debug = given(ID, "/anywhere/libx.debug")
    images = find_images(core_with(image(ID)), [given(ID), debug, given(OTHER, "/no")])
    assert [f.path for f in images.candidates(images.all[0])] == ["/lib/libx.so", debug.path]


def test_an_image_without_frame_information_has_none() -> None:
    assert not has_cfi(image(ID), 0x100)
    assert not has_cfi(b"", 0x100)


def test_writable_memory_is_not_mistaken_for_a_vdso() -> None:
    core = Core().thread(1).map(0x9000, b"\0" * 4096, R | W)
    assert find_images(CoreFile.from_bytes(core.build()), []).all == ()
