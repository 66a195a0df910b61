"""How the native decoder is compiled: every build passes here, and the flags stand here alone.

The one idea: the decoder is C99 that knows nothing of Python, so a build is one compiler over the
same files with the same flags, and only the compiler differs. CC, AR and CFLAGS name it as they do
everywhere; the compiler for other machines (zig, from the package ziglang) is called with a target
whose C library is older than any board's. setup.py, the Makefile and the tests come here; this file
needs the standard library of Python 3.6.

    python native_build.py shared FILE      a library for this machine, with CC
    python native_build.py archive FILE     the same to link statically, with CC and AR
    python native_build.py static FOLDER    header and archives for every machine, with zig
    python native_build.py wheels FOLDER    wheels for every machine, with zig and setuptools
"""

import glob
import os
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
