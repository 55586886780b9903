"""Names of real C++ and Rust crashes, with and without debug information, and from other files.

Covers: demangling, one fingerprint whatever was stripped, inline frames, debug
files as other tools write them (compressed, by eu-strip), hostile names.
"""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from stillframe.analysis import Analysis, render_text
from tests.integration.analysis.conftest import analyze_file, compile_c, functions

MakeCore = Callable[..., Path]

SHOP = """
#include <map>
#include <string>
namespace shop {
template <class T> struct Cart {
    T first;
    __attribute__((noinline)) int total(const std::map<std::string, T> &prices, volatile int *p) {
        return *p + static_cast<int>(prices.size()) + first;
    }
};
}
namespace {
__attribute__((noinline)) int checkout(volatile int *p) {
    shop::Cart<int> cart{3};
    return cart.total({{"tea", 1}}, p) + 1;
}
}
int main(int argc, char **) { return checkout(reinterpret_cast<int *>(argc - 1L)) + 1; }
"""
SHOP_NAMES = [
    "shop::Cart<int>::total(...)",
    "(anonymous namespace)::checkout(int volatile*)",
    "main",
]
RUST = """
mod shop {
    pub trait Total { fn total(&self, at: usize) -> u32; }
    pub struct Cart<T> { pub items: Vec<T> }
    impl Total for Cart<u32> {
        #[inline(never)]
        fn total(&self, at: usize) -> u32 { unsafe { *(at as *const u32) + self.items[0] } }
    }
}
fn main() {
    use shop::Total;
    let cart = shop::Cart { items: vec![1] };
    println!("{}", cart.total(std::env::args().count() - 1));
}
"""
INLINE = """
struct order { int id; };
static int price(struct order *o, int *table) { return table[o->id] + o->id * 2; }
static int tax(struct order *o, int *table) { return price(o, table) / 5; }
__attribute__((noinline)) int checkout(int n, int *table) {
    struct order o = {n};
    return tax(&o, table);
}
int main(int argc, char **argv) { return checkout(argc, (int *)(argc - 1L)) + (argv == 0); }
"""


def compile_cpp(source: str, target: Path, *flags: str) -> Path:
    text = target.with_suffix(".cc")
    text.write_text(source)
    subprocess.run(["g++", "-g", *flags, "-o", target, text], check=True)
    return target


def run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True)


def named(analysis: Analysis, count: int) -> list[str]:
    return functions(analysis)[:count]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_cpp(SHOP, tmp_path_factory.mktemp("shop") / "shop", "-O1")


def test_cpp_names_are_whole_whatever_was_stripped(
    snapshot: MakeCore, shop: Path, tmp_path: Path
) -> None:
    """And so is the fingerprint: a release without debug information is the same bug."""
    analyses = []
    for flag in ("", "-g"):
        app = tmp_path / f"copy{flag}" / "shop"
        app.parent.mkdir()
        run("objcopy", *([flag] if flag else []), shop, app)
        analyses.append(analyze_file(snapshot(app)))
    assert [named(analysis, 3) for analysis in analyses] == [SHOP_NAMES] * 2
    assert analyses[0].top_frame == "shop::Cart<int>::total(...) (shop.cc:8)"
    assert analyses[1].top_frame.startswith("shop::Cart<int>::total(...) (shop+0x")
    assert len({analysis.fingerprint for analysis in analyses}) == 1
    assert "_Z" not in render_text(analyses[1])


def test_rust_names_are_whole_and_have_no_hash(snapshot: MakeCore, tmp_path: Path) -> None:
    app, source = tmp_path / "app", tmp_path / "app.rs"
    source.write_text(RUST)
    run("rustc", "-O", "-C", "symbol-mangling-version=v0", "-o", app, source)
    names = functions(analyze_file(snapshot(app)))
    assert names[0] == "<app::shop::Cart<u32> as app::shop::Total>::total"
    assert "app::main" in names
    assert not re.search(r"_R[A-Z]|_ZN|::h[0-9a-f]{16}", " ".join(names))


