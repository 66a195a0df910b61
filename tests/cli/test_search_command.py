"""`merino-edge search` as a person meets it: text, files, exit codes."""

import json

import pytest

from merino_edge.cli.main import main
from merino_edge.core import space as spaces
from merino_edge.formats.architecture import read_architecture

QUICK = ["search", "--candidates", "5k", "--population", "64"]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_search_draws_the_winner_and_writes_it(tmp_path, capsys):
    assert main([*QUICK, "--target", "nano", "--space", "tiny", "--max-flops", "10G"]) == 0
    out, err = capsys.readouterr()
    architecture = read_architecture(str(tmp_path / "arch.json"))
    assert architecture.arch_id in out
    assert f"block 3: width {architecture.blocks[2].d_model}" in out
    assert "latency per token (predicted: roofline)" in out
    assert "energy per token (predicted: power limit x latency)" in out
    assert "proven: " in out
    assert "merino-edge train arch.json" in out
    assert "5,000 candidates in " in err
    assert "s of it for the proof" in err
    assert all(len(line) <= 110 for line in out.splitlines())
    assert len(out.splitlines()) <= 30  # one screen


def test_what_a_target_says_too_little_for_is_not_predicted(capsys):
    limits = ["--max-params", "1M", "--max-flops", "4G"]
    assert main([*QUICK, "--target", "host", "--space", "tiny", *limits]) == 0
    rows = capsys.readouterr().out.splitlines()
    for name in ("latency per token", "latency of the prompt", "energy per token"):
        (row,) = [row for row in rows if name in row]
        assert "(predicted: not possible, facts are missing)" in row


