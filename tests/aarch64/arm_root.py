"""A Debian for 64-bit ARM in a folder, and a way to run its programs here: under qemu-user.

The one idea: a root is a tree of files, and packages are archives of such files. apt downloads the
packages of the other machine, from whatever sources this machine has, with a state of its own, so
that nothing is installed here; they are unpacked, their scripts are not run, and Python starts.
pip, on this side, fills in wheels of the other platform. No Docker, no binfmt, and no rights but
those of a user namespace: ``unshare`` makes the folder the root of one program.

What the emulation cannot know is put in its place: qemu 7.2 shows the /proc/cpuinfo of this
machine, and onnxruntime (1.32, by its library cpuinfo) ends in a segmentation fault when it is
imported on an "ARM" whose processor is described as an x86. So the programs see the description of
a Nano's Cortex-A57, which is also what ``-cpu`` emulates.

Two roots are made. The newer one is this machine's own release with the newest wheels. The older
one is Debian 11 with exactly the wheels that a board's Python 3.6 takes, on Python 3.9, the oldest
Python for which Debian still serves packages; a Python 3.6 for ARM is in no Debian.
"""

import functools
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from typing import NamedTuple

import pytest
from repository import ROOT

EMULATOR = "qemu-aarch64-static"
# Where roots are kept: 250 MB each. Another place: MERINO_EDGE_AARCH64_CACHE.
CACHE = pathlib.Path(os.environ.get("MERINO_EDGE_AARCH64_CACHE") or ROOT / ".cache/aarch64")
PACKAGES = ("python3", "libgomp1", "libstdc++6")
FOLDERS = ("proc", "sys", "dev", "tmp", "mnt", "usr/bin", "usr/lib", "usr/sbin")
CPUINFO = (
    "processor\t: {}\nmodel name\t: ARMv8 Processor rev 1 (v8l)\nBogoMIPS\t: 38.40\n"
    "Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32\nCPU implementer\t: 0x41\n"
    "CPU architecture: 8\nCPU variant\t: 0x1\nCPU part\t: 0xd07\nCPU revision\t: 1\n\n"
)
# $1 the root, the rest the program. The mounts end with the namespace.
ENTER = """
root=$1; shift
mount --rbind /proc "$root/proc" && mount --bind "$root/cpuinfo" "$root/proc/cpuinfo" &&
mount --rbind /sys "$root/sys" && mount --rbind /dev "$root/dev" || exit 125
exec chroot "$root" "$@"
"""
NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")


class Release(NamedTuple):
    """What a root is made of.

    Attributes:
        name: Of its folder.
        suite: Debian's word for the release; None takes all that this machine's apt knows.
        wheels: What pip is asked for.
        glibc: The newest C library that wheels may ask for: 2.N.
    """

    name: str
    suite: str | None
    wheels: tuple[str, ...]
    glibc: int


NEWER = Release("newer", None, ("numpy", "tokenizers", "onnxruntime"), 28)
OLDER = Release(
    "older", "bullseye",
    ("numpy==1.19.5", "tokenizers==0.12.1", "onnxruntime==1.10.0"), 17,
)  # fmt: skip


