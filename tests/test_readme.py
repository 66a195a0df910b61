"""The README: its stories are typed, its prose states no figure, its matrix leaves nothing out.

What cannot be typed here stands in a table, with the reason, and a line of that table that fits
nothing any more fails. So does a number in the prose that no line of ``CONSTANTS`` is for: figures
stand between marks, where ``benchmarks/pages.py`` puts what files say.
"""

import re

import pytest
from doc_pages import Reader, blocks_of, commands_of
from doc_stand_ins import (
    bundle_folder,
    checkpoint_folder,
    gguf_file,
    text_file,
    texts,
)
from repository import ROOT

from merino_edge.core.targets import TARGETS
from merino_edge.formats.whole_weights import WHOLE
from merino_edge.runtime.open import BACKENDS

# What the reader has before a story, by its first words.
BEFORE = {
    "merino-edge search --target host": [texts, gguf_file],
    "merino-edge bench": [bundle_folder, checkpoint_folder, text_file],
    "from merino_edge.runtime": [bundle_folder],
}
# Lines that are not run here, and why.
NOT_RUN = {
    r"^make |^pip install": "time, an environment of its own: continuous integration does it",
    r"--host user@board": "board: tests/pipeline/test_remote_*.py",
}
# Numbers that prose may have, and why; a figure that somebody measured is none of these.
CONSTANTS = {
    r"arXiv \d{4}\.\d{5}": "the paper's name",
    r"MeRino-64M|OPT-350M|SmolLM2-135M-Instruct|GPT-2|`gpt2`": "a model's name",
    r"Python 3\.\d+(\.\d+)?": "a version",
    r"(?<=Python program, )3\.6": "a version",
    r"JetPack \d(\.\d)?": "a version",
    r"TensorRT \d+\.\d": "a version",
    r"(numpy|onnxruntime|tokenizers) \d+\.\d+\.\d+": "a version that the board's Python 3.6 takes",
    r"[Vv]ersion 1\.0\.0": "a version",
    r"Apache-2\.0": "a licence",
    r"x86-64|aarch64|Cortex-A57|float32|C99": "a name",
    r"int8|int4|fp32|fp16": "a precision",
    r"^\| 3\.\d+(, 3\.\d+)* \|": "versions, in the matrix",
    r"\((\d+\.\d+\.\d+, )*\d+(\.\d+)+[,)]": "a version, in the matrix",
}
NUMBER_WORDS = "two|three|four|five|six|seven|eight|nine|ten|twelve|twenty|fifty|hundred"
FIGURE = re.compile(
    rf"\d[\d.,]*|\b(?:{NUMBER_WORDS}) times\b|\btwice as\b|\bper ?cent\b|\b(?:half|double) the\b",
    re.I,
)
VERDICT = re.compile(
    r"(?:on a board: )?(?:run for real|built by NVIDIA's builder|strict double|under qemu|"
    r"never run|not taken)(?: \([^;]+\))?"
)
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


def test_there_are_three_stories_and_each_is_typed():
    firsts = [block.text.split("\n")[0] for block in blocks_of(README)]
    typed = [first for first in firsts if any(first.startswith(words) for words in BEFORE)]
    assert len(typed) == len(BEFORE) == 3


def prose(page):
    """What somebody wrote: no fenced block, nothing between marks, no link's target."""
    page = re.sub(r"<!-- table (\w+) -->.*?<!-- end -->", "", page, flags=re.S)
    page = re.sub(r"^```.*?^```$", "", page, flags=re.M | re.S)
    return re.sub(r"\]\([^)]*\)", "]", page)


def figures_in(page):
    """Numbers of the prose that are no constants, each with its line."""
    found = []
    for line in prose(page).splitlines():
        rest = line
        for pattern in CONSTANTS:
            rest = re.sub(pattern, "", rest)
        found += [(match.group(), line) for match in FIGURE.finditer(rest)]
    return found


def test_no_figure_stands_in_the_prose():
    assert figures_in(README) == []


@pytest.mark.parametrize(
    "sentence",
    [
        "A token takes 2.31 ms.",
        "It reaches 61 tokens/s, 68 % of the bandwidth.",
        "MeRino-64M is 5.2 times smaller than OPT-350M.",
        "It is four times faster.",
        "The library adds 65 KB to a program for aarch64.",
        "| `native` | run for real | 0.59 |",
    ],
)
def test_a_figure_in_a_sentence_would_be_found(sentence):
    assert figures_in(sentence)


def test_every_constant_is_still_needed():
    text = prose(README)
    assert [p for p in CONSTANTS if not re.search(p, text, re.M)] == []


def matrices():
    """(header, rows) of each table of the section on what runs where."""
    section = re.search(r"^## What runs where\n(.*?)^## ", README, re.M | re.S).group(1)
    for text in re.findall(r"(?:^\|.*\n)+", section, re.M):
        lines = [[cell.strip() for cell in line.strip("|\n ").split("|")] for line in
                 text.splitlines()]  # fmt: skip
        yield lines[0], lines[2:]


def first_words(header):
    """Names in backticks that the rows of a matrix begin with."""
    (rows,) = [rows for head, rows in matrices() if head[0] == header]
    return {name for row in rows for name in re.findall(r"`([\w-]+)`", row[0])}


def test_every_target_and_every_backend_stands_in_the_matrix():
    assert first_words("target") == set(TARGETS)
    assert first_words("backend") == set(BACKENDS) - {"auto"}
    for head, rows in matrices():
        if head[0] == "target":
            known = {row[0].strip("`"): row[2] for row in rows}
            assert all(f"`{TARGETS[name].backend}`" in backends for name, backends in known.items())


def test_every_python_stands_in_the_matrix():
    (rows,) = [rows for head, rows in matrices() if head[0] == "Python"]
    assert {name for row in rows for name in row[0].split(", ")} == {f"3.{n}" for n in range(6, 14)}


def test_every_precision_stands_in_the_matrix():
    (head,) = [head for head, _ in matrices() if head[0] == "backend"]
    assert {cell.strip("`") for cell in head[1:]} == {"fp32", "fp16", *WHOLE}


@pytest.mark.torch
def test_every_family_that_is_imported_stands_in_the_matrix():
    from merino_edge.model.importers.gguf_llama import FAMILIES as IN_GGUF
    from merino_edge.model.importers.huggingface import FAMILIES

    assert first_words("family") == set(FAMILIES)
    (rows,) = [rows for head, rows in matrices() if head[0] == "family"]
    from_gguf = {row[0].strip("`") for row in rows if "GGUF" in row[1]}
    assert from_gguf == set(IN_GGUF)


def test_every_cell_of_the_matrix_says_how_it_was_seen():
    told = {"target": 3, "backend": 1, "family": 3, "Python": 1}
    seen = []
    for head, rows in matrices():
        for row in rows:
            seen.append(head[0])
            for cell in row[told[head[0]] :]:
                assert all(VERDICT.fullmatch(part) for part in cell.split("; ")), cell
    assert set(seen) == set(told)