def test_json_is_the_file_and_nothing_else_on_stdout(tmp_path, capsys):
    assert main([*QUICK, "--json", "--quiet", "-o", "a.json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == json.loads((tmp_path / "a.json").read_text())
    assert err == ""


def test_same_seed_same_file_and_another_seed_another_way(tmp_path):
    for name, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        assert main([*QUICK, "-q", "--seed", seed, "-o", name + ".json"]) == 0
    a, b, c = ((tmp_path / (name + ".json")).read_bytes() for name in "abc")
    assert a == b
    assert json.loads(a)["seeds"] != json.loads(c)["seeds"]


def test_limits_given_replace_the_targets_own(tmp_path):
    assert main([*QUICK, "-q", "--max-params", "1.5M", "--max-flops", "8G"]) == 0
    assert main([*QUICK, "-q", "-o", "default.json"]) == 0
    budget = json.loads((tmp_path / "arch.json").read_text())["budget"]
    default = json.loads((tmp_path / "default.json").read_text())["budget"]
    assert (budget["max_params"], budget["max_flops"]) == (1_500_000, 8_000_000_000)
    assert (default["max_params"], default["max_flops"]) == (2_000_000, 10_000_000_000)


@pytest.mark.parametrize(
    ("flag", "value", "field", "cost"),
    [
        ("--max-decode-flops", "3M", "max_decode_flops_per_token", "decode_flops_per_token"),
        ("--max-memory", "3MB", "max_memory_bytes", "peak_memory_bytes"),
        ("--max-latency-ms", "0.2", "max_latency_ms", "latency_ms"),
        ("--max-prefill-ms", "1.5", "max_prefill_ms", "prefill_ms"),
        ("--max-energy-mj", "2", "max_energy_mj", "energy_mj_per_token"),
    ],
)
def test_every_limit_binds(tmp_path, flag, value, field, cost):
    assert main([*QUICK, "-q", "--target", "nano", "--space", "tiny", flag, value]) == 0
    document = json.loads((tmp_path / "arch.json").read_text())
    limit = document["budget"][field]
    assert 0.5 * limit < document["best"]["cost"][cost] <= limit


def test_context_and_vocabulary_shape_the_architecture(tmp_path):
    options = ["--context", "96", "--vocab-size", "777"]
    assert main([*QUICK, "-q", *options]) == 0
    architecture = read_architecture(str(tmp_path / "arch.json"))
    assert (architecture.max_seq_len, architecture.vocab_size) == (96, 777)


def test_the_context_is_capped_by_the_target(tmp_path):
    assert (
        main([*QUICK, "-q", "--target", "mock-nano", "--space", "nano", "--max-flops", "9G"]) == 0
    )
    assert read_architecture(str(tmp_path / "arch.json")).max_seq_len == 256


def test_a_space_may_come_from_a_file(tmp_path):
    mine = spaces.get("tiny").replace(name="mine", n_blocks=2)
    spaces.to_json_file("mine.json", mine)
    assert main([*QUICK, "-q", "--space", "mine.json"]) == 0
    assert read_architecture(str(tmp_path / "arch.json")) in mine


def test_an_impossible_budget_exits_6_and_writes_nothing(tmp_path, capsys):
    assert main([*QUICK, "--max-params", "10k", "--max-flops", "10G"]) == 6
    err = capsys.readouterr().err
    assert "d64 h2 ff64 x1" in err
    assert "times the limit of 10,000" in err
    assert list(tmp_path.iterdir()) == []


def test_parameters_alone_leave_the_depth_free_and_exit_6(tmp_path, capsys):
    assert main([*QUICK, "-q", "--max-params", "1M"]) == 6
    err = capsys.readouterr().err
    assert "leaves the depth free" in err
    assert "--max-params 64M --max-flops 160G" in err
    assert list(tmp_path.iterdir()) == []


def test_the_exact_method_proves_its_result(tmp_path, capsys):
    assert main([*QUICK, "-q", "--method", "exact"]) == 0
    assert "no member of the space that keeps the budget has more" in capsys.readouterr().out
    certificate = json.loads((tmp_path / "arch.json").read_text())["certificate"]
    assert certificate["complete"]
    assert certificate["best_total"] == certificate["upper_bound"]


def test_without_a_proof_the_card_says_so(capsys):
    assert main([*QUICK, "-q", "--no-proof"]) == 0
    assert "was not proven" in capsys.readouterr().out


def test_a_front_is_shown_and_kept(tmp_path, capsys):
    assert main([*QUICK, "-q", "--pareto", "params"]) == 0
    assert "most entropy for each n_params:" in capsys.readouterr().out
    front = json.loads((tmp_path / "arch.json").read_text())["front"]
    totals = [point["candidate"]["entropy"]["total"] for point in front["points"]]
    assert totals == sorted(totals)
    assert len(totals) >= 5


def test_a_report_comes_with_its_trials_and_its_front(tmp_path, capsys):
    assert main([*QUICK, "-q", "--seeds", "2", "--report", "report.html"]) == 0
    assert "report.html" in capsys.readouterr().out
    assert "<svg" in (tmp_path / "report.html").read_text()
    assert len((tmp_path / "trials.jsonl").read_text().splitlines()) > 64
    assert (tmp_path / "pareto.csv").read_text().startswith("axis,")


def test_constants_of_the_entropy_and_baselines_are_options(tmp_path):
    constants = ["--alpha2", "2", "--gamma0", "0.125", "--effectiveness", "hard"]
    constants += ["--most-growth", "1.5"]
    assert main([*QUICK, "-q", *constants]) == 0
    config = json.loads((tmp_path / "arch.json").read_text())["config"]
    assert config["entropy"] == {
        "alpha1": 1.0,
        "alpha2": 2.0,
        "eps": 1.0,
        "gamma0": 0.125,
        "form": "hard",
        "most_growth": 1.5,
    }
    assert main([*QUICK, "-q", "--objective", "depth", "-o", "deep.json"]) == 0
    deep = read_architecture(str(tmp_path / "deep.json"))
    assert deep.n_layers > read_architecture(str(tmp_path / "arch.json")).n_layers


def test_nothing_but_the_result_is_left_behind(tmp_path):
    assert main([*QUICK, "-q"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["arch.json"]


def test_an_earlier_result_is_kept_unless_forced(tmp_path, capsys):
    (tmp_path / "arch.json").write_text("mine")
    assert main([*QUICK]) == 2
    assert "--force" in capsys.readouterr().err
    assert (tmp_path / "arch.json").read_text() == "mine"
    assert main([*QUICK, "-q", "--force"]) == 0
    assert read_architecture(str(tmp_path / "arch.json"))


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--target", "jetson"], 2, "orin-nano"),
        (["--space", "huge"], 2, "paper, nano"),
        (["--space", "missing.json"], 8, "does not exist"),
        (["--max-flops", "lots"], 2, "write 64M, 160G"),
        (["--max-latency-ms", "-1"], 2, "not a number above zero"),
        (["--max-latency-ms", "5"], 2, "bandwidth, peak rate or power is not known"),
        (["--population", "9M"], 2, "not a whole number"),
        (["--candidates", "10"], 2, "cannot fill a population"),
        (["-o", "no/such/arch.json"], 2, "does not exist"),
        (["-o", "."], 2, "is a folder"),
        (["--report", "no/such/report.html"], 2, "does not exist"),
        (["--pareto", "latency"], 2, "cannot be predicted for 'host'"),
        (["--objective", "luck"], 2, "must be one of entropy"),
        (["--method", "exact", "--objective", "depth"], 2, "only the entropy can be proven"),
        (["--eps", "0"], 2, "not a number above zero"),
    ],
)
def test_a_bad_option_gets_one_clear_error(capsys, options, code, words):
    assert main([*QUICK, *options]) == code
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert words in err


def test_help_has_an_example(capsys):
    assert main(["search", "--help"]) == 0
    assert "merino-edge search --target nano --max-params 64M" in capsys.readouterr().out
