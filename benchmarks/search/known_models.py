"""Models that people know, in our description: yardsticks for counts and for entropy.

The one idea: parameters, FLOPs and entropy follow from shapes, so nothing needs to be downloaded.
The shapes are those of the models' public configurations.

Where a model does what our description cannot say, the field ``beyond`` says it in words and
``n_params_beyond`` in parameters. Only the second can change a count, and only OPT-350M has one.
"""

from typing import NamedTuple

from merino_edge.core import counting
from merino_edge.formats.architecture import Architecture, BlockSpec


class KnownModel(NamedTuple):
    """A public model.

    Attributes:
        name: As it is usually called; its sizes are nominal.
        architecture: As near as we can describe it.
        beyond: What it does that the description cannot say.
        n_params_beyond: Parameters that it stores beyond the description; below 0 for fewer.
    """

    name: str
    architecture: Architecture
    beyond: str = ""
    n_params_beyond: int = 0

    @property
    def n_params(self) -> int:
        """What it really stores, embeddings included."""
        return counting.n_params(self.architecture) + self.n_params_beyond


def _layers(n_layers: int, d_model: int, n_head: int) -> tuple[BlockSpec, ...]:
    """Equal layers that share nothing, with a feed-forward four times as wide."""
    return (BlockSpec(d_model, n_head, n_head, 4 * d_model, 1),) * n_layers


# OPT's table of positions has two rows before the first position, which are never used.
_OPT_POSITIONS = 2048 + 2
_OPT_125M = Architecture(
    _layers(12, 768, 12), vocab_size=50272, max_seq_len=_OPT_POSITIONS, activation="relu"
)
# Its embedding is 512 wide, with a projection to 1024 behind it and one back before the head; the
# positions are added at 1024.
_OPT_350M = Architecture(
    _layers(24, 1024, 16),
    vocab_size=50272,
    max_seq_len=_OPT_POSITIONS,
    activation="relu",
    d_embed=512,
)
_GPT2 = Architecture(
    _layers(12, 768, 12), vocab_size=50257, max_seq_len=1024, activation="gelu_tanh"
)
_PYTHIA_70M = Architecture(
    _layers(6, 512, 8), vocab_size=50304, max_seq_len=2048, position="rope", tie_embeddings=False
)
_PYTHIA_160M = _PYTHIA_70M.replace(blocks=_layers(12, 768, 12))
_SMOLLM2_135M = Architecture(
    (BlockSpec(576, 9, 3, 1536, 1),) * 30,
    vocab_size=49152,
    max_seq_len=8192,
    norm="rmsnorm",
    position="rope",
    rope_base=1e5,
    activation="silu",
    gated_ffn=True,
    attention_bias=False,
    ffn_bias=False,
)

_PYTHIA_BEYOND = (
    "attention and feed-forward side by side; rotates a quarter of each head's dimensions"
)

KNOWN_MODELS = {
    model.name: model
    for model in (
        KnownModel("OPT-125M", _OPT_125M),
        KnownModel(
            "OPT-350M",
            _OPT_350M,
            "norms after each sublayer, and so no final norm",
            n_params_beyond=-2 * 1024,
        ),
        KnownModel("GPT-2", _GPT2),
        KnownModel("Pythia-70M", _PYTHIA_70M, _PYTHIA_BEYOND),
        KnownModel("Pythia-160M", _PYTHIA_160M, _PYTHIA_BEYOND),
        KnownModel("SmolLM2-135M", _SMOLLM2_135M),
    )
}
