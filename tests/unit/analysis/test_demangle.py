"""Readable names: equal to binutils' for real symbols, bounded for hostile ones.

The oracle for Rust is c++filt, which also prints crate hashes and the types of
constants; those are taken out before comparing.
"""

import re
import subprocess
from pathlib import Path

import pytest

from stillframe.analysis.demangle import MAX_MANGLED, MAX_NAME, demangle, function_name, shorten

STRINGS = "NSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"
MAP = f"RKSt3mapI{STRINGS}iSt4lessIS5_ESaISt4pairIKS5_iEEE"
LEGACY = {
    "_ZN4core9panicking5panic17h0123456789abcdefE": "core::panicking::panic",
    "_ZN3app4main28_$u7b$$u7b$closure$u7d$$u7d$17h0123456789abcdefE": "app::main::{{closure}}",
    "_ZN60_$LT$app..Cart$LT$T$GT$$u20$as$u20$core..ops..drop..Drop$GT$4drop17h0123456789abcdefE": (
        "<app::Cart<T> as core::ops::drop::Drop>::drop"
    ),
    "_ZN3app3run17h0123456789abcdefE.llvm.1234567": "app::run",
}
V0 = {
    "_RNvCs6xxl1lAjzDf_1a4main": "a::main",
    "_RNCNvCs6xxl1lAjzDf_1a4main0B3_": "a::main::{closure#0}",
    "_RINvCs6xxl1lAjzDf_1a3genReKj2_EB2_": "a::gen::<&str, 2>",
}


def doubling(levels: int) -> str:
    """A C++ name whose every part has the part before it twice."""
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    one, two = ([f"S{d}_" for d in digits], [f"S{c}{d}_" for c in "123456789" for d in digits])
    references = [*one, *two]
    return "_Z1f1AIiiE" + "".join(f"S_I{references[i]}{references[i]}E" for i in range(levels))


def backwards(levels: int) -> str:
    """A Rust name whose every tuple refers to the one before it twice."""
    digits = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    name, at = "INvC1a1fTuuE", 8
    for _ in range(levels):
        back = (
            f"B{digits[at - 1]}_"
            if at <= 62
            else f"B{digits[(at - 1) // 62]}{digits[(at - 1) % 62]}_"
        )
        at, name = len(name), f"{name}T{back}{back}E"
    return f"_R{name}E"


@pytest.mark.parametrize(
    "name",
    [
        "_ZN4shop4CartIiE3addEi",
        "_ZN12_GLOBAL__N_16helperERN4shop4CartIiEEPi",
        "_ZNK4shop4CartIiEltERKS1_",
        "_ZZ4mainENKUliE_clEi",
        "_ZSt9terminatev",
        "_ZN3app3runEv.cold",
        "_ZN3app3runEv.isra.0.part.1",
        "_ZTv0_n24_NSoD0Ev",
    ],
)
def test_cpp_names_are_binutils(name: str) -> None:
    oracle = subprocess.run(["c++filt", name], capture_output=True, text=True, check=True)
    assert demangle(name) == oracle.stdout.strip() != name


@pytest.mark.parametrize(("name", "readable"), [*LEGACY.items(), *V0.items()])
def test_rust_names_are_binutils_without_hashes(name: str, readable: str) -> None:
    assert demangle(name) == readable
    oracle = subprocess.run(
        ["c++filt", "-s", "rust", name.partition(".llvm")[0]],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert re.sub(r"\[[0-9a-f]+\]|::h[0-9a-f]{16}$|(?<=\d): usize", "", oracle) == readable


@pytest.mark.parametrize("name", ["main", "", "_Z", "_R", "_Read", "_ZN", "_Zebra", "step.cold"])
def test_a_name_that_is_not_mangled_stays(name: str) -> None:
    assert demangle(name) == name


def test_a_symbols_version_is_no_part_of_its_name() -> None:
    assert demangle("_ZSt9terminatev@@GLIBCXX_3.4") == "std::terminate()"
    assert demangle("__libc_start_main@@GLIBC_2.34") == "__libc_start_main@@GLIBC_2.34"


def test_a_long_name_keeps_what_it_says_and_loses_its_arguments() -> None:
    name = demangle(f"_ZN4shop4CartIiE5totalE{MAP}PiPKc")
    assert name == "shop::Cart<int>::total(...)"
    operator = demangle(f"_ZNK4shop4CartI{STRINGS}EltE{MAP}")
    assert operator.endswith("::operator<(...) const")
    assert len(operator) <= MAX_NAME


def test_what_is_long_whatever_is_left_out_is_cut() -> None:
    assert shorten("x" * 1000) == "x" * (MAX_NAME - 3) + "..."


def test_a_name_that_unfolds_without_end_stays_mangled() -> None:
    """Tried, it takes the demangler minutes and half a gigabyte."""
    assert demangle(doubling(8)).startswith("f(")
    assert len(doubling(40)) < MAX_MANGLED
    assert demangle(doubling(40)) == doubling(40)


def test_a_pack_that_unfolds_without_end_stays_mangled() -> None:
    """A template of 60 arguments that gives each of them to one of 60 arguments, and so on."""

    def nested(levels: int) -> str:
        return f"_Z1fIJ{'i' * 60}EEv{'1BIJDp1PIT_' * levels}i{'EEE' * levels}"

    assert demangle(nested(1)).startswith("void f<")
    assert demangle(nested(9)) == nested(9)


def test_a_pack_in_an_expression_that_unfolds_without_end_stays_mangled() -> None:
    def nested(levels: int) -> str:
        return f"cl1hspcl1gcvT_Li0E{nested(levels - 1)}EE" if levels else "cvT_Li0E"

    assert "h(" in demangle(f"_Z1fIJiiiEEDT{nested(1)}Ev")
    endless = f"_Z1fIJ{'i' * 60}EEDT{nested(9)}Ev"
    assert demangle(endless) == endless


def test_a_rust_name_that_unfolds_without_end_stays_mangled() -> None:
    assert demangle(backwards(3)).startswith("a::f")
    assert demangle(backwards(60)) == backwards(60)


def test_a_demangler_that_prints_does_not_print(capfd: pytest.CaptureFixture[str]) -> None:
    """Standard output is where the child's answer goes."""
    given_up = "_RINvC1a1fDG0_INtC1b2FnTRL1_INtC1c4InfoL0_EEEEL_E"
    assert demangle(given_up) == given_up
    assert capfd.readouterr().out == ""


def test_the_symbol_is_preferred_where_it_says_more() -> None:
    assert function_name("add", "_ZN4shop4Cart3addEi") == "shop::Cart::add(int)"
    assert function_name("abort", "__GI_abort") == "abort"
    assert function_name("", "fork") == "fork"
    assert function_name("first", "") == "first"
    assert function_name("f", doubling(40)) == "f"


def test_real_symbols_are_all_readable() -> None:
    """Every function of the C++ library of this machine, less what it only calls."""
    (library,) = Path("/usr/lib").glob("*-linux-gnu/libstdc++.so.6")
    command = ["nm", "-D", "--defined-only", library]
    listed = subprocess.run(command, capture_output=True, text=True, check=True)
    names = [line.split()[-1].partition("@")[0] for line in listed.stdout.splitlines()]
    mangled = [name for name in names if name.startswith("_Z")]
    assert len(mangled) > 4000
    assert [name for name in mangled if demangle(name) == name] == []
