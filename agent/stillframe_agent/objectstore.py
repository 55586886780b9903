"""Object store: a file of ours, copied to an S3-compatible store and verified there.

Flows in: a key, a file and what the manifest says of it.  Flows out: nothing;
a call that returns has its copy in the store.  ``obstore`` speaks the
protocol; it is imported here alone, and this module only where uploads are
wanted: together 5 MiB.

Verified means: what we sent has the manifest's SHA-256, the store checked the
SHA-256 of each request we sent, and its listing shows the object with the
size and the ETag that it acknowledged.  A listing needs ``s3:ListBucket``,
which shows names; reading objects, which a node has no business to do, is
never needed.
"""

import configparser
import hashlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, Self

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from stillframe.errors import PermanentError, TemporaryError

if TYPE_CHECKING:
    from obstore.store import S3Config, S3Credential

PART_BYTES: Final = 8 << 20
"""Of a multipart upload: S3 takes at most 10,000, so a file may have 80 GB."""
_PARTS_AT_ONCE: Final = 2
_READ_BYTES: Final = 1 << 20
_CREDENTIALS_SECONDS: Final = 60
"""How long credentials that were read from a file are used before it is read again."""
_REQUEST_SECONDS: Final = 120
"""For one part, over a slow line too."""
_MAX_ERROR: Final = 300
_CODE: Final = re.compile(r"<Code>([A-Za-z0-9.]{1,64})</Code>")
_REASON: Final = re.compile(r"<Message>([^<]{1,200})</Message>")


class ObjectStore:
    """One bucket and prefix; connects when first used."""

    def __init__(self, url: str, endpoint: str, region: str, directory: Path) -> None:
        """``url`` is ``s3://bucket/prefix``; an empty endpoint is AWS.

        ``directory`` may hold ``credentials`` (an AWS shared credentials file),
        read again while we run, and ``ca.crt``.  Without the former, AWS's usual
        sources count: the environment, a web identity, the instance's role.
        """
        self.url = url.rstrip("/")
        self._endpoint = endpoint
        self._region = region
        self._directory = directory
        self._store: S3Store | None = None

    async def put(self, key: str, source: Path | bytes, size: int, sha256: str) -> None:
        """Copy a file, or ``size`` bytes, to ``key`` and verify them.

        Raises `TemporaryError`, or `PermanentError` when the source is not what
        ``sha256`` (lower-case hex) says, or cannot be read.
        """
        store = self._connect()
        with _Reader(source) as reader:
            try:
                result = await obstore.put_async(
                    store,
                    key,
                    b"".join(reader) if size <= PART_BYTES else reader,
                    chunk_size=PART_BYTES,
                    max_concurrency=_PARTS_AT_ONCE,
                )
                listed = await self._listed(store, key)
            except (BaseError, FileNotFoundError, ValueError) as error:
                raise self._converted(error) from error
        if (reader.bytes, reader.sha256) != (size, sha256):
            raise PermanentError(f"the file for {key} is not what was written: its SHA-256 changed")
        if listed != (size, result["e_tag"]):
            raise TemporaryError(
                f"{self.url}/{key} has {listed} as size and ETag, not {(size, result['e_tag'])}"
            )

    async def _listed(self, store: S3Store, key: str) -> tuple[int, str | None] | None:
        """Size and ETag of an object as the listing of its directory shows them."""
        directory, _, _ = key.rpartition("/")
        async for batch in obstore.list(store, prefix=directory):
            for found in batch:
                if found["path"] == key:
                    return found["size"], found["e_tag"]
        return None

    def _connect(self) -> S3Store:
        """The store; raises `TemporaryError` when our credentials' directory makes no sense."""
        if self._store is None:
            config: S3Config = {"checksum_algorithm": "SHA256"}
            if self._endpoint:
                config["endpoint"] = self._endpoint
            if self._region:
                config["region"] = self._region
            credentials = self._directory / "credentials"
            certificate = self._directory / "ca.crt"
            try:
                self._store = S3Store.from_url(
                    self.url,
                    config=config,
                    client_options={
                        "allow_http": self._endpoint.startswith("http://"),
                        "timeout": timedelta(seconds=_REQUEST_SECONDS),
                        **(
                            {"root_certificate": certificate.read_bytes()}
                            if certificate.exists()
                            else {}
                        ),
                    },
                    # Our own pauses are longer; these only bridge a hiccup.
                    retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=10)},
                    credential_provider=(
                        (lambda: read_credentials(credentials)) if credentials.exists() else None
                    ),
                )
            except (OSError, ValueError) as error:
                raise TemporaryError(f"cannot use {self.url}: {_line(str(error))}") from error
        return self._store

    def _converted(self, error: Exception) -> TemporaryError:
        """What the store said: never its whole answer, which repeats our signature."""
        self._store = None  # what it was made of may have been corrected
        text = str(error)
        code, reason = _CODE.search(text), _REASON.search(text)
        said = f"{code[1]}: {reason[1]}" if code and reason else _line(text)
        if code and code[1] == "NoSuchBucket":
            return TemporaryError(
                f"there is no bucket of {self.url}: {said}",
                remedy="Create it, or correct --upload-url or --upload-endpoint.",
            )
        if isinstance(error, (PermissionDeniedError, UnauthenticatedError)):
            return TemporaryError(
                f"{self.url} refuses our credentials: {said}",
                remedy=f"Correct {self._directory}/credentials, or let them s3:PutObject, "
                "s3:AbortMultipartUpload and s3:ListBucket.",
            )
        return TemporaryError(f"{self.url} does not take files: {said}")


def read_credentials(path: Path) -> "S3Credential":
    """Profile ``default`` of an AWS shared credentials file.

    Raises `ValueError` that names what is missing, and no value.
    """
    parser = configparser.RawConfigParser(default_section="")
    try:
        parser.read_string(path.read_text())
        profile = parser["default"]
        key, secret = profile["aws_access_key_id"], profile["aws_secret_access_key"]
    except (OSError, KeyError, UnicodeError) as error:
        raise ValueError(f"{path}: {type(error).__name__}: {error}") from None
    except configparser.Error:
        raise ValueError(f"{path} is no AWS shared credentials file") from None
    return {
        "access_key_id": key,
        "secret_access_key": secret,
        "token": profile.get("aws_session_token"),
        "expires_at": datetime.now(UTC) + timedelta(seconds=_CREDENTIALS_SECONDS),
    }


class _Reader(Iterator[bytes]):
    """Something in pieces, hashed on the way."""

    def __init__(self, source: Path | bytes) -> None:
        self._source = source
        self._digest = hashlib.sha256()
        self.bytes = 0

    def __enter__(self) -> Self:
        try:
            self._file: IO[bytes] = (
                BytesIO(self._source)
                if isinstance(self._source, bytes)
                else self._source.open("rb")
            )
        except OSError as error:
            raise PermanentError(f"cannot read a file of the sample: {error}") from error
        return self

    def __exit__(self, *_error: object) -> None:
        self._file.close()

    def __next__(self) -> bytes:
        try:
            piece = self._file.read(_READ_BYTES)
        except OSError as error:
            raise PermanentError(f"cannot read a file of the sample: {error}") from error
        if not piece:
            raise StopIteration
        self._digest.update(piece)
        self.bytes += len(piece)
        return piece

    @property
    def sha256(self) -> str:
        """Of what was read so far."""
        return self._digest.hexdigest()


def _line(text: str) -> str:
    """The first line of a foreign message, without an answer's body."""
    text = text.partition("\n")[0].partition("<?xml")[0]
    return "".join(char if char.isprintable() else " " for char in text)[:_MAX_ERROR]
