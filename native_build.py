"""How the native decoder is compiled: every build passes here, and the flags stand here alone.

The one idea: the decoder is C99 that knows nothing of Python, so a build is one compiler over the
same files with the same flags, and only the compiler differs. CC, AR and CFLAGS name it as they do
everywhere; the compiler for other machines (zig, from the package ziglang) is called with a target
whose C library is older than any board's. setup.py, the Makefile and the tests come here; this file
needs the standard library of Python 3.6.

    python native_build.py shared FILE      a library for this machine, with CC
    python native_build.py archive FILE     the same to link statically, with CC and AR
    python native_build.py static FOLDER    header and archives for every machine, with zig
    python native_build.py kit FOLDER       for firmware: also shared libraries, pkg-config,
                                            CMake, the socket's client, examples; from a checkout
    python native_build.py wheels FOLDER    wheels for every machine, with zig and setuptools
"""

import glob
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from typing import Any, Dict, List, Optional

ROOT = os.path.dirname(os.path.abspath(__file__))
NATIVE = os.path.join(ROOT, "merino_edge", "native")
HEADER = os.path.join(NATIVE, "include", "merino_edge.h")
# Contracted sums differ in their last bits; gcc leaves them alone under c99, clang does not.
FLAGS = ["-std=c99", "-O3", "-ffp-contract=off", "-fPIC", "-fvisibility=hidden", "-pthread"]
LIBRARIES = ["-lm"]
FIRMWARE = os.path.join(ROOT, "jetson", "firmware")

MACHINES = ("x86_64", "aarch64")
# The first that knows aarch64, and older than any board's: JetPack 4.6 has 2.27. pip knows the
# first of the two tags from 19.3 on, which numpy and tokenizers ask of a board anyway.
GLIBC = "2.17"
PLATFORM = "manylinux2014_{0}.manylinux_2_17_{0}"


def sources() -> List[str]:
    """The decoder's C files; those of other instruction sets compile to nothing."""
    return sorted(glob.glob(os.path.join(NATIVE, "src", "*.c")))


def compile_shared(output: str) -> None:
    """Make a shared library; one that a process has mapped is replaced, never written over.

    Raises:
        OSError: There is no such compiler, or it refused, with its own words on stderr.
    """
    folder = os.path.dirname(os.path.abspath(output))
    os.makedirs(folder, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".tmp-", dir=folder) as temporary:
        made = os.path.join(temporary, os.path.basename(output))
        _call(_compiler() + ["-shared"] + sources() + LIBRARIES + ["-o", made])
        os.replace(made, output)


