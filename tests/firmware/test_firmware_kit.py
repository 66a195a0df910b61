"""The kit, used as a firmware's build would use it: moved elsewhere, found by pkg-config and by
CMake, for this machine and across to 64-bit ARM, and run there under qemu."""

import functools
import os
import pathlib
import re
import shutil
import sys

import pytest
from firmware_build import build_kit, need, run, with_path
from repository import ROOT

from merino_edge import __version__
from merino_edge.runtime import GenerationConfig, load

sys.path.insert(0, str(ROOT))
from native_build import GLIBC, HEADER, MACHINES, make_kit, versions

SYSROOT = "/usr/aarch64-linux-gnu"
INSTRUCTION, REQUEST, N_TOKENS = [5, 3], [1, 2], 8
pytestmark = pytest.mark.slow  # four builds of the decoder


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    """Made in one place and used in another, whose name has a space in it."""
    made = build_kit(tmp_path_factory.mktemp("made") / "kit")
    moved = tmp_path_factory.mktemp("moved") / "the kit"
    shutil.move(made, moved)
    return moved


@pytest.fixture(scope="module")
def expected(bundle, native_library):
    with load(bundle, backend="native") as session:
        config = GenerationConfig(max_new_tokens=N_TOKENS)
        return "".join(session.generate(INSTRUCTION + REQUEST, config).pieces())


def answered(program, bundle):
    """What the embedding program says; a list of words runs it."""
    files = [os.path.join(bundle, name) for name in ("model.merino", "pieces.bin")]
    asked = "\n".join(" ".join(map(str, each)) for each in (INSTRUCTION, REQUEST))
    done = run(*program, *files, 60_000, N_TOKENS, input=asked.encode())
    return done.stdout.decode("utf-8", "replace").rstrip("\n")


def qemu():
    need("qemu-aarch64")
    if not os.path.isdir(SYSROOT):
        pytest.skip(f"no C library for aarch64 in {SYSROOT}")
    return ["qemu-aarch64", "-L", SYSROOT]


def cmake(kit, folder, *options):
    need("cmake")
    build = ["cmake", "-S", kit / "examples", "-B", folder, f"-DCMAKE_PREFIX_PATH={kit}"]
    run(*build, *options, env=with_path())
    run("cmake", "--build", folder, env=with_path())
    return folder / "embedded_app"


def test_it_holds_what_its_page_says_and_every_version_is_filled_in(kit):
    files = {str(path.relative_to(kit)) for path in kit.rglob("*") if path.is_file()}
    for machine in MACHINES:
        library = f"lib/{machine}/libmerino_edge"
        pc = f"lib/{machine}/pkgconfig/merino_edge.pc"
        assert {library + ".a", library + ".so", f"{library}.so.{versions()['ABI']}", pc} <= files
    assert {"LICENSE", "README.md", "PROTOCOL.md", "include/merino_edge.h"} <= files
    assert (kit / "include/merino_edge.h").read_bytes() == pathlib.Path(HEADER).read_bytes()
    for name in files:
        data = (kit / name).read_bytes()
        if b"\0" not in data and not name.endswith(".a"):
            assert not re.search(rb"@(VERSION|ABI|GLIBC|MACHINE)@", data), name
    assert f"Version: {__version__}\n" in (kit / pc).read_text("utf-8")


@pytest.mark.parametrize("linked", ["static", "shared"])
def test_pkg_config_finds_it(kit, bundle, expected, tmp_path, linked):
    need("cc", "pkg-config")
    folder = kit / "lib/x86_64"
    environment = {**os.environ, "PKG_CONFIG_PATH": str(folder / "pkgconfig")}
    ask = ["--cflags"] if linked == "static" else ["--cflags", "--libs"]
    asked = ["pkg-config", *ask, "merino_edge"]
    words = run(*asked, env=environment).stdout.decode().replace("\\ ", "\0").split()
    flags = [word.replace("\0", " ") for word in words]
    library = [folder / "libmerino_edge.a", "-pthread", "-lm"] if linked == "static" else []
    program = tmp_path / "program"
    run("cc", "-std=c99", kit / "examples/embedded_app.c", *flags, *library, "-o", program)
    home = ["env", f"LD_LIBRARY_PATH={folder}"] if linked == "shared" else []
    assert answered([*home, program], bundle) == expected


@pytest.mark.parametrize("shared", ["OFF", "ON"])
def test_cmake_finds_it(kit, bundle, expected, tmp_path, shared):
    need("cc")
    program = cmake(kit, tmp_path / "build", f"-DMERINO_EDGE_SHARED={shared}")
    assert answered([program], bundle) == expected


@pytest.mark.parametrize("name", ["aarch64-linux-gnu", "aarch64-zig"])
def test_cmake_builds_for_arm_and_the_program_runs_there(kit, bundle, expected, tmp_path, name):
    if name == "aarch64-linux-gnu":
        need("aarch64-linux-gnu-gcc")
    emulator = qemu()
    toolchain = f"-DCMAKE_TOOLCHAIN_FILE={kit}/toolchains/{name}.cmake"
    program = cmake(kit, tmp_path / "build", toolchain)
    assert answered([*emulator, program], bundle) == expected


def test_what_zig_makes_for_arm_asks_for_an_old_c_library(kit, tmp_path):
    need("readelf")
    toolchain = f"-DCMAKE_TOOLCHAIN_FILE={kit}/toolchains/aarch64-zig.cmake"
    for library in ("OFF", "ON"):
        folder = tmp_path / library
        program = cmake(kit, folder, toolchain, f"-DMERINO_EDGE_SHARED={library}")
        asked = run("readelf", "--version-info", program).stdout.decode()
        newest = max(tuple(map(int, v.split("."))) for v in re.findall(r"GLIBC_([\d.]+)", asked))
        assert newest <= tuple(map(int, GLIBC.split(".")))


def test_the_shared_library_has_its_version_in_its_name(kit):
    need("readelf")
    for machine in MACHINES:
        said = run("readelf", "-d", kit / "lib" / machine / "libmerino_edge.so").stdout.decode()
        assert f"soname: [libmerino_edge.so.{versions()['ABI']}]" in said


def test_cmake_refuses_another_machine_and_another_series(kit, tmp_path):
    need("cmake")
    build = functools.partial(cmake, kit)
    with pytest.raises(AssertionError, match="holds no library for 'riscv64'"):
        build(tmp_path / "a", "-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=riscv64")
    page = kit / "examples/CMakeLists.txt"
    other = tmp_path / "other"
    shutil.copytree(kit / "examples", other)
    text = page.read_text("utf-8").replace(f"merino_edge {__version__} ", "merino_edge 99.0 ")
    (other / "CMakeLists.txt").write_text(text, "utf-8")
    with pytest.raises(AssertionError, match=r"99\.0"):
        run("cmake", "-S", other, "-B", tmp_path / "b", f"-DCMAKE_PREFIX_PATH={kit}")


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path):
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(OSError, match="neither empty nor a kit"):
        make_kit(str(tmp_path))
    assert (tmp_path / "mine").read_text() == "mine"
