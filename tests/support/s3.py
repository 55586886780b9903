"""A real S3 server for tests: one that keeps objects as files, so that a test can look at them."""

import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

BUILD = Path(__file__).parents[1] / "s3" / "build"
KEY = "test-key"
SECRET = "test-secret-that-no-log-may-show"
REGION = "eu-test-1"
SECONDS = 20.0


class S3Server:
    """A server on one address of this machine; a context manager."""

    def __init__(self, directory: Path, address: str = "127.0.0.1") -> None:
        self._address = address
        self.root = directory / "objects"
        self.credentials = directory / "credentials-of-clients"
        """A directory, as mounted from a Secret."""
        for path in (self.root, self.credentials):
            path.mkdir()
        self.write_credentials()
        self._binary = subprocess.run(
            [BUILD], check=True, stdout=subprocess.PIPE, text=True
        ).stdout.strip()
        self._port = _free_port(address)
        self._tls: tuple[Path, Path] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"http{'s' if self._tls else ''}://{self._address}:{self._port}"

    def use_tls(self, certificate: bytes, key: bytes) -> None:
        """From the next start on."""
        self._tls = (self.root.with_name("tls.crt"), self.root.with_name("tls.key"))
        for path, data in zip(self._tls, (certificate, key), strict=True):
            path.write_bytes(data)

    def make_bucket(self, name: str) -> Path:
        """The directory of a new, empty bucket."""
        bucket = self.root / name
        bucket.mkdir()
        return bucket

    def write_credentials(self, secret: str = SECRET) -> None:
        """A file that AWS's own tools could use, too."""
        (self.credentials / "credentials").write_text(
            f"[default]\naws_access_key_id = {KEY}\naws_secret_access_key = {secret}\n"
        )

    def start(self) -> Self:
        """Listen, on the same port as before."""
        self._process = subprocess.Popen(
            [
                *(self._binary, "--access", KEY, "--secret", SECRET, "--region", REGION),
                *("--port", f"{self._address}:{self._port}", "--quiet"),
                *(("--cert", self._tls[0], "--key", self._tls[1]) if self._tls else ()),
                *("posix", self.root),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        end = time.monotonic() + SECONDS
        while not self._listens():
            if self._process.poll() is not None or time.monotonic() > end:
                raise TimeoutError("the S3 server does not listen")
            time.sleep(0.01)
        return self

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = None

    def pause(self) -> None:
        """Answer nothing until `resume`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((self._address, self._port)) == 0


def _free_port(address: str) -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        port: int = probe.getsockname()[1]
        return port
