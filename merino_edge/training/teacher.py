"""A teacher: a checkpoint whose logits a smaller model learns from.

The one idea: two models can be compared token by token only if an id means the same to both, so
the tokenizers must be one: the same file, or the same vocabulary. Anything with such a checkpoint
can teach, whatever its shape; it is never trained and keeps no gradients.
"""

import hashlib
import json

import torch
from torch import Tensor

from merino_edge.errors import SpecError
from merino_edge.formats import jsonio
from merino_edge.formats.bundle import sha256_of
from merino_edge.model.checkpoint import Checkpoint, load_checkpoint, read_text
from merino_edge.model.transformer import load_model
from merino_edge.training.config import TrainConfig
from merino_edge.training.tokenizer import parse_tokenizer


class Teacher:
    """An opened teacher; its weights are read when it is asked to teach.

    Attributes:
        sha256: Over architecture and weights.
        tokenizer_path: Its tokenizer.json.

    Args:
        path: A checkpoint's folder.

    Raises:
        FormatError: Not a checkpoint, or a damaged one.
    """

    def __init__(self, path: str):
        self._checkpoint: Checkpoint = load_checkpoint(path)
        self.tokenizer_path = self._checkpoint.tokenizer_path
        shape = json.dumps(jsonio.encode(self._checkpoint.architecture), sort_keys=True)
        parts = shape + sha256_of(self._checkpoint.weights_path)
        self.sha256 = hashlib.sha256(parts.encode("utf-8")).hexdigest()

    def check_against(self, tokenizer_json: str, vocab_size: int, config: TrainConfig) -> None:
        """Refuse a student that this teacher cannot teach.

        Raises:
            SpecError: Another vocabulary, fewer rows, or windows longer than the teacher's.
        """
        a, path = self._checkpoint.architecture, self._checkpoint.path
        text = read_text(self.tokenizer_path)
        if text != tokenizer_json and _vocabulary(text) != _vocabulary(tokenizer_json):
            raise SpecError(
                f"the teacher '{path}' has another tokenizer than the student.",
                note="an id must mean the same token to both.",
                hint=f"train with --tokenizer {self.tokenizer_path}",
            )
        if a.vocab_size < vocab_size:
            raise SpecError(
                f"the teacher has {a.vocab_size} rows, the student {vocab_size}.",
                note="the teacher has nothing to say about the ids beyond its own.",
            )
        if a.max_seq_len < config.seq_len:
            raise SpecError(
                f"seq_len is {config.seq_len}, the teacher's max_seq_len is {a.max_seq_len}.",
                hint=f"train with --seq-len {a.max_seq_len}.",
            )
        self._n_ids = vocab_size

    def to(self, device: torch.device) -> "Teacher":
        """Read the weights onto a device."""
        self._model = load_model(self._checkpoint.architecture, self._checkpoint.tensors())
        self._model.requires_grad_(False).to(device)
        return self

    def __call__(self, ids: Tensor) -> Tensor:
        """Ids [B, T] -> logits [B, T, V]; rows that only pad the teacher's vocabulary are left out.

        Embeddings are often padded to a round number of rows.
        """
        logits: Tensor = self._model(ids)
        return logits[..., : self._n_ids]


def _vocabulary(tokenizer_json: str) -> dict[str, int]:
    vocabulary: dict[str, int] = parse_tokenizer(tokenizer_json, "").get_vocab()
    return vocabulary
