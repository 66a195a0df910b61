"""A Hugging Face folder as a source of an import: config.json, safetensors, tokenizer.json.

The one idea: ``config.json`` names a family, the family's table says what fills our tensors, and
everything common is done here once, for all families: names with and without their beginning,
constants that are no weights, a tied head that is stored a second time.
"""

import os

import numpy as np

from merino_edge.errors import FormatError, SpecError, UnsupportedError
from merino_edge.formats.architecture import Architecture
from merino_edge.formats.bundle import sha256_of
from merino_edge.formats.manifest import GenerationDefaults
from merino_edge.formats.weights import weight_shapes
from merino_edge.model.importers.chat_template import ChatProbe
from merino_edge.model.importers.hf_config import Config, read_config
from merino_edge.model.importers.hf_family import Family
from merino_edge.model.importers.hf_gpt2 import GPT2
from merino_edge.model.importers.hf_gpt_neox import GPT_NEOX
from merino_edge.model.importers.hf_llama import LLAMA
from merino_edge.model.importers.hf_opt import OPT
from merino_edge.model.importers.hf_tokenizer import TokenizerFolder
from merino_edge.model.importers.parts import Progress, check_parts, gather
from merino_edge.model.importers.safetensors_folder import open_safetensors_folder

FAMILIES = {family.name: family for family in (LLAMA, OPT, GPT2, GPT_NEOX)}


def architecture_from_config(config: Config) -> tuple[Family, Architecture]:
    """Read a configuration.

    Raises:
        FormatError: A value is missing or impossible.
        UnsupportedError: Another family, or a value that changes the arithmetic.
    """
    name = config.get("model_type", str)
    family = FAMILIES.get(name)
    if family is None:
        raise UnsupportedError(
            f"{config.path}: the model_type is '{name}'.",
            note=f"supported: {', '.join(FAMILIES)}.",
        )
    try:
        a = family.architecture(config)
    except SpecError as error:
        raise FormatError(f"it describes no decoder: {error}", config.path) from error
    config.refuse_unread()
    return family, a


class HuggingFaceModel:
    """One opened folder; a ``walk.Source``.

    Args:
        path: The folder.
        tokenizer_json: A tokenizer to use in place of the folder's.

    Raises:
        FormatError: A file is missing or damaged.
        UnsupportedError: Another family, a value that changes the arithmetic, or pickled weights.
    """

    def __init__(self, path: str, tokenizer_json: str | None = None):
        config = read_config(path)
        self._family, self.architecture = architecture_from_config(config)
        self.family = self._family.name
        self.path = path
        self.name = os.path.basename(os.path.abspath(path))
        self.notes = self._family.notes(self.architecture)
        self._text = TokenizerFolder(path, config, tokenizer_json)
        self._folder = open_safetensors_folder(path)
        self._plan = self._family.plan(self.architecture)
        self._names = self._family.full_names(self._folder.shapes(), self._plan)

    def check_tensors(self) -> None:
        """Refuse tensors that are missing, misshapen or left over."""
        shapes = self._folder.shapes()
        found = {whole: shapes[name] for whole, name in self._names.items()}
        if self.architecture.tie_embeddings:
            self._check_tied_head(found.pop(self._family.head, None) is not None)
        note = "biases, experts, adapters and quantised weights are not supported."
        check_parts(self._plan, found, self.path, "config.json", self.family, note)

    def _check_tied_head(self, stored_twice: bool) -> None:
        """Some files of tied models store the head as well; then it must be the embedding."""
        embedding = self._plan["embed.weight"][0].name
        if not stored_twice or embedding not in self._names:
            return
        if not np.array_equal(self._read(self._family.head), self._read(embedding)):
            raise FormatError(
                f"config.json ties it to {embedding}, but the two differ.",
                self.path,
                self._family.head,
                hint='write "tie_word_embeddings": false into config.json if both are meant.',
            )

    def tokenizer_json(self) -> str:
        """The tokenizer, in the form that a board reads."""
        return self._text.tokenizer_json()

    def generation(self) -> GenerationDefaults:
        """What the maker recommends for generating text."""
        return self._text.generation()

    def chat(self) -> ChatProbe:
        """How a conversation is written."""
        return self._text.chat()

    def weights(self, on_progress: Progress) -> dict[str, np.ndarray]:
        """All tensors under our names, float32."""
        return gather(
            self._plan, weight_shapes(self.architecture), self._read, "reading", on_progress
        )

    def _read(self, whole: str) -> np.ndarray:
        return self._folder.array(self._names[whole])

    def storage(self) -> dict[str, int]:
        """Storage type -> number of tensors."""
        return self._folder.type_counts()

    def provenance(self) -> dict[str, str]:
        """The folder's name, the checksums of its weights, and their storage."""
        storage = ", ".join(f"{name} x{n}" for name, n in self.storage().items())
        facts = {
            f"sha256 of {f}": sha256_of(os.path.join(self.path, f)) for f in self._folder.files
        }
        facts["source"], facts["family"] = self.name, self.family
        facts["storage"] = f"{storage}; converted to float32"
        return facts
