"""A node as the agent sees it, of real parts: mounts, cgroups, processes, locks.

A mount namespace stands for the host's; the kubelet's part (volume, marker,
log directory, bundle) is done by `Pod`; of a pod without our volume, by
`ImagePod`.  The agent runs as in its pod: read-only slave copies of the pods'
and the sandboxes' directories, uid 0, gid 65532, no new privileges, two
capabilities.  Only containers' own namespaces are left out.
"""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Self, TypeVar

from stillframe_agent.manifest import Manifest, decode
from stillframe_agent.mounts import volume_in, volume_of

from stillframe import names

ROOT = Path(__file__).parents[3]
LIBRARY = ROOT / "build/preload/x86_64/libstillframe.so"
CRASHERS = ROOT / "build/crashers"
SECONDS = 20.0
"""Bound of every wait."""
AGENT_GROUP = 65532
T = TypeVar("T")
_FLOCK = struct.Struct("hhqqi4x")
_KEEP_CAPABILITIES = "-all,+sys_ptrace,+dac_read_search"


def wait_until(what: str, probe: Callable[[], T], seconds: float = SECONDS) -> T:
    """The first true answer of ``probe``."""
    end = time.monotonic() + seconds
    while not (answer := probe()):
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds} s")
        time.sleep(0.002)
    return answer


