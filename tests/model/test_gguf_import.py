"""A GGUF becomes the same decoder, or is refused with one sentence and no trace on the disk."""

import os
import struct
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

gguf = pytest.importorskip("gguf")

from tiny_gguf import CONTEXT, VOCAB, tiny_weights, twin_logits, write_gguf  # noqa: E402

from merino_edge.errors import (  # noqa: E402
    FormatError,
    MerinoError,
    UnsupportedError,
    UsageError,
)
from merino_edge.model.checkpoint import load_checkpoint  # noqa: E402
from merino_edge.model.importers.gguf_file import open_gguf  # noqa: E402
from merino_edge.model.importers.gguf_llama import (  # noqa: E402
    architecture_from_gguf,
    check_tensors,
)
from merino_edge.model.importers.gguf_tokenizer import tokenizer_from_gguf  # noqa: E402
from merino_edge.model.importers.models import import_model  # noqa: E402

IDS = [5, 17, 3, 270, 9, 44, 101, 2, 2, 63, 7, 250]


def logits_of(checkpoint):
    import torch

    from merino_edge.model.transformer import MerinoLM

    model = MerinoLM(checkpoint.architecture)
    model.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in checkpoint.tensors().items()})
    with torch.no_grad():
        return model(torch.tensor([IDS]))[0].numpy()


def assert_refused(error, path, folder, *words):
    """The import ends in ``error``, names every word, and leaves nothing behind."""
    before = sorted(os.listdir(folder))
    with pytest.raises(error) as caught:
        import_model(path, str(folder / "out"))
    for word in words:
        assert word in str(caught.value)
    assert sorted(os.listdir(folder)) == before


