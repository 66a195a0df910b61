"""Activations that half precision cannot hold are found, named and placed; others are left alone.

The models are tiny and real. Weights are edited in the finished bundle, because a bundle whose
activations overflow would not pass the comparison at the end of a build.
"""

import numpy as np
import onnx
import pytest
from doubles import llama_architecture, random_tensors, tiny_architecture, write_tokenizer

from merino_edge.errors import ParityError, SessionError, UsageError
from merino_edge.export.bundler import Source, build_bundle
from merino_edge.export.float32_twin import make_twin
from merino_edge.export.range_check import SCHEMA, RangeReport, TensorRange, check_ranges
from merino_edge.formats import jsonio
from merino_edge.formats.architecture import BlockSpec
from merino_edge.formats.weights import read_index
from merino_edge.runtime.verify import reference_logits

pytestmark = [pytest.mark.torch, pytest.mark.onnx]

SPECIAL, LARGER = 7, 6  # tokens that an edited model cannot bear
LONG = 256


def half_bundle(path, architecture, context_len=32, tokenizer_json=None):
    source = Source("tiny", architecture, random_tensors(architecture, 1), tokenizer_json)
    return build_bundle(source, "nano", context_len, str(path))[0]


def stored(bundle, name):
    """A stored weight, writable in its place in the file."""
    entry = read_index(bundle.file("weights"))[name]
    dtype = {"F16": np.float16, "F32": np.float32}[entry.dtype]
    return np.memmap(bundle.file("weights"), dtype, "r+", entry.offset, entry.shape)


def tokens(n, *special):
    """Random tokens, the special one only where asked for."""
    ids = np.random.RandomState(0).randint(SPECIAL + 1, 300, n)
    ids[list(special)] = SPECIAL
    return ids


@pytest.fixture
def one_value_too_large(tmp_path):
    """Only the product of gate and up leaves the range, in the second block."""
    bundle = half_bundle(tmp_path / "bundle", llama_architecture())
    stored(bundle, "blocks.1.ffn.up.weight")[:] *= 300
    stored(bundle, "blocks.1.ffn.down.weight")[:] *= 1e-4
    return bundle


@pytest.fixture
def one_token_too_large(tmp_path):
    """60000 is in the special token's row; attention adds 10000 to it, feed-forward takes 20000.

    Another token's row has 2000 more.
    """
    block = BlockSpec(d_model=16, n_head=2, n_kv_head=2, d_ff=32, depth=1)
    architecture = tiny_architecture(blocks=(block,), max_seq_len=LONG, tie_embeddings=False)
    bundle = half_bundle(tmp_path / "bundle", architecture, LONG)
    stored(bundle, "embed.weight")[SPECIAL, 3] = 60000
    stored(bundle, "embed.weight")[LARGER, 3] = 62000
    stored(bundle, "blocks.0.attn.out.bias")[3] = 10000
    stored(bundle, "blocks.0.ffn.down.bias")[3] = -20000
    return bundle


def test_a_clean_model_has_neither_errors_nor_warnings(tmp_path):
    bundle = half_bundle(tmp_path / "bundle", tiny_architecture(max_seq_len=LONG), LONG)
    report = check_ranges(bundle, tokens(200))

    assert report.errors == []
    assert report.warnings == []
    assert all(found.max_abs > 0 and found.position is None for found in report.ranges)
    report.require_fit()


def test_exactly_the_activation_that_overflows_is_found_and_named(one_value_too_large):
    report = check_ranges(one_value_too_large, tokens(80))

    (found,) = report.errors
    assert (found.node, found.operator, found.layer) == ("/blocks.1/0/ffn/gated", "Mul", 1)
    assert 65504 < found.max_abs < 1e7
    assert report.worst(1) == [found]
    with pytest.raises(ParityError, match=r"'/blocks.1/0/ffn/gated' reaches .* at token \d+;"):
        report.require_fit()


@pytest.mark.parametrize(
    "places", [(0,), (150, 151), (255,), (256,), (300, 290)], ids="at {}".format
)
def test_the_token_that_overflows_first_is_named(one_token_too_large, places):
    """In the first chunk of a window or the second, in the first window or the second."""
    report = check_ranges(one_token_too_large, tokens(320, *places))

    (found,) = report.errors
    assert found.node == "/blocks.0/0/attn/add"
    assert found.max_abs == pytest.approx(70000, abs=50)
    assert found.position == min(places)


def test_the_first_token_that_overflows_is_named_with_the_value_of_the_largest(
    one_token_too_large,
):
    ids = tokens(200, 140)
    ids[145] = LARGER
    (found,) = check_ranges(one_token_too_large, ids).errors

    assert found.max_abs == pytest.approx(72000, abs=50)
    assert found.position == 140


def test_without_the_token_that_overflows_there_is_no_error(one_token_too_large):
    assert check_ranges(one_token_too_large, tokens(320)).errors == []