def compile_archive(output: str) -> None:
    """Make a static library; raises as ``compile_shared``."""
    output = os.path.abspath(output)
    os.makedirs(os.path.dirname(output), exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        objects = []
        for source in sources():  # one by one: of several, zig keeps the first
            objects.append(os.path.join(folder, os.path.basename(source)[:-2] + ".o"))
            _call(_compiler() + ["-c", source, "-o", objects[-1]])
        made = os.path.join(folder, "made.a")
        _call(shlex.split(os.environ.get("AR", "ar")) + ["rcs", made] + objects)
        shutil.copyfile(made, output)


def zig_environment(machine: str) -> Dict[str, str]:
    """Variables under which the builds above make files for a machine of ``MACHINES``.

    Without -g0 and -s zig's own helpers would bring a megabyte of debug information.
    """
    zig = "{} -m ziglang ".format(shlex.quote(sys.executable))
    target = "cc -target {}-linux-gnu.{} -g0 -s".format(machine, GLIBC)
    return dict(os.environ, CC=zig + target, AR=zig + "ar")


def make_static(folder: str) -> None:
    """The header, and an archive for each machine."""
    for machine in MACHINES:
        output = os.path.join(folder, machine, "libmerino_edge.a")
        _run([os.path.abspath(__file__), "archive", os.path.abspath(output)], machine)
    os.makedirs(os.path.join(folder, "include"), exist_ok=True)
    shutil.copy(HEADER, os.path.join(folder, "include"))


def make_kit(folder: str) -> None:
    """A folder that a firmware's build system takes as it is; one that is there is replaced.

    Raises:
        OSError: As ``compile_shared``; or this is no checkout; or the folder holds something else.
    """
    folder = os.path.abspath(folder)
    if os.path.isdir(folder) and os.listdir(folder) and not os.path.exists(_kit_mark(folder)):
        raise OSError("{} is neither empty nor a kit".format(folder))
    os.makedirs(os.path.dirname(folder), exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".tmp-", dir=os.path.dirname(folder)) as temporary:
        made = os.path.join(temporary, "kit")
        make_static(made)  # as lib/MACHINE below
        for machine in MACHINES:
            os.renames(os.path.join(made, machine), os.path.join(made, "lib", machine))
            _add_shared(os.path.join(made, "lib", machine), machine)
        _add_kit_files(made)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(made, folder)


def versions() -> Dict[str, str]:
    """What the kit's files say of themselves: the package, the C API and the oldest C library."""
    with open(os.path.join(ROOT, "merino_edge", "__init__.py"), encoding="utf-8") as stream:
        version = re.search(r'^__version__ = "(.+)"$', stream.read(), re.M)
    with open(HEADER, encoding="utf-8") as stream:
        abi = re.search(r"^#define ME_ABI_VERSION (\d+)$", stream.read(), re.M)
    assert version
    assert abi
    return {"VERSION": version.group(1), "ABI": abi.group(1), "GLIBC": GLIBC}


def make_wheels(folder: str) -> None:
    """A wheel for each machine, built aside, so that nothing of an earlier build slips in."""
    for machine in MACHINES:
        with tempfile.TemporaryDirectory() as build:
            command = ["-W", "ignore", "setup.py", "-q", "egg_info", "--egg-base", build]
            command += ["build", "--build-base", build, "bdist_wheel", "--bdist-dir", build + "/w"]
            command += ["--dist-dir", os.path.abspath(folder)]
            _run(command + ["--plat-name", PLATFORM.format(machine)], machine)


def _compiler() -> List[str]:
    command = shlex.split(os.environ.get("CC", "cc")) + FLAGS
    return command + shlex.split(os.environ.get("CFLAGS", "")) + ["-I" + os.path.dirname(HEADER)]


def _kit_mark(folder: str) -> str:
    return os.path.join(folder, "lib", "cmake", "merino_edge", "merino_edge-config.cmake")


def _add_shared(folder: str, machine: str) -> None:
    """libmerino_edge.so.ABI, which programs ask for by that name, and the name to link with."""
    name = "libmerino_edge.so." + versions()["ABI"]
    environment = dict(zig_environment(machine), CFLAGS="-Wl,-soname," + name)
    command = [os.path.abspath(__file__), "shared", os.path.join(folder, name)]
    _call([sys.executable] + command, cwd=ROOT, env=environment)
    os.symlink(name, os.path.join(folder, "libmerino_edge.so"))


def _add_kit_files(kit: str) -> None:
    """What is not compiled: from jetson/firmware, with the versions filled in."""
    shutil.copy(os.path.join(ROOT, "LICENSE"), kit)
    for name in ("README.md", "toolchains"):
        _fill(os.path.join(FIRMWARE, "kit", name), os.path.join(kit, name))
    _fill(os.path.join(FIRMWARE, "PROTOCOL.md"), os.path.join(kit, "PROTOCOL.md"))
    _fill(os.path.join(FIRMWARE, "kit", "cmake"), os.path.dirname(_kit_mark(kit)))
    _fill(os.path.join(FIRMWARE, "apps"), os.path.join(kit, "examples"))
    for kind, ending in (("include", ".h"), ("src", ".c")):
        name = "merino_edge_client" + ending
        _fill(os.path.join(FIRMWARE, "client", name), os.path.join(kit, kind, name))
    for machine in MACHINES:
        place = os.path.join(kit, "lib", machine, "pkgconfig", "merino_edge.pc")
        _fill(os.path.join(FIRMWARE, "kit", "merino_edge.pc.in"), place, MACHINE=machine)


def _fill(source: str, target: str, **more: str) -> None:
    """Copy a file or a folder of files; a word between two @ becomes its value."""
    if os.path.isdir(source):
        for name in sorted(os.listdir(source)):
            _fill(os.path.join(source, name), os.path.join(target, name), **more)
        return
    with open(source, encoding="utf-8") as stream:
        text = stream.read()
    for word, value in dict(versions(), **more).items():
        text = text.replace("@{}@".format(word), value)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with open(target, "w", encoding="utf-8") as stream:
        stream.write(text)


def _run(arguments: List[str], machine: str) -> None:
    _call([sys.executable] + arguments, cwd=ROOT, env=zig_environment(machine))


def _call(command: List[str], **options: Any) -> None:
    status = subprocess.call(command, **options)
    if status:
        raise OSError("{} ended with exit code {}".format(command[0], status))


WORDS = {
    "shared": compile_shared,
    "archive": compile_archive,
    "static": make_static,
    "kit": make_kit,
    "wheels": make_wheels,
}


def main(arguments: List[str]) -> Optional[str]:
    """Do what the words say; gives what went wrong, for ``sys.exit``."""
    if len(arguments) != 2 or arguments[0] not in WORDS:
        return __doc__
    try:
        WORDS[arguments[0]](arguments[1])
    except OSError as error:
        return "native_build.py: {}".format(error)
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
