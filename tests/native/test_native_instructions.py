"""The count of instructions is exact: it finds every product that the weights demand, no more."""

import re
import shutil
import sys

import pytest
from doubles import llama_architecture, random_tensors, tiny_architecture
from native_core import Q4, Q8, pack
from repository import ROOT

from merino_edge.formats import jsonio
from merino_edge.formats.weights import weight_shapes

FOLDER = ROOT / "benchmarks" / "native"
RESULTS = ROOT / "benchmarks" / "results" / "native"
sys.path.append(str(FOLDER))
import instructions  # noqa: E402
import instructions_a57  # noqa: E402
import instructions_blocks as counting  # noqa: E402

PRODUCT = re.compile(r"smull2?|smlal2?")
PAIRS_IN_PRODUCT = 8


@pytest.fixture(scope="module")
def tools(tmp_path_factory):
    for tool in (counting.CROSS + "gcc", "qemu-aarch64"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not here")
    return counting.build(tmp_path_factory.mktemp("count"))


def padded_products(a):
    """Of one token: every matrix in whole panels and blocks, as often as it is applied."""
    total = 0
    for name, shape in weight_shapes(a).items():
        if len(shape) == 1 or name == "pos_embed.weight":
            continue
        if name == "embed.weight" and not a.tie_embeddings:
            continue
        block = re.match(r"blocks\.(\d+)\.(?!joint)", name)
        times = a.blocks[int(block[1])].depth if block else 1
        n_out, n_in = shape
        total += times * (n_out + -n_out % 16) * (n_in + -n_in % 32)
    return total


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Q8, Q4], ids=["q8", "q4"])
@pytest.mark.parametrize("make", [tiny_architecture, llama_architecture])
def test_products_are_those_of_the_weights(tmp_path, tools, make, kind):
    path = tmp_path / "model.merino"
    path.write_bytes(pack(make(), random_tensors(make(), 1), kind))
    kernels, blocks = counting.count(*tools, str(path), 20)
    assert kernels == "neon"
    found = sum(
        block.runs * sum(bool(PRODUCT.match(each.mnemonic)) for each in block.instructions)
        for block in blocks
        if block.instructions[0].function.startswith("neon_q")
    )
    assert found * PAIRS_IN_PRODUCT == padded_products(make())


@pytest.mark.slow
def test_the_pipeline_starts_one_vector_product_or_two_additions_a_cycle(tools):
    if not any(shutil.which(f"llvm-mca{suffix}") for suffix in ("", "-14", "-15", "-16", "-19")):
        pytest.skip("llvm-mca is not here")
    products = [f"smlal v{i}.8h, v30.8b, v31.8b" for i in range(12)]
    moves = [f"add x{i}, x{i}, #1" for i in range(12)]
    blocks = [
        counting.Block([counting.Instruction(0, "f", text) for text in texts], 10)
        for texts in (products, moves)
    ]
    spent = instructions_a57.cycles_of(blocks)
    assert spent[0] == pytest.approx(120, rel=0.1)
    assert spent[1] == pytest.approx(60, rel=0.1)  # two integer pipelines


def test_the_page_shows_the_counts_of_the_file_and_calls_the_times_predicted():
    path = str(RESULTS / "instructions.json")
    report = jsonio.read_record(path, instructions.SCHEMA, instructions.Report)
    assert report.basis == "predicted"
    assert instructions.markdown(report).strip() in (FOLDER / "README.md").read_text("utf-8")
    for case in report.cases:
        assert case.predicted_ms[0] >= max(case.instruction_ms, case.memory_ms[0])
        assert {part.name for part in case.parts} >= {"products", "attention"}
