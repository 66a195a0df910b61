"""Instructions of one decode step on a Cortex-A57, and the Jetson Nano's time predicted from them.

The one idea: the step runs for real, under QEMU, and every executed instruction is counted; only
the time is a prediction (``instructions_a57.py`` says how). Bytes are those of the file, each block
as often as it is applied, and of the cache. Needs qemu-user, gcc-aarch64-linux-gnu and llvm.

Example:
  merino-edge build --target nano-cpu --precision int8 --context 512 smollm2/ -o int8/
  python benchmarks/native/instructions.py SmolLM2-135M=int8/
"""

import argparse
import re
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

sys.path.append(str(Path(__file__).resolve().parents[1] / "common"))  # where ``reports`` lies

import instructions_a57 as a57
import instructions_blocks as counting
from reports import Provenance, new_parser, provenance, results_folder, run_script

from merino_edge.cli.options import positive_int
from merino_edge.cli.output import Progress, human_count, table
from merino_edge.core.counting import kv_bytes_per_token
from merino_edge.errors import UsageError
from merino_edge.formats.architecture import Architecture
from merino_edge.formats.bundle import Bundle
from merino_edge.formats.native_file import NativeTensor, read_tensors

SCHEMA = "merino-edge.native-instructions/1"
VECTOR_PRODUCT = re.compile(r"(smull2?|smlal2?|sdot)\s+v")  # of 8 or, sdot, 16 pairs of integers
MEETINGS_PER_LAYER, MEETINGS_PER_MATRIX = 11, 2
SEGMENT = 128  # positions of the past that are a task of attention
# Part -> functions that it begins with, and whether a single token's work is shared.
PARTS = {
    "products": (("neon_q", "dot_q", "me_decode_chunk", "multiply"), True),
    "attention": (
        ("me_attention", "attend", "blend_parts", "me_rotate", "store_key", "scatter_key")
        + ("lanes_scores", "lanes_blend", "lanes_store", "lanes_exponentials", "lanes_total"),
        True,
    ),
    "activation": (("lanes_activate", "me_activate"), True),
    "int8 of rows": (("lanes_quantise", "me_quantise"), False),
    "norms": (("me_norm_row", "lanes_dot"), False),
    "choice": (("me_best", "lanes_largest"), False),
    "rest": (("",), False),
}
HEADER = ("", "instructions", "of these products", "cycles of a core", "instructions a cycle")
SUMMARY = (
    "", "past", "instructions", "cycles of a core", "MB read", "instructions, 4 cores, ms",
    "memory, ms", "predicted, ms", "tokens/s",
)  # fmt: skip


class Case(NamedTuple):
    """One step of one model.

    Attributes:
        name: Of the model.
        precision: Of its weights.
        bundle: Its identity.
        past: Tokens before the step.
        kernels: That the core chose.
        macs: Multiply-accumulates of the matrices.
        weight_bytes: Read for the step, a block as often as it is applied.
        cache_bytes: Keys and values read.
        parts: Where the instructions are.
        instruction_ms: On the board's cores together, first cache and no mispredicted branch.
        memory_ms: At the high and at the low bandwidth.
        predicted_ms: Lower and upper end.
    """

    name: str
    precision: str
    bundle: str
    past: int
    kernels: str
    macs: int
    weight_bytes: int
    cache_bytes: int
    parts: list[a57.Part]
    instruction_ms: float
    memory_ms: list[float]
    predicted_ms: list[float]


class Report(NamedTuple):
    """Nothing here was measured on a board.

    Attributes:
        provenance: Date, machine that emulated, versions.
        tools: Versions of the compiler and the emulator.
        basis: "predicted".
        nano: What is taken to be known of the board.
        cases: One a bundle and past.
    """

    provenance: Provenance
    tools: dict[str, str]
    basis: str
    nano: a57.Nano
    cases: list[Case]


def main() -> None:
    """Count, predict, save, print."""
    parser = new_parser(__doc__, results_folder(__file__) / "instructions.json")
    parser.add_argument(
        "models", nargs="+", metavar="NAME=BUNDLE", help="what to count, and its name"
    )
    parser.add_argument("--past", type=positive_int, nargs="+", default=[64], help="tokens (64)")
    run_script(parser, SCHEMA, measure, markdown)


def measure(options: argparse.Namespace) -> Report:
    """The report for the options of the command line."""
    begun, progress, cases = provenance(()), Progress("instructions"), []
    with tempfile.TemporaryDirectory() as folder:
        progress.update("compiling for aarch64")
        tools = counting.build(Path(folder))
        for model in options.models:
            for past in options.past:
                progress.update(f"{model} behind {past} tokens")
                cases.append(_case(tools, model, past))
    progress.done(f"{len(cases)} steps counted")
    return Report(begun, counting.versions(), "predicted", a57.Nano(), cases)


