"""What is shipped of the native decoder: wheels and static libraries that run where they say.

They are made by zig, which the extra `wheels` brings, for x86-64 and aarch64. The x86-64 wheel is
installed into two Pythons; what is for aarch64 runs under qemu with Debian's C library for it.
"""

import functools
import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
import sys
import zipfile

import numpy
import pytest
from doubles import native_bundle
from repository import ROOT

from merino_edge import __version__
from merino_edge.formats.pieces_file import write_pieces
from merino_edge.runtime import GenerationConfig, load

sys.path.insert(0, str(ROOT))
from native_build import GLIBC, HEADER, MACHINES, sources, zig_environment

LIBRARY = "merino_edge/native/lib/libmerino_edge.so"
SYSROOT = "/usr/aarch64-linux-gnu"
PROMPT, N_TOKENS = [5, 3, 1], 8
# Intrinsics and builtins, and the gcc that brought them; JetPack 4.6 has 7.5.
NEWER_THAN_GCC_7 = {
    "dpbusd": 8,
    "vdotq?_": 8,
    "_mm256_set_m128": 8,
    r"vld1q?_\w+_x[234]": 8,
    "__builtin_convertvector": 9,
    r"_mm\d*_(loadu|storeu)_epi\d": 9,
    "_mm_(loadu|storeu)_si64": 9,
    "vusdot|vmmlaq": 10,
    "_mm_(loadu|storeu)_si(16|32)": 11,
    r'cpu_supports\("f16c"\)': 11,
    "__builtin_shufflevector": 12,
}
GENERATE = f"""
import sys
import merino_edge
from merino_edge.runtime import GenerationConfig, load
print(merino_edge.__file__)
with load(sys.argv[1], backend="native") as session:
    print(*session.generate({PROMPT}, GenerationConfig(max_new_tokens={N_TOKENS})))
"""


def run(*command, **options):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def built(tmp_path_factory, word):
    """What native_build.py makes for every machine, in a folder of its own."""
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("not installed: ziglang")
    folder = tmp_path_factory.mktemp(word)
    run(sys.executable, ROOT / "native_build.py", word, folder)
    return folder


@pytest.fixture(scope="module")
def static(tmp_path_factory):
    return built(tmp_path_factory, "static")


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """Machine -> wheel."""
    folder = built(tmp_path_factory, "wheels")
    return {machine: next(folder.glob(f"*{machine}.whl")) for machine in MACHINES}


@pytest.fixture(scope="module")
def libraries(wheels, tmp_path_factory):
    """Machine -> folder with the library of its wheel."""
    folders = {machine: tmp_path_factory.mktemp(machine) for machine in MACHINES}
    for machine, folder in folders.items():
        with zipfile.ZipFile(wheels[machine]) as wheel:
            (folder / "libmerino_edge.so").write_bytes(wheel.read(LIBRARY))
    return folders


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A tiny native bundle whose pieces are the numbers of its tokens."""
    path = native_bundle(tmp_path_factory.mktemp("shipped") / "bundle", seed=3)
    write_pieces(os.path.join(path, "pieces.bin"), [b"%d " % i for i in range(300)], [0])
    return path


@pytest.fixture(scope="module")
def expected(bundle, native_library):
    """The tokens, from a library that the machine's own compiler made of the same sources."""
    with load(bundle, backend="native") as session:
        tokens = list(session.generate(PROMPT, GenerationConfig(max_new_tokens=N_TOKENS)))
    assert len(tokens) == N_TOKENS
    return " ".join(map(str, tokens))


@functools.lru_cache
def readelf(option, path):
    if shutil.which("readelf") is None:
        pytest.skip("no readelf here")
    return run("readelf", "-W", option, path)


def test_each_wheel_says_which_machines_take_it(wheels):
    for machine, wheel in wheels.items():
        platforms = [f"manylinux2014_{machine}", f"manylinux_2_17_{machine}"]
        assert wheel.name == f"merino_edge-{__version__}-py3-none-{'.'.join(platforms)}.whl"
        with zipfile.ZipFile(wheel) as archive:
            text = archive.read(f"merino_edge-{__version__}.dist-info/WHEEL").decode()
        assert re.findall("^Tag: py3-none-(.+)$", text, re.M) == platforms


def test_the_wheels_differ_in_their_library_alone(wheels):
    def contents(machine):
        with zipfile.ZipFile(wheels[machine]) as archive:
            infos = [i for i in archive.infolist() if ".dist-info/" not in i.filename]
            return {info.filename: info.CRC for info in infos}

    x86, arm = contents("x86_64"), contents("aarch64")
    assert {name for name in x86 if x86[name] != arm.get(name)} == {LIBRARY}
    assert x86.keys() == arm.keys()


@pytest.mark.parametrize(
    ("machine", "name"), [("x86_64", "Advanced Micro Devices X86-64"), ("aarch64", "AArch64")]
)
def test_a_library_asks_for_an_old_c_library_and_nothing_else(libraries, machine, name):
    library = libraries[machine] / "libmerino_edge.so"
    versions = re.findall(r"GLIBC_([\d.]+)", readelf("--version-info", library))
    needed = re.findall(r"NEEDED.*\[(.+)\]", readelf("--dynamic", library))

    assert f"Machine:                           {name}\n" in readelf("--file-header", library)
    assert max(tuple(map(int, v.split("."))) for v in versions) <= tuple(map(int, GLIBC.split(".")))
    assert set(needed) <= {"libc.so.6", "libm.so.6", "libpthread.so.0"}


