"""Our images, from the repository's Dockerfiles to the nodes' image stores.

No registry: the base image is made with mmdebstrap, the others with buildah, all of them go into
one store, and a node gets what it lacks of that. What an image depends on is hashed, and nothing
is built twice.
"""

import fcntl
import hashlib
import platform
import shutil
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.layout import HERE, cache_root
from tests.cluster.oci import BlobStore
from tests.cluster.shell import ClusterError, run

ROOT = HERE.parents[1]
CONTEXTS = ROOT / "build" / "images"
DOCKERFILES = HERE / "dockerfiles"
REGISTRY = "localhost/stillframe"
TAG = "dev"

BASE_SUITE = "bookworm"
BASE_PYTHON = "3.11"
"""The suite's, and so the version that wheels are downloaded for."""
BASE_PACKAGES = (
    "ca-certificates",
    "libseccomp2",
    "libstdc++6",
    "python3",
    "python3-venv",
    "tar",
    "usr-is-merged",
)
BASE_LEFT_OUT = ("share/doc", "share/man", "share/info", "share/locale", "lib/*/gconv")
"""Below /usr. Importing costs every node about 2 s per 100 MB."""

ANALYSIS = ("cxxfilt", "drgn", "pyelftools", "pyseccomp", "pystack", "rust-demangler")
"""Dependencies of the distribution that the operator never imports: 150 MB less on each node."""


@dataclass(frozen=True)
class Image:
    """One image: where its Dockerfile and context are; `context` must have been made before."""

    name: str
    dockerfile: Path
    context: Path
    architecture: str = ""
    """As in the image's configuration; empty: this machine's."""

    @property
    def reference(self) -> str:
        return f"{REGISTRY}/{self.name}:{TAG}"

    def key(self, base: str) -> str:
        """A hash of all that the image is made of; ``base`` is that of the base image."""
        digest = hashlib.sha256(base.encode())
        for file in sorted((self.dockerfile, *self.context.rglob("*"))):
            if file.is_file():
                name = file.name if file == self.dockerfile else file.relative_to(self.context)
                digest.update(f"{name} {file.stat().st_mode:o}\0".encode())
                digest.update(_sha256(file).encode())
        return digest.hexdigest()


def _own(name: str) -> Image:
    return Image(name, DOCKERFILES / name / "Dockerfile", CONTEXTS / name)


PAUSE, BUSYBOX, BASE = _own("pause"), _own("busybox"), _own("base")
PROJECT = (
    Image("operator", ROOT / "operator" / "Dockerfile", CONTEXTS / "python"),
    Image("agent", ROOT / "agent" / "Dockerfile", CONTEXTS / "python"),
    Image(
        "injector",
        ROOT / "preload" / "Dockerfile",
        ROOT / "build" / "preload" / platform.machine(),
    ),
    Image("demo", ROOT / "examples" / "Dockerfile", ROOT / "build" / "examples"),
    Image("crashers", ROOT / "tests" / "crashers" / "Dockerfile", ROOT / "build" / "crashers"),
)
EXAMPLES = tuple(
    Image(
        f"example-{language}",
        ROOT / "examples" / "languages" / "Dockerfile",
        ROOT / "build" / "languages" / language,
    )
    for language in ("cpp", "rust", "python", "java")
)
"""One per language, to be built by `make -C examples languages` before."""
OTHER_ARCHITECTURE, _OTHER_MACHINE = {
    "x86_64": ("arm64", "aarch64"),
    "aarch64": ("amd64", "x86_64"),
}[platform.machine()]
FOREIGN = Image(
    f"injector-{OTHER_ARCHITECTURE}",
    ROOT / "preload" / "Dockerfile",
    ROOT / "build" / "preload" / _OTHER_MACHINE,
    OTHER_ARCHITECTURE,
)
"""The injector for the nodes of a mixed cluster that this machine cannot be."""


@dataclass(frozen=True)
class Built:
    """Images whose current version is in the store."""

    store: BlobStore
    references: frozenset[str]


def cluster_images() -> Built:
    """What a cluster needs before its first pod; built unless it is current."""
    with locked():
        _pause_context()
        _busybox_context()
        return _build((PAUSE, BUSYBOX))


def project_images() -> Built:
    """The base image and ours; built unless they are current."""
    with locked():
        _base_context()
        _python_context()
        return _build((BASE, *PROJECT))


def example_images() -> Built:
    """The base image and the examples of languages; built unless they are current."""
    with locked():
        _base_context()
        return _build((BASE, *EXAMPLES))


def foreign_images() -> Built:
    """What no node on this machine can run; built unless it is current."""
    with locked():
        return _build((FOREIGN,))


def python_context() -> None:
    """Fills the build context of operator and agent, for another builder than ours."""
    with locked():
        _python_context()


def _python_context() -> None:
    """Fills the build context of operator and agent.

    ``stillframe-*.whl``, ``wheels/`` with every locked dependency, and, for a layer that does not
    change with our code, ``agent.txt`` and ``operator.txt`` with what each of them depends on.
    """
    context = CONTEXTS / "python"
    context.mkdir(parents=True, exist_ok=True)
    for old in context.glob("stillframe-*.whl"):
        old.unlink()
    run(_python(), "-m", "hatchling", "build", "--target", "wheel", "--directory", context)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lock = f"# requirements.lock {_sha256(ROOT / 'requirements.lock')}\n"  # what wheels/ holds
    for extra in ("agent", "operator"):
        needs = [*project["dependencies"], *project["optional-dependencies"][extra]]
        needs = [need for need in needs if extra != "operator" or not need.startswith(ANALYSIS)]
        (context / f"{extra}.txt").write_text(lock + "".join(f"{need}\n" for need in needs))
    _mirror(_wheels(), context / "wheels")