class ArmRoot:
    """A root that is ready; ``make_root`` gives it."""

    def __init__(self, path: pathlib.Path):
        self.path = path

    def run(self, *words: str, processor: str = "cortex-a57") -> subprocess.CompletedProcess[str]:
        """Run a program of the root; its relative paths begin at /."""
        environment = {
            "PATH": "/usr/bin:/usr/sbin",
            "HOME": "/tmp",
            "LC_ALL": "C.UTF-8",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": "/opt/ours:/opt/packages",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        emulator = [f"/usr/bin/{EMULATOR}", "-cpu", processor]
        command = [*NAMESPACE, "sh", "-c", ENTER, "sh", str(self.path), *emulator, *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    def python(self, *words: str, processor: str = "cortex-a57") -> str:
        """What a Python program prints; it must end well."""
        done = self.run("/usr/bin/python3", *words, processor=processor)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def install(self, wheel: pathlib.Path) -> None:
        """Put a wheel of ours into the root, in place of an earlier one."""
        target = self.path / "opt/ours"
        shutil.rmtree(target, ignore_errors=True)
        platform = ["--platform", "manylinux2014_aarch64", "--only-binary=:all:", "--no-deps"]
        _pip("install", *platform, "--no-index", "--no-compile", "--target", target, wheel)


def make_root(release: Release) -> ArmRoot:
    """A root for a release, made once and kept; skips, with the reason, where it cannot be."""
    _require_tools()
    path = CACHE / release.name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE, prefix=".tmp-") as folder:
            work = pathlib.Path(folder)
            _unpack(_download(work, release), work / "root")
            _add_wheels(work / "root", release)
            os.rename(work / "root", path)
    shutil.copy(shutil.which(EMULATOR), path / "usr/bin")
    cpuinfo = "".join(CPUINFO.format(core) for core in range(os.cpu_count() or 1))
    (path / "cpuinfo").write_text(cpuinfo)
    return ArmRoot(path)


def _require_tools() -> None:
    missing = [tool for tool in (EMULATOR, "apt-get", "dpkg-deb", "unshare") if not _which(tool)]
    if missing:
        hint = "apt-get install qemu-user-static" if EMULATOR in missing else "a Debian has them"
        pytest.skip(f"not here: {', '.join(missing)} ({hint})")
    done = subprocess.run([*NAMESPACE, "true"], capture_output=True, text=True)
    if done.returncode:
        pytest.skip("no user namespaces here: " + done.stderr.strip())


@functools.cache
def _which(tool: str) -> str | None:
    return shutil.which(tool)


def _download(work: pathlib.Path, release: Release) -> list[pathlib.Path]:
    """The packages and what they depend on, as archives."""
    for folder in ("lists/partial", "archives/partial", "parts"):
        (work / folder).mkdir(parents=True)
    (work / "status").touch()
    settings = {
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "Dir::State::lists": work / "lists",
        "Dir::State::status": work / "status",
        "Dir::Cache": work,
        "Dir::Cache::archives": work / "archives",
        "APT::Sandbox::User": "root",  # the folder is nobody else's to read
    }
    if release.suite:
        (work / "sources.list").write_text(_source_line(release.suite))
        settings["Dir::Etc::sourcelist"] = work / "sources.list"
        settings["Dir::Etc::sourceparts"] = work / "parts"
    options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
    _apt("apt-get", *options, "update")
    install = ["install", "-y", "--no-install-recommends", "--download-only", *PACKAGES]
    _apt("apt-get", *options, *install)
    return sorted((work / "archives").glob("*.deb"))


def _source_line(suite: str) -> str:
    """The first mirror that this machine takes Debian from, with another release."""
    listing = _apt("apt-get", "indextargets", "--format", "$(REPO_URI)", "Identifier: Packages")
    mirrors = [line for line in listing.splitlines() if line.rstrip("/").endswith("/debian")]
    keys = pathlib.Path("/usr/share/keyrings/debian-archive-keyring.gpg")
    if not mirrors or not keys.exists():
        pytest.skip("this machine's apt knows no mirror of Debian")
    return f"deb [signed-by={keys}] {mirrors[0]} {suite} main\n"


def _apt(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        pytest.skip(f"apt gives no packages for arm64: {last}")
    return done.stdout


def _unpack(archives: list[pathlib.Path], root: pathlib.Path) -> None:
    for folder in FOLDERS:
        (root / folder).mkdir(parents=True)
    for folder in ("bin", "lib", "sbin"):  # as Debian merges them, which packages rely on
        (root / folder).symlink_to("usr/" + folder)
    for archive in archives:
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", archive], stdout=subprocess.PIPE) as p:
            unpack = ["tar", "-x", "--keep-directory-symlink", "--no-same-owner", "-C", root]
            subprocess.run(unpack, stdin=p.stdout, check=True)
        assert p.returncode == 0, archive


def _add_wheels(root: pathlib.Path, release: Release) -> None:
    tags = [f"manylinux_2_{minor}_aarch64" for minor in range(17, release.glibc + 1)]
    platforms = [word for tag in ("manylinux2014_aarch64", *tags) for word in ("--platform", tag)]
    version = os.readlink(root / "usr/bin/python3")[len("python") :]
    options = ["--python-version", version, "--implementation", "cp", *platforms]
    options += ["--only-binary=:all:", "--no-compile", "--target", root / "opt/packages"]
    _pip("install", *options, *release.wheels)


def _pip(*words: object) -> None:
    command = [sys.executable, "-m", "pip", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
