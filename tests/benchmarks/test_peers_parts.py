"""What the comparison with other runtimes is made of: stand-in, files, figures, tables."""

import json
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from repository import ROOT

from merino_edge.core import counting
from merino_edge.errors import FormatError, SpecError, UnsupportedError
from merino_edge.formats import jsonio
from merino_edge.formats.architecture import Architecture, BlockSpec
from merino_edge.formats.weights import read_index, weight_shapes
from merino_edge.runtime.device_info import device_info

sys.path += [str(ROOT / "benchmarks"), str(ROOT / "benchmarks" / "peers")]
import hf_folder
import pages
import peer_gguf
import peers_report as report
import peers_tables
import quiet
import stand_in
import without_amx

PRESETS = json.loads((ROOT / "benchmarks/results/search/presets.json").read_text("utf-8"))
MERINO = jsonio.decode(Architecture, PRESETS["ours"][-1]["architecture"])
PLAIN = Architecture((BlockSpec(64, 4, 4, 96, 1),) * 2, vocab_size=96, max_seq_len=32)
LLAMA = Architecture(
    (BlockSpec(64, 4, 2, 96, 1),) * 2,
    vocab_size=96,
    max_seq_len=32,
    norm="rmsnorm",
    position="rope",
    activation="silu",
    gated_ffn=True,
    attention_bias=False,
    ffn_bias=False,
)


def tensors_of(a):
    rng = np.random.default_rng(0)
    return {
        name: rng.standard_normal(shape, dtype=np.float32)
        for name, shape in weight_shapes(a).items()
    }


def test_the_stand_in_of_merino_64m_costs_as_many_multiplications_and_less_cache():
    ours, theirs = stand_in.work(MERINO), stand_in.work(stand_in.stand_in(MERINO))
    assert theirs.body_macs == ours.body_macs
    assert theirs.head_macs == ours.head_macs
    assert theirs.n_layers == ours.n_layers
    assert theirs.kv_values_per_token < ours.kv_values_per_token
    assert theirs.stored_params > 1.5 * ours.stored_params