@pytest.mark.torch
@pytest.mark.parametrize("storage", ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1"])
def test_imported_model_gives_the_logits_of_the_file(tmp_path, storage):
    path = write_gguf(tmp_path, storage=storage)
    report = import_model(path, str(tmp_path / "out"))
    # The twin computes in float64; float32 over two layers of width 64 loses a few 1e-6.
    np.testing.assert_allclose(
        logits_of(report.checkpoint), twin_logits(path, IDS), rtol=0, atol=1e-4
    )
    assert storage in report.storage


@pytest.mark.torch
def test_a_head_of_its_own_is_kept(tmp_path):
    path = write_gguf(tmp_path, tiny_weights(tied=False))
    checkpoint = import_model(path, str(tmp_path / "out")).checkpoint
    assert not checkpoint.architecture.tie_embeddings
    np.testing.assert_allclose(logits_of(checkpoint), twin_logits(path, IDS), rtol=0, atol=1e-4)


def test_the_checkpoint_describes_the_model(tmp_path):
    report = import_model(write_gguf(tmp_path, storage="Q8_0"), str(tmp_path / "out"))
    info = load_checkpoint(str(tmp_path / "out")).info
    a = info.architecture
    assert (a.n_layers, a.vocab_size, a.max_seq_len) == (2, VOCAB, CONTEXT)
    assert {block.depth for block in a.blocks} == {1}
    assert a.norm_eps == 1e-5  # not the float32's 9.999999747378752e-06
    assert info.generation.eos_token_ids == [0]
    assert info.generation.bos_token_id is None
    assert info.chat.roles["user"].prefix == "<user>"
    assert info.provenance["source"] == "tiny.gguf"
    assert report.storage == {"Q8_0": 15, "F32": 5}


def test_without_a_template_the_reason_is_given(tmp_path):
    report = import_model(write_gguf(tmp_path, template=None), str(tmp_path / "out"))
    assert report.chat.format is None
    assert "no chat template" in report.chat.reason


def test_progress_names_each_tensor(tmp_path):
    said = []
    import_model(write_gguf(tmp_path), str(tmp_path / "out"), on_progress=said.append)
    assert any("dequantising 20/20" in text for text in said)


def test_import_needs_no_torch(tmp_path):
    path = write_gguf(tmp_path, template=None)
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from merino_edge.model.importers.models import import_model\n"
        f"import_model({path!r}, {str(tmp_path / 'out')!r})"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    load_checkpoint(str(tmp_path / "out"))


def test_our_index_equals_the_packages_own_reader(tmp_path):
    path = write_gguf(tmp_path, storage="Q4_0", general__languages=["en", "de"])
    ours, theirs = open_gguf(path), gguf.GGUFReader(path)
    for tensor in theirs.tensors:
        mine = ours.tensors[tensor.name]
        assert (mine.offset, mine.n_bytes) == (tensor.data_offset, tensor.n_bytes)
        assert mine.shape == tuple(reversed(tensor.shape.tolist()))
        assert mine.type_name == tensor.tensor_type.name
    assert len(ours.tensors) == len(theirs.tensors)
    for key, value in ours.metadata.items():
        field = theirs.fields[key].contents()
        assert (
            np.float32(value) == field if isinstance(value, float) else list_or_self(value) == field
        )


def list_or_self(value):
    return value.tolist() if isinstance(value, np.ndarray) else value


@pytest.mark.parametrize("fraction", [0.0001, 0.001, 0.01, 0.04, 0.1, 0.5, 0.99, 0.9999])
def test_a_truncated_file_says_where_it_ends(tmp_path, fraction):
    path = write_gguf(tmp_path)
    size = int(os.path.getsize(path) * fraction)
    os.truncate(path, size)
    assert_refused(FormatError, path, tmp_path, path, f"ends at byte {size}")


def test_other_files_are_not_taken_for_gguf(tmp_path):
    path = tmp_path / "x.gguf"
    assert_refused(FormatError, str(path), tmp_path, "does not exist")
    path.write_bytes(b"")
    assert_refused(FormatError, str(path), tmp_path, "empty")
    path.write_bytes(b"PK\x03\x04 a zip file")
    assert_refused(FormatError, str(path), tmp_path, "not a GGUF file", "PK")
    path.write_bytes(b"GGUF" + struct.pack("<I", 1) + bytes(64))
    assert_refused(UnsupportedError, str(path), tmp_path, "version 1")
    path.write_bytes(b"GGUF" + struct.pack(">I", 3) + bytes(64))
    assert_refused(UnsupportedError, str(path), tmp_path, "big-endian")


def test_another_family_is_named(tmp_path):
    path = write_gguf(tmp_path, arch="mamba")
    assert_refused(UnsupportedError, path, tmp_path, "'mamba'", "supported: llama")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("llama.rope.scaling.type", "linear"),
        ("llama.rope.scaling.type", "yarn"),
        ("llama.rope.scale_linear", 2.0),
        ("llama.rope.dimension_count", 8),
        ("llama.attention.key_length", 32),
        ("llama.attention.value_length", 32),
        ("llama.attention.sliding_window", 16),
        ("llama.attention.causal", False),
        ("llama.expert_count", 8),
        ("llama.logit_scale", 0.5),
        ("llama.something_new", "yes"),
    ],
)
def test_metadata_that_changes_the_arithmetic_is_refused_by_name(tmp_path, key, value):
    path = write_gguf(tmp_path, **{key.replace(".", "__"): value})
    assert_refused(UnsupportedError, path, tmp_path, key, repr(value))


def test_the_same_keys_may_say_that_nothing_is_special(tmp_path):
    neutral = {
        "llama__rope__scaling__type": "none",
        "llama__rope__dimension_count": 16,
        "llama__attention__key_length": 16,
        "llama__attention__sliding_window": 0,
        "llama__expert_count": 0,
        "llama__vocab_size": VOCAB,
    }
    import_model(write_gguf(tmp_path, **neutral), str(tmp_path / "out"))


@pytest.mark.parametrize(
    "name", ["blk.0.attn_q.bias", "rope_freqs.weight", "blk.1.ffn_gate_inp.weight"]
)
def test_a_tensor_without_a_place_is_refused_by_name(tmp_path, name):
    weights = {**tiny_weights(), name: np.ones(64, np.float32)}
    assert_refused(UnsupportedError, write_gguf(tmp_path, weights), tmp_path, f"'{name}'")


def test_a_missing_or_misshapen_tensor_is_named(tmp_path):
    weights = tiny_weights()
    key = weights.pop("blk.1.attn_k.weight")
    path = write_gguf(tmp_path, weights)
    assert_refused(FormatError, path, tmp_path, "blk.1.attn_k.weight", "no such tensor")
    weights["blk.1.attn_k.weight"] = key[:16]
    path = write_gguf(tmp_path, weights)
    assert_refused(FormatError, path, tmp_path, "blk.1.attn_k.weight", "(16, 64)", "(32, 64)")


