"""What is shipped, and what it costs to look at it: the promises of setup.py, kept by trying.

A board has numpy and little else, so the command line must answer where nothing is installed and
the runtime must load where only numpy is.
"""

import ast
import inspect
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile

import pytest
from package_builds import build_both, build_from_archive
from repository import ROOT, find_python, source_files

from merino_edge import __version__, runtime
from merino_edge.cli.registry import COMMANDS
from merino_edge.runtime.native_library import ABI_VERSION

SHIPPED_BESIDE = {
    ".dockerignore",
    "CHANGELOG.md",
    "LICENSE",
    "MANIFEST.in",
    "PKG-INFO",
    "README.md",
    "native_build.py",
    "setup.cfg",
    "setup.py",
}
HELP_OF_ALL = """
import contextlib, io, json, sys
from merino_edge.cli.main import main
answers = {}
for name in json.loads(sys.argv[1]):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = main([name, "--help"])
    answers[name] = [code, out.getvalue()]
print(json.dumps(answers))
"""
IMPORT_ALL_BELOW = """
import importlib, json, pkgutil, sys
before = set(sys.modules)
for name in sys.argv[1:]:
    package = importlib.import_module(name)
    for found in pkgutil.walk_packages(package.__path__, name + "."):
        importlib.import_module(found.name)
print(json.dumps(sorted(set(each.split(".")[0] for each in set(sys.modules) - before))))
"""


WITHOUT = """
import sys
sys.modules[sys.argv[1]] = None
from merino_edge.cli.main import main
sys.exit(main(sys.argv[2:]))
"""


def package_files():
    """The package's own files, as git knows them."""
    return {name for name in source_files() if name.startswith("merino_edge/")}


def wheel_files():
    """What a wheel holds of them: the modules, and the header for who links the library."""
    return {
        name for name in package_files() if name.endswith((".py", ".h")) and "/src/" not in name
    }


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The wheel that is built where there is no C compiler; the source archive is beside it."""
    return build_both(tmp_path_factory.mktemp("build"), "no-such-compiler")


@pytest.fixture(scope="module")
def built_with_library(tmp_path_factory):
    """The wheel that is built where there is one."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler here (cc)")
    return build_both(tmp_path_factory.mktemp("build"), "cc")


def test_wheel_holds_the_package_and_nothing_else(built):
    with zipfile.ZipFile(built) as wheel:
        names = set(wheel.namelist())
    assert {name for name in names if ".dist-info/" not in name} == wheel_files()


def test_without_a_compiler_the_wheel_is_for_every_machine(built):
    assert built.name == f"merino_edge-{__version__}-py3-none-any.whl"


def test_with_a_compiler_the_wheel_holds_the_library_and_says_for_which_machine(built_with_library):
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    assert built_with_library.name == f"merino_edge-{__version__}-py3-none-{platform}.whl"
    with zipfile.ZipFile(built_with_library) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == wheel_files() | {"merino_edge/native/lib/libmerino_edge.so"}


def test_the_installed_library_is_found_beside_the_package_and_answers(
    built_with_library, tmp_path
):
    with zipfile.ZipFile(built_with_library) as wheel:
        wheel.extractall(tmp_path)
    code = (
        "from merino_edge.runtime.native_library import NativeLibrary as N;"
        "print(N().path, N().call.me_abi_version())"
    )
    environment = {k: v for k, v in os.environ.items() if k != "MERINO_EDGE_NATIVE"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [
        str(tmp_path / "merino_edge/native/lib/libmerino_edge.so"),
        str(ABI_VERSION),
    ]


def test_wheel_names_its_command_its_licence_and_its_pythons(built):
    with zipfile.ZipFile(built) as wheel:
        info = f"merino_edge-{__version__}.dist-info/"
        metadata = wheel.read(info + "METADATA").decode("utf-8")
        entry_points = wheel.read(info + "entry_points.txt").decode("utf-8")
    assert "merino-edge = merino_edge.cli.main:main" in entry_points
    assert "Apache-2.0" in metadata
    assert "Requires-Python: >=3.6\n" in metadata
    assert 'Requires-Dist: tokenizers==0.12.1; python_version < "3.7"' in metadata


def test_source_archive_holds_the_package_and_its_papers(built):
    with tarfile.open(built.parent / f"merino_edge-{__version__}.tar.gz") as archive:
        found = {each.name.partition("/")[2] for each in archive.getmembers() if each.isfile()}
    whole = {name for name in source_files() if name.startswith(("docs/", "jetson/", "docker/"))}
    shipped = package_files() | SHIPPED_BESIDE | whole
    assert {name for name in found if ".egg-info/" not in name} == shipped


def test_the_source_archive_makes_the_same_wheel(built, tmp_path):
    def contents(path):
        with zipfile.ZipFile(path) as wheel:
            return {info.filename: info.CRC for info in wheel.infolist()}

    archive = built.parent / f"merino_edge-{__version__}.tar.gz"
    again = build_from_archive(archive, tmp_path / "unpacked", "no-such-compiler")
    assert again.name == built.name
    assert contents(again) == contents(built)


@pytest.fixture(scope="module")
def bare_python36(tmp_path_factory):
    """A Python 3.6 with no package at all, not even pip."""
    folder = tmp_path_factory.mktemp("bare36")
    subprocess.run([find_python("3.6"), "-m", "venv", "--without-pip", folder], check=True)
    return folder / "bin/python"


def run_bare(python, *arguments):
    """Run Python without site-packages (-S) on the checkout; returns what it printed, from JSON."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [python, "-S", "-c", *arguments], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def assert_all_help(python):
    answers = run_bare(python, HELP_OF_ALL, json.dumps([command.name for command in COMMANDS]))
    assert {name: code for name, (code, _) in answers.items() if code != 0} == {}
    assert [name for name, (_, text) in answers.items() if "Example" not in text] == []


def test_every_command_shows_its_help_with_no_package_installed():
    assert_all_help(sys.executable)


@pytest.mark.py36
def test_every_command_shows_its_help_on_a_bare_python36(bare_python36):
    assert_all_help(bare_python36)


@pytest.mark.py36
def test_the_formats_load_on_a_bare_python36(bare_python36):
    loaded = run_bare(bare_python36, IMPORT_ALL_BELOW, "merino_edge.formats", "merino_edge.cli")
    assert "merino_edge" in loaded
    assert "numpy" not in loaded


def test_loading_all_of_the_runtime_brings_in_numpy_only():
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL_BELOW, "merino_edge.runtime"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    others = set(json.loads(done.stdout)) - set(sys.stdlib_module_names)
    assert others == {"merino_edge", "numpy"}


@pytest.mark.parametrize(
    ("package", "words"),
    [
        ("scipy", ["search", "--target", "host", "-o", "arch.json"]),
        ("torch", ["train", "arch.json", "--corpus", "text.txt", "-o", "checkpoint"]),
        ("onnx", ["build", "--target", "host", "checkpoint", "-o", "bundle"]),
    ],
)
def test_without_the_extra_a_command_says_which_in_one_sentence(package, words, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, package, *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stderr
    assert f"error: the package '{package}' is not installed; " in done.stderr
    assert "hint: pip install 'merino-edge[host]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_all_of_the_runtime_equals_its_public_names():
    public = {
        name
        for name, value in vars(runtime).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert public == set(runtime.__all__)
    assert list(runtime.__all__) == sorted(runtime.__all__)


def test_version_is_one_plain_line_that_setup_can_read():
    source = (ROOT / "merino_edge/__init__.py").read_text("utf-8")
    imports = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Import | ast.ImportFrom)]
    assert imports == []