class Node:
    """One node; a context manager that leaves nothing behind."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.pods = directory / "pods"
        self.bundles = directory / "bundles"
        self.logs = directory / "logs"
        self.state = directory / "state"
        self.sandboxes = directory / "sandboxes"
        self.pod_view = directory / "agent-pods"
        self.sandbox_view = directory / "agent-sandboxes"
        views = (self.pod_view, self.sandbox_view)
        for path in (self.pods, self.bundles, self.logs, self.state, self.sandboxes, *views):
            path.mkdir()
        self.cgroups = _cgroup_root() / f"stillframe-test-{uuid.uuid4().hex[:8]}"
        self._init = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sleep", "infinity"]
        )
        self._processes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        mine = Path("/proc/self/ns/mnt").readlink()
        wait_until(
            "a mount namespace",
            lambda: Path(f"/proc/{self._init.pid}/ns/mnt").readlink() != mine,
        )
        for path in (self.pods, self.sandboxes):
            self.run("mount", "-t", "tmpfs", "-o", "mode=0750", path.name, path)
            self.run("mount", "--make-rshared", path)
        self.cgroups.mkdir()
        return self

    def __exit__(self, *_error: object) -> None:
        for process in [*self._processes, self._init]:
            process.kill()
            process.wait()
        for directory, _, _ in os.walk(self.cgroups, topdown=False):
            wait_until(f"an empty {directory}", lambda path=directory: _rmdir(Path(path)))

    @property
    def root(self) -> Path:
        """The host's root, as seen from the test's mount namespace."""
        return Path(f"/proc/{self._init.pid}/root")

    def seen(self, path: Path) -> Path:
        """A path of the host as the test can reach it, with what is mounted there."""
        return self.root / path.relative_to("/")

    def command(self, *command: object) -> list[str]:
        return ["nsenter", "-t", str(self._init.pid), "-m", *(str(part) for part in command)]

    def run(self, *command: object) -> subprocess.CompletedProcess[str]:
        """Run a command on the node to its end."""
        return subprocess.run(
            self.command(*command), check=True, capture_output=True, text=True, timeout=SECONDS
        )

    def start(self, *command: object, **options: object) -> subprocess.Popen[str]:
        """Start a process on the node; it ends with the node at the latest."""
        process: subprocess.Popen[str] = subprocess.Popen(
            self.command(*command), text=True, **options
        )  # type: ignore[call-overload]
        self._processes.append(process)
        return process


def _cgroup_root() -> Path:
    """A hierarchy we may make groups in: cgroup v2, or the pids controller of v1."""
    candidates = (Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup"))
    return next(path for path in candidates if (path / "cgroup.procs").exists())


def _rmdir(path: Path) -> bool:
    try:
        path.rmdir()
    except OSError:
        return False
    return True


@dataclass
class Pod:
    """What the kubelet and the runtime make for one pod with one container."""

    node: Node
    namespace: str = "shop"
    name: str = "cart-7d9f"
    container: str = "app"
    uid: str = field(default_factory=lambda: str(uuid.uuid4()))
    container_id: str = field(default_factory=lambda: uuid.uuid4().hex * 2)
    env: dict[str, str] = field(default_factory=dict)
    """Of the container, as the kubelet and the runtime wrote it into the bundle."""

    def __post_init__(self) -> None:
        self._volume = volume_of(self.uid, self.node.pods)

    @property
    def directory(self) -> Path:
        """The snapshot directory, reachable from the test."""
        return self.node.seen(self._volume.path)

    @property
    def cgroup(self) -> Path:
        return self.node.cgroups / f"kubepods/burstable/pod{self.uid}/{self.container_id}"

    def set_up(self, size: str = "64m", marker: bool = True) -> Self:
        """Mount the volume, and only then make the marker: the kubelet's order."""
        volume = self._volume
        self.node.run("mkdir", "-p", volume.path)
        self.node.run("mount", "-t", "tmpfs", "-o", f"size={size},mode=1777", "tmpfs", volume.path)
        if marker:
            self.mark()
        self.cgroup.mkdir(parents=True)
        (self.node.logs / f"{self.namespace}_{self.name}_{self.uid}" / self.container).mkdir(
            parents=True
        )
        self.write_bundle(self.container_id, self.uid)
        return self

    def mark(self) -> None:
        self.node.run("mkdir", "-p", self._volume.ready)
        self.node.run("touch", self._volume.ready / "ready")

    def write_bundle(self, container_id: str, uid: str, **config: object) -> None:
        bundle = self.node.bundles / container_id
        bundle.mkdir()
        annotations = {
            "io.kubernetes.cri.sandbox-uid": uid,
            "io.kubernetes.cri.sandbox-namespace": self.namespace,
            "io.kubernetes.cri.sandbox-name": self.name,
            "io.kubernetes.cri.container-name": self.container,
        }
        process = {"env": [f"{name}={value}" for name, value in self.env.items()]}
        (bundle / "config.json").write_text(
            json.dumps({"annotations": annotations, "process": process, **config})
        )

    def tear_down(self) -> bool:
        """Remove the marker, then unmount, once; whether the unmount succeeded at once."""
        done = subprocess.run(
            self.node.command(
                "sh", "-c", 'rm -r "$1" && umount "$2"', "-", self._volume.ready, self._volume.path
            ),
            check=False,
            capture_output=True,
            text=True,
        )
        return done.returncode == 0

    def unmount(self) -> bool:
        """What the kubelet repeats when the first `umount` found the volume busy."""
        command = self.node.command("umount", self._volume.path)
        return subprocess.run(command, check=False, capture_output=True).returncode == 0

    def crash(
        self, way: str = "null_read", *arguments: object, init: bool = False, **variables: object
    ) -> subprocess.Popen[str]:
        """Start a crasher in the pod's cgroup with the library preloaded."""
        return self.start(
            CRASHERS / "glibc/crasher", way, *arguments, init=init, preload=True, **variables
        )

    def start(
        self,
        *command: object,
        init: bool = False,
        preload: bool = False,
        stderr: int | IO[str] = subprocess.DEVNULL,
        **variables: object,
    ) -> subprocess.Popen[str]:
        """Start a process in the pod's cgroup."""
        environment = {names.ENV_DIR: self._volume.path, **variables}
        if preload:
            environment[names.ENV_PRELOAD] = LIBRARY
        namespaces = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc") if init else ()
        return self.node.start(
            "sh",
            "-c",
            'echo $$ > "$0" && exec "$@"',
            self.cgroup / "cgroup.procs",
            *namespaces,
            "env",
            *(f"{key}={value}" for key, value in environment.items()),
            *command,
            stdout=subprocess.PIPE,
            stderr=stderr,
            cwd="/",
        )

    def names(self) -> list[str]:
        """What is in the snapshot directory."""
        return sorted(path.name for path in self.directory.iterdir())


