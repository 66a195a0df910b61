"""A checkpoint of somebody else's shape with fresh weights: for measuring speed, not for text.

Speed and memory follow from shapes, so a configuration is enough; nothing is downloaded. Where no
tokenizer is at hand a stand-in is made whose tokens are the 256 bytes: any text has tokens, and no
claim about text is made with them.
"""

import json
import os

import numpy as np

from merino_edge.errors import UsageError
from merino_edge.formats.manifest import GenerationDefaults
from merino_edge.formats.pieces_file import byte_of_character
from merino_edge.formats.tokenizer_file import portable_json
from merino_edge.model.importers.chat_template import ChatProbe
from merino_edge.model.importers.hf_config import Config, read_config
from merino_edge.model.importers.hf_tokenizer import TOKENIZER, TokenizerFolder
from merino_edge.model.importers.huggingface import architecture_from_config
from merino_edge.model.importers.parts import Progress
from merino_edge.model.importers.presets import PRESETS


class RandomModel:
    """A configuration whose weights are drawn from a seed; a ``walk.Source``.

    Args:
        model: A preset's name, a config.json, or a folder with one.
        seed: Same seed, same weights.
        tokenizer_json: A tokenizer; None for the folder's, or else for the stand-in.

    Raises:
        UsageError: It is none of these.
        FormatError: The configuration is damaged.
        UnsupportedError: Another family, or a value that changes the arithmetic.
    """

    def __init__(self, model: str, seed: int, tokenizer_json: str | None = None):
        config = _config(model)
        family, self.architecture = architecture_from_config(config)
        self.family = family.name
        self.name = os.path.basename(os.path.abspath(model))
        self.notes = family.notes(self.architecture)
        self._seed = seed
        self._folder = model if os.path.isdir(model) else ""
        self._config = config
        self._given = tokenizer_json

    def check_tensors(self) -> None:
        """Nothing is read, so nothing can be wrong."""

    def tokenizer_json(self) -> str:
        """The one that was given, the folder's, or the stand-in."""
        if self._given is not None:
            return self._given
        if self._folder and os.path.isfile(os.path.join(self._folder, TOKENIZER)):
            return TokenizerFolder(self._folder, self._config).tokenizer_json()
        return byte_tokenizer()

    def generation(self) -> GenerationDefaults:
        """Texts have no end: weights that say nothing end nowhere on purpose."""
        return GenerationDefaults()

    def chat(self) -> ChatProbe:
        """None."""
        return ChatProbe(None, "random weights do not converse")

    def weights(self, on_progress: Progress) -> dict[str, np.ndarray]:
        """Drawn as training would start."""
        from merino_edge.model.transformer import random_tensors  # needs torch, other imports none

        on_progress("drawing weights")
        return random_tensors(self.architecture, self._seed)

    def storage(self) -> dict[str, int]:
        """Nothing was stored."""
        return {}

    def provenance(self) -> dict[str, str]:
        """The shape's name and the seed."""
        weights = f"random, seed {self._seed}: for speed, not for text"
        return {"source": self.name, "family": self.family, "weights": weights}


def _config(model: str) -> Config:
    if os.path.exists(model):
        return read_config(model)
    if model.lower() not in PRESETS:
        raise UsageError(
            f"'{model}' is neither a config.json, nor a folder with one, nor a preset.",
            note=f"presets: {', '.join(PRESETS)}.",
        )
    return Config(PRESETS[model.lower()], model)


def byte_tokenizer() -> str:
    """A tokenizer.json whose tokens are the 256 bytes."""
    vocab = {character: byte for character, byte in byte_of_character().items()}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    document = {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": level,
        "decoder": level,
        "model": {"type": "BPE", "vocab": vocab, "merges": []},
    }
    return portable_json(json.dumps(document))
