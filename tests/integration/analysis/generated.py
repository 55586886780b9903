"""Programs nobody has seen before, and what must be said of their deaths.

Every program is a few instructions with random registers, offsets, widths and
directions; what they do to which address is known because it was chosen, and the
expected sentence is made of the choice alone.  All of a batch are one executable:
its argument says which one runs.
"""

import random
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

MASK = (1 << 64) - 1
GENERAL = [f"r{name}" for name in ("ax", "bx", "cx", "dx", "si", "di", "bp", *range(8, 16))]
SUFFIX = {1: "b", 2: "w", 4: "l", 8: "q"}
LOW = {
    **{f"r{n}": (f"r{n}b", f"r{n}w", f"r{n}d", f"r{n}") for n in range(8, 16)},
    **{f"r{n}x": (f"{n}l", f"{n}x", f"e{n}x", f"r{n}x") for n in "abcd"},
    **{f"r{n}": (f"{n}l", n, f"e{n}", f"r{n}") for n in ("si", "di", "bp")},
}
"""A register's parts of 1, 2, 4 and 8 bytes."""
PAGES = 0x2000_0000_0000
READ_ONLY, GUARD, SHORT, WRITABLE = (PAGES + n * 0x10_0000 for n in range(4))
"""Where each program's ``main`` maps memory: nothing else is near."""
PAGE = 4096
AVX = "avx" in Path("/proc/cpuinfo").read_text().split()


class Program(NamedTuple):
    """One way to die; ``body`` is C."""

    body: str
    sentence: str


class Pointer(NamedTuple):
    """A bad address: what is wrong with it begins and ends the sentence."""

    address: int
    kind: str
    after: str
    """Follows the address."""


class Instruction(NamedTuple):
    """``text`` has ``{}`` for its operand in memory; ``action`` is what it does there."""

    text: str
    action: str
    size: int


def programs(seed: int, count: int) -> list[Program]:
    """``count`` accesses of memory, and some of everything else."""
    choice = random.Random(seed)
    others = [family(choice) for family in OTHERS for _ in range(3)]
    return [*(access(choice) for _ in range(count)), *others]


def source(batch: list[Program]) -> str:
    """The C program."""
    functions = "".join(
        f"static __attribute__((noinline)) void p{n}(void) {{ {program.body} }}\n"
        for n, program in enumerate(batch)
    )
    table = ", ".join(f"p{n}" for n in range(len(batch)))
    return PREFACE + functions + MAIN.replace("TABLE", table)


PREFACE = """
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
static volatile long sink;
static void *volatile zero;
"""
MAIN = f"""
static void (*const all[])(void) = {{ TABLE }};
int main(int argc, char **argv) {{
    int file = memfd_create("short", 0), fixed = MAP_FIXED_NOREPLACE;
    if (ftruncate(file, {PAGE})) return 1;
    mmap((void *){READ_ONLY}, 2 * {PAGE}, PROT_READ, fixed | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mmap((void *){GUARD}, 2 * {PAGE}, PROT_NONE, fixed | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mmap((void *){SHORT}, 3 * {PAGE}, PROT_READ | PROT_WRITE, fixed | MAP_SHARED, file, 0);
    mmap((void *){WRITABLE}, {PAGE}, PROT_READ | PROT_WRITE,
         fixed | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    all[atoi(argv[argc - 1])]();
    return 0;
}}
"""


def asm(*lines: str) -> str:
    return '__asm__ volatile("' + "\\n\\t".join(lines) + '");'


def access(choice: random.Random) -> Program:
    """An access of memory by base, maybe index, and offset."""
    instruction = choice.choice(INSTRUCTIONS)(choice)
    pointer = bad_pointer(choice, instruction)
    base = choice.choice(GENERAL)
    index = choice.choice([None, None, *(r for r in GENERAL if r != base)])
    scale = choice.choice([1, 2, 4, 8])
    held = choice.randrange(0x100) if index else 0
    if pointer.kind == "null pointer":  # the base is null, so the offset is what is left
        offset = pointer.address - held * scale
        offset -= 1 << 64 if pointer.address >> 63 else 0
        start = 0
    else:
        offset = choice.randrange(-0x4000, 0x4000)
        start = pointer.address - offset - held * scale & MASK
    operand = f"{offset}(%{base}{f',%{index},{scale}' if index else ''})"
    moves = [f"movabs ${start}, %{base}"] + ([f"movabs ${held}, %{index}"] if index else [])
    registers = {base: start} | ({index: held} if index else {})
    body = asm(*moves, instruction.text.replace("{}", operand))
    return Program(body, sentence(pointer, instruction, registers))


