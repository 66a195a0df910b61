"""Task files: found by name, checked before anything is asked, judged by the harness itself."""

import os

import pytest
from tiny_tasks import write_checkpoint, write_data

from merino_edge.errors import FormatError, SessionError, UnsupportedError, UsageError

pytest.importorskip("torch")
pytest.importorskip("lm_eval")
from merino_edge.pipeline.evaluation.run import Settings, evaluate, prepare
from merino_edge.pipeline.evaluation.scored_model import open_model

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return open_model(write_checkpoint(tmp_path_factory.mktemp("model") / "checkpoint"), threads=1)


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    return write_data(tmp_path / "data")


def test_the_figures_are_those_of_the_choices(data, model):
    found, items = evaluate(Settings(["colours"], data), model)
    (task,) = found.tasks
    assert [item.choice == item.item % 4 for item in items] == [
        item.metrics["acc"] == 1.0 for item in items
    ]
    n = len(items)
    right = sum(item.choice == item.item % 4 for item in items) / n
    assert task.metrics["acc"].value == pytest.approx(right)
    spread = (right * (1 - right) / (n - 1)) ** 0.5
    assert task.metrics["acc"].stderr == pytest.approx(spread)
    assert (task.n_items, task.n_requests, task.n_truncated) == (8, 32, 0)
    assert list(task.files) == ["eval/colours.jsonl"]
    assert "0-shot" in task.how


def test_examples_before_a_question_are_shared_by_all(data, model):
    found, _ = evaluate(Settings(["described"], data, n_fewshot=0), model)
    assert found.tasks[0].n_requests == 32


def test_a_limit_takes_the_first_items(data, model):
    found, items = evaluate(Settings(["colours"], data, limit=3), model)
    assert [item.item for item in items] == [0, 1, 2]
    assert (found.tasks[0].n_items, found.tasks[0].n_items_in_all) == (3, 8)


def test_contexts_longer_than_the_model_are_cut_and_counted(data, tmp_path):
    short = open_model(write_checkpoint(tmp_path / "short"), threads=1, context_len=40)
    found, _ = evaluate(Settings(["colours"], data), short)
    assert 0 < found.tasks[0].n_truncated < 32


def test_a_continuation_longer_than_the_model_is_one_error(data, tmp_path):
    short = open_model(write_checkpoint(tmp_path / "short"), threads=1, context_len=8)
    with pytest.raises(SessionError, match="does not fit: the model reads 8 at once"):
        prepare(Settings(["colours"], data), short)


def test_an_unknown_task_names_the_nearest(data, model):
    with pytest.raises(UsageError, match="there is no task 'colors'") as caught:
        prepare(Settings(["colors"], data), model)
    assert "did you mean colours" in caught.value.hint
    with pytest.raises(UsageError) as caught:
        prepare(Settings(["wikitext"], data), model)
    assert "wikitext2" in caught.value.hint


def test_no_folder_of_tasks_is_one_error(tmp_path, model):
    with pytest.raises(UsageError, match=r"there is no folder '.*lm_eval_tasks' with task files"):
        prepare(Settings(["colours"], str(tmp_path)), model)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "the file does not exist; task 'colours_local' reads it"),
        ("", "the file is empty; task 'colours_local' has nothing to ask"),
        ('{"question": 1}\nnonsense\n', "line 2 is not a JSON object"),
        ("[1]\n", "line 1 is not a JSON object"),
    ],
)
def test_a_data_file_that_cannot_be_used_is_one_error(data, model, content, words):
    path = os.path.join(data, "eval/colours.jsonl")
    os.unlink(path)
    if content is not None:
        with open(path, "w") as stream:
            stream.write(content)
    with pytest.raises(FormatError, match=words) as caught:
        prepare(Settings(["colours"], data), model)
    assert caught.value.path == path


def test_a_question_without_its_field_is_the_tasks_error(data, model):
    with open(os.path.join(data, "eval/colours.jsonl"), "w") as stream:
        stream.write('{"query": "no question here"}\n')
    with pytest.raises(FormatError, match="lm-evaluation-harness cannot load the task") as caught:
        prepare(Settings(["colours"], data), model)
    assert "UndefinedError" in caught.value.note or "KeyError" in caught.value.note


def test_a_task_that_wants_text_is_sent_to_the_harness(data, model):
    path = os.path.join(data, "lm_eval_tasks/colours_local.yaml")
    with open(path) as stream:
        text = stream.read().replace("multiple_choice", "generate_until")
    with open(path, "w") as stream:
        stream.write(text.split("doc_to_choice")[0] + "metric_list:\n  - metric: exact_match\n")
    with pytest.raises(UnsupportedError, match="asks for generate_until") as caught:
        prepare(Settings(["colours"], data), model)
    assert "--harness" in caught.value.hint
