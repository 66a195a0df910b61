"""A GGUF file as a source of an import: one file that holds everything.

What the file means is the business of the modules beside this one: ``gguf_file`` reads it,
``gguf_llama`` knows the family, ``gguf_tokenizer`` the tokenizer inside; ``walk`` has the order.
"""

import os

import numpy as np

from merino_edge.formats.bundle import sha256_of
from merino_edge.formats.manifest import GenerationDefaults
from merino_edge.model.importers.chat_template import ChatProbe, chat_format_from_template
from merino_edge.model.importers.gguf_file import open_gguf
from merino_edge.model.importers.gguf_llama import (
    architecture_from_gguf,
    check_tensors,
    weights_from_gguf,
)
from merino_edge.model.importers.gguf_tokenizer import (
    generation_defaults,
    token_text,
    tokenizer_from_gguf,
)
from merino_edge.model.importers.parts import Progress


class GGUFModel:
    """One opened GGUF file of the llama family; a ``walk.Source``.

    Args:
        path: The file.
        tokenizer_json: A tokenizer to use in place of the one inside.

    Raises:
        FormatError: It is no GGUF file, or damaged.
        UnsupportedError: Another family, or a value that changes the arithmetic.
    """

    notes: tuple[str, ...] = ()

    def __init__(self, path: str, tokenizer_json: str | None = None):
        self.file = open_gguf(path)
        self.architecture = architecture_from_gguf(self.file)
        self.family = str(self.file.metadata["general.architecture"])
        self.name = str(self.file.metadata.get("general.name") or os.path.basename(path))
        self._tokenizer_json = tokenizer_json

    def check_tensors(self) -> None:
        """Refuse tensors that are missing, misshapen or left over."""
        check_tensors(self.file, self.architecture)

    def tokenizer_json(self) -> str:
        """The tokenizer inside, or the one that was given."""
        if self._tokenizer_json is not None:
            return self._tokenizer_json
        return tokenizer_from_gguf(self.file, self.architecture.vocab_size)

    def generation(self) -> GenerationDefaults:
        """Which tokens begin and end a text."""
        return generation_defaults(self.file)

    def chat(self) -> ChatProbe:
        """The plain strings behind the template inside."""
        template = self.file.get("tokenizer.chat_template", str, None)
        if template is None:
            return ChatProbe(None, "the file has no chat template")
        bos, eos = token_text(self.file, "bos"), token_text(self.file, "eos")
        adds_bos = self.generation().bos_token_id is not None
        return chat_format_from_template(template, bos_token=bos, eos_token=eos, strip_bos=adds_bos)

    def weights(self, on_progress: Progress) -> dict[str, np.ndarray]:
        """All tensors under our names, dequantised."""
        return weights_from_gguf(self.file, self.architecture, on_progress)

    def storage(self) -> dict[str, int]:
        """Storage type -> number of tensors."""
        return self.file.type_counts()

    def provenance(self) -> dict[str, str]:
        """The file's name, checksum, licence and storage."""
        storage = ", ".join(f"{name} x{n}" for name, n in self.storage().items())
        facts = {
            "source": os.path.basename(self.file.path),
            "source_sha256": sha256_of(self.file.path),
            "name": self.name,
            "license": self.file.metadata.get("general.license"),
            "storage": f"{storage}; dequantised to float32",
        }
        return {key: str(value) for key, value in facts.items() if value}
