"""The journal: what was scored is not scored again, and nothing else is taken for it."""

import pytest
from tiny_tasks import write_checkpoint, write_data

from merino_edge.errors import FormatError, StoppedError, UsageError
from merino_edge.pipeline.evaluation.journal import Journal
from merino_edge.pipeline.evaluation.requests import Request, Score
from merino_edge.pipeline.evaluation.results import ModelFacts

FACTS = ModelFacts("m", "checkpoint", "a" * 64, "", 1, "fp32", "torch 2.13", 8, "b" * 64)
ONE, OTHER = Request((1, 2), (3,)), Request((1,), (2, 3))


def test_what_was_added_is_there_again(tmp_path):
    path = str(tmp_path / "journal")
    journal = Journal(path, FACTS)
    journal.add(ONE, Score(-1.25, True))
    journal.close()
    again = Journal(path, FACTS)
    assert again.get(ONE) == Score(-1.25, True)
    assert again.get(OTHER) is None
    again.close(remove=True)
    assert not (tmp_path / "journal").exists()


def test_a_line_that_was_cut_off_is_dropped(tmp_path):
    path = tmp_path / "journal"
    journal = Journal(str(path), FACTS)
    journal.add(ONE, Score(-1.0, False))
    journal.add(OTHER, Score(-2.0, False))
    journal.close()
    path.write_bytes(path.read_bytes()[:-7])
    again = Journal(str(path), FACTS)
    assert again.get(ONE) == Score(-1.0, False)
    assert again.get(OTHER) is None
    again.add(OTHER, Score(-2.0, False))
    again.close()
    last = Journal(str(path), FACTS)
    assert len(last) == 2
    last.close()


@pytest.mark.parametrize(
    "changed", [{"id": "c" * 64}, {"precision": "int8"}, {"computed_by": "ort"}]
)
def test_another_model_or_another_way_of_computing_is_refused(tmp_path, changed):
    path = str(tmp_path / "journal")
    Journal(path, FACTS).close()
    with pytest.raises(UsageError, match="belongs to another evaluation") as caught:
        Journal(path, FACTS._replace(**changed))
    assert "--force" in caught.value.hint
    Journal(path, FACTS._replace(**changed), force=True).close()


@pytest.mark.parametrize("line", ["nonsense\n", '["key", "x", true]\n', "{}\n"])
def test_a_damaged_line_is_named(tmp_path, line):
    path = tmp_path / "journal"
    Journal(str(path), FACTS).close()
    path.write_text(path.read_text() + line)
    with pytest.raises(FormatError, match="line 2 is not"):
        Journal(str(path), FACTS)


@pytest.mark.torch
def test_an_interrupted_evaluation_goes_on_and_finds_the_same(tmp_path):
    pytest.importorskip("torch")
    from merino_edge.pipeline.evaluation.run import Settings, evaluate
    from merino_edge.pipeline.evaluation.scored_model import open_model

    data = write_data(tmp_path / "data")
    settings = Settings(["ptb", "wikitext2"], data, text_context=16)
    model = open_model(write_checkpoint(tmp_path / "checkpoint"), threads=1)
    whole, _ = evaluate(settings, model)
    path = str(tmp_path / "journal")

    def stop_after_five(moment):
        if moment.done == 5:
            raise KeyboardInterrupt

    journal = Journal(path, model.facts)
    with pytest.raises(StoppedError, match=r"stopped at task 'ptb'; 5 scores are kept") as caught:
        evaluate(settings, model, journal, stop_after_five)
    assert caught.value.hint == "the same command goes on."
    journal.close()

    journal = Journal(path, model.facts)
    resumed, _ = evaluate(settings, model, journal)
    journal.close()
    # the other text says the same in places: a window is known by its tokens, wherever it stands
    assert [task.n_from_journal for task in resumed.tasks] == [5, 3]
    for one, other in zip(whole.tasks, resumed.tasks, strict=True):
        for name, metric in one.metrics.items():
            assert other.metrics[name].value == pytest.approx(metric.value, rel=1e-6)
