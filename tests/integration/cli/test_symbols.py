"""Symbols that come later: ``--debug-dir`` and ``--debuginfod``, against a real server.

Covers: where debug files are found, what else is, what is not, what is said about
it, what the cache keeps, and servers that lie.
"""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen

import msgspec
import pytest

from stillframe.analysis import Analysis
from stillframe.cli.debug_files import file_build_id
from stillframe.cli.debuginfod import Server
from stillframe.errors import PermanentError, TemporaryError
from tests.integration.capture.crash import ROOT, crash

SOURCE = """
static int price(int *table, int order) { return table[order] * 2; }
__attribute__((noinline)) int checkout(int *table, int order) { return price(table, order) + 1; }
int main(int argc, char **argv) { return checkout((int *)(argc - 1L), argc) + (argv == 0); }
"""
SECONDS = 30


class Release(NamedTuple):
    """A stripped program that crashed, and what its build kept."""

    core: Path
    app: Path
    debug: Path
    whole: Path

    @property
    def build_id(self) -> bytes:
        found = file_build_id(self.app)
        assert found is not None
        return found


def run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    place = tmp_path_factory.mktemp("release")
    whole, app, debug = place / "whole", place / "shop", place / "shop.debug"
    (place / "shop.c").write_text(SOURCE)
    run("gcc", "-g", "-O2", "-o", whole, place / "shop.c")
    run("objcopy", "--only-keep-debug", whole, debug)
    run("objcopy", "--strip-all", whole, app)
    crash(place, app).wait()
    (core,) = place.glob("*.core")
    return Release(core, app, debug, whole)


def analyze(
    *arguments: str | Path, cache: Path | None = None
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "stillframe.cli", "analyze", *map(str, arguments)],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT / "src"),
            **({"XDG_CACHE_HOME": str(cache)} if cache else {}),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )


def answer(*arguments: str | Path) -> Analysis:
    return msgspec.json.decode(analyze("--json", *arguments).stdout, type=Analysis)


def keep(file: Path, place: Path) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(file.read_bytes())
    return place


def test_a_stripped_crash_has_module_offset_and_build_id(release: Release) -> None:
    text = analyze(release.core).stdout
    assert "#0   shop+0x" in text
    first = next(line for line in text.splitlines() if line.startswith("  #0"))
    below = text.splitlines()[text.splitlines().index(first) + 1]
    assert below.strip().startswith(f"{release.app}+0x")
    assert below.endswith(f"  build ID {release.build_id.hex()}")


def test_the_debug_file_gives_it_names_and_the_fingerprint_of_the_whole_build(
    release: Release, tmp_path: Path
) -> None:
    whole = answer(release.core, "--module", release.whole)
    before = answer(release.core)
    keep(release.debug, tmp_path / "deep" / "any-name")
    after = answer(release.core, "--debug-dir", tmp_path)
    assert after.stack[:2] == ["#0 price (shop.c:2) [inlined]", "#1 checkout (shop.c:3)"]
    assert after.fingerprint == whole.fingerprint != before.fingerprint
    assert after.soft_errors == []


@pytest.mark.parametrize("root", [".", "usr/lib/debug"])
def test_debug_files_are_found_where_distributions_put_them(
    release: Release, tmp_path: Path, root: str
) -> None:
    name = release.build_id.hex()
    keep(release.debug, tmp_path / root / ".build-id" / name[:2] / f"{name[2:]}.debug")
    assert answer(release.core, "--debug-dir", tmp_path).top_frame == "price (shop.c:2)"


def test_the_program_itself_may_be_there_too(release: Release, tmp_path: Path) -> None:
    """As on a laptop, which has none of the files of the pod."""
    (tmp_path / "root").mkdir()
    elsewhere = ["--root", tmp_path / "root"]
    assert next(m.status for m in answer(release.core, *elsewhere).modules) == "missing"
    keep(release.app, tmp_path / "files" / "image-layer" / "renamed")
    keep(release.debug, tmp_path / "files" / "shop.debug")
    found = answer(release.core, *elsewhere, "--debug-dir", tmp_path / "files")
    assert [frame.function for frame in found.threads[0].frames[:3]] == [
        "price",
        "checkout",
        "main",
    ]
    assert found.threads[0].frames[2].trust == "cfi"
    assert [m.status for m in found.modules if m.path == str(release.app)] == ["matched"]


def test_what_dwz_moved_to_another_file_is_found(release: Release, tmp_path: Path) -> None:
    first = keep(release.debug, tmp_path / "debug" / "first")
    second = keep(release.debug, tmp_path / "other")
    run("dwz", "-m", tmp_path / "debug" / "common", first, second)
    found = answer(release.core, "--debug-dir", tmp_path / "debug")
    assert (found.top_frame, found.soft_errors) == ("price (shop.c:2)", [])
    (tmp_path / "debug" / "common").unlink()
    missing = answer(release.core, "--debug-dir", tmp_path / "debug")
    assert "is missing" in missing.soft_errors[-1]
    assert missing.top_frame.startswith("shop+0x")


def test_a_directory_without_a_match_says_what_it_looked_for(
    release: Release, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "text").write_text("no ELF file")
    (tmp_path / "broken").write_bytes(b"\x7fELF" + bytes(60))
    keep(Path("/bin/true"), tmp_path / "other-program")
    done = analyze(release.core, "--debug-dir", tmp_path)
    assert done.stderr.splitlines()[:2] == [
        f"{tmp_path}: no file here has a build ID of this core. Looked for:",
        f"  {release.build_id.hex()}  {release.app}",
    ]
    assert done.returncode == 0
    assert "shop+0x" in done.stdout


