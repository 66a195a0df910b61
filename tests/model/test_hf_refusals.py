"""A Hugging Face folder that is damaged, foreign or special ends in one sentence, and no folder."""

import json
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_hf import copy_folder, random_model, save_hf_folder, transformers_library

from merino_edge.errors import FormatError, MerinoError, UnsupportedError, UsageError
from merino_edge.formats.weights import read_index, write_weights
from merino_edge.model.checkpoint import map_tensors
from merino_edge.model.importers.models import import_model
from merino_edge.model.importers.safetensors_folder import open_safetensors_folder

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """Family -> a good folder."""
    transformers_library()
    root = tmp_path_factory.mktemp("originals")
    names = {"llama": "smollm2", "opt": "opt-350m", "gpt2": "gpt2", "gpt_neox": "pythia"}
    return {k: save_hf_folder(root / k, random_model(name)) for k, name in names.items()}


@pytest.fixture
def folder(originals, tmp_path):
    """Gives a copy of a family's folder, to be damaged."""
    return lambda family="llama": copy_folder(originals[family], tmp_path / "hf")


def assert_refused(error, path, *words):
    """The import ends in ``error``, names every word, and leaves nothing behind."""
    parent = os.path.dirname(path)
    before = sorted(os.listdir(parent))
    with pytest.raises(error) as caught:
        import_model(path, os.path.join(parent, "out"))
    for word in words:
        assert word in str(caught.value)
    assert sorted(os.listdir(parent)) == before


def set_config(path, **changes):
    file = os.path.join(path, "config.json")
    with open(file, encoding="utf-8") as stream:
        document = json.load(stream)
    document.update(changes)
    with open(file, "w", encoding="utf-8") as stream:
        json.dump(document, stream)


def set_tensors(path, change):
    file = os.path.join(path, "model.safetensors")
    tensors = {name: np.array(array) for name, array in map_tensors(file).items()}
    change(tensors)
    write_weights(file, [(n, "F32", t.shape, t.tobytes()) for n, t in tensors.items()])


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json"])
def test_a_missing_file_is_named(folder, file):
    path = folder()
    os.remove(os.path.join(path, file))
    assert_refused(FormatError, path, file)


def test_a_missing_tokenizer_says_how_to_make_or_give_one(folder):
    path = folder()
    os.remove(os.path.join(path, "tokenizer.json"))
    assert_refused(FormatError, path, "--tokenizer FILE", "AutoTokenizer")


def test_pickled_weights_are_not_opened_and_the_command_that_converts_them_is_given(folder):
    path = folder()
    os.rename(os.path.join(path, "model.safetensors"), os.path.join(path, "pytorch_model.bin"))
    assert_refused(UnsupportedError, path, "pickled (pytorch_model.bin)", "save_pretrained", path)


def test_no_weights_at_all_is_said_with_what_there_is(folder):
    path = folder()
    os.remove(os.path.join(path, "model.safetensors"))
    assert_refused(FormatError, path, "neither model.safetensors nor", "it has config.json")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.999])
def test_truncated_weights_are_refused_with_the_file(folder, share):
    path = folder()
    file = os.path.join(path, "model.safetensors")
    os.truncate(file, int(os.path.getsize(file) * share))
    assert_refused(FormatError, path, file)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "not JSON"),
        ("[]", "does not hold a JSON object"),
        ("{}", "model_type"),
        ('{"model_type": 3}', "expected str, found 3"),
        ('{"model_type": "llama"}', "num_attention_heads: the configuration lacks it"),
    ],
)
def test_a_configuration_that_is_none_is_a_format_error(folder, text, word):
    path = folder()
    with open(os.path.join(path, "config.json"), "w", encoding="utf-8") as stream:
        stream.write(text)
    assert_refused(FormatError, path, "config.json", word)


def test_another_family_is_named_beside_those_there_are(folder):
    path = folder()
    set_config(path, model_type="mamba")
    assert_refused(UnsupportedError, path, "'mamba'", "llama, opt, gpt2, gpt_neox")


