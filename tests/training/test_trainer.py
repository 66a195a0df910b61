"""A run learns, resumes to the bit, stops when asked, and never loses its last good state."""

import json
import math
import resource
import signal
import threading

import numpy as np
import pytest

from merino_edge.errors import FormatError, MerinoError, SpecError, StoppedError, UsageError
from merino_edge.training.config import TrainConfig

pytestmark = pytest.mark.torch


def run(texts, architecture, output, settings, **options):
    from merino_edge.training.trainer import train

    return train(architecture, [str(texts)], TrainConfig(**settings), str(output), **options)


def stop_at(step):
    """An on_progress that sends this process a real SIGINT after a step."""

    def on_progress(progress):
        if progress.phase == "train" and progress.step == step:
            signal.raise_signal(signal.SIGINT)

    return on_progress


def curve(output):
    """(step, loss, validation loss or None) of every step."""
    lines = (output.parent / (output.name + ".run") / "metrics.jsonl").read_text().splitlines()
    return [(m["step"], m["loss"], m.get("val_loss")) for m in map(json.loads, lines)]


def test_a_model_learns_more_than_how_often_each_token_occurs(tmp_path, texts, architecture):
    from merino_edge.model.checkpoint import read_text
    from merino_edge.training.tokenizer import parse_tokenizer
    from merino_edge.training.trainer import train

    config = TrainConfig(
        n_steps=300, batch_size=8, seq_len=64, learning_rate=1e-2, warmup_steps=30, threads=1
    )
    checkpoint = train(architecture, [str(texts)], config, str(tmp_path / "out"))
    tokenizer = parse_tokenizer(read_text(checkpoint.tokenizer_path), "")
    every = [tokenizer.encode(p.read_text(encoding="utf-8")).ids for p in texts.iterdir()]
    counts = np.bincount(np.concatenate(every))
    share = counts[counts > 0] / counts.sum()
    unigram_entropy = -(share * np.log(share)).sum()
    metrics = checkpoint.info.metrics
    assert metrics["val_loss"] < unigram_entropy - 0.3
    assert metrics["val_perplexity"] == pytest.approx(math.exp(metrics["val_loss"]))
    assert metrics["tokens_seen"] == checkpoint.info.step * 8 * 64


def test_the_checkpoint_opens_and_says_where_it_comes_from(tmp_path, texts, architecture, settings):
    from merino_edge.model.checkpoint import load_checkpoint

    checkpoint = run(texts, architecture, tmp_path / "out", settings)
    opened = load_checkpoint(str(tmp_path / "out"))
    assert opened.architecture == architecture
    assert opened.info == checkpoint.info
    assert opened.info.generation.eos_token_ids == [0]
    assert opened.info.provenance["seed"] == "0"
    assert opened.info.provenance["corpus_documents"] == "7"


