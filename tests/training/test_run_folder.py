"""What an earlier version wrote is still the same run."""

import json

import pytest

from merino_edge.errors import UsageError
from merino_edge.training.config import TrainConfig

pytestmark = pytest.mark.torch
EARLIER_FIELDS = {
    "n_steps", "batch_size", "seq_len", "learning_rate", "min_lr_ratio", "warmup_steps",
    "weight_decay", "beta1", "beta2", "grad_clip", "eval_every", "eval_tokens", "val_fraction",
    "precision", "seed", "vocab_size",
}  # fmt: skip


def identity(architecture, teacher="", **settings):
    from merino_edge.training.run_folder import RunIdentity

    config = TrainConfig(n_steps=10, seq_len=32, **settings).bound_fields()
    return RunIdentity(architecture, config, "c" * 64, "bpe", teacher)


def test_a_run_without_new_things_is_written_as_before_they_came(architecture):
    from merino_edge.formats import jsonio

    found = jsonio.encode(identity(architecture))
    assert set(found) == {"architecture", "config", "corpus_sha256", "tokenizer"}
    assert set(found["config"]) == EARLIER_FIELDS
    free = identity(architecture, device="cpu", compile=True, shard=True, threads=3, save_every=7)
    assert free.run_id == identity(architecture).run_id


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"accumulate": 2}, "accumulate is 2 now, .* was started with None"),
        ({"precision": "bfloat16"}, "precision is 'bfloat16' now, .* started with 'float32'"),
        ({"teacher": "t" * 64}, "teacher is 'ttt.*' now, .* was started with None"),
    ],
    ids=["accumulate", "precision", "teacher"],
)
def test_what_differs_is_named_also_where_only_one_side_has_it(
    tmp_path, architecture, change, words
):
    from merino_edge.training.run_folder import RunFolder

    path = str(tmp_path / "out.run")
    folder = RunFolder.begin(path, identity(architecture), resume=True, force=False)
    folder.commit(1, 0.0, None, {}, {})
    with pytest.raises(UsageError, match=words):
        RunFolder.begin(path, identity(architecture, **change), resume=True, force=False)


def test_a_state_from_before_float16_opens(tmp_path, architecture):
    from merino_edge.training.run_folder import RunFolder

    folder = RunFolder.begin(str(tmp_path / "run"), identity(architecture), True, False)
    state = folder.commit(3, 1.5, None, {}, {})
    file = tmp_path / "run" / "state.json"
    document = json.loads(file.read_text())
    del document["scaling"]
    file.write_text(json.dumps(document))
    assert folder.state() == state
