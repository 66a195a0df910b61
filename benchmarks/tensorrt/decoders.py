"""The decoders that are measured here, and how their graphs are written.

The one idea: bytes and times follow from shapes, so weights are random and nothing is downloaded.
MeRino-64M is what ``../results/search/presets.json`` proves to be the best of its budget; SmolLM2's
shape is public. A variant of a graph lies beside the weights of the original and shares them.
"""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

HERE = Path(__file__).resolve().parent
sys.path += [str(HERE.parent / "common"), str(HERE.parent / "search")]
from known_models import KNOWN_MODELS  # noqa: E402
from reports import RESULTS  # noqa: E402

from merino_edge.errors import UsageError  # noqa: E402
from merino_edge.export.onnx_file import ONNX_FILE, export_decoder  # noqa: E402
from merino_edge.export.recipe import NANO  # noqa: E402
from merino_edge.formats import jsonio  # noqa: E402
from merino_edge.formats.architecture import Architecture, BlockSpec  # noqa: E402
from merino_edge.model.transformer import random_tensors  # noqa: E402

MERINO, SMOLLM2, TINY = "MeRino-64M", "SmolLM2-135M", "tiny"
NAMES = (MERINO, SMOLLM2, TINY)
CONTEXT_LEN = 512
SEED = 0


def architecture_of(name: str) -> Architecture:
    """By a name in ``NAMES``.

    Raises:
        UsageError: There is none.
    """
    if name == MERINO:
        presets = json.loads((RESULTS / "search" / "presets.json").read_text("utf-8"))
        return jsonio.decode(Architecture, presets["ours"][-1]["architecture"])
    if name == SMOLLM2:
        return KNOWN_MODELS[name].architecture
    if name == TINY:
        return _tiny()
    raise UsageError(f"there is no decoder '{name}'.", hint="one of " + ", ".join(NAMES))


def export(folder: str, a: Architecture, **changes: Any) -> onnx.ModelProto:
    """Write graph and random weights into a folder, as for a Nano but for some fields.

    Args:
        folder: An existing, private folder.
        a: The decoder.
        changes: Fields of ``Recipe``, such as ``precision="fp32"``.

    Returns:
        The graph; its weights are references into the folder.
    """
    recipe = replace(NANO, **changes)
    export_decoder(folder, a, random_tensors(a, SEED), CONTEXT_LEN, recipe)
    return onnx.load(os.path.join(folder, ONNX_FILE), load_external_data=False)


def save(folder: str, name: str, model: onnx.ModelProto) -> str:
    """Write a variant beside the weights that it shares; returns its path."""
    path = os.path.join(folder, f"{name}.onnx")
    jsonio.write_bytes_atomic(path, model.SerializeToString())
    return path


def _tiny() -> Architecture:
    """As SmolLM2 in kind: grouped heads, gated feed-forward; and shared layers, as MeRino."""
    block = BlockSpec(d_model=64, n_head=4, n_kv_head=2, d_ff=96, depth=2)
    return Architecture(
        (block, block),
        vocab_size=300,
        max_seq_len=CONTEXT_LEN,
        norm="rmsnorm",
        position="rope",
        activation="silu",
        gated_ffn=True,
        attention_bias=False,
        ffn_bias=False,
    )
