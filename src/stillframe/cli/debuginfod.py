"""Debug files from a debuginfod server, by build ID: ``--debuginfod``, never by default.

A request tells the server which builds crash here, so it takes an option each
time; the agent has none.  Protocol: debuginfod(8), ``GET
/buildid/<hex>/debuginfo`` and ``/executable``.  What comes is bounded in size and
checked for its build ID; the sandboxed child parses it.
"""

import contextlib
import http.client
import os
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO, Final, Literal
from urllib.parse import urlsplit

from stillframe import __version__
from stillframe.cli.debug_files import file_build_id
from stillframe.errors import PermanentError, TemporaryError

Kind = Literal["debuginfo", "executable"]

MAX_BYTES: Final = 2 << 30
"""Of one file; arbitrary: the debug information of a browser is smaller."""
TIMEOUT_SECONDS: Final = 30.0
"""Without a byte from the server."""
_CHUNK: Final = 1 << 20


class Server:
    """A debuginfod server, and the files we have of it."""

    def __init__(self, url: str, cache: Path, max_bytes: int = MAX_BYTES) -> None:
        """Raises `PermanentError` for what is no http(s) URL."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise PermanentError(
                f"{url!r} is no URL of a debuginfod server",
                "Give one such as https://debuginfod.example.org",
            )
        self._url = url.rstrip("/")
        self._cache = cache
        self._max_bytes = max_bytes
        self._opener = _opener()

    def fetch(self, build_id: bytes, kind: Kind) -> Path | None:
        """The file, from the cache or the server; ``None`` where the server has none.

        Raises `TemporaryError` when the server cannot be asked at all, and `PermanentError`
        for a file that it cannot or must not give us.
        """
        kept = self._cache / build_id.hex() / kind
        if file_build_id(kept) == build_id:
            return kept
        url = f"{self._url}/buildid/{build_id.hex()}/{kind}"
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=kept.parent, delete=False) as new:
            try:
                if not self._download(url, new):
                    return None
                new.flush()
                if file_build_id(Path(new.name)) != build_id:
                    raise PermanentError(f"{url}: the server sent another file")
                Path(new.name).rename(kept)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    Path(new.name).unlink()
        return kept

    def _download(self, url: str, target: IO[bytes]) -> bool:
        """Whether the server has it."""
        size = 0
        try:
            with self._opener.open(url, timeout=TIMEOUT_SECONDS) as answer:
                while chunk := answer.read(_CHUNK):
                    size += len(chunk)
                    if size > self._max_bytes:
                        raise PermanentError(f"{url}: larger than {self._max_bytes} bytes")
                    target.write(chunk)
                if answer.headers.get("Content-Length", str(size)) != str(size):
                    raise TemporaryError(f"{url}: the answer was cut after {size} bytes")
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return False
            raise PermanentError(f"{url}: {error.code} {error.reason}") from error
        except (OSError, http.client.HTTPException) as error:  # URLError and timeouts among them
            raise TemporaryError(
                f"{self._url} cannot be asked: {getattr(error, 'reason', error)}",
                remedy=f"Try it with: curl {self._url}/metrics",
            ) from error
        return True


def cache_directory() -> Path:
    """Where fetched files are kept: the XDG cache directory."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "stillframe" / "debuginfod"


def _opener() -> urllib.request.OpenerDirector:
    """For http and https; the usual one would follow a redirect to ftp."""
    opener = urllib.request.OpenerDirector()
    opener.addheaders = [("User-Agent", f"stillframe/{__version__}")]
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener
