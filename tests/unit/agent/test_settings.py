"""The settings, the command line, and the page that promises both.

Covers: defaults, bad values and the exit code, agent/README.md, what the
process imports.
"""

import dataclasses
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from stillframe_agent.__main__ import main
from stillframe_agent.settings import ENV_PREFIX, Settings, parse_address

from stillframe import __version__
from stillframe.capture.facts import FactsPolicy
from stillframe.errors import PermanentError

README = Path(__file__).parents[3] / "agent/README.md"
REQUIRED = {"node_name": "node-1", "operator_address": "operator.stillframe.svc:9443"}


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """The command line sets it, for the whole process."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_the_server_name_is_the_addresss_host_unless_set() -> None:
    assert Settings(**REQUIRED).server_name == "operator.stillframe.svc"
    assert Settings(**REQUIRED, operator_server_name="x").server_name == "x"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("node_name", ""),
        ("node_name", "a/b"),
        ("node_name", "Node"),
        ("operator_address", "operator"),
        ("operator_address", ":9443"),
        ("operator_address", "operator:http"),
        ("listen", "0.0.0.0:65536"),
        ("captures", 0),
        ("analyses", 0),
        ("hold_seconds", 0.0),
        ("sync_seconds", -1.0),
        ("max_snapshot_bytes", 0),
        ("artifacts_bytes", 0),
        ("artifacts_age_seconds", 0.0),
        ("artifacts_free_bytes", -1),
        ("spool_bytes", 0),
        ("spool_items", 0),
        ("facts", "everything"),
        ("facts", ""),
        ("facts_env_allow", "*"),
        ("retry_seconds", 0.0),
        ("bundle_bytes", -1),
        ("upload_url", "https://bucket.example.org"),
        ("upload_url", "s3://a/../b?c"),
        ("upload_url", "s3://key:secret@bucket"),
        ("upload_url", "s3://bucket/it's"),
        ("upload_url", "s3://bucket/" + "x" * 403),
        ("upload_endpoint", "minio:9000"),
        ("log_level", "loud"),
    ],
)
def test_a_bad_setting_is_named(name: str, value: object) -> None:
    with pytest.raises(PermanentError, match=name):
        Settings(**(REQUIRED | {name: value}))


def test_an_address_may_be_of_ip_version_6() -> None:
    assert parse_address("[::1]:0") == ("::1", 0)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run"], "--node-name"),
        (["run", "--node-name", "n", "--operator-address", "o"], "operator_address"),
        (["run", "--node-name", "n", "--operator-address", "o:1", "--captures", "x"], "--captures"),
        (["artifacts", "--listen", "8081"], "--listen"),
        (["fly"], "fly"),
    ],
)
def test_bad_settings_end_with_exit_code_2(arguments: list[str], says: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert says in result.output


def test_version_and_help() -> None:
    assert CliRunner().invoke(main, ["--version"]).output == f"stillframe-agent {__version__}\n"
    help_text = CliRunner().invoke(main, ["run", "--help"]).output
    for field in dataclasses.fields(Settings):
        assert f"--{field.name.replace('_', '-')}" in help_text


def test_the_readme_lists_every_variable_with_its_default() -> None:
    rows = dict(re.findall(rf"^\| `{ENV_PREFIX}(\w+)` \| (.+?) \|", README.read_text(), re.M))
    assert set(rows) == {field.name.upper() for field in dataclasses.fields(Settings)}
    for field in dataclasses.fields(Settings):
        cell = rows[field.name.upper()]
        if field.default is dataclasses.MISSING:
            assert cell == "required"
        elif field.default != "":
            documented = cell.strip("`")
            if isinstance(field.default, bool):
                assert documented == str(field.default).lower(), field.name
            else:
                assert type(field.default)(documented) == field.default, field.name


def test_the_agent_loads_nothing_it_must_not() -> None:
    """Memory and attack surface: an API client or a debugger's library would show here."""
    script = "import sys, stillframe_agent.__main__; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert loaded & {"kopf", "kubernetes", "aiohttp", "drgn", "pyseccomp", "obstore"} == set()


def test_the_facts_policy_is_that_of_the_settings() -> None:
    assert Settings(**REQUIRED).facts_policy == FactsPolicy()
    policy = Settings(**REQUIRED, facts="kernel", facts_env_allow="APP_*").facts_policy
    assert policy == FactsPolicy.parse("kernel", "APP_*")