@given(
    widths=st.lists(st.sampled_from([64, 128, 192, 256]), min_size=1, max_size=4),
    depth=st.integers(1, 4),
    ratio=st.integers(1, 4),
)
def test_no_stand_in_does_more_than_the_original(widths, depth, ratio):
    blocks = tuple(BlockSpec(d, d // 32, d // 32, ratio * d, depth) for d in sorted(widths))
    a = Architecture(blocks, vocab_size=100, max_seq_len=64)
    found = stand_in.stand_in(a)
    assert stand_in.work(found).body_macs <= stand_in.work(a).body_macs
    assert found.n_layers == a.n_layers
    assert counting.kv_bytes_per_token(found, 2) <= counting.kv_bytes_per_token(a, 2)
    assert hf_folder.family(found) == "gpt2"


def test_a_body_narrower_than_its_embedding_has_no_stand_in():
    a = Architecture((BlockSpec(64, 2, 2, 64, 1),), 100, 64, d_embed=512)
    with pytest.raises(SpecError, match="no plain decoder of width 512"):
        stand_in.stand_in(a)


@pytest.mark.parametrize(("body", "embedding"), [("Q8_0", "Q8_0"), ("Q4_0", "Q8_0")])
def test_a_gguf_holds_the_decoder_rounded_as_asked(tmp_path, body, embedding):
    pytest.importorskip("gguf")
    from merino_edge.model.importers.gguf_file import open_gguf

    path, tensors = str(tmp_path / "plain.gguf"), tensors_of(PLAIN)
    peer_gguf.write_gpt2(path, PLAIN, tensors, body, embedding)
    file = open_gguf(path)
    assert file.metadata["general.architecture"] == "gpt2"
    assert file.metadata["gpt2.feed_forward_length"] == 96
    assert file.metadata["gpt2.vocab_size"] == 96
    kinds = {name: tensor.type_name for name, tensor in file.tensors.items()}
    assert kinds["token_embd.weight"] == embedding
    assert kinds["blk.1.ffn_up.weight"] == body
    assert kinds["position_embd.weight"] == kinds["blk.0.attn_qkv.bias"] == "F32"
    assert len(kinds) == len(tensors)
    step = {"Q8_0": 4.0 / 127, "Q4_0": 4.0 / 7}[body]  # of numbers that hardly pass 4
    for name, ours in (("ffn_up", "ffn.up"), ("attn_output", "attn.out")):
        found = file.dequantized(f"blk.1.{name}.weight")
        assert np.abs(found - tensors[f"blocks.1.{ours}.weight"]).max() < step
    assert (file.dequantized("output_norm.bias") == tensors["final_norm.bias"]).all()


def test_a_gguf_can_be_rounded_anew_and_keeps_its_metadata(tmp_path):
    pytest.importorskip("gguf")
    from merino_edge.model.importers.gguf_file import open_gguf

    first, second = str(tmp_path / "first.gguf"), str(tmp_path / "second.gguf")
    peer_gguf.write_gpt2(first, PLAIN, tensors_of(PLAIN), "Q8_0", "Q8_0")
    peer_gguf.requantise(first, second, "Q4_0", "Q8_0")
    before, after = open_gguf(first), open_gguf(second)
    assert after.metadata == before.metadata
    assert after.tensors["blk.0.ffn_down.weight"].type_name == "Q4_0"
    for name in ("token_embd.weight", "blk.0.attn_norm.weight"):
        assert (after.dequantized(name) == before.dequantized(name)).all()


def test_only_a_plain_decoder_of_gpt_2s_kind_becomes_a_gguf(tmp_path):
    pytest.importorskip("gguf")
    for a in (MERINO, LLAMA):
        with pytest.raises(UnsupportedError):
            peer_gguf.write_gpt2(str(tmp_path / "no.gguf"), a, {}, "Q8_0", "Q8_0")


def hf_arrays(folder):
    data = (folder / "model.safetensors").read_bytes()
    return {
        name: np.frombuffer(data, "<f4", e.n_bytes // 4, e.offset).reshape(e.shape)
        for name, e in read_index(str(folder / "model.safetensors")).items()
    }


def test_a_folder_for_transformers_turns_gpt_2s_matrices_and_no_others(tmp_path):
    tensors = tensors_of(PLAIN)
    hf_folder.write_hf_folder(
        str(tmp_path), PLAIN, tensors, hf_folder.placeholder_tokenizer(PLAIN.vocab_size)
    )
    found = hf_arrays(tmp_path)
    assert sum(a.size for a in found.values()) == counting.n_params(PLAIN)
    turned = found["transformer.h.1.attn.c_attn.weight"]
    assert (turned == tensors["blocks.1.attn.qkv.weight"].T).all()
    assert (found["transformer.wte.weight"] == tensors["embed.weight"]).all()
    config = json.loads((tmp_path / "config.json").read_text("utf-8"))
    assert (config["n_inner"], config["n_positions"]) == (96, 32)
    words = json.loads((tmp_path / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
    assert sorted(words.values()) == list(range(96))


def test_a_folder_for_transformers_takes_llamas_stacks_apart(tmp_path):
    tensors = tensors_of(LLAMA)
    hf_folder.write_hf_folder(
        str(tmp_path), LLAMA, tensors, hf_folder.placeholder_tokenizer(LLAMA.vocab_size)
    )
    found = hf_arrays(tmp_path)
    assert sum(a.size for a in found.values()) == counting.n_params(LLAMA)
    stacked = tensors["blocks.1.attn.qkv.weight"]
    parts = [found[f"model.layers.1.self_attn.{p}_proj.weight"] for p in "qkv"]
    assert [len(part) for part in parts] == [64, 32, 32]
    assert (np.vstack(parts) == stacked).all()
    mlp = [found[f"model.layers.0.mlp.{p}_proj.weight"] for p in ("gate", "up")]
    assert (np.vstack(mlp) == tensors["blocks.0.ffn.up.weight"]).all()


def test_a_shared_block_fits_no_family():
    with pytest.raises(UnsupportedError):
        hf_folder.family(PLAIN.replace(blocks=(BlockSpec(64, 4, 4, 96, 2),)))


def test_a_ratio_is_taken_within_a_round():
    # each round twice as slow as the one before: the ratio is a half in all of them
    found = report.ratios([1.0, 2.0, 4.0], [2.0, 4.0, 8.0])
    assert found == (0.5, 0.5, 0.5)
    assert report.spread([4.0, 1.0, 3.0, 2.0, 5.0]) == (3.0, 2.0, 4.0)


STAT = "cpu  {user} 0 0 {idle} 0 0 0 {steal} 0 0\ncpu0 0 0\n"


def test_what_others_used_is_neither_idle_nor_ours_nor_stolen():
    before = quiet.look(0.0, STAT.format(user=0, idle=0, steal=0))
    after = quiet.look(1.0, STAT.format(user=300, idle=1600, steal=100))
    found = quiet.between(before, after, 10.0)
    assert found.others_share == pytest.approx(0.1, abs=0.01)  # (3 - 1 of ours) of 20 s
    assert found.steal_share == pytest.approx(0.05)


def test_a_busy_machine_is_told_and_a_quiet_one_is_not():
    calm, noisy = quiet.Interval(9.0, 0.001, 0.0), quiet.Interval(9.0, 0.4, 0.02)
    assert quiet.warnings(0.1, [calm] * 5) == []
    found = " ".join(quiet.warnings(2.5, [calm, noisy]))
    for words in ("load was 2.50", "40%", "1 of 2 rounds", "2.0%"):
        assert words in found


def row(name, bits, ms, rate, ours=False, **more):
    decode = {"64": ms, "512": [2 * v for v in ms]}
    fields = {"agrees": 60, "of": 64, "peak_bytes": 10**8, "file_bytes": 10**7, **more}
    return report.Row(name, bits, ours, "v1", decode_ms=decode, prefill_tok_per_s=rate, **fields)


def small_report():
    work = stand_in.work(MERINO)
    model = report.ModelResult(
        name="merino64m",
        work=work,
        peer_work=stand_in.work(stand_in.stand_in(MERINO)),
        rows=[
            row("ours, native int4", 4, [1.0, 1.2, 1.1], [600.0] * 3, ours=True),
            row("slow Q4", 4, [4.0, 4.0, 4.0], [300.0] * 3),
            row("fast Q4", 4, [2.0, 2.4, 2.2], [200.0] * 3, trials={"flash=True": 2.0}),
            report.Row("broken int8", 8, False, failure="open: no file"),
        ],
        rooflines=[report.Roofline("int4", 10**7, 2 * 10**7, 1000, {"64": [0.5, 0.6, 0.55]})],
        refusals={"absent": "not installed"},
        intervals=[quiet.Interval(1.0, 0.0, 0.0)],
    )
    setting = report.Setting([64, 512], 32, 512, 3, 1, 16, 2, 1024, 0)
    versions = {"numpy": "2"}
    flags = ["avx2", "fpu"]
    return report.Report(
        "2026-01-01", 1.0, 0.1, versions, device_info(), flags, setting, [], [model]
    )


def test_the_tables_compare_with_the_fastest_peer_of_the_class():
    table = peers_tables.sections(small_report())["merino64m_decode"]
    ours, slow, fast, broken = table.splitlines()[2:]
    assert "0.500 (0.500 to 0.500)" in ours
    assert ours.rstrip(" |").endswith("50%")
    assert "1.818" in slow  # of 4 / 2.2, the middle of the rounds
    assert fast.count("fastest peer") == 2
    assert "did not run: open: no file" in broken


def test_the_prompt_has_a_fastest_peer_of_its_own():
    lines = peers_tables.sections(small_report())["merino64m_others"].splitlines()[2:]
    assert "2.000 (2.000 to 2.000)" in lines[0]  # 600 to the 300 of the one slower in steps
    assert "60 of 64" in lines[0]
    assert not any("broken" in line for line in lines)


def test_who_is_out_and_what_the_stand_in_costs_is_said():
    found = peers_tables.sections(small_report())["merino64m_who"]
    assert "**absent** takes no part: not installed" in found
    assert "flash=True 2" in found
    assert "58.98 M multiplications in 10 layers" in found


def test_a_report_survives_its_file(tmp_path):
    path, before = str(tmp_path / "results.json"), small_report()
    jsonio.write_record(path, report.SCHEMA, before)
    assert jsonio.read_record(path, report.SCHEMA, report.Report) == before


def test_the_page_has_a_mark_for_every_table():
    page = (ROOT / "benchmarks/peers/README.md").read_text("utf-8")
    one = small_report()
    both = one._replace(
        models=[m._replace(name=n) for m in one.models for n in peers_tables.TITLES]
    )
    apart = without_amx.tables()
    filled = pages.filled(page, {**peers_tables.sections(both), **apart})
    assert "0.500 (0.500 to 0.500)" in filled
    assert pages.filled(filled, {**peers_tables.sections(both), **apart}) == filled
    with pytest.raises(FormatError):
        pages.filled(page, {**peers_tables.sections(one), **apart})
