"""What an instruction accessed, for both architectures; bytes by GNU as."""

import pytest

from stillframe.analysis.instruction import Access, Operand, access_at, decode, refused_access
from stillframe.corefile.elf import Machine

REGISTERS = {
    "rip": 0x1000,
    "rax": 0x100,
    "rcx": 4,
    "rdi": 0x200,
    "rsi": 0x300,
    "rsp": 0x8000,
    "rbp": 0x400,
    "r9": 0,
    "fs_base": 0x7000,
}


@pytest.mark.parametrize(
    ("code", "accesses"),
    [
        ("8b00", [Access("read", 4, 0x100, ("rax",))]),  # mov (%rax),%eax
        ("c644881005", [Access("write", 1, 0x120, ("rax", "rcx"))]),  # movb $5,16(%rax,%rcx,4)
        ("480108", [Access("read and write", 8, 0x100, ("rax",))]),  # add %rcx,(%rax)
        ("8b0504000000", [Access("read", 4, 0x100A, ("rip",))]),  # mov 4(%rip),%eax
        ("64488b042528000000", [Access("read", 8, 0x7028, ())]),  # mov %fs:0x28,%rax
        ("488d00", []),  # lea (%rax),%rax
        ("50", [Access("write", 8, 0x7FF8, ("rsp",))]),  # push %rax
        ("c3", [Access("read", 8, 0x8000, ("rsp",))]),  # ret
        ("e800000000", [Access("write", 8, 0x7FF8, ("rsp",))]),  # call
        ("0f1f00", []),  # nopl (%rax)
        ("0f1808", []),  # prefetcht0 (%rax)
        ("0f1100", [Access("write", 16, 0x100, ("rax",))]),  # movups %xmm0,(%rax)
        ("480fc308", [Access("write", 8, 0x100, ("rax",))]),  # movnti %rcx,(%rax)
        ("f0480fb108", [Access("read and write", 8, 0x100, ("rax",))]),  # lock cmpxchg %rcx,(%rax)
        ("8408", [Access("read", 1, 0x100, ("rax",))]),  # test %cl,(%rax)
        ("678b08", [Access("read", 4, 0x100, ("rax",))]),  # mov (%eax),%ecx
        ("c9", [Access("read", 8, 0x400, ("rbp",))]),  # leave
        ("c8100000", [Access("write", 8, 0x7FF8, ("rsp",))]),  # enter $16,$0
        (
            "ff7010",  # push 16(%rax)
            [Access("read", 8, 0x110, ("rax",)), Access("write", 8, 0x7FF8, ("rsp",))],
        ),
    ],
)
def test_accesses_of_x86_instructions(code: str, accesses: list[Access]) -> None:
    found = decode(Machine.X86_64, bytes.fromhex(code), REGISTERS)
    assert found is not None
    assert list(found.accesses) == accesses


def test_string_instructions_access_both_ends() -> None:
    found = decode(Machine.X86_64, bytes.fromhex("f3a4"), REGISTERS)  # rep movsb
    assert found is not None
    kinds = {(a.kind, a.address) for a in found.accesses}
    assert kinds == {("write", 0x200), ("read", 0x300)}


def test_the_divisor_is_the_operand() -> None:
    found = decode(Machine.X86_64, bytes.fromhex("f7f9"), REGISTERS)  # idiv %ecx
    assert found is not None
    assert (found.mnemonic, found.operand) == ("idiv", Operand("ecx", 4, 4))


ARM_REGISTERS = {"pc": 0x1000, "x1": 0x100, "x2": 0xFFFF_FFFF_FFFF_FFFE, "sp": 0x8000}


@pytest.mark.parametrize(
    ("code", "access"),
    [
        ("200840b9", Access("read", 4, 0x108, ("x1",))),  # ldr w0,[x1,#8]
        ("200800b9", Access("write", 4, 0x108, ("x1",))),  # str w0,[x1,#8]
        ("208440f8", Access("read", 8, 0x100, ("x1",))),  # ldr x0,[x1],#8
        ("200c1ff8", Access("write", 8, 0xF0, ("x1",))),  # str x0,[x1,#-16]!
        ("207862f8", Access("read", 8, 0xF0, ("x1", "x2"))),  # ldr x0,[x1,x2,lsl #3]
        ("20d862b8", Access("read", 4, 0xF8, ("x1", "x2"))),  # ldr w0,[x1,w2,sxtw #2]
        ("200c42a9", Access("read", 16, 0x120, ("x1",))),  # ldp x0,x3,[x1,#32]
        ("200481ac", Access("write", 32, 0x100, ("x1",))),  # stp q0,q1,[x1],#32
        ("20004039", Access("read", 1, 0x100, ("x1",))),  # ldrb w0,[x1]
        ("200480b9", Access("read", 4, 0x104, ("x1",))),  # ldrsw x0,[x1,#4]
        ("20fc5fc8", Access("read", 8, 0x100, ("x1",))),  # ldaxr x0,[x1]
        ("20fc03c8", Access("write", 8, 0x100, ("x1",))),  # stlxr w3,x0,[x1]
        ("200020f8", Access("read and write", 8, 0x100, ("x1",))),  # stadd x0,[x1]
        ("2280a0b8", Access("read and write", 4, 0x100, ("x1",))),  # swpa w0,w2,[x1]
        ("207ca0c8", Access("read and write", 8, 0x100, ("x1",))),  # cas x0,x0,[x1]
        ("2078404c", Access("read", 0, 0x100, ("x1",))),  # ld1 {v0.4s},[x1]
        ("21740bd5", Access("write", 64, 0x100, ("x1",))),  # dc zva, x1
        ("e00740f9", Access("read", 8, 0x8008, ("sp",))),  # ldr x0,[sp,#8]
    ],
)
def test_accesses_of_aarch64_instructions(code: str, access: Access) -> None:
    found = decode(Machine.AARCH64, bytes.fromhex(code), ARM_REGISTERS)
    assert found is not None
    assert found.accesses == (access,)


@pytest.mark.parametrize("code", ["", "06", "ff"])
def test_bytes_that_are_no_instruction_are_none(code: str) -> None:
    assert decode(Machine.X86_64, bytes.fromhex(code), REGISTERS) is None


def test_the_access_that_faulted_is_the_one_that_touches_the_address() -> None:
    found = decode(Machine.X86_64, bytes.fromhex("8b00"), REGISTERS)
    assert access_at(found, 0x103) == Access("read", 4, 0x100, ("rax",))
    assert access_at(found, 0x104) is None
    assert access_at(None, 0x100) is None


@pytest.mark.parametrize(
    ("code", "rax", "checked", "address"),
    [
        ("8b00", 0xDEAD << 48, False, 0xDEAD << 48),  # mov (%rax),%eax
        ("8b00", 0x101, True, 0x101),
        ("8b00", 0x101, False, None),
        ("8b00", 0x100, True, None),
        ("0f2800", 0x108, False, 0x108),  # movaps (%rax),%xmm0
        ("480fc708", 0x104, False, 0x104),  # cmpxchg16b (%rax)
    ],
)
def test_without_an_address_it_is_the_one_that_the_processor_refuses(
    code: str, rax: int, checked: bool, address: int | None
) -> None:
    instruction = decode(Machine.X86_64, bytes.fromhex(code), {**REGISTERS, "rax": rax})
    found = refused_access(instruction, checked=checked)
    assert (found.address if found else None) == address
    assert refused_access(None, checked=checked) is None