@pytest.mark.parametrize(
    ("family", "key", "value"),
    [
        ("llama", "rope_scaling", {"rope_type": "llama3", "factor": 8.0}),
        ("llama", "rope_scaling", {"type": "linear", "factor": 2.0}),
        ("llama", "rope_parameters", {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}),
        ("llama", "rope_parameters", {"rope_type": "default", "partial_rotary_factor": 0.5}),
        ("llama", "sliding_window", 4096),
        ("llama", "head_dim", 16),
        ("llama", "hidden_act", "relu2"),
        ("llama", "num_local_experts", 8),
        ("llama", "quantization_config", {"quant_method": "gptq"}),
        ("llama", "attention_multiplier", 0.5),
        ("llama", "logits_scaling", 2.0),
        ("llama", "auto_map", {"AutoModel": "code.Model"}),
        ("llama", "rope_interleaved", True),
        ("opt", "activation_function", "mish"),
        ("opt", "layer_norm_elementwise_affine", False),
        ("gpt2", "scale_attn_weights", False),
        ("gpt2", "scale_attn_by_inverse_layer_idx", True),
        ("gpt2", "add_cross_attention", True),
        ("gpt_neox", "rope_scaling", {"type": "dynamic", "factor": 2.0}),
        ("gpt_neox", "sparse_attention", "local"),
    ],
)
def test_what_would_change_the_arithmetic_is_refused_by_name(folder, family, key, value):
    path = folder(family)
    set_config(path, **{key: value})
    assert_refused(UnsupportedError, path, "config.json", key)


def test_a_key_that_is_off_or_known_to_be_harmless_passes(folder, tmp_path):
    path = folder()
    set_config(
        path,
        sliding_window=None,
        some_new_option=False,
        rope_scaling=None,
        quantization_config=None,
        torch_dtype="bfloat16",
        use_cache=False,
        _name_or_path="x",
    )
    import_model(path, str(tmp_path / "out"))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"num_attention_heads": 7}, "not a multiple of n_head 7"),
        ({"num_attention_heads": 0}, "n_head is 0"),
        ({"num_key_value_heads": 4}, "not a multiple of n_kv_head 4"),
        ({"num_hidden_layers": 4_000_000_000}, "4000000000 layers"),
        ({"num_hidden_layers": -1}, "-1 layers"),
        ({"hidden_size": "wide"}, "expected int, found 'wide'"),
        ({"vocab_size": True}, "expected int, found True"),
        ({"vocab_size": 0}, "vocab_size is 0"),
        ({"rms_norm_eps": 2.0}, "norm_eps is 2.0"),
    ],
)
def test_impossible_values_are_a_format_error_with_the_value(folder, changes, word):
    path = folder()
    set_config(path, head_dim=None, **changes)
    assert_refused(FormatError, path, "config.json", word)


def test_tensors_of_another_shape_missing_or_left_over_are_named(folder):
    path, name = folder(), "model.layers.1.self_attn.k_proj.weight"
    set_config(path, intermediate_size=95)
    assert_refused(FormatError, path, "model.layers.0.mlp.gate_proj.weight", "(96, 48)", "(95, 48)")
    set_config(path, intermediate_size=96)
    extra = "model.layers.0.self_attn.q_norm.weight"
    set_tensors(path, lambda t: t.update({extra: np.ones(8, np.float32)}))
    assert_refused(UnsupportedError, path, f"'{extra}'")
    set_tensors(path, lambda t: (t.pop(extra), t.pop(name)))
    assert_refused(FormatError, path, name, "no such tensor")


def test_a_weight_that_is_not_a_number_is_refused(folder):
    path = folder()
    set_tensors(path, lambda t: t["model.norm.weight"].__setitem__(3, np.nan))
    assert_refused(FormatError, path, "model.norm.weight", "NaN")