def bad_pointer(choice: random.Random, instruction: Instruction) -> Pointer:
    within = choice.randrange(PAGE - instruction.size)
    places = [
        Pointer(choice.randrange(0xE000), "null pointer", ""),
        Pointer(MASK - 0x3000 + within, "null pointer", ""),
        Pointer(0x1234_0000_0000 + choice.randrange(1 << 20) * PAGE + within, "wild pointer", ""),
        Pointer(
            choice.randrange(0x8100, 0xFF00) << 48 | 0x80FF_0000_0000 | within,
            "wild pointer",
            " (not a canonical address)",
        ),
        Pointer(GUARD + within, "guard page", ""),
        Pointer(SHORT + PAGE + within, "bus error", ""),
    ]
    if "write" in instruction.action:
        places.append(Pointer(READ_ONLY + within, "write to read-only memory", ""))
    return choice.choice(places)


def sentence(pointer: Pointer, instruction: Instruction, registers: dict[str, int]) -> str:
    unit = "byte" if instruction.size == 1 else "bytes"
    what = f"{instruction.action} of {instruction.size} {unit}"
    held = "".join(f", {r} is {f'0x{v:x}' if v else 'null'}" for r, v in registers.items())
    at = f"at 0x{pointer.address:x}"
    if pointer.kind == "bus error":
        return f"bus error: {what} past the end of memfd:short (deleted) {at}"
    return f"{pointer.kind}: {what} {at}{pointer.after}{held}"


def part(choice: random.Random, size: int, names: list[str] | None = None) -> str:
    """A register's part of ``size`` bytes."""
    return LOW[choice.choice(names or GENERAL)][size.bit_length() - 1]


def _move(choice: random.Random) -> Instruction:
    size = choice.choice([1, 2, 4, 8])
    register = f"%{part(choice, size)}"
    if choice.random() < 0.5:
        return Instruction(f"mov{SUFFIX[size]} {register}, {{}}", "write", size)
    return Instruction(f"mov{SUFFIX[size]} {{}}, {register}", "read", size)


def _extend(choice: random.Random) -> Instruction:
    size = choice.choice([1, 2])
    verb = choice.choice(["movz", "movs"]) + SUFFIX[size] + "l"
    return Instruction(f"{verb} {{}}, %{part(choice, 4)}", "read", size)


def _immediate(choice: random.Random) -> Instruction:
    size = choice.choice([1, 2, 4, 8])
    verb, action = choice.choice(
        [("mov", "write"), ("cmp", "read"), ("test", "read"), ("add", "read and write"),
         ("and", "read and write"), ("xor", "read and write")]
    )  # fmt: skip
    return Instruction(f"{verb}{SUFFIX[size]} $1, {{}}", action, size)


def _single(choice: random.Random) -> Instruction:
    size = choice.choice([1, 2, 4, 8])
    verb = choice.choice(["inc", "dec", "neg", "not", "shl"])
    return Instruction(f"{verb}{SUFFIX[size]} {{}}", "read and write", size)


def _atomic(choice: random.Random) -> Instruction:
    size = choice.choice([1, 2, 4, 8])
    verb = choice.choice(["lock xadd", "lock cmpxchg", "xchg", "lock add", "lock or"])
    return Instruction(f"{verb} %{part(choice, size)}, {{}}", "read and write", size)


def _vector(choice: random.Random) -> Instruction:
    wide = [("vmovups", "ymm", 32), ("vmovdqu", "ymm", 32)] if AVX else []
    verb, kind, size = choice.choice(
        [*wide, ("movups", "xmm", 16), ("movdqu", "xmm", 16), ("movss", "xmm", 4),
         ("movsd", "xmm", 8), ("movq", "xmm", 8), ("movd", "xmm", 4), ("movhps", "xmm", 8)]
    )  # fmt: skip
    register = f"%{kind}{choice.randrange(16)}"
    if choice.random() < 0.5:
        return Instruction(f"{verb} {register}, {{}}", "write", size)
    return Instruction(f"{verb} {{}}, {register}", "read", size)


