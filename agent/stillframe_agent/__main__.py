"""The command line: ``stillframe-agent run`` and ``stillframe-agent artifacts``."""

import asyncio
import dataclasses
import logging
import os
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, NoReturn, get_args, get_type_hints

import click

from stillframe import __version__, names
from stillframe.errors import PermanentError
from stillframe_agent import agent, logs, served
from stillframe_agent.settings import ENV_PREFIX, Settings, parse_address

_PATH: Final = click.Path(path_type=Path, readable=False)
"""May be missing or unreadable as yet: whoever uses it says so, and waits."""
_UMASK: Final = 0o027
"""Artifacts are for our group (the artifacts pod), and for nobody else."""


def _options(*wanted: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """One option, with its environment variable, per setting in ``wanted``."""
    hints = get_type_hints(Settings, include_extras=True)
    fields = {field.name: field for field in dataclasses.fields(Settings)}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for name in reversed(wanted):
            kind, help_text = get_args(hints[name])
            default = fields[name].default
            option = name.replace("_", "-")
            command = click.option(
                f"--{option}/--no-{option}" if kind is bool else f"--{option}",
                envvar=f"{ENV_PREFIX}{name.upper()}",
                type=_option_type(kind),
                help=help_text,
                show_envvar=True,
                show_default=True,
                **({"required": True} if default is dataclasses.MISSING else {"default": default}),
            )(command)
        return command

    return decorate


class _Member(click.Choice[str]):
    """A member of an enumeration, by its value."""

    def __init__(self, kind: type[StrEnum]) -> None:
        super().__init__([str(member) for member in kind])
        self._kind = kind

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> Any:
        return self._kind(super().convert(str(value), parameter, context))


def _option_type(kind: type) -> Any:
    if kind is Path:
        return _PATH
    return _Member(kind) if issubclass(kind, StrEnum) else kind


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="stillframe-agent %(version)s")
def main() -> None:
    """Sees crashes of this node's annotated pods, keeps the evidence, tells the operator."""
    os.umask(_UMASK)


@main.command("run")
@_options(*(field.name for field in dataclasses.fields(Settings)))
def run_agent(**options: Any) -> None:
    """Be the agent of this node until SIGTERM."""
    try:
        settings = Settings(**options)
    except PermanentError as error:
        raise click.UsageError(str(error)) from error
    logs.configure(settings.log_level)
    asyncio.run(agent.run(settings))
    _exit_now()


@main.command("artifacts")
@_options("listen")
@click.option(
    "--root",
    type=_PATH,
    default=Path(names.ARTIFACTS_MOUNT),
    show_default=True,
    help="Where the node's artifacts are mounted.",
)
def serve_artifacts(listen: str, root: Path) -> None:
    """Wait for SIGTERM; `kubectl cp` runs tar in this container."""
    try:
        address = parse_address(listen)
    except ValueError as error:
        raise click.UsageError(f"--listen: {error}") from error
    asyncio.run(served.run(address, root))


def _exit_now() -> NoReturn:
    """Exit without waiting for threads.

    A capture or an analysis that is still running is blocked in the kernel;
    what it holds (claims, children) ends with us, and its sample is resumed.
    """
    logging.shutdown()
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
