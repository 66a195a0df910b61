"""Our adapter against lm-evaluation-harness's own, on the same model of transformers and items.

HFLM reads a random llama's folder with transformers; ours reads the same weights as a checkpoint
and as bundles. Log-likelihoods, choices and the harness's figures must be equal.
"""

import json
import pathlib
import subprocess
import sys

import pytest
from doubles import llama_architecture, native_bundle, random_tensors, tiny_bundle
from tiny_tasks import write_checkpoint, write_data

from merino_edge.errors import FormatError, UsageError

pytest.importorskip("torch")
pytest.importorskip("lm_eval")
from merino_edge.pipeline.evaluation.lm_eval_door import lm_eval
from merino_edge.pipeline.evaluation.scored_model import open_model

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]
ROOT = pathlib.Path(__file__).parents[3]
# Tied, as the folders that benchmarks/peers writes are; short, so that some contexts are cut.
LLAMA = llama_architecture(max_seq_len=64, tie_embeddings=True)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """data/, checkpoint/ and hf/ with the same weights."""
    home = tmp_path_factory.mktemp("home")
    write_data(home / "data")
    path = write_checkpoint(home / "checkpoint", LLAMA)
    sys.path.append(str(ROOT / "benchmarks/peers"))
    try:
        from hf_folder import write_hf_folder
    finally:
        sys.path.pop()
    (home / "hf").mkdir()
    tokenizer = pathlib.Path(path, "tokenizer.json").read_text()
    write_hf_folder(str(home / "hf"), LLAMA, random_tensors(LLAMA, 0), tokenizer)
    return home


@pytest.fixture(scope="module")
def hflm(home):
    pytest.importorskip("transformers")
    lm_eval()
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=str(home / "hf"), device="cpu", dtype="float32", max_length=64)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))


def instances(texts, kind="loglikelihood"):
    from lm_eval.api.instance import Instance

    return [Instance(kind, {}, text, i) for i, text in enumerate(texts)]


PAIRS = [
    ("The sheep sleeps on the hill.", " It is small"),
    ("The sheep sleeps on the hill. ", "It is small"),  # the blank goes over the border
    ("The sheep sleeps on the hill.", " No"),
    ("The sheep", " and the 羊"),
    ("", "an empty context"),
    ("many words " * 40, "and the context is cut"),
]


def harness_model(path, **options):
    from merino_edge.pipeline.evaluation.harness import HarnessModel

    return HarnessModel(path, threads=1, **options)


def test_log_likelihoods_are_those_of_the_harness_own_adapter(home, hflm):
    ours = harness_model(str(home / "checkpoint"))
    theirs = hflm.loglikelihood(instances(PAIRS), disable_tqdm=True)
    for (likely, greedy), (expected, is_greedy) in zip(
        ours.loglikelihood(instances(PAIRS)), theirs, strict=True
    ):
        assert likely == pytest.approx(expected, abs=1e-4)
        assert greedy == is_greedy
    assert ours.n_truncated == 1


def test_rolling_log_likelihoods_are_those_of_the_harness_own_adapter(home, hflm):
    ours = harness_model(str(home / "checkpoint"))
    texts = [("short",), ("the sheep counts the boards on the hill " * 12,)]
    theirs = hflm.loglikelihood_rolling(instances(texts, "loglikelihood_rolling"), True)
    found = ours.loglikelihood_rolling(instances(texts, "loglikelihood_rolling"))
    assert found == pytest.approx(theirs, rel=1e-6, abs=1e-4)


def test_generated_text_is_that_of_the_harness_own_adapter(home, hflm):
    ours = harness_model(str(home / "checkpoint"))
    settings = {"until": ["e"], "max_gen_toks": 12, "do_sample": False}
    asked = [("The sheep", settings), ("A board is", {**settings, "until": []})]
    theirs = hflm.generate_until(instances(asked, "generate_until"), disable_tqdm=True)
    assert ours.generate_until(instances(asked, "generate_until")) == theirs


