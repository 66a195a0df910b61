"""A config.json that remembers which of its keys were understood.

The one idea: a key that nobody asked for is refused by name, unless it is known to leave the
logits alone (dropout, token ids, names) or is switched off (null, false, empty). A model that is
guessed at gives fluent nonsense, and nobody sees why. What a family's keys mean stands in the
family's own module; here is what several of them write the same way: activation and rope.
"""

import os
from collections.abc import Sequence
from typing import Any

from merino_edge.errors import FormatError, UnsupportedError
from merino_edge.formats import jsonio
from merino_edge.formats.architecture import BlockSpec

CONFIG = "config.json"
REQUIRED: Any = object()
MAX_LAYERS = 4096
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",  # the same formula, multiplied out in another order
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
# Keys that say nothing about the logits of a float32 model that is not being trained.
_HARMLESS = frozenset(
    (
        "architectures", "dtype", "torch_dtype", "transformers_version", "model_type",
        "name_or_path", "_name_or_path", "prefix", "task_specific_params", "transformers.js_config",
        "bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "decoder_start_token_id",
        "use_cache", "return_dict", "output_attentions", "output_hidden_states", "torchscript",
        "_attn_implementation", "_attn_implementation_autoset", "attn_implementation",
        "dropout", "attention_dropout", "activation_dropout", "hidden_dropout", "layerdrop",
        "classifier_dropout", "attn_pdrop", "embd_pdrop", "resid_pdrop", "gradient_checkpointing",
        "initializer_range", "init_std", "pretraining_tp", "n_ctx", "reorder_and_upcast_attn",
        "summary_activation", "summary_first_dropout", "summary_proj_to_labels", "summary_type",
        "summary_use_proj", "id2label", "label2id", "problem_type", "is_decoder",
        "is_llama_config", "unsloth_version",
    )
)  # fmt: skip


class Config:
    """The keys of a config.json, read once each.

    Args:
        document: What the file holds.
        path: The file, or the name of a preset, for messages.
    """

    def __init__(self, document: Any, path: str):
        if not isinstance(document, dict):
            raise FormatError("it does not hold a JSON object.", path)
        self.document: dict[str, Any] = document
        self.path = path
        self._asked: set[str] = set()

    def get(self, key: str, kind: type, default: Any = REQUIRED) -> Any:
        """A value of a certain kind; null counts as missing.

        Raises:
            FormatError: It is missing and there is no default, or it is of another kind.
        """
        self._asked.add(key)
        value = self.document.get(key)
        if value is None:
            if default is REQUIRED:
                raise FormatError("the configuration lacks it.", self.path, key)
            return default
        if kind is float and type(value) is int:
            return float(value)
        if type(value) is not kind:  # not isinstance: True is no number
            raise FormatError(f"expected {kind.__name__}, found {value!r:.60}.", self.path, key)
        return value

    def expect(self, key: str, *allowed: Any) -> None:
        """The key may be missing, or stand at one of these values.

        Raises:
            UnsupportedError: It stands at another.
        """
        self._asked.add(key)
        value = self.document.get(key)
        if value is not None and value not in allowed:
            words = " or ".join(repr(each) for each in allowed)
            self._refuse(key, value, f"only {words} is supported here")

    def layers(self, key: str, block: BlockSpec) -> tuple[BlockSpec, ...]:
        """So many blocks, each with weights of its own.

        Raises:
            FormatError: A number that no model has.
        """
        n_layers = self.get(key, int)
        if not 1 <= n_layers <= MAX_LAYERS:
            raise FormatError(f"{n_layers} layers?", self.path, key)
        return (block,) * n_layers

    def activation(self, key: str, default: str) -> str:
        """Our word for an activation.

        Raises:
            UnsupportedError: We do not have it.
        """
        theirs = self.get(key, str, default)
        if theirs not in ACTIVATIONS:
            self._refuse(key, theirs, f"supported: {', '.join(ACTIVATIONS)}")
        return ACTIVATIONS[theirs]

    def rope(
        self, base_keys: Sequence[str], fraction_keys: Sequence[str] = ()
    ) -> tuple[float, float | None]:
        """(base, share of each head that is rotated), from any of the places they are written.

        Since version 5 transformers writes both into ``rope_parameters``. The share is None where
        nothing is said of it; a family without ``fraction_keys`` rotates whole heads.

        Raises:
            UnsupportedError: The angles are scaled.
        """
        rope = Config(self.get("rope_parameters", dict, {}), f"{self.path}: rope_parameters")
        scaling = Config(self.get("rope_scaling", dict, {}), f"{self.path}: rope_scaling")
        for part in (rope, scaling):
            part.expect("rope_type", "default")
            part.expect("type", "default")
        base = self._first(float, base_keys, rope.get("rope_theta", float, None), 10000.0)
        if not fraction_keys:
            rope.expect("partial_rotary_factor", 1.0)
        whole = rope.get("partial_rotary_factor", float, None)
        fraction = self._first(float, fraction_keys, whole, None)
        rope.refuse_unread()
        scaling.refuse_unread()
        return base, fraction

    def _first(self, kind: type, keys: Sequence[str], found: Any, default: Any) -> Any:
        """The value of ``rope_parameters``, or else of the first key that is there."""
        values = [found] + [self.get(key, kind, None) for key in keys]
        return next((value for value in values if value is not None), default)

    def refuse_unread(self) -> None:
        """Call when all that is known has been read.

        Raises:
            UnsupportedError: A key is left that may change the arithmetic.
        """
        if self.document.get("quantization_config"):
            raise UnsupportedError(
                f"{self.path}: quantization_config: quantised weights are not supported.",
                hint="use the folder that they were quantised from.",
            )
        for key, value in self.document.items():
            off = value is None or value is False or value in ("", [], {})
            if key not in self._asked and key not in _HARMLESS and not off:
                self._refuse(key, value, "unknown")

    def _refuse(self, key: str, value: Any, why: str) -> None:
        raise UnsupportedError(
            f"{self.path}: {key} = {value!r:.60} may change the arithmetic ({why}).",
            hint="take the key out of the file if you know that it changes nothing."
            if why == "unknown"
            else None,
        )


def read_config(path: str) -> Config:
    """Read a config.json, or that of a folder.

    Raises:
        FormatError: It is missing, or not JSON.
    """
    file = os.path.join(path, CONFIG) if os.path.isdir(path) else path
    return Config(jsonio.read_json(file), file)
