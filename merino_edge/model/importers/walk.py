"""From an opened source to a checkpoint folder, whole or not at all.

The order is the point: everything that can be refused is looked at before the weights are
touched, from the cheapest to the dearest, and the folder appears only at the end. One tensor at
a time is converted beside the growing float32 model, so the peak is little above the result.
A GGUF file and a Hugging Face folder are two ``Source``s; what they mean is their business.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from merino_edge.formats.architecture import Architecture
from merino_edge.formats.bundle import refuse_existing
from merino_edge.formats.manifest import GenerationDefaults
from merino_edge.model.checkpoint import INFO, Checkpoint, CheckpointInfo, save_checkpoint
from merino_edge.model.importers.chat_template import ChatProbe
from merino_edge.model.importers.parts import Progress, silent


@dataclass(frozen=True)
class ImportReport:
    """What an import found and made.

    Attributes:
        checkpoint: The result.
        family: The source's word for its architecture.
        name: The source's word for itself, or its file name.
        storage: Storage type -> number of tensors.
        chat: The chat format found, or why there is none.
        notes: What differs from what people expect of this model, a sentence each.
    """

    checkpoint: Checkpoint
    family: str
    name: str
    storage: dict[str, int]
    chat: ChatProbe
    notes: tuple[str, ...] = ()


class Source(Protocol):
    """A model of somebody else, opened: its architecture is known, its weights are not yet read.

    Attributes:
        family: Its word for its architecture.
        name: Its word for itself.
        architecture: In our words.
        notes: As in ``ImportReport``.
    """

    family: str
    name: str
    architecture: Architecture
    notes: tuple[str, ...]

    def check_tensors(self) -> None:
        """Refuse tensors that are missing, misshapen or left over."""

    def tokenizer_json(self) -> str:
        """The tokenizer, in the form that a board reads."""

    def generation(self) -> GenerationDefaults:
        """What the maker recommends for generating text."""

    def chat(self) -> ChatProbe:
        """How a conversation is written."""

    def weights(self, on_progress: Progress) -> dict[str, np.ndarray]:
        """All tensors under our names, float32."""

    def storage(self) -> dict[str, int]:
        """Storage type -> number of tensors."""

    def provenance(self) -> dict[str, str]:
        """Where the weights come from, for people."""


def import_source(
    opened: Callable[[], Source],
    output: str,
    force: bool = False,
    on_progress: Progress = silent,
) -> ImportReport:
    """Turn a source into a checkpoint folder, whole or not at all.

    Args:
        opened: Opens the source; called after it is known that the result may be written.
        output: The folder to make.
        force: Replace an earlier checkpoint there.
        on_progress: Called with a few words before each step.

    Raises:
        FormatError: The source is damaged, or its parts do not belong together.
        UnsupportedError: It is something that this version cannot turn into a checkpoint.
        UsageError: Something stands at ``output`` already.
        OSError: The disk is full.
    """
    refuse_existing(output, INFO, force)
    source = opened()
    source.check_tensors()
    on_progress("tokenizer")
    tokenizer_json = source.tokenizer_json()
    chat = source.chat()
    tensors = source.weights(on_progress)
    on_progress("writing")
    info = CheckpointInfo(
        architecture=source.architecture,
        generation=source.generation(),
        chat=chat.format,
        provenance=source.provenance(),
    )
    checkpoint = save_checkpoint(output, info, tensors, tokenizer_json, force)
    return ImportReport(
        checkpoint, source.family, source.name, source.storage(), chat, source.notes
    )