@dataclass
class ImagePod(Pod):
    """A pod that is not injected: its image has the library, and the runtime its /dev/shm."""

    sandbox_id: str = field(default_factory=lambda: uuid.uuid4().hex * 2)

    def __post_init__(self) -> None:
        self.shm = self.node.sandboxes / self.sandbox_id / "shm"
        self._volume = volume_in(self.shm, self.uid)
        self.env = {names.ENV_PRELOAD: "/opt/libstillframe.so", **self.env}

    @property
    def seen_shm(self) -> Path:
        """The sandbox's /dev/shm, reachable from the test."""
        return self.node.seen(self.shm)

    def set_up(self, size: str = "64m", marker: bool = True) -> Self:
        """What the runtime makes: first the sandbox, then (with ``marker``) the container."""
        self.node.run("mkdir", "-p", self.shm)
        options = f"nosuid,nodev,noexec,mode=1777,size={size}"
        self.node.run("mount", "-t", "tmpfs", "-o", options, "shm", self.shm)
        self.write_bundle(self.sandbox_id, self.uid, process={"env": ["PATH=/bin"]})
        self.cgroup.mkdir(parents=True)
        (self.node.logs / f"{self.namespace}_{self.name}_{self.uid}" / self.container).mkdir(
            parents=True
        )
        if marker:
            self.mark()
        return self

    def mark(self) -> None:
        """Make the container, or its next life."""
        bundle = self.node.bundles / self.container_id
        shutil.rmtree(bundle, ignore_errors=True)
        shm = {"destination": "/dev/shm", "type": "bind", "source": str(self.shm)}
        self.write_bundle(self.container_id, self.uid, mounts=[shm])

    def tear_down(self) -> bool:
        """What both containerd and CRI-O do; whether it succeeded at once."""
        command = self.node.command("umount", "--lazy", self.shm)
        return subprocess.run(command, check=False, capture_output=True).returncode == 0


