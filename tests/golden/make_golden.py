"""Make the golden files again: ``make golden``, then read ``git diff`` before you commit.

``tiny-bundle/`` is a complete bundle of a small MeRino decoder with a joint and a shared block
(random weights, seed 0, a tokenizer trained on three lines). It is what a board's tests run, and
what keeps an old bundle readable: a version that cannot open it breaks the promise of the schema.

``tiny-nano-bundle/`` is the same decoder, made for TensorRT on a Jetson Nano: half precision, rows
instead of ids, a past in three buckets, and the eight best logits as outputs of their own.

``tiny-int8.merino`` and ``tiny-int4.merino`` are weights as the native decoder maps them, of
a still smaller decoder: they hold the format of ``formats/native_file.py`` to its bytes.
``tiny-version3-int8.merino`` is one that needs version 3: norms behind, half of each head turned.
"""

import dataclasses
import os
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))

from doubles import CHAT, random_tensors, tiny_architecture, write_tokenizer  # noqa: E402
from model_families import NATIVE_FILES  # noqa: E402

from merino_edge.export.bundler import Source, build_bundle  # noqa: E402
from merino_edge.export.native_pack import pack  # noqa: E402
from merino_edge.export.recipe import RECIPES  # noqa: E402
from merino_edge.formats.manifest import GenerationDefaults  # noqa: E402


def main() -> None:
    """Write everything below this folder."""
    architecture = tiny_architecture()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "tokenizer.json")
        write_tokenizer(path, architecture.vocab_size)
        with open(path, encoding="utf-8") as stream:
            tokenizer_json = stream.read()
    source = Source(
        name="tiny",
        architecture=architecture,
        tensors=random_tensors(architecture, seed=0),
        tokenizer_json=tokenizer_json,
        generation=GenerationDefaults(eos_token_ids=[0]),
        chat=CHAT,
        provenance={"weights": "random, seed 0"},
    )
    build_bundle(source, "host", 32, os.path.join(HERE, "tiny-bundle"), force=True)
    longer = tiny_architecture(max_seq_len=300)
    source = dataclasses.replace(
        source, architecture=longer, tensors=random_tensors(longer, seed=0)
    )
    recipe = dataclasses.replace(RECIPES["nano"], n_best=8)
    path = os.path.join(HERE, "tiny-nano-bundle")
    build_bundle(source, "nano", 300, path, force=True, recipe=recipe)
    write_native_files()


def write_native_files() -> None:
    """The files of tests/export/test_native_pack.py."""
    for name, (architecture, precision) in NATIVE_FILES.items():
        tensors = random_tensors(architecture, seed=0)
        pack(os.path.join(HERE, name), architecture, tensors, precision)


if __name__ == "__main__":
    main()
