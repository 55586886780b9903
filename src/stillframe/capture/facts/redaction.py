"""Redaction: secrets out of whatever a process or its log says.

Flows in: text as a pod wrote it.  Flows out: the same with `MASK` where a
secret is, or looks as if it were.  Two ways: by what the environment names a
secret (that value is masked wherever it shows up again), and by form.  It cannot
know a secret that has neither name nor form; therefore environment values are
kept by allow-list only.  Computes only, no I/O.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final

MASK: Final = "[redacted]"
MIN_SECRET: Final = 6
"""Characters; shorter values of secret variables (``1``, ``true``) would mask common words."""
MAX_SECRETS: Final = 256
MAX_CHARS: Final = 4096
"""Several times of what is kept of any text: bounds the work on a hostile one."""
_WORDS: Final = (
    "TOKEN|SECRET|PASS|(?<=[A-Z_])(?<!OLD)PWD|KEY|CRED|AUTH|COOKIE|SESSION|PRIVATE|SIGNATURE|JWT|BEARER"
    "|DSN|CONNECTION_?STRING"
)
_SECRET_NAME: Final = re.compile(_WORDS, re.IGNORECASE)
_PLACE: Final = re.compile(r"_(?:FILE|PATH|DIR|SOCK)$", re.IGNORECASE)
"""Ends of names whose values say where a secret is; they are not masked elsewhere."""
_OPTION: Final = re.compile(r"--?[\w.-]+", re.ASCII)
# Repetitions are bounded or possessive: on hostile text the time stays linear.
_FORMS: Final = (
    # scheme://user:password@host, the whole user part
    (re.compile(r"(?<=://)[^\s/]{1,1024}(?=@)"), MASK),
    # password=…, "token": "…", Authorization: Bearer …
    (
        re.compile(
            rf"((?:{_WORDS})[\w.-]{{0,64}}+[\"']?+\s{{0,3}}+[=:]\s{{0,3}}+[\"']?+"
            r"(?:(?:Bearer|Basic|Digest) )?+)[^\s\"',;&]+",
            re.IGNORECASE,
        ),
        rf"\1{MASK}",
    ),
    (re.compile(r"\b(Bearer|Basic) [\w+/=.~-]{8,}", re.ASCII), rf"\1 {MASK}"),
    # a JSON web token; tokens with a vendor's prefix
    (re.compile(r"eyJ[\w-]{8,4096}\.[\w-]{8,4096}(?:\.[\w-]*)?", re.ASCII), MASK),
    (re.compile(r"\b(?:gh[pousr]_|github_pat_|glpat-|xox[abprs]-|sk-)[\w-]{12,}", re.ASCII), MASK),
    (re.compile(r"-----BEGIN [A-Z ]{0,32}PRIVATE KEY-----.*", re.DOTALL), MASK),
)
_URL_PASSWORD: Final = re.compile(r"://[^\s/:]{0,256}:([^\s/]{1,1024})@")


def is_secret_name(name: str) -> bool:
    """Whether a variable or option of this name holds a secret.

    >>> is_secret_name("DB_PASSWORD"), is_secret_name("db.apiKey"), is_secret_name("PWD")
    (True, True, False)
    """
    return _SECRET_NAME.search(name) is not None


class Redactor:
    """Masks what is secret.  Holds secrets: never stored, never printed (no ``repr``)."""

    __slots__ = ("_known",)

    def __init__(self, environment: Iterable[tuple[str, str]] = ()) -> None:
        """``environment`` holds the process's variables, names and values."""
        secrets = [secret for name, value in environment for secret in _secrets(name, value)]
        # Before the lines of a key: they are many, and would push others out.
        lines = [line for secret in secrets for line in secret.splitlines()]
        known = dict.fromkeys(text for text in secrets + lines if len(text) >= MIN_SECRET)
        # Longest first, so that none is masked in part by another that it begins with.
        self._known = sorted(list(known)[:MAX_SECRETS], key=len, reverse=True)

    def mask(self, text: str) -> str:
        """The text without secrets, cut to `MAX_CHARS` characters.

        A secret that the environment names is masked before the cut, so that
        no half of it is left.

        >>> Redactor([("DB_PASSWORD", "hunter2")]).mask("login hunter2 at pg://bob:x@db/")
        'login [redacted] at pg://[redacted]@db/'
        """
        for secret in self._known:
            text = text.replace(secret, MASK)
        text = text[:MAX_CHARS]
        for form, replacement in _FORMS:
            text = form.sub(replacement, text)
        return text

    def mask_arguments(self, arguments: Sequence[str]) -> list[str]:
        """A command line without secrets: also ``--password x``, whatever x is.

        >>> Redactor().mask_arguments(["db", "--password", "x", "--api-key=a b", "-v"])
        ['db', '--password', '[redacted]', '--api-key=[redacted]', '-v']
        """
        masked = []
        value_next = False
        for argument in arguments:
            name, equals, _ = argument.partition("=")
            option = _OPTION.fullmatch(name) is not None and is_secret_name(name)
            if value_next:
                masked.append(MASK)
            elif option and equals:
                masked.append(f"{self.mask(name)}={MASK}")
            else:
                masked.append(self.mask(argument))
            value_next = option and not equals
        return masked


def _secrets(name: str, value: str) -> Iterable[str]:
    if is_secret_name(name) and not _PLACE.search(name):
        yield value
    yield from _URL_PASSWORD.findall(value)
