"""How large is an engine, what lies in it twice, and which way of writing or building avoids that?

The one idea: bytes of the engine over bytes of the stored parameters in half precision. 1.0 would
be weights and nothing else. TensorRT-RTX builds without a GPU, so this is a fact about NVIDIA's
builder of today; TensorRT 8.2 on a board may store otherwise, and its own figure stands in the
report of every `merino-edge build`.

Weights are random: the sizes are those of real ones.

Example:
  python benchmarks/tensorrt/engine_bytes.py
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import onnx
from decoders import CONTEXT_LEN, MERINO, NAMES, SEED, SMOLLM2, architecture_of, export, save
from engine_bytes_report import FIXED, SCHEMA, SHIPPED, Copies, Engine, Model, Report, markdown
from engines import build, copies, made_with
from products import gate_and_up_apart, products_of_transposed
from reports import new_parser, results_folder, run_script

from merino_edge.cli.output import Progress
from merino_edge.core.counting import n_params
from merino_edge.export.onnx_file import WEIGHTS_FILE
from merino_edge.export.recipe import NANO
from merino_edge.formats.architecture import Architecture
from merino_edge.formats.engine_spec import DECODE, PREFILL, Range, ShapeProfile, shape_profiles
from merino_edge.runtime.weights_map import map_tensors

ONE, ALL = (1, 1, 1), (1, NANO.chunk_len, NANO.chunk_len)


@dataclass(frozen=True)
class Way:
    """A way to write the graph, or to say which lengths it must take.

    Attributes:
        name: For the table.
        decode, prefill: (min, best, max) of new tokens; None for an engine without the profile.
        write: Changes the graph.
        recipe: Fields of ``Recipe`` that differ from the Nano's.
        vocabulary_of: The vocabulary is rounded up to a multiple of this.
    """

    name: str
    decode: Range | None = ONE
    prefill: Range | None = ALL
    write: Callable[[onnx.ModelProto], onnx.ModelProto] | None = None
    recipe: dict[str, Any] = field(default_factory=dict)
    vocabulary_of: int = 1

    def suits(self, a: Architecture) -> bool:
        """Whether it makes another graph of this decoder than the ways before it."""
        if self.write is gate_and_up_apart:
            return a.gated_ffn
        return self.vocabulary_of == 1 or a.vocab_size % self.vocabulary_of > 0

    def decoder(self, a: Architecture) -> Architecture:
        """The decoder with the vocabulary that is asked for."""
        size = -(-a.vocab_size // self.vocabulary_of) * self.vocabulary_of
        return a.replace(vocab_size=size)

    def profiles(self) -> list[ShapeProfile]:
        """The lengths, decode first."""
        shipped = shape_profiles(NANO.engine(), NANO.buckets(CONTEXT_LEN))
        lengths = {DECODE: self.decode, PREFILL: self.prefill}
        return [
            profile._replace(dims={**profile.dims, "q_len": lengths[profile.name]})
            for profile in shipped
            if lengths[profile.name] is not None
        ]


WAYS = (
    Way(FIXED),
    Way("no prefill", prefill=None),
    Way("no decode", decode=None),
    Way(SHIPPED, decode=(1, 1, 2)),
    Way("prefill is best at 64", prefill=(1, NANO.chunk_len // 2, NANO.chunk_len)),
    Way("both are best at 1", prefill=(1, 1, NANO.chunk_len)),
    Way("prefill takes 2 or more", prefill=(2, NANO.chunk_len, NANO.chunk_len)),
    Way("gate and up are products of their own", write=gate_and_up_apart),
    Way("MatMul with matrices turned", write=products_of_transposed),
    Way("the graph looks tokens up", recipe={"looks_up": True}),
    Way("looks up, vocabulary a multiple of 8", recipe={"looks_up": True}, vocabulary_of=8),
)


def main() -> None:
    """Build, save, print."""
    parser = new_parser(__doc__, results_folder(__file__) / "engine_bytes.json")
    parser.add_argument("--decoders", nargs="+", default=[MERINO, SMOLLM2], choices=NAMES)
    run_script(parser, SCHEMA, make_report, markdown)


def make_report(options: argparse.Namespace) -> Report:
    """Build every way of every decoder.

    Raises:
        MissingDependencyError: TensorRT-RTX is not installed.
    """
    found = made_with(("numpy", "onnx", "torch"))
    progress, models = Progress("engine bytes"), []
    for name in options.decoders:
        a = architecture_of(name)
        engines = []
        for way in (w for w in WAYS if w.suits(a)):
            progress.update(f"{name}: {way.name}")
            engines.append(build_way(a, way))
        models.append(Model(name, engines))
    return Report(found, SEED, NANO.chunk_len, models)


def build_way(a: Architecture, way: Way) -> Engine:
    """Write the graph, build it, and look for copies."""
    a = way.decoder(a)
    with tempfile.TemporaryDirectory(prefix="engine-bytes-") as folder:
        model = export(folder, a, **way.recipe)
        path = save(folder, "way", way.write(model) if way.write else model)
        built, plan = build(path, way.profiles())
        return Engine(
            way.name, n_params(a), built, list(_copies(f"{folder}/{WEIGHTS_FILE}", a, plan))
        )


def _copies(weights_path: str, a: Architecture, plan: bytes) -> Iterator[Copies]:
    ends = ("blocks.0.", f"blocks.{len(a.blocks) - 1}.")
    for name, matrix in map_tensors(weights_path, "float16").items():
        if matrix.ndim == 2 and (name.startswith(ends) or not name.startswith("blocks.")):
            found = copies(plan, matrix)
            if found is not None:
                yield Copies(name, *found)


if __name__ == "__main__":
    main()
