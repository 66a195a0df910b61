"""Tokens that were made before train the same model as the texts they were made of."""

import pytest

from merino_edge.errors import FormatError, SpecError, StoppedError, UsageError
from merino_edge.training.config import TrainConfig

pytestmark = pytest.mark.torch


@pytest.fixture
def tokens(tmp_path, texts, architecture, settings):
    """A folder of shards with its tokenizer, as `merino-edge tokenize` leaves it."""
    return make_tokens(tmp_path / "tokens", texts, architecture)


def make_tokens(path, texts, architecture, val_fraction=0.05):
    from merino_edge.training import tokenizer as tok
    from merino_edge.training.corpus import read_documents, summarise
    from merino_edge.training.shards import sha256_of_text, split_document, write_tokens

    paths = [str(texts)]
    sides = (split_document(document, val_fraction)[0] for document in read_documents(paths))
    text = tok.train_bpe(sides, architecture.vocab_size)
    checksums = (summarise(paths).sha256, sha256_of_text(text))
    parsed = tok.parse_tokenizer(text, "")
    write_tokens(str(path), read_documents(paths), parsed, 0, val_fraction, checksums)
    (path / "tokenizer.json").write_text(text, encoding="utf-8")
    return path


def train_on(tokens, architecture, output, settings, **options):
    from merino_edge.training.trainer import Extras, train

    config = TrainConfig(**settings)
    extras = Extras(data=str(tokens))
    return train(architecture, [], config, str(output), extras=extras, **options)


def test_tokens_give_the_weights_that_their_texts_give(
    tmp_path, tokens, texts, architecture, settings
):
    import numpy as np

    from merino_edge.training.trainer import train

    of_tokens = train_on(tokens, architecture, tmp_path / "a", settings)
    of_texts = train(architecture, [str(texts)], TrainConfig(**settings), str(tmp_path / "b"))
    first, second = of_tokens.tensors(), of_texts.tensors()
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert of_tokens.info.metrics == of_texts.info.metrics
    assert of_tokens.info.provenance["corpus_sha256"] == of_texts.info.provenance["corpus_sha256"]
    assert sorted(p.name for p in (tmp_path / "a.run").iterdir()) == ["metrics.jsonl", "run.json"]


def test_a_resumed_run_with_other_tokens_is_refused(tmp_path, tokens, architecture, settings):
    import signal

    def stop(progress):
        if progress.phase == "train" and progress.step == 6:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(StoppedError):
        train_on(tokens, architecture, tmp_path / "out", settings, on_progress=stop)
    (tmp_path / "other").mkdir()
    lines = [f"another text, {i * i} and {i * 7919} of it\n" for i in range(300)]
    (tmp_path / "other" / "a.txt").write_text("".join(lines))
    small = architecture.replace(vocab_size=270)
    other = make_tokens(tmp_path / "other_tokens", tmp_path / "other", small)
    with pytest.raises(UsageError, match=r"vocab_size is 270 now"):
        train_on(other, small, tmp_path / "out", settings)
    renamed = tmp_path / "moved"
    tokens.rename(renamed)
    train_on(renamed, architecture, tmp_path / "out", settings)  # the same ids, elsewhere


def test_the_tokenizer_must_be_the_one_that_made_the_ids(tmp_path, tokens, architecture, settings):
    file = tokens / "tokenizer.json"
    file.write_text(file.read_text() + "\n", encoding="utf-8")
    with pytest.raises(FormatError, match="not the tokenizer that made these tokens"):
        train_on(tokens, architecture, tmp_path / "out", settings)


def test_another_vocabulary_than_the_architectures_is_refused(
    tmp_path, tokens, architecture, settings
):
    with pytest.raises(SpecError, match="the tokenizer has 320 tokens, the architecture 300 rows"):
        train_on(tokens, architecture.replace(vocab_size=300), tmp_path / "out", settings)


def test_a_shard_that_lost_bytes_is_refused(tmp_path, tokens, architecture, settings):
    shard = next(tokens.glob("train-*.bin"))
    shard.write_bytes(shard.read_bytes()[:-2])
    with pytest.raises(FormatError, match=r"train-0000\.bin: \d+ bytes, expected \d+"):
        train_on(tokens, architecture, tmp_path / "out", settings)


def test_a_folder_without_tokens_is_refused(tmp_path, architecture, settings):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FormatError, match="no tokens in the folder") as caught:
        train_on(tmp_path / "empty", architecture, tmp_path / "out", settings)
    assert "merino-edge tokenize" in caught.value.hint


def test_texts_or_tokens_and_not_both(tmp_path, tokens, texts, architecture, settings):
    from merino_edge.training.trainer import Extras, train

    config = TrainConfig(**settings)
    with pytest.raises(UsageError, match="one of the two"):
        train(architecture, [str(texts)], config, "out", extras=Extras(data=str(tokens)))
    with pytest.raises(UsageError, match="one of the two"):
        train(architecture, [], config, "out")
