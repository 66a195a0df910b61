"""Models that people know, in our description: yardsticks for counts and for entropy.

The one idea: parameters, FLOPs and entropy follow from shapes, so nothing needs to be downloaded.
The shapes are the presets of ``merino-edge import --random-weights``: parts of the models' public
configurations, read by the code that reads a real folder.

OPT's table of positions has two rows before the first position, which no text ever uses. We leave
them out; what people publish counts them, and so does ``KnownModel.n_params``.
"""

from typing import NamedTuple

from merino_edge.core import counting
from merino_edge.formats.architecture import Architecture
from merino_edge.model.importers.hf_config import Config
from merino_edge.model.importers.hf_opt import UNUSED_POSITIONS
from merino_edge.model.importers.huggingface import architecture_from_config
from merino_edge.model.importers.presets import PRESETS

# As they are usually called -> preset.
NAMES = {
    "OPT-125M": "opt-125m",
    "OPT-350M": "opt-350m",
    "GPT-2": "gpt2",
    "Pythia-70M": "pythia-70m",
    "Pythia-160M": "pythia-160m",
    "SmolLM2-135M": "smollm2-135m",
}


class KnownModel(NamedTuple):
    """A public model.

    Attributes:
        name: As it is usually called; its sizes are nominal.
        architecture: What its configuration describes.
        n_params_beyond: Parameters that it stores and never uses.
    """

    name: str
    architecture: Architecture
    n_params_beyond: int = 0

    @property
    def n_params(self) -> int:
        """What it really stores, embeddings included."""
        return counting.n_params(self.architecture) + self.n_params_beyond


def _known(name: str) -> KnownModel:
    family, a = architecture_from_config(Config(PRESETS[NAMES[name]], NAMES[name]))
    unused = UNUSED_POSITIONS * a.blocks[0].d_model if family.name == "opt" else 0
    return KnownModel(name, a, unused)


KNOWN_MODELS = {name: _known(name) for name in NAMES}
