"""One record describes every decoder, refuses nonsense, and has a name that never changes."""

import pytest
from doubles import (
    llama_architecture,
    neox_architecture,
    post_norm_architecture,
    tiny_architecture,
)
from hypothesis import given
from hypothesis import strategies as st

from merino_edge.errors import FormatError, SpecError
from merino_edge.formats.architecture import (
    Architecture,
    BlockSpec,
    describe,
    read_architecture,
    write_architecture,
)
from merino_edge.formats.jsonio import read_json
from merino_edge.formats.weights import weight_shapes


@st.composite
def architectures(draw):
    """Any valid architecture of small size."""
    rope = draw(st.booleans())
    parallel = draw(st.booleans())
    blocks = []
    for _ in range(draw(st.integers(1, 4))):
        n_kv, group = draw(st.integers(1, 3)), draw(st.integers(1, 3))
        head_dim = 8 * draw(st.integers(1, 2))
        blocks.append(
            BlockSpec(
                d_model=n_kv * group * head_dim,
                n_head=n_kv * group,
                n_kv_head=n_kv,
                d_ff=draw(st.integers(1, 40)),
                depth=draw(st.integers(1, 5)),
            )
        )
    return Architecture(
        blocks=tuple(blocks),
        vocab_size=draw(st.integers(2, 300)),
        max_seq_len=draw(st.integers(1, 64)),
        norm=draw(st.sampled_from(["layernorm", "rmsnorm"])),
        position="rope" if rope else "learned",
        gated_ffn=draw(st.booleans()),
        attention_bias=draw(st.booleans()),
        ffn_bias=draw(st.booleans()),
        tie_embeddings=draw(st.booleans()),
        d_embed=draw(st.none() | st.integers(1, 24)),
        norm_place="pre" if parallel else draw(st.sampled_from(["pre", "post"])),
        final_norm=draw(st.booleans()),
        parallel_residual=parallel,
        rope_fraction=draw(st.sampled_from([0.25, 0.5, 1.0])) if rope else 1.0,
    )


def test_ids_are_stable_across_versions_and_machines():
    # A changed id orphans every cache and table keyed by it: change these only with the schema.
    assert tiny_architecture().arch_id == "1e5734f9b049"
    assert llama_architecture().arch_id == "ebb0c5953594"


def test_a_file_names_later_fields_only_where_they_are_used(tmp_path):
    path = str(tmp_path / "arch.json")
    write_architecture(path, tiny_architecture())
    later = set(Architecture.LATER_FIELDS)
    assert not later & set(read_json(path))

    write_architecture(path, neox_architecture())
    assert later & set(read_json(path)) == {"parallel_residual", "rope_fraction"}
    write_architecture(path, post_norm_architecture())
    assert later & set(read_json(path)) == {"norm_place", "final_norm"}


def test_only_the_first_share_of_a_head_is_rotated():
    a = neox_architecture()
    assert a.rotary_dim(a.blocks[0]) == 2  # a quarter of 8
    assert a.replace(rope_fraction=1.0).rotary_dim(a.blocks[0]) == 8
    assert tiny_architecture().rotary_dim(tiny_architecture().blocks[0]) == 0


@given(architectures())
def test_a_file_gives_back_the_same_architecture_and_id(tmp_path_factory, architecture):
    path = str(tmp_path_factory.mktemp("arch") / "arch.json")
    write_architecture(path, architecture)
    again = read_architecture(path)

    assert again == architecture
    assert again.arch_id == architecture.arch_id


@given(architectures())
def test_stored_tensors_do_not_grow_with_depth_but_for_norms(architecture):
    deeper = architecture.replace(
        blocks=tuple(b._replace(depth=b.depth + 1) for b in architecture.blocks)
    )
    added = set(weight_shapes(deeper)) - set(weight_shapes(architecture))
    assert all(".norms." in name for name in added)
    assert len(added) % len(architecture.blocks) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"blocks": ()}, "at least one block"),
        ({"blocks": (BlockSpec(16, 3, 3, 32, 1),)}, r"d_model 16 is not a multiple of n_head 3"),
        ({"blocks": (BlockSpec(16, 4, 3, 32, 1),)}, r"n_head 4 is not a multiple of n_kv_head 3"),
        ({"blocks": (BlockSpec(16, 4, 4, 32, 0),)}, r"blocks\[0\].depth is 0"),
        ({"vocab_size": 0}, "vocab_size is 0"),
        ({"max_seq_len": -1}, "max_seq_len is -1"),
        ({"norm": "batchnorm"}, "norm is 'batchnorm', must be one of layernorm, rmsnorm"),
        ({"position": "alibi"}, "position is 'alibi'"),
        ({"activation": "mish"}, "activation is 'mish'"),
        ({"norm_eps": 0.0}, "norm_eps is 0.0"),
        ({"rope_base": 1.0}, "rope_base is 1.0"),
        ({"position": "rope", "blocks": (BlockSpec(9, 3, 3, 8, 1),)}, "head_dim 3 must be even"),
        ({"norm_place": "middle"}, "norm_place is 'middle', must be one of pre, post"),
        ({"parallel_residual": True, "norm_place": "post"}, "contradict"),
        ({"position": "rope", "rope_fraction": 0.0}, "rope_fraction is 0.0, must be above 0"),
        ({"position": "rope", "rope_fraction": 1.5}, "rope_fraction is 1.5"),
        ({"rope_fraction": 0.5}, "rope_fraction is 0.5, but the position is learned"),
        ({"position": "rope", "rope_fraction": 0.4}, "head_dim 8 rotates 3 dimensions"),
    ],
)
def test_nonsense_is_refused_with_the_value(change, message):
    with pytest.raises(SpecError, match=message):
        tiny_architecture(**change)


def test_a_file_with_nonsense_names_the_file(tmp_path):
    path = tmp_path / "arch.json"
    write_architecture(str(path), tiny_architecture())
    path.write_text(path.read_text().replace('"n_head": 2', '"n_head": 5'))

    with pytest.raises(FormatError, match=r"arch.json: .*not a multiple of n_head 5"):
        read_architecture(str(path))


def test_a_picture_in_one_line():
    assert describe(tiny_architecture()) == "d16 h2 ff32 x2 | d24 h2 ff40 x1"
    assert describe(llama_architecture()) == "d16 h4/2 ff24 x1 | d16 h4/2 ff24 x1"