def test_quantised_weights_are_refused_by_their_type(folder):
    path = folder()
    file = os.path.join(path, "model.safetensors")
    tensors = {n: np.array(t) for n, t in map_tensors(file).items()}
    rows = [(n, "F32", t.shape, t.tobytes()) for n, t in tensors.items()]
    shape = tensors["model.layers.0.mlp.up_proj.weight"].shape
    rows = [r for r in rows if "layers.0.mlp.up_proj" not in r[0]]
    rows.append(("model.layers.0.mlp.up_proj.weight", "I8", shape, bytes(shape[0] * shape[1])))
    write_weights(file, rows)
    assert_refused(UnsupportedError, path, "up_proj.weight", "stored as I8", "quantised")


def test_a_head_that_should_be_tied_and_is_another_is_refused(folder):
    path = folder()
    set_tensors(
        path, lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"] + np.float32(1)})
    )
    assert_refused(FormatError, path, "lm_head.weight", "the two differ")


def test_a_tokenizer_with_more_tokens_than_rows_is_refused(folder):
    path = folder()
    set_config(path, vocab_size=200)
    set_tensors(
        path,
        lambda t: t.update({k: v[:200] for k, v in t.items() if k == "model.embed_tokens.weight"}),
    )
    assert_refused(FormatError, path, "highest id is 279, the embedding has 200 rows")


def write_index(path, weight_map):
    with open(os.path.join(path, "model.safetensors.index.json"), "w") as stream:
        json.dump({"metadata": {}, "weight_map": weight_map}, stream)


def test_an_index_that_does_not_fit_its_shards_is_refused(folder):
    path = folder()
    names = list(read_index(os.path.join(path, "model.safetensors")))
    os.rename(os.path.join(path, "model.safetensors"), os.path.join(path, "a.safetensors"))
    whole = dict.fromkeys(names, "a.safetensors")

    write_index(path, {**whole, "more": "b.safetensors"})
    assert_refused(FormatError, path, "b.safetensors", "does not exist")
    write_index(path, {**whole, "more": "a.safetensors"})
    assert_refused(FormatError, path, "more", "a.safetensors, which has no such tensor")
    write_index(path, {name: whole[name] for name in names[1:]})
    assert_refused(FormatError, path, names[0], "the index has it not")
    for elsewhere in ("../a.safetensors", "/etc/passwd", "a.bin", "..", 3):
        write_index(path, {**whole, names[0]: elsewhere})
        assert_refused(FormatError, path, repr(elsewhere), "not a safetensors file beside it")
    write_index(path, [])
    assert_refused(FormatError, path, "weight_map")
    write_index(path, whole)
    import_model(path, os.path.join(os.path.dirname(path), "out"))


def test_an_existing_result_is_kept_unless_forced(folder, tmp_path):
    path, out = folder(), str(tmp_path / "out")
    import_model(path, out)
    with pytest.raises(UsageError, match="exists already"):
        import_model(path, out)
    import_model(path, out, force=True)


def test_an_interrupted_import_leaves_nothing(folder, tmp_path):
    def stop_while_writing(text):
        if text == "writing":
            raise KeyboardInterrupt

    path = folder()
    with pytest.raises(KeyboardInterrupt):
        import_model(path, str(tmp_path / "out"), on_progress=stop_while_writing)
    assert os.listdir(tmp_path) == ["hf"]


@settings(
    max_examples=60, deadline=3000, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_value_in_a_configuration_is_an_error_of_ours_or_a_decoder(
    originals, tmp_path_factory, data
):
    from merino_edge.formats.architecture import Architecture
    from merino_edge.model.importers.hf_config import Config, read_config
    from merino_edge.model.importers.huggingface import architecture_from_config

    family = data.draw(st.sampled_from(sorted(originals)))
    document = dict(read_config(originals[family]).document)
    key = data.draw(st.sampled_from(sorted(document)))
    json_value = st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-3, 10**12)
        | st.floats(-2, 2)
        | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=12), inner),
        max_leaves=4,
    )
    document[key] = data.draw(json_value)
    try:
        found = architecture_from_config(Config(document, "config.json"))[1]
    except MerinoError:
        return
    assert isinstance(found, Architecture)


def test_a_folder_is_read_by_its_headers_only_until_weights_are_wanted(originals):
    folder = open_safetensors_folder(originals["opt"])
    assert folder.type_counts() == {"F32": len(folder.shapes())}