def test_a_hostile_name_costs_only_itself(snapshot: MakeCore, tmp_path: Path) -> None:
    parts = "".join(f"S_IS{d}_S{d}_E" for d in "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    evil = f"_Z1f1AIiiE{parts}"
    source = f"""
        __attribute__((noinline)) void evil(volatile int *p) __asm__("{evil}");
        void evil(volatile int *p) {{ *p = 1; }}
        int main(int argc, char **argv) {{ evil((int *)(argc - 1L)); return argv == 0; }}
    """
    app = compile_c(source, tmp_path / "app")
    assert named(analyze_file(snapshot(app)), 2) == ["evil", "main"]
    run("strip", "-g", app)
    analysis = analyze_file(snapshot(app))
    assert named(analysis, 2) == [evil, "main"]
    assert analysis.soft_errors == []


def in_the_child(statement: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs a statement in the analysis child before its own imports."""
    (place / "sitecustomize.py").write_text(
        "import os, sys\n"
        "if sys.orig_argv[-1] == 'stillframe.analysis':\n"
        "    import cxxfilt\n"
        f"    {statement}\n"
    )
    monkeypatch.syspath_prepend(str(place))


def test_a_demangler_that_dies_costs_the_names_and_not_the_stack(
    snapshot: MakeCore, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_the_child("cxxfilt.demangle = lambda name: os.abort()", tmp_path, monkeypatch)
    analysis = analyze_file(snapshot(shop))
    assert named(analysis, 3) == ["total", "checkout", "main"]
    assert analysis.soft_errors[-1].startswith("analysis incomplete: the child was killed by SIG")


def test_a_missing_cpp_library_is_said(
    snapshot: MakeCore, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = "cxxfilt.DeferedErrorDemangler(cxxfilt.LibraryNotFound())"
    in_the_child(f"cxxfilt.default_demangler = {missing}", tmp_path, monkeypatch)
    analysis = analyze_file(snapshot(shop))
    assert named(analysis, 3) == ["total", "checkout", "main"]
    assert analysis.soft_errors == [
        "C++ names are mangled: libstdc++.so.6 is missing (apt install libstdc++6)"
    ]


def test_inline_frames_of_an_optimized_build_are_shown_and_marked(
    snapshot: MakeCore, tmp_path: Path
) -> None:
    analysis = analyze_file(snapshot(compile_c(INLINE, tmp_path / "app", "-O2")))
    frames = analysis.threads[0].frames[:4]
    assert [frame.function for frame in frames] == ["price", "tax", "checkout", "main"]
    assert [frame.inline for frame in frames] == [True, True, False, False]
    assert [frame.line for frame in frames] == [3, 4, 7, 9]
    text = render_text(analysis)
    assert "#0   price (app.c:3)  [inlined]\n" in text
    assert "#2   checkout (app.c:7)\n" in text


@pytest.mark.parametrize("how", ["compressed", "eu-strip"])
def test_debug_files_are_used_as_tools_write_them(
    snapshot: MakeCore, tmp_path: Path, how: str
) -> None:
    whole, app, debug = tmp_path / "whole", tmp_path / "app", tmp_path / "debug"
    compile_c(INLINE, whole, "-O2")
    if how == "eu-strip":
        run("eu-strip", "-f", debug, "-o", app, whole)
    else:
        run("objcopy", "--only-keep-debug", "--compress-debug-sections=zlib", whole, debug)
        run("objcopy", "--strip-all", whole, app)
    core = snapshot(app)
    analysis = analyze_file(core, [(str(app), app), (str(debug), debug)])
    assert analysis.soft_errors == []
    assert analysis.stack[0] == "#0 price (whole.c:3) [inlined]"
    assert analysis.threads[0].frames[3].trust == "cfi"
