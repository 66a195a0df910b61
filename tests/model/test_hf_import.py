"""A Hugging Face folder becomes the same decoder: logits and greedy tokens of transformers."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from tiny_hf import (
    FAMILIES,
    TEMPLATE,
    VOCAB,
    random_model,
    save_hf_folder,
    transformers_library,
)

from merino_edge.model.checkpoint import load_checkpoint
from merino_edge.model.importers.models import import_model

pytestmark = pytest.mark.torch
IDS = [5, 17, 3, 270, 9, 44, 101, 2, 2, 63, 7, 250, 1, 0, 279, 33]
N_GREEDY = 20


@pytest.fixture(scope="module", autouse=True)
def transformers():
    return transformers_library()


def logits_of(checkpoint, ids):
    import torch

    from merino_edge.model.transformer import load_model

    with torch.no_grad():
        return load_model(checkpoint.architecture, checkpoint.tensors())(torch.tensor([ids]))[0]


def greedy_of(checkpoint, ids):
    from merino_edge.model.reference import greedy_tokens
    from merino_edge.model.transformer import load_model

    model = load_model(checkpoint.architecture, checkpoint.tensors())
    return greedy_tokens(model, ids, N_GREEDY)


def their_logits(model, ids):
    import torch

    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0]


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_and_greedy_tokens_equal_those_of_transformers(tmp_path, name):
    model = random_model(name)
    report = import_model(save_hf_folder(tmp_path / "hf", model), str(tmp_path / "out"))
    checkpoint = load_checkpoint(str(tmp_path / "out"))

    theirs, ours = their_logits(model, IDS), logits_of(checkpoint, IDS)
    # Both in float32, in another order of sums; the logits spread over several units.
    assert theirs.std() > 0.5
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)
    # Greedy tokens are equal if each of ours is the one that transformers would add there.
    added = greedy_of(checkpoint, IDS[:4])
    chosen = their_logits(model, IDS[:4] + added)[3:-1].argmax(-1)
    assert added == chosen.tolist()
    assert report.family == FAMILIES[name][0]


def test_what_is_stored_in_half_precision_becomes_float32_value_for_value(tmp_path):
    import torch

    for storage in (torch.float16, torch.bfloat16):
        model = random_model("smollm2").to(storage)
        folder = save_hf_folder(tmp_path / f"hf-{storage}", model)
        report = import_model(folder, str(tmp_path / f"out-{storage}"))
        np.testing.assert_array_equal(
            report.checkpoint.tensors()["embed.weight"],
            model.get_input_embeddings().weight.detach().float().numpy(),
        )
        assert set(report.storage) == {"F16" if storage is torch.float16 else "BF16"}


def test_shards_are_put_together(tmp_path):
    model = random_model("pythia")
    folder = save_hf_folder(tmp_path / "hf", model, max_shard_size="100KB")
    shards = [name for name in os.listdir(folder) if name.endswith(".safetensors")]
    assert len(shards) > 2
    report = import_model(folder, str(tmp_path / "out"))
    np.testing.assert_allclose(
        logits_of(report.checkpoint, IDS), their_logits(model, IDS), rtol=0, atol=1e-4
    )
    assert {f"sha256 of {name}" for name in shards} <= set(report.checkpoint.info.provenance)


def rewrite(folder, change):
    """Read all tensors, change the dictionary, write them again."""
    from safetensors.torch import load_file, save_file

    path = os.path.join(folder, "model.safetensors")
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


@pytest.mark.parametrize(
    ("name", "base"),
    [("gpt2", "transformer."), ("opt-350m", "model."), ("pythia", "gpt_neox.")],
)
def test_names_may_lack_their_common_beginning_as_on_the_web(tmp_path, name, base):
    model = random_model(name)
    folder = save_hf_folder(tmp_path / "hf", model)

    def strip(tensors):
        for key in list(tensors):
            tensors[key.removeprefix(base)] = tensors.pop(key)

    rewrite(folder, strip)
    checkpoint = import_model(folder, str(tmp_path / "out")).checkpoint
    np.testing.assert_allclose(
        logits_of(checkpoint, IDS), their_logits(model, IDS), rtol=0, atol=1e-4
    )


@pytest.mark.parametrize("name", ["gpt2", "pythia", "smollm2"])
def test_masks_and_frequencies_that_older_files_store_are_passed_over(tmp_path, name):
    import torch

    folder = save_hf_folder(tmp_path / "hf", random_model(name))
    mask = torch.ones(1, 1, 8, 8, dtype=torch.bool)
    stored = {
        "gpt2": {"h.0.attn.bias": mask, "transformer.h.1.attn.masked_bias": torch.tensor(-1e4)},
        "pythia": {
            "gpt_neox.layers.0.attention.bias": mask,
            "gpt_neox.layers.0.attention.masked_bias": torch.tensor(-1e9),
            "gpt_neox.layers.0.attention.rotary_emb.inv_freq": torch.ones(2),
        },
        "smollm2": {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)},
    }[name]
    rewrite(folder, lambda tensors: tensors.update(stored))
    import_model(folder, str(tmp_path / "out"))


def test_a_tied_head_may_be_stored_twice_if_it_is_the_same(tmp_path):
    folder = save_hf_folder(tmp_path / "hf", random_model("gpt2"))
    rewrite(folder, lambda t: t.update({"lm_head.weight": t["transformer.wte.weight"].clone()}))
    assert import_model(folder, str(tmp_path / "out")).checkpoint.architecture.tie_embeddings


def test_opts_unused_positions_are_left_out_and_said(tmp_path):
    folder = save_hf_folder(tmp_path / "hf", random_model("opt-125m"))
    report = import_model(folder, str(tmp_path / "out"))
    assert report.checkpoint.tensors()["pos_embed.weight"].shape == (64, 48)
    assert "96 parameters fewer than published" in report.notes[0]


def write_json(folder, name, document):
    with open(os.path.join(folder, name), "w", encoding="utf-8") as stream:
        json.dump(document, stream)


def test_defaults_and_chat_format_come_along(tmp_path):
    folder = save_hf_folder(tmp_path / "hf", random_model("smollm2"))
    write_json(
        folder,
        "generation_config.json",
        {"eos_token_id": [2, 7], "bos_token_id": 1, "do_sample": True, "temperature": 0.6},
    )
    write_json(
        folder,
        "tokenizer_config.json",
        {"chat_template": TEMPLATE, "bos_token": {"content": "<|end|>"}, "add_bos_token": True},
    )
    info = import_model(folder, str(tmp_path / "out")).checkpoint.info
    assert info.generation.eos_token_ids == [2, 7]
    assert (info.generation.bos_token_id, info.generation.temperature) == (1, 0.6)
    assert info.chat.roles["user"].prefix == "<user>"


def test_a_template_in_a_file_of_its_own_is_found(tmp_path):
    folder = save_hf_folder(tmp_path / "hf", random_model("smollm2"))
    with open(os.path.join(folder, "chat_template.jinja"), "w", encoding="utf-8") as stream:
        stream.write(TEMPLATE)
    info = import_model(folder, str(tmp_path / "out")).checkpoint.info
    assert info.chat.generation_prefix == "<assistant>"
    assert info.generation.bos_token_id is None  # nobody says that the tokenizer adds it


def test_a_tokenizer_may_be_given_and_have_fewer_tokens_than_the_embedding_rows(tmp_path):
    from doubles import write_tokenizer

    folder = save_hf_folder(tmp_path / "hf", random_model("gpt2", vocab_size=300), tokenizer=False)
    write_tokenizer(tmp_path / "t.json", VOCAB)
    report = import_model(folder, str(tmp_path / "out"), tokenizer=str(tmp_path / "t.json"))
    assert report.checkpoint.architecture.vocab_size == 300


def test_import_needs_no_torch_and_no_transformers(tmp_path):
    folder = save_hf_folder(tmp_path / "hf", random_model("opt-350m"))
    code = (
        "import sys; sys.modules['torch'] = sys.modules['transformers'] = None\n"
        "from merino_edge.model.importers.models import import_model\n"
        f"import_model({folder!r}, {str(tmp_path / 'out')!r})"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    load_checkpoint(str(tmp_path / "out"))
