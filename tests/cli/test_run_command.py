"""The commands of the device side, as a person types them."""

import io
import json
import os
import signal
import subprocess
import sys

import pytest
from doubles import edit_manifest, tiny_bundle

from merino_edge.cli.main import main
from merino_edge.formats import bench_report
from merino_edge.runtime import GenerationConfig, load


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return tiny_bundle(tmp_path_factory.mktemp("cli") / "bundle")


def text_of(bundle, prompt, **fields):
    with load(bundle) as session:
        return "".join(session.stream(prompt, GenerationConfig(eos_token_ids=(0,), **fields)))


def test_run_writes_text_to_stdout_and_timings_to_stderr(bundle, capsys):
    assert main(["run", bundle, "--prompt", "The sheep", "--max-new-tokens", "6"]) == 0
    out, err = capsys.readouterr()
    assert out == text_of(bundle, "The sheep", max_new_tokens=6) + "\n"
    assert "6 generated" in err
    assert "(length, reference)" in err
    assert "the bundle holds no ONNX graph" in err


def test_run_as_json_holds_text_tokens_and_timings(bundle, capsys):
    words = ["--prompt", "The sheep", "--max-new-tokens", "5", "--json"]
    assert main(["run", bundle, *words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["text"] == text_of(bundle, "The sheep", max_new_tokens=5)
    assert len(found["output_ids"]) == 5
    assert len(found["itl_ms"]) == 4
    assert found["ttft_ms"] > 0
    assert (found["finish_reason"], found["backend"]) == ("length", "reference")


def test_naming_a_temperature_draws_and_the_seed_repeats_it(bundle, capsys):
    def drawn(*words):
        main(["run", bundle, "--prompt", "a", "--temperature", "2", "-q", *words])
        return capsys.readouterr().out

    assert drawn("--seed", "1") == drawn("--seed", "1") != drawn("--seed", "2")
    expected = text_of(bundle, "a", do_sample=True, temperature=2.0, seed=1)
    assert drawn("--seed", "1") == expected + "\n"


def test_run_stops_before_a_stop_string(bundle, capsys):
    whole = text_of(bundle, "The sheep", max_new_tokens=12)
    main(["run", bundle, "--prompt", "The sheep", "--max-new-tokens", "12", "--stop", whole[4:6]])
    assert capsys.readouterr().out == whole[: whole.index(whole[4:6])] + "\n"


def test_a_conversation_is_written_as_the_bundle_says(bundle, capsys):
    words = ["--chat", "Hi", "--system", "Be brief", "--max-new-tokens", "3"]
    assert main(["run", bundle, *words]) == 0
    prompt = "[system] Be brief\n[user] Hi\n[assistant] "
    assert capsys.readouterr().out == text_of(bundle, prompt, max_new_tokens=3) + "\n"


def test_a_dash_reads_the_prompt_from_stdin(bundle, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("Grüße".encode())))
    assert main(["run", bundle, "--prompt", "-", "--max-new-tokens", "3", "-q"]) == 0
    assert capsys.readouterr().out == text_of(bundle, "Grüße", max_new_tokens=3) + "\n"


def test_text_is_utf8_even_where_the_locale_is_not(bundle):
    words = ["run", bundle, "--prompt", "Grüße", "--max-new-tokens", "8", "-q"]
    found = subprocess.run(
        [sys.executable, "-m", "merino_edge", *words],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=True,
    )
    expected = text_of(bundle, "Grüße", max_new_tokens=8)
    assert not expected.isascii()
    assert found.stdout.decode("utf-8") == expected + "\n"


def test_the_first_interrupt_ends_the_text_and_keeps_what_there_is(bundle, capsys, monkeypatch):
    write = sys.stdout.write
    pieces = []

    def interrupted_at_the_first(text):
        write(text)
        pieces.append(text)
        if len(pieces) == 1:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(sys.stdout, "write", interrupted_at_the_first)
    assert main(["run", bundle, "--prompt", "The sheep", "--max-new-tokens", "30"]) == 130
    assert "(cancelled, reference)" in capsys.readouterr().err
    whole = text_of(bundle, "The sheep", max_new_tokens=30)
    kept = "".join(pieces)
    assert kept.endswith("\n")
    assert whole.startswith(kept[:-1])
    assert 0 < len(kept[:-1]) < len(whole)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--prompt", "a " * 60], 1, "tokens, the context holds 48"),
        (["--prompt", ""], 1, "the prompt is empty"),
        (["--prompt", "a", "--top-p", "0"], 2, "top_p is 0.0"),
        (["--prompt", "a", "--top-p", "much"], 2, "'much' is not a number"),
        (["--prompt", "a", "--system", "b"], 2, "--system belongs to a conversation"),
        (["--prompt", "a", "--chat", "b"], 2, "not allowed with argument"),
        ([], 2, "required"),
    ],
)
def test_a_wrong_request_is_one_clear_error(bundle, capsys, words, code, message):
    assert main(["run", bundle, *words]) == code
    out, err = capsys.readouterr()
    assert message in err
    assert "Traceback" not in err
    assert out == ""


