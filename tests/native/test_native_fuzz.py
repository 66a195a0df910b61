"""Changed model files, by the ten thousand, are refused or run: libFuzzer over the C core.

``fuzz_model.c`` is the target, ``fuzz_mutator.c`` makes the files. The slow test
takes 10,000 runs for each kind of weights, or as many as the variable MERINO_FUZZ_RUNS says.
Where there is no clang, ``damaged_files.c`` in test_native_sanitized.py tries some hundreds.
"""

import os
import pathlib
import re
import shutil
import subprocess

import pytest
from doubles import random_tensors
from model_families import MIXTURES
from native_core import F32, Q4, Q8, STRICT, pack, sources
from test_native_decoder import ARCHITECTURES

HERE = pathlib.Path(__file__).parent
FLAGS = [
    "-O2",
    "-g",
    "-fsanitize=fuzzer,address,undefined",
    "-fno-sanitize-recover=all",
    # the mutator knows what is compared; to trace comparisons, too, takes half the time
    "-fno-sanitize-coverage=trace-cmp",
    "-Dmmap=fuzz_mmap",
    "-Dmunmap=fuzz_munmap",
]
MOST_BYTES = 64 << 10
KINDS = {"f32": F32, "q8": Q8, "q4": Q4}


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory):
    if shutil.which("clang") is None:
        pytest.skip("libFuzzer comes with clang, and there is none here")
    path = tmp_path_factory.mktemp("fuzz") / "fuzz_model"
    files = [*sources(), HERE / "fuzz_model.c", HERE / "fuzz_mutator.c"]
    command = ["clang", *STRICT, *FLAGS, *map(str, files), "-lm", "-o", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return path


def write_seeds(folder, kind):
    """One small model of every architecture that fits; the mutator changes the rest to others."""
    folder.mkdir()
    for name, architecture in ARCHITECTURES.items():
        small = architecture._replace(vocab_size=40)
        data = pack(small, random_tensors(small, 1), kind)
        if len(data) <= MOST_BYTES:
            (folder / name).write_bytes(data)
    assert all((folder / name).exists() for name in MIXTURES)


def fuzz(fuzzer, tmp_path, kind, runs):
    """How many files were refused and how many ran; fails with the report of the first crash."""
    write_seeds(tmp_path / "seeds", kind)
    (tmp_path / "found").mkdir()
    settings = [
        f"-runs={runs}",
        f"-max_len={MOST_BYTES}",
        "-seed=1",
        # Its peak of memory would be that of whoever started it: Linux keeps that over exec.
        "-rss_limit_mb=0",
        "-malloc_limit_mb=512",
        f"-artifact_prefix={tmp_path}/",
    ]
    done = subprocess.run(
        [str(fuzzer), *settings, str(tmp_path / "found"), str(tmp_path / "seeds")],
        capture_output=True,
        text=True,
        errors="replace",
    )
    assert done.returncode == 0, done.stderr[-4000:]
    refused, ran = re.search(r"(\d+) refused, (\d+) ran", done.stderr).groups()
    return int(refused), int(ran)


def test_the_fuzzer_reaches_both_the_reader_and_the_decoder(fuzzer, tmp_path):
    refused, ran = fuzz(fuzzer, tmp_path, Q4, 400)
    assert refused + ran >= 400
    assert min(refused, ran) > 50


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_ten_thousand_changed_files_are_refused_or_run(fuzzer, tmp_path, kind):
    runs = int(os.environ.get("MERINO_FUZZ_RUNS", "10000"))
    refused, ran = fuzz(fuzzer, tmp_path, KINDS[kind], runs)
    assert refused + ran >= 0.9 * runs  # the rest is too large to be run in a moment
    assert min(refused, ran) > 0.1 * runs
