"""From weights to a bundle that has proved itself.

Order: the native decoder's file, graph and weights, operator check, tokenizer, golden prompts,
manifest, parity; then the folder gets its name. Whatever fails or interrupts on the way, nothing is
left behind.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from tokenizers import Tokenizer

from merino_edge import __version__
from merino_edge.core.counting import kv_cache_spec, n_params
from merino_edge.export.native_pack import pack
from merino_edge.export.onnx_file import (
    ONNX_FILE,
    WEIGHTS_FILE,
    check_context,
    export_decoder,
)
from merino_edge.export.operators import check_operators
from merino_edge.export.parity import Parity, check_parity
from merino_edge.export.recipe import RECIPES, Recipe, check_n_best
from merino_edge.export.rounding_check import check_rounding
from merino_edge.formats import jsonio
from merino_edge.formats.architecture import Architecture
from merino_edge.formats.bundle import MANIFEST, Bundle, file_entries, folder_in_place
from merino_edge.formats.manifest import (
    SCHEMA,
    BundleManifest,
    ChatFormat,
    GenerationDefaults,
    GoldenPrompt,
)
from merino_edge.formats.native_file import NATIVE_FILE
from merino_edge.formats.pieces_file import PIECES_FILE, pieces_of_tokenizer, write_pieces
from merino_edge.formats.tokenizer_file import portable_json
from merino_edge.formats.whole_weights import WHOLE
from merino_edge.model.checkpoint import Checkpoint, read_text
from merino_edge.model.reference import GreedyStep, greedy_steps
from merino_edge.model.transformer import MerinoLM, load_model, random_tensors
from merino_edge.runtime.native_map import native_tensors
from merino_edge.runtime.whole_map import check_same_numbers

TOKENIZER_FILE = "tokenizer.json"
GRAPH_ROLES = {ONNX_FILE: "onnx", WEIGHTS_FILE: "weights"}
GOLDEN_PROMPTS = (
    "The capital of France is",
    "Once upon a time there was",
    "To be, or not to be:",
    "1, 2, 3, 5, 8, 13",
)
GOLDEN_TOKENS = 16
# A golden token is clear if its margin is this share of the largest logit. In float32 that is ten
# times the tolerance of the comparison; in half precision texts of SmolLM2 were seen to part at
# 0.05 % with sums in float32, at 0.8 % with sums in half (benchmarks/tensorrt/README.md).
CLEAR_MARGINS = {"fp32": 2e-3, "fp16": 2.5e-2}
# Where activations are rounded to int8 logits move by a share of their spread: see
# ``runtime.verify.WHOLE_TOLERANCE``. In 384 tokens of SmolLM2 the native decoder and ONNX Runtime
# chose another token at margins up to 0.20 of the spread, in 270 tiny random decoders up to 0.34.
WHOLE_CLEAR_MARGIN = 0.4


@dataclass(frozen=True)
class Source:
    """Weights and what belongs to them.

    Attributes:
        name: For people.
        architecture: The decoder.
        tensors: Name -> float32 array.
        tokenizer_json: None for random weights, which have no language.
        generation: Defaults.
        chat: How a conversation is written, or None.
        provenance: Where the weights come from.
    """

    name: str
    architecture: Architecture
    tensors: Mapping[str, np.ndarray]
    tokenizer_json: str | None = None
    generation: GenerationDefaults = field(default_factory=GenerationDefaults)
    chat: ChatFormat | None = None
    provenance: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, name: str = "") -> "Source":
        """Everything a checkpoint holds; the folder names it unless ``name`` does."""
        info = checkpoint.info
        return cls(
            name=name or os.path.basename(os.path.abspath(checkpoint.path)),
            architecture=info.architecture,
            tensors=checkpoint.tensors(),
            tokenizer_json=read_text(checkpoint.tokenizer_path),
            generation=info.generation,
            chat=info.chat,
            provenance=info.provenance,
        )

    @classmethod
    def random(cls, architecture: Architecture, seed: int) -> "Source":
        """Untrained weights: right for measuring speed and memory, wrong for text."""
        return cls(
            name=f"random-{architecture.arch_id}",
            architecture=architecture,
            tensors=random_tensors(architecture, seed),
            provenance={"weights": f"random, seed {seed}: for measuring only"},
        )


def build_bundle(
    source: Source,
    target: str,
    context_len: int,
    output: str,
    force: bool = False,
    on_progress: Callable[[str], None] = lambda text: None,
    recipe: Recipe | None = None,
) -> tuple[Bundle, Parity]:
    """Make a bundle and prove it.

    Args:
        source: Weights and what belongs to them.
        target: A name in ``export.recipe.RECIPES``.
        context_len: Tokens that the cache shall hold.
        output: The folder to make.
        force: Replace an earlier bundle there.
        on_progress: Told what is being done.
        recipe: Another way than the target's own.

    Raises:
        SpecError: The context is longer than the model's, or a weight too large for half precision.
        UnsupportedError: The target does not take an operator.
        ParityError: The exported file computes something else.
        UsageError: Something stands at ``output``.
        OSError: The disk is full.
    """
    recipe = recipe or RECIPES[target]
    check_context(source.architecture, context_len)
    check_n_best(recipe.n_best, source.architecture.vocab_size)
    with folder_in_place(output, MANIFEST, force) as folder:
        tensors = source.tensors
        if recipe.native:
            tensors = _write_native(folder, source, recipe, on_progress)
        if recipe.graph:
            write_graph(folder, source, target, context_len, recipe, on_progress)
        tokenizer = _write_tokenizer(folder, source, recipe)
        torch_model = load_model(source.architecture, tensors)
        on_progress("asking the model for golden tokens")
        golden = golden_prompts(torch_model, tokenizer, context_len, recipe.precision)
        write_manifest(folder, source, target, context_len, golden, recipe)
        on_progress("comparing the exported decoder, torch and the numpy reference")
        parity = check_parity(Bundle.open(folder), torch_model)
    return Bundle.open(output), parity


def write_graph(
    folder: str,
    source: Source,
    target: str,
    context_len: int,
    recipe: Recipe,
    on_progress: Callable[[str], None],
) -> None:
    """Write and check the graph and its weights; in whole numbers, of the native file there."""
    on_progress("writing the graph and the weights")
    model = export_decoder(folder, source.architecture, source.tensors, context_len, recipe)
    check_operators(model, target, *recipe.lengths(context_len))
    if recipe.whole:
        native, weights = os.path.join(folder, NATIVE_FILE), os.path.join(folder, WEIGHTS_FILE)
        check_same_numbers(native, weights, source.architecture)


def _write_native(
    folder: str, source: Source, recipe: Recipe, on_progress: Callable[[str], None]
) -> Mapping[str, np.ndarray]:
    """Write the native file; golden tokens come from its rounded weights.

    What rounding the weights costs is a question of quality, asked elsewhere; the golden tokens
    ask whether a decoder computes rightly with the weights it was given.
    """
    path = os.path.join(folder, NATIVE_FILE)
    pack(path, source.architecture, source.tensors, recipe.precision, on_progress)
    check_rounding(path, source.architecture, source.tensors)
    return native_tensors(path, source.architecture)


def golden_prompts(
    model: MerinoLM, tokenizer: Tokenizer | None, context_len: int, precision: str = "fp32"
) -> list[GoldenPrompt]:
    """Prompts with the model's greedy tokens, near-ties marked as unclear."""
    golden = []
    for text in GOLDEN_PROMPTS:
        prompt, ids = _fitting(text, tokenizer, model.architecture.vocab_size, context_len // 2)
        n_tokens = min(GOLDEN_TOKENS, context_len - len(ids))
        steps = list(greedy_steps(model, ids, n_tokens))
        unclear = [i for i, step in enumerate(steps) if not _is_clear(step, precision)]
        golden.append(GoldenPrompt(prompt, ids, [s.token for s in steps], unclear))
    return golden


def _is_clear(step: GreedyStep, precision: str) -> bool:
    if precision in WHOLE:
        return step.margin >= WHOLE_CLEAR_MARGIN * step.spread
    return step.margin >= CLEAR_MARGINS[precision] * max(1.0, step.logit)


def _fitting(
    text: str, tokenizer: Tokenizer | None, vocab_size: int, n_tokens: int
) -> tuple[str, list[int]]:
    """The longest beginning of a text that fits, and its ids: text and ids stay one thing."""
    for end in range(len(text), 1, -1):
        ids = _prompt_ids(text[:end], tokenizer, vocab_size)
        if len(ids) <= n_tokens:
            return text[:end], ids
    return text[:1], _prompt_ids(text[:1], tokenizer, vocab_size)


def _prompt_ids(prompt: str, tokenizer: Tokenizer | None, vocab_size: int) -> list[int]:
    if tokenizer is not None:
        return list(tokenizer.encode(prompt, add_special_tokens=False).ids)
    return [byte % vocab_size for byte in prompt.encode("utf-8")]


def _write_tokenizer(folder: str, source: Source, recipe: Recipe) -> Tokenizer | None:
    if source.tokenizer_json is None:
        return None
    text = portable_json(source.tokenizer_json)
    if recipe.native:  # for C programs, which have no tokenizer
        pieces, ends = pieces_of_tokenizer(text), source.generation.eos_token_ids
        write_pieces(os.path.join(folder, PIECES_FILE), pieces, ends)
    jsonio.write_bytes_atomic(os.path.join(folder, TOKENIZER_FILE), text.encode("utf-8"))
    return Tokenizer.from_str(text)


def write_manifest(
    folder: str,
    source: Source,
    target: str,
    context_len: int,
    golden: list[GoldenPrompt],
    recipe: Recipe,
) -> None:
    """Write the manifest of a folder that has all its other files."""
    roles = {NATIVE_FILE: "native"} if recipe.native else {}
    roles |= GRAPH_ROLES if recipe.graph else {}
    if source.tokenizer_json is not None:
        roles[TOKENIZER_FILE] = "tokenizer"
        roles |= {PIECES_FILE: "pieces"} if recipe.native else {}
    manifest = BundleManifest(
        name=source.name,
        target=target,
        precision=recipe.precision,
        architecture=source.architecture,
        n_params=n_params(source.architecture),
        kv_cache=kv_cache_spec(
            source.architecture, context_len, recipe.kv_dtype, recipe.buckets(context_len)
        ),
        files=file_entries(folder, roles),
        generation=source.generation,
        golden=golden,
        made_by=f"merino-edge {__version__}",
        chat=source.chat,
        provenance=dict(source.provenance),
        engine=recipe.engine(),
    )
    jsonio.write_record(os.path.join(folder, MANIFEST), SCHEMA, manifest)
