"""What the reader of a page has already: texts, a model, a bundle; small, and real all the same.

Each function puts one thing into the folder where a page's commands are typed, under the name that
the pages give it.
"""

import json
import os
from pydoc_data.topics import topics

import pytest
from doubles import native_bundle

from merino_edge.cli.main import main

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
TOPICS = ("assignment", "bltin-type-objects", "compound", "import", "numbers", "strings", "types")


def texts(folder):
    """Seven chapters of Python's own manual: what a reader has as texts/."""
    (folder / "texts").mkdir()
    for name in TOPICS:
        (folder / f"texts/{name}.txt").write_text(topics[name], encoding="utf-8")


def text_file(folder):
    (folder / "text.txt").write_text(topics["numbers"], encoding="utf-8")


def gguf_file(folder):
    """A file of the llama family, with room for a question."""
    from tiny_gguf import write_gguf

    os.rename(write_gguf(folder, storage="Q8_0", llama__context_length=256), folder / GGUF)


def hugging_face_folder(folder):
    """A small Pythia, as transformers saves it."""
    from tiny_hf import random_model, save_hf_folder

    save_hf_folder(folder / "pythia-70m-folder", random_model("pythia"))


def eval_data(folder):
    """The texts that ``eval`` scores."""
    from tiny_tasks import write_data

    write_data(folder / "data")


def checkpoint_folder(folder):
    """A checkpoint: random weights, and a tokenizer of a few hundred tokens."""
    from tiny_tasks import write_checkpoint

    write_checkpoint(folder / "checkpoint")


def bundle_folder(folder):
    """A bundle for the native decoder, as `build --target nano-cpu` makes it."""
    native_bundle(folder / "bundle")


def bundle_with_answers(folder):
    """A bundle whose golden prompts a device can try, and the package that signs it."""
    pytest.importorskip("nacl")
    checkpoint_folder(folder)
    build = ["build", "--target", "nano-cpu", "checkpoint", "-o", "bundle", "--quiet"]
    assert main(build) == 0


def small_architectures(folder):
    """A teacher's and a student's, as `search` leaves them."""
    for name, limit in (("arch", "1.5M"), ("small", "1M")):
        words = ["--candidates", "5k", "--max-params", limit, "--max-flops", "5G", "-q"]
        words += ["--vocab-size", "4096", "-o", f"{name}.json"]
        assert main(["search", "--target", "host", *words]) == 0


def packed_texts(folder):
    """The rest of that manual, as more/*.jsonl.zst."""
    zstandard = pytest.importorskip("zstandard")
    lines = [json.dumps({"text": topics[name]}) for name in sorted(topics) if name not in TOPICS]
    packed = zstandard.compress("\n".join(lines).encode("utf-8"))
    (folder / "more").mkdir()
    (folder / "more/rest.jsonl.zst").write_bytes(packed)