def _case(tools: tuple[Path, Path], model: str, past: int) -> Case:
    name, _, path = model.partition("=")
    if not path:
        raise UsageError(f"'{model}' is not NAME=BUNDLE.")
    bundle, nano = Bundle.open(path), a57.Nano()
    a, precision = bundle.manifest.architecture, bundle.manifest.precision
    kernels, blocks = counting.count(*tools, bundle.file("native"), past)
    parts = _parts(blocks, a, past)
    tensors = read_tensors(bundle.file("native"), a)
    weight_bytes, macs = executed(a, tensors)
    cache_bytes = past * kv_bytes_per_token(a, 4 if precision == "fp32" else 2)
    n_bytes = weight_bytes + cache_bytes
    seconds = a57.instruction_s(nano, parts, _meetings(a))
    memory = [n_bytes / nano.fast_bytes_per_s * 1e3, n_bytes / nano.slow_bytes_per_s * 1e3]
    predicted = [end * 1e3 for end in a57.predicted_s(nano, seconds, n_bytes)]
    facts = (name, precision, bundle.bundle_id, past, kernels, macs, weight_bytes, cache_bytes)
    return Case(*facts, parts, seconds * 1e3, memory, predicted)


def executed(a: Architecture, tensors: dict[str, NativeTensor]) -> tuple[int, int]:
    """Bytes and multiply-accumulates of all matrices and vectors that a token passes."""
    n_bytes = macs = 0
    head = "embed.weight" if a.tie_embeddings else "head.weight"
    for name, tensor in tensors.items():
        if name in ("embed.weight", "head.weight", "pos_embed.weight") and name != head:
            continue  # one row of it
        block = re.match(r"blocks\.(\d+)\.(?!norms|joint)", name)
        times = a.blocks[int(block[1])].depth if block else 1
        n_bytes += times * tensor.n_bytes
        macs += times * tensor.n_out * tensor.n_in if tensor.n_out > 1 else 0
    return n_bytes, macs


def _meetings(a: Architecture) -> int:
    return MEETINGS_PER_LAYER * a.n_layers + MEETINGS_PER_MATRIX * (len(a.joints()) + 2)


def _parts(blocks: list[counting.Block], a: Architecture, past: int) -> list[a57.Part]:
    instructions, products = Counter[str](), Counter[str]()
    cycles: dict[str, float] = defaultdict(float)
    for block, spent in zip(blocks, a57.cycles_of(blocks), strict=True):
        part = _part_of(block.instructions[0].function)
        instructions[part] += block.executed
        cycles[part] += spent
        n_products = sum(bool(VECTOR_PRODUCT.match(each.text)) for each in block.instructions)
        products[part] += n_products * block.runs
    heads = min(block.n_kv_head for block in a.blocks) * (past // SEGMENT + 1)
    return [
        a57.Part(
            name, instructions[name], products[name], round(cycles[name]), _threads(name, heads)
        )
        for name in PARTS
        if instructions[name]
    ]


def _part_of(function: str) -> str:
    return next(name for name, (starts, _) in PARTS.items() if function.startswith(starts))


def _threads(part: str, heads: int) -> int:
    if not PARTS[part][1]:
        return 1
    return (
        min(heads, a57.Nano().n_cores) if part in ("attention", "softmax") else a57.Nano().n_cores
    )


def markdown(report: Report) -> str:
    """All steps in a table, then each one's parts."""
    tables = [table(SUMMARY, [_summary(case) for case in report.cases])]
    for case in report.cases:
        tables.append(f"**{_title(case)}**, behind {case.past} tokens")
        tables.append(table(HEADER, [_row(part) for part in case.parts]))
    tools = ", ".join(report.tools.values())
    return f"predicted; {tools}; {report.provenance.date}\n\n" + "\n\n".join(tables)


def _title(case: Case) -> str:
    return f"{case.name} {case.precision}"


def _summary(case: Case) -> tuple[str, ...]:
    least, most = case.predicted_ms
    return (
        _title(case),
        str(case.past),
        human_count(sum(part.instructions for part in case.parts)),
        human_count(sum(part.cycles for part in case.parts)),
        f"{(case.weight_bytes + case.cache_bytes) / 1e6:.0f}",
        f"{case.instruction_ms:.1f}",
        f"{case.memory_ms[0]:.1f} to {case.memory_ms[1]:.1f}",
        f"{least:.1f} to {most:.1f}",
        f"{1e3 / most:.0f} to {1e3 / least:.0f}",
    )


def _row(part: a57.Part) -> tuple[str, ...]:
    return (
        part.name,
        f"{part.instructions:,}",
        f"{part.vector_products:,}",
        f"{part.cycles:,.0f}",
        f"{part.instructions / part.cycles:.2f}",
    )


if __name__ == "__main__":
    main()
