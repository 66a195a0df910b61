"""Members, genomes and files of search spaces."""

import json
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merino_edge.core import space as spaces
from merino_edge.core.space import SearchSpace
from merino_edge.errors import FormatError, SchemaVersionError, SpecError, UsageError
from merino_edge.formats import jsonio

SMALL = SearchSpace("small", 2, (16, 32, 48), (1.0, 2.5), (1, 2, 4), 8, 100, 32)


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


@pytest.mark.parametrize("name", ["paper", "nano", "tiny"])
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


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"d_models": ()}, "d_models is empty"),
        ({"d_models": (32, 16)}, r"d_models\[1\] is 16"),
        ({"d_models": (16, 20)}, r"d_models\[1\] is 20, not a multiple of head_dim 8"),
        ({"depths": (0, 1)}, r"depths\[0\] is 0"),
        ({"ffn_ratios": (1.0, float("nan"))}, r"ffn_ratios\[1\] is nan"),
        ({"n_blocks": 0}, "n_blocks"),
        ({"vocab_size": 0}, "vocab_size"),
        ({"norm": "batchnorm"}, "norm"),
    ],
)
def test_a_space_that_breaks_its_rules_names_the_field(change, field):
    with pytest.raises(SpecError, match=field):
        SMALL.replace(**change)


def test_a_space_survives_its_file(tmp_path):
    path = str(tmp_path / "space.json")
    spaces.to_json_file(path, SMALL)
    assert spaces.from_json_file(path) == SMALL


@pytest.mark.parametrize(
    ("edit", "error", "reason"),
    [
        (lambda d: d.update(widths=[1]), FormatError, "widths: unknown field"),
        (lambda d: d.pop("depths"), FormatError, "depths: missing field"),
        (lambda d: d["d_models"].append("64"), FormatError, r"d_models\[3\]: expected int"),
        (lambda d: d.update(d_models=[16, 12]), FormatError, r"d_models\[1\] is 12"),
        (lambda d: d.update(schema="merino-edge.space/2"), SchemaVersionError, "schema"),
        (lambda d: d.update(schema="merino-edge.search/1"), FormatError, "schema"),
    ],
)
def test_a_file_that_is_no_space_is_refused_with_path_and_field(tmp_path, edit, error, reason):
    document = {"schema": spaces.SCHEMA, **jsonio.encode(SMALL)}
    edit(document)
    path = tmp_path / "space.json"
    path.write_text(json.dumps(document))
    with pytest.raises(error, match=reason) as caught:
        spaces.from_json_file(str(path))
    assert str(path) in str(caught.value)


def test_optional_fields_of_a_file_may_be_left_out(tmp_path):
    document = {"schema": spaces.SCHEMA, **jsonio.encode(SMALL)}
    for name in ("norm", "monotone", "tie_embeddings"):
        del document[name]
    path = tmp_path / "space.json"
    path.write_text(json.dumps(document))
    assert spaces.from_json_file(str(path)) == SMALL


def test_an_unknown_space_names_those_there_are():
    with pytest.raises(UsageError, match="huge") as caught:
        spaces.get("huge")
    assert "paper, nano, tiny" in caught.value.hint
