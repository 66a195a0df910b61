"""Bundles that x86 makes and ARM runs: a small llama, whole for ONNX Runtime and packed for us.

The one idea: they pass the exporter's own checks, so each holds golden tokens that this machine's
runtime gave, and ``verify`` on the other machine compares with them. Weights are random, by a seed.
"""

import pathlib

from doubles import CHAT, llama_architecture, random_tensors, write_tokenizer

from merino_edge.export.bundler import Source
from merino_edge.formats.architecture import BlockSpec
from merino_edge.formats.manifest import GenerationDefaults
from merino_edge.pipeline.build import BuildOptions, build_for_target

# Name: target, precision, backend.
KINDS = {
    "fp32": ("host", None, "ort"),
    "int8": ("nano-cpu", "int8", "native"),
    "int4": ("nano-cpu", "int4", "native"),
    "int4-all": ("nano-cpu", "int4-all", "native"),
}


def write_bundles(folder: pathlib.Path) -> None:
    """One bundle of each kind, named for it."""
    source = _source(folder)
    for name, (target, precision, _) in KINDS.items():
        build_for_target(source, target, str(folder / name), BuildOptions(64, precision, 0))


def _source(folder: pathlib.Path) -> Source:
    block = BlockSpec(d_model=64, n_head=4, n_kv_head=2, d_ff=160, depth=1)
    architecture = llama_architecture(blocks=(block,) * 4, max_seq_len=64)
    write_tokenizer(folder / "tokenizer.json", architecture.vocab_size)
    return Source(
        name="small-llama",
        architecture=architecture,
        tensors=random_tensors(architecture, seed=0),
        tokenizer_json=(folder / "tokenizer.json").read_text(encoding="utf-8"),
        generation=GenerationDefaults(eos_token_ids=[0]),
        chat=CHAT,
        provenance={"weights": "random, seed 0"},
    )
