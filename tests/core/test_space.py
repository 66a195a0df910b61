"""Members, genomes and files of search spaces."""

import json
import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from repository import ROOT

from merino_edge.core import space as spaces
from merino_edge.core.space import SearchSpace
from merino_edge.errors import FormatError, SchemaVersionError, SpecError, UsageError
from merino_edge.formats import jsonio
from merino_edge.formats.architecture import ACTIVATIONS, NORMS, POSITIONS

BENCHMARKS = ROOT / "benchmarks" / "search"
SMALL = SearchSpace("small", 2, (16, 32, 48), (1.0, 2.5), (1, 2, 4), 8, 100, 32)


def vocabularies(*pairs):
    """The change that gives a space these choices."""
    return {"vocabularies": tuple(spaces.Vocabulary(*pair) for pair in pairs)}


def write(path, document):
    """Write a document as the suffix says, JSON with its schema line; returns the path."""
    if path.suffix == ".json":
        path.write_text(json.dumps({"schema": spaces.SCHEMA, **document}), "utf-8")
    else:
        lines = [f"{key} = {toml_value(value)}\n" for key, value in document.items()]
        path.write_text("".join(lines), "utf-8")
    return str(path)


def toml_value(value):
    """A JSON value as TOML has it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml_value(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    if isinstance(value, float):
        return repr(value)  # also nan and inf
    # DEL is the one character that JSON may hold bare and TOML may not.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def all_genomes(space):
    genes = list(product(*(range(n) for n in space.n_choices)))
    for genome in product(genes, repeat=space.n_blocks):
        widths = [block[0] for block in genome]
        if not space.monotone or widths == sorted(widths):
            yield np.array(genome)


@pytest.mark.parametrize("monotone", [True, False])
def test_size_is_the_number_of_different_members(monotone):
    space = SMALL.replace(monotone=monotone)
    members = {space.decode(genome) for genome in all_genomes(space)}
    assert len(members) == space.size
    assert all(member in space for member in members)


@pytest.mark.parametrize("name", spaces.PRESETS)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_samples_are_members_and_encoding_is_the_way_back(name, seed):
    space = spaces.get(name)
    for genome in space.sample(np.random.default_rng(seed), 4):
        assert (space.encode(space.decode(genome)) == genome).all()


def test_the_same_generator_gives_the_same_sample():
    draws = [spaces.get("paper").sample(np.random.default_rng(5), 8) for _ in range(2)]
    assert (draws[0] == draws[1]).all()


def test_the_presets_are_the_grids_that_are_documented():
    paper, tiny = spaces.get("paper"), spaces.get("tiny")
    assert paper.d_models == (
        128,
        192,
        256,
        320,
        384,
        448,
        512,
        576,
        640,
        704,
        768,
        832,
        896,
        960,
        1024,
    )
    assert (paper.n_blocks, paper.head_dim, paper.vocab_size, paper.max_seq_len) == (
        4,
        64,
        50257,
        1024,
    )
    assert paper.size == 3060 * (7 * 16) ** 4
    assert spaces.get("nano") == paper.replace(name="nano", vocab_size=8192)
    assert (tiny.d_models[0], tiny.d_models[-1], tiny.max_seq_len) == (64, 256, 256)


def test_a_feed_forward_width_is_the_nearest_integer():
    space = SMALL.replace(ffn_ratios=(1.03, 1.5))
    assert space.block(16, 1.03, 1).d_ff == 16
    assert space.block(48, 1.03, 1).d_ff == 49


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"vocab_size": 101}, "common fields"),
        ({"norm": "rmsnorm"}, "common fields"),
        ({"blocks": 1}, "1 blocks, the space 'small' has 2"),
        ({"d_model": 40}, r"blocks\[0\].d_model is 40, not one of 16, 32, 48"),
        ({"d_ff": 33}, r"blocks\[0\].d_ff is 33"),
        ({"depth": 3}, r"blocks\[0\].depth is 3"),
        ({"d_model": 48}, "the widths shrink"),
    ],
)
def test_a_stranger_is_told_why_it_is_no_member(change, reason):
    member = SMALL.decode(np.array([[0, 0, 0], [1, 1, 2]]))
    name, value = next(iter(change.items()))
    if name == "blocks":
        stranger = member.replace(blocks=member.blocks[:value])
    elif name in ("d_model", "d_ff", "depth"):
        block = member.blocks[0]._replace(**change)
        block = SMALL.block(48, 1.0, 1) if change == {"d_model": 48} else block
        stranger = member.replace(blocks=(block, member.blocks[1]))
    else:
        stranger = member.replace(**change)
    assert stranger not in SMALL
    with pytest.raises(SpecError, match=reason):
        SMALL.encode(stranger)


BROKEN = [
    ({"n_blocks": 0}, "n_blocks", "is 0, must be at least 1"),
    ({"n_blocks": 17}, "n_blocks", "is 17, must be at most 16"),
    ({"head_dim": 0}, "head_dim", "is 0, must be at least 1"),
    ({"head_dim": 5, "position": "rope", "d_models": (5,)}, "head_dim", "is 5, must be even"),
    ({"vocab_size": 0}, "vocab_size", "is 0, must be at least 1"),
    ({"vocab_size": 10**9}, "vocab_size", "is 1000000000, must be at most 1048576"),
    ({"max_seq_len": -1}, "max_seq_len", "is -1, must be at least 1"),
    ({"d_models": ()}, "d_models", "is empty"),
    ({"d_models": tuple(range(8, 528, 8))}, "d_models", "has 65 choices, must have at most 64"),
    ({"d_models": (32, 16)}, "d_models[1]", "is 16, must be above the 32 before it"),
    ({"d_models": (16, 16)}, "d_models[1]", "is 16, must be above the 16 before it"),
    ({"d_models": (16, 20)}, "d_models[1]", "is 20, not a multiple of head_dim 8"),
    ({"d_models": (8, 65544)}, "d_models[1]", "is 65544, must be at most 65536"),
    ({"depths": (0, 1)}, "depths[0]", "is 0, must be above 0"),
    ({"depths": (1, 4096)}, "depths[1]", "is 4096, must be at most 1024"),
    ({"ffn_ratios": (1.0, math.nan)}, "ffn_ratios[1]", "is nan, must be above 0"),
    ({"ffn_ratios": (1.0, math.inf)}, "ffn_ratios[1]", "is inf, must be at most 64"),
    ({"norm": "batchnorm"}, "norm", "is 'batchnorm', must be one of layernorm, rmsnorm"),
    ({"position": "alibi"}, "position", "is 'alibi', must be one of"),
    ({"activation": "tanh"}, "activation", "is 'tanh', must be one of"),
    (vocabularies((50, 2.0), (200, 3.0)), "vocab_size", "is 100, must be one of the voc"),
    (vocabularies((100, 2.0), (50, 3.0)), "vocabularies[1].size", "is 50, must be above the 100"),
    (vocabularies((0, 2.0), (100, 3.0)), "vocabularies[0].size", "is 0, must be above 0"),
    (vocabularies((100, 0.0)), "vocabularies[0].bytes_per_token", "is 0.0, must be above 0"),
    (vocabularies((100, math.nan)), "vocabularies[0].bytes_per_token", "is nan, must be above 0"),
    (vocabularies((100, math.inf)), "vocabularies[0].bytes_per_token", "is inf, must be at most"),
    (
        vocabularies((100, 3.0), (200, 2.9)),
        "vocabularies[1].bytes_per_token",
        "is 2.9, must not be below the 3.0 of a smaller vocabulary",
    ),
    (
        vocabularies(*((size, 1.0) for size in range(100, 117))),
        "vocabularies",
        "has 17 choices, must have at most 16",
    ),
]


@pytest.mark.parametrize(("change", "field", "reason"), BROKEN)
def test_a_space_that_breaks_its_rules_names_the_field(change, field, reason):
    with pytest.raises(SpecError) as caught:
        SMALL.replace(**change)
    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field} {reason}")


@pytest.mark.parametrize("suffix", ["json", "toml"])
@pytest.mark.parametrize(("change", "field", "reason"), BROKEN)
def test_a_file_that_breaks_the_rules_names_path_and_field(tmp_path, suffix, change, field, reason):
    path = write(tmp_path / f"space.{suffix}", {**jsonio.encode(SMALL), **jsonio.encode(change)})
    with pytest.raises(FormatError) as caught:
        spaces.from_file(path)
    assert (caught.value.path, caught.value.field) == (path, field)
    assert str(caught.value).startswith(f"{path}: {field}: {reason}")


@pytest.mark.parametrize("suffix", ["json", "toml"])
@pytest.mark.parametrize(
    ("edit", "error", "reason"),
    [
        (lambda d: d.update(widths=[1]), FormatError, "widths: unknown field"),
        (lambda d: d.pop("depths"), FormatError, "depths: missing field"),
        (lambda d: d.update(depths=3), FormatError, "depths: expected a list, found 3"),
        (lambda d: d.update(monotone=1), FormatError, "monotone: expected bool, found 1"),
        (lambda d: d.update(n_blocks=True), FormatError, "n_blocks: expected int, found True"),
        (lambda d: d["d_models"].append("64"), FormatError, "d_models[3]: expected int"),
        (lambda d: d["d_models"].append(64.0), FormatError, "d_models[3]: expected int"),
        (lambda d: d.update(d_models=[8] * 10**5), FormatError, "d_models: has 100000 choices"),
        (
            lambda d: d.update(vocabularies=[{"size": 100}]),
            FormatError,
            "vocabularies[0].bytes_per_token: missing field",
        ),
        (
            lambda d: d.update(vocabularies=[[100, 2.0]]),
            FormatError,
            "vocabularies[0]: expected an object",
        ),
        (lambda d: d.update(schema="merino-edge.space/2"), SchemaVersionError, "schema: schema"),
        (lambda d: d.update(schema="merino-edge.search/1"), FormatError, "schema: schema"),
    ],
)
def test_a_file_that_is_no_space_is_refused_with_path_and_field(
    tmp_path, suffix, edit, error, reason
):
    document = jsonio.encode(SMALL)
    edit(document)
    path = write(tmp_path / f"space.{suffix}", document)
    with pytest.raises(error) as caught:
        spaces.from_file(path)
    assert str(caught.value).startswith(f"{path}: {reason}")


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("space.toml", b"name = ", "not TOML: Invalid value"),
        ("space.toml", b"a = 1\na = 2", "not TOML: Cannot overwrite a value"),
        ("space.toml", b"name = '\xff'", "not TOML: 'utf-8'"),
        ("space.toml", b"a = " + b"[" * 50_000, "not TOML: "),
        ("space.toml", b"#" * (1 << 20) + b"\n", "larger than 1048576 bytes"),
        ("space.json", b"{", "not JSON"),
        ("space.json", b"[]", "schema: schema is None"),
        ("space.yaml", b"name: mine", "a space is a .json or a .toml file"),
        ("space.toml", None, "the file does not exist"),
        ("space.json", None, "the file does not exist"),
    ],
)
def test_a_file_that_cannot_be_read_says_why_and_which(tmp_path, name, data, reason):
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(FormatError) as caught:
        spaces.from_file(str(path))
    assert str(caught.value).startswith(f"{path}: {reason}")


def test_a_json_space_needs_its_schema_line_and_a_toml_space_may_leave_it_out(tmp_path):
    document = jsonio.encode(SMALL)
    for more in ({}, {"schema": spaces.SCHEMA}):
        assert spaces.from_file(write(tmp_path / "s.TOML", {**more, **document})) == SMALL
    (tmp_path / "s.json").write_text(json.dumps(document))
    with pytest.raises(FormatError, match="schema"):
        spaces.from_file(str(tmp_path / "s.json"))


@st.composite
def any_space(draw):
    head_dim = draw(st.integers(1, 64)) * 2
    heads = draw(ascending(st.integers(1, 65536 // head_dim)))
    sizes = draw(ascending(st.integers(1, 1 << 20), most=16))
    worths = draw(st.lists(st.floats(0.01, 64), min_size=len(sizes), max_size=len(sizes)))
    pairs = tuple(spaces.Vocabulary(*pair) for pair in zip(sizes, sorted(worths)))
    return SearchSpace(
        name=draw(st.text(st.characters(codec="utf-8"))),
        n_blocks=draw(st.integers(1, 16)),
        d_models=tuple(head_dim * n for n in heads),
        ffn_ratios=draw(ascending(st.floats(1e-6, 64))),
        depths=draw(ascending(st.integers(1, 1024))),
        head_dim=head_dim,
        vocab_size=draw(st.sampled_from(sizes)),
        max_seq_len=draw(st.integers(1, 1 << 20)),
        monotone=draw(st.booleans()),
        norm=draw(st.sampled_from(NORMS)),
        position=draw(st.sampled_from(POSITIONS)),
        activation=draw(st.sampled_from(ACTIVATIONS)),
        gated_ffn=draw(st.booleans()),
        vocabularies=draw(st.sampled_from([(), pairs])),
    )


def ascending(numbers, most=64):
    return st.sets(numbers, min_size=1, max_size=most).map(lambda found: tuple(sorted(found)))


@given(space=any_space())
@settings(max_examples=60, deadline=None)
def test_every_space_survives_json_and_toml(tmp_path_factory, space):
    folder = tmp_path_factory.mktemp("spaces")
    spaces.to_json_file(str(folder / "s.json"), space)
    assert spaces.from_file(str(folder / "s.json")) == space
    assert spaces.from_file(write(folder / "s.toml", jsonio.encode(space))) == space


def test_optional_fields_of_a_file_may_be_left_out(tmp_path):
    """Files from before vocabularies could be chosen stay valid."""
    document = {"schema": spaces.SCHEMA, **jsonio.encode(SMALL)}
    for name in ("norm", "monotone", "tie_embeddings", "vocabularies"):
        del document[name]
    assert spaces.from_file(write(tmp_path / "space.json", document)) == SMALL


def test_a_settled_space_is_its_own_only_alternative():
    assert SMALL.alternatives() == ((SMALL, 1.0),)


def test_alternatives_need_as_many_tokens_for_a_text_as_their_bytes_say():
    space = SMALL.replace(**vocabularies((50, 2.0), (100, 3.0), (400, 4.0)))
    assert space.alternatives() == (
        (SMALL.replace(vocab_size=50), 1.5),
        (SMALL, 1.0),
        (SMALL.replace(vocab_size=400), 0.75),
    )


def test_the_example_space_file_is_the_preset_with_vocabularies():
    example = spaces.from_file(str(BENCHMARKS / "space.toml"))
    assert example == spaces.get("nano-vocab").replace(name="mine")


def test_the_vocabularies_of_the_preset_are_those_that_were_measured():
    preset = spaces.get("nano-vocab")
    path = ROOT / "benchmarks" / "results" / "search" / "vocabulary.json"
    measured = json.loads(path.read_text("utf-8"))
    assert jsonio.encode(preset.vocabularies) == measured["vocabularies"]
    assert preset.replace(name="nano", vocabularies=()) == spaces.get("nano")


def test_an_unknown_space_names_those_there_are():
    with pytest.raises(UsageError, match="huge") as caught:
        spaces.get("huge")
    assert "paper, nano, tiny, nano-vocab" in caught.value.hint