def _various(choice: random.Random) -> Instruction:
    return choice.choice(
        [
            Instruction("push {}", "read", 8),
            Instruction("pop {}", "write", 8),
            Instruction("call *{}", "read", 8),
            Instruction("jmp *{}", "read", 8),
            Instruction("sete {}", "write", 1),
            Instruction(f"cmove {{}}, %{part(choice, 8)}", "read", 8),
            Instruction(f"movnti %{part(choice, 8)}, {{}}", "write", 8),
            Instruction("fldt {}", "read", 10),
            Instruction("fstpl {}", "write", 8),
            Instruction(f"imul {{}}, %{part(choice, 4)}", "read", 4),
            Instruction("mulq {}", "read", 8),
            Instruction("divl {}", "read", 4),
            Instruction("btsq $3, {}", "read and write", 8),
        ]
    )


INSTRUCTIONS: tuple[Callable[[random.Random], Instruction], ...] = (
    *(_move, _move, _extend, _immediate, _single, _atomic, _vector, _vector, _various),
)


def arm_programs(seed: int, count: int) -> list[Program]:
    """Accesses of memory by aarch64 instructions."""
    choice = random.Random(seed)
    return [arm_access(choice) for _ in range(count)]


def arm_access(choice: random.Random) -> Program:
    text, action, size = choice.choice(ARM_INSTRUCTIONS)
    base, index, data = choice.sample(range(1, 18), 3)
    scale, step = size.bit_length() - 1, 16 * choice.randrange(-8, 8)
    held = choice.randrange(1, 64)
    modes = [(f"[x{base}]", 0, None), (f"[x{base}], #{step}", 0, None)]
    modes.append((f"[x{base}, #{step}]!", step, None))
    if "p " not in text:
        modes.append((f"[x{base}, x{index}, lsl #{scale}]", held << scale, held))
        modes.append((f"[x{base}, w{index}, sxtw #{scale}]", -held << scale, -held & 0xFFFFFFFF))
    if "{}" not in text:  # atomics have no offsets
        modes = modes[:1]
    operand, offset, second = choice.choice(modes)
    start = choice.choice([0x4000, 0x1234_5678_9000, GUARD + 0x800]) + 8 * choice.randrange(64)
    pointer = bad_arm_pointer(start + offset)
    registers = {f"x{base}": start} | ({} if second is None else {f"x{index}": second})
    moves = [f"ldr {name}, ={value}" for name, value in registers.items()]
    line = text.replace("{}", operand).replace("[]", f"[x{base}]")
    body = asm(*moves, line.replace("%", str(data)))
    return Program(body, sentence(pointer, Instruction("", action, size), registers))


def bad_arm_pointer(address: int) -> Pointer:
    if address < 0x10000:
        return Pointer(address, "null pointer", "")
    return Pointer(address, "guard page" if address > PAGES else "wild pointer", "")


ARM_INSTRUCTIONS = (
    *(("ldr x%, {}", "read", 8), ("ldr w%, {}", "read", 4), ("ldrb w%, {}", "read", 1)),
    *(("ldrsh w%, {}", "read", 2), ("ldrsw x%, {}", "read", 4), ("ldr q%, {}", "read", 16)),
    *(("str x%, {}", "write", 8), ("strh w%, {}", "write", 2), ("str d%, {}", "write", 8)),
    *(("ldp x%, x0, {}", "read", 16), ("stp q%, q0, {}", "write", 32)),
    *(("ldaxr x%, []", "read", 8), ("stlr w%, []", "write", 4), ("ldarb w%, []", "read", 1)),
    *(("ldadd x%, x0, []", "read and write", 8), ("swpal w%, w0, []", "read and write", 4)),
    *(("cas x%, x0, []", "read and write", 8), ("ldclrh w%, w0, []", "read and write", 2)),
)


def misaligned(choice: random.Random) -> Program:
    verb, size = choice.choice(
        [("movaps {}, %xmm3", 16), ("movdqa {}, %xmm9", 16), ("paddd {}, %xmm1", 16),
         ("movaps %xmm2, {}", 16), ("lock cmpxchg16b {}", 16)]
    )  # fmt: skip
    base = choice.choice([r for r in GENERAL if r not in ("rax", "rbx", "rcx", "rdx")])
    address = WRITABLE + 16 * choice.randrange(64) + choice.randrange(1, 16)
    action = "read and write" if "lock" in verb else "write" if verb.endswith("{}") else "read"
    body = asm(f"movabs ${address}, %{base}", verb.replace("{}", f"(%{base})"))
    held = f"{base} is 0x{address:x}"
    return Program(body, f"misaligned {action} of {size} bytes at 0x{address:x}, {held}")


