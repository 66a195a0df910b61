"""Shapes of public models: parameters as published, and checkpoints for measuring speed."""

import json

import numpy as np
import pytest
from doubles import write_tokenizer
from tiny_hf import FAMILIES, transformers_library

from merino_edge.core.counting import n_params
from merino_edge.errors import FormatError, UsageError
from merino_edge.model.checkpoint import load_checkpoint
from merino_edge.model.importers.hf_config import Config
from merino_edge.model.importers.hf_opt import UNUSED_POSITIONS
from merino_edge.model.importers.huggingface import architecture_from_config
from merino_edge.model.importers.models import import_model
from merino_edge.model.importers.presets import PRESETS
from merino_edge.model.importers.random_weights import byte_tokenizer

# What the models' cards and papers say, and transformers counts.
PUBLISHED = {
    "opt-125m": 125_239_296,
    "opt-350m": 331_196_416,
    "pythia-70m": 70_426_624,
    "pythia-160m": 162_322_944,
    "cerebras-gpt-111m": 111_050_496,
    "gpt2": 124_439_808,
    "smollm2-135m": 134_515_008,
}


def preset(name):
    return architecture_from_config(Config(PRESETS[name], name))


@pytest.mark.parametrize("name", PRESETS)
def test_parameters_are_those_published_but_for_opts_unused_positions(name):
    family, a = preset(name)
    unused = UNUSED_POSITIONS * a.blocks[0].d_model if family.name == "opt" else 0
    assert n_params(a) + unused == PUBLISHED[name]


@pytest.mark.torch
@pytest.mark.parametrize("name", PRESETS)
def test_transformers_counts_the_same_and_has_the_same_tensors(name):
    """Without memory: transformers builds the model on torch's "meta" device."""
    transformers = transformers_library()
    import torch

    fields = {key: value for key, value in PRESETS[name].items() if key != "model_type"}
    config = transformers.AutoConfig.for_model(PRESETS[name]["model_type"], **fields)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    assert sum(p.numel() for p in model.parameters()) == PUBLISHED[name]
    family, a = preset(name)
    theirs = {key: tuple(p.shape) for key, p in model.named_parameters()}
    if family.name == "gpt_neox":  # in memory newer versions call it so, in files not
        theirs["embed_out.weight"] = theirs.pop("lm_head.weight")
    assert {p.name: p.shape for parts in family.plan(a).values() for p in parts} == theirs


def write_config(folder, name):
    kind, fields = FAMILIES[name]
    path = folder / "config.json"
    path.write_text(json.dumps({"model_type": kind, **fields}))
    return str(path)


@pytest.mark.torch
@pytest.mark.parametrize("name", FAMILIES)
def test_a_configuration_is_enough_for_a_checkpoint(tmp_path, name):
    path = write_config(tmp_path, name)
    import_model(path, str(tmp_path / "out"), random_seed=3)
    info = load_checkpoint(str(tmp_path / "out")).info
    assert info.provenance["weights"] == "random, seed 3: for speed, not for text"


@pytest.mark.torch
def test_the_same_seed_gives_the_same_weights_and_another_gives_others(tmp_path):
    path = write_config(tmp_path, "opt-350m")
    first, again, other = (
        import_model(path, str(tmp_path / f"out{i}"), random_seed=seed).checkpoint.tensors()
        for i, seed in enumerate((1, 1, 2))
    )
    for name, tensor in first.items():
        np.testing.assert_array_equal(tensor, again[name])
    assert not np.array_equal(first["blocks.0.ffn.up.weight"], other["blocks.0.ffn.up.weight"])


@pytest.mark.torch
def test_a_given_tokenizer_and_then_the_folders_own_come_before_the_stand_in(tmp_path):
    config = write_config(tmp_path, "gpt2")
    write_tokenizer(tmp_path / "small.json", 270)

    def stored(path, out, **options):
        report = import_model(str(path), str(tmp_path / out), random_seed=0, **options)
        with open(report.checkpoint.tokenizer_path, encoding="utf-8") as stream:
            return stream.read()

    assert stored(config, "a") == byte_tokenizer()
    given = stored(config, "b", tokenizer=str(tmp_path / "small.json"))
    write_tokenizer(tmp_path / "tokenizer.json", 280)
    own = stored(tmp_path, "c")
    assert len({byte_tokenizer(), given, own}) == 3
    assert len(json.loads(given)["model"]["vocab"]) == 270


def test_the_stand_in_has_a_token_for_every_byte_and_loses_no_text(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer.from_str(byte_tokenizer())
    text = "Grüße aus Genève, 羊は丘で眠る。🐑\n"
    assert tokenizer.encode(text).ids == list(text.encode("utf-8"))
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_a_name_that_is_nothing_is_told_the_presets(tmp_path):
    with pytest.raises(UsageError, match="presets: opt-125m, opt-350m"):
        import_model("opt-1b", str(tmp_path / "out"), random_seed=0)


def test_a_shape_without_random_weights_is_told_the_option(tmp_path):
    with pytest.raises(UsageError, match="import gpt2 --random-weights"):
        import_model("gpt2", str(tmp_path / "out"))
    path = write_config(tmp_path, "gpt2")
    with pytest.raises(UsageError, match="--random-weights"):
        import_model(path, str(tmp_path / "out"))
    with pytest.raises(FormatError, match="does not exist"):
        import_model("no-such-model", str(tmp_path / "out"))


def test_a_tokenizer_that_is_not_there_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="--tokenizer: there is no file 'nowhere'"):
        import_model("gpt2", str(tmp_path / "out"), random_seed=0, tokenizer="nowhere")


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.parametrize("name", ["pythia-70m", "opt-350m"])
def test_a_whole_preset_becomes_a_checkpoint(tmp_path, name):
    report = import_model(name, str(tmp_path / "out"), random_seed=0)
    stored = load_checkpoint(str(tmp_path / "out"))
    assert sum(t.size for t in stored.tensors().values()) == n_params(
        report.checkpoint.architecture
    )