def test_a_directory_that_does_not_exist_is_said(release: Release, tmp_path: Path) -> None:
    done = analyze(release.core, "--debug-dir", tmp_path / "nowhere")
    assert done.returncode == 2
    assert f"Directory '{tmp_path / 'nowhere'}' does not exist." in done.stderr


def test_variables_can_be_left_out(release: Release, tmp_path: Path) -> None:
    keep(release.debug, tmp_path / "debug")
    shown = ["--debug-dir", tmp_path]
    assert "  order: int = 1\n" in analyze(release.core, *shown).stdout
    assert "order: int" not in analyze(release.core, *shown, "--no-variables").stdout


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


@pytest.fixture
def debuginfod(release: Release, tmp_path: Path) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """The real server, on what a build farm would give it."""
    files = tmp_path / "farm"
    keep(release.debug, files / "shop.debug")
    keep(release.app, files / "shop")
    port = free_port()
    command = ["debuginfod", "-p", str(port), "-F", "-d", ":memory:", str(files)]
    url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + SECONDS
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            while not scanned(url, 2):
                assert server.poll() is None, "debuginfod does not run"
                assert time.monotonic() < deadline, "debuginfod does not scan"
                time.sleep(0.05)
            yield url, server
        finally:
            server.terminate()


def scanned(url: str, files: int) -> bool:
    try:
        with urlopen(f"{url}/metrics", timeout=SECONDS) as answer:
            return f'scanned_files_total{{source="file"}} {files}' in answer.read().decode()
    except OSError:
        return False


def test_a_real_debuginfod_gives_names_once_and_the_cache_later(
    release: Release, tmp_path: Path, debuginfod: tuple[str, "subprocess.Popen[bytes]"]
) -> None:
    url, server = debuginfod
    (tmp_path / "root").mkdir()
    options = [release.core, "--root", tmp_path / "root", "--debuginfod", url]
    done = analyze(*options, cache=tmp_path / "cache")
    assert "  #0   price (shop.c:2)  [inlined]\n" in done.stdout
    assert "  #2   main (shop.c:4)\n" in done.stdout
    kept = tmp_path / "cache/stillframe/debuginfod" / release.build_id.hex()
    assert sorted(path.name for path in kept.iterdir()) == ["debuginfo", "executable"]
    assert "debuginfod has no debuginfo of /usr/lib" in done.stderr
    server.terminate()
    server.wait()
    again = analyze(*options, cache=tmp_path / "cache")
    assert "  #0   price (shop.c:2)  [inlined]\n" in again.stdout
    assert f"{url} cannot be asked: " in again.stderr


def test_without_the_option_nobody_is_asked(
    release: Release,
    tmp_path: Path,
    debuginfod: tuple[str, "subprocess.Popen[bytes]"],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not even where the environment names a server, as distributions do."""
    monkeypatch.setenv("DEBUGINFOD_URLS", debuginfod[0])
    done = analyze(release.core, cache=tmp_path / "cache")
    assert "#0   shop+0x" in done.stdout
    assert not (tmp_path / "cache").exists()


class Liar(BaseHTTPRequestHandler):
    """Answers by what the path begins with."""

    def do_GET(self) -> None:
        kind = self.path.split("/")[1]
        self.send_response(302 if kind == "ftp" else 500 if kind == "broken" else 200)
        if kind == "ftp":
            self.send_header("Location", "ftp://127.0.0.1/file")
        if kind == "cut":
            self.send_header("Content-Length", "1000")
        self.end_headers()
        body = b"x" * 2000 if kind == "large" else Path("/bin/true").read_bytes()
        self.wfile.write(b"cut" if kind == "cut" else body)

    def log_message(self, *_: object) -> None:
        """Nothing on the test's standard error."""


@pytest.fixture
def liar() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Liar) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("path", "error", "said"),
    [
        ("other", PermanentError, "the server sent another file"),
        ("large", PermanentError, "larger than 1000 bytes"),
        ("broken", PermanentError, "500"),
        ("ftp", TemporaryError, "unknown url type: ftp"),
        ("cut", TemporaryError, "cut after 3 bytes"),
    ],
)
def test_a_server_that_lies_leaves_nothing_in_the_cache(
    liar: str, tmp_path: Path, path: str, error: type[Exception], said: str
) -> None:
    limit = 1000 if path == "large" else 1 << 20
    server = Server(f"{liar}/{path}", tmp_path / "cache", max_bytes=limit)
    with pytest.raises(error, match=said):
        server.fetch(b"\xab" * 20, "debuginfo")
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []


def test_a_server_that_is_not_there_is_said_with_a_command_to_try(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(TemporaryError) as caught:
        Server(url, tmp_path).fetch(b"\xab" * 20, "debuginfo")
    assert str(caught.value).endswith(f"\n  Try it with: curl {url}/metrics")


@pytest.mark.parametrize("url", ["file:///etc", "debuginfod.example.org", "ftp://x/", "http://"])
def test_what_is_no_url_of_a_server_is_refused(release: Release, url: str) -> None:
    done = analyze(release.core, "--debuginfod", url)
    assert done.returncode == 1
    assert f"{url!r} is no URL of a debuginfod server" in done.stderr
