"""Text from a pod, made safe to print, log and store; and the names of files in it."""

from pathlib import PurePath

from stillframe.text import LINE, LONG, escape

__all__ = ["LINE", "LONG", "base_name", "escape"]


def base_name(path: str) -> str:
    """The last part of a path.

    >>> base_name("/usr/lib/libc.so.6"), base_name("[vdso]")
    ('libc.so.6', '[vdso]')
    """
    return PurePath(path).name