class Agent:
    """The agent's process, with the privileges of its pod."""

    def __init__(
        self,
        node: Node,
        operator: str,
        credentials: Path,
        program: Sequence[str] = ("-m", "stillframe_agent"),
        **settings: object,
    ) -> None:
        """``program`` is what Python runs."""
        self.node = node
        self.log = node.directory / f"agent-{uuid.uuid4().hex[:6]}.log"
        environment = {
            "NODE_NAME": "node-1",
            "OPERATOR_ADDRESS": operator,
            "CA_FILE": credentials / "ca.crt",
            "TOKEN_FILE": credentials / "token",
            "PODS_DIR": node.pod_view,
            "SANDBOXES_DIR": node.sandbox_view,
            "BUNDLES_DIR": node.bundles,
            "LOG_DIR": node.logs,
            "STATE_DIR": node.state,
            "LISTEN": "127.0.0.1:0",
            "ARTIFACTS_FREE_BYTES": 0,
            "SYNC_SECONDS": 0.2,
            "LOG_LEVEL": "debug",
            **{key.upper(): value for key, value in settings.items()},
        }
        view = (
            "for _ in 1 2; do "
            'mount --rbind "$1" "$2" && mount --make-rslave "$2" && '
            'mount -o remount,bind,ro "$2" && shift 2 || exit; '
            'done; exec "$@"'
        )
        with self.log.open("w") as log:
            self.process = node.start(
                *("unshare", "--mount", "--propagation", "unchanged"),
                *("sh", "-c", view, "-", node.pods, node.pod_view),
                *(node.sandboxes, node.sandbox_view),
                *("setpriv", "--regid", AGENT_GROUP, "--clear-groups", "--no-new-privs"),
                *("--bounding-set", _KEEP_CAPABILITIES, "--inh-caps", "-all"),
                *(sys.executable, *program, "run"),
                stderr=log,
                cwd="/",
                env={
                    "PATH": os.environ["PATH"],
                    "PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'agent'}",
                    **{f"STILLFRAME_AGENT_{key}": str(value) for key, value in environment.items()},
                },
            )

    @property
    def pid(self) -> int:
        """The agent itself: every program before it replaced itself by the next."""
        return self.process.pid

    def lines(self, message: str = "") -> list[dict[str, object]]:
        """Log lines so far, or those with this message."""
        lines = []
        for text in self.log.read_text().splitlines(keepends=True):
            if text.startswith("{") and text.endswith("\n"):
                lines.append(json.loads(text))
        return [line for line in lines if message in ("", line["message"])]

    def wait_ready(self) -> Self:
        self.wait_logged("ready")
        return self

    def wait_logged(self, message: str) -> dict[str, object]:
        def logged() -> list[dict[str, object]]:
            if self.process.poll() is not None:
                raise RuntimeError(f"the agent ended: {self.log.read_text()[-2000:]}")
            return self.lines(message)

        return wait_until(f"{message!r} in the log", logged)[0]

    def watching(self, pod: Pod) -> bool:
        """Whether the agent's beacon is in the pod's directory."""
        try:
            return locked(pod.directory, 0, os.O_DIRECTORY)
        except FileNotFoundError:  # the agent makes that of an image
            return False

    def wait_watching(self, pod: Pod) -> None:
        wait_until("the beacon", lambda: self.watching(pod))

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of one of the agent's pages."""
        port = self.wait_logged("listening")["port"]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metric(self, sample: str) -> float:
        """One sample of /metrics by its full name with labels; 0 when there is none yet."""
        _, text = self.get("/metrics")
        for line in text.splitlines():
            name, _, value = line.rpartition(" ")
            if name == f"stillframe_agent_{sample}":
                return float(value)
        return 0.0

    def wait_metric(self, sample: str, at_least: float = 1) -> None:
        wait_until(f"{sample} >= {at_least}", lambda: self.metric(sample) >= at_least)

    def switches(self) -> int:
        """Context switches of all its threads so far."""
        return sum(
            int(line.split()[1])
            for status in Path(f"/proc/{self.pid}/task").glob("*/status")
            for line in status.read_text().splitlines()
            if "ctxt_switches" in line
        )

    def memory_mib(self, what: str) -> float:
        """``VmRSS`` or ``VmHWM``, without that of its children."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return round(int(status.partition(f"{what}:")[2].split()[0]) / 1024, 1)

    def manifests(self) -> list[Manifest]:
        """Of the samples on disk right now."""
        found = []
        artifacts = self.node.seen(self.node.state) / names.ARTIFACTS_DIR
        for path in artifacts.glob("[0-9a-f]*/manifest.json"):
            # It may go, and the first one of a sample is not written at once.
            with contextlib.suppress(FileNotFoundError, ValueError):
                found.append(decode(path.read_bytes()))
        return found

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=SECONDS)

    def pause_at_claim(self, pod: Pod) -> Path:
        """Stop the agent between its claim of a process of ``pod`` and the release."""

        def claimed() -> Path | None:
            with contextlib.suppress(FileNotFoundError):
                for name in pod.names():
                    path = pod.directory / name
                    if not name.startswith(".") and locked(path, names.LOCK_CLAIM):
                        self.process.send_signal(signal.SIGSTOP)
                        return path
            return None

        end = time.monotonic() + SECONDS
        while (path := claimed()) is None:  # no pause: the hold may last 5 ms
            assert time.monotonic() < end, "no claim"
        return path


def locked(path: Path, byte: int, flags: int = 0) -> bool:
    """Whether somebody else holds a lock on ``byte`` of ``path``."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags)
    try:
        query = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
        answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, query)
    finally:
        os.close(fd)
    kind: int = _FLOCK.unpack(answer)[0]
    return kind != fcntl.F_UNLCK


@contextlib.contextmanager
def node_in(directory: Path) -> Iterator[Node]:
    """A node whose files are in ``directory``; they go, too."""
    with Node(directory) as node:
        yield node
    shutil.rmtree(directory)