def test_values_are_those_of_the_numpy_reference_window_by_window(one_token_too_large):
    """The logits are the one activation that the reference shows; a wrong cache would change them.

    They follow an overflow whose token was searched for, so the cache survives the search.
    """
    ids = tokens(320, 150)
    report = check_ranges(one_token_too_large, ids)
    expected = reference_logits(one_token_too_large)
    largest = max(np.abs(expected(list(part))).max() for part in (ids[:LONG], ids[LONG:]))

    (head,) = [found for found in report.ranges if found.node == "/head/product"]
    assert head.max_abs == pytest.approx(largest, rel=1e-5)
    assert head.layer is None


def test_what_is_not_a_number_is_reported_with_its_place(tmp_path):
    bundle = half_bundle(tmp_path / "bundle", llama_architecture())
    stored(bundle, "embed.weight")[SPECIAL, 5] = np.nan
    report = check_ranges(bundle, tokens(80, 41))

    first = report.errors[0]
    assert (first.node, first.max_abs, first.position) == (
        "/blocks.0/0/attn_norm/narrow",
        None,
        41,
    )
    with pytest.raises(ParityError, match="is not finite at token 41"):
        report.require_fit()


def test_a_shared_block_reports_each_of_its_layers(tmp_path):
    report = check_ranges(half_bundle(tmp_path / "bundle", tiny_architecture()), tokens(40))

    sums = [found for found in report.ranges if found.node.endswith("/ffn/add")]
    assert [(found.node, found.layer) for found in sums] == [
        ("/blocks.0/0/ffn/add", 0),
        ("/blocks.0/1/ffn/add", 1),
        ("/blocks.1/0/ffn/add", 2),
    ]


def test_the_twin_has_the_nodes_of_the_original_and_no_half_precision(tmp_path):
    bundle = half_bundle(tmp_path / "bundle", llama_architecture())
    (tmp_path / "twin").mkdir()
    twin = make_twin(bundle, str(tmp_path / "twin"))
    original, wide = (onnx.load(b.file("onnx")) for b in (bundle, twin.bundle))
    types = onnx.shape_inference.infer_shapes(wide, strict_mode=True).graph

    names = [node.name for node in original.graph.node]
    assert [node.name for node in wide.graph.node if node.name] == names
    assert {value.node for value in twin.watched} < set(names)
    kinds = {v.type.tensor_type.elem_type for v in [*types.value_info, *types.input, *types.output]}
    kinds |= {tensor.data_type for tensor in wide.graph.initializer}
    assert onnx.TensorProto.FLOAT16 not in kinds


@pytest.mark.parametrize(
    ("max_abs", "verdict"),
    [
        (16376.0, "ok"),
        (16377.0, "warning"),
        (65504.0, "warning"),
        (65505.0, "error"),
        (None, "error"),
    ],
)
def test_an_error_lies_beyond_65504_and_a_warning_beyond_a_quarter(max_abs, verdict):
    assert TensorRange("t", "/n", "Mul", 0, max_abs).verdict == verdict


def test_a_text_is_read_as_the_tokenizer_of_the_bundle_reads_it(tmp_path):
    write_tokenizer(tmp_path / "tokenizer.json", 300)
    tokenizer_json = (tmp_path / "tokenizer.json").read_text("utf-8")
    bundle = half_bundle(tmp_path / "bundle", llama_architecture(), 32, tokenizer_json)
    told = []
    report = check_ranges(bundle, "The sheep sleeps on the hill, 羊は丘で眠る。" * 3, told.append)

    assert report.n_tokens > 32
    assert report.bundle_id == bundle.bundle_id
    assert told[:2] == ["writing the float32 twin", f"token 0 of {report.n_tokens}"]


def test_a_report_comes_back_from_its_file_and_its_text_names_the_error(
    one_value_too_large, tmp_path
):
    report = check_ranges(one_value_too_large, tokens(40))
    jsonio.write_record(str(tmp_path / "ranges.json"), SCHEMA, report)

    assert jsonio.read_record(str(tmp_path / "ranges.json"), SCHEMA, RangeReport) == report
    first, *others = report.text(3).splitlines()
    assert first.startswith("error ")
    assert "/blocks.1/0/ffn/gated, first at token" in first
    assert len(others) == 2


def test_bad_input_is_refused_in_a_sentence(tmp_path):
    bundle = half_bundle(tmp_path / "half", llama_architecture())
    with pytest.raises(UsageError, match="text is empty"):
        check_ranges(bundle, [])
    with pytest.raises(SessionError, match="token 300 is outside the vocabulary of 300"):
        check_ranges(bundle, [1, 300])
    source = Source("tiny", llama_architecture(), random_tensors(llama_architecture(), 1))
    wide = build_bundle(source, "host", 32, str(tmp_path / "single"))[0]
    with pytest.raises(UsageError, match="is fp32: only half precision"):
        check_ranges(wide, [1, 2])
