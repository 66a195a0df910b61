"""A checkpoint: a folder with weights, their description, and the tokenizer that goes with them.

``checkpoint.json`` (schema, architecture, step, metrics, generation defaults, chat format,
provenance), ``model.safetensors`` (float32, the names of ``formats.weights``) and
``tokenizer.json``. Nothing is pickled. The folder appears whole or not at all. It knows arrays,
not torch: importers fill it from numpy, training from torch, and export only maps it.
"""

import json
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from merino_edge.errors import FormatError, SpecError
from merino_edge.formats import jsonio
from merino_edge.formats.architecture import Architecture
from merino_edge.formats.bundle import folder_in_place
from merino_edge.formats.manifest import ChatFormat, GenerationDefaults
from merino_edge.formats.weights import check_names, read_index, write_weights

SCHEMA = "merino-edge.checkpoint/1"
INFO = "checkpoint.json"
WEIGHTS = "model.safetensors"
TOKENIZER = "tokenizer.json"
FP16_MAX = 65504.0


class CheckpointInfo(NamedTuple):
    """What ``checkpoint.json`` holds.

    Attributes:
        architecture: The decoder.
        step: Optimiser steps behind the weights; 0 for imported or random ones.
        metrics: Such as "val_loss" (nats per token).
        generation: Defaults for text generation.
        chat: How a conversation is written, or None.
        provenance: Where the weights come from, for people.
    """

    architecture: Architecture
    step: int = 0
    metrics: dict[str, float] = {}
    generation: GenerationDefaults = GenerationDefaults()
    chat: ChatFormat | None = None
    provenance: dict[str, str] = {}


class Checkpoint:
    """An opened checkpoint; the weights are mapped, not read.

    Attributes:
        path: The folder.
        info: What ``checkpoint.json`` holds.
    """

    def __init__(self, path: str, info: CheckpointInfo):
        self.path = path
        self.info = info

    @property
    def architecture(self) -> Architecture:
        """The decoder."""
        return self.info.architecture

    @property
    def weights_path(self) -> str:
        """The safetensors file."""
        return os.path.join(self.path, WEIGHTS)

    @property
    def tokenizer_path(self) -> str:
        """The tokenizer.json file."""
        return os.path.join(self.path, TOKENIZER)

    def tensors(self) -> dict[str, np.ndarray]:
        """Name -> read-only float32 array, mapped from the file."""
        return map_tensors(self.weights_path)


def map_tensors(path: str) -> dict[str, np.ndarray]:
    """Map every float32 tensor of a safetensors file.

    Raises:
        FormatError: The file is damaged, or holds another dtype.
    """
    entries = read_index(path)
    data = np.memmap(path, dtype=np.uint8, mode="r")
    for name, entry in entries.items():
        if entry.dtype != "F32":
            raise FormatError(f"dtype is {entry.dtype}, a checkpoint holds F32.", path, name)
    return {
        name: data[e.offset : e.offset + e.n_bytes].view(np.float32).reshape(e.shape)
        for name, e in entries.items()
    }


def write_tensors(path: str, tensors: Mapping[str, np.ndarray], precision: str = "fp32") -> None:
    """Write arrays as safetensors: float32, or in half precision all but the norms.

    Raises:
        SpecError: A weight is too large for half precision.
    """
    arrays = {name: _stored(name, array, precision) for name, array in tensors.items()}
    kinds = {2: "F16", 4: "F32"}
    write_weights(
        path, ((n, kinds[t.itemsize], t.shape, t.reshape(-1).data) for n, t in arrays.items())
    )


def _stored(name: str, array: np.ndarray, precision: str) -> np.ndarray:
    """Norms stay float32: they are tiny, and the arithmetic around them is float32 anyway."""
    if precision == "fp32" or "norm" in name:
        return np.ascontiguousarray(array, dtype="<f4")
    largest = float(np.abs(array).max())
    if not largest <= FP16_MAX:
        raise SpecError(
            f"the weight '{name}' holds {largest:g}, half precision ends at {FP16_MAX:g}.",
            hint="build with --precision fp32.",
        )
    return np.ascontiguousarray(array, dtype="<f2")


def save_checkpoint(
    path: str,
    info: CheckpointInfo,
    tensors: Mapping[str, np.ndarray],
    tokenizer_json: str,
    force: bool = False,
) -> Checkpoint:
    """Write a checkpoint folder, whole or not at all.

    Raises:
        FormatError: The tensors are not the architecture's, or the vocabularies disagree.
        UsageError: Something stands at ``path`` already.
        OSError: The disk is full.
    """
    check_names({name: t.shape for name, t in tensors.items()}, info.architecture, path)
    check_vocabulary(tokenizer_json, info.architecture.vocab_size, path)
    with folder_in_place(path, INFO, force) as folder:
        write_tensors(os.path.join(folder, WEIGHTS), tensors)
        jsonio.write_bytes_atomic(os.path.join(folder, TOKENIZER), tokenizer_json.encode("utf-8"))
        jsonio.write_record(os.path.join(folder, INFO), SCHEMA, info)
    return Checkpoint(path, info)


def load_checkpoint(path: str) -> Checkpoint:
    """Open a checkpoint folder and check that its parts belong together.

    Raises:
        FormatError: A part is missing, damaged, or does not match the others.
    """
    info_path = os.path.join(path, INFO)
    if not os.path.isfile(info_path):
        raise FormatError(
            f"not a checkpoint: there is no {INFO} in it.",
            path,
            hint="make one with: merino-edge train, or merino-edge import",
        )
    info = jsonio.read_record(info_path, SCHEMA, CheckpointInfo)
    checkpoint = Checkpoint(path, info)
    shapes = {name: entry.shape for name, entry in read_index(checkpoint.weights_path).items()}
    check_names(shapes, info.architecture, checkpoint.weights_path)
    text = read_text(checkpoint.tokenizer_path)
    check_vocabulary(text, info.architecture.vocab_size, checkpoint.tokenizer_path)
    return checkpoint


def read_text(path: str) -> str:
    """A small UTF-8 file.

    Raises:
        FormatError: Missing, or not UTF-8.
    """
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except FileNotFoundError as error:
        raise FormatError("the file does not exist.", path) from error
    except UnicodeDecodeError as error:
        raise FormatError(f"not UTF-8 at byte {error.start}.", path) from error


def check_vocabulary(tokenizer_json: str, vocab_size: int, path: str) -> None:
    """Refuse a tokenizer that can give an id that the embedding does not have.

    Raises:
        FormatError: With both numbers.
    """
    try:
        document: dict[str, Any] = json.loads(tokenizer_json)
        ids = list(document["model"]["vocab"].values())
        ids += [token["id"] for token in document.get("added_tokens", [])]
        highest = max(ids)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FormatError(f"not a tokenizer.json with a vocabulary: {error!r}.", path) from error
    if highest >= vocab_size:
        raise FormatError(
            f"the tokenizer's highest id is {highest}, the embedding has {vocab_size} rows.",
            path,
            "vocab_size",
            hint="use the tokenizer that the weights were trained with.",
        )
