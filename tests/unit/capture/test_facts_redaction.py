"""What is masked, and what is left readable."""

import pytest

from stillframe.capture.facts.proc import command, environment
from stillframe.capture.facts.redaction import MASK, Redactor, is_secret_name
from stillframe.capture.facts.registry import ENVIRONMENT_ALLOW, FactsPolicy

PLAIN = Redactor()


@pytest.mark.parametrize(
    "name",
    [
        "GITHUB_TOKEN", "SECRET", "client_secret", "DB_PASSWORD", "PGPASSWORD", "MYSQL_PWD",
        "REDIS_PASS", "API_KEY", "apiKey", "AWS_SECRET_ACCESS_KEY", "AWS_CREDENTIALS",
        "PROXY_AUTH", "SESSION_COOKIE", "SENTRY_DSN", "AZURE_CONNECTION_STRING", "JWT",
    ],
)  # fmt: skip
def test_a_secrets_name_is_known(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", ["LANG", "PATH", "PWD", "OLDPWD", "HOSTNAME", "TZ", "LC_ALL"])
def test_a_harmless_name_is_no_secrets(name: str) -> None:
    assert not is_secret_name(name)


def test_no_default_name_is_a_secrets() -> None:
    assert not [name for name in ENVIRONMENT_ALLOW if is_secret_name(name)]


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("postgres://bob:pa@ss:w0rd@db/x", f"postgres://{MASK}@db/x"),
        ("https://ghtoken@github.com/a", f"https://{MASK}@github.com/a"),
        ("Authorization: Bearer abc.def", f"Authorization: Bearer {MASK}"),
        ('{"api_key": "k1", "user": "bob"}', f'{{"api_key": "{MASK}", "user": "bob"}}'),
        ("password=hunter2&user=bob", f"password={MASK}&user=bob"),
        ("DB_PASSWORD='hunter2'", f"DB_PASSWORD='{MASK}'"),
        ("sent Bearer 0123456789abcdef now", f"sent Bearer {MASK} now"),
        ("jwt eyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM0.c2lnbmF0dXJl.", f"jwt {MASK}."),
        ("ghp_0123456789abcdef0123", MASK),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END", MASK),
    ],
)
def test_what_looks_like_a_secret_is_masked(text: str, masked: str) -> None:
    assert PLAIN.mask(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "2024-01-01T00:00:00Z listening on http://0.0.0.0:8080/path",
        "assertion failed: a == b, at main.c:42",
        "GET /cart/77 200 user@example.org",
        "/usr/lib/x86_64-linux-gnu/libc.so.6",
    ],
)
def test_what_does_not_is_left_alone(text: str) -> None:
    assert PLAIN.mask(text) == text


def test_the_value_of_a_secret_variable_is_masked_wherever_it_shows() -> None:
    redactor = Redactor([("DB_PASSWORD", "correct horse"), ("DB", "pg://bob:battery@db/x")])
    assert redactor.mask("login with correct horse, then battery") == (
        f"login with {MASK}, then {MASK}"
    )


def test_each_line_of_a_secret_is_one() -> None:
    redactor = Redactor([("TLS_KEY", "first-line\nsecond-line")])
    assert redactor.mask("second-line") == MASK


def test_the_lines_of_many_keys_do_not_push_a_password_out() -> None:
    keys = [
        (f"K{n}_KEY", "\n".join(f"{n:02}-{m:02}-{'x' * 58}" for m in range(50))) for n in range(9)
    ]
    assert Redactor([*keys, ("DB_PASSWORD", "hunter22")]).mask("hunter22") == MASK


def test_a_longer_secret_is_masked_whole() -> None:
    redactor = Redactor([("A_TOKEN", "abcdef"), ("B_TOKEN", "abcdefgh")])
    assert redactor.mask("abcdefgh") == MASK


def test_short_values_and_places_of_secrets_are_not_masked_elsewhere() -> None:
    redactor = Redactor([("USE_AUTH", "true"), ("TLS_KEY_FILE", "/etc/tls/tls.key")])
    assert redactor.mask("true: /etc/tls/tls.key") == "true: /etc/tls/tls.key"


def test_a_redactor_does_not_print_its_secrets() -> None:
    assert "hunter2" not in repr(Redactor([("PASSWORD", "hunter2")]))


@pytest.mark.parametrize(
    ("arguments", "masked"),
    [
        (["db", "--password", "hunter2", "-v"], ["db", "--password", MASK, "-v"]),
        (["db", "--password", "-x9!"], ["db", "--password", MASK]),
        (["db", "--api-key=a b=c"], ["db", f"--api-key={MASK}"]),
        (["db", "--auth-token", "--password", "x"], ["db", "--auth-token", MASK, MASK]),
        (["env", "API_TOKEN=x", "app"], ["env", f"API_TOKEN={MASK}", "app"]),
        (["app", "--port", "80", "--name=x"], ["app", "--port", "80", "--name=x"]),
    ],
)
def test_secret_options_of_a_command_line_are_masked(
    arguments: list[str], masked: list[str]
) -> None:
    data = b"".join(argument.encode() + b"\0" for argument in arguments)
    assert list(command(data, PLAIN, complete=True).arguments) == masked


def test_the_name_of_a_secret_option_may_hold_a_known_secret() -> None:
    redactor = Redactor([("DB_PASSWORD", "hunter2")])
    assert redactor.mask_arguments(["--hunter2-key=x"]) == [f"--{MASK}-key={MASK}"]


def test_an_argument_that_is_cut_is_left_out() -> None:
    assert command(b"app\0hunt", PLAIN, complete=False).arguments == ("app",)


def test_values_are_kept_of_allowed_variables_only_and_never_of_secret_ones() -> None:
    policy = FactsPolicy.parse("all", "APP_*,API_TOKEN")
    data = (
        b"LANG=C\0HOME=/root\0APP_ENV=prod\0APP_SECRET=hunter2\0API_TOKEN=hunter2\0"
        b"APP_DB=pg://bob:x@db\0APP_NOTE=hunter2 it is\0not a variable\0"
    )
    redactor = Redactor([("API_TOKEN", "hunter2")])
    kept = environment(data, policy.allows, redactor, complete=True)
    assert kept.values == {
        "LANG": "C",
        "APP_ENV": "prod",
        "APP_DB": f"pg://{MASK}@db",
        "APP_NOTE": f"{MASK} it is",
    }
    assert kept.names == (
        "LANG", "HOME", "APP_ENV", "APP_SECRET", "API_TOKEN", "APP_DB", "APP_NOTE"
    )  # fmt: skip
    assert kept.count == 8
    assert kept.complete