def test_a_vocabulary_that_does_not_match_the_weights_is_refused_with_both_numbers(tmp_path):
    weights = tiny_weights()
    whole = weights["token_embd.weight"]
    weights["token_embd.weight"] = whole[:-8]
    path = write_gguf(tmp_path, weights)
    assert_refused(FormatError, path, tmp_path, str(VOCAB), str(VOCAB - 8), "tokens")
    weights["token_embd.weight"] = np.vstack((whole, whole[:8]))
    path = write_gguf(tmp_path, weights)
    assert_refused(FormatError, path, tmp_path, str(VOCAB), str(VOCAB + 8), "tokens")


def test_impossible_metadata_is_a_format_error(tmp_path):
    path = write_gguf(tmp_path, llama__block_count=4_000_000_000)
    assert_refused(FormatError, path, tmp_path, "block_count", "4000000000", "20 tensors")
    path = write_gguf(tmp_path, llama__attention__head_count=7)
    assert_refused(FormatError, path, tmp_path, "not a multiple of n_head 7")
    path = write_gguf(tmp_path, llama__embedding_length="wide")
    assert_refused(FormatError, path, tmp_path, "llama.embedding_length", "expected int", "'wide'")
    path = write_gguf(tmp_path, llama__context_length=None)
    assert_refused(FormatError, path, tmp_path, "llama.context_length", "lacks")


def test_a_weight_that_is_not_a_number_is_refused(tmp_path):
    weights = tiny_weights()
    weights["blk.0.ffn_up.weight"][3, 5] = np.nan
    assert_refused(
        FormatError, write_gguf(tmp_path, weights), tmp_path, "blk.0.ffn_up.weight", "NaN"
    )


def test_an_existing_result_is_kept_unless_forced(tmp_path):
    path, out = write_gguf(tmp_path), str(tmp_path / "out")
    import_model(path, out)
    with pytest.raises(UsageError, match="exists already"):
        import_model(path, out)
    import_model(write_gguf(tmp_path, tiny_weights(seed=1)), out, force=True)
    stored = load_checkpoint(out).tensors()["embed.weight"]
    assert np.array_equal(stored, tiny_weights(seed=1)["token_embd.weight"])


def test_an_interrupted_import_leaves_nothing(tmp_path):
    def stop_while_writing(text):
        if text == "writing":
            raise KeyboardInterrupt

    path = write_gguf(tmp_path)
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        import_model(path, str(tmp_path / "out"), on_progress=stop_while_writing)
    assert sorted(os.listdir(tmp_path)) == before


def test_a_length_that_the_file_cannot_hold_ends_at_once(tmp_path):
    path = write_gguf(tmp_path, general__bytes=list(b"12345678"))
    with open(path, "rb") as stream:
        data = bytearray(stream.read())
    at = data.index(b"general.bytes") + len(b"general.bytes") + 8  # behind both types: the count
    data[at + 5] = 1  # 8 becomes 8 + 2**40
    with open(path, "wb") as stream:
        stream.write(data)
    assert_refused(FormatError, path, tmp_path, "general.bytes", "items")


@pytest.fixture(scope="module")
def whole_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("damage")
    with open(write_gguf(folder), "rb") as stream:
        return folder, stream.read()


@settings(
    max_examples=150, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_damage_before_the_weights_is_an_error_of_ours_or_harmless(whole_file, data):
    folder, good = whole_file
    first = min(t.offset for t in open_gguf(str(folder / "tiny.gguf")).tensors.values())
    damaged = bytearray(good)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, first - 1))] = data.draw(st.integers(0, 255))
    path = folder / "damaged.gguf"
    path.write_bytes(damaged)
    refusal = refusal_of(str(path))
    assert refusal is None or str(path) in refusal


def refusal_of(path):
    """The words of our error, or None where all is well; any other exception escapes."""
    try:
        file = open_gguf(path)
        a = architecture_from_gguf(file)
        check_tensors(file, a)
        tokenizer_from_gguf(file, a.vocab_size)
    except MerinoError as error:
        return str(error)
    return None