def _wheels() -> Path:
    """The directory of every wheel that the lock names, for the base image's Python."""
    lock = ROOT / "requirements.lock"
    wheels = _cache() / "wheels" / _sha256(lock)
    if not wheels.exists():
        machine = platform.machine()
        tags = [f"manylinux{version}_{machine}" for version in ("2014", "_2_17", "_2_28")]
        with _replacing(wheels) as new:
            run(
                *(_python(), "-m", "pip", "download", "--quiet", "--no-deps"),
                *("--requirement", lock, "--require-hashes", "--only-binary", ":all:"),
                *("--python-version", BASE_PYTHON, *(f"--platform={tag}" for tag in tags)),
                *("--dest", new),
            )
    return wheels


def _pause_context() -> None:
    PAUSE.context.mkdir(parents=True, exist_ok=True)
    source = PAUSE.dockerfile.with_name("pause.c")
    run("gcc", "-static", "-Os", "-s", "-o", PAUSE.context / "pause", source)


def _busybox_context() -> None:
    BUSYBOX.context.mkdir(parents=True, exist_ok=True)
    shutil.copy2("/bin/busybox", BUSYBOX.context / "busybox")


def _base_context() -> None:
    """Makes the base image's file system with the machine's own package sources."""
    sources = [Path("/etc/apt/sources.list"), Path("/etc/apt/sources.list.d/debian.sources")]
    sources = [source for source in sources if source.exists() and source.stat().st_size > 0]
    if f"VERSION_CODENAME={BASE_SUITE}" not in Path("/etc/os-release").read_text() or not sources:
        raise ClusterError(
            f"the base image is made from the package sources of a Debian {BASE_SUITE} machine; "
            "build the Dockerfiles with BASE_IMAGE set to another Python image instead"
        )
    command = [
        *("mmdebstrap", "--quiet", "--variant=essential", f"--include={','.join(BASE_PACKAGES)}"),
        # Otherwise the package usrmerge does it, and brings all of perl.
        "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
        '--aptopt=APT::Install-Recommends "false"',
        *(f"--dpkgopt=path-exclude=/usr/{path}/*" for path in BASE_LEFT_OUT),
        '--customize-hook=rm -rf "$1"/var/cache/* "$1"/var/log/*',
        BASE_SUITE,
    ]
    content = "\0".join([*command, *(source.read_text() for source in sources)])
    cached = _cache() / "base" / hashlib.sha256(content.encode()).hexdigest()
    if not cached.exists():
        with _replacing(cached) as new:
            run(*command, new / "base.tar", *sources)
    _mirror(cached, BASE.context)


def _build(images: Sequence[Image]) -> Built:
    """Builds those of ``images`` that changed."""
    store = BlobStore(_cache() / "store")
    base = ""
    for image in images:
        if not image.dockerfile.exists() or not image.context.is_dir():
            raise ClusterError(
                f"image {image.name} needs {image.dockerfile} and {image.context}: run `make build`"
            )
        key = image.key(base)
        base = key if image == BASE else base
        stamp = _cache() / f"{image.name}.key"
        if stamp.exists() and stamp.read_text() == key:
            continue
        _buildah(
            *("build", "--quiet", "--layers", "--isolation=chroot", "--network=host"),
            *("--pull-never", f"--build-arg=BASE_IMAGE={BASE.reference}"),
            *([f"--platform=linux/{image.architecture}"] if image.architecture else []),
            *(f"--tag={image.reference}", "--file", image.dockerfile, image.context),
        )
        with tempfile.TemporaryDirectory(dir=_cache()) as scratch:
            pushed = Path(scratch) / "image"
            # Compressing and expanding again would take longer than writing.
            flags = ("--quiet", "--disable-compression")
            _buildah("push", *flags, image.reference, f"dir:{pushed}")
            store.add(image.reference, pushed)
        stamp.write_text(key)
    return Built(store, frozenset(image.reference for image in images))


def _buildah(*arguments: str | Path) -> None:
    storage = _cache() / "storage"
    # In a mount namespace of its own: an overlay store leaves a mount behind.
    run(
        *("unshare", "--mount", "buildah", "--root", storage, "--runroot", f"{storage}.run"),
        *("--storage-driver", "overlay", *arguments),
    )


def _mirror(source: Path, target: Path) -> None:
    """Makes ``target`` hold the files of ``source`` and no others."""
    target.mkdir(parents=True, exist_ok=True)
    for file in target.iterdir():
        if not (source / file.name).exists():
            file.unlink()
    for file in source.iterdir():
        copy = target / file.name
        if not copy.exists() or copy.stat().st_mtime != file.stat().st_mtime:
            shutil.copy2(file, copy)


def _python() -> Path:
    python = ROOT / ".venv" / "bin" / "python"
    if not python.exists():
        raise ClusterError("the wheels are made with the project's own Python: run `make venv`")
    return python


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _cache() -> Path:
    return cache_root() / "images"


@contextmanager
def _replacing(directory: Path) -> Iterator[Path]:
    """A new directory that takes the place of ``directory`` when everything went well."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent) as scratch:
        new = Path(scratch) / "new"
        new.mkdir()
        yield new
        new.rename(directory)


@contextmanager
def locked() -> Iterator[None]:
    """Nobody else changes contexts, images or the store meanwhile."""
    _cache().mkdir(parents=True, exist_ok=True)
    with (_cache() / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
