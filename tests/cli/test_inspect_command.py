"""`merino-edge inspect` as a person meets it, for everything that it takes."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from doubles import (
    llama_architecture,
    random_tensors,
    tiny_architecture,
    tiny_bundle,
    write_tokenizer,
)
from model_families import opt_350m, pythia
from repository import ROOT, find_python

from merino_edge.cli.main import main
from merino_edge.cli.output import human_count
from merino_edge.core import counting
from merino_edge.core.entropy import EntropyConfig, matrix_entropy, network_entropy
from merino_edge.core.entropy_table import architecture_shapes, read_entropy_table
from merino_edge.formats import jsonio
from merino_edge.formats.architecture import read_architecture, write_architecture
from merino_edge.model.checkpoint import CheckpointInfo, save_checkpoint

GOLDEN_BUNDLE = str(ROOT / "tests" / "golden" / "tiny-bundle")


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def make_checkpoint():
    a = tiny_architecture()
    write_tokenizer("tokenizer.json", a.vocab_size)
    tokenizer = Path("tokenizer.json").read_text("utf-8")
    info = CheckpointInfo(a, step=70, metrics={"val_loss": 4.25})
    save_checkpoint("checkpoint", info, random_tensors(a, 0), tokenizer)


def inspect_json(capsys, *arguments):
    assert main(["inspect", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_bundle_is_described_by_its_manifest(capsys):
    assert main(["inspect", GOLDEN_BUNDLE]) == 0
    out = capsys.readouterr().out
    assert "architecture  3 layers: d16 h2 ff32 x2 | d24 h2 ff40 x1" in out
    assert "file          decoder.onnx" in out
    assert inspect_json(capsys, GOLDEN_BUNDLE)["bundle_id"] in out


def test_an_architecture_is_described_by_what_follows_from_it(capsys):
    a = tiny_architecture()
    write_architecture("arch.json", a)
    assert main(["inspect", "arch.json"]) == 0
    out = capsys.readouterr().out
    score = network_entropy(a)
    assert a.arch_id in out
    assert "3 layers, layernorm, learned, gelu" in out
    stored, executed = counting.n_params(a), counting.n_params_executed(a)
    assert f"{human_count(stored)} stored, {human_count(executed)} executed" in out
    assert f"{score.raw:.0f} nats x effectiveness {score.effectiveness:.3f}" in out
    first, second = (f"{nats:,.0f}" for nats in score.per_block)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.splitlines()[-2:]]
    assert rows[0][:5] + rows[0][6:7] == ["1", "16", "2", "32", "2 x", first]
    assert rows[1][:5] + rows[1][6:7] == ["2", "24", "2", "40", "1 x", second]


@pytest.mark.parametrize(
    ("a", "words"),
    [
        (opt_350m(), "layernorm after each sublayer, none before the head, learned, relu"),
        (pythia(), "rope on 25% of a head, gelu, attention and feed-forward side by side"),
    ],
)
def test_what_a_layer_has_of_its_own_is_said(capsys, a, words):
    write_architecture("arch.json", a)
    assert main(["inspect", "arch.json"]) == 0
    assert words in capsys.readouterr().out


def test_json_holds_the_counts_and_the_entropy_and_nothing_else_is_on_stdout(capsys):
    a = tiny_architecture()
    write_architecture("arch.json", a)
    found = inspect_json(capsys, "arch.json")
    cache = counting.kv_cache_spec(a, a.max_seq_len)
    expected = {
        "architecture": jsonio.encode(a),
        "arch_id": a.arch_id,
        "n_layers": 3,
        "n_params": counting.n_params(a),
        "n_params_executed": counting.n_params_executed(a),
        "block_params": [counting.block_matrix_params(a, index) for index in (0, 1)],
        "prompt_len": 1024,
        "prefill_flops": counting.prefill_flops(a),
        "decode_flops_per_token": counting.decode_flops_per_token(a, 48),
        "kv_bytes_per_token": cache.bytes_per_token,
        "kv_total_bytes": cache.total_bytes,
        "entropy": jsonio.encode(network_entropy(a)),
        "entropy_config": jsonio.encode(EntropyConfig()),
    }
    assert found == expected
    assert found["n_params"] < found["n_params_executed"]


def test_neighbours_of_one_shape_share_a_row(capsys):
    block = llama_architecture().blocks[0]
    wide = block._replace(d_model=24)
    write_architecture("arch.json", llama_architecture(blocks=(block,) * 30 + (wide,)))
    assert main(["inspect", "arch.json"]) == 0
    rows = [line.split("|")[1].strip() for line in capsys.readouterr().out.splitlines()[-2:]]
    assert rows == ["1 to 30", "31"]


def test_a_checkpoint_says_its_step_and_how_well_it_does(capsys):
    make_checkpoint()
    assert main(["inspect", "checkpoint"]) == 0
    out = capsys.readouterr().out
    assert "step 70, val_loss 4.25" in out
    assert tiny_architecture().arch_id in out


def test_a_search_result_keeps_the_constants_that_it_was_searched_with(capsys):
    quick = ["search", "-q", "--candidates", "3k", "--population", "64", "--no-proof"]
    assert main([*quick, "--alpha2", "3", "--gamma0", "0.125"]) == 0
    capsys.readouterr()
    best = jsonio.read_json("arch.json")["best"]
    found = inspect_json(capsys, "arch.json")
    assert found["entropy"] == best["entropy"]
    changed = inspect_json(capsys, "arch.json", "--gamma0", "0.0625")["entropy_config"]
    assert (changed["alpha2"], changed["gamma0"]) == (3.0, 0.0625)
    assert main(["inspect", "arch.json"]) == 0
    assert "found in space tiny for target host" in capsys.readouterr().out


def test_the_constants_are_options(capsys):
    write_architecture("arch.json", tiny_architecture())
    options = ["--alpha1", "2", "--eps", "0.5", "--gamma0", "0.25", "--effectiveness", "hard"]
    found = inspect_json(capsys, "arch.json", *options)
    config = EntropyConfig(alpha1=2.0, eps=0.5, gamma0=0.25, form="hard")
    assert found["entropy"] == jsonio.encode(network_entropy(tiny_architecture(), config))


@pytest.mark.parametrize("kind", ["architecture", "checkpoint", "bundle"])
def test_the_table_of_any_kind_holds_its_shapes(kind, capsys):
    make_checkpoint()
    write_architecture("arch.json", tiny_architecture())
    path = {"architecture": "arch.json", "checkpoint": "checkpoint", "bundle": GOLDEN_BUNDLE}[kind]
    options = ["--entropy-table", "t.json", "--eps", "2", "--draws", "4", "--seed", "9"]
    assert main(["inspect", path, *options]) == 0
    table = read_entropy_table("t.json")
    assert (table.eps, table.draws, table.seed) == (2.0, 4, 9)
    assert [(r.m, r.n) for r in table.rows] == [*architecture_shapes(tiny_architecture())]
    assert all(r.closed_form == matrix_entropy(r.m, r.n, 2.0) for r in table.rows)
    err = capsys.readouterr().err
    assert "4 shapes written to t.json; closed form within " in err


def test_a_table_is_the_closed_form_unless_draws_are_asked_for(capsys):
    write_architecture("arch.json", tiny_architecture())
    assert main(["inspect", "arch.json", "-q", "--entropy-table", "t.json"]) == 0
    assert all(row.drawn_mean is None for row in read_entropy_table("t.json").rows)
    assert capsys.readouterr().err == ""


def test_an_earlier_table_is_kept_unless_forced(capsys):
    write_architecture("arch.json", tiny_architecture())
    Path("t.json").write_text("mine")
    command = ["inspect", "arch.json", "--entropy-table", "t.json"]
    assert main(command) == 2
    assert "--force" in capsys.readouterr().err
    assert Path("t.json").read_text() == "mine"
    assert main([*command, "--force"]) == 0
    assert read_entropy_table("t.json").rows


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["missing.json"], 8, "missing.json: there is no such file or folder"),
        (["."], 8, "not a bundle"),
        (["broken.json"], 8, "not JSON"),
        (["other.json"], 8, "schema is"),
        (["arch.json", "--draws", "4"], 2, "--entropy-table FILE"),
        (["arch.json", "--eps", "1e-200"], 2, "eps is 1e-200"),
        (["arch.json", "--entropy-table", "no/such/t.json"], 2, "does not exist"),
        (["arch.json", "--entropy-table", "."], 2, "is a folder"),
    ],
)
def test_a_bad_request_gets_one_clear_error(capsys, arguments, code, words):
    write_architecture("arch.json", tiny_architecture())
    Path("broken.json").write_text("{")
    Path("other.json").write_text('{"schema": "merino-edge.space/1"}')
    assert main(["inspect", *arguments]) == code
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert words in err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([GOLDEN_BUNDLE], 0, "d16 h2 ff32 x2"),
        (["arch.json"], 2, "needs Python 3.10 or later"),
        ([GOLDEN_BUNDLE, "--entropy-table", "t.json"], 2, "needs Python 3.10 or later"),
        (["missing.json"], 8, "there is no such file or folder"),
    ],
)
def test_a_board_inspects_bundles_and_says_what_it_cannot(tmp_path, arguments, code, words):
    write_architecture("arch.json", tiny_architecture())
    done = subprocess.run(
        [find_python("3.6"), "-m", "merino_edge", "inspect", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stderr
    assert words in done.stdout + done.stderr
    assert not (tmp_path / "t.json").exists()


def test_help_has_an_example(capsys):
    assert main(["inspect", "--help"]) == 0
    assert "merino-edge inspect arch.json --entropy-table" in capsys.readouterr().out


def test_a_bundle_that_was_just_built_is_no_checkpoint(tmp_path, capsys):
    path = tiny_bundle(tmp_path / "bundle")
    assert main(["inspect", path]) == 0
    assert "file          tokenizer.json" in capsys.readouterr().out
    assert read_architecture(os.path.join(path, "manifest.json")) == tiny_architecture()
