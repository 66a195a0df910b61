"""A teacher must speak the student's vocabulary, and belongs to what a run is."""

import json

import pytest

from merino_edge.errors import SpecError, StoppedError, UsageError
from merino_edge.training.config import TrainConfig

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def teacher(tmp_path_factory, texts, architecture):
    """A checkpoint of a few steps."""
    from merino_edge.training.trainer import train

    config = TrainConfig(n_steps=4, batch_size=4, seq_len=32, warmup_steps=1, threads=1)
    path = str(tmp_path_factory.mktemp("teacher") / "checkpoint")
    train(architecture, [str(texts)], config, path)
    return path


def learn(teacher, texts, architecture, output, settings, **options):
    from merino_edge.training.trainer import Extras, train

    return train(
        architecture,
        [str(texts)],
        TrainConfig(**settings),
        str(output),
        extras=Extras(teacher=teacher),
        **options,
    )


def test_a_student_takes_the_teachers_tokenizer_and_names_it(
    tmp_path, teacher, texts, architecture, settings
):
    from merino_edge.model.checkpoint import load_checkpoint
    from merino_edge.training.teacher import Teacher

    checkpoint = learn(teacher, texts, architecture, tmp_path / "out", settings)
    with (
        open(load_checkpoint(teacher).tokenizer_path) as theirs,
        open(checkpoint.tokenizer_path) as ours,
    ):
        assert ours.read() == theirs.read()
    assert checkpoint.info.provenance["teacher_sha256"] == Teacher(teacher).sha256


@pytest.mark.parametrize(
    "change", [{"distill_weight": 0.3}, {"distill_temperature": 4.0}], ids=lambda c: next(iter(c))
)
def test_a_resumed_run_with_another_teacher_or_weight_is_refused(
    tmp_path, teacher, texts, architecture, settings, change
):
    import signal

    def stop(progress):
        if progress.phase == "train" and progress.step == 6:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(StoppedError):
        learn(teacher, texts, architecture, tmp_path / "out", settings, on_progress=stop)
    (name,) = change
    with pytest.raises(UsageError, match=f"{name} is .* now, .* was started with"):
        learn(teacher, texts, architecture, tmp_path / "out", {**settings, **change})
    from merino_edge.training.trainer import train

    tokenizer = teacher + "/tokenizer.json"
    with pytest.raises(UsageError, match="teacher is None now"):
        train(architecture, [str(texts)], TrainConfig(**settings), str(tmp_path / "out"), tokenizer)


def test_another_tokenizer_is_refused(tmp_path, teacher, texts, architecture, settings):
    from merino_edge.model.checkpoint import read_text
    from merino_edge.training.teacher import Teacher

    text = read_text(teacher + "/tokenizer.json")
    document = json.loads(text)
    vocabulary = document["model"]["vocab"]
    first, second = [word for word, index in vocabulary.items() if index in (310, 311)]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    config = TrainConfig(**settings)
    found = Teacher(teacher)
    with pytest.raises(SpecError, match="has another tokenizer than the student") as raised:
        found.check_against(json.dumps(document), architecture.vocab_size, config)
    assert "--tokenizer" in raised.value.hint
    spaced = json.dumps(json.loads(text), indent=1)  # other bytes, the same vocabulary
    found.check_against(spaced, architecture.vocab_size, config)


def test_windows_longer_than_the_teacher_are_refused(teacher, settings):
    from merino_edge.model.checkpoint import read_text
    from merino_edge.training.teacher import Teacher

    text = read_text(teacher + "/tokenizer.json")
    config = TrainConfig(**{**settings, "seq_len": 65})
    with pytest.raises(SpecError, match="seq_len is 65, the teacher's max_seq_len is 64"):
        Teacher(teacher).check_against(text, 320, config)
    with pytest.raises(SpecError, match="the teacher has 320 rows, the student 400"):
        Teacher(teacher).check_against(text, 400, TrainConfig(**settings))


def test_rows_that_pad_the_teachers_vocabulary_are_left_out(tmp_path, teacher, settings):
    import numpy as np
    import torch

    from merino_edge.model.checkpoint import load_checkpoint, read_text, save_checkpoint
    from merino_edge.training.teacher import Teacher

    opened = load_checkpoint(teacher)
    text = read_text(opened.tokenizer_path)
    tensors = dict(opened.tensors())
    tensors["embed.weight"] = np.pad(tensors["embed.weight"], ((0, 64), (0, 0)))
    info = opened.info._replace(architecture=opened.architecture.replace(vocab_size=384))
    save_checkpoint(str(tmp_path / "padded"), info, tensors, text)
    ids = torch.arange(20)[None]
    logits = []
    for path in (teacher, str(tmp_path / "padded")):
        found = Teacher(path)
        found.check_against(text, 320, TrainConfig(**settings))
        logits.append(found.to(torch.device("cpu"))(ids))
    assert logits[1].shape == (1, 20, 320)
    assert torch.allclose(*logits, atol=1e-6)
