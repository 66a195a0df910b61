"""The README's stories are typed as they stand, each in a folder of its own.

What cannot be typed here stands in a table, with the reason, and a line of that table that fits
nothing any more fails.
"""

import re

import pytest
from doc_pages import Reader, blocks_of, commands_of
from doc_stand_ins import (
    bundle_folder,
    checkpoint_folder,
    gguf_file,
    packed_texts,
    small_architectures,
    text_file,
    texts,
)
from repository import ROOT

# What the reader has before a story, by its first words.
BEFORE = {
    "merino-edge search --target host": [texts],
    "merino-edge import": [gguf_file],
    "merino-edge build --target nano": [checkpoint_folder, text_file],
    "from merino_edge.runtime": [bundle_folder],
    "merino-edge tokenize": [texts, packed_texts, small_architectures],
    "merino-edge serve": [bundle_folder],
}
# Lines that are not run here, and why.
NOT_RUN = {
    r"^make |^pip install": "time, an environment of its own: continuous integration does it",
    r"import opt-350m --random": "time, 1.3 GB: the preset is imported by tests/model",
    r"--host user@board": "board: tests/pipeline/test_remote_*.py",
    r"^merino-edge build bundle/$": "board: tests/runtime/engine builds engines behind a double",
    r"^merino-edge profile --target host": "time, a quiet machine: tests/pipeline",
    r"--latency-table|--show table.json": "time, the table before it",
    r"^merino-edge serve": "server, until it is stopped: tests/cli/test_serve_command.py",
    r"^torchrun": "time: tests/training/test_distributed.py",
    r"hellaswag": "data, the questions: tests/cli/test_eval_command.py",
    r"--method exact": "time, minutes of proof: tests/search/test_exact.py",
}
README = (ROOT / "README.md").read_text("utf-8")


def stories():
    for block in blocks_of(README):
        lines = commands_of(block) if block.language == "sh" else [block.text.split("\n")[0]]
        run = [line for line in lines if not any(re.search(p, line) for p in NOT_RUN)]
        if run and not block.needs:
            marks = [pytest.mark.torch, pytest.mark.onnx]
            more = [] if block.language == "python" else [pytest.mark.slow]
            yield pytest.param(block, run, marks=marks + more, id=f"line {block.line}")


@pytest.fixture
def reader(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MERINO_EDGE_CACHE", str(tmp_path / "engines"))
    monkeypatch.setenv("MERINO_EDGE_STORE", str(tmp_path / "store"))
    return Reader(tmp_path)


@pytest.mark.parametrize(("block", "run"), list(stories()))
def test_what_the_readme_says_to_type_works(block, run, reader, native_library):
    for beginning, parts in BEFORE.items():
        if block.text.startswith(beginning):
            for prepare in parts:
                prepare(reader.folder)
    whole = block.text if block.language == "python" else "\n".join(run) + "\n"
    reader.type(block._replace(text=whole))


def test_every_exception_of_the_readme_is_still_needed():
    lines = [line for b in blocks_of(README) if b.language == "sh" for line in commands_of(b)]
    idle = [p for p in NOT_RUN if not any(re.search(p, line) for line in lines)]
    assert idle == []
