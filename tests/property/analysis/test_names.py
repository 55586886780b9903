"""Names on anything: the demanglers end, stay in bounds, and answer the same again."""

from hypothesis import example, given
from hypothesis import strategies as st

from stillframe.analysis.demangle import MAX_NAME, demangle, shorten

CPP = ["1A", "S_", "S0_", "T_", "I", "J", "E", "N", "Dp", "sp", "X", "i", "v", "P", "F", "cl", "K"]
RUST = ["C1a", "N", "v", "1f", "B_", "B2_", "I", "E", "T", "u", "R", "M", "X", "s_", "p", "D", "L_"]
mangled = st.one_of(
    st.lists(st.sampled_from(CPP), max_size=60).map(lambda parts: "_Z1f" + "".join(parts)),
    st.lists(st.sampled_from(RUST), max_size=60).map(lambda parts: "_R" + "".join(parts)),
    st.text(max_size=200).map("_Z".__add__),
    st.text(max_size=200).map("_R".__add__),
    st.text(max_size=80).map(lambda text: f"_ZN{text}17h0123456789abcdefE"),
)


@given(mangled)
@example("_ZN17h0123456789abcdefE")
def test_a_demangled_name_is_bounded(name: str) -> None:
    readable = demangle(name)
    assert readable == name or 0 < len(readable) <= MAX_NAME


@given(st.text(alphabet="ab<>(){}:-o ", max_size=400))
def test_a_shortened_name_stays_short(name: str) -> None:
    assert len(shorten(name)) <= MAX_NAME
    assert shorten(shorten(name)) == shorten(name)
