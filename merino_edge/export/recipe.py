"""How a bundle is made for a target: precision, shapes of the cache, what enters the graph.

The one idea: targets differ in a handful of values, so a recipe is a row of them. TensorRT's rows
take embeddings instead of ids (a table that is looked up and multiplied with lies in the engine
twice, unless its rows are a multiple of 8) and a past of a few fixed lengths (shapes and addresses
then stay, and a CUDA graph can be captured). Why these: benchmarks/tensorrt/README.md.

A bundle in whole numbers for the machine it is made on holds the native decoder's file and a graph
with the same numbers: where the decoder is missing ONNX Runtime takes over, and the two prove each
other. For a board's CPU it holds the native file alone: ONNX Runtime 1.10, the last for its Python,
cannot multiply with whole numbers, and a board's disk is small.
"""

from dataclasses import dataclass, replace

from merino_edge.errors import SpecError, UnsupportedError
from merino_edge.export.graph import FP32_NODES
from merino_edge.formats.engine_spec import EngineSpec, ShapeProfile, shape_profiles
from merino_edge.formats.whole_weights import WHOLE

FIRST_BUCKET = 128


@dataclass(frozen=True)
class Recipe:
    """What a target's bundle is made of.

    Attributes:
        precision: Of the matrices: "fp32" or "fp16" (norms, softmax and logits are float32 in
            both), "int8", "int4" or "int4-all".
        native: The bundle holds a file for the native decoder.
        graph: The bundle holds a graph.
        chunk_len: Most new tokens in a call of an engine; 0 for a target without engines.
        max_logits: Most rows of logits in a call of an engine.
        looks_up: The graph takes ids and looks them up itself.
        n_best: Give the so many largest logits as outputs of their own; 0 for none.
        workspace_bytes, tactic_sources_off: For the engine's builder; see ``EngineSpec``.
    """

    precision: str = "fp32"
    native: bool = False
    graph: bool = True
    chunk_len: int = 0
    max_logits: int = 0
    looks_up: bool = True
    n_best: int = 0
    workspace_bytes: int = 0
    tactic_sources_off: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether its matrices are whole numbers."""
        return self.precision in WHOLE

    @property
    def kv_dtype(self) -> str:
        """Of the cache."""
        return "float16" if self.precision == "fp16" else "float32"

    def engine(self) -> EngineSpec | None:
        """What an engine is told; None for a target without engines."""
        if not self.chunk_len:
            return None
        return EngineSpec(
            chunk_len=self.chunk_len,
            max_logits=self.max_logits,
            n_best=self.n_best,
            looks_up=self.looks_up,
            fp32_nodes=FP32_NODES if self.precision == "fp16" else [],
            workspace_bytes=self.workspace_bytes,
            tactic_sources_off=list(self.tactic_sources_off),
        )

    def lengths(self, context_len: int) -> tuple[list[ShapeProfile] | None, list[str] | None]:
        """Profiles and float32 patterns of the engine; None for a target without engines."""
        spec = self.engine()
        if spec is None:
            return None, None
        return shape_profiles(spec, self.buckets(context_len)), spec.fp32_nodes

    def buckets(self, context_len: int) -> list[int]:
        """Lengths of the past: powers of two from 128 up, and the context; empty for any length."""
        if not self.chunk_len:
            return []
        lengths, length = [], FIRST_BUCKET
        while length < context_len:
            lengths.append(length)
            length *= 2
        return [*lengths, context_len]


HOST = Recipe()
NATIVE = Recipe(precision="int8", native=True, graph=False)
# 1 GiB is no burden on these; TensorRT 10 has cuBLAS and cuDNN off by itself.
TENSORRT = Recipe(
    precision="fp16", chunk_len=128, max_logits=16, looks_up=False, workspace_bytes=1 << 30
)
# Larger workspaces get builds on a Nano killed (tensorrt_demos #253, #293); loading cuDNN takes
# 241 to 412 MB of its memory (tensorrtx #1145, #1160) and brings nothing to a decoder.
NANO = replace(TENSORRT, workspace_bytes=256 << 20, tactic_sources_off=("CUDNN",))
RECIPES = {
    "host": HOST,
    "mock-nano": HOST,
    "nano": NANO,
    "nano-cpu": NATIVE,
    "orin-nano": TENSORRT,
    "rtx": TENSORRT,
}


def in_precision(recipe: Recipe, precision: str) -> Recipe:
    """The recipe in another precision; whole numbers add a native file to a graph on a CPU.

    Raises:
        UnsupportedError: There is no such bundle.
    """
    whole = precision in WHOLE
    if recipe.chunk_len:
        possible, takes = not whole, "fp16 or fp32"
    else:
        possible, takes = precision != "fp16", "fp32, int8, int4 or int4-all"
    if not possible:
        raise UnsupportedError(
            f"--precision {precision} is not for this target: it takes {takes}.",
            hint="fp16 is for nano, orin-nano and rtx; whole numbers are for host and nano-cpu.",
        )
    return replace(recipe, precision=precision, native=recipe.native or whole)


def check_n_best(n_best: int, vocab_size: int) -> None:
    """Refuse more than there is, or more than TensorRT's TopK gives.

    Raises:
        SpecError: With the values.
    """
    most = min(vocab_size, 3840)  # MAX_TOPK_K of ITopKLayer, in the notes on that layer
    if not 0 <= n_best <= most:
        raise SpecError(f"n_best is {n_best}, must be between 0 and {most}.")