def test_a_plain_language_model_says_that_it_cannot_chat(tmp_path, capsys):
    path = tiny_bundle(tmp_path / "bundle")
    edit_manifest(path, chat=None)
    assert main(["run", path, "--chat", "Hi"]) == 3
    assert "no chat format" in capsys.readouterr().err


def test_a_folder_that_is_no_bundle_is_named(tmp_path, capsys):
    assert main(["run", str(tmp_path), "--prompt", "a"]) == 8
    assert "not a bundle" in capsys.readouterr().err


def test_bench_prints_one_row_a_case_and_the_machine(bundle, capsys):
    assert main(["bench", bundle, "-p", "4,8", "-n", "3", "-d", "0,5", "-r", "2"]) == 0
    out, err = capsys.readouterr()
    rows = [line for line in out.splitlines() if line.startswith("| tiny")]
    tests = [row.split("|")[5].strip() for row in rows]
    assert tests == ["pp4", "pp8", "tg3", "pp4 @ d5", "pp8 @ d5", "tg3 @ d5"]
    assert "memory bandwidth" in out
    assert "6 cases" in err


@pytest.mark.parametrize("layout", ["json", "jsonl"])
def test_bench_reports_can_be_read_again(bundle, capsys, tmp_path, layout):
    assert main(["bench", bundle, "-p", "4", "-n", "0", "-r", "2", "-o", layout, "-q"]) == 0
    path = tmp_path / "bench.json"
    path.write_text(capsys.readouterr().out)
    (report,) = bench_report.read_reports(str(path))
    assert (report.n_prompt, report.n_gen, len(report.samples_ns)) == (4, 0, 2)
    assert report.ci95_ts is not None


def test_bench_as_csv_has_a_header_and_a_line(bundle, capsys):
    assert main(["bench", bundle, "-p", "4", "-n", "0", "-r", "1", "-o", "csv", "-q"]) == 0
    header, line = capsys.readouterr().out.splitlines()
    assert header.startswith("schema,merino_edge_version,bundle,")
    assert line.startswith("merino-edge.bench/1,")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["-p", "x"], 2, "'x' is not a whole number"),
        (["-p", "0", "-n", "0"], 2, "both 0"),
        (["-p", "49", "-n", "0"], 1, "pp49 needs 49 positions, the context holds 48"),
        (["-r", "0"], 2, "above zero"),
    ],
)
def test_a_bench_that_cannot_be_is_refused(bundle, capsys, words, code, message):
    assert main(["bench", bundle, *words]) == code
    assert message in capsys.readouterr().err


def test_doctor_prints_checks_and_json(capsys):
    code = main(["doctor"])
    out = capsys.readouterr().out
    assert "python" in out
    assert code == int("FAIL" in out)
    assert main(["doctor", "--json"]) == code
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is (code == 0)
    assert {check["status"] for check in found["checks"]} <= {"ok", "warn", "fail"}
