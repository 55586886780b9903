"""Ruby, whose handler prints for a hundred lines and aborts; Perl and shells, which have none.

- what a shell starts blocks and ignores what it does without us
- handlers written in the language, and overflows they recover from, are no crash
- a crash is reported as what came first, not as the abort after it
"""

import re
from signal import SIGABRT, SIGSEGV

import pytest

from tests.integration.runtimes.conftest import SOURCES, Case, Stage, crash, no_crash

RUBY = ("ruby", SOURCES / "crash.rb")
PERL = ("perl", SOURCES / "crash.pl")

SIGNALS = "sed -n /Sig[BI]/p /proc/self/status"

CASES = (
    *(
        no_crash(f"{shell}_{name}", shell, "-c", f"{signals}; exit 4", status=4)
        for shell in ("dash", "bash")
        for name, signals in {
            "child": SIGNALS,
            "pipe": f"{SIGNALS} | cat",
            "background": f"{SIGNALS} & wait",
            "trapped": f"trap '' ABRT; {SIGNALS}",
        }.items()
    ),
    no_crash("ruby_overflows", *RUBY, "overflows"),
    no_crash("ruby_children", *RUBY, "children"),
    no_crash("ruby_handled", *RUBY, "handled", status=3),
    crash("ruby_null", *RUBY, "null", by=SIGSEGV, status=-SIGABRT, address=8),
    crash("ruby_kill", *RUBY, "kill", by=SIGSEGV, status=-SIGABRT),
    crash("ruby_abort", *RUBY, "abort", by=SIGABRT),
    no_crash("perl_children", *PERL, "children"),
    no_crash("perl_handled", *PERL, "handled", status=3),
    no_crash("perl_die", *PERL, "die", status=255),
    crash("perl_null", *PERL, "null", by=SIGSEGV, address=8),
    crash("perl_kill", *PERL, "kill", by=SIGSEGV),
    crash("perl_abort", *PERL, "abort", by=SIGABRT),
    crash("perl_default_again", *PERL, "default_again", by=SIGABRT),
)


def before_the_registers(stderr: str) -> str:
    """From there on Ruby tells of the machine: its C stack and its maps show us, and rightly."""
    before = stderr.partition("-- Machine register context")[0]
    return re.sub(r" E:\w{6} ", " E:ENVIRONMENT ", before)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_same_death_and_what_is_reported(stage: Stage, case: Case) -> None:
    stage.compare(case, before_the_registers)
