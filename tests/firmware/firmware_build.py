"""What the tests of the firmware share: compilers, the two programs, a bundle with its pieces."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest
from repository import ROOT

FIRMWARE = ROOT / "jetson/firmware"
NATIVE = ROOT / "merino_edge/native"
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Werror"]
SANITIZERS = ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
INCLUDES = [f"-I{NATIVE / 'include'}", f"-I{FIRMWARE / 'client'}"]
MEMCHECK = ["valgrind", "-q", "--leak-check=full", "--show-leak-kinds=all", "--error-exitcode=99",
            "--track-fds=yes"]  # fmt: skip


def need(*programs):
    for name in programs:
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed")


def run(*command, **options):
    """What a program printed; it must end well."""
    done = subprocess.run(list(map(str, command)), capture_output=True, timeout=300, **options)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    return done


def sources(app):
    """The C files of a program: with the decoder, or with the client."""
    client = FIRMWARE / "client/merino_edge_client.c"
    if app == "socket_app":
        return [FIRMWARE / "apps/socket_app.c", client]
    if app == "listener":
        return [pathlib.Path(__file__).with_name("listener.c"), client]
    return [FIRMWARE / "apps" / f"{app}.c", *sorted((NATIVE / "src").glob("*.c"))]


def compiled(folder, app, compiler="cc", *flags):
    """A program of the firmware, without a warning."""
    need(compiler)
    path = pathlib.Path(folder) / f"{app}-{compiler}{'-checked' if flags else ''}"
    options = [*(flags or ["-O2"]), "-std=c99", *WARNINGS, "-pthread", *INCLUDES]
    run(compiler, *options, *sources(app), "-lm", "-o", path)
    return path


def build_kit(folder):
    """native_build.py's kit; skips where there is no zig."""
    pytest.importorskip("ziglang")
    run(sys.executable, ROOT / "native_build.py", "kit", folder)
    return pathlib.Path(folder)


def with_path(**variables):
    """The environment, with this Python first on PATH."""
    path = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, **variables}