@pytest.mark.parametrize("step", [5, 7], ids=["just saved", "between saves"])
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one_to_the_bit(
    tmp_path, texts, architecture, settings, step
):
    whole = run(texts, architecture, tmp_path / "whole", settings)
    with pytest.raises(StoppedError, match=f"stopped by SIGINT after step {step} of 20"):
        run(texts, architecture, tmp_path / "cut", settings, on_progress=stop_at(step))
    assert not (tmp_path / "cut").exists()
    resumed = run(texts, architecture, tmp_path / "cut", settings)
    assert curve(tmp_path / "cut") == curve(tmp_path / "whole")
    assert resumed.info == whole.info
    first, second = whole.tensors(), resumed.tensors()
    assert all(np.array_equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("norm", ["layernorm", "rmsnorm"])
def test_bfloat16_resumes_to_the_bit_as_well(tmp_path, texts, architecture, settings, norm):
    architecture = architecture.replace(norm=norm)
    settings = {**settings, "precision": "bfloat16", "n_steps": 8}
    run(texts, architecture, tmp_path / "whole", settings)
    with pytest.raises(StoppedError):
        run(texts, architecture, tmp_path / "cut", settings, on_progress=stop_at(3))
    run(texts, architecture, tmp_path / "cut", settings)
    assert curve(tmp_path / "cut") == curve(tmp_path / "whole")


def test_the_same_call_again_does_nothing_and_another_is_refused(
    tmp_path, texts, architecture, settings
):
    phases = []
    run(texts, architecture, tmp_path / "out", settings)
    before = (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns
    run(
        texts,
        architecture,
        tmp_path / "out",
        settings,
        on_progress=lambda p: phases.append(p.phase),
    )
    assert phases == ["corpus", "up to date"]
    with pytest.raises(UsageError, match="exists already"):
        run(texts, architecture, tmp_path / "out", {**settings, "seed": 1})
    assert (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns == before
    again = run(texts, architecture, tmp_path / "out", {**settings, "seed": 1}, force=True)
    assert again.info.provenance["seed"] == "1"


def test_only_the_record_and_the_metrics_of_a_finished_run_are_kept(
    tmp_path, texts, architecture, settings
):
    run(texts, architecture, tmp_path / "out", settings)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "out.run"]
    assert sorted(p.name for p in (tmp_path / "out.run").iterdir()) == ["metrics.jsonl", "run.json"]


@pytest.fixture
def cut_run(tmp_path, texts, architecture, settings):
    """Output path of a run that was stopped after step 6."""
    with pytest.raises(StoppedError):
        run(texts, architecture, tmp_path / "out", settings, on_progress=stop_at(6))
    return tmp_path / "out"


@pytest.mark.parametrize(
    ("field", "value"), [("learning_rate", 0.5), ("seed", 9), ("batch_size", 2)]
)
def test_resuming_with_another_setting_names_it_with_both_values(
    cut_run, texts, architecture, settings, field, value
):
    with pytest.raises(UsageError, match=rf"{field} is {value} now, .* was started with"):
        run(texts, architecture, cut_run, {**settings, field: value})


def test_resuming_with_another_model_names_what_differs(cut_run, texts, architecture, settings):
    with pytest.raises(UsageError, match=r"architecture\.norm is 'rmsnorm' now"):
        run(texts, architecture.replace(norm="rmsnorm"), cut_run, settings)


def test_resuming_with_a_changed_corpus_is_refused(cut_run, tmp_path, architecture, settings):
    (tmp_path / "other.txt").write_text("another text altogether\n" * 200)
    with pytest.raises(UsageError, match="corpus_sha256 is"):
        run(tmp_path / "other.txt", architecture, cut_run, settings)


def test_how_often_a_run_saves_may_change_when_it_resumes(cut_run, texts, architecture, settings):
    checkpoint = run(texts, architecture, cut_run, {**settings, "save_every": 3})
    assert checkpoint.info.provenance["n_steps"] == "20"


def test_an_unfinished_run_is_not_touched_without_resume(cut_run, texts, architecture, settings):
    with pytest.raises(UsageError, match=r"unfinished run stands in .* at step 6"):
        run(texts, architecture, cut_run, settings, resume=False)
    run(texts, architecture, cut_run, settings, resume=False, force=True)


def test_a_loss_that_is_no_number_names_the_step_and_keeps_the_last_good_state(
    tmp_path, texts, architecture, settings
):
    from merino_edge.training.run_folder import RunFolder

    settings = {**settings, "learning_rate": 1e30, "warmup_steps": 0, "save_every": 1}
    with pytest.raises(MerinoError, match=r"step \d+ gave loss nan") as raised:
        run(texts, architecture, tmp_path / "out", settings)
    assert "--learning-rate" in raised.value.hint
    folder = RunFolder(str(tmp_path / "out.run"))
    state = folder.state()
    assert f"the state of step {state.step} is kept" in raised.value.note
    assert all(np.isfinite(array).all() for array in folder.arrays(state.weights).values())


def test_a_full_disk_leaves_the_earlier_state_valid(cut_run, texts, architecture, settings):
    from merino_edge.training.run_folder import RunFolder

    earlier = RunFolder(str(cut_run) + ".run").state()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))  # the weights take 160 kB
    try:
        with pytest.raises(OSError, match="File too large"):
            run(texts, architecture, cut_run, settings)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    folder = RunFolder(str(cut_run) + ".run")
    assert folder.state() == earlier
    left = sorted(p.name for p in cut_run.with_name("out.run").glob("*.safetensors"))
    assert left == sorted([earlier.weights, earlier.moments])
    run(texts, architecture, cut_run, settings)
    run(texts, architecture, cut_run.with_name("whole"), settings)
    assert curve(cut_run) == curve(cut_run.with_name("whole"))


def test_a_damaged_state_is_refused(cut_run, texts, architecture, settings):
    weights = next(cut_run.with_name("out.run").glob("weights-*"))
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(FormatError, match="weights-000006"):
        run(texts, architecture, cut_run, settings)


def test_a_corpus_too_short_for_a_window_is_refused(tmp_path, architecture, settings):
    (tmp_path / "short.txt").write_text("to be or not to be\n" * 3)
    small = architecture.replace(vocab_size=260)
    with pytest.raises(SpecError, match=r"the training text has \d+ tokens, seq_len 60 needs 61"):
        run(tmp_path / "short.txt", small, tmp_path / "out", {**settings, "seq_len": 60})


def test_training_in_a_thread_needs_no_signals(tmp_path, texts, architecture, settings):
    results = []
    worker = threading.Thread(
        target=lambda: results.append(run(texts, architecture, tmp_path / "out", settings))
    )
    worker.start()
    worker.join()
    assert results[0].info.provenance["n_steps"] == "20"


def test_progress_counts_up_and_ends_with_nothing_to_go(tmp_path, texts, architecture, settings):
    seen = []
    run(texts, architecture, tmp_path / "out", settings, on_progress=seen.append)
    steps = [p.step for p in seen if p.phase == "train"]
    assert steps == list(range(1, 21))
    last = [p for p in seen if p.phase == "train"][-1]
    assert last.eta_s == 0
    assert last.tokens_per_s > 0
    assert last.val_loss is not None
    assert [p.phase for p in seen][:2] == ["corpus", "tokenizer"]
    assert seen[-1].phase == "evaluate"