def string_instruction(choice: random.Random) -> Program:
    size = choice.choice([1, 2, 4, 8])
    verb, registers = choice.choice(
        [("rep movs", "rdi rsi"), ("rep stos", "rdi"), ("repne scas", "rdi"), ("lods", "rsi")]
    )
    victim = choice.choice(registers.split())
    written = victim == "rdi" and "scas" not in verb
    address = choice.randrange(0xE000)
    good = [f"movabs ${WRITABLE}, %{r}" for r in ("rdi", "rsi") if r != victim]
    moves = [*good, f"movabs ${address}, %{victim}", "mov $3, %ecx", "cld"]
    pointer = Pointer(address, "null pointer", "")
    instruction = Instruction("", "write" if written else "read", size)
    body = asm(*moves, f"{verb}{SUFFIX[size]}")
    return Program(body, sentence(pointer, instruction, {victim: address}))


def stack_instruction(choice: random.Random) -> Program:
    """By a stack pointer (or frame pointer) that is none; some fault as SIGBUS."""
    verb, register, below, action = choice.choice(
        [("push %rbx", "rsp", 8, "write"), ("pop %rbx", "rsp", 0, "read"),
         ("ret", "rsp", 0, "read"), ("pushfq", "rsp", 8, "write"), ("leave", "rbp", 0, "read"),
         ("call 1f\\n1:", "rsp", 8, "write"), ("mov %rax, (%rbp)", "rbp", 0, "write"),
         ("mov 16(%rsp), %rax", "rsp", -16, "read")]
    )  # fmt: skip
    held = choice.choice([0x8000, 0x1234_5678_9000, 0xA5B4_0000_0000_1230])
    address = held - below & MASK
    kind = "null pointer" if held == 0x8000 else "wild pointer"
    pointer = Pointer(address, kind, " (not a canonical address)" if held >> 63 else "")
    body = asm(f"movabs ${held}, %{register}", verb)
    return Program(body, sentence(pointer, Instruction("", action, 8), {register: held}))


def wild_jump(choice: random.Random) -> Program:
    register = choice.choice(GENERAL)
    target, told = choice.choice(
        [
            (choice.randrange(0xE000), "null function pointer: call of 0x{:x}"),
            (0x1234_5678_0000 + choice.randrange(PAGE), "wild jump: nothing is mapped at 0x{:x}"),
            (WRITABLE + choice.randrange(PAGE), "execution of data: jump to 0x{:x}"),
        ]
    )
    verb = choice.choice(["call", "jmp"])
    return Program(
        asm(f"movabs ${target}, %{register}", f"{verb} *%{register}"), told.format(target)
    )


def refused_jump(choice: random.Random) -> Program:
    target = choice.randrange(0x8100, 0xFF00) << 48 | choice.randrange(1 << 32)
    where = f"to 0x{target:x} (not a canonical address)"
    register = choice.choice(GENERAL)
    verb, lines, after = choice.choice(
        [
            ("call", [f"call *%{register}"], f", {register} is 0x{target:x}"),
            ("jump", [f"jmp *%{register}"], f", {register} is 0x{target:x}"),
            ("return", [f"push %{register}", "ret"], ", probably an overwritten return address"),
        ]
    )
    return Program(
        asm(f"movabs ${target}, %{register}", *lines), f"wild jump: {verb} {where}{after}"
    )


def division(choice: random.Random) -> Program:
    size = choice.choice([1, 2, 4, 8])
    register = choice.choice([r for r in GENERAL if r not in ("rax", "rdx")])
    divisor = part(choice, size, [register])
    in_memory = choice.random() < 0.4
    operand = "8(%rsp)" if in_memory else f"%{divisor}"
    overflows = choice.choice(["", "idiv", "div"])
    # (the smallest integer) / -1, or more than one word / 1
    value = {"": 0, "idiv": (1 << 8 * size) - 1, "div": 1}[overflows]
    smallest = 1 << 8 * size - 1
    upper, lower = (MASK, smallest) if overflows == "idiv" else (3, 7)
    if size == 1:  # ax is divided
        lower = 0xFF80 if overflows == "idiv" else 0x307
    moves = [
        f"movabs ${lower}, %rax",
        f"movabs ${upper}, %rdx",
        f"movabs ${0xAB << 56 | value if size < 8 else value}, %{register}",
        *([f"sub $64, %rsp; mov %{register}, 8(%rsp)"] if in_memory else []),
    ]
    verb = overflows or choice.choice(["div", "idiv"])
    body = asm(*moves, f"{verb}{SUFFIX[size]} {operand}")
    name = "the divisor at 0x" if in_memory else f"{divisor} is "
    if overflows:
        shown = "-1" if overflows == "idiv" else "0x1"
        return Program(body, f"integer division overflow: {name}{'' if in_memory else shown}")
    return Program(body, f"division by zero: {name}{'' if in_memory else '0'}")


