"""``TrainConfig``: everything that a training run may be told, checked when it is made.

The one idea: a run is its architecture, its corpus, its tokenizer and this record; whoever has all
four gets the same weights. The defaults are for small decoders on a CPU and were measured
(see ``for_model``); the betas, the decay and the clipping are those of GPT-3 and nanoGPT.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from merino_edge.errors import SpecError
from merino_edge.formats.architecture import Architecture

PRECISIONS = ("float32", "bfloat16", "float16")
DEVICES = ("auto", "cpu", "cuda")
# Fields that change how a run proceeds, not where it arrives: a resumed run may have others. As
# with the number of processes, another device or thread count rounds sums in another order.
FREE_FIELDS = ("save_every", "threads", "device", "compile", "shard")
# Bound fields that came later: at their defaults a run is still the run that it was without them.
LATER_FIELDS = ("accumulate", "distill_weight", "distill_temperature")
_COUNTS = (
    "n_steps", "batch_size", "accumulate", "seq_len", "eval_every", "eval_tokens", "save_every",
)  # fmt: skip
LONGEST_WINDOW = 1024
TOKENS_PER_STEP = 1024


@dataclass(frozen=True)
class TrainConfig:
    """How to train.

    Attributes:
        n_steps: Optimiser steps of the whole run; the learning rate falls over all of them.
        batch_size: Windows of one pass forward and backward, in each process.
        accumulate: How many times ``batch_size`` windows make a step; their gradients are added.
            Several processes share the windows of a step, so it is the same for any number.
        seq_len: Tokens a window; positions further on are never trained.
        learning_rate: Its highest value, after the warm-up.
        min_lr_ratio: Its last value, as a part of the highest.
        warmup_steps: Steps over which it rises from zero.
        weight_decay: Decoupled, on matrices only.
        beta1, beta2: Of Adam.
        grad_clip: Longest gradient, as a norm over all parameters.
        eval_every: Steps between validations; the last step is always validated.
        eval_tokens: Tokens of one validation, spread over the held-out text; the final figure of
            a run takes all of them.
        save_every: Steps between saved states; validations that improve are saved as well.
        val_fraction: Part of each document, its end, that is held out.
        precision: "float32", or "bfloat16" or "float16" for matrix products (weights stay
            float32; the loss is scaled for float16). bfloat16, measured on two cores with AMX:
            1.8 times the tokens a second; with AVX512-BF16 only 1.4 times, 0.01 to 0.05 nats
            higher after as many; a CPU without such instructions gets slower.
        seed: Of the first weights and of the order of the windows.
        vocab_size: None for the architecture's; a number must agree with it.
        threads: CPU threads; None for torch's choice.
        device: "cpu", "cuda", or "auto" for a GPU where there is one.
        compile: Through torch.compile. On two cores it did not pay (a model of 4.3 M parameters:
            0.8 to 1.1 times the tokens a second, after a minute of compiling).
        shard: Each of several processes keeps a part of weights and moments (FSDP), for models
            that do not fit one GPU; slower for those that do.
        distill_weight: Of the teacher's loss, where there is a teacher; the rest is the text's.
        distill_temperature: Softens both distributions (Hinton et al. 2015).

    Raises:
        SpecError: A value is out of range; its field is named.
    """

    n_steps: int
    batch_size: int = 4
    seq_len: int = 256
    learning_rate: float = 3e-3
    min_lr_ratio: float = 0.1
    warmup_steps: int = 50
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    grad_clip: float = 1.0
    eval_every: int = 100
    eval_tokens: int = 32768
    save_every: int = 100
    val_fraction: float = 0.05
    precision: str = "float32"
    seed: int = 0
    vocab_size: int | None = None
    threads: int | None = None
    accumulate: int = 1
    device: str = "auto"
    compile: bool = False
    shard: bool = False
    distill_weight: float = 0.5
    distill_temperature: float = 2.0

    def __post_init__(self) -> None:
        for name in _COUNTS:
            self._require(name, getattr(self, name) >= 1, "must be at least 1")
        for name in ("vocab_size", "threads"):
            value = getattr(self, name)
            self._require(name, value is None or value >= 1, "must be at least 1, or None")
        for name in ("learning_rate", "grad_clip", "distill_temperature"):
            self._require(name, getattr(self, name) > 0, "must be above 0")
        for name in ("weight_decay", "warmup_steps", "seed"):
            self._require(name, getattr(self, name) >= 0, "must not be below 0")
        for name in ("min_lr_ratio", "distill_weight"):
            self._require(name, 0 <= getattr(self, name) <= 1, "must be between 0 and 1")
        for name in ("beta1", "beta2"):
            self._require(name, 0 <= getattr(self, name) < 1, "must be from 0 to below 1")
        self._require("val_fraction", 0 < self.val_fraction <= 0.5, "must be above 0, at most 0.5")
        for name, known in (("precision", PRECISIONS), ("device", DEVICES)):
            rule = f"must be one of {', '.join(known)}"
            self._require(name, getattr(self, name) in known, rule)

    @classmethod
    def for_model(
        cls, architecture: Architecture, n_steps: int = 1000, **changes: Any
    ) -> TrainConfig:
        """Settings for an architecture, for a run of minutes to hours on a CPU.

        Windows are as long as the model, up to 1024, because positions that were never trained
        are noise; a batch holds about 1024 tokens. On Shakespeare, a model of 0.56 M parameters
        and a million tokens, steps of 1024, 2048 and 4096 tokens end at 4.81, 4.87 and 5.02
        nats per token in the same time.
        """
        seq_len = min(int(changes.get("seq_len", LONGEST_WINDOW)), architecture.max_seq_len)
        widest = max(block.d_model for block in architecture.blocks)
        chosen: dict[str, Any] = {
            "seq_len": seq_len,
            "batch_size": max(4, TOKENS_PER_STEP // seq_len),
            "learning_rate": round(learning_rate_for(widest), 6),
            "warmup_steps": min(cls.warmup_steps, n_steps // 10),
            "eval_every": min(1000, max(50, n_steps // 20)),
        }
        chosen.update(changes)
        return cls(n_steps=n_steps, **chosen)

    def check_against(self, architecture: Architecture) -> None:
        """Refuse windows longer than the model, and another vocabulary.

        Raises:
            SpecError: With both numbers.
        """
        longest, rows = architecture.max_seq_len, architecture.vocab_size
        fits = self.seq_len <= longest
        self._require("seq_len", fits, f"the architecture's max_seq_len is {longest}")
        agrees = self.vocab_size in (None, rows)
        self._require("vocab_size", agrees, f"the architecture has {rows} rows")

    @property
    def windows_per_step(self) -> int:
        """Windows that one optimiser step sees, over all processes."""
        return self.batch_size * self.accumulate

    @property
    def tokens_per_step(self) -> int:
        """Tokens that one optimiser step sees, over all processes."""
        return self.windows_per_step * self.seq_len

    def bound_fields(self) -> dict[str, Any]:
        """The fields that decide where a run arrives: a resumed run must have the same."""
        bound = [field for field in fields(self) if field.name not in FREE_FIELDS]
        values = {field: getattr(self, field.name) for field in bound}
        return {
            field.name: value
            for field, value in values.items()
            if field.name not in LATER_FIELDS or value != field.default
        }

    def _require(self, name: str, holds: bool, rule: str) -> None:
        if not holds:
            raise SpecError(f"{name} is {getattr(self, name)!r}: {rule}.")


def learning_rate_for(d_model: int) -> float:
    """Peak rate by width: 3e-3 up to 192, then falling as 1/width.

    Measured at widths of 96 to 192: 2e-3 and 6e-3 end 0.02 to 0.05 nats higher. The fall beyond
    is muP's (arXiv:2203.03466), not measured here.
    """
    return 3e-3 * min(1.0, 192 / d_model)
