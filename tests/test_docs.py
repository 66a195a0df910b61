"""The pages: every command in them is typed, or says why not; every link leads somewhere.

A page's blocks run in order, in a folder with small stand-ins for what the reader has already: a
few chapters of text, a model, a board's table. ``doc_pages.SHORTER`` is all that changes a command.
"""

import ast
import re
import sys

import pytest
from doc_pages import NEEDS, Reader, blocks_of, commands_of
from doc_stand_ins import (
    bundle_folder,
    bundle_with_answers,
    checkpoint_folder,
    eval_data,
    gguf_file,
    hugging_face_folder,
    text_file,
    texts,
)
from repository import ROOT

from merino_edge.cli.registry import COMMANDS

sys.path.insert(0, str(ROOT / "docs"))
import make_commands

DOCS = sorted(path.name for path in (ROOT / "docs").glob("*.md"))
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "benchmarks").glob("**/README.md")),
    *sorted((ROOT / "jetson").glob("**/*.md")),
]
names = {"argvalues": PAGES, "ids": lambda path: str(path.relative_to(ROOT))}


# What the reader of a page has before its first command.
BEFORE = {
    "bring-your-own-model.md": [gguf_file, hugging_face_folder, text_file],
    "deploy.md": [checkpoint_folder],
    "design-a-model.md": [texts],
    "embed.md": [bundle_folder],
    "train-and-evaluate.md": [texts, eval_data],
    "update.md": [bundle_with_answers],
}
SLOW = {
    "design-a-model.md",
    "train-and-evaluate.md",
}  # searches with proofs, trainings, a whole run


@pytest.fixture
def reader(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MERINO_EDGE_CACHE", str(tmp_path / "engines"))
    return Reader(tmp_path)


def runnable():
    marks = [pytest.mark.torch, pytest.mark.onnx]
    for name in DOCS:
        if any(not block.needs for block in blocks_of((ROOT / "docs" / name).read_text("utf-8"))):
            more = [pytest.mark.slow] if name in SLOW else []
            yield pytest.param(name, marks=marks + more, id=name)


@pytest.mark.parametrize("name", list(runnable()))
def test_what_a_page_says_to_type_works(name, reader, native_library):
    for prepare in BEFORE.get(name, []):
        prepare(reader.folder)
    for block in blocks_of((ROOT / "docs" / name).read_text("utf-8")):
        if not block.needs:
            reader.type(block)


@pytest.mark.parametrize("path", **names)
def test_every_mark_gives_a_reason_that_is_known(path):
    reasons = [block.needs for block in blocks_of(path.read_text("utf-8")) if block.needs]
    assert [reason for reason in reasons if re.split("[,;]", reason)[0] not in NEEDS] == []


@pytest.mark.parametrize("path", **names)
def test_every_relative_link_leads_somewhere(path):
    text = re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.M | re.S)
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        file, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        there = (path.parent / file) if file else path
        if not there.exists() or (anchor and anchor not in anchors_of(there)):
            dead.append(target)
    assert dead == []


def anchors_of(path):
    """What a heading can be linked by, as GitHub makes it."""
    headings = re.findall(r"^#+ (.+)$", path.read_text("utf-8"), re.M)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.strip().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("path", **names)
def test_every_file_of_ours_that_a_page_names_is_there(path):
    """In backticks, from the root of the checkout: `benchmarks/...`, `tests/...`."""
    folders = "benchmarks|docs|jetson|merino_edge|tests|docker"
    named = re.findall(rf"`((?:{folders})/[\w./-]*\w)`", path.read_text("utf-8"))
    assert [name for name in named if not (ROOT / name).exists()] == []


def help_words(command):
    """Every word that the help of a command and of its verbs has."""
    words = make_commands.help_of(command.name)
    return words + "".join(
        make_commands.help_of(command.name, verb) for verb in make_commands.verbs_of(command)
    )


def test_every_option_in_a_page_is_one_of_its_command():
    """Also in blocks that are not run, and in sentences: `merino-edge build --best 40`."""
    known = {c.name: set(re.findall(r"(?<![\w-])--?[\w-]+", help_words(c))) for c in COMMANDS}
    wrong = []
    for path in [page for page in PAGES if page.name != "commands.md"]:
        for command in typed_in(path.read_text("utf-8")):
            verb, *words = command.split()[1:] or [""]
            options = [re.sub(r"=.*", "", word) for word in words if word.startswith("-")]
            options = [option for option in options if re.fullmatch(r"--?[a-z][\w-]*", option)]
            if verb in ("--help", "--version", "VERB"):
                continue
            if verb not in known or not set(options) <= known[verb] | {"-h", "--help"}:
                wrong.append(f"{path.name}: {command}")
    assert wrong == []


def typed_in(text):
    """Every `merino-edge ...` of a page: in code spans, and in blocks of sh."""
    inline = re.findall(r"(?<!`)`(merino-edge [^`\n…]+)`(?!`)", text)
    blocks = [line for b in blocks_of(text) if b.language == "sh" for line in commands_of(b)]
    plain = [line for line in blocks if line.startswith("merino-edge ")]
    return inline + [re.split(r" [|>&]|;", line)[0] for line in plain]


@pytest.mark.skipif(
    not (3, 10) <= sys.version_info < (3, 13), reason="this Python lays help out otherwise"
)
def test_the_page_of_commands_is_what_help_says():
    assert make_commands.PAGE.read_text("utf-8") == make_commands.page(), (
        "make it again: python docs/make_commands.py"
    )


def strings_by_module():
    """Every text in a module of the package, as one, with ``…`` where values go."""
    for path in sorted((ROOT / "merino_edge").rglob("*.py")):
        texts = []
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [p.value if isinstance(p, ast.Constant) else "…" for p in node.values]
                texts.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(re.sub(r"\{[^{}]*\}", "…", node.value))
        yield "\n".join(texts)


def test_every_message_to_look_up_is_one_that_the_code_has():
    text = (ROOT / "docs/troubleshoot.md").read_text("utf-8")
    messages = set(re.findall(r"\*\*`([^`]+)`\*\*", text)) - {"Illegal instruction"}
    assert len(messages) > 50
    modules = list(strings_by_module())

    def is_there(message):
        pieces = [piece for piece in re.split("…", message) if len(piece.strip(" .,;:'()")) > 3]
        return any(all(piece.strip() in module for piece in pieces) for module in modules)

    assert [message for message in sorted(messages) if not is_there(message)] == []


def test_the_layers_drawn_are_those_that_lint_checks():
    contract = re.search(r"^layers =\n((?:    .+\n)+)", (ROOT / ".importlinter").read_text(), re.M)
    layers = [line.strip().replace("merino_edge.", "") for line in contract.group(1).splitlines()]
    drawn = "```text\n{}\n```".format("\n".join(layers))
    assert drawn in (ROOT / "docs/architecture.md").read_text("utf-8")


def test_the_index_names_every_page():
    index = (ROOT / "docs/README.md").read_text("utf-8")
    assert [name for name in DOCS if f"({name})" not in index and name != "README.md"] == []
