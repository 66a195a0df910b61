"""Settings check themselves, and follow from the architecture where nobody says otherwise."""

import pytest

from merino_edge.errors import SpecError
from merino_edge.training.config import TrainConfig, learning_rate_for


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n_steps", 0), ("batch_size", 0), ("seq_len", 0), ("learning_rate", 0.0),
        ("learning_rate", float("nan")), ("min_lr_ratio", 1.5), ("warmup_steps", -1),
        ("weight_decay", -0.1), ("beta2", 1.0), ("grad_clip", 0.0), ("eval_every", 0),
        ("save_every", 0), ("val_fraction", 0.0), ("precision", "float8"), ("threads", 0),
        ("vocab_size", 0), ("seed", -1), ("accumulate", 0), ("device", "tpu"),
        ("distill_weight", 1.1), ("distill_temperature", 0.0),
    ],
)  # fmt: skip
def test_a_bad_value_is_refused_by_its_name(field, value):
    with pytest.raises(SpecError, match=field):
        TrainConfig(**{"n_steps": 10, field: value})


def test_windows_longer_than_the_model_are_refused(architecture):
    with pytest.raises(SpecError, match="seq_len is 65: the architecture's max_seq_len is 64"):
        TrainConfig(n_steps=1, seq_len=65).check_against(architecture)


def test_another_vocabulary_is_refused_with_both_numbers(architecture):
    with pytest.raises(SpecError, match="vocab_size is 512: the architecture has 320 rows"):
        TrainConfig(n_steps=1, seq_len=8, vocab_size=512).check_against(architecture)


def test_settings_for_a_model_fit_it_and_give_way_to_what_is_said(architecture):
    config = TrainConfig.for_model(architecture, n_steps=50, learning_rate=1e-4)
    config.check_against(architecture)
    assert (config.seq_len, config.learning_rate) == (64, 1e-4)
    assert config.warmup_steps < config.n_steps


def test_wider_models_learn_more_slowly():
    assert learning_rate_for(128) > learning_rate_for(512) == 2 * learning_rate_for(1024)


def test_a_batch_for_a_model_holds_about_1024_tokens_and_its_windows_reach_the_last_position(
    architecture,
):
    short = TrainConfig.for_model(architecture)
    long = TrainConfig.for_model(architecture.replace(max_seq_len=4096))
    assert (short.seq_len, short.batch_size) == (64, 16)
    assert (long.seq_len, long.batch_size) == (1024, 4)
