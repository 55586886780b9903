"""Which frames tell, and the grouping key: what changes it and what must not."""

import re
from pathlib import Path

import pytest

from stillframe.analysis.fingerprint import fingerprint, frame_key, normalize
from stillframe.analysis.jvm import plain
from stillframe.analysis.model import JAVA_MODULE, Frame
from stillframe.analysis.noise import calls_through_us, is_noise, significant

DOCUMENT = (Path(__file__).parents[3] / "docs/reference/fingerprint.md").read_text()
LIBC = "/lib/x86_64-linux-gnu/libc.so.6"


def frame(function: str = "", module: str = "/app/server", **more: object) -> Frame:
    return Frame(**{"pc": 0x5000, "trust": "cfi", "offset": 0x1000, **more}, function=function,
                 module=module)  # fmt: skip


CRASH = [frame("parse"), frame("serve"), frame("main"), frame("__libc_start_main", LIBC)]


DYING = (
    "raise gsignal abort __GI_raise __GI_abort __pthread_kill_implementation pthread_kill tgkill "
    "__assert_fail __assert_fail_base __stack_chk_fail __fortify_fail __chk_fail __libc_message "
    "malloc_printerr __restore_rt rust_panic core::panicking::panic_fmt"
)
ALLOCATING = "malloc free __libc_free __libc_realloc calloc posix_memalign"
COPYING = (
    "memcpy memmove memset __memmove_avx_unaligned_erms __memcpy_ssse3 strlen __strlen_avx2 "
    "strcpy strncpy strcmp memchr __rawmemchr"
)


@pytest.mark.parametrize("name", f"{DYING} {COPYING} {ALLOCATING}".split())
def test_how_processes_die_copy_and_allocate_is_noise(name: str) -> None:
    assert is_noise(frame(name, LIBC))


@pytest.mark.parametrize("name", ["__cxa_pure_virtual", "std::__throw_out_of_range(char const*)"])
def test_the_runtime_of_cxx_is_noise(name: str) -> None:
    assert is_noise(frame(name, "/lib/x86_64-linux-gnu/libstdc++.so.6.0.30"))


def test_an_allocator_of_the_applications_own_is_not_noise() -> None:
    assert not is_noise(frame("malloc"))


@pytest.mark.parametrize(
    "name", ["parse", "raise_event", "abort_request", "memory", "string_append", "kill_session"]
)
def test_the_applications_own_functions_are_not_noise(name: str) -> None:
    assert not is_noise(frame(name))


def test_leading_noise_startup_and_unnamed_libc_frames_do_not_tell() -> None:
    dying = [frame("", LIBC), frame("raise", LIBC), frame("abort", LIBC), frame("", LIBC)]
    ending = [frame("", LIBC), frame("_start"), frame("")]
    assert significant([*dying, *CRASH, *ending]) == CRASH[:3]


def test_noise_in_the_middle_tells() -> None:
    frames = [frame("compare"), frame("memcmp", LIBC), frame("main")]
    assert significant(frames) == frames


def test_a_jump_to_nowhere_and_our_library_do_not_tell() -> None:
    nowhere = Frame(pc=0, trust="context")
    ours = frame("", "/stillframe-lib/libstillframe.so")
    assert significant([nowhere, ours, *CRASH]) == CRASH[:3]


def test_if_nothing_tells_everything_does() -> None:
    frames = [frame("raise", LIBC), frame("abort", LIBC)]
    assert significant(frames) == frames


@pytest.mark.parametrize(
    "change",
    [
        {"pc": 0x7777},
        {"offset": 0x4444},
        {"line": 42, "file": "/other/place/a.c"},
        {"trust": "scan"},
        {"module": "/opt/v2/server"},
        {"module": "/app/server (deleted)"},
    ],
)
def test_addresses_lines_paths_and_trust_do_not_change_the_key(change: dict[str, object]) -> None:
    changed = [frame(f.function, **{"module": f.module, **change}) for f in CRASH[:3]]
    assert fingerprint(changed) == fingerprint(CRASH)


@pytest.mark.parametrize(
    "frames",
    [
        [frame("parse2"), *CRASH[1:]],
        [frame("parse", "/lib/libparse.so.1"), *CRASH[1:]],
        CRASH[1:],
        [CRASH[0], frame("retry"), *CRASH[1:]],
    ],
)
def test_another_function_module_or_caller_is_another_key(frames: list[Frame]) -> None:
    assert fingerprint(frames) != fingerprint(CRASH)


def test_the_key_is_what_the_documentation_says() -> None:
    """SHA-256 of "server!parse\\nserver!serve\\nserver!main", by sha256sum."""
    assert fingerprint(CRASH) == "v1:f11d699eb3c4f96f"


def test_the_documented_names_and_key_are_true() -> None:
    native, _, java = DOCUMENT.partition("## Java\n")
    for told, made_plain in ((native, normalize), (java, plain)):
        names = re.findall(r"^\| `(.+)` \| `(.+)` \|$", told, re.MULTILINE)
        assert len(names) >= 10
        assert [made_plain(name) for name, _ in names] == [plain for _, plain in names]
    stack = re.findall(r"^    #\d+  (.*?)(?: \(([^ ]+)\))?$", DOCUMENT, re.MULTILINE)
    frames = [_documented(name, place) for name, place in stack]
    (text,) = re.findall(r"```text\n(.*?)\n```", DOCUMENT, re.DOTALL)
    assert [frame_key(found) for found in significant(frames)] == text.split("\n")
    assert f"`{fingerprint(frames)}`" in DOCUMENT


def _documented(name: str, place: str) -> Frame:
    if not place:
        return frame("", LIBC)
    return frame(name, LIBC if place.startswith("libc") else "/app/server")


