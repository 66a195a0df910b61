"""Tiny decoders built as known families are; between them they use every field there is.

Readable by Python 3.6, because the device's tests use it too.
"""

from doubles import llama_architecture, tiny_architecture

from merino_edge.formats.architecture import BlockSpec

N_LAYERS = 3


def ordinary(d_model, n_head, d_ff, n_kv_head=None):
    """Three layers of one width, none shared: an ordinary transformer."""
    return (BlockSpec(d_model, n_head, n_kv_head or n_head, d_ff, 1),) * N_LAYERS


def opt_125m():
    """Learned positions, ReLU, biases, norms before."""
    return tiny_architecture(blocks=ordinary(24, 3, 96), activation="relu")


def opt_350m():
    """Norms behind, none at the end, an embedding narrower than the stream, in and out."""
    return tiny_architecture(
        blocks=ordinary(32, 4, 96),
        activation="relu",
        d_embed=16,
        norm_place="post",
        final_norm=False,
    )


def gpt2():
    """Learned positions, GELU by tanh."""
    return tiny_architecture(blocks=ordinary(24, 2, 96), activation="gelu_tanh")


def pythia():
    """Attention and feed-forward beside each other, a quarter of each head turned, a head apart."""
    return tiny_architecture(
        blocks=ordinary(48, 3, 96),
        position="rope",
        rope_fraction=0.25,
        parallel_residual=True,
        tie_embeddings=False,
    )


def llama():
    """RMSNorm, rope, grouped heads, gated SiLU, a head apart."""
    return llama_architecture(blocks=ordinary(32, 4, 56, n_kv_head=2), tie_embeddings=False)


FAMILIES = {
    "opt-125m": opt_125m(),
    "opt-350m": opt_350m(),
    "gpt2": gpt2(),
    "pythia": pythia(),
    "llama": llama(),
}

# What no family combines, so that a field does not work by the company it keeps.
MIXTURES = {
    "post norm, shared, joined, rope": tiny_architecture(
        norm_place="post", position="rope", rope_fraction=0.5, d_embed=12
    ),
    "parallel, shared, rmsnorm, no final norm": llama_architecture(
        blocks=(BlockSpec(16, 2, 1, 24, 2), BlockSpec(24, 2, 2, 24, 1)),
        parallel_residual=True,
        final_norm=False,
    ),
}

# Golden files of the native decoder: name -> (architecture, precision).
_SMALL = tiny_architecture(vocab_size=24, max_seq_len=8)
_VERSION_3 = MIXTURES["post norm, shared, joined, rope"].replace(vocab_size=24, max_seq_len=8)
NATIVE_FILES = {
    "tiny-int8.merino": (_SMALL, "int8"),
    "tiny-int4.merino": (_SMALL, "int4"),
    "tiny-version3-int8.merino": (_VERSION_3, "int8"),
}