def figures(document, task):
    found = document["results"][task]
    return {n: v for n, v in found.items() if "," in n}


@pytest.mark.parametrize("task", ["colours", "described"])
@pytest.mark.parametrize("n_fewshot", [0, 2])
def test_our_path_and_the_harness_give_the_same_figures(home, hflm, task, n_fewshot):
    from lm_eval.evaluator import simple_evaluate

    from merino_edge.pipeline.evaluation import task_files
    from merino_edge.pipeline.evaluation.harness import run_harness
    from merino_edge.pipeline.evaluation.run import Settings, evaluate

    data = str(home / "data")
    model = open_model(str(home / "checkpoint"), threads=1)
    settings = Settings([task], data, n_fewshot=n_fewshot)
    ours, items = evaluate(settings, model)
    through = figures(run_harness(model, [task], data, None, n_fewshot), task + "_local")
    manager = task_files.task_manager(data)
    made = task_files.load_task(task_files.find_task(task, manager), data, manager, n_fewshot)
    theirs = simple_evaluate(hflm, tasks=[made], task_manager=manager, num_fewshot=n_fewshot)
    theirs_choices = [
        max(range(4), key=lambda k: sample["resps"][k][0][0])
        for sample in theirs["samples"][task + "_local"]
    ]
    assert [item.choice for item in items] == theirs_choices
    assert through == figures(theirs, task + "_local")
    for name, metric in ours.tasks[0].metrics.items():
        assert through[f"{name},none"] == pytest.approx(metric.value)
        assert through[f"{name}_stderr,none"] == pytest.approx(metric.stderr)


def test_bundles_answer_as_the_checkpoint_does(home, tmp_path, native_library):
    truth = harness_model(str(home / "checkpoint")).loglikelihood(instances(PAIRS))
    reference = harness_model(tiny_bundle(tmp_path / "one", LLAMA), backend="reference")
    native = harness_model(
        native_bundle(tmp_path / "two", LLAMA, precision="fp32"), backend="native"
    )
    for adapter, tolerance in ((reference, 1e-4), (native, 5e-3)):
        found = adapter.loglikelihood(instances(PAIRS))
        for (likely, greedy), (expected, is_greedy) in zip(found, truth, strict=True):
            assert likely == pytest.approx(expected, abs=tolerance)
            assert greedy == is_greedy


def test_what_is_wrong_with_the_tasks_is_told_before_the_harness_runs(home):
    from merino_edge.pipeline.evaluation.harness import run_harness

    model = open_model(str(home / "checkpoint"), threads=1)
    with pytest.raises(UsageError, match="there is no task 'colour'"):
        run_harness(model, ["colour"], str(home / "data"))
    (home / "data/lm_eval_tasks/lost.yaml").write_text(
        (home / "data/lm_eval_tasks/colours_local.yaml")
        .read_text()
        .replace("colours_local", "lost")
        .replace("colours.jsonl", "lost.jsonl")
    )
    with pytest.raises(FormatError, match="does not exist"):
        run_harness(model, ["lost"], str(home / "data"))


@pytest.mark.slow
def test_the_harness_own_command_knows_us_by_name(home):
    """`lm_eval --model merino-edge --model_args path=...`, with our module as the door."""
    command = [
        *(sys.executable, "-m", "merino_edge.pipeline.evaluation.harness", "run"),
        *("--model", "merino-edge", "--model_args", f"path={home / 'checkpoint'},threads=1"),
        *("--tasks", "colours_local", "--include_path", str(home / "data/lm_eval_tasks")),
        *("--output_path", str(home / "out"), "--limit", "4"),
    ]
    done = subprocess.run(command, cwd=home / "data", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (written,) = (home / "out").rglob("results*.json")
    assert json.loads(written.read_text())["results"]["colours_local"]["sample_len"] == 4