def test_only_the_six_innermost_frames_count() -> None:
    deep = [frame(f"f{i}") for i in range(9)]
    assert fingerprint(deep) == fingerprint([*deep[:6], frame("other")])
    assert fingerprint(deep) != fingerprint([*deep[:5], frame("other")])


@pytest.mark.parametrize("leading", [[], ["leaf"], ["b"], ["printf", "b"]])
def test_a_recursion_has_one_key_wherever_the_stack_ran_out(leading: list[str]) -> None:
    cycle = [frame(name) for name in [*leading, *["a", "b"] * 20, "main"]]
    assert fingerprint(cycle) == fingerprint([frame(name) for name in ["b", "a"] * 50])


def test_unnamed_frames_are_known_by_module_and_rounded_offset() -> None:
    assert frame_key(frame(offset=0x1234)) == "server+0x1200"
    assert fingerprint([frame(offset=0x1234)]) == fingerprint([frame(offset=0x1239)])
    assert fingerprint([frame(offset=0x1234)]) != fingerprint([frame(offset=0x1284)])


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("step.constprop.0", "step"),
        ("step.part.3.cold", "step"),
        ("run<int, std::pair<a, b> >(int)", "run"),
        ("(anonymous namespace)::f(int)", "{anonymous}::f"),
        ("Vec<T>::push", "Vec::push"),
        ("app::f::h0123456789abcdef", "app::f"),
        ("memcpy@@GLIBC_2.14", "memcpy"),
        ("Foo::operator()(int)", "Foo::operator()"),
        ("f(int)::{lambda(int)#1}::operator()(int) const", "f::{lambda#1}::operator()"),
        ("std::ostream& std::operator<< <char>(std::ostream&)", "std::operator<<"),
        ("bool ns::operator< <int>(ns::A<int> const&)", "ns::operator<"),
        ("ns::P<int>::operator->() const", "ns::P::operator->"),
        ("operator new(unsigned long)", "operator new"),
        ("A::operator bool() const", "A::operator bool"),
        ("operator_table", "operator_table"),
        ("void app::run<int>(int const&)", "app::run"),
        ("std::vector<int> make<int>(std::function<void (int)>)", "make"),
        ("app::Box<std::function<void (int)> >::get() const", "app::Box::get"),
        ("f(int) [clone .part.0] [clone .cold]", "f"),
        ("step.isra.0.constprop.1.cold", "step"),
        ("step.lto_priv.0", "step"),
        ("step.llvm.1234567890", "step"),
        ("app[9a8b7c6d5e4f3a2b]::run", "app::run"),
        ("<app::List<T> as core::fmt::Debug>::fmt", "<app::List as core::fmt::Debug>::fmt"),
        ("app::run::{{closure}}::h0123456789abcdef", "app::run::{{closure}}"),
        ("main.(*Server).handle", "main.(*Server).handle"),
        ("main.main.func1.2", "main.main.func1.2"),
        ("f(((", "f"),
        ("a<b<c", "a"),
        ("<>", "<>"),
    ],
)
def test_names_lose_what_compilers_and_overloads_add(name: str, plain: str) -> None:
    assert normalize(name) == plain


def java(*methods: str) -> list[Frame]:
    return [Frame(pc=0, trust="runtime", function=name, module=JAVA_MODULE) for name in methods]


JVM = "/usr/lib/jvm/lib/server/libjvm.so"
CALLED = [
    frame("JavaCalls::call_helper(JavaValue*)", JVM),
    frame("start_thread", LIBC),
]
"""What is below the outermost Java frame."""


def test_java_frames_tell_and_what_the_jvm_adds_does_not() -> None:
    doors = java("jdk.internal.misc.Unsafe.putLong(Object, long, long)", "sun.misc.Unsafe.put()")
    app = java("Cart.total()", "Shop.main(String[])")
    interpreted = [frame("Unsafe_PutLong", JVM), *doors, *app, *java("~StubRoutines::call_stub")]
    assert significant([*interpreted, *CALLED]) == app
    assert fingerprint([*interpreted, *CALLED]) == fingerprint(app)
    assert fingerprint(app) != fingerprint(java("Order.total()", "Shop.main(String[])"))


def test_a_function_of_the_jvm_tells_also_above_java() -> None:
    frames = [frame("G1ParScanThreadState::trim()", JVM), *java("Cart.total()")]
    assert significant(frames) == frames


@pytest.mark.parametrize("stub", [[], java("~StubRoutines::call_stub")])
def test_without_java_frames_a_jvm_is_a_module_like_others(stub: list[Frame]) -> None:
    frames = [frame("Unsafe_PutLong", JVM), frame("", JVM), *stub, *CALLED]
    assert significant(frames) == frames[:-1]


def test_native_code_called_from_java_called_from_native_code_tells() -> None:
    frames = [frame("inner", "/app/libjni.so"), *java("A.f()"), frame("outer"), *java("B.g()")]
    assert significant([*frames, *CALLED]) == frames


OURS = "/stillframe-lib/libstillframe.so"


@pytest.mark.parametrize(
    ("frames", "through_us"),
    [
        (CRASH, False),
        ([frame("memcpy", LIBC), frame(module=OURS), *CRASH], True),
        ([frame(module=OURS), *CRASH], True),
        ([frame("parse"), frame(module=OURS), frame("start_thread", LIBC)], False),
        ([frame("parse"), frame(module=OURS)], False),
        ([frame("parse"), frame(module=OURS, trust="scan"), *CRASH], False),
    ],
)
def test_a_call_through_our_library_is_told_from_the_start_of_a_thread(
    frames: list[Frame], through_us: bool
) -> None:
    assert calls_through_us(frames) is through_us
