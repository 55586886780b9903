"""What an instruction accessed, for both architectures; bytes by GNU as."""

import pytest

from stillframe.analysis.instruction import Access, access_at, decode
from stillframe.corefile.elf import Machine

REGISTERS = {
    "rip": 0x1000,
    "rax": 0x100,
    "rcx": 4,
    "rdi": 0x200,
    "rsi": 0x300,
    "rsp": 0x8000,
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
    assert (found.mnemonic, found.operand) == ("idiv", 4)


def test_accesses_of_aarch64_instructions() -> None:
    registers = {"pc": 0x1000, "x1": 0x100, "sp": 0x8000}
    read = decode(Machine.AARCH64, bytes.fromhex("200840b9"), registers)  # ldr w0,[x1,#8]
    write = decode(Machine.AARCH64, bytes.fromhex("200800b9"), registers)  # str w0,[x1,#8]
    assert read is not None
    assert write is not None
    assert [(a.kind, a.address, a.registers) for a in read.accesses] == [("read", 0x108, ("x1",))]
    assert [(a.kind, a.address, a.registers) for a in write.accesses] == [("write", 0x108, ("x1",))]


@pytest.mark.parametrize("code", ["", "06", "ff"])
def test_bytes_that_are_no_instruction_are_none(code: str) -> None:
    assert decode(Machine.X86_64, bytes.fromhex(code), REGISTERS) is None


def test_the_access_that_faulted_is_the_one_that_touches_the_address() -> None:
    found = decode(Machine.X86_64, bytes.fromhex("8b00"), REGISTERS)
    assert access_at(found, 0x103) == Access("read", 4, 0x100, ("rax",))
    assert access_at(found, 0x104) is None
    assert access_at(None, 0x100) is None


def test_without_an_address_the_faulting_access_is_the_one_that_is_not_canonical() -> None:
    wild = {**REGISTERS, "rax": 0xDEAD << 48}
    found = decode(Machine.X86_64, bytes.fromhex("8b00"), wild)
    assert access_at(found, None) == Access("read", 4, 0xDEAD << 48, ("rax",))
    assert access_at(decode(Machine.X86_64, bytes.fromhex("8b00"), REGISTERS), None) is None