@pytest.mark.parametrize("machine", MACHINES)
def test_a_library_exports_what_the_header_declares(libraries, machine):
    symbols = readelf("--dyn-syms", libraries[machine] / "libmerino_edge.so")
    header = re.sub(r"/\*.*?\*/", "", pathlib.Path(HEADER).read_text("utf-8"), flags=re.S)
    exported = re.findall(r"FUNC +GLOBAL +DEFAULT +\d+ (\w+)", symbols)
    assert sorted(exported) == sorted(re.findall(r"\b(me_\w+)\(", header))


def answer(python, bundle, path, **variables):
    """Where the package came from, and its tokens, from a Python that knows no checkout."""
    environment = {k: v for k, v in os.environ.items() if k != "MERINO_EDGE_NATIVE"}
    home, tokens = run(
        python, "-c", GENERATE, bundle, cwd=path, env={**environment, **variables}
    ).splitlines()
    assert home.startswith(str(path))
    return tokens


def test_the_wheel_installs_into_a_fresh_environment_and_runs(wheels, bundle, expected, tmp_path):
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path)
    (site,) = tmp_path.glob("lib/python*/site-packages")
    python = tmp_path / "bin/python"
    pip = [sys.executable, "-m", "pip", "--python", python]
    run(*pip, "install", "--no-index", "--no-deps", wheels["x86_64"])
    others = os.path.dirname(os.path.dirname(numpy.__file__))
    (site / "others.pth").write_text(others)  # numpy and tokenizers, behind what was installed

    assert answer(python, bundle, tmp_path) == expected


@pytest.mark.py36
def test_the_wheel_installs_into_python_36_and_runs(wheels, bundle, expected, tmp_path):
    python = ROOT / ".venv36/bin/python"
    if not python.exists():
        pytest.skip("there is no .venv36; make it with: make test-py36")
    install = ["-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", tmp_path]
    run(python, *install, wheels["x86_64"])

    assert answer(python, bundle, tmp_path, PYTHONPATH=str(tmp_path)) == expected


def link_example(machine, output, *library):
    """The C example for a machine, with zig."""
    compiler = zig_environment(machine)["CC"].split()
    example = [ROOT / "jetson/examples/stream_text.c", "-I" + os.path.dirname(HEADER)]
    run(*compiler, "-std=c99", "-O2", *example, *library, "-lm", "-pthread", "-o", output)
    return [output]


def link_for_arm(output, *library):
    """The same for aarch64, with what runs it here."""
    emulator = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    if emulator is None or not os.path.isdir(SYSROOT):
        pytest.skip(f"no qemu-aarch64 here, or no C library in {SYSROOT}")
    return [emulator, "-L", SYSROOT, *link_example("aarch64", output, *library)]


def streamed(program, bundle):
    files = [os.path.join(bundle, name) for name in ("model.merino", "pieces.bin")]
    return run(*program, *files, N_TOKENS, *PROMPT).strip()


@pytest.mark.parametrize("machine", MACHINES)
def test_the_static_library_has_a_header_beside_it_and_runs(
    static, bundle, expected, tmp_path, machine
):
    assert (static / "include/merino_edge.h").read_bytes() == pathlib.Path(HEADER).read_bytes()
    link = link_for_arm if machine == "aarch64" else functools.partial(link_example, machine)
    program = link(tmp_path / "program", static / machine / "libmerino_edge.a")
    assert streamed(program, bundle) == expected


def test_the_library_of_the_aarch64_wheel_runs(libraries, bundle, expected, tmp_path):
    folder = libraries["aarch64"]
    program = link_for_arm(
        tmp_path / "program", f"-L{folder}", "-lmerino_edge", f"-Wl,-rpath,{folder}"
    )
    assert streamed(program, bundle) == expected


def newer_words(machine, *options):
    """What of NEWER_THAN_GCC_7 stands in our own lines after the preprocessor."""
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("not installed: ziglang")
    compiler = [*zig_environment(machine)["CC"].split(), "-E", "-w", "-std=c99", *options]
    found = set()
    for source in sources():
        ours = False
        for line in run(*compiler, "-I" + os.path.dirname(HEADER), source).splitlines():
            if line.startswith("# "):
                ours = "/native/src/" in line
            elif ours:
                found.update(word for word in NEWER_THAN_GCC_7 if re.search(word, line))
    return found


@pytest.mark.parametrize(("machine", "newer"), [("x86_64", "dpbusd"), ("aarch64", "vdotq?_")])
def test_the_compiler_of_an_old_board_meets_nothing_newer_than_itself(machine, newer):
    # Only what guards ask for is pretended: no gcc 7 was at hand.
    assert newer_words(machine) == {newer}
    assert newer_words(machine, "-U__clang__", "-U__GNUC__", "-D__GNUC__=7") == set()


def test_a_wheel_for_a_machine_is_not_made_without_the_library(tmp_path):
    command = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", tmp_path]
    command += ["build", "--build-base", tmp_path, "bdist_wheel", "--bdist-dir", tmp_path / "w"]
    command += ["--dist-dir", tmp_path, "--plat-name", "manylinux2014_x86_64"]
    done = subprocess.run(
        list(map(str, command)),
        cwd=ROOT,
        env={**os.environ, "CC": "no-such-compiler"},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "needs the native decoder" in done.stderr
    assert list(tmp_path.glob("*.whl")) == []


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_compiles_again_when_a_source_changes():
    def planned(*options):
        return run("make", "-n", "-o", ".venv/.stamp", *options, "setup", cwd=ROOT)

    changed = "merino_edge/native/src/session.c"
    sources = [str(p.relative_to(ROOT)) for p in (ROOT / "merino_edge/native").rglob("*.[ch]")]
    untouched = [each for name in [*sources, "native_build.py"] for each in ("-o", name)]
    assert "native_build.py shared" in planned("-W", changed)
    if (ROOT / LIBRARY).exists():
        assert "native_build.py shared" not in planned(*untouched)
