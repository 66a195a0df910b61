"""A run file says everything, and a second run does nothing that is done already."""

import os

import pytest

from merino_edge.core import space
from merino_edge.errors import FormatError, SpecError
from merino_edge.pipeline.run_config import read_run_config
from merino_edge.pipeline.workspace import Workspace

RUN = """
corpus = ["text.txt"]
space = "small.json"
output = "out"
context_len = 24

[budget]
max_params = 100000
max_flops = 2000000000

[search]
candidates = 600

[train]
n_steps = 3
batch_size = 2
seq_len = 24
"""


def write_run(tmp_path, more=""):
    """A run of a few seconds over a small space and a made-up text; gives the file's path."""
    small = space.get("tiny").replace(
        name="small", d_models=(32, 64), vocab_size=300, max_seq_len=32
    )
    space.to_json_file(str(tmp_path / "small.json"), small)
    words = "the sheep counts the stars and the stars count the sheep on hill {} \n"
    (tmp_path / "text.txt").write_text("".join(words.format(i) for i in range(400)))
    run = RUN.replace("small.json", str(tmp_path / "small.json")).lstrip()
    (tmp_path / "run.toml").write_text(run + more)
    return str(tmp_path / "run.toml")


def ignore(text):
    """A listener with nothing to say."""


def test_a_stage_runs_again_only_when_its_inputs_or_its_result_change(tmp_path):
    notes, runs = [], []
    workspace = Workspace(str(tmp_path / "out"), notes.append)

    def make():
        runs.append(1)
        (tmp_path / "out" / "result").write_text("x")

    assert workspace.stage("one", "result", {"a": 1}, make)
    assert not workspace.stage("one", "result", {"a": 1}, make)
    assert workspace.stage("one", "result", {"a": 2}, make)
    (tmp_path / "out" / "result").unlink()
    assert workspace.stage("one", "result", {"a": 2}, make)
    assert len(runs) == 3
    assert notes.count("one: up to date") == 1


def test_a_stage_that_fails_is_not_up_to_date(tmp_path):
    workspace = Workspace(str(tmp_path / "out"), lambda text: None)

    def fail():
        (tmp_path / "out" / "result").write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        workspace.stage("one", "result", {"a": 1}, fail)
    assert workspace.stage("one", "result", {"a": 1}, lambda: None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("corpus = [", "not TOML"),
        ("", "corpus: missing field"),
        ('corpus = ["x"]\ncolour = 1', "colour: unknown field"),
        ('corpus = ["x"]\n[budget]\nmax_parms = 1', r"budget\.max_parms: unknown field"),
        ('corpus = ["x"]\n[search]\nseed = "a"', r"search\.seed: expected int"),
    ],
)
def test_a_wrong_run_file_is_refused_with_the_field(tmp_path, text, message):
    (tmp_path / "run.toml").write_text(text)
    with pytest.raises(FormatError, match=message):
        read_run_config(str(tmp_path / "run.toml"))


@pytest.mark.torch
@pytest.mark.onnx
def test_a_run_goes_from_text_to_a_bundle_and_the_second_time_only_looks(tmp_path):
    from merino_edge.pipeline.run import run_pipeline

    config = read_run_config(write_run(tmp_path))
    first, second = [], []

    bundle = run_pipeline(config, str(tmp_path), first.append, lambda text: None)
    before = os.stat(bundle.file("weights")).st_mtime_ns
    again = run_pipeline(config, str(tmp_path), second.append, lambda text: None)

    assert any(note.startswith("export: done") for note in first)
    assert "search: up to date" in second
    assert "export: up to date" in second
    assert again.bundle_id == bundle.bundle_id
    assert os.stat(again.file("weights")).st_mtime_ns == before
    assert again.manifest.kv_cache.context_len == 24


@pytest.mark.torch
@pytest.mark.onnx
def test_a_changed_setting_trains_beside_the_earlier_result(tmp_path):
    from merino_edge.pipeline.run import run_pipeline

    run_file = write_run(tmp_path)
    first = run_pipeline(read_run_config(run_file), str(tmp_path), ignore, ignore).bundle_id
    text = (tmp_path / "run.toml").read_text()
    (tmp_path / "run.toml").write_text(text.replace("n_steps = 3", "n_steps = 4"))
    second = run_pipeline(read_run_config(run_file), str(tmp_path), ignore, ignore).bundle_id

    assert second != first
    folders = [n for n in os.listdir(tmp_path / "out") if n.startswith("checkpoint-")]
    assert len([n for n in folders if not n.endswith(".run")]) == 2


def test_a_misspelt_training_setting_is_named(tmp_path):
    pytest.importorskip("torch")
    from merino_edge.pipeline.run import run_pipeline

    run_file = write_run(tmp_path, "learning_rat = 0.1\n")
    with pytest.raises(SpecError, match=r"train\.learning_rat"):
        run_pipeline(read_run_config(run_file), str(tmp_path), ignore, ignore)