def stopped(choice: random.Random) -> Program:
    line, told = choice.choice(
        [
            ("ud2", "trap instruction (ud2)"),
            ("int3", "breakpoint (int3) without a debugger"),
            ("hlt", "abort: the process stopped itself (hlt)"),
            ("cli", "privileged instruction (cli)"),
            (".byte 0x06", "illegal instruction at 0x"),
        ]
    )
    return Program(asm(line), told)


def origin(choice: random.Random) -> Program:
    """Values that tell where a pointer probably came from."""
    register = choice.choice(GENERAL)
    byte = choice.randrange(0x81, 0xFF)
    text = int.from_bytes(bytes(choice.choices(b"abcdefghijk /.", k=8)), "little")
    value, label = choice.choice(
        [
            (MASK - choice.randrange(5, 4000), "probably an unchecked error: "),
            (byte * 0x0101_0101_0101_0101, f"probably filled with 0x{byte:02x}"),
            (text, "probably overwritten by text"),
            (WRITABLE + PAGE + 8 * choice.randrange(500), "probably past the end of a mapping"),
            (WRITABLE + 0x8000, "probably unmapped before"),
        ]
    )
    if label.endswith(": "):
        label += f"{register} is {value - MASK - 1}"
    body = asm(f"movabs ${value}, %{register}", f"movb (%{register}), %al")
    kind = " (not a canonical address)" if value >> 47 not in (0, (1 << 17) - 1) else ""
    kind = " (the kernel's half)" if value >> 47 == (1 << 17) - 1 else kind
    pointer = Pointer(value, "wild pointer", kind)
    told = sentence(pointer, Instruction("", "read", 1), {register: value})
    return Program(body, f"{told}, {label}")


def freed(choice: random.Random) -> Program:
    """A pointer read from the first bytes of a freed block."""
    size, offset = choice.randrange(24, 900), choice.randrange(64)
    body = f"""
        char **volatile object = malloc({size});
        free((void *)object);
        sink = object[0][{offset}];
    """
    return Program(body, "wild pointer: read of 1 byte at 0x.*, probably read from freed memory")


def unmapped(choice: random.Random) -> Program:
    pages, offset = choice.randrange(3, 9), choice.randrange(PAGE)
    body = f"""
        volatile char *block = mmap(0, {pages * PAGE}, PROT_READ | PROT_WRITE,
                                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        munmap((void *)block, {pages * PAGE});
        block[{PAGE + offset}] = 1;
    """
    return Program(body, "wild pointer: write of 1 byte at 0x.*, probably unmapped before")


def libc_call(choice: random.Random) -> Program:
    """A bad pointer handed to libc, whose instruction it is that faults."""
    address, size = choice.randrange(0, 0x4000, 8), choice.randrange(1, 3000)
    pointer = f"(void *)((char *)zero + {address})"
    good = f"(void *){WRITABLE}"
    call, action = choice.choice(
        [
            (f"memcpy({pointer}, {good}, {size})", "write"),
            (f"memcpy({good}, {pointer}, {size})", "read"),
            (f"memset({pointer}, 7, {size})", "write"),
            (f"sink = strlen({pointer})", "read"),
            (f"sink = memcmp({pointer}, {good}, {size})", "read"),
            (f"strcpy({good}, {pointer})", "read"),
        ]
    )
    body = f"volatile size_t n = {size}; {call.replace(f', {size})', ', n)')};"
    return Program(body, f"null pointer: {action} of .*, in a function of libc")


OTHERS: tuple[Callable[[random.Random], Program], ...] = (
    *(misaligned, string_instruction, stack_instruction, stack_instruction, wild_jump),
    *(refused_jump, division, division, stopped, origin, origin, freed, unmapped, libc_call),
)
