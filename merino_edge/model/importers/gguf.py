"""From a GGUF file to a checkpoint folder, whole or not at all.

The order is the point: everything that can be refused is looked at before the weights are
touched, from the cheapest to the dearest, and the folder appears only at the end. One tensor at
a time is dequantised beside the growing float32 model, so the peak is little above the result.
What the file means is the business of the modules beside this one.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass

from merino_edge.errors import UnsupportedError
from merino_edge.formats.bundle import refuse_existing, sha256_of
from merino_edge.model.checkpoint import INFO, Checkpoint, CheckpointInfo, save_checkpoint
from merino_edge.model.importers.chat_template import ChatProbe, chat_format_from_template
from merino_edge.model.importers.gguf_file import GGUFFile, open_gguf
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


@dataclass(frozen=True)
class ImportReport:
    """What an import found and made.

    Attributes:
        checkpoint: The result.
        family: The file's word for its architecture.
        name: The file's word for itself, or its file name.
        storage: Storage type -> number of tensors.
        chat: The chat format found, or why there is none.
    """

    checkpoint: Checkpoint
    family: str
    name: str
    storage: dict[str, int]
    chat: ChatProbe


def import_gguf(
    path: str,
    output: str,
    force: bool = False,
    on_progress: Callable[[str], None] = lambda text: None,
) -> ImportReport:
    """Turn a GGUF file into a checkpoint folder, whole or not at all.

    Args:
        path: The GGUF file.
        output: The folder to make.
        force: Replace an earlier checkpoint there.
        on_progress: Called with a few words before each step.

    Raises:
        FormatError: The file is damaged, or its parts do not belong together.
        UnsupportedError: It is something that this version cannot turn into a checkpoint.
        UsageError: Something stands at ``output`` already.
        OSError: The disk is full.
    """
    refuse_existing(output, INFO, force)
    _refuse_folder(path)
    file = open_gguf(path)
    a = architecture_from_gguf(file)
    check_tensors(file, a)
    on_progress("tokenizer")
    tokenizer_json = tokenizer_from_gguf(file, a.vocab_size)
    chat = _probe_chat(file)
    tensors = weights_from_gguf(file, a, on_progress)
    on_progress("writing")
    info = CheckpointInfo(
        architecture=a,
        generation=generation_defaults(file),
        chat=chat.format,
        provenance=_provenance(file),
    )
    checkpoint = save_checkpoint(output, info, tensors, tokenizer_json, force)
    return ImportReport(
        checkpoint, file.metadata["general.architecture"], _name(file), file.type_counts(), chat
    )


def _refuse_folder(path: str) -> None:
    if os.path.isdir(path):
        raise UnsupportedError(
            f"'{path}' is a folder: Hugging Face folders cannot be imported yet.",
            note="supported: one GGUF file of the llama family.",
            hint="merino-edge import MODEL.gguf -o checkpoint/",
        )


def _probe_chat(file: GGUFFile) -> ChatProbe:
    template = file.get("tokenizer.chat_template", str, None)
    if template is None:
        return ChatProbe(None, "the file has no chat template")
    bos, eos = token_text(file, "bos"), token_text(file, "eos")
    adds_bos = generation_defaults(file).bos_token_id is not None
    return chat_format_from_template(template, bos_token=bos, eos_token=eos, strip_bos=adds_bos)


def _name(file: GGUFFile) -> str:
    return str(file.metadata.get("general.name") or os.path.basename(file.path))


def _provenance(file: GGUFFile) -> dict[str, str]:
    storage = ", ".join(f"{name} x{n}" for name, n in file.type_counts().items())
    facts = {
        "source": os.path.basename(file.path),
        "source_sha256": sha256_of(file.path),
        "name": _name(file),
        "license": file.metadata.get("general.license"),
        "storage": f"{storage}; dequantised to float32",
    }
    return {key: str(value) for key, value in facts.items() if value}
